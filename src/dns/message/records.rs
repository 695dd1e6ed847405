//! The records of an answer, and what they come to.

use std::net::IpAddr;
use std::ops::Range;

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::message::RecordSection;
use domain::base::rdata::ParseRecordData;
use domain::base::{Message, ParsedName, ParsedRecord};
use domain::rdata::{A, Aaaa, Cname};

use super::{Family, Mismatch, Reply};
use crate::proto::{Host, canonical};

/// The most aliases that are followed from a name to its addresses.
pub const LINKS_MAX: u8 = 8;

/// The most addresses of one answer that are kept.
pub const ADDRESSES_MAX: usize = 64;

/// The most aliases of one answer that are looked at, for each may have to be compared with each.
const ALIASES_MAX: usize = 64;

/// More than the labels and pointers of any name in use: a name of 255 octets has 127 labels.
const NAME_STEPS_MAX: usize = 255;

/// A record of interest.
struct Record<'a, T> {
    owner: ParsedName<&'a [u8]>,
    ttl: u32,
    data: T,
}

/// What a message holds of interest.
#[derive(Default)]
pub(super) struct Records<'a> {
    aliases: Vec<Record<'a, ParsedName<&'a [u8]>>>,
    addresses: Vec<Record<'a, IpAddr>>,
    /// The SOA record of the authority section, with its MINIMUM.
    zone: Option<Record<'a, u32>>,
    /// The upper bits of the error code, from the OPT record.
    extended_rcode: u8,
}

impl<'a> Records<'a> {
    pub(super) fn read(
        message: &'a Message<[u8]>,
        family: Family,
    ) -> Result<Records<'a>, Mismatch> {
        let mut records = Records::default();
        let counts = message.header_counts();
        let mut section = message.answer().map_err(|_| Mismatch::Garbage)?;
        for _ in 0..counts.ancount() {
            let (record, data) = next(message, &mut section)?;
            records.add_answer(message, record, data.start, family)?;
        }
        let mut section = following(section)?;
        for _ in 0..counts.nscount() {
            let (record, data) = next(message, &mut section)?;
            records.add_authority(record, &message.as_slice()[data])?;
        }
        let mut section = following(section)?;
        for _ in 0..counts.arcount() {
            let (record, _) = next(message, &mut section)?;
            if record.rtype() == Rtype::OPT {
                records.extended_rcode = record.ttl().as_secs().to_be_bytes()[0];
            }
        }
        Ok(records)
    }

    fn add_answer(
        &mut self,
        message: &'a Message<[u8]>,
        record: ParsedRecord<'a, [u8]>,
        data_at: usize,
        family: Family,
    ) -> Result<(), Mismatch> {
        let (owner, ttl, rtype) = (record.owner(), ttl(&record), record.rtype());
        if record.class() != Class::IN {
            return Ok(());
        }
        if rtype == Rtype::CNAME && self.aliases.len() < ALIASES_MAX {
            check_name(message.as_slice(), data_at)?;
            let data = record_data::<Cname<ParsedName<&'a [u8]>>>(record)?.into_cname();
            self.aliases.push(Record { owner, ttl, data });
        } else if rtype == family.rtype() {
            let address = match family {
                Family::V4 => IpAddr::V4(record_data::<A>(record)?.addr()),
                Family::V6 => IpAddr::V6(record_data::<Aaaa>(record)?.addr()),
            };
            self.addresses.push(Record { owner, ttl, data: canonical(address) });
        }
        Ok(())
    }

    fn add_authority(
        &mut self,
        record: ParsedRecord<'a, [u8]>,
        data: &[u8],
    ) -> Result<(), Mismatch> {
        if record.rtype() == Rtype::SOA && record.class() == Class::IN {
            let minimum = data.last_chunk().ok_or(Mismatch::Garbage)?;
            let data = seconds(u32::from_be_bytes(*minimum));
            let zone = Record { owner: record.owner(), ttl: ttl(&record), data };
            self.zone.get_or_insert(zone);
        }
        Ok(())
    }

    pub(super) fn reply(&self, name: ParsedName<&'a [u8]>, rcode: Rcode) -> Reply {
        /// BADVERS (RFC 6891 section 9) without its lower four bits.
        const BADVERS: u8 = 1;
        match self.extended_rcode {
            0 => {}
            BADVERS if rcode == Rcode::NOERROR => return Reply::NoEdns,
            _ => return Reply::Failed,
        }
        let Some(chain) = self.follow(name) else { return Reply::Failed };
        if rcode == Rcode::NXDOMAIN {
            return Reply::None { exists: false, ttl: self.negative_ttl(&chain) };
        }
        if let Some(addresses) = self.addresses_at(&chain) {
            return addresses;
        }
        let ttl = self.negative_ttl(&chain);
        if chain.links == 0 || ttl.is_some() {
            return Reply::None { exists: true, ttl };
        }
        match Host::parse_name(chain.end.to_string().as_bytes()) {
            Ok(Host::Name(name)) => {
                let name = name.as_str().to_ascii_lowercase().into();
                Reply::Alias { name, links: chain.links, ttl: chain.ttl }
            }
            _ => Reply::Failed,
        }
    }

    /// Follows the aliases from a name as far as the message knows them; `None` if they are too
    /// many or go round.
    fn follow(&self, name: ParsedName<&'a [u8]>) -> Option<Chain<'a>> {
        let mut chain = Chain { end: name, links: 0, ttl: u32::MAX };
        while let Some(alias) = self.aliases.iter().find(|alias| alias.owner == chain.end) {
            if chain.links == LINKS_MAX {
                return None;
            }
            let ttl = chain.ttl.min(alias.ttl);
            chain = Chain { end: alias.data, links: chain.links + 1, ttl };
        }
        Some(chain)
    }

    fn addresses_at(&self, chain: &Chain<'_>) -> Option<Reply> {
        let mut addresses = Vec::new();
        let mut ttl = chain.ttl;
        let owned = self.addresses.iter().filter(|record| record.owner == chain.end);
        for record in owned.take(ADDRESSES_MAX) {
            ttl = ttl.min(record.ttl);
            if !addresses.contains(&record.data) {
                addresses.push(record.data);
            }
        }
        let links = chain.links;
        (!addresses.is_empty()).then_some(Reply::Addresses { addresses, links, ttl })
    }

    /// How long it holds that the end of the chain has no address: as long as its zone says.
    fn negative_ttl(&self, chain: &Chain<'_>) -> Option<u32> {
        let zone = self.zone.as_ref().filter(|zone| chain.end.ends_with(&zone.owner))?;
        Some(zone.ttl.min(zone.data).min(chain.ttl))
    }
}

