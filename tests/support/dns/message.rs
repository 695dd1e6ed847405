//! DNS messages as bytes, written from RFC 1035 and independent of what the server reads them with.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

pub const A: u16 = 1;
pub const CNAME: u16 = 5;
pub const SOA: u16 = 6;
pub const AAAA: u16 = 28;
const OPT: u16 = 41;
const IN: u16 = 1;

pub const FORMERR: u8 = 1;
pub const SERVFAIL: u8 = 2;
pub const NXDOMAIN: u8 = 3;
pub const NOTIMP: u8 = 4;
pub const REFUSED: u8 = 5;

/// How long records hold where a test does not care.
pub const TTL: u32 = 300;

const HEADER_LEN: usize = 12;
const ANSWERED: u16 = 0x8180;
const TRUNCATED: u16 = 0x0200;
/// Where the name of the question stands in every message that has one.
const POINTER_TO_QUESTION: [u8; 2] = [0xc0, HEADER_LEN as u8];

/// A question as it was heard.
#[derive(Clone, Debug)]
pub struct Question {
    /// In its letters, without the last dot.
    pub name: String,
    /// [`A`] or [`AAAA`].
    pub kind: u16,
    pub id: u16,
    pub from: SocketAddr,
    pub over_tcp: bool,
    /// What the other side can take, where it says so.
    pub edns: Option<u16>,
    pub at: Instant,
}

impl Question {
    /// Reads a message that is one well-formed question, or says what is wrong with it.
    pub fn read(message: &[u8], from: SocketAddr, over_tcp: bool) -> Result<Question, String> {
        let mut reader = Reader(message);
        let id = reader.number()?;
        let flags = reader.number()?;
        let counts = [reader.number()?, reader.number()?, reader.number()?, reader.number()?];
        if flags != 0x0100 || counts[..3] != [1, 0, 0] || counts[3] > 1 {
            return Err(format!("flags {flags:04x}, counts {counts:?}"));
        }
        let name = reader.name()?;
        let (kind, class) = (reader.number()?, reader.number()?);
        if ![A, AAAA].contains(&kind) || class != IN {
            return Err(format!("kind {kind}, class {class}"));
        }
        let edns = if counts[3] == 1 { Some(reader.opt()?) } else { None };
        if !reader.0.is_empty() {
            return Err(format!("{} bytes too many", reader.0.len()));
        }
        Ok(Question { name, kind, id, from, over_tcp, edns, at: Instant::now() })
    }

    /// The name in small letters.
    pub fn lower_name(&self) -> String {
        self.name.to_ascii_lowercase()
    }

    /// An answer to it without a record so far.
    pub fn answer(&self) -> Message {
        Message {
            id: self.id,
            flags: ANSWERED,
            name: self.name.clone(),
            kind: self.kind,
            answers: Vec::new(),
            authority: Vec::new(),
        }
    }

    /// Those of these addresses that are of the family asked for; if there are none, that holds as
    /// long as they would.
    pub fn addresses(&self, addresses: &[&str]) -> Message {
        let addresses = addresses.iter().map(|text| text.parse::<IpAddr>().expect("an address"));
        let of_family = addresses.filter(|ip| ip.is_ipv4() == (self.kind == A));
        let message =
            of_family.fold(self.answer(), |message, ip| message.address(&self.name, TTL, ip));
        if message.answers.is_empty() { message.soa(TTL, TTL) } else { message }
    }

    /// A failure without a record.
    pub fn failure(&self, code: u8) -> Message {
        self.answer().code(code)
    }
}

/// An answer, to be changed into whatever a test needs.
#[derive(Clone)]
pub struct Message {
    id: u16,
    flags: u16,
    name: String,
    kind: u16,
    answers: Vec<Vec<u8>>,
    authority: Vec<Vec<u8>>,
}

impl Message {
    pub fn address(mut self, owner: &str, ttl: u32, ip: IpAddr) -> Message {
        let record = match ip {
            IpAddr::V4(ip) => self.record(owner, A, ttl, &ip.octets()),
            IpAddr::V6(ip) => self.record(owner, AAAA, ttl, &ip.octets()),
        };
        self.answers.push(record);
        self
    }

