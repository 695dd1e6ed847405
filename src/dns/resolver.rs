use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;

use super::cache::{Cache, Findings};
use super::channels::{Asked as AskedOn, ChannelId, Channels, Transport};
use super::lookup::{HandedOver, Lookup, Part, Query, Sent, merge};
use super::message::{self, Family, Mismatch, Question, Reply};
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
    /// Which lookup each waiter waits for, and that lookup's serial.
    waits: HashMap<Token, (usize, u64)>,
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
    pub fn use_sources(&mut self, sources: Arc<Sources>) {
        if !self.servers.are(&sources.servers) {
            self.servers = Servers::new(&sources.servers);
            self.cache.clear();
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
        let name = name.as_str().trim_end_matches('.').to_ascii_lowercase();
        if let Some(addresses) = self.sources.hosts(&name) {
            self.counters.hits += 1;
            return Asked::Known(Answer::Addresses { addresses, more: false });
        }
        let latest = now + Self::DEADLINE_MAX;
        let deadline = deadline.map_or(latest, |at| at.min(latest));
        if let Some(&index) = self.open.get(name.as_str()) {
            self.counters.joined += 1;
            return self.join(index, waiter, deadline);
        }
        let preferred = if self.sources.prefers_v6 { Family::V6 } else { Family::V4 };
        match self.cache.find(&name, now) {
            [Some(v4), Some(v6)] => {
                self.counters.hits += 1;
                Asked::Known(merge(preferred, [v4, v6]))
            }
            _ if self.lookups.len() >= Self::LOOKUPS_MAX => Asked::Full,
            known => {
                let index = self.begin(name.into(), known, preferred, deadline, now);
                let asked = self.join(index, waiter, deadline);
                self.advance(index, now);
                asked
            }
        }
    }

    /// `waiter` wants no more answers.
    pub fn forget(&mut self, waiter: Token) {
        let Some((index, serial)) = self.waits.remove(&waiter) else { return };
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

    /// The next bytes of a stream have arrived.
    pub fn handle_stream(&mut self, id: ChannelId, bytes: &[u8], now: Instant) {
        let Some(channel) = self.channels.find(id) else { return };
        channel.inbound.extend_from_slice(bytes);
        let Some((len, rest)) = channel.inbound.split_first_chunk() else { return };
        if let Some(message) = rest.get(..u16::from_be_bytes(*len).into()) {
            let message = message.to_vec();
            self.handle_message(id, &message, now);
            // One question, one answer: if it was none, there will be no other.
            self.handle_failure(id, now);
        }
    }

    /// A channel is of no use: nobody listens there, or the stream has ended.
    pub fn handle_failure(&mut self, channel: ChannelId, now: Instant) {
        let Some(channel) = self.close(channel) else { return };
        for asked in channel.asked.into_values() {
            self.fail_try(asked.lookup, asked.family, channel.server, now);
        }
    }

    /// There is no socket to be had for a channel: its questions will share another.
    pub fn handle_shortage(&mut self, channel: ChannelId, now: Instant) {
        self.short_until = Some(now + Self::SHORTAGE);
        let Some(channel) = self.close(channel) else { return };
        for asked in channel.asked.into_values() {
            if let Some(query) = self.query(asked.lookup, asked.family) {
                query.retry_at = query.retry_at.min(now + Self::PAUSE);
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
        deadline: Instant,
        now: Instant,
    ) -> usize {
        let part = |known: Option<Findings>| match known {
            Some(findings) => Part::Done(findings),
            None => Part::Open(Query::new(name.clone(), now)),
        };
        self.serial += 1;
        let index = self.lookups.insert(Lookup {
            parts: known.map(part),
            name: name.clone(),
            serial: self.serial,
            preferred,
            waiters: Vec::new(),
            live: 0,
            deadline,
            handed_over: HandedOver::Nothing,
        });
        self.open.insert(name, index);
        index
    }

    fn join(&mut self, index: usize, waiter: Token, deadline: Instant) -> Asked {
        let lookup = &mut self.lookups[index];
        lookup.join(waiter, deadline);
        self.waits.insert(waiter, (index, lookup.serial));
        match lookup.told() {
            Some(answer) => Asked::Known(answer),
            None => Asked::Pending,
        }
    }

    /// Does what is due of a lookup.
    fn advance(&mut self, index: usize, now: Instant) {
        for family in [Family::V4, Family::V6] {
            self.advance_part(index, family, now);
        }
        self.tell(index, now);
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
        let asked = query.sent.last().copied();
        if let Some(Sent { server, .. }) = asked {
            self.counters.retries += 1;
            query.tries += 1;
            let sent_at = query.sent_at;
            self.servers.blame(server, sent_at, now);
        }
        self.send(index, family, now);
    }

    /// Tells the waiters what can be told, and ends the lookup if that is all.
    fn tell(&mut self, index: usize, now: Instant) {
        let Some(lookup) = self.lookups.get_mut(index) else { return };
        let is_done = lookup.is_done();
        if let Some(answer) = lookup.poll_answer(now) {
            self.counters.failed += u64::from(matches!(answer, Answer::Failed(_)));
            let told = lookup.waiters.iter().map(|waiter| (*waiter, answer.clone()));
            self.answers.extend(told);
        }
        if is_done {
            let lookup = self.lookups.remove(index);
            self.open.remove(&lookup.name);
            self.timers.clear(index);
        } else {
            self.set_timer(index);
        }
    }

    fn set_timer(&mut self, index: usize) {
        if let Some(lookup) = self.lookups.get(index) {
            self.timers.set(index, lookup.wake_at());
        }
    }

    fn query(&mut self, index: usize, family: Family) -> Option<&mut Query> {
        self.lookups.get_mut(index)?.query(family)
    }

    /// Sends a query to the server whose turn it is.
    fn send(&mut self, index: usize, family: Family, now: Instant) {
        let Some(query) = self.lookups.get_mut(index).and_then(|it| it.query(family)) else {
            return;
        };
        let transport = query.transport;
        let server = match (transport, query.sent.last()) {
            // Who has more to say than fits into a datagram is asked for the rest of it.
            (Transport::Tcp, Some(sent)) if sent.transport == Transport::Udp => sent.server,
            _ => self.servers.choose(&query.asked, now).unwrap_or_else(|| {
                query.asked.clear();
                self.servers.first(now)
            }),
        };
        if !query.asked.contains(&server) {
            query.asked.push(server);
        }
        (query.sent_at, query.retry_at) = (now, now + query.patience(self.servers.len()));
        match query.sent_to(server, transport) {
            Some(sent) => self.send_again(sent),
            None => self.send_anew(index, family, server, transport, now),
        }
    }

    /// The same question on the same channel: neither gives a forger another chance.
    fn send_again(&mut self, sent: Sent) {
        let edns = self.edns_of(sent);
        let Some(channel) = self.channels.find(sent.channel) else { return };
        // A stream loses nothing.
        if channel.transport == Transport::Udp
            && let Some(asked) = channel.asked.get(&sent.id)
        {
            let mut bytes = Vec::new();
            asked.question.encode(edns, &mut bytes);
            self.counters.sent += 1;
            self.actions.push_back(Action::Send { channel: sent.channel, bytes });
        }
    }

    fn edns_of(&mut self, sent: Sent) -> bool {
        let asked = self.channels.find(sent.channel).and_then(|it| it.asked.get(&sent.id));
        let asked = asked.map(|asked| (asked.lookup, asked.family));
        asked.and_then(|(index, family)| self.query(index, family)).is_none_or(|query| query.edns)
    }

    fn send_anew(
        &mut self,
        index: usize,
        family: Family,
        server: SocketAddr,
        transport: Transport,
        now: Instant,
    ) {
        let Some(id) = self.channel_for(index, family, server, transport, now) else {
            return self.try_again_soon(index, family, now);
        };
        let Some(channel) = self.channels.find(id) else { return };
        let Some(question_id) = channel.free_id(|| self.random.number()) else {
            return self.try_again_soon(index, family, now);
        };
        let Some(query) = self.lookups.get_mut(index).and_then(|it| it.query(family)) else {
            return;
        };
        let name = message::mix_letters(&query.name, || u64::from_ne_bytes(self.random.bytes()));
        let question = Question { id: question_id, name, family, is_exact: query.is_exact };
        let mut bytes = Vec::new();
        if transport == Transport::Tcp {
            bytes.extend([0; 2]);
        }
        question.encode(query.edns, &mut bytes);
        if transport == Transport::Tcp {
            let len = (bytes.len() - 2) as u16;
            bytes[..2].copy_from_slice(&len.to_be_bytes());
        }
        query.sent.push(Sent { channel: id, id: question_id, server, transport });
        channel.asked.insert(question_id, AskedOn { question, lookup: index, family });
        self.counters.sent += 1;
        self.actions.push_back(Action::Send { channel: id, bytes });
    }

    /// The other family's channel if it goes there, else a new one, else one that others use.
    fn channel_for(
        &mut self,
        index: usize,
        family: Family,
        server: SocketAddr,
        transport: Transport,
        now: Instant,
    ) -> Option<ChannelId> {
        if transport == Transport::Udp
            && let Some(other) = self.query(index, family.other())
            && let Some(sent) = other.sent_to(server, transport)
            && self.channels.find(sent.channel).is_some_and(|it| it.strangers == 0)
        {
            return Some(sent.channel);
        }
        let is_short = self.short_until.is_some_and(|until| until > now);
        let shared = if transport == Transport::Udp { self.channels.share(server) } else { None };
        if is_short && shared.is_some() {
            return shared;
        }
        let Some(channel) = self.channels.open(server, transport) else { return shared };
        self.actions.push_back(Action::Open { channel, server, transport });
        Some(channel)
    }

    fn try_again_soon(&mut self, index: usize, family: Family, now: Instant) {
        if let Some(query) = self.query(index, family) {
            query.retry_at = now + Self::PAUSE;
        }
    }

    fn handle_message(&mut self, id: ChannelId, bytes: &[u8], now: Instant) {
        let Some(channel) = self.channels.find(id) else { return };
        let server = channel.server;
        let asked = message::answer_id(bytes).and_then(|it| channel.asked.get(&it));
        let read = asked.map(|asked| {
            (asked.lookup, asked.family, asked.question.id, message::read(bytes, &asked.question))
        });
        match read {
            Some((index, family, _, Ok(reply))) => {
                let transport = channel.transport;
                self.handle_reply(index, family, reply, server, transport, now);
                self.tell(index, now);
            }
            Some((index, family, question, Err(Mismatch::Letters))) => {
                self.counters.strangers += 1;
                self.ask_plainly(index, family, id, question, now);
                self.tell(index, now);
            }
            Some((.., Err(Mismatch::Stranger | Mismatch::Garbage))) | None => {
                self.handle_stranger(id, now);
            }
        }
    }

    /// Somebody guesses, or is late. Too many guesses at one port, and it is given up: a forger
    /// cannot get into a stream.
    fn handle_stranger(&mut self, id: ChannelId, now: Instant) {
        self.counters.strangers += 1;
        let Some(channel) = self.channels.find(id) else { return };
        channel.strangers += 1;
        if channel.strangers < Self::STRANGERS_MAX {
            return;
        }
        let Some(channel) = self.close(id) else { return };
        for asked in channel.asked.into_values() {
            if let Some(query) = self.query(asked.lookup, asked.family) {
                query.transport = Transport::Tcp;
                self.send(asked.lookup, asked.family, now);
                self.set_timer(asked.lookup);
            }
        }
    }

    /// A server that does not keep the letters is asked once without that check; its answer may
    /// come to this question as well as to a new one.
    fn ask_plainly(
        &mut self,
        index: usize,
        family: Family,
        id: ChannelId,
        question: u16,
        now: Instant,
    ) {
        let Some(query) = self.query(index, family) else { return };
        if !query.is_exact {
            return;
        }
        query.is_exact = false;
        query.sent.retain(|sent| (sent.channel, sent.id) != (id, question));
        self.withdraw(id, question);
        self.send(index, family, now);
    }

    fn handle_reply(
        &mut self,
        index: usize,
        family: Family,
        reply: Reply,
        server: SocketAddr,
        transport: Transport,
        now: Instant,
    ) {
        let Some(query) = self.query(index, family) else { return };
        let least = |ttl: u32| Duration::from_secs(ttl.min(query.ttl).into());
        match reply {
            Reply::Addresses { addresses, ttl } => {
                let kept = least(ttl).min(Self::KEPT_MAX);
                self.servers.praise(server, now);
                self.finish_part(index, family, Ok(addresses), kept, now);
            }
            Reply::None { exists, ttl } => {
                let failure = if exists { Failure::NoAddress } else { Failure::NotFound };
                let kept = ttl.map_or(Self::FAILURE_KEPT, least).min(Self::NOTHING_KEPT_MAX);
                self.servers.praise(server, now);
                self.finish_part(index, family, Err(failure), kept, now);
            }
            Reply::Alias { name, links, ttl } => {
                self.servers.praise(server, now);
                self.follow(index, family, name, links, ttl, now);
            }
            Reply::Truncated if transport == Transport::Udp => {
                query.transport = Transport::Tcp;
                self.counters.truncated += 1;
                self.send(index, family, now);
            }
            Reply::NoEdns if query.edns => {
                query.edns = false;
                let sent = query.sent_to(server, transport);
                match (sent, transport) {
                    (Some(sent), Transport::Udp) => self.send_again(sent),
                    _ => self.fail_try(index, family, server, now),
                }
            }
            Reply::Failed | Reply::NoEdns | Reply::Truncated => {
                self.fail_try(index, family, server, now);
            }
        }
    }

    fn follow(
        &mut self,
        index: usize,
        family: Family,
        name: Box<str>,
        links: u8,
        ttl: u32,
        now: Instant,
    ) {
        self.withdraw_all(index, family);
        let Some(query) = self.query(index, family) else { return };
        query.follow(name, links, ttl, now);
        if query.links > Self::LINKS_MAX {
            let failed = Err(Failure::ServerFailed);
            return self.finish_part(index, family, failed, Self::FAILURE_KEPT, now);
        }
        self.send(index, family, now);
    }

    /// A server could not help: the next one may.
    fn fail_try(&mut self, index: usize, family: Family, server: SocketAddr, now: Instant) {
        let count = self.servers.len();
        let Some(query) = self.query(index, family) else { return };
        query.failures += 1;
        query.transport = Transport::Udp;
        let (failures, sent_at) = (query.failures, query.sent_at);
        let (there, elsewhere) = query.take_sent().into_iter().partition(|it| it.server == server);
        query.sent = elsewhere;
        let there: Vec<Sent> = there;
        there.into_iter().for_each(|sent| self.withdraw(sent.channel, sent.id));
        self.servers.blame(server, sent_at, now);
        if failures >= count.max(2) {
            let failed = Err(Failure::ServerFailed);
            self.finish_part(index, family, failed, Self::FAILURE_KEPT, now);
        } else if count > 1 {
            self.send(index, family, now);
        } else {
            self.try_again_soon(index, family, now);
        }
        self.tell(index, now);
    }

    fn finish_part(
        &mut self,
        index: usize,
        family: Family,
        findings: Findings,
        kept: Duration,
        now: Instant,
    ) {
        self.withdraw_all(index, family);
        let Some(lookup) = self.lookups.get_mut(index) else { return };
        self.cache.keep(&lookup.name, family, &findings, kept, now);
        lookup.parts[family as usize] = Part::Done(findings);
    }

    fn withdraw_all(&mut self, index: usize, family: Family) {
        let Some(query) = self.query(index, family) else { return };
        for sent in query.take_sent() {
            self.withdraw(sent.channel, sent.id);
        }
    }

    /// Takes a question off its channel, which is closed if that was the last.
    fn withdraw(&mut self, id: ChannelId, question: u16) {
        let Some(channel) = self.channels.find(id) else { return };
        channel.asked.remove(&question);
        if channel.asked.is_empty() {
            self.close(id);
        }
    }

    /// Closes a channel; what was on its way there is no more.
    fn close(&mut self, id: ChannelId) -> Option<super::channels::Channel> {
        let channel = self.channels.close(id)?;
        self.actions.push_back(Action::Close { channel: id });
        for asked in channel.asked.values() {
            if let Some(query) = self.query(asked.lookup, asked.family) {
                query.sent.retain(|sent| sent.channel != id);
            }
        }
        Some(channel)
    }
}
