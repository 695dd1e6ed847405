use std::mem;

use super::pipe::Pipes;
use super::{Pipe, Ring};
use crate::config::RelayMode;

/// The size of a lane's ring, in bytes.
pub const RING_BYTES: usize = 128 * 1024;

/// The size of a negotiation's inbox, in bytes: room for the largest SOCKS message.
pub const INBOX_BYTES: usize = 1024;

/// So many more may be lent to receive tokens in, when lanes have all of them; and as many again for
/// those of whom we know.
const RINGS_FOR_TOKENS: usize = 16;

/// One reactor's buffers: rings and pipes for lanes, bounded, small inboxes for negotiations, and room
/// for tokens that do not fit one.
///
/// Buffers belong to bytes, not to connections: each goes back when it is empty, and the one that
/// came back last is lent first, so that the hot ones stay in the processor's cache.
pub struct Buffers {
    rings: Pool,
    rings_max: usize,
    inboxes: Pool,
    scratch: Box<[u8]>,
    token: Vec<u8>,
    /// What tokens have, on their way in or out, that is no ring and no inbox.
    token_bytes: usize,
    /// What tokens of somebody unknown have that is no inbox.
    stranger_bytes: usize,
    pipes: Pipes,
    mode: RelayMode,
    unspliceable: u64,
}

impl Buffers {
    /// Buffers of at most `rings_max` rings for lanes and `pipes_max` pipes, which are used as `mode`
    /// says. Tokens are received in what is left of the rings, and in a few more. Each session needs at
    /// most three inboxes, so that limiting sessions limits inboxes: 1 KiB each.
    pub fn new(rings_max: usize, mode: RelayMode, pipes_max: usize) -> Buffers {
        Buffers {
            rings: Pool::new(RING_BYTES),
            rings_max,
            inboxes: Pool::new(INBOX_BYTES),
            scratch: vec![0; RING_BYTES].into(),
            token: Vec::new(),
            token_bytes: 0,
            stranger_bytes: 0,
            pipes: Pipes::new(if mode == RelayMode::Copy { 0 } else { pipes_max }),
            mode,
            unspliceable: 0,
        }
    }

    /// A ring for a lane, or `None` if all are in use.
    pub fn ring(&mut self) -> Option<Ring> {
        (self.rings_left() > 0).then(|| self.rings.take())
    }

    /// A ring for what is in a pipe that cannot be sent from: there is one, at the limit or beyond
    /// it, for these bytes are ours already. Pipes are bounded, so these are.
    pub(super) fn ring_for_pipe(&mut self) -> Ring {
        self.rings.take()
    }

    /// An empty pipe for a lane, or `None` if there is none to be had.
    pub(super) fn pipe(&mut self) -> Option<Box<Pipe>> {
        self.pipes.take()
    }

    /// Takes a pipe back. What it still holds is forgotten.
    pub(super) fn give_pipe(&mut self, pipe: Box<Pipe>) {
        self.pipes.give(pipe);
    }

    /// When bytes go by pipe.
    pub(super) fn mode(&self) -> RelayMode {
        self.mode
    }

    /// Counts a lane that cannot be spliced.
    pub(super) fn count_unspliceable(&mut self) {
        self.unspliceable += 1;
    }

    /// How many lanes a socket or the kernel would not splice.
    pub fn unspliceable(&self) -> u64 {
        self.unspliceable
    }

    /// How many pipes hold bytes.
    pub fn pipes_lent(&self) -> usize {
        self.pipes.lent()
    }

    /// How many pipes are open: an empty one is kept for the next who needs one.
    pub fn pipes_open(&self) -> usize {
        self.pipes.opened()
    }

    /// How often the kernel had no pipe to give.
    pub fn pipes_denied(&self) -> u64 {
        self.pipes.denied()
    }

    /// Room for bytes that nobody has to keep: what is left when all rings are in use.
    pub(super) fn take_scratch(&mut self) -> Box<[u8]> {
        mem::take(&mut self.scratch)
    }

