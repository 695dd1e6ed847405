use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use super::context::Context;
use super::handshake::{Handshake, Next, Say};
use super::work::{Failure, Message, Work};
use crate::pattern::{PIECE, RECEIVED};

/// How much one connection sends or receives before the others have their turn.
const TURN: usize = 1 << 20;

/// What a connection needs next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Its next event.
    Wait,
    /// To go on after the others.
    Yield,
    /// Nothing: it has ended as it should.
    Done,
}

/// A connection through the proxy, from its first byte to its last.
pub(super) struct Connection {
    stream: TcpStream,
    stage: Stage,
    work: Work,
    /// What is still to be sent, and how much of it has been.
    outgoing: Option<(Message, usize)>,
    /// The peer's FIN has arrived: a short read is not the last one.
    closed: bool,
    /// Since when it has waited for what it waits for.
    since: Instant,
    ready: bool,
    /// Whether it stands in the queue of those that go on.
    pub(super) queued: bool,
}

enum Stage {
    Handshake(Handshake),
    Working,
}

impl Connection {
    /// Connects, and says what can be said at once: on loopback a connection is there by then.
    pub(super) fn open(
        cx: &mut Context,
        work: Work,
        registry: &Registry,
        token: Token,
    ) -> Result<Connection, Failure> {
        let beside = is_beside(&work);
        let since = Instant::now();
        let mut connection = Connection {
            stream: cx.route(beside).connect()?,
            stage: Stage::Working,
            work,
            outgoing: None,
            closed: false,
            since,
            ready: false,
            queued: false,
        };
        if cx.route(beside).script.is_some() {
            connection.stage = Stage::Handshake(Handshake::new());
            connection.send(cx, Message::Say(Say::Greeting))?;
        } else if let Some(message) = connection.work.first_message(cx) {
            connection.send(cx, message)?;
        }
        // A session waits for room only if it has to: each event that is not is time for others.
        let waits_for_room =
            connection.outgoing.is_some() || !matches!(connection.work, Work::Session { .. });
        let interests = if waits_for_room {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        registry.register(&mut connection.stream, token, interests)?;
        Ok(connection)
    }

    /// Whether it has done once what it is there for.
    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    /// How long it has waited for an answer, if it waits for one.
    pub(super) fn waits(&self, now: Instant) -> Option<Duration> {
        let waits = match &self.work {
            Work::Session { .. } => true,
            Work::Requests(exchange) => !exchange.is_idle(),
            _ => !self.ready,
        };
        waits.then(|| now.saturating_duration_since(self.since))
    }

    /// From when the latency of the request that is not answered counts.
    pub(super) fn asked(&self) -> Option<Instant> {
        match &self.work {
            Work::Requests(exchange) => exchange.asked(),
            _ => None,
        }
    }

    pub(super) fn handle_event(
        &mut self,
        cx: &mut Context,
        buffer: &mut [u8],
        event: &Event,
    ) -> Result<Turn, Failure> {
        self.closed |= event.is_read_closed();
        if event.is_error() {
            return Err(self.stream.take_error()?.map_or(Failure::Ended, Failure::Socket));
        }
        if event.is_writable() {
            self.flush(cx)?;
        }
        let received = if event.is_readable() { self.receive(cx, buffer)? } else { Turn::Wait };
        if event.is_writable() && received == Turn::Wait {
            return self.upload(cx);
        }
        Ok(received)
    }

    /// Goes on after it has yielded.
    pub(super) fn handle_turn(
        &mut self,
        cx: &mut Context,
        buffer: &mut [u8],
    ) -> Result<Turn, Failure> {
        match self.work {
            Work::Up(_) => self.upload(cx),
            _ => self.receive(cx, buffer),
        }
    }

    /// Sends the next request if it is time for it and the last one is answered.
    pub(super) fn ask(&mut self, cx: &mut Context) -> Result<Turn, Failure> {
        let Work::Requests(exchange) = &mut self.work else { return Ok(Turn::Wait) };
        if !self.ready || !exchange.is_idle() {
            return Ok(Turn::Wait);
        }
        let Some(intended) = cx.requests.take(exchange.lane, cx.draining) else {
            return Ok(if cx.draining { Turn::Done } else { Turn::Wait });
        };
        let request = Message::Request(exchange.ask(intended));
        self.since = Instant::now();
        self.send(cx, request)?;
        Ok(Turn::Wait)
    }

    /// Ends it, as soon as what is under way is over.
    pub(super) fn finish(&mut self, cx: &mut Context) -> Result<Turn, Failure> {
        match &mut self.work {
            Work::Session { .. } => Ok(Turn::Wait),
            Work::Requests(exchange) if !exchange.is_idle() => Ok(Turn::Wait),
            Work::Requests(_) => self.ask(cx),
            Work::Up(upload) if matches!(self.stage, Stage::Working) => {
                upload.ended = true;
                self.stream.shutdown(Shutdown::Write)?;
                Ok(Turn::Wait)
            }
            Work::Up(_) | Work::Down { .. } | Work::Idle | Work::Stalled => {
                self.reset();
                Ok(Turn::Done)
            }
        }
    }

    /// Makes its close a reset: what is still under way is no use to anybody.
    pub(super) fn reset(&self) {
        // Refused only to a socket that is no longer one.
        let _set = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    fn send(&mut self, cx: &Context, message: Message) -> Result<(), Failure> {
        self.outgoing = Some((message, 0));
        self.flush(cx)
    }

    fn flush(&mut self, cx: &Context) -> Result<(), Failure> {
        let beside = is_beside(&self.work);
        while let Some((message, sent)) = &mut self.outgoing {
            let left = &message.bytes(cx, beside)[*sent..];
            match self.stream.write(left) {
                Ok(taken) if taken == left.len() => self.outgoing = None,
                Ok(taken) => *sent += taken,
                Err(error) if is_not_yet(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn receive(&mut self, cx: &mut Context, buffer: &mut [u8]) -> Result<Turn, Failure> {
        for _ in 0..TURN / RECEIVED {
            if let (Stage::Working, Work::Stalled) = (&self.stage, &self.work) {
                self.ready = true;
                return Ok(Turn::Wait);
            }
            let received = match self.stream.read(buffer) {
                Ok(0) => return self.handle_end(cx),
                Ok(received) => received,
                Err(error) if is_not_yet(&error) => return Ok(Turn::Wait),
                Err(error) => return Err(error.into()),
            };
            let turn = self.handle_bytes(cx, &buffer[..received])?;
            if turn != Turn::Wait {
                return Ok(turn);
            }
            if received < buffer.len() {
                // With its FIN behind it, a short read is all there was.
                return if self.closed { self.handle_end(cx) } else { Ok(Turn::Wait) };
            }
        }
        Ok(Turn::Yield)
    }

    fn handle_bytes(&mut self, cx: &mut Context, mut bytes: &[u8]) -> Result<Turn, Failure> {
        while let Stage::Handshake(handshake) = &mut self.stage {
            let logs_in = cx.route(is_beside(&self.work)).logs_in;
            let (used, next) = handshake.hear(bytes, logs_in)?;
            bytes = &bytes[used..];
            match next {
                Next::Listen => return Ok(Turn::Wait),
                Next::Say(say) => self.send(cx, Message::Say(say))?,
                Next::Open => self.begin(cx)?,
            }
        }
        if bytes.is_empty() { self.upload(cx) } else { self.handle_data(cx, bytes) }
    }

    fn begin(&mut self, cx: &mut Context) -> Result<(), Failure> {
        self.stage = Stage::Working;
        match self.work.first_message(cx) {
            Some(message) => self.send(cx, message),
            None => Ok(()),
        }
    }

    fn handle_data(&mut self, cx: &mut Context, bytes: &[u8]) -> Result<Turn, Failure> {
        match &mut self.work {
            Work::Session { byte, answered } => match bytes {
                [echoed] if echoed == byte && !*answered => *answered = true,
                [_] if !*answered => return Err(Failure::WrongByte),
                _ => return Err(Failure::Unasked),
            },
            Work::Requests(exchange) => {
                let size = cx.requests.size;
                if let Some(latency) = exchange.hear(&cx.pattern, size, bytes)? {
                    cx.tally.count(latency);
                    self.ready = true;
                    return self.ask(cx);
                }
            }
            Work::Down { check, beside, .. } => {
                check.take(&cx.pattern, bytes)?;
                let counted =
                    if *beside { &mut cx.tally.beside_bytes } else { &mut cx.tally.units };
                *counted += bytes.len() as u64;
                self.ready = true;
            }
            Work::Up(upload) => {
                return Ok(if upload.hear(bytes)? { Turn::Done } else { Turn::Wait });
            }
            Work::Idle if self.ready => return Err(Failure::Unasked),
            Work::Idle if bytes != [0] => return Err(Failure::WrongByte),
            Work::Idle | Work::Stalled => self.ready = true,
        }
        Ok(Turn::Wait)
    }

    fn handle_end(&mut self, cx: &mut Context) -> Result<Turn, Failure> {
        match self.work {
            Work::Session { answered: true, .. } => {
                cx.tally.count(self.since.elapsed());
                Ok(Turn::Done)
            }
            _ => Err(Failure::Ended),
        }
    }

    /// Sends as much as there is room for, if sending is what it does.
    fn upload(&mut self, cx: &mut Context) -> Result<Turn, Failure> {
        let (Work::Up(upload), Stage::Working) = (&mut self.work, &self.stage) else {
            return Ok(Turn::Wait);
        };
        if upload.ended {
            return Ok(Turn::Wait);
        }
        for _ in 0..TURN / PIECE {
            let taken = match self.stream.write(cx.pattern.at(upload.sent, PIECE)) {
                Ok(taken) => taken as u64,
                Err(error) if is_not_yet(&error) => return Ok(Turn::Wait),
                Err(error) => return Err(error.into()),
            };
            upload.sent += taken;
            cx.tally.units += taken;
            self.ready = true;
        }
        Ok(Turn::Yield)
    }
}

/// Whether it goes to where the flow beside the others goes.
fn is_beside(work: &Work) -> bool {
    matches!(work, Work::Down { beside: true, .. })
}

/// Not now, or not before it is connected.
fn is_not_yet(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
}
