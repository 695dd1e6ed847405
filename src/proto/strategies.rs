//! Values of the protocols for property tests.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::{Command, Dialect, Host, Request, Target};

/// The text of a name: its last label starts with a letter, so that it is never a number.
pub(crate) fn name_text() -> impl Strategy<Value = String> {
    let label = "[a-zA-Z0-9_-]{1,20}";
    let labels = prop::collection::vec(label, 0..6);
    (labels, "[a-zA-Z_-][a-zA-Z0-9_-]{0,62}", any::<bool>()).prop_map(|(mut labels, last, dot)| {
        labels.push(last);
        labels.join(".") + if dot { "." } else { "" }
    })
}

/// Any host, the ranges that SOCKS4a gives a meaning of its own more often than chance would.
pub(crate) fn host() -> impl Strategy<Value = Host> {
    prop_oneof![
        any::<IpAddr>().prop_map(Host::from),
        any::<u8>().prop_map(|last| Host::Ip(IpAddr::V4(Ipv4Addr::new(0, 0, 0, last)))),
        name_text().prop_map(|text| Host::parse_name(text.as_bytes()).unwrap()),
    ]
}

/// Any request that can be said in the dialect.
pub(crate) fn request(dialect: Dialect) -> impl Strategy<Value = Request> {
    let commands = match dialect {
        Dialect::Socks4 => vec![Command::Connect, Command::Bind],
        Dialect::Socks5 => vec![Command::Connect, Command::Bind, Command::UdpAssociate],
    };
    (prop::sample::select(commands), host(), 1u16..).prop_map(move |(command, host, port)| {
        Request { command, target: Target { host, port }, dialect }
    })
}

/// A field behind a length octet, its extreme lengths more often than chance would.
pub(crate) fn field() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..=255),
        prop::collection::vec(any::<u8>(), 0..2),
        prop::collection::vec(any::<u8>(), 254..=255),
    ]
}
