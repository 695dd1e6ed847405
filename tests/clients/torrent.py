"""One of two peers that libtorrent has exchange a file by datagrams (uTP), and never by TCP.

Usage: torrent.py seed HOST LEN
       torrent.py fetch PROXY-HOST PROXY-PORT PEER-HOST PEER-PORT LEN

The seed listens on HOST, prints the port and serves LEN bytes until its stdin ends. The other one
fetches them from it by way of a SOCKS5 server, and exits with status 0 when it has all of them,
with 4 when it has not after a long time.
"""

import os
import random
import sys
import tempfile
import time

try:
    import libtorrent
except ImportError:
    sys.exit("python3-libtorrent is not installed; tests/run installs what the tests need")

PATIENCE = 120.0

# Nothing but the two of them.
ALONE = {
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_outgoing_tcp": False,
    "enable_incoming_tcp": False,
    "alert_mask": libtorrent.alert.category_t.status_notification,
}


def main():
    role, *rest = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        {"seed": seed, "fetch": fetch}[role](folder, *rest)


def seed(folder, host, length):
    session = libtorrent.session({**ALONE, "listen_interfaces": f"{host}:0"})
    info = torrent(content(length), folder)
    session.add_torrent({"ti": info, "save_path": folder})
    print(listening_port(session), flush=True)
    sys.stdin.read()


def listening_port(session):
    while session.wait_for_alert(60_000):
        for alert in session.pop_alerts():
            if isinstance(alert, libtorrent.listen_succeeded_alert):
                return alert.port
    sys.exit("libtorrent does not listen")


def fetch(folder, proxy_host, proxy_port, peer_host, peer_port, length):
    expected = content(length)
    with tempfile.TemporaryDirectory() as elsewhere:
        info = torrent(expected, elsewhere)
    through_proxy = {
        "proxy_type": libtorrent.proxy_type_t.socks5,
        "proxy_hostname": proxy_host,
        "proxy_port": int(proxy_port),
        "proxy_peer_connections": True,
    }
    session = libtorrent.session({**ALONE, **through_proxy})
    handle = session.add_torrent({"ti": info, "save_path": folder})
    deadline = time.monotonic() + PATIENCE
    while not handle.status().is_seeding:
        if time.monotonic() > deadline:
            print(f"only {handle.status().total_done} bytes have come", file=sys.stderr)
            sys.exit(4)
        if not handle.get_peer_info():
            handle.connect_peer((peer_host, int(peer_port)))
        session.wait_for_alert(100)
        session.pop_alerts()
    with open(os.path.join(folder, "content"), "rb") as file:
        if file.read() != expected:
            print("what has come is something else", file=sys.stderr)
            sys.exit(4)


def content(length):
    return random.Random(1).randbytes(int(length))


def torrent(content, folder):
    with open(os.path.join(folder, "content"), "wb") as file:
        file.write(content)
    files = libtorrent.file_storage()
    files.add_file("content", len(content))
    torrent = libtorrent.create_torrent(files, flags=libtorrent.create_torrent.v1_only)
    libtorrent.set_piece_hashes(torrent, folder)
    return libtorrent.torrent_info(torrent.generate())


main()
