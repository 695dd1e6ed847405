//! A reactor without a kernel: it gives sessions what they wait for, as `src/reactor` does, and
//! asks after each call whether all that must be true of them is.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringsocks::access::Record;
use ringsocks::auth::Auth;
use ringsocks::config::RelayMode;
use ringsocks::dns::Answer;
use ringsocks::metrics::Stage;
use ringsocks::outcome::Outcome;
use ringsocks::policy::{Extra, HeldPort};
use ringsocks::proto::gssapi::HEADER_BYTES;
use ringsocks::relay::{Buffers, INBOX_BYTES, RING_BYTES, Readiness};
use ringsocks::session::{Context, Session, Terms, Turn};
use ringsocks::token::{Role, Token};
use slab::Slab;

use crate::counts::Event;
use crate::opening::Opening;
use crate::script::{CLIENTS, Fate};
use crate::sealed::Stream;
use crate::socket::{ATTEMPT_DELAY, SimNet, SimSocket};
use crate::tcp::OURS;
use crate::world::{Happening, Limits, Link, World};

/// As in the session.
const SEVERING: u64 = 1_000_000;
/// As in the relay.
const KEEP_ALIVE_AFTER: u64 = 30_000_000;
/// What a timer may be late.
const TICK: u64 = 2000;
/// As in the session.
const ASK_AGAIN: u64 = 200_000;
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Where there are any number of descriptors, nobody takes as many.
pub(crate) const DESCRIPTORS_MAX: usize = 1600;

pub(crate) struct Gateway {
    pub(crate) world: Rc<RefCell<World>>,
    cx: Context<SimNet>,
    limits: Limits,
    rings_max: usize,
    pipes_max: usize,
    sessions: Slab<Entry>,
    /// What others have of the descriptors that there are beside those of sessions.
    crowd: Vec<Extra>,
    ready: VecDeque<Token>,
    pub(crate) outcomes: [u64; Outcome::COUNT],
}

struct Entry {
    session: Session<SimNet>,
    life: usize,
    ready: bool,
    /// How often it has yielded since it last was seen to do something.
    idle_turns: usize,
    wake_at: Option<Instant>,
    stage: Stage,
    stage_since: u64,
}

enum Fact {
    Edge(Token, Readiness),
    Answer(Happening),
}

