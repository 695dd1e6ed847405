//! SOCKS4 and its extension for names, SOCKS4a. No RFC: the two memos by Ying-Da Lee say it all.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::reader::{Reader, TooLong};
use super::{Command, Dialect, Host, Message, Parsed, Rejected, Request, canonical};
use crate::outcome::Refusal;

/// VN of every request.
pub const VERSION: u8 = 4;

/// The longest request, in bytes: the fixed part, USERID and its NUL, a name and its NUL.
pub const REQUEST_MAX: usize = 8 + FIELD_MAX + 1 + FIELD_MAX + 1;

/// CD of a reply that grants.
pub(super) const GRANTED: u8 = 0x5a;

/// CD of a reply that refuses, for whatever reason.
pub(super) const REFUSED: u8 = 0x5b;

/// Neither USERID nor the name has a limit in the memos; the name gets SOCKS5's, USERID the same.
const FIELD_MAX: usize = 255;

/// The address that says "a name follows".
const NAME_FOLLOWS: Ipv4Addr = Ipv4Addr::new(0, 0, 0, 1);

/// Reads `VN CD DSTPORT DSTIP USERID NUL`, and `NAME NUL` behind it where DSTIP is 0.0.0.x with x
/// not 0. USERID proves nothing and is ignored.
pub fn parse_request(input: &[u8]) -> Parsed<Request, Rejected> {
    Reader::parse(input, read_request)
        .map_err(|refusal| Rejected { dialect: Dialect::Socks4, refusal })
}

fn read_request(reader: &mut Reader<'_>) -> Option<Result<Request, Refusal>> {
    if reader.octet()? != VERSION {
        return Some(Err(Refusal::General));
    }
    let command = match reader.octet()? {
        1 => Command::Connect,
        2 => Command::Bind,
        _ => return Some(Err(Refusal::CommandUnsupported)),
    };
    let port = u16::from_be_bytes(reader.array()?);
    let ip = Ipv4Addr::from(reader.array::<4>()?);
    if let Err(TooLong) = reader.until_nul(FIELD_MAX)? {
        return Some(Err(Refusal::General));
    }
    if !name_follows(ip) {
        return Some(Request::new(Dialect::Socks4, command, Ok(Host::Ip(ip.into())), port));
    }
    match reader.until_nul(FIELD_MAX)? {
        Ok(name) => Some(Request::new(Dialect::Socks4, command, Host::parse_name(name), port)),
        Err(TooLong) => Some(Err(Refusal::General)),
    }
}

fn name_follows(ip: Ipv4Addr) -> bool {
    matches!(ip.octets(), [0, 0, 0, last] if last != 0)
}

/// The request's bytes; its dialect is taken for SOCKS4. What has no plain form there, an IPv6
/// address say, is sent as SOCKS4a text.
///
/// `None` where SOCKS4 has no words for it: UDP ASSOCIATE, a userid with a NUL or over 255 bytes.
pub fn encode_request(request: &Request, userid: &[u8]) -> Option<Vec<u8>> {
    if request.command == Command::UdpAssociate || userid.len() > FIELD_MAX || userid.contains(&0) {
        return None;
    }
    let (ip, name) = match &request.target.host {
        Host::Ip(IpAddr::V4(ip)) if !name_follows(*ip) => (*ip, None),
        host => (NAME_FOLLOWS, Some(host.to_string())),
    };
    let mut message = vec![VERSION, request.command as u8];
    message.extend(request.target.port.to_be_bytes());
    message.extend(ip.octets());
    message.extend(userid);
    message.push(0);
    if let Some(name) = name {
        message.extend(name.as_bytes());
        message.push(0);
    }
    Some(message)
}

