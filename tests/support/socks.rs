//! SOCKS messages as bytes, written from the RFCs and independent of the crate's own encoder.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::peer::{Peer, hex};

pub const CONNECT: u8 = 1;
pub const BIND: u8 = 2;
pub const UDP_ASSOCIATE: u8 = 3;

/// `05 NMETHODS METHODS` (RFC 1928 section 3).
pub fn greeting(methods: &[u8]) -> Vec<u8> {
    counted(&[5], methods)
}

/// `01 ULEN UNAME PLEN PASSWD` (RFC 1929 section 2).
pub fn credentials(uname: &[u8], passwd: &[u8]) -> Vec<u8> {
    counted(&counted(&[1], uname), passwd)
}

/// A CONNECT request for an address (RFC 1928 section 4).
pub fn connect_to(target: SocketAddr) -> Vec<u8> {
    request(CONNECT, target)
}

/// A CONNECT request for a name, or for anything in a name's place.
pub fn connect_to_name(name: &[u8], port: u16) -> Vec<u8> {
    request_by_name(CONNECT, name, port)
}

pub fn request(command: u8, target: SocketAddr) -> Vec<u8> {
    [vec![5, command, 0], address(target)].concat()
}

pub fn request_by_name(command: u8, name: &[u8], port: u16) -> Vec<u8> {
    [vec![5, command, 0], address_by_name(name, port)].concat()
}

/// A datagram to the relay: `00 00 00 ATYP DST.ADDR DST.PORT DATA` (RFC 1928 section 7).
pub fn datagram(target: SocketAddr, data: &[u8]) -> Vec<u8> {
    fragment(0, target, data)
}

/// As [`datagram`], with FRAG.
pub fn fragment(frag: u8, target: SocketAddr, data: &[u8]) -> Vec<u8> {
    [&[0, 0, frag], &address(target)[..], data].concat()
}

/// As [`datagram`], to a name or to anything in a name's place.
pub fn datagram_by_name(name: &[u8], port: u16, data: &[u8]) -> Vec<u8> {
    [&[0, 0, 0], &address_by_name(name, port)[..], data].concat()
}

/// The source and the data of a whole, well-formed datagram from the relay.
pub fn parse_datagram(bytes: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let (ip, rest): (IpAddr, _) = match bytes {
        [0, 0, 0, 1, rest @ ..] => {
            let (ip, rest) = rest.split_first_chunk::<4>()?;
            ((*ip).into(), rest)
        }
        [0, 0, 0, 4, rest @ ..] => {
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            ((*ip).into(), rest)
        }
        _ => return None,
    };
    let (port, data) = rest.split_first_chunk::<2>()?;
    Some((SocketAddr::new(ip, u16::from_be_bytes(*port)), data))
}

/// `04 CD DSTPORT DSTIP USERID 00`, and behind it the name of SOCKS4a where there is one.
pub fn socks4(command: u8, ip: [u8; 4], port: u16, userid: &[u8], name: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = [&[4, command], &port.to_be_bytes()[..], &ip, userid, &[0]].concat();
    if let Some(name) = name {
        bytes.extend_from_slice(name);
        bytes.push(0);
    }
    bytes
}

/// A failure reply of ours: ten bytes, zero address.
pub fn refusal(rep: u8) -> [u8; 10] {
    [5, rep, 0, 1, 0, 0, 0, 0, 0, 0]
}

/// A reply (RFC 1928 section 6).
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    pub rep: u8,
    pub bnd: SocketAddr,
}

impl Peer {
    /// A whole, well-formed reply.
    #[track_caller]
    pub fn expect_reply(&self) -> Reply {
        let head = self.read_exact(4);
        let ip: IpAddr = match head[..] {
            [5, _, 0, 1] => octets::<4>(self).into(),
            [5, _, 0, 4] => octets::<16>(self).into(),
            _ => self.fail("05 REP 00 01 .. or 05 REP 00 04 ..", &hex(&head)),
        };
        let port = u16::from_be_bytes(octets::<2>(self));
        Reply { rep: head[1], bnd: SocketAddr::new(ip, port) }
    }

    /// A reply that grants the request; returns BND.
    #[track_caller]
    pub fn expect_granted(&self) -> SocketAddr {
        let reply = self.expect_reply();
        if reply.rep != 0 {
            self.fail("05 00 .. (granted)", &format!("{reply:x?}"));
        }
        reply.bnd
    }

    /// `00 5A DSTPORT DSTIP`: SOCKS4 grants the request; returns the address.
    #[track_caller]
    pub fn expect_socks4_granted(&self) -> SocketAddr {
        self.expect(&[0, 0x5a]);
        let port = u16::from_be_bytes(octets::<2>(self));
        SocketAddr::new(Ipv4Addr::from(octets::<4>(self)).into(), port)
    }

    /// `00 5B`, six bytes that nobody reads, a FIN, and nothing else.
    #[track_caller]
    pub fn expect_socks4_rejected(&self) {
        self.expect(&[0, 0x5b]);
        self.read_exact(6);
        self.expect_eof();
    }

    /// A failure reply of ten bytes, a FIN, and nothing else.
    #[track_caller]
    pub fn expect_refused(&self, rep: u8) {
        self.expect(&refusal(rep)[..4]);
        // A server may name any v4 address in a failure; ours has its own row for that.
        self.read_exact(6);
        self.expect_eof();
    }
}

/// A session without authentication through `proxy` to `target`, granted.
#[track_caller]
pub fn open_session(proxy: SocketAddr, target: SocketAddr) -> Peer {
    let client = request_session(proxy, target);
    client.expect_granted();
    client
}

/// A client without authentication that has sent its request and read no reply yet.
#[track_caller]
pub fn request_session(proxy: SocketAddr, target: SocketAddr) -> Peer {
    send_request(proxy, &connect_to(target))
}

/// A client without authentication that has sent this request and read no reply yet.
#[track_caller]
pub fn send_request(proxy: SocketAddr, request: &[u8]) -> Peer {
    let client = Peer::connect(proxy);
    client.send(&greeting(&[0]));
    client.expect(&[5, 0]);
    client.send(request);
    client
}

/// As [`request_session`], for a name.
#[track_caller]
pub fn request_name(proxy: SocketAddr, name: &str, port: u16) -> Peer {
    send_request(proxy, &connect_to_name(name.as_bytes(), port))
}

#[track_caller]
fn octets<const LEN: usize>(peer: &Peer) -> [u8; LEN] {
    peer.read_exact(LEN).try_into().expect("read_exact returns what it was asked for")
}

/// `ATYP ADDR PORT`
fn address(of: SocketAddr) -> Vec<u8> {
    let (atyp, octets) = match of.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (4, ip.octets().to_vec()),
    };
    [vec![atyp], octets, of.port().to_be_bytes().to_vec()].concat()
}

fn address_by_name(name: &[u8], port: u16) -> Vec<u8> {
    [counted(&[3], name), port.to_be_bytes().to_vec()].concat()
}

fn counted(head: &[u8], field: &[u8]) -> Vec<u8> {
    let len = u8::try_from(field.len()).expect("a field of at most 255 bytes");
    [head, &[len], field].concat()
}
