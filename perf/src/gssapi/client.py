"""The clients' end of sessions under GSSAPI (RFC 1961), and of such without, for perf/gssapi.

    client.py PROXY-PORT

Reads commands and answers each by a line: how much was done, and within how many seconds. LEVEL is
0 for a client that wants no authentication, else the level of protection; PORT is the target's, at
127.0.0.1. Ends with its input, or with an error at anything that it did not expect.

    flow LEVEL PORT           opens the session of the next three
    down SECONDS              reads the pattern
    up SECONDS                sends it
    requests SIZE SECONDS     has them echoed, one at a time
    end                       closes it; after `up` only if the target says it got everything
    sessions LEVEL PORT COUNT whole ones, one after the other: one byte each way
    hold LEVEL PORT COUNT     the same, but they stay
    release                   closes those
"""

import socket
import struct
import sys
import time

try:
    import gssapi
    from gssapi import raw
except ImportError:
    sys.exit("python3-gssapi is not installed: perf/gssapi does that")

LOCALHOST = b"\x7f\x00\x00\x01"
SERVICE = "rcmd@localhost"
# What RFC 1961 (section 3.2) has clients ask for, and what the levels need.
FLAGS = [
    gssapi.RequirementFlag.mutual_authentication,
    gssapi.RequirementFlag.replay_detection,
    gssapi.RequirementFlag.out_of_sequence_detection,
    gssapi.RequirementFlag.integrity,
    gssapi.RequirementFlag.confidentiality,
]
CONTEXT, LEVEL, DATA = 1, 2, 3
TOKEN_MAX = 65_535
PATIENCE = 60

# The origin echoes it and ends the connection (`FAREWELL`).
FAREWELL = b"\x80"
ONE_BYTE = b"x"

# Where the pattern begins anew, and as many whole ones as are sent at a time.
PERIOD = 4093 * 8
PIECE = 2 * PERIOD


def main():
    proxy = int(sys.argv[1])
    clients = Clients(proxy)
    for line in sys.stdin:
        command, *arguments = line.split()
        start = time.monotonic()
        done = getattr(clients, command)(*map(float, arguments))
        print(done or 0, time.monotonic() - start, flush=True)


class Clients:
    def __init__(self, proxy):
        self.proxy = proxy
        self.name = gssapi.Name(SERVICE, gssapi.NameType.hostbased_service)
        self.credentials = None
        self.held = []

    def open(self, level, port):
        if level and self.credentials is None:
            self.credentials = gssapi.Credentials(usage="initiate")
        session = (Sealed if level else Plain)(self, int(level))
        session.connect(int(port))
        return session

    def flow(self, level, port):
        self.session = self.open(level, port)
        self.received, self.sent = None, 0

    def down(self, seconds):
        if self.received is None:
            self.session.send(b"\xff" * 8)
            self.received = 0
        before, deadline = self.received, time.monotonic() + seconds
        while time.monotonic() < deadline:
            piece = self.session.receive()
            start = self.received % PERIOD
            # Both ends of it: all would make us slower still.
            expect(piece[:8], PATTERN[start : start + 8][: len(piece)])
            self.received += len(piece)
            end = self.received % PERIOD + PERIOD
            expect(piece[-8:], PATTERN[max(end - 8, end - len(piece)) : end])
        return self.received - before

    def up(self, seconds):
        before, deadline = self.sent, time.monotonic() + seconds
        size = self.session.message_max
        while time.monotonic() < deadline:
            start = self.sent % PERIOD
            self.session.send(PATTERN[start : start + size])
            self.sent += size
        return self.sent - before

    def requests(self, size, seconds):
        count, deadline = 0, time.monotonic() + seconds
        request = bytes(int(size))
        while time.monotonic() < deadline:
            self.session.send(request)
            expect(self.session.receive_exact(len(request)), request)
            count += 1
        return count

    def end(self):
        if self.sent:
            self.session.end()
            expect(self.session.receive_exact(8), self.sent.to_bytes(8, "little"))
        self.session.close()

    def sessions(self, level, port, count):
        for _ in range(int(count)):
            session = self.open(level, port)
            session.send(FAREWELL)
            expect(session.receive_exact(1), FAREWELL)
            expect(session.receive(), b"")
            session.close()
        return int(count)

    def hold(self, level, port, count):
        for _ in range(int(count)):
            session = self.open(level, port)
            session.send(ONE_BYTE)
            expect(session.receive_exact(1), ONE_BYTE)
            self.held.append(session)
        return int(count)

    def release(self):
        for session in self.held:
            session.close()
        self.held.clear()


