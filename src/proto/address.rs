//! Whom a request is about: addresses in one canonical form, and names fit for a resolver.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::outcome::Refusal;

/// The form addresses have everywhere inside: `::ffff:a.b.c.d` is the IPv4 address it stands for,
/// so that no rule for IPv4 can be walked around by writing it as IPv6.
pub fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// DST.ADDR.
    pub host: Host,
    /// DST.PORT.
    pub port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

/// An address, or a name that has yet to be resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A literal, in [`canonical`] form.
    Ip(IpAddr),
    /// A name.
    Name(Name),
}

impl Host {
    /// Reads the text of a DOMAINNAME (RFC 1928 section 5).
    ///
    /// Strict literals are addresses: a dotted quad of four decimal numbers without leading zeros,
    /// IPv6 text (RFC 4291 section 2.2), or that in brackets. What other resolvers would take for
    /// an address (`127.1`, `0x7f.1`, `2130706433`) is an error, and never becomes a name.
    pub fn parse_name(octets: &[u8]) -> Result<Host, NameError> {
        let text = std::str::from_utf8(octets).map_err(|_| NameError::Malformed)?;
        if let Some(ip) = parse_literal(text) {
            return Ok(Host::from(ip));
        }
        let visible = text.strip_suffix('.').unwrap_or(text);
        if visible.len() > Name::VISIBLE_MAX || !visible.split('.').all(is_label) {
            return Err(NameError::Malformed);
        }
        if visible.rsplit('.').next().is_some_and(is_number) {
            return Err(NameError::NotStrictLiteral);
        }
        Ok(Host::Name(Name(text.into())))
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Host {
        Host::Ip(canonical(ip))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Ip(ip) => ip.fmt(f),
            Host::Name(name) => name.fmt(f),
        }
    }
}

/// A host name as the client sent it: labels of letters, digits, `-` and `_`, each of 1 to 63, at
/// most 253 characters, with or without the trailing dot. Never an address in any notation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// The most characters a name has without its trailing dot (RFC 1035 section 2.3.4, as text).
    const VISIBLE_MAX: usize = 253;

    /// The name as it was sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a DOMAINNAME is neither an address nor a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// It is empty, too long, or has characters or labels that no host name has.
    Malformed,
    /// Its last label is a number, so that it can only be an address, and it is not written as one.
    NotStrictLiteral,
}

impl NameError {
    /// What the client is told.
    pub fn refusal(self) -> Refusal {
        match self {
            NameError::Malformed => Refusal::General,
            NameError::NotStrictLiteral => Refusal::HostUnreachable,
        }
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NameError::Malformed => "not a host name",
            NameError::NotStrictLiteral => "ends in a number but is not a dotted IPv4 address",
        })
    }
}

impl Error for NameError {}

fn parse_literal(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    }
}

fn is_label(label: &str) -> bool {
    let fits = (1..=63).contains(&label.len());
    fits && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
}

