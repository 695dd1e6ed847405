//! How UDP associations behave.

use std::time::Duration;

use super::advertise::Advertise;
use super::choice::Choice;
use super::ports::PortRange;

/// How UDP associations behave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Those that clients send to.
    pub ports: PortRange,
    /// The addresses that clients are told to send to.
    pub advertise: Advertise,
    /// How long one lasts while nothing moves, in whole milliseconds and never zero; `None` is for
    /// as long as its control connection.
    pub idle: Option<Duration>,
    /// How many addresses that it has sent to one remembers, 1 or more.
    pub peers: usize,
    /// From where datagrams count as the client's.
    pub client_check: ClientCheck,
    /// Whose datagrams from outside the client is given.
    pub filter: Filter,
    /// What becomes of datagrams that a client sends in parts.
    pub fragments: Fragments,
}

/// From where datagrams count as the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCheck {
    /// From the address of its control connection and one port: that of the request if it fits, else
    /// that of the first valid datagram.
    Strict,
    /// From the address of its control connection; answers go to the latest port.
    Address,
    /// From anywhere; answers go to the latest source.
    Off,
}

/// Whose datagrams from outside a client is given; the filtering behaviours of RFC 4787 §5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Those of addresses that it has sent to.
    Address,
    /// Those of addresses and ports that it has sent to.
    AddressPort,
    /// Everybody's.
    EndpointIndependent,
}

/// What becomes of datagrams that a client sends in parts (RFC 1928 §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragments {
    /// They are put together.
    Reassemble,
    /// They are dropped.
    Drop,
}

impl Choice for ClientCheck {
    const KIND: &'static str = "check of clients";
    const ALL: &'static [Self] = &[ClientCheck::Strict, ClientCheck::Address, ClientCheck::Off];

    fn word(self) -> &'static str {
        match self {
            ClientCheck::Strict => "strict",
            ClientCheck::Address => "address",
            ClientCheck::Off => "off",
        }
    }
}

impl Choice for Filter {
    const KIND: &'static str = "filter";
    const ALL: &'static [Self] =
        &[Filter::Address, Filter::AddressPort, Filter::EndpointIndependent];
    const ELSEWHERE: &'static [(&'static str, Self)] = &[
        ("addressdependent", Filter::Address),
        ("addressandportdependent", Filter::AddressPort),
        ("fullcone", Filter::EndpointIndependent),
    ];

    fn word(self) -> &'static str {
        match self {
            Filter::Address => "address",
            Filter::AddressPort => "address-port",
            Filter::EndpointIndependent => "endpoint-independent",
        }
    }
}

impl Choice for Fragments {
    const KIND: &'static str = "way with fragments";
    const ALL: &'static [Self] = &[Fragments::Reassemble, Fragments::Drop];

    fn word(self) -> &'static str {
        match self {
            Fragments::Reassemble => "reassemble",
            Fragments::Drop => "drop",
        }
    }
}
