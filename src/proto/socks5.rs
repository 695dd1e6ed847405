//! SOCKS5 (RFC 1928) and its username/password sub-negotiation (RFC 1929).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::reader::Reader;
use super::{Command, Dialect, Host, Message, NameError, Parsed, Rejected, Request, canonical};
use crate::outcome::Refusal;

/// VER of every SOCKS5 message but the sub-negotiation's.
pub const VERSION: u8 = 5;

/// VER of the username/password sub-negotiation (RFC 1929 section 2).
pub const CREDENTIALS_VERSION: u8 = 1;

/// METHOD of a server that accepts none of those offered (RFC 1928 section 3).
pub const NO_ACCEPTABLE: u8 = 0xff;

/// The longest greeting, in bytes.
pub const GREETING_MAX: usize = 2 + 255;

/// The longest sub-negotiation request, in bytes.
pub const CREDENTIALS_MAX: usize = 3 + 255 + 255;

/// The longest request, in bytes.
pub const REQUEST_MAX: usize = 7 + 255;

const ATYP_IPV4: u8 = 1;
const ATYP_NAME: u8 = 3;
const ATYP_IPV6: u8 = 4;

/// How a client proves who it is (RFC 1928 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Method {
    /// Not at all.
    None = 0,
    /// By a security context (RFC 1961).
    Gssapi = 1,
    /// By name and password (RFC 1929).
    Password = 2,
}

/// The set of methods a client offers, those unknown to us included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Methods {
    /// One bit a METHOD octet.
    offered: [u128; 2],
}

impl Methods {
    /// Whether the client offers this method.
    pub fn offers(&self, method: Method) -> bool {
        self.has(method as u8)
    }

    fn has(&self, method: u8) -> bool {
        self.offered[usize::from(method / 128)] & (1 << (method % 128)) != 0
    }

    fn insert(&mut self, method: u8) {
        self.offered[usize::from(method / 128)] |= 1 << (method % 128);
    }
}

impl FromIterator<Method> for Methods {
    fn from_iter<I: IntoIterator<Item = Method>>(methods: I) -> Methods {
        let mut set = Methods::default();
        methods.into_iter().for_each(|method| set.insert(method as u8));
        set
    }
}

/// The message has another version than the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongVersion;

/// Reads a greeting: `VER NMETHODS METHODS` (RFC 1928 section 3). NMETHODS of 0 offers nothing.
pub fn parse_greeting(input: &[u8]) -> Parsed<Methods, WrongVersion> {
    Reader::parse(input, |reader| {
        if reader.octet()? != VERSION {
            return Some(Err(WrongVersion));
        }
        let mut methods = Methods::default();
        reader.counted()?.iter().for_each(|&method| methods.insert(method));
        Some(Ok(methods))
    })
}

/// A greeting that offers these methods, in the order of their numbers.
///
/// NMETHODS cannot say 256: of a set of all octets 0xFF, which is no method, is left out.
pub fn encode_greeting(methods: &Methods) -> Vec<u8> {
    let mut greeting = vec![VERSION, 0];
    greeting.extend((0..=u8::MAX).filter(|&method| methods.has(method)).take(255));
    greeting[1] = (greeting.len() - 2) as u8;
    greeting
}

/// A name and a password as a client sent them: bytes without any meaning of their own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// UNAME.
    pub uname: &'a [u8],
    /// PASSWD.
    pub passwd: &'a [u8],
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials {{ uname: \"{}\", passwd: [redacted] }}", self.uname.escape_ascii())
    }
}

/// Reads `VER ULEN UNAME PLEN PASSWD` (RFC 1929 section 2). Lengths of 0 are read too.
pub fn parse_credentials(input: &[u8]) -> Parsed<Credentials<'_>, WrongVersion> {
    Reader::parse(input, |reader| {
        if reader.octet()? != CREDENTIALS_VERSION {
            return Some(Err(WrongVersion));
        }
        let uname = reader.counted()?;
        let passwd = reader.counted()?;
        Some(Ok(Credentials { uname, passwd }))
    })
}

