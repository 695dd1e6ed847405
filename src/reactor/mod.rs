//! One single-threaded event loop: it accepts, and gives each session what it waits for.
//!
//! A tick takes events first, then the sessions that had yielded, then deadlines. Everything in a
//! tick is bounded, so that nobody waits for somebody else's work.

mod accepting;
mod listener;
mod mailbox;
mod names;
mod net;

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll};
use slab::Slab;

pub use self::listener::{BACKLOG, Group, Listener};
pub use self::mailbox::{Mail, Mailbox};
use self::names::Names;
use self::net::{Outside, Resolver};
use crate::access::{Record, Sink};
use crate::auth::{Auth, Done};
use crate::config::{Polling, RelayMode};
use crate::dns::Sources;
use crate::metrics::{Counters, Report};
use crate::offload::Pool;
use crate::outcome::Outcome;
use crate::policy::{Bell, Host, Place, Presence};
use crate::relay::{Buffers, Readiness};
use crate::session::{Context, Session, Terms, Turn};
use crate::timers::{Timers, earlier};
use crate::token::{Role, Token};

/// How many deadlines are kept before the others have their turn.
const DEADLINES_PER_TICK: usize = 256;
/// How many answers are handed to sessions before the others have their turn.
const ANSWERS_PER_TICK: usize = 64;
/// How long the kernel retries a SYN that was dropped when we stopped: nobody is half-way in after.
const LAST_CLIENTS: Duration = Duration::from_secs(1);

/// What a reactor is made of.
pub struct Setup {
    /// Which of the reactors it is.
    pub index: u16,
    /// Its share of each listening address.
    pub listeners: Vec<Listener>,
    /// What sessions must know of the configuration.
    pub terms: Arc<Terms>,
    /// What is known of the host we run on.
    pub host: Arc<Host>,
    /// What it does while nothing happens.
    pub poll: Polling,
    /// How many rings they may hold at a time.
    pub rings_max: usize,
    /// How their bytes go.
    pub relay: RelayMode,
    /// How many pipes they may hold at a time.
    pub pipes_max: usize,
    /// Who knows what names mean.
    pub resolver: Lookups,
    /// Who clients may be.
    pub auth: Arc<Auth>,
    /// Where that is found out if it takes long.
    pub tasks: TaskPools,
    /// Where sessions that have ended are recorded.
    pub sink: Sink,
}

/// Who knows what names mean.
pub enum Lookups {
    /// The reactor, from these sources, with so many sockets at most.
    Own(Arc<Sources>, usize),
    /// The system's resolver.
    System(SystemPools),
}

/// The threads on which the system's resolver may block.
#[derive(Clone)]
pub struct SystemPools {
    /// For requests.
    pub requests: Pool,
    /// For the names of datagrams: one client may ask for many, and no request is to wait for them.
    pub datagrams: Pool,
}

/// The threads that find out who clients are, each kind its own.
#[derive(Clone)]
pub struct TaskPools {
    /// For password hashes.
    pub hashes: Pool,
    /// For PAM.
    pub pam: Pool,
    /// For security contexts.
    pub gssapi: Pool,
}

/// One core's event loop, and everything its sessions share.
pub struct Reactor {
    index: u16,
    poll: Poll,
    spins: bool,
    mailbox: Arc<Mailbox>,
    listeners: Vec<Listener>,
    parked_until: Option<Instant>,
    /// Wakes it when a place for a session is given back anywhere.
    bell: Bell,
    sessions: Slab<Entry>,
    cx: Context<Outside>,
    timers: Timers,
    /// No deadline that was set before this tick comes earlier.
    wakes_at: Option<Instant>,
    due: Vec<usize>,
    ready: VecDeque<Token>,
    counters: Counters,
    sink: Sink,
    service: Service,
}

