//! A reactor without a kernel: it gives sessions what they wait for, as `src/reactor` does, and
//! asks after each call whether all that must be true of them is.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringsocks::access::Record;
use ringsocks::auth::{Auth, Done, Groups, Passwords};
use ringsocks::config::RelayMode;
use ringsocks::metrics::{Datagrams, DropReason, Stage};
use ringsocks::outcome::{Outcome, Refusal};
use ringsocks::policy::{Extra, HeldPort, Host, SessionLimit};
use ringsocks::relay::{Buffers, Readiness};
use ringsocks::session::associate::Held;
use ringsocks::session::{Context, Session, Terms, Turn};
use ringsocks::token::{Role, Token};
use slab::Slab;

use crate::counts::Event;
use crate::mechanism::MockMechanism;
use crate::naive::Naive;
use crate::names::answer;
use crate::net::{SimNet, SimStream};
use crate::tcp::{OURS, PEER};
use crate::world::{Happening, OWN, World};

/// Nobody takes as many descriptors where they are not counted.
pub(crate) const DESCRIPTORS_MAX: usize = 400;
const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub(crate) struct Gateway {
    pub(crate) world: Rc<RefCell<World>>,
    cx: Context<SimNet>,
    sessions: Slab<Entry>,
    /// What others have of the descriptors that there are beside those of sessions.
    crowd: Vec<Extra>,
    ready: VecDeque<Token>,
    pub(crate) outcomes: [u64; Outcome::COUNT],
}

struct Entry {
    session: Session<SimNet>,
    client: usize,
    ready: bool,
    wake_at: Option<Instant>,
    stage: Stage,
}

enum Fact {
    Edge(Token, Readiness),
    Happening(Happening),
}

