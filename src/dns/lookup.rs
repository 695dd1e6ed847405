use std::collections::VecDeque;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::cache::Findings;
use super::channels::{ChannelId, Transport};
use super::message::Family;
use super::{Answer, Failure};
use crate::token::Token;

/// A name that is being asked for, and everyone who waits for it.
pub(super) struct Lookup {
    /// In small letters, without the last dot.
    pub(super) name: Box<str>,
    /// Tells one life of a slot from another.
    pub(super) serial: u64,
    /// By [`Family`].
    pub(super) parts: [Part; 2],
    pub(super) preferred: Family,
    /// The first to run out of time first. Some may have left: see `live`.
    waiters: VecDeque<Waiter>,
    live: usize,
    /// The last of theirs.
    pub(super) deadline: Instant,
    pub(super) handed_over: HandedOver,
}

/// Somebody who waits, and until when.
struct Waiter {
    token: Token,
    deadline: Instant,
}

/// What of a lookup its waiters have been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandedOver {
    Nothing,
    /// The addresses of the less preferred family are there; the others have until then to come.
    Held(Instant),
    /// The addresses of this family.
    Part(Family),
}

/// One family's share of a lookup.
pub(super) enum Part {
    Open(Query),
    Done(Findings),
}

/// A question that goes from server to server until one answers.
pub(super) struct Query {
    /// The name, or what it is an alias of.
    pub(super) name: Box<str>,
    /// How many aliases were followed to get there.
    pub(super) links: u8,
    /// The least time that any of them holds.
    pub(super) ttl: u32,
    /// How many times it was sent in vain.
    pub(super) tries: u32,
    /// How many servers have said that they cannot help, or could not be reached.
    pub(super) failures: usize,
    pub(super) edns: bool,
    /// Whether letters must come back as they were sent.
    pub(super) is_exact: bool,
    /// Who is to be asked over a stream, for it has more to say than fits into a datagram, or
    /// forgers are at work.
    pub(super) stream: Option<SocketAddr>,
    /// Whom it was sent to since they were all asked.
    pub(super) asked: Vec<SocketAddr>,
    /// Where it is on its way: an answer to an earlier try is as good as any.
    pub(super) sent: Vec<Sent>,
    /// The last time that it was sent, unless we know already what came of it.
    pub(super) last_try: Option<Try>,
    pub(super) retry_at: Instant,
}

/// Whom a query was sent to, and when.
#[derive(Clone, Copy)]
pub(super) struct Try {
    pub(super) server: SocketAddr,
    pub(super) transport: Transport,
    pub(super) at: Instant,
}

/// A question on a channel.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    pub(super) channel: ChannelId,
    pub(super) id: u16,
    pub(super) server: SocketAddr,
    pub(super) transport: Transport,
}

impl Lookup {
    /// "Resolution Delay" (RFC 8305 section 8).
    pub(super) const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

    pub(super) fn new(
        name: Box<str>,
        serial: u64,
        known: [Option<Findings>; 2],
        preferred: Family,
        now: Instant,
    ) -> Lookup {
        let part = |known: Option<Findings>| match known {
            Some(findings) => Part::Done(findings),
            None => Part::Open(Query::new(name.clone(), now)),
        };
        Lookup {
            parts: known.map(part),
            name: name.clone(),
            serial,
            preferred,
            waiters: VecDeque::new(),
            live: 0,
            deadline: now,
            handed_over: HandedOver::Nothing,
        }
    }

    /// When something has to be done, if nothing happens before.
    pub(super) fn wake_at(&self) -> Instant {
        let retries = self.parts.iter().filter_map(|part| match part {
            Part::Open(query) => Some(query.retry_at),
            Part::Done(_) => None,
        });
        let held = match self.handed_over {
            HandedOver::Held(until) => Some(until),
            HandedOver::Nothing | HandedOver::Part(_) => None,
        };
        let leaves = self.waiters.front().map(|waiter| waiter.deadline);
        retries.chain(held).chain(leaves).fold(self.deadline, Instant::min)
    }

    pub(super) fn query(&mut self, family: Family) -> Option<&mut Query> {
        match &mut self.parts[family as usize] {
            Part::Open(query) => Some(query),
            Part::Done(_) => None,
        }
    }

