use super::pipe::Pipes;
use super::{Pipe, Ring};
use crate::config::RelayMode;

/// The size of a lane's ring, in bytes.
pub const RING_BYTES: usize = 128 * 1024;

/// The size of a negotiation's inbox, in bytes: room for the largest SOCKS message.
pub const INBOX_BYTES: usize = 1024;

/// One reactor's buffers: rings and pipes for lanes, bounded, and small inboxes for negotiations.
///
/// Buffers belong to bytes, not to connections: each goes back when it is empty, and the one that
/// came back last is lent first, so that the hot ones stay in the processor's cache.
pub struct Buffers {
    rings: Pool,
    rings_max: usize,
    inboxes: Pool,
    scratch: Box<[u8]>,
    pipes: Pipes,
    mode: RelayMode,
    unspliceable: u64,
}

impl Buffers {
    /// Buffers of at most `rings_max` rings and `pipes_max` pipes, which are used as `mode` says.
    /// Each session needs at most one inbox, so that limiting sessions limits inboxes: 1 KiB each.
    pub fn new(rings_max: usize, mode: RelayMode, pipes_max: usize) -> Buffers {
        Buffers {
            rings: Pool::new(RING_BYTES),
            rings_max,
            inboxes: Pool::new(INBOX_BYTES),
            scratch: vec![0; RING_BYTES].into(),
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
    pub fn scratch(&mut self) -> &mut [u8] {
        &mut self.scratch
    }

    /// An inbox for a negotiation.
    pub fn inbox(&mut self) -> Ring {
        self.inboxes.take()
    }

    /// Takes a ring or an inbox back. What it still holds is forgotten.
    pub fn give(&mut self, mut ring: Ring) {
        ring.clear();
        if ring.capacity() == INBOX_BYTES { self.inboxes.give(ring) } else { self.rings.give(ring) }
    }

    /// How many rings are in use.
    pub fn rings_lent(&self) -> usize {
        self.rings.lent
    }

    /// How many rings could be lent now.
    pub fn rings_left(&self) -> usize {
        self.rings_max.saturating_sub(self.rings.lent)
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
    fn a_lent_buffer_is_always_empty() {
        let mut buffers = Buffers::new(1, RelayMode::Auto, 0);
        let mut ring = buffers.ring().unwrap();
        ring.room()[..6].copy_from_slice(b"secret");
        ring.fill(6);
        buffers.give(ring);
        assert!(buffers.ring().unwrap().is_empty());
    }
}
