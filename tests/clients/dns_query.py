"""One question of dnspython, by a datagram that PySocks takes through a server.

Usage: dns_query.py PROXY-HOST PROXY-PORT NAMESERVER-HOST NAMESERVER-PORT NAME

Prints the IPv4 addresses of NAME, one a line.
"""

import socket
import sys

try:
    import dns.message
    import dns.query
    import socks
except ImportError as error:
    sys.exit(f"{error}: tests/run installs what the tests need")


def main():
    proxy_host, proxy_port, nameserver_host, nameserver_port, name = sys.argv[1:]

    def through_proxy(family, kind, *rest):
        ours = socks.socksocket(family, kind, *rest)
        ours.set_proxy(socks.SOCKS5, proxy_host, int(proxy_port))
        return ours

    dns.query.socket_factory = through_proxy
    question = dns.message.make_query(name, "A")
    answer = dns.query.udp(question, nameserver_host, port=int(nameserver_port), timeout=60)
    for records in answer.answer:
        for record in records:
            print(record.address)


main()