/// The sub-negotiation's request, or `None` if a field is longer than 255 bytes.
pub fn encode_credentials(credentials: &Credentials<'_>) -> Option<Vec<u8>> {
    let mut message = vec![CREDENTIALS_VERSION];
    for field in [credentials.uname, credentials.passwd] {
        message.push(u8::try_from(field.len()).ok()?);
        message.extend_from_slice(field);
    }
    Some(message)
}

/// Reads `VER CMD RSV ATYP DST.ADDR DST.PORT` (RFC 1928 section 4), whatever RSV says.
pub fn parse_request(input: &[u8]) -> Parsed<Request, Rejected> {
    Reader::parse(input, read_request)
        .map_err(|refusal| Rejected { dialect: Dialect::Socks5, refusal })
}

fn read_request(reader: &mut Reader<'_>) -> Option<Result<Request, Refusal>> {
    if reader.octet()? != VERSION {
        return Some(Err(Refusal::General));
    }
    let command = match reader.octet()? {
        1 => Command::Connect,
        2 => Command::Bind,
        3 => Command::UdpAssociate,
        _ => return Some(Err(Refusal::CommandUnsupported)),
    };
    reader.octet()?;
    Some(match read_address(reader)? {
        Ok((host, port)) => Request::new(Dialect::Socks5, command, host, port),
        Err(UnknownAtyp) => Err(Refusal::AddressUnsupported),
    })
}

/// ATYP is none of the three there are.
pub(super) struct UnknownAtyp;

/// A host, or what is wrong with its name, and a port.
type Address = (Result<Host, NameError>, u16);

/// Reads `ATYP ADDR PORT` (RFC 1928 section 5), of a request or of a datagram.
pub(super) fn read_address(reader: &mut Reader<'_>) -> Option<Result<Address, UnknownAtyp>> {
    let host = match reader.octet()? {
        ATYP_IPV4 => Ok(Host::from(IpAddr::from(reader.array::<4>()?))),
        ATYP_IPV6 => Ok(Host::from(IpAddr::from(reader.array::<16>()?))),
        ATYP_NAME => Host::parse_name(reader.counted()?),
        _ => return Some(Err(UnknownAtyp)),
    };
    let port = u16::from_be_bytes(reader.array()?);
    Some(Ok((host, port)))
}

/// The request's bytes; its dialect is taken for SOCKS5.
pub fn encode_request(request: &Request) -> Vec<u8> {
    let mut message = vec![VERSION, request.command as u8, 0];
    match &request.target.host {
        Host::Ip(IpAddr::V4(ip)) => {
            message.push(ATYP_IPV4);
            message.extend(ip.octets());
        }
        Host::Ip(IpAddr::V6(ip)) => {
            message.push(ATYP_IPV6);
            message.extend(ip.octets());
        }
        Host::Name(name) => {
            let text = name.as_str().as_bytes();
            message.extend([ATYP_NAME, text.len() as u8]);
            message.extend(text);
        }
    }
    message.extend(request.target.port.to_be_bytes());
    message
}

/// `VER REP RSV ATYP BND.ADDR BND.PORT` (RFC 1928 section 6), BND in canonical form.
pub(super) fn encode_reply(rep: u8, bnd: SocketAddr) -> Message {
    encode_address([VERSION, rep, 0], bnd)
}

