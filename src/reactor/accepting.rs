use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;

use super::net::INTERESTS;
use super::{Entry, Listener, Reactor};
use crate::access::Record;
use crate::logging::Throttle;
use crate::outcome::is_exhaustion;
use crate::policy::{self, Place};
use crate::proto::canonical;
use crate::session::Session;
use crate::token::{Role, Token};

/// How many clients are accepted from one listener before the sessions have their turn.
const ACCEPTS_PER_TICK: usize = Listener::BATCH_MAX;
/// How long parked listeners wait at most: a descriptor may have come free anywhere.
const PARKED: Duration = Duration::from_millis(100);

/// What came of accepting.
enum Queue {
    /// Somebody may wait in it.
    Waiting,
    /// Nobody does.
    Empty,
    /// Nobody can be accepted now.
    Closed,
}

/// How clients get in, and how they are kept waiting when they cannot.
impl Reactor {
    /// Accepts some of those who were reported to wait.
    pub(super) fn accept(&mut self) {
        for index in 0..self.listeners.len() {
            let batch = self.listeners[index].batch();
            if batch == 0 {
                continue;
            }
            match self.accept_from(index, batch) {
                Queue::Waiting => {}
                Queue::Empty => self.listeners[index].handle_empty(),
                Queue::Closed => return self.park_listeners(),
            }
        }
    }

    /// Accepts so many from one listener.
    fn accept_from(&mut self, index: usize, batch: usize) -> Queue {
        let mut failures = 0;
        for _ in 0..batch {
            let Some(place) = self.cx.terms.limit.take_or_await(&self.bell) else {
                self.tell_parked(&"as many sessions are open as may be");
                return Queue::Closed;
            };
            match self.listeners[index].accept() {
                Ok((client, peer)) => self.admit(index, client, peer, place),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    place.put_back();
                    return Queue::Empty;
                }
                Err(error) if is_exhaustion(&error) => {
                    // Given back with a ring it would wake us, or another who is as badly off.
                    place.put_back();
                    self.cx.terms.limit.ring_at_release(&self.bell);
                    self.tell_parked(&error);
                    return Queue::Closed;
                }
                // A client that is gone already, or an error that was its connection's.
                Err(_) => {
                    failures += 1;
                    self.counters.accept_errors += 1;
                }
            }
        }
        if failures < ACCEPTS_PER_TICK { Queue::Waiting } else { Queue::Closed }
    }

    /// Makes a session of a client that may have one.
    fn admit(&mut self, listener: usize, mut client: TcpStream, peer: SocketAddr, place: Place) {
        let Listener { address, number, clients, .. } = &self.listeners[listener];
        let (address, number) = (*address, *number);
        let peer = SocketAddr::new(canonical(peer.ip()), peer.port());
        if !policy::admits_client(clients, peer.ip()) {
            self.counters.clients_denied += 1;
            return;
        }
        let Ok(presence) = self.cx.terms.clients.admit(peer.ip()) else {
            self.counters.clients_over_limit += 1;
            return;
        };
        let vacancy = self.sessions.vacant_entry();
        let slot = vacancy.key();
        let token = self.cx.token(Role::Client, slot);
        if let Err(error) = self.poll.registry().register(&mut client, token.into(), INTERESTS) {
            log::debug!("cannot watch a client: {error}");
            self.counters.accept_errors += 1;
            return;
        }
        let record = Record::new(self.index, self.counters.accepted, address, peer);
        let session = Session::new(client, token, record, number, &self.cx);
        if let Some(when) = session.wake_at() {
            self.timers.set(slot, when);
        }
        vacancy.insert(Entry { session, presence, _place: place, ready: false });
        self.counters.accepted += 1;
    }

    /// Stops watching the listeners: every client that arrives would wake us for nothing.
    fn park_listeners(&mut self) {
        self.counters.parks += 1;
        self.parked_until = Some(self.cx.now + PARKED);
        for listener in &mut self.listeners {
            if let Err(error) = listener.deregister(self.poll.registry()) {
                log::warn!("cannot park a listener: {error}");
            }
        }
    }

    fn tell_parked(&self, why: &dyn fmt::Display) {
        static PARKED: Throttle = Throttle::new();
        match PARKED.allow(self.cx.now) {
            None => {}
            Some(0) => log::warn!("new clients wait: {why}"),
            Some(more) => log::warn!("new clients wait: {why}; {more} times more until now"),
        }
    }

    pub(super) fn resume_listeners(&mut self) -> io::Result<()> {
        if self.parked_until.is_some_and(|until| until <= self.cx.now) {
            self.parked_until = None;
            self.register_listeners()?;
        }
        Ok(())
    }

    /// Registering reports a client that waits already.
    pub(super) fn register_listeners(&mut self) -> io::Result<()> {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            listener.register(self.poll.registry(), Token::new(0, Role::Listener, index))?;
        }
        Ok(())
    }

    /// Empties the queues, and closes them if that goes well.
    pub(super) fn accept_last_clients(&mut self) {
        for index in (0..self.listeners.len()).rev() {
            match self.accept_from(index, ACCEPTS_PER_TICK) {
                Queue::Waiting => {}
                Queue::Empty => drop(self.listeners.remove(index)),
                Queue::Closed => return self.park_listeners(),
            }
        }
    }
}
