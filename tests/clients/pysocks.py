"""One session of PySocks through a server.

Usage: pysocks.py PROXY-HOST PROXY-PORT VERSION RDNS LOGIN HOST PORT

VERSION is SOCKS4 or SOCKS5, RDNS is "local" or "remote", LOGIN is NAME:PASSWORD or empty.
Sends what it reads from stdin, ends its direction, and copies the answer to stdout. A failure is
named on stderr, innermost exception first, with exit status 3.
"""

import shutil
import socket
import sys

try:
    import socks
except ImportError:
    sys.exit("python3-socks is not installed; tests/run installs what the tests need")


def main():
    proxy_host, proxy_port, version, rdns, login, host, port = sys.argv[1:]
    name, _, password = login.partition(":")
    session = socks.socksocket()
    session.settimeout(60)
    session.set_proxy(
        getattr(socks, version),
        proxy_host,
        int(proxy_port),
        rdns=rdns == "remote",
        username=name or None,
        password=password or None,
    )
    try:
        session.connect((host, int(port)))
    except socks.ProxyError as error:
        # connect() wraps what the negotiation raised.
        cause = error.socket_err or error
        print(f"{type(cause).__name__}: {cause}", file=sys.stderr)
        sys.exit(3)
    session.sendall(sys.stdin.buffer.read())
    session.shutdown(socket.SHUT_WR)
    with session.makefile("rb") as answer:
        shutil.copyfileobj(answer, sys.stdout.buffer)


main()
