mod answering;
mod sending;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;

use super::cache::{Cache, Findings};
use super::channels::{ChannelId, Channels, Transport};
use super::lookup::{Lookup, Query, merge};
use super::message::Family;
use super::random::Random;
use super::servers::Servers;
use super::sources::Sources;
use super::{Answer, Asked, Failure};
use crate::metrics::NameCounters;
use crate::proto::Name;
use crate::timers::Timers;
use crate::token::Token;

/// A stub resolver, as far as it is thinking: it is told what arrives and what time it is, and says
/// what to send and whom to answer. Its owner has the sockets.
///
/// ```text
///        ask                      poll_action ─▶ open, send, close
/// waiters ──▶ lookups ─▶ queries ─▶ channels
///        ◀── poll_answer          handle_datagram, handle_stream, handle_failure
/// ```
pub struct Resolver {
    sources: Arc<Sources>,
    servers: Servers,
    cache: Cache,
    lookups: Slab<Lookup>,
    /// By name.
    open: HashMap<Box<str>, usize>,
    waits: HashMap<Token, Wait>,
    channels: Channels,
    timers: Timers,
    actions: VecDeque<Action>,
    answers: VecDeque<(Token, Answer)>,
    due: Vec<usize>,
    serial: u64,
    /// Until when no more sockets are to be had.
    short_until: Option<Instant>,
    random: Random,
    counters: NameCounters,
}

/// What a waiter waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// The lookup in this slot, of this serial.
    Lookup(usize, u64),
    /// To be told its last answer.
    Told,
}

/// What the owner of the sockets has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a socket, from a random port, and connect it.
    Open {
        /// What it will be called.
        channel: ChannelId,
        /// Whom to connect it to.
        server: SocketAddr,
        /// Of which kind.
        transport: Transport,
    },
    /// Send these bytes: one datagram, or the next part of a stream.
    Send {
        /// On this socket.
        channel: ChannelId,
        /// All of them.
        bytes: Vec<u8>,
    },
    /// Close a socket.
    Close {
        /// This one.
        channel: ChannelId,
    },
}

/// Where randomness comes from: it fills the whole slice.
pub type Entropy = Box<dyn FnMut(&mut [u8]) + Send>;

impl Resolver {
    /// How many names may be open.
    pub const LOOKUPS_MAX: usize = 16_384;
    /// What a question may take whose waiters have no deadline.
    const DEADLINE_MAX: Duration = Duration::from_secs(30);
    /// How many lookups may go on at a time when their deadlines have come.
    const DEADLINES_PER_TURN: usize = 64;
    /// How many aliases are followed.
    const LINKS_MAX: u8 = 8;
    /// From how many messages on that answer nothing a port counts as known to a forger.
    const STRANGERS_MAX: u32 = 100;
    /// How long to wait before a server that cannot be reached is asked once more.
    const PAUSE: Duration = Duration::from_millis(250);
    /// How long to do without more sockets when there are none to be had.
    const SHORTAGE: Duration = Duration::from_secs(1);
    /// The longest that anything found is believed.
    const KEPT_MAX: Duration = Duration::from_secs(3600);
    /// The longest that a name is believed to be nothing (RFC 2308 section 5 suggests hours).
    const NOTHING_KEPT_MAX: Duration = Duration::from_secs(300);
    /// How long a failure is kept, so that a crowd cannot ask again at once (RFC 9520).
    const FAILURE_KEPT: Duration = Duration::from_secs(1);

    /// A resolver that has asked nothing yet, and uses so many channels at most: at least
    /// [`CHANNELS_MIN`](super::CHANNELS_MIN).
    pub fn new(
        sources: Arc<Sources>,
        entropy: Entropy,
        channels_max: usize,
        now: Instant,
    ) -> Resolver {
        Resolver {
            servers: Servers::new(&sources.servers),
            sources,
            cache: Cache::default(),
            lookups: Slab::new(),
            open: HashMap::new(),
            waits: HashMap::new(),
            channels: Channels::new(channels_max),
            timers: Timers::new(now),
            actions: VecDeque::new(),
            answers: VecDeque::new(),
            due: Vec::new(),
            serial: 0,
            short_until: None,
            random: Random::new(entropy),
            counters: NameCounters::default(),
        }
    }

