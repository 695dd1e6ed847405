//! The header of the datagrams of an association (RFC 1928 section 7).

use std::net::SocketAddr;
use std::num::NonZeroU8;

use super::reader::Reader;
use super::{Host, Message, socks5};

/// The longest header that we write, in bytes: one with an IPv6 address.
pub const HEADER_MAX: usize = Message::CAPACITY;

/// The bit of FRAG that says that no more fragments follow.
const FRAG_LAST: u8 = 0x80;

/// A client's datagram without its framing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// What part it is of what is to be sent.
    pub fragment: Fragment,
    /// DST.ADDR.
    pub host: Host,
    /// DST.PORT, never 0.
    pub port: u16,
    /// DATA, which may be empty.
    pub data: &'a [u8],
}

/// What FRAG says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// It stands alone.
    Whole,
    /// It is one of a sequence.
    Part {
        /// Its place there, 1 to 127.
        position: NonZeroU8,
        /// Whether the sequence ends with it.
        is_last: bool,
    },
}

/// Its header ends too soon, has an ATYP that is unknown, a name that is none or port 0, or a FRAG
/// that ends a sequence and has no place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Reads `RSV RSV FRAG ATYP DST.ADDR DST.PORT DATA`, whatever RSV says.
pub fn parse(datagram: &[u8]) -> Result<Datagram<'_>, Malformed> {
    let ((fragment, host, port), header_len) =
        Reader::parse(datagram, read_header)?.ok_or(Malformed)?;
    Ok(Datagram { fragment, host, port, data: &datagram[header_len..] })
}

fn read_header(reader: &mut Reader<'_>) -> Option<Result<(Fragment, Host, u16), Malformed>> {
    let [_, _, frag] = reader.array()?;
    let address = socks5::read_address(reader)?;
    Some(match (Fragment::from_octet(frag), address) {
        (Some(fragment), Ok((Ok(host), port @ 1..))) => Ok((fragment, host, port)),
        _ => Err(Malformed),
    })
}

impl Fragment {
    fn from_octet(frag: u8) -> Option<Fragment> {
        if frag == 0 {
            return Some(Fragment::Whole);
        }
        let position = NonZeroU8::new(frag & !FRAG_LAST)?;
        Some(Fragment::Part { position, is_last: frag & FRAG_LAST != 0 })
    }
}

/// The header of a datagram to a client: it is whole, and came from an address, in canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header(Message);

impl Header {
    /// The header of what came from `source`.
    pub fn new(source: SocketAddr) -> Header {
        Header(socks5::encode_address([0; 3], source))
    }