    fn findings(&self, family: Family) -> Option<&Findings> {
        match &self.parts[family as usize] {
            Part::Open(_) => None,
            Part::Done(findings) => Some(findings),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Done(_)))
    }

    /// What the waiters are to be told now, if anything: what is preferred at once, the rest a
    /// little later, for it might be all there is.
    pub(super) fn poll_answer(&mut self, now: Instant) -> Option<Answer> {
        if self.is_done() {
            return Some(self.last_answer());
        }
        let (preferred, other) = (self.preferred, self.preferred.other());
        match self.handed_over {
            HandedOver::Part(_) => None,
            _ if self.has_addresses(preferred) => Some(self.hand_over(preferred)),
            HandedOver::Held(until) => (until <= now).then(|| self.hand_over(other)),
            HandedOver::Nothing => {
                if self.has_addresses(other) {
                    self.handed_over = HandedOver::Held(now + Self::RESOLUTION_DELAY);
                }
                None
            }
        }
    }

    fn has_addresses(&self, family: Family) -> bool {
        matches!(self.findings(family), Some(Ok(_)))
    }

    fn hand_over(&mut self, family: Family) -> Answer {
        self.handed_over = HandedOver::Part(family);
        Answer::Addresses { addresses: self.addresses(family), more: true }
    }

    fn addresses(&self, family: Family) -> Vec<IpAddr> {
        self.findings(family).and_then(|it| it.as_ref().ok()).cloned().unwrap_or_default()
    }

    /// What is told to who comes while the others know a part already.
    pub(super) fn told(&self) -> Option<Answer> {
        match self.handed_over {
            HandedOver::Part(family) => {
                Some(Answer::Addresses { addresses: self.addresses(family), more: true })
            }
            HandedOver::Nothing | HandedOver::Held(_) => None,
        }
    }

    /// What is told at the end, or to somebody who cannot wait for it.
    pub(super) fn last_answer(&self) -> Answer {
        if let HandedOver::Part(family) = self.handed_over {
            return Answer::Addresses { addresses: self.addresses(family.other()), more: false };
        }
        let findings = [Family::V4, Family::V6].map(|family| self.findings(family).cloned());
        merge(self.preferred, findings.map(|it| it.unwrap_or(Err(Failure::TimedOut))))
    }

    /// Everyone who waits, and some who have left.
    pub(super) fn waiters(&self) -> impl Iterator<Item = Token> {
        self.waiters.iter().map(|waiter| waiter.token)
    }

    /// Adds somebody who waits, until `deadline` at most. Who is told a part at once does not
    /// prolong it: a family that never answers must not keep the other's addresses for ever.
    pub(super) fn join(&mut self, token: Token, deadline: Instant) {
        let place = self.waiters.partition_point(|waiter| waiter.deadline <= deadline);
        self.waiters.insert(place, Waiter { token, deadline });
        self.live += 1;
        if !matches!(self.handed_over, HandedOver::Part(_)) {
            self.deadline = self.deadline.max(deadline);
        }
    }

    /// Somebody has left; `waits` knows who has not.
    pub(super) fn leave(&mut self, waits: impl Fn(&Token) -> bool) {
        self.live -= 1;
        if self.waiters.len() > 2 * self.live + 16 {
            self.waiters.retain(|waiter| waits(&waiter.token));
        }
    }

    /// Takes out one whose time is over; `waits` knows who has not left before.
    pub(super) fn dismiss(
        &mut self,
        now: Instant,
        waits: impl Fn(&Token) -> bool,
    ) -> Option<Token> {
        while self.waiters.front().is_some_and(|waiter| waiter.deadline <= now) {
            let Waiter { token, .. } = self.waiters.pop_front()?;
            if waits(&token) {
                self.live -= 1;
                return Some(token);
            }
        }
        None
    }

    /// Whether everyone has left.
    pub(super) fn is_abandoned(&self) -> bool {
        self.live == 0
    }
}

impl Query {
    /// The wait for the first answer; each round over all servers doubles it.
    const PATIENCE: Duration = Duration::from_secs(1);
    /// The rounds that double it: who comes late must see it asked again in the time it has.
    const DOUBLINGS_MAX: u32 = 2;
    /// The wait for an answer over a stream, which takes two round trips at the least.
    const STREAM_PATIENCE: Duration = Duration::from_secs(3);

    pub(super) fn new(name: Box<str>, now: Instant) -> Query {
        Query {
            name,
            links: 0,
            ttl: u32::MAX,
            tries: 0,
            failures: 0,
            edns: true,
            is_exact: true,
            stream: None,
            asked: Vec::new(),
            sent: Vec::new(),
            last_try: None,
            retry_at: now,
        }
    }

    /// The question that follows from an alias.
    pub(super) fn follow(&mut self, name: Box<str>, links: u8, ttl: u32, now: Instant) {
        let (links, ttl) = (self.links.saturating_add(links), self.ttl.min(ttl));
        *self = Query { links, ttl, ..Query::new(name, now) };
    }

    /// It is sent to one of so many servers.
    pub(super) fn begin_try(
        &mut self,
        server: SocketAddr,
        transport: Transport,
        servers: usize,
        now: Instant,
    ) {
        self.last_try = Some(Try { server, transport, at: now });
        self.retry_at = now + self.patience(transport, servers);
        if !self.asked.contains(&server) {
            self.asked.push(server);
        }
    }

    /// It was not sent after all, for want of a way: there is another chance at `retry_at`.
    pub(super) fn put_off(&mut self, retry_at: Instant) {
        self.last_try = None;
        self.retry_at = retry_at;
    }

    /// This server may be asked though it was.
    pub(super) fn ask_again(&mut self, server: SocketAddr) {
        self.asked.retain(|it| *it != server);
    }

    /// How long to wait for an answer to the try that has just been sent.
    fn patience(&self, transport: Transport, servers: usize) -> Duration {
        if transport == Transport::Tcp {
            return Self::STREAM_PATIENCE;
        }
        let round = self.tries / servers.max(1) as u32;
        Self::PATIENCE * (1 << round.min(Self::DOUBLINGS_MAX))
    }

    /// Where it is on its way already to this server.
    pub(super) fn sent_to(&self, server: SocketAddr, transport: Transport) -> Option<Sent> {
        let is_there = |sent: &&Sent| (sent.server, sent.transport) == (server, transport);
        self.sent.iter().find(is_there).copied()
    }

    /// It is on no channel any more.
    pub(super) fn take_sent(&mut self) -> Vec<Sent> {
        mem::take(&mut self.sent)
    }
}

/// One answer of what both families come to.
pub(super) fn merge(preferred: Family, findings: [Findings; 2]) -> Answer {
    let of = |family: Family| findings[family as usize].as_deref().unwrap_or_default();
    let addresses = [of(preferred), of(preferred.other())].concat();
    if !addresses.is_empty() {
        return Answer::Addresses { addresses, more: false };
    }
    let failures = findings.map(|it| it.err().unwrap_or(Failure::NoAddress));
    let worst = [Failure::NotFound, Failure::ServerFailed, Failure::TimedOut];
    let failure = worst.into_iter().find(|failure| failures.contains(failure));
    Answer::Failed(failure.unwrap_or(Failure::NoAddress))
}
