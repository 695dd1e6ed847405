"""One session of python3-gssapi through a server, by nothing but that package and a socket.

Usage: gss_socks.py PROXY-HOST PROXY-PORT LEVEL HOST PORT

LEVEL is what RFC 1961 calls the protection level: 1, 2 or 3. Sends what it reads from stdin, ends
its direction, and copies the answer to stdout, both at once. Says on stderr which level the server
has answered. Exit status 3: there was no context, or no session, for the reason named on stderr.
"""

import socket
import struct
import sys
import threading

try:
    import gssapi
except ImportError:
    sys.exit("python3-gssapi is not installed; tests/run installs what the tests need")

CONTEXT, LEVEL, DATA = 1, 2, 3
TOKEN_MAX = 65535


def main():
    proxy_host, proxy_port, level, host, port = sys.argv[1:]
    sock = socket.create_connection((proxy_host, int(proxy_port)), timeout=60)
    session = Session(sock, gssapi.Name(f"rcmd@{proxy_host}", gssapi.NameType.hostbased_service))
    print(f"level {session.agree(int(level))}", file=sys.stderr)
    session.connect(host, int(port))
    sender = threading.Thread(target=session.send_and_end, args=[sys.stdin.buffer.read()])
    sender.start()
    while True:
        message = session.receive()
        if message is None:
            break
        sys.stdout.buffer.write(message)
    sender.join()


class Session:
    def __init__(self, sock, server):
        self.sock = sock
        self.stream = sock.makefile("rb")
        sock.sendall(b"\x05\x01\x01")
        if self.read(2) != b"\x05\x01":
            give_up("the server does not want a context")
        self.context = gssapi.SecurityContext(
            name=server,
            mech=gssapi.MechType.kerberos,
            flags=[
                gssapi.RequirementFlag.mutual_authentication,
                gssapi.RequirementFlag.replay_detection,
                gssapi.RequirementFlag.out_of_sequence_detection,
                gssapi.RequirementFlag.delegate_to_peer,
            ],
            usage="initiate",
        )
        token = self.context.step()
        while token:
            self.write_frame(CONTEXT, token)
            token = self.context.step(self.read_frame(CONTEXT))
        self.encrypt = False

    def agree(self, level):
        self.write_frame(LEVEL, self.context.wrap(bytes([level]), False).message)
        (level,) = self.context.unwrap(self.read_frame(LEVEL)).message
        self.encrypt = level == 2
        return level

    def connect(self, host, port):
        name = host.encode()
        self.send(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + struct.pack(">H", port))
        reply = self.receive()
        if reply[1] != 0:
            give_up(f"REP {reply[1]:02x}")

    def send_and_end(self, data):
        most = gssapi.raw.wrap_size_limit(self.context, TOKEN_MAX, self.encrypt)
        for start in range(0, len(data), most):
            self.send(data[start : start + most])
        self.sock.shutdown(socket.SHUT_WR)

    def send(self, message):
        self.write_frame(DATA, self.context.wrap(message, self.encrypt).message)

    def receive(self):
        """A message, or None at the end."""
        if not self.stream.peek(1):
            return None
        opened = self.context.unwrap(self.read_frame(DATA))
        if opened.encrypted != self.encrypt:
            give_up("a message that is not protected as agreed")
        return opened.message

    def write_frame(self, mtyp, token):
        self.sock.sendall(struct.pack(">BBH", 1, mtyp, len(token)) + token)

    def read_frame(self, mtyp):
        if self.read(2) != bytes([1, mtyp]):
            give_up("refused")
        (length,) = struct.unpack(">H", self.read(2))
        return self.read(length)

    def read(self, length):
        octets = self.stream.read(length)
        if len(octets) < length:
            give_up("the connection ended early")
        return octets


def give_up(why):
    print(why, file=sys.stderr)
    sys.exit(3)


main()