    /// From now on names mean what these sources say.
    pub fn use_sources(&mut self, sources: Arc<Sources>, now: Instant) {
        if !self.servers.are(&sources.servers) {
            self.servers = Servers::new(&sources.servers);
            self.cache.clear();
            self.leave_servers(now);
        }
        self.sources = sources;
    }

    /// Asks for a name. If that is [`Asked::Pending`], or the answer is not the last, answers for
    /// `waiter` follow by `deadline`.
    pub fn ask(
        &mut self,
        name: &Name,
        waiter: Token,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Asked {
        self.counters.asked += 1;
        let name = key(name);
        let found = match self.find(&name, now) {
            Ok(answer) => {
                self.counters.hits += 1;
                return Asked::Known(answer);
            }
            Err(found) => found,
        };
        let latest = now + Self::DEADLINE_MAX;
        let deadline = deadline.map_or(latest, |at| at.min(latest));
        if let Some(&index) = self.open.get(name.as_str()) {
            self.counters.joined += 1;
            return self.join(index, waiter, deadline);
        }
        if self.lookups.len() >= Self::LOOKUPS_MAX {
            return Asked::Full;
        }
        let index = self.begin(name.into(), found, self.preferred(), now);
        let asked = self.join(index, waiter, deadline);
        self.advance(index, now);
        asked
    }

    /// What is known of a name without asking anybody.
    pub fn known(&mut self, name: &Name, now: Instant) -> Option<Answer> {
        let answer = self.find(&key(name), now).ok()?;
        self.counters.asked += 1;
        self.counters.hits += 1;
        Some(answer)
    }

    /// All that is known of a name; or if it is not all, what there is of either family. Of a name
    /// that is being asked for its lookup knows.
    fn find(&mut self, name: &str, now: Instant) -> Result<Answer, [Option<Findings>; 2]> {
        if let Some(addresses) = self.sources.hosts(name) {
            return Ok(Answer::Addresses { addresses, more: false });
        }
        if self.open.contains_key(name) {
            return Err([None, None]);
        }
        match self.cache.find(name, now) {
            [Some(v4), Some(v6)] => Ok(merge(self.preferred(), [v4, v6])),
            found => Err(found),
        }
    }

    fn preferred(&self) -> Family {
        if self.sources.prefers_v6 { Family::V6 } else { Family::V4 }
    }

    /// `waiter` wants no more answers.
    pub fn forget(&mut self, waiter: Token) {
        let Some(Wait::Lookup(index, serial)) = self.waits.remove(&waiter) else { return };
        if let Some(lookup) = self.lookups.get_mut(index).filter(|it| it.serial == serial) {
            lookup.leave(|waiter| self.waits.contains_key(waiter));
        }
    }

    /// What has to be done with sockets, in this order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Who has to be told what. Each waiter hears its last answer once, and nothing after it.
    pub fn poll_answer(&mut self) -> Option<(Token, Answer)> {
        loop {
            let (waiter, answer) = self.answers.pop_front()?;
            let waits = match answer.is_last() {
                true => self.waits.remove(&waiter).is_some(),
                false => self.waits.contains_key(&waiter),
            };
            if waits {
                return Some((waiter, answer));
            }
        }
    }

    /// Whether somebody has to be told something, or a deadline has come that was not kept yet.
    pub fn is_busy(&self) -> bool {
        !self.answers.is_empty() || !self.due.is_empty()
    }

    /// When to call [`handle_deadline`](Self::handle_deadline), if nothing happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// What it has counted.
    pub fn counters(&self) -> NameCounters {
        self.counters
    }

    /// How many names are being asked for.
    pub fn open(&self) -> usize {
        self.lookups.len()
    }

    /// How many channels it has.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// A datagram has arrived.
    pub fn handle_datagram(&mut self, channel: ChannelId, bytes: &[u8], now: Instant) {
        self.handle_message(channel, bytes, now);
    }

    /// There is no socket to be had for a channel: its questions will share another.
    pub fn handle_shortage(&mut self, channel: ChannelId, now: Instant) {
        self.short_until = Some(now + Self::SHORTAGE);
        let Some(channel) = self.close(channel) else { return };
        for asked in channel.asked.into_values() {
            if let Some(query) = self.query(asked.lookup, asked.family) {
                query.put_off(now + Self::PAUSE);
                self.set_timer(asked.lookup);
            }
        }
    }

    /// The next deadline has come. A crowd of them takes more than one call.
    pub fn handle_deadline(&mut self, now: Instant) {
        if self.due.is_empty() {
            self.timers.expire(now, &mut self.due);
        }
        for _ in 0..Self::DEADLINES_PER_TURN {
            let Some(index) = self.due.pop() else { return };
            self.advance(index, now);
        }
    }

    fn begin(
        &mut self,
        name: Box<str>,
        known: [Option<Findings>; 2],
        preferred: Family,
        now: Instant,
    ) -> usize {
        self.serial += 1;
        let lookup = Lookup::new(name.clone(), self.serial, known, preferred, now);
        let index = self.lookups.insert(lookup);
        self.open.insert(name, index);
        index
    }

    fn join(&mut self, index: usize, waiter: Token, deadline: Instant) -> Asked {
        let lookup = &mut self.lookups[index];
        lookup.join(waiter, deadline);
        self.waits.insert(waiter, Wait::Lookup(index, lookup.serial));
        let asked = lookup.told().map_or(Asked::Pending, Asked::Known);
        self.set_timer(index);
        asked
    }

    /// Does what is due of a lookup.
    fn advance(&mut self, index: usize, now: Instant) {
        if self.lookups.get(index).is_some_and(Lookup::is_abandoned) {
            return self.abandon(index);
        }
        for family in [Family::V4, Family::V6] {
            self.advance_part(index, family, now);
        }
        self.tell(index, now);
        self.dismiss(index, now);
    }

    /// Ends a lookup that nobody waits for.
    fn abandon(&mut self, index: usize) {
        for family in [Family::V4, Family::V6] {
            self.withdraw_all(index, family);
        }
        self.end(index);
    }

    /// Tells those whose time is over what there is, though others can wait longer.
    fn dismiss(&mut self, index: usize, now: Instant) {
        let Some(lookup) = self.lookups.get_mut(index) else { return };
        while let Some(waiter) = lookup.dismiss(now, |waiter| self.waits.contains_key(waiter)) {
            self.waits.insert(waiter, Wait::Told);
            self.answers.push_back((waiter, lookup.last_answer()));
        }
        self.set_timer(index);
    }

    fn advance_part(&mut self, index: usize, family: Family, now: Instant) {
        let Some(lookup) = self.lookups.get_mut(index) else { return };
        let is_over = lookup.deadline <= now;
        let Some(query) = lookup.query(family) else { return };
        if is_over {
            let failure =
                if query.failures > 0 { Failure::ServerFailed } else { Failure::TimedOut };
            return self.finish_part(index, family, Err(failure), Self::FAILURE_KEPT, now);
        }
        if query.retry_at > now {
            return;
        }
        if let Some(vain) = query.last_try.take() {
            self.counters.retries += 1;
            query.tries += 1;
            self.servers.blame(vain.server, vain.at, now);
            if vain.transport == Transport::Tcp {
                // Others may be waiting for a stream, and nothing is lost on one.
                return self.fail_try(index, family, vain.server, now);
            }
        }
        self.send(index, family, now);
    }

    /// Tells the waiters what can be told, and ends the lookup if that is all.
    fn tell(&mut self, index: usize, now: Instant) {
        let Some(lookup) = self.lookups.get_mut(index) else { return };
        let is_done = lookup.is_done();
        if let Some(answer) = lookup.poll_answer(now) {
            self.counters.failed += u64::from(matches!(answer, Answer::Failed(_)));
            self.answers.extend(lookup.waiters().map(|waiter| (waiter, answer.clone())));
        }
        if is_done {
            self.end(index);
        } else {
            self.set_timer(index);
        }
    }

    fn end(&mut self, index: usize) {
        let lookup = self.lookups.remove(index);
        self.open.remove(&lookup.name);
        self.timers.clear(index);
    }

    fn set_timer(&mut self, index: usize) {
        if let Some(lookup) = self.lookups.get(index) {
            self.timers.set(index, lookup.wake_at());
        }
    }

    fn query(&mut self, index: usize, family: Family) -> Option<&mut Query> {
        self.lookups.get_mut(index)?.query(family)
    }
}

/// A name as all that is known of it is kept under.
fn key(name: &Name) -> String {
    name.as_str().trim_end_matches('.').to_ascii_lowercase()
}
