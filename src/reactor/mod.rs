//! One single-threaded event loop: it accepts, and gives each session what it waits for.
//!
//! A tick takes events first, then the sessions that had yielded, then deadlines. Everything in a
//! tick is bounded, so that nobody waits for somebody else's work.

pub mod timers;

mod listener;
mod mailbox;
mod net;

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Poll};
use slab::Slab;

pub use self::listener::{BACKLOG, Group, Listener};
pub use self::mailbox::{Mail, Mailbox};
use self::net::{INTERESTS, Outside};
use self::timers::Timers;
use crate::metrics::{Counters, Report};
use crate::offload::Pool;
use crate::outcome::{Outcome, is_exhaustion};
use crate::policy::{self, Place};
use crate::proto::canonical;
use crate::relay::{Buffers, Readiness};
use crate::session::{Context, Session, Terms, Turn};
use crate::token::{Role, Token};

/// How many clients are accepted from one listener before the sessions have their turn.
const ACCEPTS_PER_TICK: usize = 64;
/// How long parked listeners wait at most: a descriptor may have come free anywhere.
const PARKED: Duration = Duration::from_millis(100);
/// How long the kernel retries a SYN that was dropped when we stopped: nobody is half-way in after.
const LAST_CLIENTS: Duration = Duration::from_secs(1);

/// What a reactor is made of.
pub struct Setup {
    /// Its share of each listening address.
    pub listeners: Vec<Listener>,
    /// What sessions must know of the configuration.
    pub terms: Arc<Terms>,
    /// How many rings they may hold at a time.
    pub rings_max: usize,
    /// Where names are resolved.
    pub resolvers: Pool,
}

/// One core's event loop, and everything its sessions share.
pub struct Reactor {
    poll: Poll,
    mailbox: Arc<Mailbox>,
    listeners: Vec<Listener>,
    parked_until: Option<Instant>,
    sessions: Slab<Entry>,
    cx: Context<Outside>,
    timers: Timers,
    due: Vec<usize>,
    ready: VecDeque<Token>,
    counters: Counters,
    service: Service,
}

struct Entry {
    session: Session<TcpStream>,
    /// Its place below the session limit, for as long as it is there.
    _place: Place,
    /// Whether it stands in the ready queue.
    ready: bool,
}

/// Whether clients are served.
#[derive(Clone, Copy)]
enum Service {
    Open,
    /// Those that were on their way come in until the first time, sessions go on until the second.
    Stopping(Instant, Instant),
    Stopped,
}

impl Reactor {
    /// A reactor that is ready to run.
    pub fn new(setup: Setup) -> io::Result<Reactor> {
        let poll = Poll::new()?;
        let mailbox = Arc::new(Mailbox::new(poll.registry())?);
        let outside = Outside {
            registry: poll.registry().try_clone()?,
            mailbox: Arc::clone(&mailbox),
            resolvers: setup.resolvers,
        };
        let now = Instant::now();
        let mut reactor = Reactor {
            poll,
            mailbox,
            listeners: setup.listeners,
            parked_until: None,
            // All of it now: growing would move every session in one tick.
            sessions: Slab::with_capacity(setup.terms.limit.max()),
            cx: Context::new(now, outside, Buffers::new(setup.rings_max), setup.terms),
            timers: Timers::new(now),
            due: Vec::new(),
            ready: VecDeque::new(),
            counters: Counters::default(),
            service: Service::Open,
        };
        reactor.register_listeners()?;
        Ok(reactor)
    }

    /// Where to tell it something.
    pub fn mailbox(&self) -> Arc<Mailbox> {
        Arc::clone(&self.mailbox)
    }

    /// Serves until it is told to stop, then says what it has counted.
    pub fn run(mut self) -> io::Result<Report> {
        let mut events = Events::with_capacity(1024);
        while !matches!(self.service, Service::Stopped) {
            self.tick(&mut events)?;
        }
        Ok(self.report())
    }

