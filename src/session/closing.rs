use crate::outcome::Outcome;
use crate::relay::{Buffers, Endpoint, Received, Socket};
use crate::session::outbox::{Flushed, Outbox};
use crate::session::relaying::Side;

/// A peer that has its last bytes coming: FIN behind them, and what it still sends is thrown away,
/// for closing with unread bytes would send a RST that may destroy them.
pub(super) struct Closing<S> {
    pub(super) peer: Endpoint<S>,
    pub(super) side: Side,
    pub(super) outcome: Outcome,
    discarded: usize,
}

impl<S: Socket> Closing<S> {
    /// Who sends more than this is not waiting for an answer: it is twice the longest message.
    const DISCARD_BYTES_MAX: usize = 128 * 1024;

    pub(super) fn new(peer: Endpoint<S>, side: Side, outcome: Outcome) -> Closing<S> {
        Closing { peer, side, outcome, discarded: 0 }
    }

    /// Whether it is over.
    pub(super) fn advance(&mut self, outbox: &mut Outbox, buffers: &mut Buffers) -> bool {
        match outbox.flush(&mut self.peer, buffers) {
            Flushed::Blocked => return false,
            Flushed::Broken => return true,
            Flushed::Empty => {}
        }
        self.peer.finish();
        loop {
            match self.peer.discard(Self::DISCARD_BYTES_MAX - self.discarded, buffers) {
                Received::Bytes(n) => self.discarded += n,
                Received::Blocked => return false,
                Received::End | Received::Reset => return true,
            }
            if self.discarded == Self::DISCARD_BYTES_MAX {
                return true;
            }
        }
    }
}
