use std::net::{IpAddr, SocketAddr};

use ringsocks::outcome::Outcome;
use ringsocks::token::Token;

use crate::opening::Opening;
use crate::payload::{is_payload, with_payload};
use crate::script::{Asked, Dialect, Plan, Script, Whom, is_denied};

/// One client's life and the shadow of its session.
pub(crate) struct Life {
    pub(crate) script: Script,
    pub(crate) client: Option<usize>,
    /// How many of the client's bytes the gateway has heard, without those it threw away.
    pub(crate) heard: usize,
    /// What the gateway said of its own: answers and the reply.
    pub(crate) said: Vec<u8>,
    /// What it is to say before its reply.
    pub(crate) answers: Vec<u8>,
    pub(super) reply_due: Option<ReplySaid>,
    /// What it makes of sealed messages, if it is to get any.
    pub(crate) opening: Option<Opening>,
    /// What the session waits for that is done elsewhere.
    pub(crate) task: Option<Token>,
    /// How many of the client's tokens were looked at, or are.
    pub(crate) contexts_asked: usize,
    /// When the session last was told that too many ask.
    pub(crate) refused_at: Option<u64>,
    /// When a byte of a sealed life last moved, which may be part of nothing yet.
    pub(crate) stirred_at: u64,
    /// The targets whose addresses its session has been told and has not taken up.
    pub(crate) candidates: Vec<usize>,
    /// Whether the next candidate is to be one of IPv6, if there is one.
    pub(crate) v6_is_next: bool,
    pub(crate) tried: Vec<usize>,
    /// When the session last began an attempt, or found that it could not.
    pub(crate) tried_at: u64,
    /// How many of its attempts were over by then.
    pub(crate) over_at_try: usize,
    /// The connections to targets it began.
    pub(crate) attempts: Vec<usize>,
    /// The target the client was granted, once the session relays.
    pub(crate) granted: Option<usize>,
    pub(crate) granted_target: Option<usize>,
    /// Whether the kernel was told to look after it.
    pub(crate) target_is_kept_alive: bool,
    pub(crate) up_out: usize,
    pub(crate) down_in: usize,
    pub(crate) down_out: usize,
    pub(crate) accepted_at: u64,
    pub(crate) moved_at: u64,
    /// When a side last was found broken.
    pub(crate) broken_at: u64,
    /// Whether a deadline ended the last state it was in.
    pub(crate) forced: bool,
    /// The question its session asked the resolver.
    pub(crate) asked: Option<Token>,
    /// Whether it has been told all that there is to be told, and by when it is.
    pub(crate) is_answered: bool,
    pub(crate) answer_due: Option<u64>,
    pub(crate) connecting_since: Option<u64>,
    /// The port where peers may connect to it.
    pub(crate) quay: Option<usize>,
    pub(crate) had_port: bool,
    /// The addresses that it waits for, as far as it has been told.
    pub(crate) expected: Vec<IpAddr>,
    /// The peer that it has accepted and must keep.
    pub(crate) welcomed: Option<usize>,
    /// How many ports it could not have since it asked.
    pub(crate) ports_in_use: usize,
    pub(crate) listen_failed: bool,
    /// Whether its client had as many ports as it may, or nobody could have had one.
    pub(crate) is_over_cap: bool,
    pub(crate) has_no_port: bool,
    pub(crate) outcome: Option<Outcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplySaid {
    Granted,
    Refused,
}

impl Life {
    pub(super) fn plan(&self, target: Option<usize>) -> &Plan {
        match target {
            None => &self.script.client,
            Some(index) => &self.script.targets[index].plan,
        }
    }

    pub(super) fn total(&self, target: Option<usize>) -> usize {
        let asks = self.asks(target);
        match self.script.stream() {
            Some(stream) if target.is_none() => asks + stream.rest().len(),
            _ => asks + self.plan(target).payload,
        }
    }

    /// What comes before a peer's payload.
    pub(super) fn asks(&self, target: Option<usize>) -> usize {
        if target.is_none() { self.script.asks.len() } else { 0 }
    }

    /// How much of the client's payload there is in so many of its bytes.
    pub(crate) fn payload_in(&self, raw: usize) -> usize {
        match self.script.stream() {
            Some(stream) => stream.opened(raw),
            None => raw.saturating_sub(self.script.request_end),
        }
    }

    /// Whether the client can have ended so: not within a token, nor behind a bad one.
    pub(crate) fn may_end(&self, raw: usize) -> bool {
        self.script.stream().is_none_or(|stream| stream.may_end(raw) && !stream.is_bad(raw))
    }

    /// Whether a token was heard that is not as it should be.
    pub(crate) fn has_heard_bad(&self) -> bool {
        self.script.stream().is_some_and(|stream| stream.is_bad(self.heard))
    }

    /// Whether its context seals nothing more.
    pub(crate) fn is_context_spent(&self) -> bool {
        let tokens = self.opening.as_ref().map(|opening| opening.tokens);
        let lasts = self.script.sealed.as_ref().map(|sealed| sealed.wish.lasts);
        tokens.zip(lasts).is_some_and(|(tokens, lasts)| tokens >= lasts)
    }

