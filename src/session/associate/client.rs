use std::net::{IpAddr, SocketAddr};

use crate::config::ClientCheck;
use crate::proto::canonical;

/// Whose datagrams an association relays, and where answers go.
#[derive(Debug)]
pub(super) struct Client {
    check: ClientCheck,
    /// Where the control connection comes from.
    ip: IpAddr,
    /// Where its datagrams come from, as far as is known.
    address: Option<SocketAddr>,
}

impl Client {
    /// A client whose control connection comes from `ip`. If it is checked strictly, `port` is the
    /// one that it will use; else there is none to rely on.
    pub(super) fn new(check: ClientCheck, ip: IpAddr, port: Option<u16>) -> Client {
        let ip = canonical(ip);
        let address = port.map(|port| SocketAddr::new(ip, port));
        Client { check, ip, address: address.filter(|_| check == ClientCheck::Strict) }
    }

    /// Whether what comes from `source` may be the client's (RFC 1928 section 7: the relay "MUST
    /// drop any datagrams arriving from any source IP address other than the one recorded").
    pub(super) fn may_be(&self, source: SocketAddr) -> bool {
        match (self.check, self.address) {
            (ClientCheck::Strict, Some(address)) => is_same(source, address),
            (ClientCheck::Strict | ClientCheck::Address, _) => canonical(source.ip()) == self.ip,
            (ClientCheck::Off, _) => true,
        }
    }

    /// What came from `source`, which [may be](Self::may_be) the client, is a datagram with a
    /// header. Whether that is news.
    pub(super) fn confirm(&mut self, source: SocketAddr) -> bool {
        match self.address {
            Some(address) if is_same(source, address) => false,
            Some(_) | None => {
                self.address = Some(source);
                true
            }
        }
    }

    /// Where answers go.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Whom alone the kernel need let in: port 0 is any.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        match self.check {
            ClientCheck::Strict => Some(self.address.unwrap_or(SocketAddr::new(self.ip, 0))),
            ClientCheck::Address => Some(SocketAddr::new(self.ip, 0)),
            ClientCheck::Off => None,
        }
    }

    /// Whether no other address can become the client's.
    pub(super) fn is_pinned(&self) -> bool {
        self.check == ClientCheck::Strict && self.address.is_some()
    }
}

/// A scope tells nothing of who it is: the socket is at one address.
fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    (canonical(one.ip()), one.port()) == (canonical(other.ip()), other.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn client(check: ClientCheck, port: Option<u16>) -> Client {
        Client::new(check, "10.0.0.1".parse().unwrap(), port)
    }

    #[test]
    fn strictly_the_first_port_is_the_client() {
        let mut client = client(ClientCheck::Strict, None);
        assert_eq!((client.peer(), client.address()), (Some(at("10.0.0.1:0")), None));
        assert!(client.may_be(at("10.0.0.1:5000")) && client.may_be(at("[::ffff:10.0.0.1]:5000")));
        assert!(!client.may_be(at("10.0.0.2:5000")));
        assert!(!client.is_pinned());
        assert!(client.confirm(at("10.0.0.1:5000")));
        assert!(!client.confirm(at("10.0.0.1:5000")));
        assert!(client.is_pinned());
        assert!(client.may_be(at("10.0.0.1:5000")) && !client.may_be(at("10.0.0.1:5001")));
        assert_eq!(client.peer(), Some(at("10.0.0.1:5000")));
    }

    #[test]
    fn strictly_a_port_that_was_told_is_the_client() {
        let client = client(ClientCheck::Strict, Some(5000));
        assert_eq!(client.address(), Some(at("10.0.0.1:5000")));
        assert!(client.is_pinned() && !client.may_be(at("10.0.0.1:5001")));
    }

    #[test]
    fn by_address_the_port_may_change() {
        let mut client = client(ClientCheck::Address, Some(5000));
        assert_eq!((client.peer(), client.address()), (Some(at("10.0.0.1:0")), None));
        for port in [5001, 5002] {
            assert!(client.confirm(SocketAddr::new(client.ip, port)));
            assert_eq!(client.address().unwrap().port(), port);
        }
        assert!(!client.may_be(at("10.0.0.2:5002")) && !client.is_pinned());
    }

    #[test]
    fn unchecked_whoever_sends_is_the_client() {
        let mut client = client(ClientCheck::Off, None);
        assert_eq!(client.peer(), None);
        assert!(client.may_be(at("192.0.2.9:7")) && client.confirm(at("192.0.2.9:7")));
        assert_eq!(client.address(), Some(at("192.0.2.9:7")));
        assert!(!client.is_pinned());
    }
}