class Plain:
    """A session whose messages are what is sent."""

    METHOD = 0
    message_max = PIECE

    def __init__(self, clients, level):
        self.clients, self.level = clients, level

    def connect(self, port):
        self.socket = socket.create_connection(("127.0.0.1", self.clients.proxy))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for patience in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self.socket.setsockopt(socket.SOL_SOCKET, patience, struct.pack("ll", PATIENCE, 0))
        self.unread = b""
        self.socket.sendall(bytes([5, 1, self.METHOD]))
        expect(self.read(2), bytes([5, self.METHOD]))
        self.authenticate()
        self.send(b"\x05\x01\x00\x01" + LOCALHOST + port.to_bytes(2, "big"))
        expect(self.receive_exact(10)[:4], b"\x05\x00\x00\x01")

    def authenticate(self):
        pass

    def send(self, message):
        self.socket.sendall(message)

    def receive(self):
        """What there is; nothing at the end."""
        message, self.unread = self.unread, b""
        return message or self.socket.recv(TOKEN_MAX)

    def receive_exact(self, size):
        message = b""
        while len(message) < size:
            piece = self.receive()
            if not piece:
                sys.exit("the server has hung up")
            message += piece
        self.unread = message[size:]
        return message[:size]

    def read(self, size):
        """Of what is on the wire."""
        return self.socket.recv(size, socket.MSG_WAITALL)

    def end(self):
        self.socket.shutdown(socket.SHUT_WR)

    def close(self):
        self.socket.close()


class Sealed(Plain):
    """A session under a context, whose messages go in tokens."""

    METHOD = 1

    def authenticate(self):
        self.context = gssapi.SecurityContext(
            name=self.clients.name,
            creds=self.clients.credentials,
            mech=gssapi.MechType.kerberos,
            flags=FLAGS,
            usage="initiate",
        )
        answer = None
        while not self.context.complete:
            if token := self.context.step(answer):
                self.write_token(CONTEXT, token)
            if not self.context.complete:
                answer = self.read_token(CONTEXT)
        self.write_token(LEVEL, raw.wrap(self.context, bytes([self.level]), False).message)
        expect(raw.unwrap(self.context, self.read_token(LEVEL)).message, bytes([self.level]))
        self.is_confidential = self.level == 2
        self.message_max = raw.wrap_size_limit(self.context, TOKEN_MAX, self.is_confidential)

    def write_token(self, kind, token):
        self.socket.sendall(bytes([1, kind]) + len(token).to_bytes(2, "big") + token)

    def read_token(self, kind):
        """The next one; none at the end."""
        header = self.read(4)
        if not header:
            return b""
        expect(header[:2], bytes([1, kind]))
        return self.read(int.from_bytes(header[2:], "big"))

    def send(self, message):
        self.write_token(DATA, raw.wrap(self.context, message, self.is_confidential).message)

    def receive(self):
        if self.unread:
            message, self.unread = self.unread, b""
            return message
        token = self.read_token(DATA)
        if not token:
            return b""
        opened = raw.unwrap(self.context, token)
        expect(opened.encrypted, self.is_confidential)
        return opened.message


def pattern():
    """As in perf/src/pattern.rs: the finalizer of splitmix64, without the top bit of each byte."""
    mask, words = (1 << 64) - 1, []
    for index in range(PERIOD // 8):
        mixed = (index + 1) * 0x9E37_79B9_7F4A_7C15 & mask
        mixed = (mixed ^ mixed >> 30) * 0xBF58_476D_1CE4_E5B9 & mask
        mixed = (mixed ^ mixed >> 27) * 0x94D0_49BB_1331_11EB & mask
        words.append(((mixed ^ mixed >> 31) & 0x7F7F_7F7F_7F7F_7F7F).to_bytes(8, "little"))
    return b"".join(words) * (2 + PIECE // PERIOD)


def expect(got, expected):
    if got != expected:
        sys.exit(f"{got!r} is not {expected!r}")


PATTERN = pattern()

main()
