//! What must become of the datagrams of a client that seals them, decided from what it has sealed.

use std::collections::BTreeSet;

use ringsocks::proto::gssapi::{HEADER_BYTES, MessageType, Seal};

use crate::counts::Event;
use crate::mechanism::{MockSeal, WINDOW, framed, overhead};
use crate::naive::Surroundings;
use crate::sealer::Genuine;

/// Our end of a client's context, as far as its datagrams are concerned.
pub(crate) struct Opener {
    seal: MockSeal,
    confidential: bool,
    /// The numbers of the tokens that have come, and the one that comes next.
    come: BTreeSet<u64>,
    next: u64,
}

impl Opener {
    /// After a handshake in which the client has sealed so many tokens.
    pub(crate) fn new((seal, confidential): (MockSeal, bool), sealed: u64) -> Opener {
        Opener { seal, confidential, come: (0..sealed).collect(), next: sealed }
    }

    /// What a datagram of the client's carries; nothing, if it must be dropped.
    pub(crate) fn open(&mut self, around: &mut impl Surroundings, bytes: &[u8]) -> Option<Vec<u8>> {
        let Some(Genuine { number, message, is_as_agreed }) = around.opened(bytes) else {
            around.count(Event::Forged);
            return None;
        };
        if number + WINDOW < self.next {
            around.count(Event::TooOld);
            return None;
        }
        if !self.come.insert(number) {
            around.count(Event::CameTwice);
            return None;
        }
        match number {
            _ if number < self.next => around.count(Event::CameLate),
            _ if number > self.next => around.count(Event::CameEarly),
            _ => {}
        }
        self.next = self.next.max(number + 1);
        around.count(Event::Opened);
        is_as_agreed.then_some(message)
    }

    /// Whether a datagram of `bytes_max` bytes carries a message of so many.
    pub(crate) fn has_room(&self, message: usize, bytes_max: usize) -> bool {
        HEADER_BYTES + overhead(self.confidential) + message <= bytes_max
    }

    /// The datagram for the client; none: the context has no more to give.
    pub(crate) fn seal(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let mut token = Vec::new();
        self.seal.wrap(message, self.confidential, &mut token).ok()?;
        Some(framed(MessageType::Data, &token))
    }
}
