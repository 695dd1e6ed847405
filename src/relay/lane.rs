use super::{Buffers, Endpoint, Received, Ring, Sent, Socket};

/// One direction of a session: the bytes under way from a source to a sink, and how far it is.
pub struct Lane {
    ring: Option<Ring>,
    flow: Flow,
    bytes: u64,
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
}

/// What one turn of a session may spend, so that a busy session does not starve the others.
pub struct Work {
    bytes: usize,
    moved: bool,
}

impl Default for Work {
    fn default() -> Work {
        Work::new()
    }
}

impl Work {
    /// A turn's allowance for one lane, in bytes.
    const TURN_BYTES: usize = 256 * 1024;
    /// What a call costs at least: a turn is at most 16 of them.
    const CALL_BYTES: usize = Work::TURN_BYTES / 16;

    /// A fresh allowance.
    pub fn new() -> Work {
        Work { bytes: Work::TURN_BYTES, moved: false }
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
    /// A lane for what comes after these bytes: a client's early data.
    pub fn new(early: Option<Ring>) -> Lane {
        Lane { ring: early, flow: Flow::Open, bytes: 0 }
    }

    /// How far it is.
    pub fn flow(&self) -> Flow {
        self.flow
    }

    /// Whether the source was reset, whatever of it the sink has.
    pub fn is_severed(&self) -> bool {
        matches!(self.flow, Flow::Flushing(Ending::Reset) | Flow::Severed)
    }

    /// How many bytes have been handed to the sink.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether bytes wait for the sink.
    pub fn is_pending(&self) -> bool {
        self.ring.is_some()
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

    /// Receives once.
    fn fill<S: Socket>(
        &mut self,
        source: &mut Endpoint<S>,
        sink: &mut Endpoint<S>,
        buffers: &mut Buffers,
        work: &mut Work,
    ) {
        if self.ring.is_none() {
            self.ring = buffers.ring();
        }
        let Some(ring) = &mut self.ring else {
            return self.carry(source, sink, buffers.scratch(), work);
        };
        match source.recv(ring.room()) {
            Received::Bytes(n) => {
                ring.fill(n);
                work.moved = true;
                work.spend(n);
            }
            received => self.handle_end(received),
        }
    }

    /// Moves bytes without a ring to keep what the sink does not take: they leave the source's
    /// kernel only when they are in the sink's. It costs a call more, but no memory.
    fn carry<S: Socket>(
        &mut self,
        source: &mut Endpoint<S>,
        sink: &mut Endpoint<S>,
        scratch: &mut [u8],
        work: &mut Work,
    ) {
        let n = match source.peek(scratch) {
            Received::Bytes(n) => n,
            received => return self.handle_end(received),
        };
        match sink.send(&scratch[..n]) {
            Sent::Bytes(n) => {
                self.bytes += n as u64;
                work.moved = true;
                work.spend(n);
                self.drop_sent(source, n);
            }
            Sent::Blocked => {}
            Sent::Broken => self.flow = Flow::Discarding,
        }
    }

    /// Takes from the source what the sink has been sent.
    fn drop_sent<S: Socket>(&mut self, source: &mut Endpoint<S>, mut sent: usize) {
        while sent > 0 {
            match source.discard(sent) {
                Received::Bytes(n) => sent -= n,
                // What was peeked at is there. If it is not, sending it again would be worse.
                Received::Blocked | Received::End | Received::Reset => {
                    self.flow = Flow::Flushing(Ending::Reset);
                    return;
                }
            }
        }
    }

    fn handle_end(&mut self, received: Received) {
        match received {
            Received::End => self.flow = Flow::Flushing(Ending::Fin),
            Received::Reset => self.flow = Flow::Flushing(Ending::Reset),
            Received::Bytes(_) | Received::Blocked => {}
        }
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
                lane.fill(source, sink, buffers, work);
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