    /// Takes the room back.
    pub(super) fn give_scratch(&mut self, scratch: Box<[u8]>) {
        self.scratch = scratch;
    }

    /// Room for a token that is larger than an inbox, instead of the `old`, of whom we know or of
    /// somebody unknown: strangers may have half as much as lanes, whatever those have.
    pub(super) fn token_room(
        &mut self,
        capacity: usize,
        old: Option<&Ring>,
        is_trusted: bool,
    ) -> Option<Ring> {
        let old = old.map_or(0, Ring::capacity);
        let given_back = if matches!(old, INBOX_BYTES | RING_BYTES) { 0 } else { old };
        let more = if is_trusted { 2 * RINGS_FOR_TOKENS } else { RINGS_FOR_TOKENS };
        if self.rings_lent_with(capacity, given_back) > self.rings_max + more {
            return None;
        }
        if !is_trusted {
            let given_back = if old == INBOX_BYTES { 0 } else { old };
            let strangers = self.stranger_bytes - given_back + capacity;
            if strangers > self.rings_max.div_ceil(2) * RING_BYTES {
                return None;
            }
            self.stranger_bytes += capacity;
        }
        Some(self.take_room(capacity))
    }

    /// Room for so many bytes of a token, instead of more or for what is left of one that was made no
    /// longer than there is room for: there is some, at the limit or beyond it.
    pub(super) fn room_for(&mut self, len: usize) -> Ring {
        self.take_room(len.next_power_of_two().max(INBOX_BYTES))
    }

    fn take_room(&mut self, capacity: usize) -> Ring {
        match capacity {
            INBOX_BYTES => self.inbox(),
            RING_BYTES => self.rings.take(),
            bytes => {
                self.token_bytes += bytes;
                // Rings that wait for the next who needs one are no memory besides.
                self.rings.keep(self.rings_max.saturating_sub(self.rings_lent()));
                Ring::new(bytes)
            }
        }
    }

    /// Whether who is known, and has a large token, has to wait for room.
    pub(super) fn are_short(&self) -> bool {
        self.rings_lent_with(RING_BYTES, 0) > self.rings_max + 2 * RINGS_FOR_TOKENS
    }

    /// How many rings would be lent, or as much memory, with this room for a token instead of that.
    fn rings_lent_with(&self, capacity: usize, given_back: usize) -> usize {
        let bytes = self.token_bytes - given_back + capacity;
        self.rings.lent + bytes.div_ceil(RING_BYTES)
    }

    /// Takes room for a token back.
    pub(super) fn give_token_room(&mut self, room: Ring, is_trusted: bool) {
        if !is_trusted && room.capacity() != INBOX_BYTES {
            self.stranger_bytes -= room.capacity();
        }
        self.give(room);
    }

    /// Room for the token that is being made, empty.
    pub(super) fn take_token(&mut self) -> Vec<u8> {
        mem::take(&mut self.token)
    }

    /// Takes that room back. What it holds is forgotten.
    pub(super) fn give_token(&mut self, mut token: Vec<u8>) {
        token.clear();
        self.token = token;
    }

    /// An inbox for a negotiation.
    pub fn inbox(&mut self) -> Ring {
        self.inboxes.take()
    }

    /// Takes a ring or an inbox back. What it still holds is forgotten.
    pub fn give(&mut self, mut ring: Ring) {
        ring.clear();
        match ring.capacity() {
            INBOX_BYTES => self.inboxes.give(ring),
            RING_BYTES => self.rings.give(ring),
            bytes => self.token_bytes -= bytes,
        }
    }

    /// How many rings are in use, or as much memory.
    pub fn rings_lent(&self) -> usize {
        self.rings.lent + self.token_bytes.div_ceil(RING_BYTES)
    }

    /// How many rings could be lent now.
    pub fn rings_left(&self) -> usize {
        self.rings_max.saturating_sub(self.rings_lent())
    }

    /// How many inboxes are in use.
    pub fn inboxes_lent(&self) -> usize {
        self.inboxes.lent
    }
}

