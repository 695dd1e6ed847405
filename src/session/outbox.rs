use crate::relay::{Buffers, Endpoint, Sent, Socket};

/// Answers on their way to a client: at most one of each kind, so a few bytes are enough.
pub(super) struct Outbox {
    bytes: [u8; Outbox::CAPACITY],
    start: u8,
    end: u8,
}

impl Outbox {
    /// A method, a login's status and the two longest replies: 2 + 2 + 22 + 22, all unsent.
    const CAPACITY: usize = 48;

    pub(super) fn new() -> Outbox {
        Outbox { bytes: [0; Outbox::CAPACITY], start: 0, end: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(super) fn push(&mut self, answer: &[u8]) {
        let end = self.end as usize + answer.len();
        self.bytes[self.end as usize..end].copy_from_slice(answer);
        self.end = end as u8;
    }

    /// Sends what it holds, as far as `client` takes it.
    pub(super) fn flush<S: Socket>(
        &mut self,
        client: &mut Endpoint<S>,
        buffers: &mut Buffers,
    ) -> Flushed {
        while !self.is_empty() {
            match client.send(&self.bytes[self.start as usize..self.end as usize], buffers) {
                Sent::Bytes(n) => self.start += n as u8,
                Sent::Blocked => return Flushed::Blocked,
                Sent::Broken => {
                    self.clear();
                    return Flushed::Broken;
                }
            }
        }
        self.clear();
        Flushed::Empty
    }

    fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    Empty,
    Blocked,
    Broken,
}
