//! Questions and answers as they travel (RFC 1035, RFC 6891).

use std::net::IpAddr;

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::message::RecordSection;
use domain::base::name::ParsedName;
use domain::base::{Message, ToName};
use domain::rdata::{A, Aaaa, Cname, Soa};

use crate::proto::Host;

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4: A records.
    V4 = 0,
    /// IPv6: AAAA records.
    V6 = 1,
}

/// A question as it goes out: an answer must repeat it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What tells it from others on the same channel.
    pub id: u16,
    /// The name in the letters that are sent, without the last dot.
    pub name: Box<str>,
    /// What is asked of it.
    pub family: Family,
    /// Whether the letters must come back as they were sent.
    pub is_exact: bool,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The name has these, for so many seconds.
    Addresses {
        /// At least one, in the answer's order.
        addresses: Vec<IpAddr>,
        /// How many aliases led to them.
        links: u8,
        /// The least of all that led to them.
        ttl: u32,
    },
    /// The name is an alias of another, which is to be asked for.
    Alias {
        /// That name, fit to be asked for.
        name: Box<str>,
        /// How many aliases lead to it.
        links: u8,
        /// The least of theirs.
        ttl: u32,
    },
    /// The name has none.
    None {
        /// Whether it has anything else.
        exists: bool,
        /// How long that holds (RFC 2308 section 5), if it is said.
        ttl: Option<u32>,
    },
    /// There is more than fits into a datagram.
    Truncated,
    /// This server is of no help.
    Failed,
    /// This server may not know EDNS.
    NoEdns,
}

/// Why a message is no answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// It is to another.
    Stranger,
    /// Its question is the same but for capital and small letters.
    Letters,
    /// It breaks off, or is no message at all.
    Garbage,
}

/// What we can take in a datagram: less than any path's MTU (dnsflagday.net/2020).
const DATAGRAM_MAX: u16 = 1232;
/// How many aliases are followed in one message.
const LINKS_MAX: u8 = 8;
/// How much of an answer is read.
const RECORDS_MAX: usize = 256;
/// How many addresses of a name are kept.
const ADDRESSES_MAX: usize = 64;

const HEADER_BYTES: usize = 12;

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

impl Question {
    /// Appends the query: recursion desired, and how much we can take if `edns`.
    pub fn encode(&self, edns: bool, into: &mut Vec<u8>) {
        const RECURSION_DESIRED: [u8; 2] = [1, 0];
        into.extend(self.id.to_be_bytes());
        into.extend(RECURSION_DESIRED);
        into.extend([0, 1, 0, 0, 0, 0, 0, u8::from(edns)]);
        for label in self.name.split('.') {
            into.push(label.len() as u8);
            into.extend(label.as_bytes());
        }
        into.push(0);
        into.extend(self.family.rtype().to_int().to_be_bytes());
        into.extend(Class::IN.to_int().to_be_bytes());
        if edns {
            into.push(0);
            into.extend(Rtype::OPT.to_int().to_be_bytes());
            into.extend(DATAGRAM_MAX.to_be_bytes());
            into.extend([0; 6]);
        }
    }

    /// Whether this is its name, and in the same letters.
    fn compare(&self, name: &ParsedName<&[u8]>) -> Result<(), Mismatch> {
        let mut labels = name.iter().filter(|label| !label.is_root());
        let mut same_letters = true;
        for ours in self.name.split('.') {
            let theirs = labels.next().ok_or(Mismatch::Stranger)?;
            if !ours.as_bytes().eq_ignore_ascii_case(theirs.as_slice()) {
                return Err(Mismatch::Stranger);
            }
            same_letters &= ours.as_bytes() == theirs.as_slice();
        }
        match labels.next() {
            Some(_) => Err(Mismatch::Stranger),
            None if self.is_exact && !same_letters => Err(Mismatch::Letters),
            None => Ok(()),
        }
    }
}

/// The name in capital and small letters as `bits` have it: whoever answers has seen them
/// (draft-vixie-dnsext-dns0x20).
pub fn mix_letters(name: &str, bits: [u8; 32]) -> Box<str> {
    let mix = |(place, letter): (usize, char)| match bits[place / 8 % 32] >> (place % 8) & 1 {
        0 => letter.to_ascii_lowercase(),
        _ => letter.to_ascii_uppercase(),
    };
    name.chars().enumerate().map(mix).collect::<String>().into()
}

/// The id of the question that a message answers, if it answers any.
pub fn answer_id(message: &[u8]) -> Option<u16> {
    let [high, low, flags, ..] = *message else { return None };
    const ANSWER: u8 = 0x80;
    const OPCODE: u8 = 0x78;
    let is_answer = message.len() >= HEADER_BYTES && flags & (ANSWER | OPCODE) == ANSWER;
    is_answer.then_some(u16::from_be_bytes([high, low]))
}

