//! Questions as they are read, and answers as they are written, by hand.

use std::net::{IpAddr, SocketAddr};

use crate::dns::channels::{ChannelId, Transport};
use crate::dns::message::Family;

/// A question that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Query {
    pub(super) channel: ChannelId,
    pub(super) server: SocketAddr,
    pub(super) transport: Transport,
    pub(super) id: u16,
    pub(super) name: String,
    pub(super) family: Family,
    pub(super) edns: bool,
}

impl Query {
    pub(super) fn read(
        channel: ChannelId,
        server: SocketAddr,
        transport: Transport,
        bytes: &[u8],
    ) -> Query {
        let bytes = match transport {
            Transport::Udp => bytes,
            Transport::Tcp => {
                assert_eq!(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])), bytes.len() - 2);
                &bytes[2..]
            }
        };
        let mut labels = Vec::new();
        let mut at = 12;
        while bytes[at] != 0 {
            let end = at + 1 + usize::from(bytes[at]);
            labels.push(std::str::from_utf8(&bytes[at + 1..end]).unwrap());
            at = end;
        }
        let family = if bytes[at + 2] == 1 { Family::V4 } else { Family::V6 };
        let (id, edns) = (u16::from_be_bytes([bytes[0], bytes[1]]), bytes[11] == 1);
        Query { channel, server, transport, id, name: labels.join("."), family, edns }
    }

    fn kind(&self) -> u16 {
        if self.family == Family::V4 { 1 } else { 28 }
    }

    fn answer(&self, flags: [u8; 2], answers: u16, authorities: u16) -> Vec<u8> {
        let mut bytes = self.id.to_be_bytes().to_vec();
        bytes.extend(flags);
        bytes.extend([1, answers, authorities, 0].into_iter().flat_map(u16::to_be_bytes));
        put_name(&self.name, &mut bytes);
        bytes.extend([self.kind(), 1].into_iter().flat_map(u16::to_be_bytes));
        bytes
    }
}

const FLAGS: [u8; 2] = [0x81, 0x80];

pub(super) fn addresses(query: &Query, ips: &[&str], ttl: u32) -> Vec<u8> {
    let mut bytes = query.answer(FLAGS, ips.len() as u16, 0);
    for ip in ips {
        let data = match ip.parse().unwrap() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        put_record(&[0xc0, 12], query.kind(), ttl, &data, &mut bytes);
    }
    bytes
}

pub(super) fn alias(query: &Query, of: &str, ttl: u32) -> Vec<u8> {
    let mut bytes = query.answer(FLAGS, 1, 0);
    let mut data = Vec::new();
    put_name(of, &mut data);
    put_record(&[0xc0, 12], 5, ttl, &data, &mut bytes);
    bytes
}

/// There is nothing, for so long if that is said.
pub(super) fn negative(query: &Query, rcode: u8, ttl: Option<u32>) -> Vec<u8> {
    let mut bytes = query.answer([0x81, 0x80 | rcode], 0, u16::from(ttl.is_some()));
    if let Some(ttl) = ttl {
        let data = [&[0; 18][..], &ttl.to_be_bytes(), &[0; 0]].concat();
        put_record(&[0], 6, ttl, &data, &mut bytes);
    }
    bytes
}

pub(super) fn rcode(query: &Query, rcode: u8) -> Vec<u8> {
    query.answer([0x81, 0x80 | rcode], 0, 0)
}

pub(super) fn truncated(query: &Query) -> Vec<u8> {
    query.answer([0x83, 0x80], 0, 0)
}

fn put_name(name: &str, into: &mut Vec<u8>) {
    for label in name.split('.') {
        into.push(label.len() as u8);
        into.extend(label.as_bytes());
    }
    into.push(0);
}

fn put_record(owner: &[u8], kind: u16, ttl: u32, data: &[u8], into: &mut Vec<u8>) {
    into.extend(owner);
    into.extend([kind, 1].into_iter().flat_map(u16::to_be_bytes));
    into.extend(ttl.to_be_bytes());
    into.extend((data.len() as u16).to_be_bytes());
    into.extend(data);
}