impl Gateway {
    pub(crate) fn new(world: Rc<RefCell<World>>, terms: Terms) -> Gateway {
        let now = world.borrow().instant();
        let net = SimNet(Rc::clone(&world));
        let buffers = Buffers::new(1, RelayMode::Copy, 0);
        let host = Host { addresses: OWN.to_vec(), ..Host::default() };
        let auth = Auth::new(Passwords::Nobody, Groups::default(), Some(Arc::new(MockMechanism)));
        let cx = Context::new(now, net, buffers, terms.into(), host.into(), auth.into());
        Gateway {
            world,
            cx,
            sessions: Slab::new(),
            crowd: Vec::new(),
            ready: VecDeque::new(),
            outcomes: [0; Outcome::COUNT],
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Whether the next tick has something to do though nothing happens.
    pub(crate) fn is_busy(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When it has something to do if nothing happens.
    pub(crate) fn wakes_at(&self) -> Option<Instant> {
        self.sessions.iter().filter_map(|(_, entry)| entry.wake_at).min()
    }

    /// One tick, with all of the edges that are pending or only some of them.
    pub(crate) fn tick(&mut self, all_edges: bool) {
        self.cx.now = self.world.borrow().instant();
        self.change_weather();
        for fact in self.facts(all_edges) {
            match fact {
                Fact::Edge(token, readiness) => self.handle_edge(token, readiness),
                Fact::Happening(happening) => self.handle_happening(happening),
            }
        }
        self.give_turns();
        self.expire();
        self.check_all();
    }

    /// Resets all that is left.
    pub(crate) fn abort_all(&mut self) {
        let slots: Vec<usize> = self.sessions.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.sessions[slot].session.abort();
            self.reap(slot, Outcome::Drained);
        }
    }

    /// Now and then others take all descriptors, or all memory.
    fn change_weather(&mut self) {
        let world = &mut *self.world.borrow_mut();
        if world.weather.fails > 0 && world.random.once_in(40) {
            world.weather.is_starved = !world.weather.is_starved;
        }
        if self.crowd.is_empty() && world.random.once_in(60) {
            take_all(&self.cx.terms.limit, &mut self.crowd);
            world.weather.is_crowded = self.crowd.len() < DESCRIPTORS_MAX;
            if world.weather.is_crowded {
                world.count(Event::Crowded);
            }
        } else if world.random.once_in(20) {
            self.crowd.clear();
            world.weather.is_crowded = false;
        }
    }

    fn facts(&mut self, all_edges: bool) -> Vec<Fact> {
        let world = &mut *self.world.borrow_mut();
        let mut facts = Vec::new();
        for index in 0..world.clients.len() {
            let is_due = world.clients[index].tcp.has_edge(OURS);
            if let Some(token) = world.clients[index].token
                && is_due
                && (all_edges || !world.random.once_in(4))
            {
                facts.push(Fact::Edge(token, world.clients[index].tcp.take_edge(OURS)));
            }
        }
        for index in 0..world.ports.len() {
            let is_due = world.ports[index].edge && world.ports[index].is_open;
            if is_due && (all_edges || !world.random.once_in(4)) {
                let port = &mut world.ports[index];
                facts.push(Fact::Edge(port.token, port.take_edge()));
            }
        }
        while let Some(happening) = world.next_happening() {
            facts.push(Fact::Happening(happening));
        }
        world.random.shuffle(&mut facts);
        facts
    }

    fn handle_edge(&mut self, token: Token, readiness: Readiness) {
        // What epoll has nothing to say of is not reported.
        if readiness == Readiness::default() {
            return;
        }
        let bits = usize::from(readiness.readable) | usize::from(readiness.error) << 1;
        self.world.borrow_mut().note("event", token.slot(), bits);
        self.with_session(token.slot(), |session, cx| session.handle_event(cx, token, readiness));
    }

    fn handle_happening(&mut self, happening: Happening) {
        match happening {
            Happening::Arrival(client) => self.accept(client),
            Happening::Act(client, act) => self.world.borrow_mut().perform(client, act),
            Happening::Arrives { from, to, bytes } => {
                self.world.borrow_mut().arrive(from, to, bytes);
            }
            Happening::Done { client, token, done } => self.finish_task(client, token, done),
            Happening::Answer { client, token, meaning, more } => {
                {
                    let world = &mut *self.world.borrow_mut();
                    let open = &mut world.clients[client].open;
                    match open.iter().position(|(_, it)| *it == token) {
                        Some(at) => {
                            let name = open[at].0.clone();
                            if !more {
                                open.remove(at);
                            }
                            world.note("answer", client, usize::from(more));
                            let is_asked = world.with_naive(client, |naive, around| {
                                naive.answer(around, &name, &meaning, more)
                            });
                            assert_eq!(is_asked, Some(true), "nobody waits for {name}");
                        }
                        // The system's resolver cannot be told to forget.
                        None => world.count(Event::LateAnswer),
                    }
                }
                let answer = answer(&meaning, more);
                self.with_session(token.slot(), |session, cx| {
                    session.handle_answer(cx, token, answer)
                });
            }
        }
    }

    /// A session is told what has come of what it asked, unless it has gone.
    fn finish_task(&mut self, client: usize, token: Token, done: Done) {
        {
            let world = &mut *self.world.borrow_mut();
            world.note("done", client, token.slot());
            let task = world.clients[client].task.take();
            assert_eq!(task, Some(token), "it is told to somebody else");
            world.clients[client].steps += 1;
            world.count(Event::TaskDone);
        }
        let mut done = Some(done);
        self.with_session(token.slot(), |session, cx| session.handle_done(cx, token, &mut done));
        if let Some(done) = done {
            let ip = self.world.borrow().clients[client].script.client.ip();
            self.cx.judge_absent(ip, done);
        }
    }

    fn accept(&mut self, client: usize) {
        let vacancy = self.sessions.vacant_entry();
        let slot = vacancy.key();
        let token = self.cx.token(Role::Client, slot);
        let socket = SimStream { world: Rc::clone(&self.world), client };
        let world = &mut *self.world.borrow_mut();
        let script = &world.clients[client].script;
        let record = Record::new(0, 0, script.own, script.client);
        let session = Session::new(socket, token, record, 0, &self.cx);
        world.owners.insert(slot, client);
        world.clients[client].token = Some(token);
        world.clients[client].accepted_at = world.now;
        world.note("accept", client, slot);
        let (wake_at, stage) = (session.wake_at(), session.stage());
        vacancy.insert(Entry { session, client, ready: false, wake_at, stage });
    }

    /// Lets a session do something, and sees to what it needs next.
    fn with_session(
        &mut self,
        slot: usize,
        act: impl FnOnce(&mut Session<SimNet>, &mut Context<SimNet>) -> Turn,
    ) {
        let Some(entry) = self.sessions.get_mut(slot) else {
            self.world.borrow_mut().count(Event::LateEdge);
            return;
        };
        let before = self.world.borrow().progress;
        self.world.borrow_mut().idle_calls = 0;
        let turn = act(&mut entry.session, &mut self.cx);
        let stage = entry.session.stage();
        {
            let world = &mut *self.world.borrow_mut();
            world.note(&stage.to_string(), slot, 0);
            world.note_stage(entry.client, stage == Stage::Associated);
            world.with_naive(entry.client, |naive, _| naive.end_turn());
            assert!(world.foreseen.is_empty(), "a name was not asked for: {:?}", world.foreseen);
        }
        if let Turn::End(outcome) = turn {
            return self.reap(slot, outcome);
        }
        entry.stage = stage;
        entry.wake_at = entry.session.wake_at();
        let world = &mut *self.world.borrow_mut();
        let ended = world.clients[entry.client].end_seen;
        assert!(!ended || stage != Stage::Associated, "slot {slot} outlives its client");
        if turn == Turn::Yield {
            assert!(world.progress > before, "slot {slot} yields without having done anything");
            world.count(Event::Yield);
            if !entry.ready {
                entry.ready = true;
                self.ready.push_back(entry.session.client_token());
            }
        }
    }

    fn reap(&mut self, slot: usize, outcome: Outcome) {
        let Entry { session, client, .. } = self.sessions.remove(slot);
        {
            let world = &mut *self.world.borrow_mut();
            world.note(&outcome.to_string(), client, slot);
            world.check_outcome(client, outcome);
            world.clients[client].outcome = Some(outcome);
            world.with_naive(client, |naive, _| naive.end());
        }
        let record = Record { outcome, ..session.close(&mut self.cx) };
        let world = &*self.world.borrow();
        if world.weather.is_crowded {
            take_all(&self.cx.terms.limit, &mut self.crowd);
        }
        let told = world.told(client);
        let client = &world.clients[client];
        assert!(client.open.is_empty(), "names are still asked for: {:?}", client.open);
        assert_eq!(record.given.as_ref().map(|it| it.bnd), told, "{record}");
        let Some(naive) = &client.naive else { return self.outcomes[outcome.index()] += 1 };
        let datagrams = record.given.and_then(|it| it.datagrams).expect("there was an association");
        assert_eq!(*datagrams, naive.tally);
        assert_eq!(record.traffic, naive.tally.bytes);
        assert_eq!(record.rep, Some(0));
        let is_cut_off = !matches!(outcome, Outcome::Finished | Outcome::ClientReset);
        let is_told = client.was_reset || client.tcp.is_dead(OURS);
        assert!(!is_cut_off || is_told, "{outcome}, and the client is not told");
        self.outcomes[outcome.index()] += 1;
    }

    fn give_turns(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(token) = self.ready.pop_front() else { return };
            let entry = self.sessions.get_mut(token.slot());
            if let Some(entry) = entry.filter(|it| it.session.client_token() == token) {
                entry.ready = false;
                self.with_session(token.slot(), |session, cx| session.handle_turn(cx));
            }
        }
    }

    fn expire(&mut self) {
        let now = self.cx.now;
        let due = |(slot, entry): (usize, &Entry)| {
            entry.wake_at.filter(|at| *at <= now).map(|at| (at, slot))
        };
        let mut due: Vec<(Instant, usize)> = self.sessions.iter().filter_map(due).collect();
        due.sort_unstable();
        for (_, slot) in due {
            self.world.borrow_mut().expire(self.sessions[slot].client);
            self.with_session(slot, |session, cx| session.handle_deadline(cx));
        }
    }

    fn check_all(&self) {
        let world = &*self.world.borrow();
        for (slot, entry) in &self.sessions {
            assert!(entry.wake_at.is_none_or(|at| at > self.cx.now), "slot {slot} never sleeps");
            if let Some(at) = world.must_wake_at(entry.client, entry.stage) {
                assert!(at > world.now, "slot {slot} has missed a deadline");
                let in_time = entry.wake_at.is_some_and(|it| world.time_of(it) <= at);
                assert!(in_time, "slot {slot} sleeps over a deadline");
            }
            let is_late = !entry.ready && !self.looks_again(world, entry);
            if let Some(what) = world.neglected(entry.client, entry.stage).filter(|_| is_late) {
                panic!("slot {slot} (client {}) sleeps over: {what}", entry.client);
            }
        }
        let open = world.clients.iter().filter(|it| it.outcome.is_none());
        let open: Vec<&Naive> = open.filter_map(|it| it.naive.as_ref()).collect();
        let sum = |of: fn(&Naive) -> usize| open.iter().map(|it| of(it)).sum::<usize>();
        let expected = Held {
            circles: if world.remembers_contacts() { open.len() } else { 0 },
            contacts: sum(Naive::contacts_len),
            fragments: sum(Naive::fragments_len),
            names: sum(|it| it.asked.len()),
            letters: sum(Naive::letters_len),
        };
        assert_eq!(self.cx.datagrams.held(), expected);
        self.check_buffers(world);
        assert_eq!(*self.cx.datagrams.totals(), world.totals());
    }

    /// Who has its association holds nothing but what is left of its sealed reply; before that a
    /// token, what was in another, and what is left of an answer may wait.
    fn check_buffers(&self, world: &World) {
        let lent = self.cx.buffers.inboxes_lent() + self.cx.buffers.rings_lent();
        let most = |(_, entry): (usize, &Entry)| match entry.stage {
            Stage::Associated => {
                let client = &world.clients[entry.client];
                usize::from(client.sealer.is_some() && !client.is_replied)
            }
            _ => 3,
        };
        let most: usize = self.sessions.iter().map(most).sum();
        assert!(lent <= most, "{lent} buffers where {most} are the most");
    }

    /// Whether the session has a reason to believe nobody tells it, and looks itself soon.
    fn looks_again(&self, world: &World, entry: &Entry) -> bool {
        let second = LOOK_AGAIN.as_micros() as u64;
        let client = &world.clients[entry.client];
        let ports = client.outside.iter().flatten().chain(&client.inside);
        let short = ports.filter_map(|port| world.ports[*port].short_at).chain(client.short_at);
        let is_unsure = short.max().is_some_and(|at| at + second >= world.now);
        is_unsure && entry.wake_at.is_some_and(|at| at <= self.cx.now + LOOK_AGAIN)
    }

    /// Asserts that an empty gateway has everything back.
    pub(crate) fn check_empty(&self) {
        assert!(self.sessions.is_empty());
        assert_eq!(self.cx.datagrams.held(), Held::default());
        let world = &*self.world.borrow();
        self.check_buffers(world);
        assert_eq!(*self.cx.datagrams.totals(), world.totals());
        for port in &world.ports {
            let is_ours = self.cx.terms.udp_ports.is_claimed(port.own.ip(), port.own.port());
            assert!(!is_ours && !port.is_open, "port {} has leaked", port.own);
        }
        let max = world.house.per_client.unwrap_or(0);
        for client in &world.clients {
            let hold = || self.cx.terms.clients.hold_port(client.script.client.ip());
            let all: Vec<HeldPort> = (0..max).map_while(|_| hold().ok()).collect();
            assert_eq!(all.len(), max, "held ports have leaked");
        }
        let others = self.crowd.len();
        let extras = (others..DESCRIPTORS_MAX).map_while(|_| self.cx.terms.limit.take_extra());
        let extras: Vec<Extra> = extras.collect();
        let all = DESCRIPTORS_MAX - DESCRIPTORS_MAX / 16;
        assert!(others + extras.len() >= all, "descriptors have leaked");
    }
}

fn take_all(limit: &Arc<SessionLimit>, crowd: &mut Vec<Extra>) {
    crowd.extend((crowd.len()..DESCRIPTORS_MAX).map_while(|_| limit.take_extra()));
}

impl World {
    /// A session is, or is not, an association after its turn.
    fn note_stage(&mut self, index: usize, is_associated: bool) {
        self.clients[index].is_associated |= is_associated;
        if self.clients[index].is_associated || self.clients[index].heard < 3 {
            return;
        }
        let (held, of_family) = self.ports_held(self.clients[index].script.own.is_ipv4());
        let tried = self.house.ports_max.unwrap_or(16);
        let client = &mut self.clients[index];
        client.is_over_cap |= self.house.per_client.is_some_and(|max| held[index] >= max);
        client.has_no_port |= of_family + client.ports_in_use >= tried;
        client.has_no_port |= self.weather.is_crowded;
    }