struct Entry {
    session: Session<Outside>,
    /// How it counts against what its client may have.
    presence: Presence,
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
        let now = Instant::now();
        let resolver = match setup.resolver {
            Lookups::Own(sources, max) => {
                Resolver::Own(Names::new(poll.registry().try_clone()?, sources, max, now).into())
            }
            Lookups::System(pools) => Resolver::System(pools),
        };
        let registry = poll.registry().try_clone()?;
        let outside =
            Outside { registry, resolver, tasks: setup.tasks, mailbox: Arc::clone(&mailbox) };
        let rung = Arc::clone(&mailbox);
        let buffers = Buffers::new(setup.rings_max, setup.relay, setup.pipes_max);
        let mut reactor = Reactor {
            index: setup.index,
            poll,
            spins: setup.poll == Polling::Spin,
            mailbox,
            listeners: setup.listeners,
            parked_until: None,
            bell: Arc::new(move || rung.post(Mail::Released)),
            // All of it now: growing would move every session in one tick.
            sessions: Slab::with_capacity(setup.terms.limit.max()),
            cx: Context::new(now, outside, buffers, setup.terms, setup.host, setup.auth),
            timers: Timers::new(now),
            wakes_at: None,
            due: Vec::new(),
            ready: VecDeque::new(),
            counters: Counters::default(),
            sink: setup.sink,
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
        self.wakes_at = self.next_deadline();
        let polled = self.poll.poll(events, self.patience());
        // Also if it was interrupted: it does not wait all over again.
        self.cx.now = Instant::now();
        match polled {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        for event in events.iter() {
            self.handle_event(event);
        }
        self.accept();
        self.look_up();
        self.give_turns();
        self.expire();
        self.resume_listeners()?;
        self.stop_if_due();
        Ok(())
    }

    /// How long there is nothing to do if nothing happens, as from the last tick's time: what it took
    /// makes a deadline that much late, and saves a look at the clock.
    fn patience(&self) -> Option<Duration> {
        if self.is_busy() {
            return Some(Duration::ZERO);
        }
        Some(self.wakes_at?.saturating_duration_since(self.cx.now))
    }

    /// Whether there is something to do though nothing happens.
    fn is_busy(&self) -> bool {
        self.spins
            || !self.ready.is_empty()
            || !self.due.is_empty()
            || self.names().is_some_and(|it| it.is_busy())
    }

    fn next_deadline(&self) -> Option<Instant> {
        let names = self.names().and_then(Names::next);
        let next = earlier(earlier(self.timers.next(), names), self.parked_until);
        let Service::Stopping(last_clients, end) = self.service else { return next };
        let accepting = !self.listeners.is_empty() && self.parked_until.is_none();
        earlier(next, Some(if accepting { last_clients } else { end }))
    }

    /// Whether a deadline may have come. One that was set in this tick is the next one's business.
    fn is_due(&self) -> bool {
        self.wakes_at.is_some_and(|at| at <= self.cx.now)
    }

    fn handle_event(&mut self, event: &Event) {
        let token = Token::from(event.token());
        let readiness = Readiness {
            readable: event.is_readable(),
            writable: event.is_writable(),
            read_closed: event.is_read_closed(),
            urgent: event.is_priority(),
            error: event.is_error(),
        };
        match token.role() {
            Some(
                Role::Client
                | Role::Target
                | Role::BindListener
                | Role::UdpClient
                | Role::UdpV4
                | Role::UdpV6,
            ) => {
                self.with_session(token.slot(), |session, cx| {
                    session.handle_event(cx, token, readiness)
                });
            }
            Some(Role::Listener) => {
                if let Some(listener) = self.listeners.get_mut(token.slot()) {
                    listener.handle_report();
                }
            }
            Some(Role::Mailbox) => self.read_mail(),
            Some(Role::Resolver) => {
                if let Resolver::Own(names) = &mut self.cx.net.resolver {
                    names.handle_event(token, readiness, self.cx.now);
                }
            }
            Some(Role::Answer | Role::DatagramAnswer | Role::Verdict) | None => {}
        }
    }

    fn names(&self) -> Option<&Names> {
        match &self.cx.net.resolver {
            Resolver::Own(names) => Some(names),
            Resolver::System(_) => None,
        }
    }

    /// Goes on with the names that are asked for, and hands over what is known of them. A name that
    /// thousands wait for is no reason for others to wait.
    fn look_up(&mut self) {
        let is_due = self.is_due();
        let Resolver::Own(names) = &mut self.cx.net.resolver else { return };
        if !is_due && !names.is_busy() {
            return;
        }
        names.handle_turn(self.cx.now);
        names.expire(self.cx.now);
        for _ in 0..ANSWERS_PER_TICK {
            let Resolver::Own(names) = &mut self.cx.net.resolver else { return };
            let Some((token, answer)) = names.poll_answer() else { return };
            self.with_session(token.slot(), |session, cx| session.handle_answer(cx, token, answer));
        }
    }

    fn read_mail(&mut self) {
        for mail in self.mailbox.collect() {
            match mail {
                Mail::Answer(token, answer) => self.with_session(token.slot(), |session, cx| {
                    session.handle_answer(cx, token, answer)
                }),
                Mail::Done(token, client, done) => self.handle_done(token, client, done),
                Mail::Auth(auth) => self.cx.use_auth(auth),
                // Whoever asked may have given up waiting.
                Mail::Report(to) => drop(to.send(self.report())),
                Mail::Stop { until } => self.begin_stop(until),
                Mail::Surroundings(host, sources) => {
                    self.cx.host = host;
                    if let Resolver::Own(names) = &mut self.cx.net.resolver {
                        names.use_sources(sources, self.cx.now);
                    }
                }
                Mail::Released => {
                    self.parked_until = self.parked_until.map(|until| until.min(self.cx.now));
                }
            }
        }
    }

    fn handle_done(&mut self, token: Token, client: IpAddr, done: Done) {
        let mut done = Some(done);
        self.with_session(token.slot(), |session, cx| session.handle_done(cx, token, &mut done));
        if let Some(done) = done {
            self.cx.judge_absent(client, done);
        }
    }

    /// Lets a session do something, and sees to what it needs next.
    fn with_session(
        &mut self,
        slot: usize,
        act: impl FnOnce(&mut Session<Outside>, &mut Context<Outside>) -> Turn,
    ) {
        let Some(entry) = self.sessions.get_mut(slot) else { return };
        let wake_at = entry.session.wake_at();
        let turn = act(&mut entry.session, &mut self.cx);
        match turn {
            Turn::End(outcome) => return self.reap(slot, outcome),
            _ if entry.session.is_negotiating() => {}
            _ => entry.presence.handshake_over(),
        }
        match turn {
            Turn::End(_) | Turn::Wait => {}
            Turn::Yield if entry.ready => {}
            Turn::Yield => {
                entry.ready = true;
                self.ready.push_back(entry.session.client_token());
            }
        }
        if entry.session.wake_at() != wake_at {
            self.timers.put(slot, entry.session.wake_at());
        }
    }

    /// The one place where sessions end.
    fn reap(&mut self, slot: usize, outcome: Outcome) {
        let Some(entry) = self.sessions.try_remove(slot) else { return };
        self.timers.clear(slot);
        let record = Record { outcome, ..entry.session.close(&mut self.cx) };
        self.counters.count_end(outcome, record.traffic);
        self.sink.push(record);
    }

    fn abort(&mut self, slot: usize, outcome: Outcome) {
        if let Some(entry) = self.sessions.get_mut(slot) {
            entry.session.abort();
            self.reap(slot, outcome);
        }
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
        if self.due.is_empty() && self.is_due() {
            self.timers.expire(self.cx.now, &mut self.due);
        }
        for _ in 0..DEADLINES_PER_TICK {
            // One whose deadline was put off meanwhile finds that out by itself.
            let Some(slot) = self.due.pop() else { return };
            self.with_session(slot, |session, cx| session.handle_deadline(cx));
            if let Some(entry) = self.sessions.get(slot) {
                self.timers.put(slot, entry.session.wake_at());
            }
        }
    }

    fn entry(&mut self, client: Token) -> Option<&mut Entry> {
        self.sessions.get_mut(client.slot()).filter(|entry| entry.session.client_token() == client)
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

    fn report(&self) -> Report {
        let mut report = Report {
            counters: self.counters.clone(),
            names: self.names().map(Names::counters).unwrap_or_default(),
            rings_in_use: self.cx.buffers.rings_lent() as u64,
            rings_free: self.cx.buffers.rings_left() as u64,
            pipes_open: self.cx.buffers.pipes_open() as u64,
            pipes_in_use: self.cx.buffers.pipes_lent() as u64,
            pipes_denied: self.cx.buffers.pipes_denied(),
            lanes_unspliceable: self.cx.buffers.unspliceable(),
            inboxes_in_use: self.cx.buffers.inboxes_lent() as u64,
            datagrams: self.cx.datagrams.totals().clone(),
            bind_strangers: self.cx.bind_strangers,
            logins: self.cx.logins,
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
        assert!(size_of::<Entry>() <= 704, "{} bytes", size_of::<Entry>());
    }
}
