use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;
use socket2::{Domain, Socket, Type};

use super::Ports;
use super::datagrams::Datagrams;
use super::peer::{Peer, Service, Tools, Turn};
use crate::alarm::Alarm;

/// As many as the kernel lets wait.
const BACKLOG: i32 = 4096;

const WAKER: Token = Token(usize::MAX);
const ALARM: Token = Token(usize::MAX - 1);
/// Of the first listener; the others' follow.
const LISTENERS: usize = usize::MAX - 16;
/// Of the first socket for datagrams; the others' follow.
const DATAGRAMS: usize = LISTENERS - Datagrams::SOCKETS;
const SERVICES: [Service; 3] = [Service::Source, Service::Sink, Service::Echo];

/// The origin's event loop.
pub struct Server {
    poll: Poll,
    /// Kept here, too: its event goes when it does.
    waker: Arc<Waker>,
    listeners: [TcpListener; 3],
    datagrams: Datagrams,
    ports: Ports,
    peers: Slab<Peer>,
    /// Who had more to do than others would wait for.
    ready: VecDeque<usize>,
    /// Who may go on only later.
    paced: Vec<usize>,
    alarm: Alarm,
    tools: Tools,
}

impl Server {
    /// A server that listens, on ports of the kernel's choice.
    pub fn bind() -> io::Result<Server> {
        let poll = Poll::new()?;
        let mut listeners = [listen()?, listen()?, listen()?];
        for (index, listener) in listeners.iter_mut().enumerate() {
            poll.registry().register(listener, Token(LISTENERS + index), Interest::READABLE)?;
        }
        let datagrams = Datagrams::bind(poll.registry(), DATAGRAMS)?;
        let port = |index: usize| Ok::<_, io::Error>(listeners[index].local_addr()?.port());
        let ports = Ports {
            address: Ipv4Addr::LOCALHOST,
            source: port(0)?,
            sink: port(1)?,
            echo: port(2)?,
            datagrams: datagrams.ports()?,
        };
        Ok(Server {
            waker: Arc::new(Waker::new(poll.registry(), WAKER)?),
            alarm: Alarm::new(poll.registry(), ALARM)?,
            poll,
            listeners,
            datagrams,
            ports,
            peers: Slab::new(),
            ready: VecDeque::new(),
            paced: Vec::new(),
            tools: Tools::default(),
        })
    }

    /// Where it listens.
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// What ends it.
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Serves until it is woken.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            let patience = self.patience()?;
            match self.poll.poll(&mut events, patience) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in events.iter() {
                if event.token() == WAKER {
                    return Ok(());
                }
                self.handle_event(event)?;
            }
            self.give_turns();
        }
    }

    fn patience(&mut self) -> io::Result<Option<Duration>> {
        if !self.ready.is_empty() {
            return Ok(Some(Duration::ZERO));
        }
        let paced = self.paced.iter().filter_map(|slot| self.peers.get(*slot)?.next());
        if let Some(next) = paced.min() {
            self.alarm.set(next)?;
        }
        Ok(None)
    }

    fn handle_event(&mut self, event: &Event) -> io::Result<()> {
        match event.token() {
            ALARM => Ok(()),
            Token(token) if token >= LISTENERS => self.accept(token - LISTENERS),
            Token(token) if token >= DATAGRAMS => self.datagrams.handle_event(token - DATAGRAMS),
            Token(slot) => {
                self.with_peer(slot, |peer, tools| peer.handle_event(tools, event));
                Ok(())
            }
        }
    }

    fn accept(&mut self, index: usize) -> io::Result<()> {
        loop {
            let mut stream = match self.listeners[index].accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            let slot = self.peers.vacant_entry();
            let service = SERVICES[index];
            let interests = match service {
                Service::Source => Interest::READABLE | Interest::WRITABLE,
                Service::Sink | Service::Echo => Interest::READABLE,
            };
            self.poll.registry().register(&mut stream, Token(slot.key()), interests)?;
            slot.insert(Peer::new(stream, service));
        }
    }

    fn with_peer(&mut self, slot: usize, act: impl FnOnce(&mut Peer, &mut Tools) -> Turn) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        match act(peer, &mut self.tools) {
            Turn::Wait => {}
            Turn::Yield | Turn::Pause if peer.queued => {}
            Turn::Yield => {
                peer.queued = true;
                self.ready.push_back(slot);
            }
            Turn::Pause => {
                peer.queued = true;
                self.paced.push(slot);
            }
            Turn::NeedRoom => {
                if peer.watch_for_room(self.poll.registry(), Token(slot)).is_err() {
                    self.peers.remove(slot);
                }
            }
            Turn::End => drop(self.peers.remove(slot)),
        }
    }

    /// The successor of one that has gone finds nothing to do.
    fn give_turns(&mut self) {
        let now = Instant::now();
        for at in (0..self.paced.len()).rev() {
            let next = self.peers.get(self.paced[at]).and_then(Peer::next);
            if next.is_none_or(|next| next <= now) {
                self.ready.push_back(self.paced.swap_remove(at));
            }
        }
        for _ in 0..self.ready.len() {
            let Some(slot) = self.ready.pop_front() else { return };
            self.with_peer(slot, |peer, tools| {
                peer.queued = false;
                peer.handle_turn(tools)
            });
        }
    }
}

/// What an accepted socket needs is inherited from here.
fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}