struct Pool {
    free: Vec<Ring>,
    lent: usize,
    capacity: usize,
}

impl Pool {
    fn new(capacity: usize) -> Pool {
        Pool { free: Vec::new(), lent: 0, capacity }
    }

    fn take(&mut self) -> Ring {
        self.lent += 1;
        self.free.pop().unwrap_or_else(|| Ring::new(self.capacity))
    }

    fn give(&mut self, ring: Ring) {
        self.lent -= 1;
        self.free.push(ring);
    }

    /// Keeps so many of those that are not lent.
    fn keep(&mut self, max: usize) {
        self.free.truncate(max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_bounded_and_come_back() {
        let mut buffers = Buffers::new(2, RelayMode::Auto, 0);
        let (first, second) = (buffers.ring().unwrap(), buffers.ring().unwrap());
        assert!(buffers.ring().is_none());
        assert_eq!((buffers.rings_lent(), buffers.rings_left()), (2, 0));
        buffers.give(first);
        assert!(buffers.ring().is_some());
        buffers.give(second);
        assert_eq!(buffers.rings_left(), 1);
    }

    #[test]
    fn inboxes_do_not_use_up_rings() {
        let mut buffers = Buffers::new(1, RelayMode::Auto, 0);
        let inboxes: Vec<_> = (0..100).map(|_| buffers.inbox()).collect();
        assert_eq!(buffers.inboxes_lent(), 100);
        assert_eq!(buffers.rings_left(), 1);
        inboxes.into_iter().for_each(|inbox| buffers.give(inbox));
        assert_eq!(buffers.inboxes_lent(), 0);
    }

    #[test]
    fn rooms_for_tokens_are_counted_by_their_bytes() {
        let mut buffers = Buffers::new(4, RelayMode::Auto, 0);
        let small = RING_BYTES / 32;
        let mut rooms: Vec<Ring> =
            std::iter::from_fn(|| buffers.token_room(small, None, false)).take(100).collect();
        assert_eq!((rooms.len(), buffers.rings_lent(), buffers.rings_left()), (64, 2, 2));
        // In the place of the old one there is room for one that is no larger.
        let old = rooms.pop().unwrap();
        assert!(buffers.token_room(2 * small, Some(&old), false).is_none());
        rooms.push(buffers.token_room(small, Some(&old), false).unwrap());
        buffers.give(old);
        // Lanes may have the other half, and who is known gets something even then.
        let rings = [buffers.ring().unwrap(), buffers.ring().unwrap()];
        assert!(buffers.ring().is_none());
        let known = buffers.token_room(RING_BYTES, None, true).unwrap();
        assert_eq!((buffers.rings_lent(), buffers.rings_left()), (5, 0));
        rooms.into_iter().chain(rings).chain([known]).for_each(|room| buffers.give(room));
        assert_eq!((buffers.rings_lent(), buffers.rings_left()), (0, 4));
    }

    #[test]
    fn what_is_kept_for_the_next_is_not_beside_the_rings() {
        let mut buffers = Buffers::new(4, RelayMode::Auto, 0);
        let rings: Vec<Ring> = std::iter::from_fn(|| buffers.ring()).collect();
        rings.into_iter().for_each(|ring| buffers.give(ring));
        let rooms = [5000, 60_000, 60_000, 60_000].map(|len| buffers.room_for(len));
        assert_eq!((buffers.rings_lent(), buffers.rings.free.len()), (2, 2));
        rooms.into_iter().for_each(|room| buffers.give(room));
        assert_eq!((buffers.rings_lent(), buffers.rings_left()), (0, 4));
    }

    #[test]
    fn a_lent_buffer_is_always_empty() {
        let mut buffers = Buffers::new(1, RelayMode::Auto, 0);
        let mut ring = buffers.ring().unwrap();
        ring.extend(b"secret");
        buffers.give(ring);
        assert!(buffers.ring().unwrap().is_empty());
    }
}
