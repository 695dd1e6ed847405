use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry};
use socket2::{Protocol, Type};

use crate::dns::{Action, Answer, Asked, ChannelId, Resolver, Sources, Transport};
use crate::metrics::NameCounters;
use crate::outcome::is_exhaustion;
use crate::proto::Name;
use crate::reactor::net;
use crate::relay::Readiness;
use crate::sys;
use crate::token::{Role, Token};

/// The resolver with its sockets.
pub(super) struct Names {
    resolver: Resolver,
    registry: Registry,
    /// By the slot of their channels.
    wires: Vec<Option<Wire>>,
    /// Those that may have more to receive, though nothing will report it again.
    unread: VecDeque<Token>,
    /// For the longest message.
    buffer: Box<[u8]>,
}

/// The socket of a channel.
struct Wire {
    channel: ChannelId,
    socket: WireSocket,
}

enum WireSocket {
    Datagrams(UdpSocket),
    /// What is to be sent once there is room for it.
    Stream(TcpStream, Vec<u8>),
}

/// What came of receiving once.
enum Received {
    Bytes(usize),
    Nothing,
    /// There will be no more.
    Over,
}

impl Names {
    /// How often to receive from one socket before others have their turn.
    const RECEIVES_PER_TURN: usize = 32;
    const MESSAGE_MAX: usize = 65_535;

    pub(super) fn new(
        registry: Registry,
        sources: Arc<Sources>,
        channels_max: usize,
        now: Instant,
    ) -> Names {
        let entropy = |bytes: &mut [u8]| sys::fill_random(bytes);
        Names {
            resolver: Resolver::new(sources, Box::new(entropy), channels_max, now),
            registry,
            wires: Vec::new(),
            unread: VecDeque::new(),
            buffer: vec![0; Self::MESSAGE_MAX].into(),
        }
    }