impl Gateway {
    pub(crate) fn new(
        world: Rc<RefCell<World>>,
        (rings_max, pipes_max): (usize, usize),
        mode: RelayMode,
        (terms, auth): (Terms, Auth),
        limits: Limits,
    ) -> Gateway {
        let now = world.borrow().instant();
        let net = SimNet(Rc::clone(&world));
        let buffers = Buffers::new(rings_max, mode, pipes_max);
        let cx = Context::new(now, net, buffers, terms.into(), Arc::default(), auth.into());
        Gateway {
            world,
            cx,
            limits,
            rings_max,
            pipes_max,
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
        let timers = self.sessions.iter().filter_map(|(_, entry)| entry.wake_at);
        timers.min()
    }

    /// One tick, with all of the edges that are pending or only some of them.
    pub(crate) fn tick(&mut self, all_edges: bool) {
        self.cx.now = self.world.borrow().instant();
        self.crowd();
        for fact in self.facts(all_edges) {
            match fact {
                Fact::Edge(token, readiness) => self.handle_edge(token, readiness),
                Fact::Answer(happening) => self.handle_happening(happening),
            }
        }
        self.give_turns();
        self.expire();
        self.check_all();
    }

    /// Resets all that is left.
    pub(crate) fn abort_all(&mut self) {
        let slots: Vec<usize> = self.sessions.iter().map(|(slot, _)| slot).collect();
        slots.into_iter().for_each(|slot| self.abort(slot, Outcome::Drained));
    }

    /// Asserts that an empty gateway has everything back.
    pub(crate) fn check_empty(&self) {
        assert!(self.sessions.is_empty());
        assert_eq!(self.cx.buffers.rings_lent(), 0, "rings have leaked");
        assert_eq!(self.cx.buffers.pipes_lent(), 0, "pipes have leaked");
        assert_eq!(self.cx.buffers.inboxes_lent(), 0, "inboxes have leaked");
        let world = &*self.world.borrow();
        assert_eq!(self.cx.bind_strangers, world.harbour.strangers);
        for quay in &world.harbour.quays {
            let is_ours = self.cx.terms.bind_ports.is_claimed(quay.own.ip(), quay.own.port());
            assert!(!is_ours && !quay.is_open, "port {} has leaked", quay.own);
        }
        let max = world.harbour.per_client.unwrap_or(0);
        for client in CLIENTS.map(|it| it.parse::<SocketAddr>().unwrap()) {
            let hold = || self.cx.terms.clients.hold_port(client.ip());
            let all: Vec<HeldPort> = (0..max).map_while(|_| hold().ok()).collect();
            assert_eq!(all.len(), max, "held ports have leaked");
        }
    }

    /// Now and then others take all descriptors that there are beside those of sessions.
    fn crowd(&mut self) {
        let world = &mut *self.world.borrow_mut();
        if self.crowd.is_empty() && world.random.once_in(60) {
            let limit = &self.cx.terms.limit;
            self.crowd.extend((0..DESCRIPTORS_MAX).map_while(|_| limit.take_extra()));
            world.harbour.is_crowded = self.crowd.len() < DESCRIPTORS_MAX;
            if world.harbour.is_crowded {
                world.count(Event::Crowded);
            }
        } else if world.random.once_in(20) {
            self.crowd.clear();
            world.harbour.is_crowded = false;
        }
        if world.harbour.is_crowded {
            let now = world.now;
            world.harbour.quays.iter_mut().for_each(|quay| quay.short_at = Some(now));
        }
    }

    fn facts(&mut self, all_edges: bool) -> Vec<Fact> {
        let world = &mut *self.world.borrow_mut();
        let mut facts = Vec::new();
        for index in 0..world.links.len() {
            if world.links[index].tcp.has_edge(OURS)
                && let Some(token) = world.links[index].token
                && (all_edges || !world.random.once_in(4))
            {
                let readiness = world.links[index].tcp.take_edge(OURS);
                facts.push(Fact::Edge(token, readiness));
            }
        }
        for quay in &mut world.harbour.quays {
            if quay.edge && quay.is_open {
                quay.edge = false;
                let readable = !quay.queue.is_empty();
                let readiness = Readiness { readable, ..Readiness::default() };
                facts.push(Fact::Edge(quay.token, readiness));
            }
        }
        while let Some(happening) = world.next_happening() {
            facts.push(Fact::Answer(happening));
        }
        world.random.shuffle(&mut facts);
        facts
    }

    fn handle_edge(&mut self, token: Token, readiness: Readiness) {
        // What epoll has nothing to say of is not reported.
        if readiness == Readiness::default() {
            return;
        }
        let bits = usize::from(readiness.readable)
            | usize::from(readiness.writable) << 1
            | usize::from(readiness.read_closed) << 2
            | usize::from(readiness.urgent) << 3
            | usize::from(readiness.error) << 4;
        self.world.borrow_mut().note("event", token.slot(), bits);
        self.with_session(token.slot(), |session, cx| session.handle_event(cx, token, readiness));
    }

    fn handle_happening(&mut self, happening: Happening) {
        match happening {
            Happening::Arrival(life) => self.accept(life),
            Happening::Established(link) => {
                self.world.borrow_mut().links[link].tcp.establish();
            }
            Happening::Failed(link, errno) => {
                self.world.borrow_mut().links[link].tcp.fail(errno);
            }
            Happening::Abort(link, reset) => {
                self.world.borrow_mut().peer_aborts(link, reset);
            }
            Happening::Done { token, client, done } => {
                self.note_done(token);
                let mut done = Some(done);
                self.with_session(token.slot(), |session, cx| {
                    session.handle_done(cx, token, &mut done)
                });
                if let Some(done) = done {
                    self.cx.judge_absent(client, done);
                }
            }
            Happening::Visit { quay, target } => self.world.borrow_mut().visit(quay, target),
            Happening::Answer { token, answer, targets, then } => {
                self.note_answer(token, &answer, &targets);
                self.with_session(token.slot(), |session, cx| {
                    session.handle_answer(cx, token, answer)
                });
                if let Some((after, next)) = then {
                    let world = &mut *self.world.borrow_mut();
                    world.at(world.now + after, *next);
                }
            }
        }
    }

    fn note_answer(&mut self, token: Token, answer: &Answer, targets: &[usize]) {
        let world = &mut *self.world.borrow_mut();
        world.note("answer", token.slot(), targets.len());
        let waits = self.sessions.get(token.slot()).filter(|entry| {
            matches!(entry.stage, Stage::Resolving | Stage::Connecting | Stage::Accepting)
                && world.lives[entry.life].asked == Some(token)
        });
        let Some(entry) = waits else { return world.count(Event::LateAnswer) };
        let life = &mut world.lives[entry.life];
        life.learn(targets);
        if answer.is_last() {
            (life.asked, life.is_answered) = (None, true);
        }
        if let Answer::Addresses { .. } = answer {
            life.connecting_since.get_or_insert(world.now);
        }
        match entry.stage {
            Stage::Connecting => world.count(Event::LaterAnswer),
            Stage::Accepting => world.count(Event::LaterPeer),
            _ => {}
        }
    }

    /// A session is told what has come of what it asked, unless it has gone.
    fn note_done(&mut self, token: Token) {
        let world = &mut *self.world.borrow_mut();
        world.note("done", token.slot(), 0);
        let life = self.sessions.get(token.slot()).map(|entry| entry.life);
        let waits = life.and_then(|life| world.lives[life].task.take_if(|task| *task == token));
        world.count(if waits.is_some() { Event::TaskDone } else { Event::LateTask });
    }

    fn accept(&mut self, life: usize) {
        let link = self.world.borrow_mut().arrive(life);
        let vacancy = self.sessions.vacant_entry();
        let slot = vacancy.key();
        let token = self.cx.token(Role::Client, slot);
        let socket = SimSocket::new(&self.world, link, token);
        let own = self.world.borrow().lives[life].script.own;
        let client = self.world.borrow().lives[life].script.client_address();
        let record = Record::new(0, 0, own, client);
        let session = Session::new(socket, token, record, 0, &self.cx);
        let world = &mut *self.world.borrow_mut();
        world.owners.insert(slot, life);
        world.lives[life].accepted_at = world.now;
        world.note("accept", life, slot);
        vacancy.insert(Entry {
            life,
            ready: false,
            idle_turns: 0,
            wake_at: session.wake_at(),
            stage: session.stage(),
            stage_since: world.now,
            session,
        });
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
        self.world.borrow_mut().note_port(entry.life);
        if let Turn::End(outcome) = turn {
            return self.reap(slot, outcome);
        }
        let world = &mut *self.world.borrow_mut();
        world.note(&stage.to_string(), slot, 0);
        world.check_accepted(entry.life);
        if stage != entry.stage {
            (entry.stage, entry.stage_since) = (stage, world.now);
            if matches!(stage, Stage::Relaying | Stage::Severing) {
                let winner = world.winner(entry.life).expect("a relay has a target");
                world.grant(entry.life, winner);
            }
        }
        match turn {
            Turn::End(_) | Turn::Wait => {}
            Turn::Yield => {
                // What is opened is seen only once it is sent.
                let opens = world.lives[entry.life].opening.is_some();
                entry.idle_turns = if world.progress > before { 0 } else { entry.idle_turns + 1 };
                let idle_max = if opens { RING_BYTES / HEADER_BYTES } else { 0 };
                assert!(
                    entry.idle_turns <= idle_max,
                    "slot {slot} yields without having done anything"
                );
                world.count(Event::Yield);
                if !entry.ready {
                    entry.ready = true;
                    self.ready.push_back(entry.session.client_token());
                }
            }
        }
        entry.wake_at = entry.session.wake_at();
    }

    fn reap(&mut self, slot: usize, outcome: Outcome) {
        let Entry { session, life, stage, stage_since, .. } = self.sessions.remove(slot);
        {
            let world = &mut *self.world.borrow_mut();
            world.note(&outcome.to_string(), life, slot);
            if stage == Stage::Accepting && outcome == Outcome::ClientGone {
                world.count(Event::GoneWhileWaiting);
            }
            if matches!(outcome, Outcome::Refused(_)) {
                world.skip_denied(life);
            }
            world.check_outcome(life, outcome, &self.limits);
            // The deadline of passing on a reset, and of seeing somebody off, is a last resort.
            let forced = match stage {
                Stage::Severing => world.now >= stage_since + SEVERING,
                Stage::Closing => {
                    self.limits.closing.is_some_and(|it| world.now >= stage_since + it)
                }
                _ => false,
            };
            world.lives[life].forced = forced;
            world.check_bad_token(life, outcome, stage);
            if matches!(outcome, Outcome::ClientReset | Outcome::TargetReset) && !forced {
                world.check_nothing_is_lost(life);
            }
            let told = world.told(life);
            let said = world.lives[life].rep_said(told);
            if let (Outcome::Refused(refusal), Some(rep)) = (outcome, said) {
                assert_eq!(refusal.rep(), rep, "life {life} was told something else");
            }
            world.lives[life].outcome = Some(outcome);
        }
        let record = Record { outcome, ..session.close(&mut self.cx) };
        let world = self.world.borrow();
        let told = world.told(life);
        let (index, life) = (life, &world.lives[life]);
        assert_eq!(record.given.as_ref().map(|given| given.bnd), told, "{record}");
        assert!(
            life.quay.is_none_or(|it| !world.harbour.quays[it].is_open),
            "life {index}: a port"
        );
        assert_eq!(
            (record.traffic.up, record.traffic.down),
            (life.up_out as u64, life.down_out as u64)
        );
        assert_eq!(life.asked, None, "life {index}: a question is left open");
        let granted = life.granted_target.map(|target| life.script.targets[target].address);
        assert!(granted.is_none() || record.connected == granted, "{record}");
        let is_granted = record.rep == Some(0) && (told.is_none() || life.welcomed.is_some());
        assert_eq!(record.connected.is_some(), is_granted, "{record}");
        assert!(life.rep_said(told).is_none_or(|rep| record.rep == Some(rep)), "{record}");
        self.outcomes[outcome.index()] += 1;
    }

    fn abort(&mut self, slot: usize, outcome: Outcome) {
        if let Some(entry) = self.sessions.get_mut(slot) {
            entry.session.abort();
            self.reap(slot, outcome);
        }
    }

    fn give_turns(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(token) = self.ready.pop_front() else { return };
            if let Some(entry) = self.entry(token) {
                entry.ready = false;
                let life = entry.life;
                self.world.borrow_mut().stir_life(life);
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
            self.with_session(slot, |session, cx| session.handle_deadline(cx));
        }
    }

    fn entry(&mut self, client: Token) -> Option<&mut Entry> {
        self.sessions.get_mut(client.slot()).filter(|entry| entry.session.client_token() == client)
    }

    fn check_all(&self) {
        let world = &*self.world.borrow();
        let (mut least_held, mut most_held, mut with_contexts) = (0, 0, 0);
        let mut is_half_sent = false;
        for (slot, entry) in &self.sessions {
            let (least, most) = self.buffers_held(world, entry);
            // Of small rooms for tokens many count as one ring.
            let has_context = world.lives[entry.life].script.sealed.is_some();
            let least = if has_context { 0 } else { least };
            // What is left of one may be all of it.
            let is_sealed = world.lives[entry.life].opening.is_some();
            let most = most + usize::from(is_sealed);
            is_half_sent |= self.is_half_sent(world, entry);
            (least_held, most_held) = (least_held + least, most_held + most);
            with_contexts += usize::from(has_context);
            assert!(
                entry.wake_at.is_none_or(|at| at > self.cx.now),
                "slot {slot} wants to be woken for ever"
            );
            if let Some(limit) = self.overdue(world, entry) {
                panic!("slot {slot} is {} beyond {limit} us", entry.stage);
            }
            let is_kept_alive = world.lives[entry.life].target_is_kept_alive;
            let kept_alive_from = entry.stage_since + KEEP_ALIVE_AFTER;
            assert!(
                entry.stage != Stage::Relaying || is_kept_alive == (world.now >= kept_alive_from),
                "slot {slot}: the target is looked after too early or not at all"
            );
            let waits_its_turn = entry.ready;
            if !waits_its_turn
                && let Some(what) = self.neglected(world, entry)
                && !self.looks_again(world, entry)
            {
                panic!("slot {slot} (life {}) sleeps over: {what}", entry.life);
            }
        }
        let buffers = &self.cx.buffers;
        let (rings, pipes) = (buffers.rings_lent(), buffers.pipes_lent());
        let lent = rings + pipes + buffers.inboxes_lent();
        // A lane whose pipe cannot be sent from has a ring besides.
        let fits = least_held + usize::from(is_half_sent)..=most_held + pipes;
        let told = |(slot, it): (usize, &Entry)| {
            let held = self.buffers_held(world, it);
            format!("{slot}: {} life {} {held:?}", it.stage, it.life)
        };
        let all = || self.sessions.iter().map(told).collect::<Vec<_>>();
        assert!(fits.contains(&lent), "{lent} buffers for {fits:?} lots of bytes: {:?}", all());
        assert!(rings <= self.rings_max + pipes + with_contexts);
        assert!(pipes <= self.pipes_max);
    }

    /// Whether a session must keep what is left of a token that its client has begun to receive.
    fn is_half_sent(&self, world: &World, entry: &Entry) -> bool {
        let (client, _) = links(world, entry);
        let opening = &world.lives[entry.life].opening;
        matches!(entry.stage, Stage::Accepting | Stage::Relaying)
            && !client.fault_known
            && opening.as_ref().is_some_and(Opening::is_within_token)
    }

    /// How many buffers a session must hold for the bytes it keeps, and how many it may.
    fn buffers_held(&self, world: &World, entry: &Entry) -> (usize, usize) {
        let life = &world.lives[entry.life];
        let (client, target) = links(world, entry);
        let down = usize::from(life.down_held() > 0 && !client.fault_known);
        if let (Stage::Authenticating, Some(sealed)) = (entry.stage, &life.script.sealed) {
            let is_established = life.contexts_asked == sealed.legs() && life.task.is_none();
            let taken =
                |is_established| sealed.taken(life.contexts_asked, is_established, life.heard);
            let is_held = |taken| usize::from(life.heard > taken);
            return (is_held(taken(is_established)), is_held(taken(false)));
        }
        if life.opening.is_some() {
            let request = life.script.stream().map_or(0, Stream::request);
            let held = |gone| life.buffers_for_sealed(gone).unwrap_or_default();
            match entry.stage {
                Stage::Requesting => return held(0),
                Stage::Resolving | Stage::Connecting | Stage::Accepting => return held(request),
                Stage::Relaying => {
                    let waits = !life.reply_is_said() && !client.fault_known;
                    let broken = target.is_some_and(|target| target.fault_known);
                    let (least, most) = held(request + life.up_out);
                    let least = if waits || !broken { least } else { 0 };
                    return (least + down, most + down);
                }
                Stage::Severing => {
                    let (_, most) = held(request + life.up_out);
                    return (0, most + down);
                }
                _ => {}
            }
        }
        let held = self.buffers_held_plain(world, entry);
        let waits = life.task.is_some() || life.refused_at.is_some();
        (held, held.max(usize::from(waits)))
    }

    fn buffers_held_plain(&self, world: &World, entry: &Entry) -> usize {
        let life = &world.lives[entry.life];
        match entry.stage {
            Stage::Associated => unreachable!("nobody asks for it"),
            Stage::Greeting
            | Stage::Authenticating
            | Stage::Requesting
            | Stage::Resolving
            | Stage::Connecting
            | Stage::Accepting => usize::from(life.in_inbox() > 0),
            Stage::Relaying => {
                let (client, target) = links(world, entry);
                // Until the reply is out, the lanes are not looked at.
                let waits = !life.reply_is_said() && !client.fault_known;
                let broken = target.is_some_and(|target| target.fault_known);
                let up = life.up_held() > 0 && (waits || !broken);
                let down = life.down_held() > 0 && !client.fault_known;
                usize::from(up) + usize::from(down)
            }
            // The lane into the side that was reset is gone, whatever was in it.
            Stage::Severing => {
                let (client, target) = links(world, entry);
                let target = target.unwrap();
                let up = client.reset_known && !target.fault_known && life.up_held() > 0;
                let down = target.reset_known && !client.fault_known && life.down_held() > 0;
                usize::from(up || down)
            }
            Stage::Closing => 0,
        }
    }

    /// The deadline that a session has outlived.
    fn overdue(&self, world: &World, entry: &Entry) -> Option<u64> {
        let life = &world.lives[entry.life];
        let limits = &self.limits;
        let (limit, since) = match entry.stage {
            Stage::Associated => unreachable!("nobody asks for it"),
            Stage::Accepting => (limits.bind, entry.stage_since),
            Stage::Greeting | Stage::Authenticating | Stage::Requesting => {
                (limits.handshake, life.accepted_at)
            }
            Stage::Resolving => (limits.resolve, entry.stage_since),
            Stage::Connecting => (limits.connect, entry.stage_since),
            Stage::Relaying => {
                let (client, target) = links(world, entry);
                let half = client.tcp.is_finished(OURS)
                    || target.is_some_and(|target| target.tcp.is_finished(OURS));
                // What is sent to a broken side is thrown away: that direction may count as ended.
                let broken = client.fault_known || target.is_some_and(|target| target.fault_known);
                let limit = match (half, broken) {
                    (true, _) => limits.half_closed,
                    (false, true) => limits.idle.zip(limits.half_closed).map(|(a, b)| a.max(b)),
                    (false, false) => limits.idle,
                };
                let stirred_at = life.opening.as_ref().map_or(0, |_| life.stirred_at);
                (limit, life.moved_at.max(life.broken_at).max(stirred_at))
            }
            Stage::Severing => (Some(SEVERING), entry.stage_since),
            Stage::Closing => (Some(limits.closing.unwrap_or(10_000_000)), entry.stage_since),
        };
        limit.filter(|limit| since + limit <= world.now)
    }

    /// Whether the session has a reason to believe nobody tells it, and looks itself soon.
    fn looks_again(&self, world: &World, entry: &Entry) -> bool {
        let life = &world.lives[entry.life];
        let (client, target) = links(world, entry);
        let second = LOOK_AGAIN.as_micros() as u64;
        let quay = life.quay.map(|quay| &world.harbour.quays[quay]);
        let was_short =
            quay.and_then(|quay| quay.short_at).is_some_and(|at| at + second >= world.now);
        // There may have been no room for a token, nobody tells when there is.
        let has_context = life.script.sealed.is_some();
        let unsure = was_short
            || has_context
            || [Some(client), target].into_iter().flatten().any(|link| {
                link.short_at.is_some_and(|at| {
                    let soon = at.max(link.acknowledged_at) + second >= world.now;
                    soon || link.tcp.unacknowledged(OURS) > 0
                })
            });
        unsure && entry.wake_at.is_some_and(|at| at <= self.cx.now + LOOK_AGAIN)
    }

    /// What a session could do now, though it waits and no edge is pending.
    fn neglected(&self, world: &World, entry: &Entry) -> Option<&'static str> {
        let life = &world.lives[entry.life];
        let (client, target) = links(world, entry);
        if client.tcp.has_edge(OURS) || target.is_some_and(|target| target.tcp.has_edge(OURS)) {
            return None;
        }
        let can_say = client.tcp.has_space(OURS) && !client.fault_known;
        match entry.stage {
            Stage::Associated => unreachable!("nobody asks for it"),
            Stage::Greeting | Stage::Authenticating | Stage::Requesting => {
                if life.task.is_some() {
                    return None;
                }
                if let Some(refused_at) = life.refused_at.filter(|_| can_say) {
                    let asks_at = entry.wake_at.map(|at| world.time_of(at));
                    let asks_soon = asks_at.is_some_and(|at| at <= refused_at + ASK_AGAIN + TICK);
                    return (!asks_soon).then_some("a task that nobody does");
                }
                let is_blocked = life.script.sealed.is_some()
                    && !can_say
                    && life.said.len() < life.answers_due();
                if has_news(client) && !is_blocked {
                    return Some("a client that speaks");
                }
                if life.has_heard_bad() && !is_blocked {
                    return Some("a bad token");
                }
                (can_say && life.said.len() < life.answers_due()).then_some("an answer")
            }
            Stage::Resolving | Stage::Connecting | Stage::Accepting => {
                let told = world.told(entry.life);
                if can_say && life.said.len() < life.answers_due() + life.first_reply_len(told) {
                    return Some("an answer");
                }
                let ended = client.tcp.fin_arrived(OURS) || client.tcp.is_dead(OURS);
                if ended && life.payload_in(client.tcp.arrived(OURS) as usize) == 0 {
                    return Some("a client that hung up");
                }
                if entry.stage == Stage::Resolving && life.script.is_bind() {
                    return life.is_met(world.now).then_some("a name that is known");
                }
                if entry.stage == Stage::Accepting {
                    let quay = &world.harbour.quays[life.quay.expect("it listens")];
                    return (!quay.queue.is_empty() && !quay.edge).then_some("a peer");
                }
                let answered =
                    life.attempts.iter().map(|attempt| &world.links[*attempt].tcp).any(|tcp| {
                        !tcp.is_connecting() && !tcp.is_closed(OURS) && !tcp.has_edge(OURS)
                    });
                if answered {
                    return Some("a target that answered");
                }
                let waits = life.attempts.iter().any(|it| !world.links[*it].tcp.is_closed(OURS));
                let untried = entry.stage == Stage::Connecting
                    && life
                        .candidates
                        .iter()
                        .any(|it| life.script.targets[*it].fate != Fate::Denied);
                let due = life.tried_at + ATTEMPT_DELAY;
                let sleeps = entry.wake_at.is_none_or(|at| world.time_of(at) > due + TICK);
                (untried && (!waits || sleeps)).then_some("an address to try")
            }
            Stage::Relaying => {
                if can_say && !life.reply_is_said() {
                    return Some("a reply");
                }
                if !life.reply_is_said() && !client.fault_known {
                    return None;
                }
                let target = target.unwrap();
                let piped = self.cx.buffers.pipes_lent() > 0;
                let sinks = target.tcp.has_space(OURS) && !target.fault_known;
                if life.has_heard_bad() && life.up_held() == 0 && sinks {
                    return Some("a bad token");
                }
                // Of what a token carries nobody knows from outside whether there is a ring for it.
                let rings_only = piped || life.opening.is_some();
                neglected_lane(client, life.up_held(), target, rings_only)
                    .or_else(|| neglected_lane(target, life.down_held(), client, piped))
            }
            Stage::Severing => None,
            Stage::Closing => {
                let seen_off = match target {
                    Some(target) if !target.tcp.is_closed(OURS) => target,
                    _ => client,
                };
                (seen_off.tcp.is_finished(OURS) && has_news(seen_off)).then_some("late words")
            }
        }
    }
}

/// A pipe, unlike a ring, may be full of a few bytes.
fn neglected_lane(source: &Link, held: usize, sink: &Link, piped: bool) -> Option<&'static str> {
    let sinks = sink.tcp.has_space(OURS) && !sink.fault_known;
    if held > 0 && sinks {
        return Some("bytes in a ring, and room for them");
    }
    let has_room = !piped && (1..INBOX_BYTES).contains(&held);
    let takes_more = sinks || sink.fault_known || has_room;
    (takes_more && has_news(source)).then_some("a source that speaks, and room for it")
}

/// Whether a receive would find something.
fn has_news(link: &Link) -> bool {
    let ended = link.tcp.fin_arrived(OURS) || link.tcp.is_dead(OURS);
    link.tcp.has_bytes(OURS) || ended && !link.end_known && !link.fault_known
}

/// A session's client and its target, once it has one.
fn links<'a>(world: &'a World, entry: &Entry) -> (&'a Link, Option<&'a Link>) {
    let life = &world.lives[entry.life];
    (&world.links[life.client.unwrap()], life.granted.map(|target| &world.links[target]))
}