    /// How many buffers hold what was heard of a sealed life and is of use, at the least and at the
    /// most; `gone` is how much of what it carries is of none.
    pub(crate) fn buffers_for_sealed(&self, gone: usize) -> Option<(usize, usize)> {
        let (least_gone, most_gone) = self.script.stream()?.gone(gone);
        let (least, most) = (self.heard > most_gone, self.heard > least_gone);
        Some((usize::from(least), if most { 2 } else { 0 }))
    }

    /// The session is told of these targets.
    pub(crate) fn learn(&mut self, targets: &[usize]) {
        if self.candidates.is_empty() && self.tried.is_empty() {
            let first = targets.first().map(|first| self.script.targets[*first].address);
            self.v6_is_next = first.is_some_and(|first| first.is_ipv6());
        }
        self.candidates.extend(targets);
        if self.script.is_bind() {
            self.expected.extend(targets.iter().map(|it| self.script.targets[*it].address.ip()));
        }
    }

    /// The candidate whose turn it is: families take turns.
    pub(crate) fn next_candidate(&self) -> Option<usize> {
        let is_v6 = |target: &&usize| self.script.targets[**target].address.is_ipv6();
        let due = self.candidates.iter().find(|target| is_v6(target) == self.v6_is_next);
        due.or(self.candidates.first()).copied()
    }

    /// The session takes up this candidate.
    pub(crate) fn take_up(&mut self, target: usize) {
        self.candidates.retain(|candidate| *candidate != target);
        self.v6_is_next = self.script.targets[target].address.is_ipv4();
        self.tried.push(target);
    }

    /// Whether its client waits for somebody at this address.
    pub(crate) fn expects(&self, ip: IpAddr) -> bool {
        match self.script.request {
            _ if is_denied(ip) => false,
            Asked::Bind { whom: Whom::Anyone } => true,
            Asked::Bind { .. } => self.expected.contains(&ip),
            Asked::Connect { .. } | Asked::Refused { .. } => false,
        }
    }

    /// Whom it waits for: of several, one that its client has the family of.
    pub(crate) fn nearest(&self) -> Option<IpAddr> {
        let tells_v4 = self.script.dialect == Dialect::Socks4 || self.script.own.is_ipv4();
        let mut expected = self.expected.iter().copied().filter(|ip| !is_denied(*ip));
        expected.clone().find(|ip| ip.is_ipv4() == tells_v4).or_else(|| expected.next())
    }

    /// Whether it has what it needs of the addresses that it is to wait for: there are no more, or
    /// not in time, or there is one of the best family.
    pub(crate) fn is_met(&self, now: u64) -> bool {
        let tells_v4 = self.script.dialect == Dialect::Socks4 || self.script.own.is_ipv4();
        let is_over = self.is_answered || self.answer_due.is_some_and(|at| at <= now);
        is_over || self.nearest().is_some_and(|ip| ip.is_ipv4() == tells_v4)
    }

    /// What has been heard of the client's payload and not said to the target.
    pub(crate) fn up_held(&self) -> usize {
        self.payload_in(self.heard).saturating_sub(self.up_out)
    }

    pub(crate) fn down_held(&self) -> usize {
        self.down_in.saturating_sub(self.down_out)
    }

    /// What has been heard of a message that was not whole.
    pub(crate) fn in_inbox(&self) -> usize {
        let ends = self.script.answers.iter().map(|(end, _)| *end).chain([self.script.request_end]);
        self.heard - ends.filter(|end| *end <= self.heard).max().unwrap_or(0)
    }

    /// How many bytes of its own the gateway owes the client by now, the reply not counted.
    pub(crate) fn answers_due(&self) -> usize {
        let due = self.script.answers.iter().filter(|(end, _)| *end <= self.heard);
        due.map(|(_, answer)| answer.len()).sum()
    }

    pub(super) fn answers_len(&self) -> usize {
        self.answers.len()
    }

    /// How long the reply is that tells of a port, if there is one.
    pub(crate) fn first_reply_len(&self, told: Option<SocketAddr>) -> usize {
        told.map_or(0, |told| self.granting(told).len())
    }

    pub(crate) fn reply_is_said(&self) -> bool {
        self.reply_due.is_some()
    }

    pub(super) fn asked_for(&self, how: Outcome) -> bool {
        let Asked::Refused { after, outcome, .. } = &self.script.request else { return false };
        self.heard >= *after && *outcome == how
    }

    pub(super) fn client_may_send(&self, sent: usize, received: usize) -> usize {
        let asks = self.script.asks.len();
        if self.script.client.is_eager {
            return self.total(None);
        }
        let mut heard = 0;
        for (end, answer) in &self.script.answers {
            heard += answer.len();
            if sent <= *end && received < heard {
                return (*end).min(asks);
            }
        }
        let said = self.opening.as_ref().map_or(self.said.len(), Opening::parsed);
        let replied = self.reply_is_said() && received >= said;
        if replied { self.total(None) } else { asks }
    }