/// `ATYP ADDR PORT` (RFC 1928 section 5) behind the three octets that stand before it in a reply
/// and in a datagram; the address in canonical form.
pub(super) fn encode_address(head: [u8; 3], address: SocketAddr) -> Message {
    let [x, y, z] = head;
    let [p, q] = address.port().to_be_bytes();
    match canonical(address.ip()) {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            Message::new([x, y, z, ATYP_IPV4, a, b, c, d, p, q])
        }
        IpAddr::V6(ip) => {
            let mut message = [0; 22];
            message[..4].copy_from_slice(&[x, y, z, ATYP_IPV6]);
            message[4..20].copy_from_slice(&ip.octets());
            message[20..].copy_from_slice(&[p, q]);
            Message::new(message)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::{Target, strategies};

    fn refusal(input: &[u8]) -> Refusal {
        let rejected = parse_request(input).unwrap_err();
        assert_eq!(rejected.dialect, Dialect::Socks5);
        rejected.refusal
    }

    fn request_for_name(name: &[u8], port: u16) -> Vec<u8> {
        let mut message = vec![5, 1, 0, 3, name.len() as u8];
        message.extend(name);
        message.extend(port.to_be_bytes());
        message
    }

    #[test]
    fn greetings_of_any_size_are_read() {
        let (none, consumed) = parse_greeting(&[5, 0]).unwrap().unwrap();
        assert_eq!((none, consumed), (Methods::default(), 2));

        let mut all = vec![5, 255];
        all.extend(0..=254);
        let (all, consumed) = parse_greeting(&all).unwrap().unwrap();
        assert_eq!(consumed, GREETING_MAX);
        assert!([Method::None, Method::Gssapi, Method::Password].iter().all(|&it| all.offers(it)));

        let (private, _) = parse_greeting(&[5, 2, 0x80, 0x81]).unwrap().unwrap();
        assert!(!private.offers(Method::None) && !private.offers(Method::Password));
        let (password, _) = parse_greeting(&[5, 3, 2, 2, 0xff]).unwrap().unwrap();
        assert!(!password.offers(Method::None) && password.offers(Method::Password));
    }

    #[test]
    fn a_wrong_version_is_found_at_the_first_byte() {
        for first in (0..=u8::MAX).filter(|&first| first != 5) {
            assert_eq!(parse_greeting(&[first]), Err(WrongVersion));
            assert_eq!(refusal(&[first]), Refusal::General);
        }
        for first in (0..=u8::MAX).filter(|&first| first != 1) {
            assert_eq!(parse_credentials(&[first]), Err(WrongVersion));
        }
    }

    #[test]
    fn empty_credentials_are_read() {
        let empty = Credentials { uname: b"", passwd: b"" };
        assert_eq!(parse_credentials(&[1, 0, 0]), Ok(Some((empty, 3))));
        let no_passwd = Credentials { uname: b"foo", passwd: b"" };
        assert_eq!(parse_credentials(b"\x01\x03foo\x00rest"), Ok(Some((no_passwd, 6))));
    }

    #[test]
    fn credentials_too_long_to_say_are_not_encoded() {
        let long = [b'x'; 256];
        assert_eq!(encode_credentials(&Credentials { uname: &long, passwd: b"" }), None);
        assert_eq!(encode_credentials(&Credentials { uname: b"", passwd: &long }), None);
        let longest = Credentials { uname: &long[..255], passwd: &long[..255] };
        assert_eq!(encode_credentials(&longest).unwrap().len(), CREDENTIALS_MAX);
    }

    #[test]
    fn debug_output_hides_the_password() {
        let shown = format!("{:?}", Credentials { uname: b"al\0ice", passwd: b"open sesame" });
        assert_eq!(shown, r#"Credentials { uname: "al\x00ice", passwd: [redacted] }"#);
    }

    #[test]
    fn requests_are_read() {
        let (request, consumed) =
            parse_request(&[5, 1, 0x7f, 1, 192, 0, 2, 1, 0, 80, 9, 9]).unwrap().unwrap();
        assert_eq!(consumed, 10);
        assert_eq!(request.command, Command::Connect);
        assert_eq!(request.dialect, Dialect::Socks5);
        assert_eq!(request.target.to_string(), "192.0.2.1:80");

        let mut mapped = vec![5, 1, 0, 4];
        mapped.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1, 0, 80]);
        let (request, _) = parse_request(&mapped).unwrap().unwrap();
        assert_eq!(request.target.to_string(), "127.0.0.1:80");

        let (request, _) = parse_request(&request_for_name(b"::1", 80)).unwrap().unwrap();
        assert_eq!(request.target.to_string(), "[::1]:80");
    }

    #[test]
    fn mistakes_of_framing_are_found_at_their_byte() {
        assert_eq!(parse_request(&[5]), Ok(None));
        for cmd in (0..=u8::MAX).filter(|cmd| !(1..=3).contains(cmd)) {
            assert_eq!(refusal(&[5, cmd]), Refusal::CommandUnsupported);
        }
        assert_eq!(parse_request(&[5, 1, 0]), Ok(None));
        for atyp in (0..=u8::MAX).filter(|atyp| ![1, 3, 4].contains(atyp)) {
            assert_eq!(refusal(&[5, 1, 0, atyp]), Refusal::AddressUnsupported);
        }
        assert_eq!(refusal(&[5, 9, 0, 2]), Refusal::CommandUnsupported);
    }

    #[test]
    fn a_bad_name_is_refused_once_the_request_is_whole() {
        for (name, expected) in [
            (&b""[..], Refusal::General),
            (b"localhost\0evil", Refusal::General),
            (b"a b", Refusal::General),
            (b"127.1", Refusal::HostUnreachable),
            (b"0x7f000001", Refusal::HostUnreachable),
        ] {
            let message = request_for_name(name, 80);
            for end in 0..message.len() {
                assert_eq!(parse_request(&message[..end]), Ok(None));
            }
            assert_eq!(refusal(&message), expected);
        }
    }

    #[test]
    fn port_0_is_no_target_to_connect_to() {
        assert_eq!(refusal(&[5, 1, 0, 1, 192, 0, 2, 1, 0, 0]), Refusal::General);
        assert_eq!(refusal(&request_for_name(b"example.com", 0)), Refusal::General);
        for cmd in [2, 3] {
            let (request, _) = parse_request(&[5, cmd, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap().unwrap();
            assert_eq!(request.target.port, 0);
        }
    }

    #[test]
    fn a_number_instead_of_a_name_leaves_an_association_open_to_any_address() {
        let mut message = request_for_name(b"0", 5000);
        assert_eq!(refusal(&message), Refusal::HostUnreachable);
        message[1] = Command::UdpAssociate as u8;
        let (request, _) = parse_request(&message).unwrap().unwrap();
        assert_eq!(request.target.to_string(), "0.0.0.0:5000");
    }

    #[test]
    fn the_longest_request_is_read() {
        let label = "a".repeat(63);
        let name = format!("{label}.{label}.{label}.{}.", &label[..61]);
        let host = Host::parse_name(name.as_bytes()).unwrap();
        let target = Target { host, port: 443 };
        let request = Request { command: Command::Connect, target, dialect: Dialect::Socks5 };
        let message = encode_request(&request);
        assert_eq!(message.len(), REQUEST_MAX - 1);
        assert_eq!(parse_request(&message), Ok(Some((request, message.len()))));
        assert_eq!(refusal(&request_for_name(&[b'a'; 255], 443)), Refusal::General);
    }

    proptest! {
        #[test]
        fn greetings_survive_the_wire(
            offered in prop::collection::vec(0u8..=254, 0..=255),
            rest in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let mut methods = Methods::default();
            offered.iter().for_each(|&method| methods.insert(method));
            let mut message = encode_greeting(&methods);
            let len = message.len();
            for end in 0..len {
                prop_assert_eq!(parse_greeting(&message[..end]), Ok(None));
            }
            message.extend(rest);
            prop_assert_eq!(parse_greeting(&message), Ok(Some((methods, len))));
            for method in [Method::None, Method::Gssapi, Method::Password] {
                prop_assert_eq!(methods.offers(method), offered.contains(&(method as u8)));
            }
        }

        #[test]
        fn credentials_survive_the_wire(
            uname in strategies::field(),
            passwd in strategies::field(),
            rest in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let credentials = Credentials { uname: &uname, passwd: &passwd };
            let mut message = encode_credentials(&credentials).unwrap();
            let len = message.len();
            for end in 0..len {
                prop_assert_eq!(parse_credentials(&message[..end]), Ok(None));
            }
            message.extend(rest);
            prop_assert_eq!(parse_credentials(&message), Ok(Some((credentials, len))));
        }

        #[test]
        fn requests_survive_the_wire(
            request in strategies::request(Dialect::Socks5),
            rest in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let mut message = encode_request(&request);
            let len = message.len();
            for end in 0..len {
                prop_assert_eq!(parse_request(&message[..end]), Ok(None));
            }
            message.extend(rest);
            prop_assert_eq!(parse_request(&message), Ok(Some((request, len))));
        }

        #[test]
        fn noise_is_read_the_same_however_it_is_cut(
            noise in prop::collection::vec(any::<u8>(), 0..300),
            head in prop::sample::select(vec![vec![], vec![5], vec![5, 1, 0, 3], vec![5, 1, 0, 4]]),
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
