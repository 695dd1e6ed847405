use super::{Buffers, Endpoint, Pipe, Received, Ring, Sent, Socket, Unspliceable};
use crate::config::RelayMode;

/// One direction of a session: the bytes under way from a source to a sink, and how far it is.
///
/// What waits in its ring comes before what waits in its pipe.
pub struct Lane {
    ring: Option<Ring>,
    pipe: Option<Box<Pipe>>,
    flow: Flow,
    pace: Pace,
    bytes: u64,
}

/// How its bytes go.
#[derive(Clone, Copy)]
enum Pace {
    /// Through a ring; the last so many receives were large.
    Copying { large: u8 },
    /// Through a pipe; the last so many splices were small.
    Splicing { small: u8 },
    /// Through a ring for ever: it cannot be spliced.
    CopyingOnly,
}

impl Pace {
    /// In one call, so much is bulk.
    const LARGE_BYTES: usize = 64 * 1024;
    /// So many large receives in a row are the beginning of a bulk transfer.
    const LARGE_RECEIVES: u8 = 2;
    /// In one call, so little is as well copied.
    const SMALL_BYTES: usize = 16 * 1024;
    /// So many small splices in a row are its end.
    const SMALL_SPLICES: u8 = 8;

    fn note_receive(&mut self, n: usize) {
        if let Pace::Copying { large } = self {
            *large = if n < Pace::LARGE_BYTES { 0 } else { *large + 1 };
            if *large == Pace::LARGE_RECEIVES {
                *self = Pace::Splicing { small: 0 };
            }
        }
    }

    fn note_splice(&mut self, n: usize) {
        if let Pace::Splicing { small } = self {
            *small = if n < Pace::SMALL_BYTES { *small + 1 } else { 0 };
            if *small == Pace::SMALL_SPLICES {
                *self = Pace::Copying { large: 0 };
            }
        }
    }

    fn is_splicing(self, mode: RelayMode) -> bool {
        match (self, mode) {
            (Pace::CopyingOnly, _) | (_, RelayMode::Copy) => false,
            (_, RelayMode::Splice) => true,
            (pace, RelayMode::Auto) => matches!(pace, Pace::Splicing { .. }),
        }
    }
}