/// A name at the end of aliases.
struct Chain<'a> {
    end: ParsedName<&'a [u8]>,
    links: u8,
    /// The shortest of the aliases.
    ttl: u32,
}

/// The next record of a section, and where its data is.
fn next<'a>(
    message: &'a Message<[u8]>,
    section: &mut RecordSection<'a, [u8]>,
) -> Result<(ParsedRecord<'a, [u8]>, Range<usize>), Mismatch> {
    check_name(message.as_slice(), section.pos())?;
    let record = section.next().and_then(Result::ok).ok_or(Mismatch::Garbage)?;
    let end = section.pos();
    let start = end - usize::from(record.rdlen());
    Ok((record, start..end))
}

fn following<'a>(section: RecordSection<'a, [u8]>) -> Result<RecordSection<'a, [u8]>, Mismatch> {
    section.next_section().ok().flatten().ok_or(Mismatch::Garbage)
}

/// What a record of this type has to hold.
fn record_data<'a, Data: ParseRecordData<'a, [u8]>>(
    record: ParsedRecord<'a, [u8]>,
) -> Result<Data, Mismatch> {
    match record.into_record::<Data>() {
        Ok(Some(record)) => Ok(record.into_data()),
        _ => Err(Mismatch::Garbage),
    }
}

fn ttl(record: &ParsedRecord<'_, [u8]>) -> u32 {
    seconds(record.ttl().as_secs())
}

/// RFC 2181 section 8: a TTL with the top bit set counts as zero.
fn seconds(field: u32) -> u32 {
    i32::try_from(field).map_or(0, i32::cast_unsigned)
}

/// Whether a name ends in as many steps as a real one takes. Its full parser would follow pointers
/// that point at pointers through 16 KiB, for each record anew.
pub(super) fn check_name(message: &[u8], mut at: usize) -> Result<(), Mismatch> {
    for _ in 0..NAME_STEPS_MAX {
        match message.get(at..).ok_or(Mismatch::Garbage)? {
            [0, ..] => return Ok(()),
            [length @ 1..=63, ..] => at += 1 + usize::from(*length),
            [high @ 0xc0..=0xff, low, ..] => at = usize::from(high & 0x3f) << 8 | usize::from(*low),
            _ => break,
        }
    }
    Err(Mismatch::Garbage)
}