/// Reads the answer to `question`.
pub fn read(message: &[u8], question: &Question) -> Result<Reply, Mismatch> {
    if answer_id(message) != Some(question.id) {
        return Err(Mismatch::Stranger);
    }
    let message = Message::from_octets(message).map_err(|_| Mismatch::Garbage)?;
    let header = message.header();
    let is_refused = matches!(header.rcode(), Rcode::FORMERR | Rcode::NOTIMP | Rcode::SERVFAIL);
    // Some say so without repeating what they did not understand.
    if !(is_refused && message.header_counts().qdcount() == 0) {
        check_question(&message, question)?;
    }
    match header.rcode() {
        _ if header.tc() => Ok(Reply::Truncated),
        Rcode::FORMERR | Rcode::NOTIMP => Ok(Reply::NoEdns),
        Rcode::NOERROR => read_records(&message, question).ok_or(Mismatch::Garbage),
        Rcode::NXDOMAIN => Ok(Reply::None { exists: false, ttl: negative_ttl(&message) }),
        _ => Ok(Reply::Failed),
    }
}

fn check_question(message: &Message<&[u8]>, question: &Question) -> Result<(), Mismatch> {
    let mut questions = message.question();
    let first = questions.next().ok_or(Mismatch::Stranger)?.map_err(|_| Mismatch::Garbage)?;
    let same_kind = (first.qtype(), first.qclass()) == (question.family.rtype(), Class::IN);
    if !same_kind || message.header_counts().qdcount() != 1 {
        return Err(Mismatch::Stranger);
    }
    question.compare(&first.qname().deref_octets())
}

/// What is worth knowing of an answer section.
#[derive(Default)]
struct Records<'a> {
    aliases: Vec<Record<'a, ParsedName<&'a [u8]>>>,
    addresses: Vec<Record<'a, IpAddr>>,
}

struct Record<'a, T> {
    owner: ParsedName<&'a [u8]>,
    data: T,
    ttl: u32,
}

/// Follows the aliases to addresses, as far as the message leads. `None`: it breaks off.
fn read_records(message: &Message<&[u8]>, question: &Question) -> Option<Reply> {
    let records = Records::read(message.answer().ok()?, question.family)?;
    let mut owner = message.first_question()?.into_qname();
    let (mut links, mut ttl) = (0, u32::MAX);
    while let Some(alias) = records.aliases.iter().find(|it| it.owner.name_eq(&owner)) {
        if links == LINKS_MAX {
            return Some(Reply::Failed);
        }
        (links, ttl, owner) = (links + 1, ttl.min(alias.ttl), alias.data);
    }
    let of_owner =
        records.addresses.iter().filter(|it| it.owner.name_eq(&owner)).take(ADDRESSES_MAX);
    let ttl = of_owner.clone().fold(ttl, |ttl, it| ttl.min(it.ttl));
    let addresses: Vec<IpAddr> = of_owner.map(|it| it.data).collect();
    if !addresses.is_empty() {
        return Some(Reply::Addresses { addresses, links, ttl });
    }
    match negative_ttl(message) {
        None if links > 0 => Some(match host_name(&owner) {
            Some(name) => Reply::Alias { name, links, ttl },
            None => Reply::Failed,
        }),
        negative => Some(Reply::None { exists: true, ttl: negative.map(|it| it.min(ttl)) }),
    }
}

impl<'a> Records<'a> {
    fn read(section: RecordSection<'a, &'a [u8]>, family: Family) -> Option<Records<'a>> {
        let mut records = Records::default();
        for record in section.take(RECORDS_MAX) {
            let record = record.ok()?;
            if record.class() != Class::IN {
                continue;
            }
            let (owner, ttl) = (record.owner().deref_octets(), seconds(record.ttl().as_secs()));
            match record.rtype() {
                Rtype::CNAME => {
                    let alias = record.to_record::<Cname<_>>().ok()??;
                    let data = alias.data().cname().deref_octets();
                    records.aliases.push(Record { owner, data, ttl });
                }
                Rtype::A if family == Family::V4 => {
                    let data = record.to_record::<A>().ok()??.data().addr().into();
                    records.addresses.push(Record { owner, data, ttl });
                }
                Rtype::AAAA if family == Family::V6 => {
                    let data = record.to_record::<Aaaa>().ok()??.data().addr().into();
                    records.addresses.push(Record { owner, data, ttl });
                }
                _ => {}
            }
        }
        Some(records)
    }
}

/// How long it may be believed that there is nothing: what the zone's SOA says, if it is there.
fn negative_ttl(message: &Message<&[u8]>) -> Option<u32> {
    let authority = message.authority().ok()?;
    let mut soas = authority.take(RECORDS_MAX).filter_map(|record| {
        let record = record.ok()?;
        let ttl = seconds(record.ttl().as_secs());
        let soa = record.to_record::<Soa<_>>().ok()??;
        Some(ttl.min(seconds(soa.data().minimum().as_secs())))
    });
    soas.next()
}

/// A time to live; with the top bit set it is none (RFC 2181 section 8).
fn seconds(ttl: u32) -> u32 {
    if ttl >> 31 == 0 { ttl } else { 0 }
}

/// The name in small letters, if it is one that can be asked for.
fn host_name(name: &ParsedName<&[u8]>) -> Option<Box<str>> {
    let labels = name.iter().filter(|label| !label.is_root());
    let labels: Option<Vec<&str>> =
        labels.map(|label| std::str::from_utf8(label.as_slice()).ok()).collect();
    let text = labels?.join(".").to_ascii_lowercase();
    match Host::parse_name(text.as_bytes()) {
        Ok(Host::Name(name)) => Some(name.as_str().into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