    pub fn cname(mut self, owner: &str, ttl: u32, target: &str) -> Message {
        let record = self.record(owner, CNAME, ttl, &encoded(target));
        self.answers.push(record);
        self
    }

    /// The start of authority that says how long it may be believed that there is nothing.
    pub fn soa(mut self, ttl: u32, minimum: u32) -> Message {
        let mut data = [encoded("ns.example"), encoded("admin.example")].concat();
        for number in [1, 3600, 600, 86400, minimum] {
            data.extend(number.to_be_bytes());
        }
        let record = self.record("example", SOA, ttl, &data);
        self.authority.push(record);
        self
    }

    /// A record as these bytes, whatever they are.
    pub fn raw_answer(mut self, record: Vec<u8>) -> Message {
        self.answers.push(record);
        self
    }

    pub fn code(mut self, code: u8) -> Message {
        self.flags |= u16::from(code);
        self
    }

    pub fn truncated(mut self) -> Message {
        self.flags |= TRUNCATED;
        self
    }

    pub fn id(mut self, id: u16) -> Message {
        self.id = id;
        self
    }

    /// To another question, with the records as they are.
    pub fn about(mut self, name: &str, kind: u16) -> Message {
        (self.name, self.kind) = (name.to_owned(), kind);
        self
    }

    /// Where the question ends in its bytes.
    pub fn question_end(&self) -> usize {
        HEADER_LEN + encoded(&self.name).len() + 4
    }

    pub fn bytes(&self) -> Vec<u8> {
        let count = |of: &[Vec<u8>]| u16::try_from(of.len()).expect("at most 65,535 records");
        let counts = [1, count(&self.answers), count(&self.authority), 0];
        let header = [&[self.id, self.flags][..], &counts].concat();
        let mut bytes: Vec<u8> = header.iter().flat_map(|number| number.to_be_bytes()).collect();
        bytes.extend(encoded(&self.name));
        bytes.extend(self.kind.to_be_bytes());
        bytes.extend(IN.to_be_bytes());
        bytes.extend(self.answers.concat());
        bytes.extend(self.authority.concat());
        bytes
    }

    fn record(&self, owner: &str, kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
        let owner = match owner == self.name {
            true => POINTER_TO_QUESTION.to_vec(),
            false => encoded(owner),
        };
        raw_record(&owner, kind, ttl, data)
    }
}

/// A record whose owner is these bytes.
pub fn raw_record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut record = owner.to_vec();
    record.extend(kind.to_be_bytes());
    record.extend(IN.to_be_bytes());
    record.extend(ttl.to_be_bytes());
    record.extend(u16::try_from(data.len()).expect("at most 65,535 bytes").to_be_bytes());
    record.extend(data);
    record
}

/// A name as labels, without pointers.
pub fn encoded(name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).expect("a label of at most 63 bytes"));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// What is left of a message.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Result<u16, String> {
        let (number, rest) = self.0.split_first_chunk().ok_or("it breaks off")?;
        self.0 = rest;
        Ok(u16::from_be_bytes(*number))
    }

    fn name(&mut self) -> Result<String, String> {
        let mut labels = Vec::new();
        loop {
            let (&len, rest) = self.0.split_first().ok_or("the name breaks off")?;
            if len > 63 || rest.len() < len.into() {
                return Err(format!("a label of {len} bytes"));
            }
            let (label, rest) = rest.split_at(len.into());
            self.0 = rest;
            if len == 0 {
                return Ok(labels.join("."));
            }
            labels.push(String::from_utf8(label.to_vec()).map_err(|_| "a label is no text")?);
        }
    }

    /// RFC 6891: the root, OPT, the size, and nothing else of interest.
    fn opt(&mut self) -> Result<u16, String> {
        let (root, rest) = self.0.split_first().ok_or("OPT is missing")?;
        self.0 = rest;
        let (kind, size) = (self.number()?, self.number()?);
        let rest = [self.number()?, self.number()?, self.number()?];
        if (*root, kind, rest) != (0, OPT, [0; 3]) {
            return Err(format!("an OPT of {root} {kind} {rest:?}"));
        }
        Ok(size)
    }
}
