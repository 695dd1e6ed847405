use crate::proto::Dialect;
use crate::relay::{Buffers, Endpoint, Received, Ring, Socket};
use crate::session::outbox::{Flushed, Outbox};

/// A client whose request is being met: it waits for its reply.
pub(super) struct Pending<S> {
    pub(super) client: Endpoint<S>,
    /// What it sent behind its request, if anything: never an empty buffer.
    pub(super) early: Option<Ring>,
    pub(super) dialect: Dialect,
}

impl<S: Socket> Pending<S> {
    /// Sends it what is due, and finds out whether it has hung up.
    ///
    /// A FIN alone is a hang-up; behind early data it is a half-close, and the client still waits
    /// for the answer to what it sent.
    pub(super) fn is_gone(&mut self, outbox: &mut Outbox, buffers: &mut Buffers) -> bool {
        if outbox.flush(&mut self.client, buffers) == Flushed::Broken {
            return true;
        }
        self.client.is_reset() || (self.client.end_reported() && self.ends_without_data(buffers))
    }

    /// Receives early data as far as the inbox has room, looking for the end behind it.
    fn ends_without_data(&mut self, buffers: &mut Buffers) -> bool {
        loop {
            let early = self.early.get_or_insert_with(|| buffers.inbox());
            early.align();
            if early.is_full() {
                return false;
            }
            let received = self.client.recv(early.room(), buffers);
            if let Received::Bytes(n) = received {
                early.fill(n);
                continue;
            }
            let nothing_came = early.is_empty();
            if let Some(early) = self.early.take_if(|early| early.is_empty()) {
                buffers.give(early);
            }
            return match received {
                Received::Reset => true,
                Received::End => nothing_came,
                Received::Blocked | Received::Bytes(_) => false,
            };
        }
    }

    /// Gives back what it holds.
    pub(super) fn release(&mut self, buffers: &mut Buffers) {
        self.client.release(buffers);
        self.forget_early(buffers);
    }

    /// What the client sent is forgotten.
    pub(super) fn forget_early(&mut self, buffers: &mut Buffers) {
        self.client.forget_received(buffers);
        if let Some(early) = self.early.take() {
            buffers.give(early);
        }
    }
}
