use std::net::SocketAddr;
use std::ops::Range;

use crate::proto::udp::Header;
use crate::relay::Stage;

/// Room for what becomes of a batch whose datagrams are sealed (RFC 1961 section 6), each a token of
/// its own, the header of RFC 1928 within.
#[derive(Default)]
pub(super) struct Sealed {
    bytes: Vec<u8>,
    datagrams: Vec<Worked>,
    message: Vec<u8>,
}

/// A datagram that was opened or sealed.
struct Worked {
    /// Who sent it.
    source: SocketAddr,
    /// Where it is.
    place: Range<usize>,
    /// How many bytes of it are not the payload's.
    wrapping: usize,
}

impl Sealed {
    /// What is kept for the next batch: what most come to.
    const BYTES_KEPT: usize = 512 * 1024;

    /// Opens a datagram of the client's. Whether it was one.
    pub(super) fn open(&mut self, stage: &mut Stage, source: SocketAddr, datagram: &[u8]) -> bool {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(datagram);
        let Some(place) = stage.open_datagram(&mut self.bytes[start..]) else {
            self.bytes.truncate(start);
            return false;
        };
        let place = start + place.start..start + place.end;
        self.datagrams.push(Worked { source, place, wrapping: 0 });
        true
    }

    /// Seals a datagram for the client from `source`. Whether that could be done.
    pub(super) fn seal(&mut self, stage: &mut Stage, source: SocketAddr, data: &[u8]) -> bool {
        self.message.clear();
        self.message.extend_from_slice(Header::new(source).as_slice());
        self.message.extend_from_slice(data);
        let start = self.bytes.len();
        let sealed = stage.seal_datagram(&self.message, &mut self.bytes);
        if sealed.is_err() {
            self.bytes.truncate(start);
            return false;
        }
        let place = start..self.bytes.len();
        let wrapping = place.len() - data.len();
        self.datagrams.push(Worked { source, place, wrapping });
        true
    }

    /// Whether what there is came from somebody else.
    pub(super) fn is_from_elsewhere(&self, source: SocketAddr) -> bool {
        self.datagrams.last().is_some_and(|last| last.source != source)
    }

    /// All of them: who sent each, what it is now, and how much of that is not its payload.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8], usize)> {
        self.datagrams.iter().map(|Worked { source, place, wrapping }| {
            (*source, &self.bytes[place.clone()], *wrapping)
        })
    }

    /// Forgets them.
    pub(super) fn clear(&mut self) {
        self.datagrams.clear();
        self.bytes.clear();
        self.bytes.shrink_to(Self::BYTES_KEPT);
    }
}