    /// Time has passed for an association.
    fn expire(&mut self, client: usize) {
        let now = self.now;
        let Some(naive) = &mut self.clients[client].naive else { return };
        let fragments = naive.fragments_len();
        let names = naive.expire(now).len();
        let fragments = fragments - naive.fragments_len();
        if names > 0 {
            self.count(Event::NameTimedOut);
        }
        if fragments > 0 {
            self.count(Event::FragmentsTimedOut);
        }
    }

    /// When an association, or what comes before it, must do something at the latest.
    fn must_wake_at(&self, index: usize, stage: Stage) -> Option<u64> {
        let client = &self.clients[index];
        match stage {
            Stage::Associated => {
                let naive = client.naive.as_ref().expect("there is an association");
                naive.expires_at().into_iter().chain(self.ends_at(index)).min()
            }
            Stage::Greeting | Stage::Authenticating | Stage::Requesting => {
                self.house.handshake.map(|it| client.accepted_at + it)
            }
            _ => None,
        }
    }

    /// When an association is over if nothing moves.
    fn ends_at(&self, index: usize) -> Option<u64> {
        let is_replied = self.clients[index].is_replied;
        let patience = if is_replied { self.house.idle } else { self.house.handshake };
        Some(self.clients[index].naive.as_ref()?.active_at + patience?)
    }

