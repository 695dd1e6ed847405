use std::ops::Range;
use std::time::Instant;

use super::{Buffers, Endpoint, INBOX_BYTES, RING_BYTES, Received, Ring, Socket};
use crate::proto::gssapi::{HEADER_BYTES, MessageType, Unexpected, parse_frame};

/// Tokens as they come from a peer, each behind its header (RFC 1961). The bytes of one that is not
/// whole wait here, in an inbox at first, and in more when that is full: nothing is held for what is
/// only promised.
#[derive(Default)]
pub struct Tokens {
    ring: Option<Ring>,
    /// The last one was larger than an inbox, so the next is likely to be.
    large: bool,
    /// It is known who the peer is.
    trusted: bool,
    /// What was there of a token of which there still is, when it was last looked at.
    seen: Option<Seen>,
}

#[derive(Clone, Copy)]
struct Seen {
    /// Since when it is looked at.
    since: Instant,
    len: usize,
}

/// What is at the front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framed {
    /// A whole token, at this place behind its header.
    Whole(Range<usize>),
    /// None yet, or none any more: never [`Received::Bytes`].
    Not(Received),
    /// What is no token of the type that is expected.
    Unexpected,
}

impl Tokens {
    /// Of a token this large the rest is received alone, and the next one's header: what came
    /// behind it would have to be moved.
    const LARGE_BYTES: usize = 16 * 1024;
    /// What is full of a stranger's bytes is replaced by what has so many times its room, and a ring
    /// is the last.
    const GROWTH: usize = 4;

    /// Tokens of somebody unknown that begin with what was received already.
    pub fn new(received: Option<Ring>) -> Tokens {
        Tokens { ring: received, ..Tokens::default() }
    }

    /// Now it is known whose they are.
    pub(super) fn trust(&mut self) {
        self.trusted = true;
    }

    /// Receives until there is a whole token at the front.
    pub fn frame<S: Socket>(
        &mut self,
        expected: MessageType,
        from: &mut Endpoint<S>,
        buffers: &mut Buffers,
    ) -> Framed {
        loop {
            let needed = match self.parse(expected) {
                Err(Unexpected) => return Framed::Unexpected,
                Ok(Ok(place)) => {
                    self.large = place.end > INBOX_BYTES;
                    self.seen = None;
                    return Framed::Whole(place);
                }
                Ok(Err(needed)) => needed,
            };
            if !from.is_readable() {
                self.release_empty(buffers);
                return Framed::Not(Received::Blocked);
            }
            let Some((ring, wanted)) = self.room(needed, buffers) else {
                from.starve();
                return Framed::Not(Received::Blocked);
            };
            match from.recv_raw(&mut ring.room()[..wanted]) {
                Received::Bytes(n) => ring.fill(n),
                received => {
                    self.release_empty(buffers);
                    return Framed::Not(received);
                }
            }
        }
    }

    /// Whether what is there keeps more than an inbox: it is to be [looked at](Self::shrink) again.
    pub(super) fn keeps_room(&self) -> bool {
        self.ring.as_ref().is_some_and(|ring| ring.capacity() > INBOX_BYTES)
    }

    /// Has no more room than what is there needs, if since the last time hardly anything has moved:
    /// who goes on, be it slowly, keeps what its token needs. Returns since when the same token is
    /// found to keep more than an inbox.
    pub(super) fn shrink(&mut self, now: Instant, buffers: &mut Buffers) -> Option<Instant> {
        let ring = self.ring.as_ref().filter(|_| self.keeps_room())?;
        let (len, capacity) = (ring.len(), ring.capacity());
        let before = self.seen;
        let since = before.map_or(now, |seen| seen.since);
        self.seen = Some(Seen { since, len });
        let is_stalled = before.is_some_and(|seen| len.abs_diff(seen.len) < INBOX_BYTES);
        if is_stalled && len <= capacity / Self::GROWTH {
            let smaller = buffers.room_for(len);
            self.move_to(smaller, buffers);
        }
        Some(since)
    }

    /// Whether [`frame`](Self::frame) has something to tell without receiving anything.
    pub fn is_framed(&self, expected: MessageType) -> bool {
        self.ring.is_some() && !matches!(self.parse(expected), Ok(Err(_)))
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.ring.as_ref().is_none_or(Ring::is_empty)
    }

