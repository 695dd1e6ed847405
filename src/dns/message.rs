//! Questions and answers on the wire (RFC 1035). Whatever a server sends, reading it takes time
//! and memory in proportion to its length.

use std::net::IpAddr;

use domain::base::iana::{Class, Opcode, Rcode, Rtype};
use domain::base::{Header, Message, ParsedName};

use records::{Records, check_name};

mod records;
#[cfg(test)]
mod tests;

pub use records::{ADDRESSES_MAX, LINKS_MAX};

/// The longest answer over UDP that is asked for: what fits every path unfragmented (DNS flag day
/// 2020).
pub const UDP_SIZE: u16 = 1232;

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4: A records.
    V4,
    /// IPv6: AAAA records.
    V6,
}

impl Family {
    /// The one that this is not.
    pub fn other(self) -> Family {
        match self {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        }
    }

    fn rtype(self) -> Rtype {
        match self {
            Family::V4 => Rtype::A,
            Family::V6 => Rtype::AAAA,
        }
    }
}

/// One question as it went out: an answer must match it exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The message's id.
    pub id: u16,
    /// A host name in the letters that are sent, without the trailing dot.
    pub name: Box<str>,
    /// Which addresses are asked for.
    pub family: Family,
    /// Whether the letters must come back as they were sent.
    pub is_exact: bool,
}

impl Question {
    /// Appends the query, for recursion, with EDNS (RFC 6891) if wanted.
    pub fn encode(&self, edns: bool, into: &mut Vec<u8>) {
        const RECURSION_DESIRED: u16 = 0x0100;
        for field in [self.id, RECURSION_DESIRED, 1, 0, 0, u16::from(edns)] {
            into.extend(field.to_be_bytes());
        }
        for label in self.name.split('.') {
            debug_assert!((1..=63).contains(&label.len()), "{:?} is no host name", self.name);
            into.push(label.len() as u8);
            into.extend(label.as_bytes());
        }
        into.push(0);
        into.extend(self.family.rtype().to_int().to_be_bytes());
        into.extend(Class::IN.to_int().to_be_bytes());
        if edns {
            into.push(0);
            into.extend(Rtype::OPT.to_int().to_be_bytes());
            into.extend(UDP_SIZE.to_be_bytes());
            into.extend([0; 6]);
        }
    }

    /// Whether the message repeats this question. The name there, to start from.
    fn check<'a>(&self, message: &'a Message<[u8]>) -> Result<ParsedName<&'a [u8]>, Mismatch> {
        check_name(message.as_slice(), size_of::<[u16; 6]>())?;
        let asked = message.sole_question().map_err(|_| Mismatch::Garbage)?;
        if asked.qtype() != self.family.rtype() || asked.qclass() != Class::IN {
            return Err(Mismatch::Stranger);
        }
        let name = asked.into_qname();
        if !self.is_named(&name, <[u8]>::eq_ignore_ascii_case) {
            return Err(Mismatch::Stranger);
        }
        if self.is_exact && !self.is_named(&name, |sent, came| sent == came) {
            return Err(Mismatch::Letters);
        }
        Ok(name)
    }

    fn is_named(&self, name: &ParsedName<&[u8]>, is_same: fn(&[u8], &[u8]) -> bool) -> bool {
        let mut sent = self.name.split('.').map(str::as_bytes);
        let mut came = name.iter().filter(|label| !label.is_root());
        loop {
            match (sent.next(), came.next()) {
                (Some(sent), Some(came)) if is_same(sent, came.as_slice()) => {}
                (None, None) => return true,
                _ => return false,
            }
        }
    }
}

/// Mixes upper and lower case in a name: more that a forged answer has to guess (0x20).
pub fn mix_letters(name: &str, mut random: impl FnMut() -> u64) -> Box<str> {
    let mut mixed = String::with_capacity(name.len());
    let mut bits = 0;
    for (at, c) in name.chars().enumerate() {
        if at % 64 == 0 {
            bits = random();
        }
        let is_upper = bits >> (at % 64) & 1 == 1;
        mixed.push(if is_upper { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() });
    }
    mixed.into()
}

/// The id by which an answer's question is found; `None` if this is no answer to a query.
pub fn answer_id(message: &[u8]) -> Option<u16> {
    let header = Message::from_slice(message).ok()?.header();
    (header.qr() && header.opcode() == Opcode::QUERY).then(|| header.id())
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Addresses of the name.
    Addresses {
        /// In the answer's order, each once, in canonical form, at least one.
        addresses: Vec<IpAddr>,
        /// How many aliases were followed to them.
        links: u8,
        /// Seconds they hold.
        ttl: u32,
    },
    /// An alias whose addresses are not in this message: ask for it. The name is in small letters.
    Alias {
        /// The name to ask for, without the trailing dot.
        name: Box<str>,
        /// How many aliases were followed to it.
        links: u8,
        /// Seconds they hold.
        ttl: u32,
    },
    /// There is no such name, or it has no such address.
    None {
        /// Whether there is such a name.
        exists: bool,
        /// Seconds that holds (RFC 2308), if the server says so.
        ttl: Option<u32>,
    },
    /// The rest is to be had over TCP.
    Truncated,
    /// This server is of no use for the question.
    Failed,
    /// It does not understand the question: if EDNS was in it, perhaps that is why.
    NoEdns,
}

/// Why a message is not the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// It is about something else.
    Stranger,
    /// Only the case of the letters is not as it was sent.
    Letters,
    /// It is malformed.
    Garbage,
}

/// Reads the answer to a question.
pub fn read(message: &[u8], question: &Question) -> Result<Reply, Mismatch> {
    if answer_id(message) != Some(question.id) {
        return Err(Mismatch::Stranger);
    }
    let message = Message::from_slice(message).map_err(|_| Mismatch::Stranger)?;
    let header = message.header();
    let name = match message.header_counts().qdcount() {
        0 => return bare_error(header).ok_or(Mismatch::Stranger),
        1 => question.check(message)?,
        _ => return Err(Mismatch::Stranger),
    };
    if header.tc() {
        return Ok(Reply::Truncated);
    }
    match header.rcode() {
        Rcode::NOERROR | Rcode::NXDOMAIN => {
            let records = Records::read(message, question.family)?;
            Ok(records.reply(name, header.rcode()))
        }
        Rcode::FORMERR | Rcode::NOTIMP => Ok(Reply::NoEdns),
        _ => Ok(Reply::Failed),
    }
}

/// Some servers leave out a question that they cannot read or answer.
fn bare_error(header: Header) -> Option<Reply> {
    match header.rcode() {
        Rcode::FORMERR | Rcode::NOTIMP => Some(Reply::NoEdns),
        Rcode::SERVFAIL => Some(Reply::Failed),
        _ => None,
    }
}
