//! Messages as servers read and write them, byte by byte.

use std::net::IpAddr;

pub(crate) const A: u16 = 1;
pub(crate) const AAAA: u16 = 28;
const CNAME: u16 = 5;
const SOA: u16 = 6;

/// A question as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) id: u16,
    /// In the letters that were sent.
    pub(crate) name: String,
    pub(crate) kind: u16,
    pub(crate) edns: bool,
}

#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) id: u16,
    pub(crate) truncated: bool,
    pub(crate) rcode: u8,
    pub(crate) question: Option<(String, u16)>,
    pub(crate) answers: Vec<Record>,
    /// How long there is nothing, if that is said.
    pub(crate) soa: Option<u32>,
}

#[derive(Clone)]
pub(crate) struct Record {
    pub(crate) owner: String,
    pub(crate) ttl: u32,
    pub(crate) data: Data,
}

#[derive(Clone)]
pub(crate) enum Data {
    Address(IpAddr),
    Alias(String),
}

impl Question {
    /// Reads a query, which must be one, to the last byte.
    pub(crate) fn read(bytes: &[u8]) -> Question {
        let number = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        assert_eq!(number(2), 0x0100, "recursion desired, and nothing else");
        assert_eq!((number(4), number(6), number(8)), (1, 0, 0));
        let mut labels = Vec::new();
        let mut at = 12;
        while bytes[at] != 0 {
            let end = at + 1 + usize::from(bytes[at]);
            labels.push(std::str::from_utf8(&bytes[at + 1..end]).unwrap());
            at = end;
        }
        assert_eq!(number(at + 3), 1, "of the Internet");
        let edns = number(10) == 1;
        let rest = &bytes[at + 5..];
        match edns {
            true => assert_eq!(rest, [0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]),
            false => assert!(rest.is_empty()),
        }
        Question { id: number(0), name: labels.join("."), kind: number(at + 1), edns }
    }

    /// An answer that says nothing yet.
    pub(crate) fn answer(&self) -> Message {
        Message {
            id: self.id,
            truncated: false,
            rcode: 0,
            question: Some((self.name.clone(), self.kind)),
            answers: Vec::new(),
            soa: None,
        }
    }
}

impl Message {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.id.to_be_bytes());
        bytes.extend([0x81 | u8::from(self.truncated) << 1, 0x80 | self.rcode]);
        let counts = [self.question.iter().len(), self.answers.len(), self.soa.iter().len(), 0];
        bytes.extend(counts.into_iter().flat_map(|count| (count as u16).to_be_bytes()));
        if let Some((name, kind)) = &self.question {
            put_name(name, &mut bytes);
            bytes.extend(kind.to_be_bytes());
            bytes.extend([0, 1]);
        }
        self.answers.iter().for_each(|record| record.put(&mut bytes));
        if let Some(ttl) = self.soa {
            put_name("example", &mut bytes);
            put_head(SOA, ttl, &mut bytes);
            bytes.extend([0, 22, 0, 0]);
            bytes.extend([0; 16]);
            bytes.extend(ttl.to_be_bytes());
        }
        bytes
    }
}

impl Record {
    fn put(&self, into: &mut Vec<u8>) {
        put_name(&self.owner, into);
        let (kind, data) = match &self.data {
            Data::Address(IpAddr::V4(ip)) => (A, ip.octets().to_vec()),
            Data::Address(IpAddr::V6(ip)) => (AAAA, ip.octets().to_vec()),
            Data::Alias(name) => {
                let mut data = Vec::new();
                put_name(name, &mut data);
                (CNAME, data)
            }
        };
        put_head(kind, self.ttl, into);
        into.extend((data.len() as u16).to_be_bytes());
        into.extend(data);
    }
}

fn put_head(kind: u16, ttl: u32, into: &mut Vec<u8>) {
    into.extend(kind.to_be_bytes());
    into.extend([0, 1]);
    into.extend(ttl.to_be_bytes());
}

fn put_name(name: &str, into: &mut Vec<u8>) {
    for label in name.split('.') {
        into.push(label.len() as u8);
        into.extend(label.as_bytes());
    }
    into.push(0);
}