    /// What is at this place, which is one that was told.
    pub fn bytes_mut(&mut self, place: Range<usize>) -> &mut [u8] {
        self.ring.as_mut().map_or(&mut [], |ring| &mut ring.bytes_mut()[place])
    }

    /// Forgets the first `n` bytes.
    pub fn consume(&mut self, n: usize) {
        if let Some(ring) = &mut self.ring {
            ring.consume(n);
        }
    }

    /// Forgets the first `n` bytes, which are the last of a token: what is behind them is another.
    pub(super) fn end(&mut self, n: usize) {
        self.consume(n);
        self.seen = None;
    }

    /// Forgets everything, and says how much that was.
    pub(super) fn clear(&mut self) -> usize {
        let len = self.ring.as_ref().map_or(0, Ring::len);
        self.consume(len);
        len
    }

    /// Gives back what is held for nothing.
    pub fn release_empty(&mut self, buffers: &mut Buffers) {
        if let Some(ring) = self.ring.take_if(|ring| ring.is_empty()) {
            buffers.give_token_room(ring, self.trusted);
        }
    }

    /// Gives back what is held, and forgets what is in it.
    pub fn release(&mut self, buffers: &mut Buffers) {
        if let Some(ring) = self.ring.take() {
            buffers.give_token_room(ring, self.trusted);
        }
    }

    /// What was received and is of no token: of a stranger's bytes never more than an inbox.
    pub fn into_received(self) -> Option<Ring> {
        self.ring
    }

    fn parse(&self, expected: MessageType) -> Result<Result<Range<usize>, usize>, Unexpected> {
        parse_frame(self.ring.as_ref().map_or(&[], Ring::bytes), expected)
    }

    /// What there is, and how much to receive into its room, which is in one piece.
    fn room(&mut self, needed: usize, buffers: &mut Buffers) -> Option<(&mut Ring, usize)> {
        if self.ring.as_ref().is_none_or(Ring::is_full) {
            let larger = self.larger(needed, buffers)?;
            self.move_to(larger, buffers);
        }
        let ring = self.ring.as_mut()?;
        let missing = needed - ring.len();
        ring.make_room(missing.min(ring.capacity() - ring.len()));
        let wanted = match ring.capacity() {
            INBOX_BYTES => INBOX_BYTES,
            RING_BYTES if self.trusted && missing <= Self::LARGE_BYTES => RING_BYTES,
            RING_BYTES if self.trusted => missing + HEADER_BYTES,
            // What is only for this token is given back when that is gone.
            _ => missing,
        };
        let wanted = wanted.min(ring.room().len());
        Some((ring, wanted))
    }

    fn larger(&self, needed: usize, buffers: &mut Buffers) -> Option<Ring> {
        let old = self.ring.as_ref();
        let capacity = match old {
            None if self.large && self.trusted => RING_BYTES,
            None => INBOX_BYTES,
            // Whoever has room can finish its token in that, unless it stalls: were all to wait for
            // more, holding what they have, there would be none until they outstay.
            Some(_) if self.trusted && buffers.rings_left() > 0 => RING_BYTES,
            Some(_) if self.trusted => RING_BYTES.min(needed.next_power_of_two()),
            Some(old) => RING_BYTES.min(old.capacity() * Self::GROWTH),
        };
        if capacity == INBOX_BYTES {
            return Some(buffers.inbox());
        }
        let larger = buffers.token_room(capacity, old, self.trusted);
        larger.or_else(|| old.is_none().then(|| buffers.inbox()))
    }

    fn move_to(&mut self, mut ring: Ring, buffers: &mut Buffers) {
        if let Some(old) = self.ring.take() {
            ring.extend(old.bytes());
            buffers.give_token_room(old, self.trusted);
        }
        self.ring = Some(ring);
    }
}

/// The place of the token that a datagram is, header and all (RFC 1961 section 6).
pub(super) fn parse_datagram(datagram: &[u8]) -> Option<Range<usize>> {
    match parse_frame(datagram, MessageType::Data) {
        Ok(Ok(place)) if place.end == datagram.len() => Some(place),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
