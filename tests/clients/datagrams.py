"""A conversation by datagrams with servers that echo them.

Usage: datagrams.py PROXY RDNS LOGIN LEN COUNT HOST:PORT...

PROXY is the HOST:PORT of a SOCKS5 server, for PySocks to go through with RDNS "local" or "remote"
and LOGIN NAME:PASSWORD or empty; "none" is a plain socket. Sends COUNT numbered datagrams of LEN
bytes to the servers in turn, never more than WINDOW without an answer. If it hears nothing for a
while, whatever has no answer is sent again.

Says how many it has sent and how many answers came, and of each server, how many datagrams it
answered, and from where. Exit status 3: PySocks raised the error that is named on stderr. Exit status 4: an answer is
not what was sent, or they do not come.
"""

import random
import socket
import sys
import time

WINDOW = 64
# What goes through is answered within milliseconds, unless somebody is kept from running.
SILENCE = 5.0
# Nothing gets lost at our end.
RECEIVE_BUFFER = 1 << 20
PATIENCE = 120.0

NUMBER_LEN = 4


def main():
    proxy, rdns, login, length, count, *servers = sys.argv[1:]
    servers = [address(server) for server in servers]
    try:
        if proxy == "none":
            ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        else:
            ours = through_proxy(proxy, rdns, login)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        ours.settimeout(SILENCE)
        converse(ours, Payloads(int(length)), int(count), servers)
    except OSError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(3)


def through_proxy(proxy, rdns, login):
    try:
        import socks
    except ImportError:
        sys.exit("python3-socks is not installed; tests/run installs what the tests need")
    name, _, password = login.partition(":")
    ours = socks.socksocket(socket.AF_INET, socket.SOCK_DGRAM)
    ours.set_proxy(
        socks.SOCKS5,
        *address(proxy),
        rdns=rdns == "remote",
        username=name or None,
        password=password or None,
    )
    return ours


def converse(ours, payloads, count, servers):
    unanswered, sent, received, next_number = set(), 0, 0, 0
    sources = [set() for _ in servers]
    deadline = time.monotonic() + PATIENCE

    def send(number):
        nonlocal sent
        ours.sendto(payloads.of(number), servers[number % len(servers)])
        sent += 1

    # To the last answer of what was sent twice, if it does not get lost.
    while next_number < count or received < sent:
        while next_number < count and len(unanswered) < WINDOW:
            send(next_number)
            unanswered.add(next_number)
            next_number += 1
        try:
            answer, source = ours.recvfrom(65536)
        except socket.timeout:
            if not unanswered:
                break
            if time.monotonic() > deadline:
                give_up(f"{len(unanswered)} of {count} datagrams are not answered")
            for number in unanswered:
                send(number)
            continue
        number = payloads.number_of(answer)
        if number >= next_number:
            give_up(f"an answer from {source} is none of ours: {answer[:32].hex()}")
        sources[number % len(servers)].add(source)
        received += 1
        unanswered.discard(number)

    print(f"{sent} sent, {received} answers")
    for place, (host, port) in enumerate(servers):
        answered = len(range(place, count, len(servers)))
        seen = " ".join(f"{host}:{port}" for host, port in sorted(sources[place]))
        print(f"{host}:{port} answered {answered} from {seen}")


class Payloads:
    """Datagrams of one length: their number, and bytes that look random."""

    def __init__(self, length):
        self.length = length
        self.noise = random.Random(1).randbytes(length + 1000)

    def of(self, number):
        start = number % 1000
        noise = self.noise[start : start + self.length - NUMBER_LEN]
        return number.to_bytes(NUMBER_LEN, "big") + noise

    def number_of(self, answer):
        number = int.from_bytes(answer[:NUMBER_LEN], "big")
        if answer != self.of(number):
            give_up(f"{len(answer)} bytes with the number {number} are not what was sent")
        return number


def address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


def give_up(why):
    print(why, file=sys.stderr)
    sys.exit(4)


main()