    pub(super) fn stream(&self, target: Option<usize>, at: usize, n: usize) -> Vec<u8> {
        let asks: &[u8] = if target.is_none() { &self.script.asks } else { &[] };
        let mut bytes = asks[at.min(asks.len())..(at + n).min(asks.len())].to_vec();
        let rest = n - bytes.len();
        if let Some(stream) = self.script.stream().filter(|_| target.is_none()) {
            bytes.extend(&stream.rest()[at.saturating_sub(asks.len())..][..rest]);
            return bytes;
        }
        with_payload(self.plan(target), at.saturating_sub(asks.len()), rest, |_, piece| {
            bytes.extend_from_slice(piece);
        });
        bytes
    }

    /// Whether these are the bytes a peer must read at this place.
    pub(super) fn is_due(&self, target: Option<usize>, at: usize, bytes: &[u8]) -> bool {
        if target.is_some() {
            return is_payload(&self.script.client, at, bytes);
        }
        if let Some(opening) = &self.opening {
            return opening.raw[at..].starts_with(bytes);
        }
        let said = &self.said[at.min(self.said.len())..];
        let (own, relayed) = bytes.split_at(bytes.len().min(said.len()));
        own == &said[..own.len()]
            && (relayed.is_empty()
                || is_payload(
                    self.plan(self.granted_target),
                    at + own.len() - self.said.len(),
                    relayed,
                ))
    }

    /// What the gateway says of its own must be the answers that are due, then one reply.
    ///
    /// A client that waits for a peer is told before where that may connect.
    pub(super) fn check_said(
        &mut self,
        index: usize,
        told: Option<SocketAddr>,
        bnd: Option<SocketAddr>,
    ) {
        let answers = &self.answers;
        let due = self.answers_due();
        let own = self.said.len().min(answers.len());
        assert!(self.said[..own] == answers[..own], "life {index}: wrong answers");
        let Some(reply) = self.said.get(answers.len()..).filter(|reply| !reply.is_empty()) else {
            return assert!(self.said.len() <= due, "life {index}: an answer too early");
        };
        if let Asked::Refused { after, answer, .. } = &self.script.request {
            assert!(self.heard >= *after, "life {index}: a reply too early");
            assert!(answer.starts_with(reply), "life {index}: wrong reply {reply:02x?}");
            if reply == answer {
                self.reply_due = Some(ReplySaid::Refused);
            }
            return;
        }
        assert!(self.heard >= self.script.request_end, "life {index}: a reply too early");
        let first = told.map(|told| self.granting(told)).unwrap_or_default();
        let (ours, reply) = reply.split_at(first.len().min(reply.len()));
        assert!(first.starts_with(ours), "life {index}: wrong first reply {ours:02x?}");
        if reply.is_empty() {
            return;
        }
        let expected = match bnd {
            Some(bnd) => self.granting(bnd),
            None => self.refusing(reply),
        };
        assert!(expected.starts_with(reply), "life {index}: wrong reply {reply:02x?}");
        if reply.len() == expected.len() {
            self.reply_due = Some(match self.granted {
                Some(_) => ReplySaid::Granted,
                None => ReplySaid::Refused,
            });
        }
    }

    pub(super) fn granting(&self, bnd: SocketAddr) -> Vec<u8> {
        let port = bnd.port().to_be_bytes();
        match (self.script.dialect, bnd.ip()) {
            (Dialect::Socks4, IpAddr::V4(ip)) => [&[0, 0x5a], &port[..], &ip.octets()].concat(),
            (Dialect::Socks4, IpAddr::V6(_)) => [&[0, 0x5a], &port[..], &[0; 4]].concat(),
            (Dialect::Socks5, IpAddr::V4(ip)) => [&[5, 0, 0, 1], &ip.octets()[..], &port].concat(),
            (Dialect::Socks5, IpAddr::V6(ip)) => [&[5, 0, 0, 4], &ip.octets()[..], &port].concat(),
        }
    }

    /// Which refusal it is, the outcome is held against.
    pub(super) fn refusing(&self, reply: &[u8]) -> Vec<u8> {
        match self.script.dialect {
            Dialect::Socks4 => [&[0, 0x5b][..], &[0; 6]].concat(),
            Dialect::Socks5 => {
                let rep = reply.get(1).copied().unwrap_or(1);
                assert!((1..=8).contains(&rep));
                [&[5, rep, 0, 1][..], &[0; 6]].concat()
            }
        }
    }

    /// The REP the client was told, if it was refused in SOCKS5.
    pub(crate) fn rep_said(&self, told: Option<SocketAddr>) -> Option<u8> {
        let answers = self.answers_len() + self.first_reply_len(told);
        let refused = self.reply_due == Some(ReplySaid::Refused)
            && self.script.dialect == Dialect::Socks5
            && !matches!(self.script.request, Asked::Refused { .. });
        refused.then(|| self.said[answers + 1])
    }
}
