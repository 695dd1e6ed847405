//! Names and their addresses: a stub resolver without sockets and without a clock.
//!
//! [`Resolver`] asks for both families of a name, apart, over the servers of its [`Sources`], and
//! tells who waits what RFC 8305 wants it to be told when. A name is asked for once however many
//! wait for it; a question goes from server to server until one answers or nobody has time left.

mod cache;
mod channels;
mod lookup;
pub mod message;
mod random;
mod resolver;
mod servers;
mod sources;

use std::net::IpAddr;

pub use self::channels::{CHANNELS_MAX, CHANNELS_MIN, ChannelId, Transport};
pub use self::resolver::{Action, Entropy, Resolver};
pub use self::sources::Sources;

use crate::outcome::Refusal;

/// What is known of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has addresses.
    Addresses {
        /// In the order to try them within each family.
        addresses: Vec<IpAddr>,
        /// Whether the other family's answer may still come: then a last answer follows.
        more: bool,
    },
    /// It has none.
    Failed(Failure),
}

impl Answer {
    /// Whether no other follows.
    pub fn is_last(&self) -> bool {
        !matches!(self, Answer::Addresses { more: true, .. })
    }
}

/// Why a name has no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no such name (NXDOMAIN).
    NotFound,
    /// The name has no address.
    NoAddress,
    /// No server could say.
    ServerFailed,
    /// No server said anything in time.
    TimedOut,
}

impl Failure {
    /// What the client is told.
    pub fn refusal(self) -> Refusal {
        Refusal::HostUnreachable
    }
}

/// What asking for a name comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It was known.
    Known(Answer),
    /// The answer will come.
    Pending,
    /// Too many questions are open.
    Full,
}

impl Asked {
    /// Whether an answer may still come.
    pub fn is_open(&self) -> bool {
        match self {
            Asked::Known(answer) => !answer.is_last(),
            Asked::Pending => true,
            Asked::Full => false,
        }
    }
}