    fn tick(&mut self, events: &mut Events) -> io::Result<()> {
        match self.poll.poll(events, self.patience()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        self.cx.now = Instant::now();
        for event in events.iter() {
            self.handle_event(event);
        }
        self.accept();
        self.give_turns();
        self.expire();
        self.resume_listeners()?;
        self.stop_if_due();
        Ok(())
    }

    /// How long there is nothing to do if nothing happens.
    fn patience(&self) -> Option<Duration> {
        if !self.ready.is_empty() || self.listeners.iter().any(|listener| listener.ready) {
            return Some(Duration::ZERO);
        }
        let (last_clients, end) = match self.service {
            Service::Stopping(last_clients, end) => (Some(last_clients), Some(end)),
            Service::Open | Service::Stopped => (None, None),
        };
        let accepting = !self.listeners.is_empty() && self.parked_until.is_none();
        let last_clients = last_clients.filter(|_| accepting);
        let times = [self.timers.next(), self.parked_until, last_clients, end];
        let next = times.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn handle_event(&mut self, event: &Event) {
        let token = Token::from(event.token());
        match token.role() {
            Some(Role::Client | Role::Target) => {
                let readiness = Readiness {
                    readable: event.is_readable(),
                    writable: event.is_writable(),
                    read_closed: event.is_read_closed(),
                    urgent: event.is_priority(),
                    error: event.is_error(),
                };
                self.with_session(token.slot(), |session, cx| {
                    session.handle_event(cx, token, readiness)
                });
            }
            Some(Role::Listener) => {
                if let Some(listener) = self.listeners.get_mut(token.slot()) {
                    listener.ready = true;
                }
            }
            Some(Role::Mailbox) => self.read_mail(),
            Some(Role::Answer) | None => {}
        }
    }

    fn read_mail(&mut self) {
        for mail in self.mailbox.collect() {
            match mail {
                Mail::Answer(token, answer) => self.with_session(token.slot(), |session, cx| {
                    session.handle_answer(cx, token, answer)
                }),
                // Whoever asked may have given up waiting.
                Mail::Report(to) => drop(to.send(self.report())),
                Mail::Stop { until } => self.begin_stop(until),
            }
        }
    }

    /// Lets a session do something, and sees to what it needs next.
    fn with_session(
        &mut self,
        slot: usize,
        act: impl FnOnce(&mut Session<TcpStream>, &mut Context<Outside>) -> Turn,
    ) {
        let Some(entry) = self.sessions.get_mut(slot) else { return };
        let turn = act(&mut entry.session, &mut self.cx);
        match turn {
            Turn::End(outcome) => return self.reap(slot, outcome),
            Turn::Wait => {}
            Turn::Yield if entry.ready => {}
            Turn::Yield => {
                entry.ready = true;
                self.ready.push_back(entry.session.client_token());
            }
        }
        match entry.session.wake_at() {
            Some(when) => self.timers.set(slot, when),
            None => self.timers.clear(slot),
        }
    }

    /// The one place where sessions end.
    fn reap(&mut self, slot: usize, outcome: Outcome) {
        let Some(entry) = self.sessions.try_remove(slot) else { return };
        self.timers.clear(slot);
        let traffic = entry.session.close(&mut self.cx);
        self.counters.count_end(outcome, traffic);
        if self.parked_until.is_some() {
            self.parked_until = Some(self.cx.now);
        }
    }

    fn abort(&mut self, slot: usize, outcome: Outcome) {
        if let Some(entry) = self.sessions.get_mut(slot) {
            entry.session.abort();
            self.reap(slot, outcome);
        }
    }

    fn accept(&mut self) {
        for index in 0..self.listeners.len() {
            if !self.accept_from(index) {
                return self.park_listeners();
            }
        }
    }

    /// Accepts from one listener until its queue is empty or it is time for the sessions. False:
    /// nobody can be accepted now.
    fn accept_from(&mut self, index: usize) -> bool {
        let mut failures = 0;
        for _ in 0..ACCEPTS_PER_TICK {
            if !self.listeners[index].ready {
                break;
            }
            let Some(place) = self.cx.terms.limit.take() else { return false };
            match self.listeners[index].accept() {
                Ok((client, peer)) => self.admit(index, client, peer, place),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.listeners[index].ready = false;
                }
                Err(error) if is_exhaustion(&error) => return false,
                // A client that is gone already, or an error that was its connection's.
                Err(_) => failures += 1,
            }
        }
        self.counters.accept_errors += failures as u64;
        failures < ACCEPTS_PER_TICK
    }

    /// Makes a session of a client that may have one.
    fn admit(&mut self, listener: usize, mut client: TcpStream, peer: SocketAddr, place: Place) {
        if !policy::admits_client(&self.listeners[listener].clients, canonical(peer.ip())) {
            self.counters.clients_denied += 1;
            return;
        }
        let vacancy = self.sessions.vacant_entry();
        let slot = vacancy.key();
        let token = self.cx.token(Role::Client, slot);
        if let Err(error) = self.poll.registry().register(&mut client, token.into(), INTERESTS) {
            log::debug!("cannot watch a client: {error}");
            self.counters.accept_errors += 1;
            return;
        }
        let session = Session::new(client, token, &self.cx);
        if let Some(when) = session.wake_at() {
            self.timers.set(slot, when);
        }
        vacancy.insert(Entry { session, _place: place, ready: false });
        self.counters.accepted += 1;
    }

    /// Gives each session that had yielded a turn; one that yields again waits for the next tick.
    fn give_turns(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(token) = self.ready.pop_front() else { return };
            if let Some(entry) = self.entry(token) {
                entry.ready = false;
                self.with_session(token.slot(), |session, cx| session.handle_turn(cx));
            }
        }
    }