/// `VN CD DSTPORT DSTIP`; an address that is not IPv4 is said as 0.0.0.0.
pub(super) fn encode_reply(cd: u8, bnd: SocketAddr) -> Message {
    let ip = match canonical(bnd.ip()) {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    };
    let [a, b, c, d] = ip.octets();
    let [p, q] = bnd.port().to_be_bytes();
    Message::new([0, cd, p, q, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::strategies;

    fn refusal(input: &[u8]) -> Refusal {
        let rejected = parse_request(input).unwrap_err();
        assert_eq!(rejected.dialect, Dialect::Socks4);
        rejected.refusal
    }

    #[test]
    fn addresses_and_names_are_read() {
        let (request, consumed) =
            parse_request(b"\x04\x01\x00\x50\xc0\x00\x02\x01me\x00rest").unwrap().unwrap();
        assert_eq!(consumed, 11);
        assert_eq!(request.dialect, Dialect::Socks4);
        assert_eq!(request.command, Command::Connect);
        assert_eq!(request.target.to_string(), "192.0.2.1:80");

        let (request, consumed) =
            parse_request(b"\x04\x02\x00\x50\x00\x00\x00\x07\x00a.example\x00rest")
                .unwrap()
                .unwrap();
        assert_eq!(consumed, 19);
        assert_eq!(request.command, Command::Bind);
        assert_eq!(request.target.to_string(), "a.example:80");

        let (request, _) =
            parse_request(b"\x04\x01\x00\x50\x00\x00\x00\xff\x00::1\x00").unwrap().unwrap();
        assert_eq!(request.target.to_string(), "[::1]:80");
        let (request, _) = parse_request(b"\x04\x01\x00\x50\x00\x00\x00\x00\x00").unwrap().unwrap();
        assert_eq!(request.target.to_string(), "0.0.0.0:80");
    }

    #[test]
    fn other_versions_and_commands_are_refused_at_their_byte() {
        assert_eq!(refusal(&[5]), Refusal::General);
        for cd in (0..=u8::MAX).filter(|cd| ![1, 2].contains(cd)) {
            assert_eq!(refusal(&[4, cd]), Refusal::CommandUnsupported);
        }
    }

    #[test]
    fn bad_names_and_port_0_are_refused() {
        let named = b"\x04\x01\x00\x50\x00\x00\x00\x01\x00";
        assert_eq!(refusal(&[&named[..], b"\x00"].concat()), Refusal::General);
        assert_eq!(refusal(&[&named[..], b"a b\x00"].concat()), Refusal::General);
        assert_eq!(refusal(&[&named[..], b"127.1\x00"].concat()), Refusal::HostUnreachable);
        assert_eq!(refusal(b"\x04\x01\x00\x00\xc0\x00\x02\x01\x00"), Refusal::General);
        assert!(parse_request(b"\x04\x02\x00\x00\xc0\x00\x02\x01\x00").unwrap().is_some());
    }

    #[test]
    fn fields_without_an_end_are_found_early() {
        let mut input = b"\x04\x01\x00\x50\x00\x00\x00\x01".to_vec();
        input.extend([b'u'; 255]);
        assert_eq!(parse_request(&input), Ok(None));
        assert_eq!(refusal(&[&input[..], b"u"].concat()), Refusal::General);

        input.push(0);
        input.extend([b'n'; 255]);
        assert_eq!(parse_request(&input), Ok(None));
        assert_eq!(input.len(), REQUEST_MAX - 1);
        assert_eq!(refusal(&[&input[..], b"n"].concat()), Refusal::General);
    }

    #[test]
    fn what_socks4_cannot_say_is_not_encoded() {
        let (mut request, _) =
            parse_request(b"\x04\x01\x00\x50\xc0\x00\x02\x01\x00").unwrap().unwrap();
        assert_eq!(encode_request(&request, &[b'u'; 256]), None);
        assert_eq!(encode_request(&request, b"u\0v"), None);
        assert!(encode_request(&request, &[b'u'; 255]).is_some());
        request.command = Command::UdpAssociate;
        assert_eq!(encode_request(&request, b""), None);
    }

    proptest! {
        #[test]
        fn requests_survive_the_wire(
            request in strategies::request(Dialect::Socks4),
            userid in prop::collection::vec(1u8.., 0..=255),
            rest in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let mut message = encode_request(&request, &userid).unwrap();
            let len = message.len();
            prop_assert!(len <= REQUEST_MAX);
            for end in 0..len {
                prop_assert_eq!(parse_request(&message[..end]), Ok(None));
            }
            message.extend(rest);
            prop_assert_eq!(parse_request(&message), Ok(Some((request, len))));
        }

        #[test]
        fn noise_is_read_the_same_however_it_is_cut(
            noise in prop::collection::vec(any::<u8>(), 0..600),
            head in prop::sample::select(vec![vec![4], vec![4, 1], vec![4, 1, 0, 80, 0, 0, 0, 1]]),
        ) {
            let input = [head, noise].concat();
            let whole = parse_request(&input);
            let first = (0..=input.len())
                .map(|end| parse_request(&input[..end]))
                .find(|parsed| *parsed != Ok(None))
                .unwrap_or(Ok(None));
            prop_assert_eq!(first, whole);
        }
    }
}