/// Whether `inet_aton` could read this label: decimal, octal, or `0x` and hexadecimal.
fn is_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) => digits.bytes().all(|c| c.is_ascii_hexdigit()),
        None => label.bytes().all(|c| c.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::proto::strategies;

    fn parse(text: &str) -> Result<Host, NameError> {
        Host::parse_name(text.as_bytes())
    }

    #[test]
    fn strict_literals_are_addresses_in_canonical_form() {
        for (text, ip) in [
            ("127.0.0.1", "127.0.0.1"),
            ("0.0.0.0", "0.0.0.0"),
            ("255.255.255.255", "255.255.255.255"),
            ("::1", "::1"),
            ("::", "::"),
            ("2001:DB8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("64:ff9b::192.0.2.1", "64:ff9b::c000:201"),
            ("::ffff:127.0.0.1", "127.0.0.1"),
            ("::ffff:7f00:1", "127.0.0.1"),
            ("[::ffff:10.0.0.1]", "10.0.0.1"),
        ] {
            assert_eq!(parse(text), Ok(Host::Ip(ip.parse().unwrap())), "{text}");
        }
    }

    #[test]
    fn names_are_kept_as_sent() {
        let longest_label = "a".repeat(63);
        let longest = format!("{0}.{0}.{0}.{1}", longest_label, "b".repeat(61));
        let longest_with_dot = format!("{longest}.");
        assert_eq!(longest.len(), 253);
        for text in [
            "example.com",
            "EXAMPLE.com.",
            "localhost",
            "_dmarc.example",
            "xn--bcher-kva.example",
            "-a-.b",
            "1.2.3.4.example",
            "0xg",
            "x0",
            "1a",
            "0x1.0y",
            longest_label.as_str(),
            longest.as_str(),
            longest_with_dot.as_str(),
        ] {
            match parse(text) {
                Ok(Host::Name(name)) => assert_eq!(name.as_str(), text),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_name_is_malformed() {
        let long_label = "a".repeat(64);
        let long = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(62));
        let long_with_dot = format!("{long}.");
        for text in [
            "",
            ".",
            "..",
            ".a",
            "a..b",
            "a..",
            "a b",
            " a",
            "a\0",
            "localhost\0evil",
            "a\r\n",
            "a\x7f",
            "b\u{fc}cher.example",
            "a/b",
            "a:80",
            "user@host",
            "*.example",
            "[::1",
            "::1]",
            "[]",
            "[127.0.0.1]",
            "[::1].",
            "::1.",
            "fe80::1%eth0",
            "::ffff:127.0.0.01",
            "1:2:3:4:5:6:7:8:9",
            "127.0.0.1 ",
            long_label.as_str(),
            long.as_str(),
            long_with_dot.as_str(),
        ] {
            assert_eq!(parse(text), Err(NameError::Malformed), "{text:?}");
        }
        assert_eq!(Host::parse_name(b"\xff\xfe"), Err(NameError::Malformed));
        assert_eq!(NameError::Malformed.refusal(), Refusal::General);
    }

    #[test]
    fn loose_literals_never_become_names() {
        for text in [
            "0",
            "1",
            "0x",
            "0x.",
            "0X7F",
            "0x7f000001",
            "0x7f.1",
            "127.1",
            "127.0.1",
            "2130706433",
            "0177.0.0.1",
            "127.0.0.01",
            "127.0.0.1.",
            "00.0.0.0",
            "256.0.0.1",
            "1.2.3.4.5",
            "example.0",
            "example.0xdead.",
        ] {
            assert_eq!(parse(text), Err(NameError::NotStrictLiteral), "{text}");
        }
        assert_eq!(NameError::NotStrictLiteral.refusal(), Refusal::HostUnreachable);
    }

    #[test]
    fn targets_are_shown_as_one_would_type_them() {
        let shown = |text| Target { host: parse(text).unwrap(), port: 80 }.to_string();
        assert_eq!(shown("192.0.2.1"), "192.0.2.1:80");
        assert_eq!(shown("2001:db8::1"), "[2001:db8::1]:80");
        assert_eq!(shown("a.example."), "a.example.:80");
    }

    proptest! {
        #[test]
        fn any_name_the_grammar_allows_is_kept(text in strategies::name_text()) {
            match parse(&text) {
                Ok(Host::Name(name)) => prop_assert_eq!(name.as_str(), text),
                other => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn any_address_is_read_back(v4: Ipv4Addr, v6: Ipv6Addr) {
            prop_assert_eq!(parse(&v4.to_string()), Ok(Host::from(IpAddr::V4(v4))));
            let expected = Ok(Host::from(IpAddr::V6(v6)));
            prop_assert_eq!(&parse(&v6.to_string()), &expected);
            prop_assert_eq!(&parse(&format!("[{v6}]")), &expected);
            let mapped = v4.to_ipv6_mapped();
            prop_assert_eq!(parse(&mapped.to_string()), Ok(Host::Ip(IpAddr::V4(v4))));
        }

        #[test]
        fn whatever_is_accepted_is_clean(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Host::Name(name)) = Host::parse_name(&octets) {
                let clean = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
                prop_assert!(name.as_str().bytes().all(clean));
                prop_assert!((1..=254).contains(&name.as_str().len()));
            }
        }
    }
}