/// How far a lane is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The source may send more.
    Open,
    /// The source has ended in this way; the sink does not have all of it yet.
    Flushing(Ending),
    /// The source has ended, and the sink has everything but the end: that is the session's to pass
    /// on.
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

    /// The same where every byte is sealed or opened: that takes about as long.
    const SEALED_TURN_BYTES: usize = 64 * 1024;

    /// A fresh allowance.
    pub fn new() -> Work {
        Work { bytes: Work::TURN_BYTES, moved: false }
    }

    /// A fresh allowance for a lane from or to this client.
    pub fn for_client<S: Socket>(client: &Endpoint<S>) -> Work {
        match client.is_sealed() {
            true => Work { bytes: Work::SEALED_TURN_BYTES, moved: false },
            false => Work::new(),
        }
    }

    /// Whether anything moved, be it an end: the time of a half-closed session begins with that.
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
        Lane {
            ring: early,
            pipe: None,
            flow: Flow::Open,
            pace: Pace::Copying { large: 0 },
            bytes: 0,
        }
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
        self.ring.is_some() || self.pipe.is_some()
    }

    /// Gives back what it holds.
    pub fn release(&mut self, buffers: &mut Buffers) {
        if let Some(ring) = self.ring.take() {
            buffers.give(ring);
        }
        if let Some(pipe) = self.pipe.take() {
            buffers.give_pipe(pipe);
        }
    }

    /// Hands what waits to the sink, as far as it will take it.
    fn flush<S: Socket>(&mut self, sink: &mut Endpoint<S>, buffers: &mut Buffers, work: &mut Work) {
        while self.is_pending() {
            let sent = match (&mut self.ring, &mut self.pipe) {
                (Some(ring), _) if !ring.is_empty() => {
                    let sent = sink.send(ring.bytes(), buffers);
                    if let Sent::Bytes(n) = sent {
                        ring.consume(n);
                    }
                    Ok(sent)
                }
                (_, Some(pipe)) if !pipe.is_empty() => match self.pace {
                    Pace::CopyingOnly => Err(Unspliceable),
                    _ => sink.splice_out(pipe),
                },
                _ => return self.release(buffers),
            };
            match sent {
                Ok(Sent::Bytes(n)) => {
                    self.bytes += n as u64;
                    work.moved = true;
                }
                Ok(Sent::Blocked) => return,
                Ok(Sent::Broken) => {
                    self.release(buffers);
                    self.end(Flow::Discarding, work);
                }
                Err(Unspliceable) => self.empty_pipe(buffers),
            }
        }
    }

    fn end(&mut self, flow: Flow, work: &mut Work) {
        self.flow = flow;
        work.moved = true;
    }

    /// The sink cannot be spliced to: what is in the pipe goes on through a ring.
    fn empty_pipe(&mut self, buffers: &mut Buffers) {
        self.copy_only(buffers);
        let (ring, pipe) = (&mut self.ring, &mut self.pipe);
        let ring = ring.get_or_insert_with(|| buffers.ring_for_pipe());
        match pipe.as_mut().map(|pipe| pipe.read(ring.room())) {
            Some(Ok(n)) if n > 0 => ring.fill(n),
            // What was put in is there. If it is not, going on without it would be worse.
            _ => {
                self.release(buffers);
                self.flow = Flow::Flushing(Ending::Reset);
            }
        }
    }

    fn copy_only(&mut self, buffers: &mut Buffers) {
        if !matches!(self.pace, Pace::CopyingOnly) {
            self.pace = Pace::CopyingOnly;
            buffers.count_unspliceable();
        }
    }

    /// Whether the source's bytes are wanted: there is room behind those that wait, and they would
    /// not just sit here.
    fn wants_more<S: Socket>(&self, sink: &Endpoint<S>) -> bool {
        match (&self.ring, &self.pipe) {
            (None, None) => sink.is_writable(),
            (Some(ring), None) => !ring.is_full(),
            (None, Some(pipe)) => pipe.room() > 0 && !matches!(self.pace, Pace::CopyingOnly),
            (Some(_), Some(_)) => false,
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
        if self.ring.is_none() && self.pipe.is_none() {
            let splices =
                self.pace.is_splicing(buffers.mode()) && source.can_splice() && !sink.is_sealed();
            self.pipe = splices.then(|| buffers.pipe()).flatten();
        }
        if self.pipe.is_some() {
            return self.splice(source, buffers, work);
        }
        if self.ring.is_none() {
            self.ring = buffers.ring();
        }
        let Some(ring) = &mut self.ring else {
            return self.carry(source, sink, buffers, work);
        };
        match source.recv(ring.room(), buffers) {
            Received::Bytes(n) => {
                ring.fill(n);
                work.moved = true;
                work.spend(n);
                self.pace.note_receive(n);
            }
            received => self.handle_end(received),
        }
    }

    /// Fills the pipe once.
    fn splice<S: Socket>(
        &mut self,
        source: &mut Endpoint<S>,
        buffers: &mut Buffers,
        work: &mut Work,
    ) {
        let Some(pipe) = &mut self.pipe else { return };
        match source.splice_in(pipe, pipe.room()) {
            Ok(Received::Bytes(n)) => {
                work.moved = true;
                work.spend(n);
                self.pace.note_splice(n);
            }
            Ok(Received::Blocked) => pipe.handle_blocked(),
            Ok(received) => self.handle_end(received),
            Err(Unspliceable) => self.copy_only(buffers),
        }
    }

    /// Moves bytes without a ring to keep what the sink does not take: they leave the source's
    /// kernel only when they are in the sink's. It costs a call more, but no memory.
    fn carry<S: Socket>(
        &mut self,
        source: &mut Endpoint<S>,
        sink: &mut Endpoint<S>,
        buffers: &mut Buffers,
        work: &mut Work,
    ) {
        let mut scratch = buffers.take_scratch();
        let sent = match source.peek(&mut scratch, buffers) {
            Received::Bytes(n) => Ok(sink.send(&scratch[..n], buffers)),
            received => Err(received),
        };
        buffers.give_scratch(scratch);
        let sent = match sent {
            Ok(sent) => sent,
            Err(received) => return self.handle_end(received),
        };
        match sent {
            Sent::Bytes(n) => {
                self.bytes += n as u64;
                work.moved = true;
                work.spend(n);
                self.drop_sent(source, n, buffers);
            }
            Sent::Blocked => {}
            Sent::Broken => self.end(Flow::Discarding, work),
        }
    }

    /// Takes from the source what the sink has been sent.
    fn drop_sent<S: Socket>(
        &mut self,
        source: &mut Endpoint<S>,
        mut sent: usize,
        buffers: &mut Buffers,
    ) {
        while sent > 0 {
            match source.discard(sent, buffers) {
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

    fn discard<S: Socket>(
        &mut self,
        source: &mut Endpoint<S>,
        buffers: &mut Buffers,
        work: &mut Work,
    ) {
        match source.discard(Work::TURN_BYTES, buffers) {
            Received::Bytes(n) => work.spend(n),
            Received::Blocked => {}
            Received::End | Received::Reset => self.flow = Flow::Closed,
        }
    }
}

/// Moves a lane's bytes from `source` to `sink` until one of them blocks or the work is spent.
///
/// Once everything before the source's end has been passed on, the lane is
/// [`Closed`](Flow::Closed) or [`Severed`](Flow::Severed): the end is for the session to pass on.
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
            Flow::Flushing(Ending::Fin) if !lane.is_pending() => lane.end(Flow::Closed, work),
            Flow::Flushing(Ending::Reset) if !lane.is_pending() => lane.flow = Flow::Severed,
            Flow::Discarding if source.is_readable() => {
                if work.is_spent() {
                    return Pumped::Yielded;
                }
                lane.discard(source, buffers, work);
            }
            Flow::Open | Flow::Flushing(_) | Flow::Closed | Flow::Severed | Flow::Discarding => {
                return Pumped::Blocked;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::gssapi::{Broken, MessageType, Opened, Order, Seal, header};
    use crate::relay::scripted::{READY, Scripted, endpoint};
    use crate::relay::{RING_BYTES, Readiness, Stage, Tokens};

    /// One lane and all that it needs.
    struct Bench {
        source: Endpoint<Scripted>,
        lane: Lane,
        sink: Endpoint<Scripted>,
        buffers: Buffers,
    }

    impl Bench {
        fn new(source: Scripted, sink: Scripted, rings_max: usize) -> Bench {
            Bench {
                source: endpoint(source, READY),
                lane: Lane::new(None),
                sink: endpoint(sink, READY),
                buffers: Buffers::new(rings_max, RelayMode::Auto, 0),
            }
        }

        /// A turn without any event before it.
        fn pump(&mut self) -> Pumped {
            let Bench { source, lane, sink, buffers } = self;
            pump(source, lane, sink, buffers, &mut Work::new())
        }

        /// A turn after events that say that everything is possible.
        fn pump_ready(&mut self) -> Pumped {
            self.source.handle_readiness(READY);
            self.sink.handle_readiness(READY);
            self.pump()
        }

        fn sent(&mut self) -> &[u8] {
            &self.sink.scripted().sent
        }
    }

    /// Protects nothing.
    struct Bare;

    impl Seal for Bare {
        fn message_max(&self, token_max: usize, _: bool) -> usize {
            token_max
        }

        fn wrap(&mut self, message: &[u8], _: bool, out: &mut Vec<u8>) -> Result<(), Broken> {
            out.extend_from_slice(message);
            Ok(())
        }

        fn unwrap(&mut self, token: &mut [u8]) -> Result<Opened, Broken> {
            Ok(Opened { message: 0..token.len(), confidential: false, order: Order::Next })
        }
    }

    /// A source that has sent these messages in one segment.
    fn sealed(messages: &[&[u8]], sink: Scripted, rings_max: usize) -> Bench {
        let token = |it: &&[u8]| [&header(MessageType::Data, it.len()), *it].concat();
        let tokens = messages.iter().flat_map(token).collect();
        let source = Scripted { incoming: [Ok(tokens)].into(), ..Scripted::default() };
        let mut bench = Bench::new(source, sink, rings_max);
        bench.source.seal(Stage::new(Box::new(Bare), false, Tokens::default()));
        bench
    }

    #[test]
    fn messages_for_a_broken_sink_are_thrown_away_unopened() {
        for rings in [0, 1] {
            let broken = Scripted::sending([Err(libc::EPIPE)]);
            let mut bench = sealed(&[b"one", b"two", b"three"], broken, rings);
            assert_eq!(bench.pump(), Pumped::Blocked);
            assert_eq!(bench.lane.flow(), Flow::Discarding);
            assert!(!bench.source.is_readable());
            assert_eq!((bench.buffers.rings_lent(), bench.buffers.inboxes_lent()), (0, 0));
        }
    }

    #[test]
    fn a_sealed_source_that_is_idle_holds_nothing() {
        for rings in [0, 1] {
            let long = [7; 3000];
            let mut bench = sealed(&[b"one", &long], Scripted::default(), rings);
            assert_eq!(bench.pump(), Pumped::Blocked);
            assert_eq!(bench.sent().len(), 3003);
            assert_eq!((bench.buffers.rings_lent(), bench.buffers.inboxes_lent()), (0, 0));
        }
    }

    #[test]
    fn an_emptied_lane_holds_no_ring() {
        let mut bench = Bench::new(Scripted::receiving([Ok(&b"abc"[..])]), Scripted::default(), 1);
        assert_eq!(bench.pump(), Pumped::Blocked);
        assert_eq!(bench.sent(), b"abc");
        assert_eq!(bench.lane.bytes(), 3);
        assert!(!bench.lane.is_pending());
        assert_eq!(bench.buffers.rings_lent(), 0);
    }

    #[test]
    fn nothing_is_received_for_a_sink_that_is_blocked() {
        let sink = Scripted::sending([Err(libc::EAGAIN)]);
        let mut bench =
            Bench::new(Scripted::receiving([Ok(&b"abc"[..]), Ok(&b"def"[..])]), sink, 1);
        bench.pump();
        assert!(bench.lane.is_pending());
        bench.lane.release(&mut bench.buffers);
        bench.source.handle_readiness(READY);
        let calls = bench.source.scripted().calls;
        assert_eq!(bench.pump(), Pumped::Blocked);
        assert_eq!(bench.source.scripted().calls, calls);
        assert_eq!(bench.buffers.rings_lent(), 0);
    }

    #[test]
    fn a_full_ring_is_not_received_into() {
        let flood =
            Scripted { incoming: [Ok(vec![7; 3 * RING_BYTES])].into(), ..Scripted::default() };
        let mut bench = Bench::new(flood, Scripted::sending([Err(libc::EAGAIN)]), 1);
        assert_eq!(bench.pump(), Pumped::Blocked);
        let left = bench.source.scripted().incoming[0].as_ref().unwrap().len();
        assert_eq!(left, 2 * RING_BYTES);
        assert!(bench.source.is_readable());
    }

    #[test]
    fn an_end_follows_the_bytes_before_it() {
        let source = Scripted::receiving([Ok(&b"abc"[..]), Ok(&b""[..])]);
        let mut bench = Bench::new(source, Scripted::sending([Ok(1), Ok(1), Err(libc::EAGAIN)]), 1);
        bench.pump();
        bench.pump_ready();
        assert_eq!(bench.lane.flow(), Flow::Flushing(Ending::Fin));
        bench.pump_ready();
        bench.pump_ready();
        assert_eq!(bench.sent(), b"abc");
        assert_eq!(bench.lane.flow(), Flow::Closed);
    }

    #[test]
    fn a_reset_follows_the_bytes_before_it_and_is_no_end() {
        let source = Scripted::receiving([Ok(&b"abc"[..]), Err(libc::ECONNRESET)]);
        let mut bench = Bench::new(source, Scripted::sending([Ok(1)]), 1);
        bench.pump();
        bench.source.handle_readiness(READY);
        bench.pump();
        assert!(bench.lane.is_severed());
        assert_eq!(bench.lane.flow(), Flow::Flushing(Ending::Reset));
        bench.pump_ready();
        assert_eq!(bench.sent(), b"abc");
        assert_eq!(bench.lane.flow(), Flow::Severed);
    }

    #[test]
    fn what_comes_for_a_broken_sink_is_thrown_away_until_it_ends() {
        for rings in [0, 1] {
            let source = Scripted::receiving([Ok(&b"abc"[..]), Ok(&b"def"[..]), Ok(&b""[..])]);
            let mut bench = Bench::new(source, Scripted::sending([Err(libc::EPIPE)]), rings);
            bench.pump();
            assert_eq!(bench.lane.flow(), Flow::Discarding);
            assert_eq!(bench.buffers.rings_lent(), 0);
            bench.pump_ready();
            bench.pump_ready();
            assert_eq!(bench.lane.flow(), Flow::Closed);
            assert_eq!(bench.lane.bytes(), 0);
        }
    }

    #[test]
    fn a_spent_allowance_yields_and_the_next_turn_goes_on() {
        let bulk = 10 * Work::TURN_BYTES;
        let flood = Scripted { incoming: [Ok(vec![7; bulk])].into(), ..Scripted::default() };
        let mut bench = Bench::new(flood, Scripted::default(), 1);
        let mut turns = 0;
        while bench.pump() == Pumped::Yielded {
            turns += 1;
            assert_eq!(bench.lane.bytes(), turns * Work::TURN_BYTES as u64);
            assert_eq!(bench.buffers.rings_lent(), 0);
        }
        assert_eq!(bench.sent().len(), bulk);
    }

    #[test]
    fn many_small_calls_spend_the_allowance_too() {
        let drops = Scripted { incoming: vec![Ok(vec![7]); 1000].into(), ..Scripted::default() };
        let mut bench = Bench::new(drops, Scripted::default(), 1);
        bench.source.handle_readiness(Readiness { urgent: true, ..READY });
        assert_eq!(bench.pump(), Pumped::Yielded);
        assert_eq!(bench.lane.bytes(), 16);
    }

    #[test]
    fn throwing_away_yields_as_well() {
        let flood = vec![Ok(vec![7; 4 * Work::TURN_BYTES])];
        let flood = Scripted { incoming: flood.into(), ..Scripted::default() };
        let mut bench = Bench::new(flood, Scripted::sending([Err(libc::EPIPE)]), 1);
        assert_eq!(bench.pump(), Pumped::Yielded);
        assert_eq!(bench.lane.flow(), Flow::Discarding);
    }

    #[test]
    fn without_a_ring_bytes_stay_where_they_are_until_the_sink_takes_them() {
        let source = Scripted::receiving([Ok(&b"abcdef"[..])]);
        let mut bench = Bench::new(source, Scripted::sending([Err(libc::EAGAIN), Ok(2)]), 0);
        bench.pump();
        assert_eq!(bench.source.scripted().incoming[0].as_deref(), Ok(&b"abcdef"[..]));
        bench.sink.handle_readiness(READY);
        bench.pump();
        assert_eq!(bench.source.scripted().incoming[0].as_deref(), Ok(&b"cdef"[..]));
        bench.sink.handle_readiness(READY);
        bench.pump();
        assert_eq!(bench.sent(), b"abcdef");
        assert!(!bench.lane.is_pending());
    }

    #[test]
    fn early_bytes_go_first() {
        let mut bench = Bench::new(Scripted::receiving([Ok(&b"late"[..])]), Scripted::default(), 1);
        let mut early = bench.buffers.inbox();
        early.extend(b"early");
        bench.lane = Lane::new(Some(early));
        bench.pump();
        assert_eq!(bench.sent(), b"earlylate");
        assert_eq!(bench.buffers.inboxes_lent(), 0);
    }

    fn segments() -> impl Strategy<Value = Vec<Result<Vec<u8>, i32>>> {
        let blocked = prop::sample::select(vec![libc::EAGAIN, libc::EINTR, libc::ENOBUFS]);
        let segment = prop_oneof![
            4 => prop::collection::vec(any::<u8>(), 1..300).prop_map(Ok),
            1 => blocked.prop_map(Err),
        ];
        prop::collection::vec(segment, 0..30)
    }

    fn room() -> impl Strategy<Value = Vec<Result<usize, i32>>> {
        let blocked = prop::sample::select(vec![libc::EAGAIN, libc::EINTR, libc::ENOBUFS]);
        prop::collection::vec(
            prop_oneof![3 => (1usize..200).prop_map(Ok), 1 => blocked.prop_map(Err)],
            0..60,
        )
    }

    fn modes() -> impl Strategy<Value = RelayMode> {
        prop::sample::select(vec![RelayMode::Splice, RelayMode::Auto, RelayMode::Copy])
    }

    fn refusals() -> impl Strategy<Value = Vec<Option<i32>>> {
        let errno =
            prop::sample::select(vec![libc::EINVAL, libc::ENOMEM, libc::EPERM, libc::EINTR]);
        prop::collection::vec(prop_oneof![6 => Just(None), 1 => errno.prop_map(Some)], 0..20)
    }

    #[test]
    fn large_receives_are_the_beginning_of_splicing_and_small_splices_its_end() {
        let bulk = (0..40).map(|_| Ok(vec![7; Pace::LARGE_BYTES]));
        let drops = (0..40).map(|_| Ok(vec![7; 10]));
        let incoming = bulk.chain(drops).collect();
        let source = Scripted { incoming, ..Scripted::default() };
        let mut bench = Bench::new(source, Scripted::default(), 1);
        bench.buffers = Buffers::new(1, RelayMode::Auto, 1);
        bench.source.handle_readiness(Readiness { read_closed: true, ..READY });
        let mut spliced = Vec::new();
        while bench.pump() == Pumped::Yielded {
            spliced.push(matches!(bench.lane.pace, Pace::Splicing { .. }));
        }
        assert!(spliced.iter().any(|it| *it), "bulk is copied");
        assert!(matches!(bench.lane.pace, Pace::Copying { .. }), "drops are spliced");
        assert_eq!(bench.lane.bytes(), 40 * (Pace::LARGE_BYTES as u64 + 10));
        assert_eq!(bench.buffers.pipes_lent(), 0);
    }

    #[test]
    fn who_has_urgent_bytes_is_not_spliced() {
        let source = Scripted::receiving([Ok(&b"abc"[..])]);
        let mut bench = Bench::new(source, Scripted::default(), 1);
        bench.buffers = Buffers::new(1, RelayMode::Splice, 1);
        bench.source.handle_readiness(Readiness { urgent: true, ..READY });
        bench.pump();
        assert_eq!(bench.sent(), b"abc");
        assert_eq!(bench.buffers.pipes_open(), 0);
    }

    proptest! {
        #[test]
        fn every_byte_arrives_in_order_then_the_end(
            segments in segments(),
            room in room(),
            clean: bool,
            rings in 0usize..2,
            pipes in 0usize..2,
            mode in modes(),
            refusals in [refusals(), refusals()],
        ) {
            let expected: Vec<u8> = segments.iter().flatten().flatten().copied().collect();
            let turns = 3 * (segments.len() + room.len()) + 10;
            let end = if clean { Ok(vec![]) } else { Err(libc::ECONNRESET) };
            let incoming = segments.into_iter().chain([end]).collect();
            let source = Scripted { incoming, ..Scripted::default() };
            let mut bench = Bench::new(source, Scripted::sending(room), rings);
            bench.buffers = Buffers::new(rings, mode, pipes);
            let [of_source, of_sink] = refusals;
            bench.source.scripted().refusals = of_source.into();
            bench.sink.scripted().refusals = of_sink.into();
            for _ in 0..turns {
                bench.pump_ready();
                let arrived = bench.sent().to_vec();
                prop_assert!(expected.starts_with(&arrived));
                prop_assert_eq!(bench.lane.bytes(), arrived.len() as u64);
                let over = matches!(bench.lane.flow(), Flow::Closed | Flow::Severed);
                prop_assert!(!over || arrived == expected);
                prop_assert_eq!(bench.sink.scripted().finishes, 0);
                let lent = bench.buffers.rings_lent() + bench.buffers.pipes_lent();
                prop_assert_eq!(lent > 0, bench.lane.is_pending());
                prop_assert!(bench.buffers.pipes_lent() <= pipes);
                prop_assert!(bench.buffers.rings_lent() <= rings + bench.buffers.pipes_lent());
            }
            prop_assert_eq!(bench.sent(), &expected[..]);
            prop_assert_eq!(bench.lane.flow(), if clean { Flow::Closed } else { Flow::Severed });
        }
    }
}
