//! A model of a TCP connection as Linux has it: two ends, each with what it received and what it
//! has yet to deliver, both bounded, and the flags that `recv`, `send`, `SO_ERROR` and epoll go by.
//!
//! What it claims of ends and resets is what `tests/kernel_facts.rs` finds in the running kernel.

use ringsocks::relay::Readiness;

/// The gateway's end.
pub(crate) const OURS: usize = 0;
/// The other end.
pub(crate) const PEER: usize = 1;

/// A queue of bytes.
#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    start: usize,
}

impl Queue {
    fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn front(&self, n: usize) -> &[u8] {
        &self.bytes[self.start..self.start + n]
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.start >= self.len() {
            self.bytes.copy_within(self.start.., 0);
            self.bytes.truncate(self.len());
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    fn drop_front(&mut self, n: usize) {
        self.start += n;
        if self.len() == 0 {
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }
}

/// One end of a connection: what the kernel keeps of a socket.
#[derive(Default)]
struct Side {
    received: Queue,
    received_max: usize,
    /// How many bytes were received and read.
    read_at: u64,
    /// Where in what is received the urgent byte stands.
    urgent_at: Option<u64>,
    /// Sent bytes that have not arrived.
    unsent: Queue,
    unsent_max: usize,
    /// How many sent bytes have arrived.
    arrived_at: u64,
    /// Where in what is sent the urgent byte stands.
    sent_urgent_at: Option<u64>,
    fin_sent: bool,
    fin_acknowledged: bool,
    fin_arrived: bool,
    reset_on_its_way: bool,
    /// Reset, by either end: the state CLOSE.
    dead: bool,
    /// What was unacknowledged when it died.
    stale: usize,
    error: Option<i32>,
    /// A `send` or the poll found too little room: the next that comes free makes an edge.
    no_space: bool,
    edge: bool,
    lingers_not: bool,
    closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Established,
}

pub(crate) struct Connection {
    sides: [Side; 2],
    state: State,
}

impl Connection {
    /// An established connection whose ends receive and send this much ahead.
    pub(crate) fn new(queues: [usize; 2]) -> Connection {
        let mut connection = Connection::connecting(queues);
        connection.state = State::Established;
        connection.sides[OURS].edge = true;
        connection
    }

    /// A connection that is being made by our end.
    pub(crate) fn connecting([received_max, unsent_max]: [usize; 2]) -> Connection {
        let side = || Side { received_max, unsent_max, ..Side::default() };
        Connection { sides: [side(), side()], state: State::Connecting }
    }

    pub(crate) fn is_connecting(&self) -> bool {
        self.state == State::Connecting && !self.sides[OURS].dead
    }

    pub(crate) fn establish(&mut self) {
        if self.is_connecting() {
            self.state = State::Established;
            self.sides[OURS].edge = true;
        }
    }

    pub(crate) fn fail(&mut self, errno: i32) {
        if self.is_connecting() {
            let side = &mut self.sides[OURS];
            side.dead = true;
            side.error = Some(errno);
            side.edge = true;
        }
    }

    pub(crate) fn is_established(&self) -> bool {
        self.state == State::Established
    }

    pub(crate) fn is_closed(&self, end: usize) -> bool {
        self.sides[end].closed
    }

    /// Whether its FIN was sent, or is to be once what was sent before has arrived.
    pub(crate) fn is_finished(&self, end: usize) -> bool {
        self.sides[end].fin_sent
    }

    pub(crate) fn is_dead(&self, end: usize) -> bool {
        self.sides[end].dead
    }

    pub(crate) fn fin_arrived(&self, end: usize) -> bool {
        self.sides[end].fin_arrived
    }

    /// Whether it has bytes to read.
    pub(crate) fn has_bytes(&self, end: usize) -> bool {
        let side = &self.sides[end];
        side.received.len() > usize::from(side.urgent_at == Some(side.read_at))
    }

    /// How many bytes have arrived, read or not.
    pub(crate) fn arrived(&self, end: usize) -> u64 {
        self.sides[end].read_at + self.sides[end].received.len() as u64
    }

    /// Whether the poll would call it writable and a send would take bytes.
    pub(crate) fn has_space(&self, end: usize) -> bool {
        let side = &self.sides[end];
        self.state == State::Established && !side.dead && !side.fin_sent && side.has_space()
    }

    /// Shows up to `max` bytes to `see`, and leaves them to be received.
    pub(crate) fn peek(
        &mut self,
        end: usize,
        max: usize,
        mut see: impl FnMut(&[u8]),
    ) -> Result<usize, i32> {
        let side = &self.sides[end];
        let skipped = usize::from(side.urgent_at == Some(side.read_at) && side.received.len() > 0);
        let to_mark = match side.urgent_at {
            Some(at) if at > side.read_at => (at - side.read_at) as usize,
            _ => usize::MAX,
        };
        let n = max.min(side.received.len() - skipped).min(to_mark);
        if n == 0 {
            return self.recv(end, max, see);
        }
        see(&side.received.front(skipped + n)[skipped..]);
        Ok(n)
    }

    /// Receives up to `max` bytes and shows them to `see`.
    pub(crate) fn recv(
        &mut self,
        end: usize,
        max: usize,
        mut see: impl FnMut(&[u8]),
    ) -> Result<usize, i32> {
        let side = &mut self.sides[end];
        if side.urgent_at == Some(side.read_at) && side.received.len() > 0 {
            side.skip(1);
            side.urgent_at = None;
        }
        let to_mark = side.urgent_at.map_or(usize::MAX, |at| (at - side.read_at) as usize);
        let n = max.min(side.received.len()).min(to_mark);
        if n > 0 {
            see(side.received.front(n));
            side.skip(n);
            return Ok(n);
        }
        if side.fin_arrived {
            return Ok(0);
        }
        if let Some(errno) = side.error.take() {
            return Err(errno);
        }
        if side.dead { Ok(0) } else { Err(libc::EAGAIN) }
    }

    /// How many bytes a send would take.
    pub(crate) fn room(&self, end: usize) -> usize {
        let side = &self.sides[end];
        if side.error.is_some() || side.dead || side.fin_sent || self.state == State::Connecting {
            return 0;
        }
        side.unsent_max.saturating_sub(side.unsent.len())
    }

    /// Whether the next byte is one that is not of the stream.
    pub(crate) fn is_at_urgent_byte(&self, end: usize) -> bool {
        let side = &self.sides[end];
        side.urgent_at == Some(side.read_at) && side.received.len() > 0
    }

    pub(crate) fn send(&mut self, end: usize, bytes: &[u8]) -> Result<usize, i32> {
        let side = &mut self.sides[end];
        if let Some(errno) = side.error.take() {
            return Err(errno);
        }
        if side.dead || side.fin_sent {
            return Err(libc::EPIPE);
        }
        if self.state == State::Connecting {
            return Err(libc::EAGAIN);
        }
        let n = bytes.len().min(side.unsent_max.saturating_sub(side.unsent.len()));
        side.no_space |= n < bytes.len();
        if n == 0 {
            return Err(libc::EAGAIN);
        }
        side.unsent.push(&bytes[..n]);
        Ok(n)
    }

    /// Sends a byte beside the stream. Without room, or with another under way, it is not sent.
    pub(crate) fn send_urgent(&mut self, end: usize) -> bool {
        let side = &mut self.sides[end];
        if side.dead || side.fin_sent || side.sent_urgent_at.is_some() {
            return false;
        }
        side.sent_urgent_at = Some(side.arrived_at + side.unsent.len() as u64);
        side.unsent.push(b"!");
        true
    }

    pub(crate) fn shutdown_write(&mut self, end: usize) -> Result<(), i32> {
        let side = &mut self.sides[end];
        if side.dead || self.state == State::Connecting {
            return Err(libc::ENOTCONN);
        }
        side.fin_sent = true;
        side.edge = true;
        Ok(())
    }

    pub(crate) fn take_error(&mut self, end: usize) -> Option<i32> {
        self.sides[end].error.take()
    }

    pub(crate) fn unacknowledged(&self, end: usize) -> usize {
        let side = &self.sides[end];
        if side.dead { side.stale } else { side.unacknowledged() }
    }

    pub(crate) fn reset_on_close(&mut self, end: usize) {
        self.sides[end].lingers_not = true;
    }

    /// Whether closing our end now would take back what was sent.
    pub(crate) fn would_lose(&self) -> bool {
        let side = &self.sides[OURS];
        let resets = side.lingers_not || side.received.len() > 0;
        !side.closed && !side.dead && resets && side.unsent.len() > 0
    }

    /// Closes an end, and says whether that sent a RST.
    pub(crate) fn close(&mut self, end: usize) -> bool {
        let side = &mut self.sides[end];
        if side.closed {
            return false;
        }
        side.closed = true;
        side.edge = false;
        if self.state == State::Connecting {
            self.sides.iter_mut().for_each(|side| side.dead = true);
            return false;
        }
        if side.dead {
            return false;
        }
        let reset = side.lingers_not || side.received.len() > 0;
        if reset {
            side.send_reset();
        } else {
            side.fin_sent = true;
        }
        reset
    }

    /// Whether something of `from`'s could arrive now.
    pub(crate) fn can_deliver(&self, from: usize) -> bool {
        let (side, to) = (&self.sides[from], &self.sides[1 - from]);
        if self.state == State::Connecting {
            return false;
        }
        let nobody = to.closed || to.dead;
        side.reset_on_its_way
            || side.unsent.len() > 0 && (nobody || to.received.len() < to.received_max)
            || side.unsent.len() == 0 && side.fin_sent && !side.fin_acknowledged && !side.dead
    }

    /// Lets up to `max` bytes of `from`'s arrive, or what stands behind them. To be asked for only
    /// if it [can](Self::can_deliver).
    pub(crate) fn deliver(&mut self, from: usize, max: usize) {
        let [ours, peer] = &mut self.sides;
        let (side, to) = if from == OURS { (ours, peer) } else { (peer, ours) };
        if side.reset_on_its_way {
            side.reset_on_its_way = false;
            to.handle_reset();
        } else if side.unsent.len() == 0 {
            side.fin_acknowledged = true;
            side.edge |= !side.closed;
            if !to.dead {
                to.fin_arrived = true;
                to.edge |= !to.closed;
            }
        } else if to.closed || to.dead {
            let n = side.unsent.len().min(max);
            side.acknowledge(n);
            to.send_reset();
        } else {
            let n = side.unsent.len().min(max).min(to.received_max - to.received.len());
            let until = side.arrived_at + n as u64;
            if let Some(at) = side.sent_urgent_at.take_if(|at| *at < until) {
                to.urgent_at = Some(at);
            }
            to.received.push(side.unsent.front(n));
            to.edge = true;
            side.acknowledge(n);
        }
    }

    pub(crate) fn has_edge(&self, end: usize) -> bool {
        self.sides[end].edge
    }

    /// Takes the pending edge and says what epoll reports with it: all that is the case now.
    pub(crate) fn take_edge(&mut self, end: usize) -> Readiness {
        let connecting = self.is_connecting();
        let has_bytes = self.has_bytes(end);
        let side = &mut self.sides[end];
        side.edge = false;
        if connecting {
            return Readiness::default();
        }
        let writable = side.dead || side.fin_sent || side.has_space();
        side.no_space |= !writable;
        let urgent =
            side.urgent_at.is_some_and(|at| at < side.read_at + side.received.len() as u64);
        Readiness {
            readable: has_bytes || side.fin_arrived || side.dead || urgent,
            writable,
            read_closed: side.fin_arrived || side.dead,
            urgent,
            error: side.error.is_some(),
        }
    }

    /// An edge without a change: epoll may report more than it must.
    pub(crate) fn repeat_edge(&mut self, end: usize) {
        self.sides[end].edge |= !self.is_connecting() && !self.sides[end].closed;
    }
}

impl Side {
    fn skip(&mut self, n: usize) {
        self.received.drop_front(n);
        self.read_at += n as u64;
    }

    fn has_space(&self) -> bool {
        let queued = self.unsent.len();
        queued < self.unsent_max && self.unsent_max - queued >= queued / 2
    }

    fn unacknowledged(&self) -> usize {
        self.unsent.len() + usize::from(self.fin_sent && !self.fin_acknowledged)
    }

    fn acknowledge(&mut self, n: usize) {
        self.unsent.drop_front(n);
        self.arrived_at += n as u64;
        if self.no_space && self.has_space() {
            self.no_space = false;
            self.edge |= !self.closed;
        }
    }

    fn send_reset(&mut self) {
        self.die();
        self.reset_on_its_way = true;
    }

    fn handle_reset(&mut self) {
        if self.dead || self.fin_arrived && self.fin_acknowledged {
            return;
        }
        self.error = Some(match self.fin_arrived && !self.fin_sent {
            true => libc::EPIPE,
            false => libc::ECONNRESET,
        });
        self.die();
        self.edge |= !self.closed;
    }

    fn die(&mut self) {
        self.stale = self.unacknowledged();
        self.dead = true;
        self.unsent.clear();
    }
}