    /// What a session could do now, though it waits and no edge is pending.
    fn neglected(&self, index: usize, stage: Stage) -> Option<&'static str> {
        let client = &self.clients[index];
        let tcp = &client.tcp;
        let has_ended = (tcp.fin_arrived(OURS) || tcp.is_dead(OURS)) && !client.end_seen;
        let owes = || client.said.len() < self.may_say(index).len();
        let listens = match stage {
            Stage::Closing | Stage::Severing => tcp.is_finished(OURS),
            // One thing at a time, and not before it is told what came of the last.
            Stage::Authenticating => client.task.is_none() && (tcp.has_space(OURS) || !owes()),
            _ => true,
        };
        if !tcp.has_edge(OURS) && listens && (tcp.has_bytes(OURS) || has_ended) {
            return Some("a client that speaks");
        }
        if !client.is_replied && !tcp.has_edge(OURS) && tcp.has_space(OURS) && owes() {
            return Some("an answer");
        }
        let mut ports = client.outside.iter().flatten().chain(&client.inside);
        let waits = ports.any(|port| {
            let port = &self.ports[*port];
            port.is_open && port.has_news() && !port.edge
        });
        waits.then_some("datagrams")
    }

    fn remembers_contacts(&self) -> bool {
        self.rules.filter != ringsocks::config::Filter::EndpointIndependent
    }