    pub(super) fn ask(
        &mut self,
        name: &Name,
        waiter: Token,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Asked {
        let asked = self.resolver.ask(name, waiter, deadline, now);
        self.act(now);
        asked
    }

    pub(super) fn known(&mut self, name: &Name, now: Instant) -> Option<Answer> {
        self.resolver.known(name, now)
    }

    pub(super) fn forget(&mut self, waiter: Token) {
        self.resolver.forget(waiter);
    }

    pub(super) fn use_sources(&mut self, sources: Arc<Sources>, now: Instant) {
        self.resolver.use_sources(sources, now);
        self.act(now);
    }

    pub(super) fn poll_answer(&mut self) -> Option<(Token, Answer)> {
        self.resolver.poll_answer()
    }

    pub(super) fn counters(&self) -> NameCounters {
        self.resolver.counters()
    }

    /// Whether there is something to do though nothing happens.
    pub(super) fn is_busy(&self) -> bool {
        self.resolver.is_busy() || !self.unread.is_empty()
    }

    /// When to call [`expire`](Self::expire), if nothing happens before.
    pub(super) fn next(&self) -> Option<Instant> {
        self.resolver.next_deadline()
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.resolver.handle_deadline(now);
        self.act(now);
    }

    pub(super) fn handle_event(&mut self, token: Token, readiness: Readiness, now: Instant) {
        if readiness.writable
            && let Some(Wire { channel, socket }) = self.wire(token)
        {
            let (channel, flushed) = (*channel, socket.flush());
            if flushed.is_err() {
                self.fail(channel, now);
            }
        }
        if readiness.readable || readiness.read_closed || readiness.error {
            self.receive(token, now);
        }
    }

    /// Goes on with what one turn was not enough for.
    pub(super) fn handle_turn(&mut self, now: Instant) {
        for _ in 0..self.unread.len() {
            if let Some(token) = self.unread.pop_front() {
                self.receive(token, now);
            }
        }
    }

    fn receive(&mut self, token: Token, now: Instant) {
        for _ in 0..Self::RECEIVES_PER_TURN {
            let mut buffer = std::mem::take(&mut self.buffer);
            let received = self.receive_once(token, &mut buffer, now);
            self.buffer = buffer;
            self.act(now);
            if !received {
                return;
            }
        }
        self.unread.push_back(token);
    }

    /// Whether there may be more.
    fn receive_once(&mut self, token: Token, buffer: &mut [u8], now: Instant) -> bool {
        let Some(Wire { channel, socket }) = self.wire(token) else { return false };
        let channel = *channel;
        let is_stream = matches!(socket, WireSocket::Stream(..));
        match socket.receive(buffer) {
            Received::Bytes(n) if is_stream => {
                self.resolver.handle_stream(channel, &buffer[..n], now);
            }
            Received::Bytes(n) => self.resolver.handle_datagram(channel, &buffer[..n], now),
            Received::Nothing => return false,
            Received::Over => self.resolver.handle_failure(channel, now),
        }
        true
    }

    /// Does what the resolver wants done.
    fn act(&mut self, now: Instant) {
        while let Some(action) = self.resolver.poll_action() {
            match action {
                Action::Open { channel, server, transport } => {
                    self.open(channel, server, transport, now);
                }
                Action::Send { channel, bytes } => {
                    let wire = self.wires.get_mut(channel.slot).and_then(Option::as_mut);
                    let Some(wire) = wire.filter(|wire| wire.channel == channel) else { continue };
                    if wire.socket.send(bytes).is_err() {
                        self.resolver.handle_failure(channel, now);
                    }
                }
                Action::Close { channel } => {
                    if let Some(wire) = self.wires.get_mut(channel.slot) {
                        wire.take_if(|wire| wire.channel == channel);
                    }
                }
            }
        }
    }

    fn open(&mut self, channel: ChannelId, server: SocketAddr, transport: Transport, now: Instant) {
        match WireSocket::open(&self.registry, token_of(channel), server, transport) {
            Ok(socket) => {
                if self.wires.len() <= channel.slot {
                    self.wires.resize_with(channel.slot + 1, || None);
                }
                self.wires[channel.slot] = Some(Wire { channel, socket });
            }
            Err(error) if is_exhaustion(&error) => self.resolver.handle_shortage(channel, now),
            Err(error) => {
                log::debug!("cannot ask the name server {server}: {error}");
                self.resolver.handle_failure(channel, now);
            }
        }
    }

    fn fail(&mut self, channel: ChannelId, now: Instant) {
        self.resolver.handle_failure(channel, now);
        self.act(now);
    }

    /// The wire that an event is of, unless it is closed already.
    fn wire(&mut self, token: Token) -> Option<&mut Wire> {
        let wire = self.wires.get_mut(token.slot())?.as_mut()?;
        (token_of(wire.channel) == token).then_some(wire)
    }
}

fn token_of(channel: ChannelId) -> Token {
    Token::new(channel.generation, Role::Resolver, channel.slot)
}

impl WireSocket {
    /// A socket that is connected, so that the kernel lets nobody else in.
    fn open(
        registry: &Registry,
        token: Token,
        server: SocketAddr,
        transport: Transport,
    ) -> io::Result<WireSocket> {
        let (kind, protocol) = match transport {
            Transport::Udp => (Type::DGRAM, Protocol::UDP),
            Transport::Tcp => (Type::STREAM, Protocol::TCP),
        };
        let socket = net::open(server, kind, protocol)?;
        match socket.connect(&server.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        match transport {
            Transport::Udp => {
                let mut socket = UdpSocket::from_std(socket.into());
                registry.register(&mut socket, token.into(), Interest::READABLE)?;
                Ok(WireSocket::Datagrams(socket))
            }
            Transport::Tcp => {
                let mut stream = TcpStream::from_std(socket.into());
                let interests = Interest::READABLE | Interest::WRITABLE;
                registry.register(&mut stream, token.into(), interests)?;
                Ok(WireSocket::Stream(stream, Vec::new()))
            }
        }
    }

    /// An error says that there is nobody at the other end.
    fn send(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        match self {
            WireSocket::Datagrams(socket) => {
                let sent = match socket.send(&bytes) {
                    // What an earlier datagram met is reported instead of sending this one.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        socket.send(&bytes)
                    }
                    sent => sent,
                };
                match sent {
                    // It is as good as lost on the way: it will be sent again.
                    Err(error) if is_temporary(&error) => Ok(()),
                    sent => sent.map(drop),
                }
            }
            WireSocket::Stream(_, unsent) => {
                unsent.extend(bytes);
                self.flush()
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let WireSocket::Stream(stream, unsent) = self else { return Ok(()) };
        while !unsent.is_empty() {
            match stream.write(unsent) {
                Ok(n) => drop(unsent.drain(..n)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Before it is connected it says so; an edge follows in both cases.
                Err(error) if is_temporary(&error) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn receive(&mut self, into: &mut [u8]) -> Received {
        loop {
            let received = match self {
                WireSocket::Datagrams(socket) => socket.recv(into),
                WireSocket::Stream(stream, _) => stream.read(into),
            };
            return match received {
                Ok(0) if matches!(self, WireSocket::Stream(..)) => Received::Over,
                Ok(n) => Received::Bytes(n),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if is_temporary(&error) => Received::Nothing,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Received::Nothing,
                Err(_) => Received::Over,
            };
        }
    }
}

/// Whether a call failed though the socket is as good as before.
fn is_temporary(error: &io::Error) -> bool {
    let blocked = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
    blocked || is_exhaustion(error)
}
