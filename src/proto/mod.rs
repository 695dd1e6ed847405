//! Bytes and values of the SOCKS protocols: no socket, no clock.
//!
//! Every `parse_*` reads the front of what has arrived and answers [`Parsed`]. Mistakes of framing
//! (version, command, address type, a field that is too long) are found with the first byte that
//! shows them; what a whole message asks for (its name, its port) is judged once it is whole.

pub mod address;
pub mod gssapi;
mod reader;
pub mod socks4;
pub mod socks5;
#[cfg(test)]
pub(crate) mod strategies;
pub mod udp;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

pub use address::{Host, Name, NameError, Target, canonical};

use crate::outcome::Refusal;

/// A parsed value and how many bytes it took, or `None` while the message is incomplete: nothing
/// is consumed then, and the same bytes are to be given again with more behind them.
pub type Parsed<T, E> = Result<Option<(T, usize)>, E>;

/// The protocol a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// SOCKS4 or SOCKS4a.
    Socks4,
    /// SOCKS5, RFC 1928.
    Socks5,
}

/// What a request asks for (RFC 1928 section 4; SOCKS4 knows the first two).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Command {
    /// A connection to the target.
    Connect = 1,
    /// A listener that the target may connect to.
    Bind = 2,
    /// A relay for datagrams.
    UdpAssociate = 3,
}

/// A well-formed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// With whom; its port is never 0 for [`Command::Connect`].
    pub target: Target,
    /// How the client has to be answered.
    pub dialect: Dialect,
}

impl Request {
    /// Judges what a request with whole framing asks for.
    fn new(
        dialect: Dialect,
        command: Command,
        host: Result<Host, NameError>,
        port: u16,
    ) -> Result<Request, Refusal> {
        let host = match host {
            // DST of an association is only a hint (RFC 1928 section 4), and PySocks writes the
            // unspecified address as the name "0".
            Err(NameError::NotStrictLiteral) if command == Command::UdpAssociate => {
                Host::Ip(UNSPECIFIED.ip())
            }
            host => host.map_err(NameError::refusal)?,
        };
        if command == Command::Connect && port == 0 {
            return Err(Refusal::General);
        }
        Ok(Request { command, target: Target { host, port }, dialect })
    }
}

/// A request that cannot be granted whatever the rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// How the client has to be answered.
    pub dialect: Dialect,
    /// What it is told.
    pub refusal: Refusal,
}

impl Rejected {
    /// The reply that says so.
    pub fn reply(self) -> Reply {
        Reply::Refused { dialect: self.dialect, refusal: self.refusal }
    }
}

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done; `bnd` is the address on our side (of the peer in the second reply to a BIND).
    Granted {
        /// The protocol to say it in.
        dialect: Dialect,
        /// BND.ADDR and BND.PORT.
        bnd: SocketAddr,
    },
    /// Not done, and the connection ends.
    Refused {
        /// The protocol to say it in.
        dialect: Dialect,
        /// Why; SOCKS4 has one code for all.
        refusal: Refusal,
    },
}

impl Reply {
    /// The reply's bytes.
    ///
    /// SOCKS5 replies always have their full length and an IP address (RFC 1928 section 6): 10
    /// bytes, or 22 with an IPv6 BND. SOCKS4 replies have 8, and 0.0.0.0 for an IPv6 BND.
    pub fn encode(&self) -> Message {
        match *self {
            Reply::Granted { dialect: Dialect::Socks5, bnd } => socks5::encode_reply(0, bnd),
            Reply::Granted { dialect: Dialect::Socks4, bnd } => {
                socks4::encode_reply(socks4::GRANTED, bnd)
            }
            Reply::Refused { dialect: Dialect::Socks5, refusal } => {
                socks5::encode_reply(refusal.rep(), UNSPECIFIED)
            }
            Reply::Refused { dialect: Dialect::Socks4, .. } => {
                socks4::encode_reply(socks4::REFUSED, UNSPECIFIED)
            }
        }
    }
}

const UNSPECIFIED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// One message of ours to a client, held inline.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Message {
    octets: [u8; Message::CAPACITY],
    len: u8,
}

impl Message {
    /// The longest message: a SOCKS5 reply, or the header of a datagram, with an IPv6 address.
    pub const CAPACITY: usize = 22;

    /// No message at all.
    pub const EMPTY: Message = Message { octets: [0; Message::CAPACITY], len: 0 };

    /// A message of these octets.
    pub const fn new<const N: usize>(octets: [u8; N]) -> Message {
        const { assert!(N <= Message::CAPACITY) };
        let mut message = Message::EMPTY;
        let mut i = 0;
        while i < N {
            message.octets[i] = octets[i];
            i += 1;
        }
        message.len = N as u8;
        message
    }

    /// The bytes to send.
    pub fn as_slice(&self) -> &[u8] {
        &self.octets[..usize::from(self.len)]
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({:02x?})", self.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(dialect: Dialect, bnd: &str) -> Vec<u8> {
        let bnd = bnd.parse().unwrap();
        Reply::Granted { dialect, bnd }.encode().as_slice().to_vec()
    }

    #[test]
    fn socks5_replies_have_their_full_length_and_an_address() {
        assert_eq!(
            granted(Dialect::Socks5, "192.0.2.7:4660"),
            [5, 0, 0, 1, 192, 0, 2, 7, 0x12, 0x34]
        );
        assert_eq!(
            granted(Dialect::Socks5, "[2001:db8::9]:80"),
            [5, 0, 0, 4, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 80]
        );
        for refusal in Refusal::ALL {
            let reply = Reply::Refused { dialect: Dialect::Socks5, refusal }.encode();
            assert_eq!(reply.as_slice(), [5, refusal.rep(), 0, 1, 0, 0, 0, 0, 0, 0]);
        }
    }

    #[test]
    fn a_mapped_bnd_is_sent_as_ipv4() {
        assert_eq!(
            granted(Dialect::Socks5, "[::ffff:192.0.2.7]:80"),
            [5, 0, 0, 1, 192, 0, 2, 7, 0, 80]
        );
        assert_eq!(
            granted(Dialect::Socks4, "[::ffff:192.0.2.7]:80"),
            [0, 0x5a, 0, 80, 192, 0, 2, 7]
        );
    }

    #[test]
    fn socks4_replies_have_eight_bytes() {
        assert_eq!(granted(Dialect::Socks4, "192.0.2.7:80"), [0, 0x5a, 0, 80, 192, 0, 2, 7]);
        assert_eq!(granted(Dialect::Socks4, "[2001:db8::9]:80"), [0, 0x5a, 0, 80, 0, 0, 0, 0]);
        for refusal in Refusal::ALL {
            let reply = Reply::Refused { dialect: Dialect::Socks4, refusal }.encode();
            assert_eq!(reply.as_slice(), [0, 0x5b, 0, 0, 0, 0, 0, 0]);
        }
    }

    #[test]
    fn a_message_holds_what_it_was_made_of() {
        assert!(Message::EMPTY.is_empty());
        assert_eq!(Message::EMPTY.as_slice(), []);
        assert_eq!(Message::new([5, 0xff]).as_slice(), [5, 0xff]);
        assert_eq!(Message::new([7; Message::CAPACITY]).as_slice(), [7; Message::CAPACITY]);
    }
}
