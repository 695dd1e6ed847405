use std::time::Instant;

use super::{Buffers, Endpoint, Received, Ring, Sent, Socket};

/// One direction of a session: the bytes under way from a source to a sink, and how far it is.
pub struct Lane {
    ring: Option<Ring>,
    flow: Flow,
    bytes: u64,
    moved_at: Instant,
}

/// How far a lane is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The source may send more.
    Open,
    /// The source has ended in this way; the sink does not have all of it yet.
    Flushing(Ending),
    /// Everything the source sent, and its end, has been handed to the sink.
    Closed,
    /// The source was reset; what it had sent before has been handed to the sink.
    Severed,
    /// The sink takes no more: what the source still sends is thrown away.
    Discarding,
}

/// How a source ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a FIN.
    Fin,
    /// With a reset.
    Reset,
}

/// Why [`pump`] stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    /// Nothing more can be moved until the source or the sink says so.
    Blocked,
    /// There is more to move, but the allowance is used up: no edge will tell.
    Yielded,
    /// There is something to receive, but no ring to put it in.
    Starved,
}

/// What one turn of a session may spend, so that a busy session does not starve the others.
pub struct Work {
    now: Instant,
    bytes: usize,
    moved: bool,
}

impl Work {
    /// A turn's allowance for one lane, in bytes.
    const TURN_BYTES: usize = 256 * 1024;
    /// What a call costs at least: a turn is at most 16 of them.
    const CALL_BYTES: usize = Work::TURN_BYTES / 16;

    /// A fresh allowance.
    pub fn new(now: Instant) -> Work {
        Work { now, bytes: Work::TURN_BYTES, moved: false }
    }

    /// Whether anything moved.
    pub fn moved(&self) -> bool {
        self.moved
    }

    fn is_spent(&self) -> bool {
        self.bytes == 0
    }

    fn spend(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes.max(Work::CALL_BYTES));
    }
}

impl Lane {
    /// A lane with nothing under way.
    pub fn new(now: Instant) -> Lane {
        Lane { ring: None, flow: Flow::Open, bytes: 0, moved_at: now }
    }

    /// A lane with bytes that came before it was opened: a client's early data.
    pub fn with_early(early: Option<Ring>, now: Instant) -> Lane {
        Lane { ring: early, ..Lane::new(now) }
    }

    /// How far it is.
    pub fn flow(&self) -> Flow {
        self.flow
    }

    /// How many bytes have been handed to the sink.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether bytes wait for the sink.
    pub fn is_pending(&self) -> bool {
        self.ring.is_some()
    }

    /// Since when it has held a buffer without moving anything, if it holds one.
    pub fn stalled_since(&self) -> Option<Instant> {
        self.ring.as_ref().map(|_| self.moved_at)
    }

    /// Gives back what it holds.
    pub fn release(&mut self, buffers: &mut Buffers) {
        if let Some(ring) = self.ring.take() {
            buffers.give(ring);
        }
    }

    /// Hands what waits to the sink, as far as it will take it.
    fn flush<S: Socket>(&mut self, sink: &mut Endpoint<S>, buffers: &mut Buffers, work: &mut Work) {
        while let Some(ring) = &mut self.ring {
            if ring.is_empty() {
                return self.release(buffers);
            }
            match sink.send(ring.bytes()) {
                Sent::Bytes(n) => {
                    ring.consume(n);
                    self.bytes += n as u64;
                    self.moved_at = work.now;
                    work.moved = true;
                }
                Sent::Blocked => return,
                Sent::Broken => {
                    self.release(buffers);
                    self.flow = Flow::Discarding;
                }
            }
        }
    }

    /// Whether the source's bytes are wanted: there is room, and they would not just sit here.
    fn wants_more<S: Socket>(&self, sink: &Endpoint<S>) -> bool {
        match &self.ring {
            Some(ring) => !ring.is_full(),
            None => sink.is_writable(),
        }
    }

    /// Receives once. `None`: it went well, go on.
    fn fill<S: Socket>(
        &mut self,
        source: &mut Endpoint<S>,
        buffers: &mut Buffers,
        work: &mut Work,
    ) -> Option<Pumped> {
        if self.ring.is_none() {
            self.ring = buffers.ring();
            self.moved_at = work.now;
        }
        let Some(ring) = &mut self.ring else { return Some(Pumped::Starved) };
        match source.recv(ring.room()) {
            Received::Bytes(n) => {
                ring.fill(n);
                work.moved = true;
                work.spend(n);
            }
            Received::Blocked => {}
            Received::End => self.flow = Flow::Flushing(Ending::Fin),
            Received::Reset => self.flow = Flow::Flushing(Ending::Reset),
        }
        None
    }

    fn discard<S: Socket>(&mut self, source: &mut Endpoint<S>, work: &mut Work) {
        match source.discard(Work::TURN_BYTES) {
            Received::Bytes(n) => work.spend(n),
            Received::Blocked => {}
            Received::End | Received::Reset => self.flow = Flow::Closed,
        }
    }
}

/// Moves a lane's bytes from `source` to `sink` until one of them blocks or the work is spent.
///
/// The source's end is passed on once everything before it has been: a FIN as a FIN; a reset
/// leaves the lane [`Severed`](Flow::Severed), for the session to pass on.
pub fn pump<S: Socket>(
    source: &mut Endpoint<S>,
    lane: &mut Lane,
    sink: &mut Endpoint<S>,
    buffers: &mut Buffers,
    work: &mut Work,
) -> Pumped {
    loop {
        lane.flush(sink, buffers, work);
        match lane.flow {
            Flow::Open if source.is_readable() && lane.wants_more(sink) => {
                if work.is_spent() {
                    return Pumped::Yielded;
                }
                if let Some(stop) = lane.fill(source, buffers, work) {
                    return stop;
                }
            }
            Flow::Flushing(Ending::Fin) if !lane.is_pending() => {
                sink.finish();
                lane.flow = Flow::Closed;
            }
            Flow::Flushing(Ending::Reset) if !lane.is_pending() => lane.flow = Flow::Severed,
            Flow::Discarding if source.is_readable() => {
                if work.is_spent() {
                    return Pumped::Yielded;
                }
                lane.discard(source, work);
            }
            Flow::Open | Flow::Flushing(_) | Flow::Closed | Flow::Severed | Flow::Discarding => {
                return Pumped::Blocked;
            }
        }
    }
}