    fn expire(&mut self) {
        let mut due = mem::take(&mut self.due);
        self.timers.expire(self.cx.now, &mut due);
        for slot in due.drain(..) {
            self.with_session(slot, |session, cx| session.handle_deadline(cx));
        }
        self.due = due;
    }

    fn entry(&mut self, client: Token) -> Option<&mut Entry> {
        self.sessions.get_mut(client.slot()).filter(|entry| entry.session.client_token() == client)
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

    fn resume_listeners(&mut self) -> io::Result<()> {
        if self.parked_until.is_some_and(|until| until <= self.cx.now) {
            self.parked_until = None;
            self.register_listeners()?;
        }
        Ok(())
    }

    /// Registering reports a client that waits already.
    fn register_listeners(&mut self) -> io::Result<()> {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            listener.register(self.poll.registry(), Token::new(0, Role::Listener, index))?;
        }
        Ok(())
    }

    /// Closing a listener resets who is in its queue, and who is half-way into it: so new clients
    /// are turned away first, and the queue is emptied before it is closed.
    fn begin_stop(&mut self, until: Instant) {
        let last_clients = match self.service {
            Service::Open => self.cx.now + LAST_CLIENTS,
            Service::Stopping(last_clients, _) => last_clients,
            Service::Stopped => return,
        };
        self.service = Service::Stopping(last_clients.min(until), until);
        for listener in &self.listeners {
            if let Err(error) = listener.turn_away_new_clients() {
                log::warn!("new clients may be reset while stopping: {error}");
            }
        }
    }

    fn stop_if_due(&mut self) {
        let Service::Stopping(last_clients, end) = self.service else { return };
        if self.cx.now >= last_clients && self.parked_until.is_none() {
            self.accept_last_clients();
        }
        if self.cx.now >= end {
            self.listeners.clear();
            let slots: Vec<usize> = self.sessions.iter().map(|(slot, _)| slot).collect();
            slots.into_iter().for_each(|slot| self.abort(slot, Outcome::Drained));
        }
        if self.listeners.is_empty() && self.sessions.is_empty() {
            self.service = Service::Stopped;
        }
    }

    /// Empties the queues, and closes them if that goes well.
    fn accept_last_clients(&mut self) {
        for listener in &mut self.listeners {
            listener.ready = true;
        }
        self.accept();
        if self.parked_until.is_none() {
            self.listeners.retain(|listener| listener.ready);
        }
    }

    fn report(&self) -> Report {
        let mut report = Report {
            counters: self.counters.clone(),
            rings_in_use: self.cx.buffers.rings_lent() as u64,
            rings_free: self.cx.buffers.rings_left() as u64,
            inboxes_in_use: self.cx.buffers.inboxes_lent() as u64,
            ..Report::default()
        };
        for (_, entry) in &self.sessions {
            report.stages[entry.session.stage() as usize] += 1;
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An idle session is this, two kernel sockets, and a timer's node: nothing is behind a pointer.
    #[test]
    fn a_session_is_small() {
        assert!(size_of::<Entry>() <= 320, "{} bytes", size_of::<Entry>());
    }
}