    /// Its bytes, before those of the payload.
    pub fn as_slice(&self) -> &[u8] {
        self.0.as_slice()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::proto::{Command, Dialect, Request, Target, strategies};

    /// One for 192.0.2.1:80 with this FRAG and nothing behind the header.
    fn to_v4(frag: u8) -> [u8; 10] {
        [0, 0, frag, 1, 192, 0, 2, 1, 0, 80]
    }

    fn to_name(name: &[u8], port: u16) -> Vec<u8> {
        [&[0, 0, 0, 3, name.len() as u8][..], name, &port.to_be_bytes()].concat()
    }

    fn fragment(frag: u8) -> Option<Fragment> {
        parse(&to_v4(frag)).ok().map(|datagram| datagram.fragment)
    }

    fn host(datagram: &[u8]) -> Host {
        parse(datagram).unwrap().host
    }

    #[test]
    fn a_datagram_of_each_type_of_address_is_read() {
        let octets = [&to_v4(0)[..], b"data"].concat();
        let datagram = parse(&octets).unwrap();
        assert_eq!(datagram.fragment, Fragment::Whole);
        assert_eq!(datagram.host.to_string(), "192.0.2.1");
        assert_eq!((datagram.port, datagram.data), (80, &b"data"[..]));

        let v6 = [0, 0, 0, 4, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 1, 0, 7];
        let datagram = parse(&v6).unwrap();
        assert_eq!(datagram.host.to_string(), "2001:db8::9");
        assert_eq!((datagram.port, datagram.data), (256, &[7][..]));

        let octets = to_name(b"a.Example.", 65535);
        let datagram = parse(&octets).unwrap();
        assert_eq!(datagram.host.to_string(), "a.Example.");
        assert_eq!((datagram.port, datagram.data), (65535, &[][..]));
    }

    #[test]
    fn addresses_are_canonical_however_they_are_written() {
        let mut mapped = [0; 22];
        mapped[3..]
            .copy_from_slice(&[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1, 0, 80]);
        for octets in [&mapped[..], &to_name(b"127.0.0.1", 80), &to_name(b"::ffff:7f00:1", 80)] {
            assert_eq!(host(octets), Host::Ip([127, 0, 0, 1].into()), "{octets:x?}");
        }
    }

    #[test]
    fn rsv_says_nothing() {
        let mut octets = to_v4(0);
        octets[..2].fill(0xff);
        assert_eq!(parse(&octets), parse(&to_v4(0)));
        assert!(parse(&octets).is_ok());
    }

    #[test]
    fn frag_tells_the_place_and_the_end() {
        let part = |position, is_last| {
            Some(Fragment::Part { position: NonZeroU8::new(position).unwrap(), is_last })
        };
        assert_eq!(fragment(0), Some(Fragment::Whole));
        for position in 1..=127 {
            assert_eq!(fragment(position), part(position, false));
            assert_eq!(fragment(0x80 | position), part(position, true));
        }
        assert_eq!(fragment(0x80), None);
    }

    #[test]
    fn what_ends_within_its_header_is_malformed() {
        let v6 = [&[0, 0, 0, 4][..], &[1; 18]].concat();
        for whole in [&to_v4(0)[..], &v6, &to_name(b"a.example", 80)] {
            assert!(parse(whole).is_ok());
            for end in 0..whole.len() {
                assert_eq!(parse(&whole[..end]), Err(Malformed), "{whole:x?} to {end}");
            }
        }
    }

    #[test]
    fn unknown_types_bad_names_and_port_0_are_malformed() {
        for atyp in (0..=u8::MAX).filter(|atyp| ![1, 3, 4].contains(atyp)) {
            let octets = [&[0, 0, 0, atyp][..], &[1; 300]].concat();
            assert_eq!(parse(&octets), Err(Malformed), "{atyp}");
        }
        for name in [&b""[..], b"a b", b"a\0", b"0", b"127.1", &[b'a'; 255]] {
            assert_eq!(parse(&to_name(name, 80)), Err(Malformed), "{name:x?}");
        }
        assert_eq!(parse(&to_name(b"a.example", 0)), Err(Malformed));
        assert_eq!(parse(&[0, 0, 0, 1, 192, 0, 2, 1, 0, 0]), Err(Malformed));
    }

    #[test]
    fn headers_tell_the_source_in_canonical_form() {
        let header = |source: &str| Header::new(source.parse().unwrap());
        assert_eq!(header("192.0.2.1:80").as_slice(), to_v4(0));
        assert_eq!(header("[::ffff:192.0.2.1]:80").as_slice(), to_v4(0));
        let v6 = [0, 0, 0, 4, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 1, 0];
        assert_eq!(header("[2001:db8::9%7]:256").as_slice(), v6);
        assert_eq!(v6.len(), HEADER_MAX);
    }

    proptest! {
        #[test]
        fn headers_of_ours_are_read_as_what_they_say(
            ip: IpAddr,
            port in 1u16..,
            payload in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let header = Header::new(SocketAddr::new(ip, port));
            let octets = [header.as_slice(), &payload].concat();
            let expected =
                Datagram { fragment: Fragment::Whole, host: Host::from(ip), port, data: &payload };
            prop_assert_eq!(parse(&octets), Ok(expected));
        }

        #[test]
        fn a_datagram_is_a_request_with_another_head(
            host in strategies::host(),
            port in 1u16..,
            payload in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let target = Target { host: host.clone(), port };
            let request =
                Request { command: Command::UdpAssociate, target, dialect: Dialect::Socks5 };
            let mut octets = socks5::encode_request(&request);
            octets[..3].fill(0);
            octets.extend(&payload);
            let expected = Datagram { fragment: Fragment::Whole, host, port, data: &payload };
            prop_assert_eq!(parse(&octets), Ok(expected));
        }
    }
}
