use std::io::{self, Read, Write};
use std::time::Instant;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::{FAREWELL, SPOILT};
use crate::pace::Allowance;
use crate::pattern::{Check, PIECE, Pattern, RECEIVED};

/// How much one connection sends or receives before the others have their turn.
const TURN: usize = 1 << 20;

/// What is done with a connection.
#[derive(Clone, Copy)]
pub(super) enum Service {
    Source,
    Sink,
    Echo,
}

/// What all connections use.
pub(super) struct Tools {
    pattern: Pattern,
    buffer: Box<[u8]>,
}

impl Default for Tools {
    fn default() -> Tools {
        Tools { pattern: Pattern::default(), buffer: vec![0; RECEIVED].into() }
    }
}

/// What a connection needs next.
pub(super) enum Turn {
    /// Its next event.
    Wait,
    /// To go on after the others.
    Yield,
    /// To go on when it is allowed more.
    Pause,
    /// To be told when it can be sent to, which it is not by default.
    NeedRoom,
    /// To be closed.
    End,
}

/// Somebody who has connected.
pub(super) struct Peer {
    stream: TcpStream,
    role: Role,
    /// Its FIN or a reset has arrived: a short read is not the last one.
    closed: bool,
    /// Whether it stands in one of the server's queues.
    pub(super) queued: bool,
}

enum Role {
    /// It has said so much of how fast it wants the pattern.
    Asking([u8; 8], usize),
    Source(u64, Allowance),
    Sink(Check),
    /// Nothing has come yet.
    Fresh,
    Echo,
    /// This is still to be echoed, and then the connection to be ended or not.
    Blocked(Vec<u8>, bool),
}

impl Peer {
    pub(super) fn new(stream: TcpStream, service: Service) -> Peer {
        let role = match service {
            Service::Source => Role::Asking([0; 8], 0),
            Service::Sink => Role::Sink(Check::default()),
            Service::Echo => Role::Fresh,
        };
        Peer { stream, role, closed: false, queued: false }
    }

    pub(super) fn handle_event(&mut self, tools: &mut Tools, event: &Event) -> Turn {
        self.closed |= event.is_read_closed() || event.is_error();
        let concerned = match self.role {
            Role::Source(..) | Role::Blocked(..) => event.is_writable(),
            Role::Asking(..) | Role::Sink(_) | Role::Fresh | Role::Echo => event.is_readable(),
        };
        if concerned { self.handle_turn(tools) } else { Turn::Wait }
    }

    pub(super) fn handle_turn(&mut self, tools: &mut Tools) -> Turn {
        self.go_on(tools).unwrap_or(Turn::End)
    }

    /// When it is allowed more.
    pub(super) fn next(&self) -> Option<Instant> {
        match &self.role {
            Role::Source(_, allowance) => allowance.next(),
            _ => None,
        }
    }

    pub(super) fn watch_for_room(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.reregister(&mut self.stream, token, Interest::READABLE | Interest::WRITABLE)
    }

    fn go_on(&mut self, tools: &mut Tools) -> io::Result<Turn> {
        match self.role {
            Role::Asking(..) => self.be_asked(tools),
            Role::Source(..) => self.send(tools),
            Role::Sink(_) => self.swallow(tools),
            Role::Fresh | Role::Echo => self.echo(tools),
            Role::Blocked(..) => self.unblock(tools),
        }
    }

    fn be_asked(&mut self, tools: &mut Tools) -> io::Result<Turn> {
        let Role::Asking(rate, known) = &mut self.role else { return Ok(Turn::Wait) };
        let Some(received) = now(self.stream.read(&mut rate[*known..]))? else {
            return Ok(Turn::Wait);
        };
        *known += received;
        match received {
            0 => Ok(Turn::End),
            _ if *known < rate.len() => Ok(Turn::Yield),
            _ => {
                let allowance = Allowance::new(u64::from_le_bytes(*rate), Instant::now());
                self.role = Role::Source(0, allowance);
                self.send(tools)
            }
        }
    }

    fn send(&mut self, tools: &mut Tools) -> io::Result<Turn> {
        let Role::Source(position, allowance) = &mut self.role else { return Ok(Turn::Wait) };
        for _ in 0..TURN / PIECE {
            let length = allowance.available(Instant::now()).min(PIECE as u64) as usize;
            if length == 0 {
                return Ok(Turn::Pause);
            }
            let piece = tools.pattern.at(*position, length);
            let Some(sent) = now(self.stream.write(piece))? else { return Ok(Turn::Wait) };
            *position += sent as u64;
            allowance.spend(sent as u64);
        }
        Ok(Turn::Yield)
    }

    fn swallow(&mut self, tools: &mut Tools) -> io::Result<Turn> {
        let Role::Sink(check) = &mut self.role else { return Ok(Turn::Wait) };
        for _ in 0..TURN / RECEIVED {
            let Some(received) = now(self.stream.read(&mut tools.buffer))? else {
                return Ok(Turn::Wait);
            };
            let answer = match check.take(&tools.pattern, &tools.buffer[..received]) {
                Err(_) => SPOILT,
                Ok(()) if received == 0 => check.position(),
                Ok(()) if received < tools.buffer.len() && !self.closed => return Ok(Turn::Wait),
                Ok(()) => continue,
            };
            // The first bytes that are sent on a connection find room.
            self.stream.write_all(&answer.to_le_bytes())?;
            return Ok(Turn::End);
        }
        Ok(Turn::Yield)
    }

    fn echo(&mut self, tools: &mut Tools) -> io::Result<Turn> {
        for _ in 0..TURN / RECEIVED {
            let Some(received) = now(self.stream.read(&mut tools.buffer))? else {
                return Ok(Turn::Wait);
            };
            let message = &tools.buffer[..received];
            let Some(first) = message.first() else { return Ok(Turn::End) };
            let last = matches!(self.role, Role::Fresh) && *first >= FAREWELL;
            self.role = Role::Echo;
            let sent = now(self.stream.write(message))?.unwrap_or(0);
            if sent < received {
                self.role = Role::Blocked(message[sent..].to_vec(), last);
                return Ok(Turn::NeedRoom);
            }
            if last {
                return Ok(Turn::End);
            }
            if received < tools.buffer.len() && !self.closed {
                return Ok(Turn::Wait);
            }
        }
        Ok(Turn::Yield)
    }

    fn unblock(&mut self, tools: &mut Tools) -> io::Result<Turn> {
        let Role::Blocked(unsent, last) = &mut self.role else { return Ok(Turn::Wait) };
        while !unsent.is_empty() {
            let Some(sent) = now(self.stream.write(unsent))? else { return Ok(Turn::Wait) };
            unsent.drain(..sent);
        }
        if *last {
            return Ok(Turn::End);
        }
        self.role = Role::Echo;
        self.echo(tools)
    }
}

/// What a call has achieved, if it could achieve anything now.
fn now(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