    /// What all associations together have done, by what is known of each.
    fn totals(&self) -> Datagrams {
        let mut totals = Datagrams::default();
        for tally in self.clients.iter().filter_map(|it| Some(&it.naive.as_ref()?.tally)) {
            totals.relayed.up += tally.relayed.up;
            totals.relayed.down += tally.relayed.down;
            totals.bytes.up += tally.bytes.up;
            totals.bytes.down += tally.bytes.down;
            for reason in DropReason::ALL {
                totals.count_drop(reason, tally.dropped(reason));
            }
        }
        totals
    }

    /// Whether a session may end in this way now.
    fn check_outcome(&mut self, index: usize, outcome: Outcome) {
        let client = &self.clients[index];
        let tcp = &client.tcp;
        let is_reset = tcp.is_dead(OURS) || tcp.is_closed(PEER);
        let passed = |at: Option<u64>| at.is_some_and(|at| at <= self.now);
        let allowed = match outcome {
            Outcome::Finished => client.is_associated && tcp.fin_arrived(OURS),
            Outcome::ClientReset => client.is_associated && is_reset,
            Outcome::IdleTimeout => {
                client.is_associated
                    && self.clients[index].is_replied
                    && passed(self.ends_at(index))
            }
            Outcome::HandshakeTimeout if client.is_associated => {
                !self.clients[index].is_replied && passed(self.ends_at(index))
            }
            Outcome::HandshakeTimeout => {
                passed(self.house.handshake.map(|it| it + client.accepted_at))
            }
            Outcome::Empty | Outcome::ClientGone => {
                !client.is_associated && (is_reset || tcp.fin_arrived(OURS))
            }
            Outcome::BadToken => self.is_cut_off(index),
            Outcome::Drained => true,
            Outcome::Refused(Refusal::Denied) => client.is_over_cap,
            Outcome::Refused(Refusal::General) => client.has_no_port,
            _ => false,
        };
        assert!(allowed, "client {index} may not end as {outcome}");
        match outcome {
            Outcome::Refused(Refusal::Denied) => self.count(Event::OverCap),
            Outcome::Refused(Refusal::General) => self.count(Event::NoPort),
            _ => {}
        }
    }
}
