//! What sessions may say, must have heard, and may end as.

use std::net::SocketAddr;

use ringsocks::metrics::Stage;
use ringsocks::outcome::{Outcome, Refusal};
use ringsocks::relay::RING_BYTES;

use crate::counts::Event;
use crate::life::{Life, ReplySaid};
use crate::opening::Opening;
use crate::payload::is_payload;
use crate::script::{Asked, Dialect, Fate, Resolution, Whom};
use crate::tcp::{OURS, PEER};

/// A method, as the gateway says it.
const METHOD_BYTES: usize = 2;
use crate::world::{How, Limits, Link, Saw, World};

impl World {
    /// A peer that sees a FIN must have been sent all that the other side sent, and its FIN.
    pub(super) fn check_clean_end(&self, link: usize) {
        let Link { received, target, life, saw, .. } = self.links[link];
        if saw != Saw::End {
            return;
        }
        let life = &self.lives[life];
        let other = match (target, life.granted) {
            (None, None) => {
                let said = life.opening.as_ref().map_or(life.said.len(), |it| it.raw.len());
                assert!(received <= said);
                return;
            }
            (Some(_), None) => return assert_eq!(received, 0, "link {link}: never granted"),
            (None, granted) => granted,
            (Some(_), Some(granted)) if granted != link => return assert_eq!(received, 0),
            (Some(_), Some(_)) => life.client,
        };
        let other = &self.links[other.unwrap()];
        let due = match (target, &life.opening) {
            (None, None) => life.said.len() + other.sent,
            (None, Some(opening)) => {
                assert!(opening.is_whole(), "link {link}: a FIN within a token");
                assert_eq!(life.down_out, other.sent, "link {link}: a FIN, but bytes are missing");
                opening.raw.len()
            }
            (Some(_), _) => {
                assert!(life.may_end(other.sent), "link {link}: a FIN that nobody has sealed");
                life.payload_in(other.sent)
            }
        };
        assert!(other.finished, "link {link}: a FIN, but the other side sent none");
        assert_eq!(received, due, "link {link}: a FIN, but bytes are missing");
    }

    /// A session that ends now, though no deadline forces it, must not lose what it sent.
    pub(crate) fn check_nothing_is_lost(&self, life: usize) {
        let Life { client, granted, .. } = self.lives[life];
        for link in [client, granted].into_iter().flatten() {
            let lost = self.links[link].tcp.would_lose();
            assert!(!lost, "link {link} would lose what it was sent");
        }
    }

    /// After the end of everything: what each peer of a life must have seen by then.
    pub(crate) fn check_finals(&mut self, life: usize) {
        let Life { client, granted, outcome, forced, .. } = self.lives[life];
        let Some(client) = client else { return };
        let outcome = outcome.expect("every session has ended");
        for (index, link) in self.links.iter().enumerate() {
            assert!(link.life != life || link.tcp.is_closed(OURS), "socket {index} has leaked");
        }
        let Some(target) = granted else { return };
        for (link, other) in [(client, target), (target, client)] {
            if !self.plan(link).is_faithful() {
                continue;
            }
            let is_sealed = self.lives[life].opening.is_some();
            match outcome {
                Outcome::Finished => {
                    assert_eq!(self.links[link].saw, Saw::End, "link {link} after a clean end");
                    self.count(Event::WholeTransfer);
                    if is_sealed {
                        self.count(Event::SealedTransfer);
                    }
                }
                Outcome::ClientReset | Outcome::TargetReset => {
                    // What ended before it was reset is whole.
                    if self.links[other].tcp.fin_arrived(OURS) {
                        if forced {
                            continue;
                        }
                        assert_eq!(self.links[link].saw, Saw::End, "link {link} after an end");
                        self.count(Event::ResetAfterEnd);
                    } else {
                        assert_eq!(self.links[link].saw, Saw::Reset, "link {link} after a reset");
                        self.count(Event::ResetPassedOn);
                    }
                }
                _ => assert_ne!(self.links[link].saw, Saw::Nothing, "link {link}: {outcome}"),
            }
        }
    }

    /// Whether a session may end in this way now, by all that its shadow knows.
    pub(crate) fn check_outcome(&mut self, life: usize, outcome: Outcome, timeouts: &Limits) {
        let l = &self.lives[life];
        let client = &self.links[l.client.unwrap()];
        let client_ended = client.tcp.fin_arrived(OURS) || client.tcp.is_dead(OURS);
        let passed =
            |limit: Option<u64>, since: u64| limit.is_some_and(|it| since + it <= self.now);
        let whole = |up: bool| match (up, l.granted) {
            (true, Some(_)) => {
                let is_all = l.up_out == l.payload_in(client.sent) && l.may_end(client.sent);
                client.finished && is_all
            }
            (false, Some(target)) => {
                self.links[target].finished && l.down_out == self.links[target].sent
            }
            _ => false,
        };
        let target = l.granted.map(|target| &self.links[target]);
        let allowed = match outcome {
            Outcome::Finished => whole(true) && whole(false),
            Outcome::Empty => client_ended && client.tcp.arrived(OURS) == 0,
            Outcome::ClientGone => {
                // A FIN behind early data is a half-close.
                let hung_up = client.tcp.is_dead(OURS) || l.payload_in(client.sent) == 0;
                client_ended && hung_up && l.granted.is_none()
            }
            Outcome::ClientReset => client.sent_reset || client.tcp.is_closed(PEER),
            Outcome::TargetReset => {
                target.is_some_and(|it| it.sent_reset || it.tcp.is_closed(PEER))
            }
            Outcome::HandshakeTimeout => {
                passed(timeouts.handshake, l.accepted_at)
                    && (l.granted.is_none() || l.reply_due.is_none())
            }
            Outcome::IdleTimeout => l.granted.is_some() && passed(timeouts.idle, l.moved_at),
            Outcome::HalfClosedTimeout => {
                l.granted.is_some() && passed(timeouts.half_closed, l.moved_at)
            }
            Outcome::Drained => true,
            Outcome::BadToken => {
                let is_cut = client.tcp.fin_arrived(OURS) && !l.may_end(client.sent);
                l.opening.is_some() && (l.has_heard_bad() || is_cut || l.is_context_spent())
            }
            Outcome::Noise | Outcome::NoMethod | Outcome::BadLogin => l.asked_for(outcome),
            Outcome::Refused(refusal) => {
                l.asked_for(outcome) || self.refuses_rightly(life, refusal, timeouts)
            }
        };
        assert!(allowed, "life {life} may not end as {outcome}");
        match outcome {
            Outcome::Refused(Refusal::Denied) if l.is_over_cap => self.count(Event::OverCap),
            Outcome::Refused(Refusal::General) if l.has_no_port => self.count(Event::NoPort),
            _ => {}
        }
    }

    /// How a client ends that has not sealed what it sent: with a word if it still asks, else at once.
    pub(crate) fn check_bad_token(&mut self, life: usize, outcome: Outcome, stage: Stage) {
        let l = &self.lives[life];
        let is_aborted = l.opening.as_ref().is_some_and(|opening| opening.is_aborted);
        if outcome != Outcome::BadToken {
            let is_over = !is_aborted || outcome == Outcome::Drained;
            return assert!(is_over, "life {life} ends as {outcome}, but was told otherwise");
        }
        let is_reached = self.links[l.client.unwrap()].fault_known || l.forced;
        assert!(stage != Stage::Closing || is_aborted || is_reached, "life {life}: no last word");
        let is_spent = l.is_context_spent();
        let is_cut = !l.has_heard_bad() && !is_spent;
        self.count(match stage {
            _ if is_aborted => Event::BadTokenInHandshake,
            Stage::Relaying | Stage::Severing => Event::BadTokenInRelay,
            _ => Event::BadTokenWhileWaiting,
        });
        if is_spent {
            self.count(Event::ContextSpent);
        }
        if is_cut {
            self.count(Event::CutToken);
        }
    }

    /// Whether what the resolver and the targets did amounts to this refusal.
    pub(super) fn refuses_rightly(&self, life: usize, refusal: Refusal, timeouts: &Limits) -> bool {
        let l = &self.lives[life];
        if l.heard < l.script.request_end {
            return false;
        }
        let named = match l.script.request {
            Asked::Connect { named } => named,
            Asked::Bind { whom } => return self.gives_up_rightly(life, whom, refusal, timeouts),
            Asked::Refused { .. } => return false,
        };
        if named && l.connecting_since.is_none() {
            return match l.script.resolution {
                Resolution::Failure(_, failure) if failure.refusal() == refusal => true,
                Resolution::Full => refusal == Refusal::General,
                _ => {
                    let limit = timeouts.resolve.unwrap_or(u64::MAX);
                    refusal == Refusal::HostUnreachable && self.now >= limit
                }
            };
        }
        let mut heard = Vec::new();
        let mut all_failed = true;
        for number in l.tried.iter().copied() {
            let target = &l.script.targets[number];
            // A target that resets what it has just accepted refuses, too.
            let was_reset = self
                .links
                .iter()
                .any(|link| link.life == life && link.target == Some(number) && link.reset_known);
            match target.fate {
                Fate::Accepts(_) if was_reset => heard.push(Refusal::ConnectionRefused),
                Fate::Fails(_, errno) | Fate::Impossible(errno) => heard.push(rep_of(errno)),
                Fate::Denied => heard.push(Refusal::Denied),
                Fate::Itself => heard.push(Refusal::ConnectionRefused),
                Fate::Accepts(_) | Fate::Silent | Fate::Comes(_) | Fate::StaysAway => {
                    all_failed = false;
                }
            }
        }
        all_failed &= l.tried.len() == l.script.targets.len();
        let since = l.connecting_since.unwrap_or(self.now);
        let passed = timeouts.connect.is_some_and(|it| since + it <= self.now);
        let best = |heard: &[Refusal]| {
            let order = [5, 6, 4, 3, 1, 2];
            order.into_iter().find(|rep| heard.iter().any(|refusal| refusal.rep() == *rep))
        };
        if all_failed && best(&heard) == Some(refusal.rep()) {
            return true;
        }
        // At the deadline some of them may not have been heard of.
        let refused = heard.contains(&Refusal::ConnectionRefused);
        passed && (refusal == Refusal::TimedOut || refused && refusal == Refusal::ConnectionRefused)
    }

    /// The same of a client that waits for a peer.
    fn gives_up_rightly(
        &self,
        life: usize,
        whom: Whom,
        refusal: Refusal,
        timeouts: &Limits,
    ) -> bool {
        let l = &self.lives[life];
        if let Some(quay) = l.quay.filter(|_| l.had_port) {
            let quay = &self.harbour.quays[quay];
            let passed = timeouts.bind.is_some_and(|it| quay.since + it <= self.now);
            return passed && l.welcomed.is_none() && refusal == Refusal::TimedOut;
        }
        let nobody = whom != Whom::Anyone && !l.expected.iter().any(|it| l.expects(*it));
        let unanswered = whom == Whom::Name && nobody;
        match refusal {
            Refusal::Denied => l.is_over_cap || nobody && !l.expected.is_empty(),
            Refusal::General => {
                let full = matches!(l.script.resolution, Resolution::Full);
                let first = l.nearest().unwrap_or(l.script.own.ip());
                let is_wordless = l.script.dialect == Dialect::Socks4
                    && (first.is_ipv6() || self.harbour.is_remote && l.script.own.is_ipv6());
                l.has_no_port || l.listen_failed || is_wordless || unanswered && full
            }
            Refusal::NetworkUnreachable => self.harbour.is_remote,
            Refusal::HostUnreachable => {
                let failed = matches!(l.script.resolution, Resolution::Failure(..));
                let limit = timeouts.resolve.unwrap_or(u64::MAX);
                unanswered && (failed || self.now >= limit)
            }
            _ => false,
        }
    }

    /// The attempt that the session has kept because it was answered.
    pub(crate) fn winner(&self, life: usize) -> Option<usize> {
        self.lives[life].attempts.iter().copied().find(|attempt| {
            let tcp = &self.links[*attempt].tcp;
            tcp.is_established() && !tcp.is_closed(OURS)
        })
    }

    /// The gateway uses an attempt: that grants it.
    pub(crate) fn grant(&mut self, index: usize, link: usize) {
        let now = self.now;
        let life = &mut self.lives[index];
        if life.granted == Some(link) {
            return;
        }
        let number = self.links[link].target.unwrap();
        assert_eq!(life.granted, None, "life {index}: two targets");
        assert!(self.links[link].tcp.is_established(), "life {index}: not connected yet");
        assert_ne!(life.script.targets[number].fate, Fate::Itself);
        assert!(!life.script.is_bind() || life.welcomed == Some(link), "life {index}: a stranger");
        life.granted = Some(link);
        life.granted_target = Some(number);
        life.moved_at = now;
        let early = life.payload_in(life.heard) > 0;
        let ended = self.links[life.client.unwrap()].tcp.fin_arrived(OURS);
        let is_bind = life.script.is_bind();
        if is_bind {
            self.count(Event::PeerAccepted);
        }
        if early {
            self.count(if is_bind { Event::EarlyDataWhileWaiting } else { Event::EarlyData });
        }
        if ended {
            self.count(Event::HalfCloseWithRequest);
        }
        self.count_sealed(index);
    }

    /// What is remarkable of a life whose messages are sealed.
    fn count_sealed(&mut self, index: usize) {
        let script = &self.lives[index].script;
        let Some(stream) = script.stream() else {
            if script.sealed.is_some() {
                self.count(Event::ClearLevel);
            }
            return;
        };
        let seen = [
            (stream.has_large_tokens(), Event::LargeToken),
            (stream.has_empties(), Event::EmptyMessages),
            (stream.is_request_split(), Event::SplitRequest),
            (stream.is_request_shared(), Event::SharedToken),
        ];
        for (_, event) in seen.into_iter().filter(|(is_so, _)| *is_so) {
            self.count(event);
        }
    }

    pub(super) fn handle_heard(&mut self, link: usize, how: How, n: usize) {
        self.progress += n as u64;
        self.idle_calls = 0;
        let Link { life: index, target, .. } = self.links[link];
        if target.is_some() {
            self.grant(index, link);
        }
        let now = self.now;
        let life = &mut self.lives[index];
        // What is thrown away keeps nothing alive.
        let is_sealed = target.is_none() && life.opening.is_some();
        life.stirred_at = now;
        if life.granted.is_some() && !is_sealed && matches!(how, How::Receive | How::Splice) {
            life.moved_at = now;
        }
        match target {
            None => life.heard += n,
            Some(_) => life.down_in += n,
        }
        if life.up_held().max(life.down_held()) >= RING_BYTES {
            self.count(Event::FullRing);
        }
    }

    /// The gateway has sent these bytes, of sealed messages or of others.
    pub(super) fn handle_sent(&mut self, link: usize, bytes: &[u8]) {
        let Link { life: index, target, .. } = self.links[link];
        let now = self.now;
        let life = &mut self.lives[index];
        life.stirred_at = now;
        let Some(opening) = life.opening.as_mut().filter(|_| target.is_none()) else {
            return self.handle_said(link, bytes);
        };
        opening.raw.extend_from_slice(bytes);
        while let Some(said) = self.lives[index].opening.as_mut().and_then(Opening::next) {
            self.handle_said(link, &said);
        }
        let life = &self.lives[index];
        let opening = life.opening.as_ref().expect("it was there");
        let (is_whole, is_aborted) = (opening.is_whole(), opening.is_aborted);
        if is_aborted {
            let ended = self.links[link].tcp.fin_arrived(OURS);
            assert!(life.has_heard_bad() || ended, "life {index}: why is it given up?");
            assert!(life.payload_in(life.heard) == 0 && life.granted.is_none());
            self.count(Event::Aborted);
        } else if !is_whole && life.said.len() >= life.answers_len() {
            self.count(Event::HalfSentToken);
        }
    }

    pub(super) fn handle_said(&mut self, link: usize, bytes: &[u8]) {
        let now = self.now;
        let Link { life: index, target, .. } = self.links[link];
        if target.is_some() {
            self.grant(index, link);
        } else if self.lives[index].said.len() >= self.own_words(index)
            && let Some(attempt) = self.winner(index)
        {
            self.grant(index, attempt);
        }
        let bnd = self.lives[index].granted.map(|target| self.bnd(target));
        let told = self.told(index);
        let life = &mut self.lives[index];
        match target {
            Some(_) => {
                life.moved_at = now;
                let end = life.up_out + bytes.len();
                let arrived = self.links[life.client.unwrap()].tcp.arrived(OURS);
                assert!(
                    end <= life.payload_in(arrived as usize),
                    "life {index}: bytes nobody sent"
                );
                let right = is_payload(&life.script.client, life.up_out, bytes);
                assert!(right, "life {index}: wrong bytes up at {}", life.up_out);
                life.up_out += bytes.len();
            }
            None if life.reply_is_said() => {
                life.moved_at = now;
                assert_eq!(life.reply_due, Some(ReplySaid::Granted), "bytes after a refusal");
                let end = life.down_out + bytes.len();
                let arrived = self.links[life.granted.unwrap()].tcp.arrived(OURS);
                assert!(end as u64 <= arrived, "life {index}: bytes nobody sent");
                let plan = life.plan(life.granted_target);
                let right = is_payload(plan, life.down_out, bytes);
                assert!(right, "life {index}: wrong bytes down at {}", life.down_out);
                life.down_out += bytes.len();
            }
            None => {
                life.said.extend_from_slice(bytes);
                // The method may be said late; any other answer is the task's that was refused.
                if life.said.len() > METHOD_BYTES {
                    life.refused_at = None;
                }
                life.check_said(index, told, bnd);
                if life.opening.is_some() && life.reply_due == Some(ReplySaid::Refused) {
                    self.count(Event::SealedRefusal);
                }
            }
        }
    }

    /// How many bytes of its own the gateway says before the reply that ends the client's waiting.
    fn own_words(&self, index: usize) -> usize {
        let life = &self.lives[index];
        life.answers_len() + life.first_reply_len(self.told(index))
    }

    /// What a client is told of its target: our end, or who has connected to us.
    fn bnd(&self, link: usize) -> SocketAddr {
        let life = &self.lives[self.links[link].life];
        match self.links[link].target {
            Some(target) if life.script.is_bind() => life.script.targets[target].address,
            _ => self.local_addr(link),
        }
    }

    /// All denied addresses behind the last one tried count as tried once the session has given up.
    pub(crate) fn skip_denied(&mut self, life: usize) {
        let life = &mut self.lives[life];
        while let Some(target) = life.next_candidate()
            && life.script.targets[target].fate == Fate::Denied
        {
            life.take_up(target);
        }
    }
}

pub(super) fn rep_of(errno: i32) -> Refusal {
    match errno {
        libc::ECONNREFUSED | libc::ECONNRESET => Refusal::ConnectionRefused,
        libc::ETIMEDOUT => Refusal::TimedOut,
        libc::EHOSTUNREACH => Refusal::HostUnreachable,
        libc::ENETUNREACH => Refusal::NetworkUnreachable,
        libc::EACCES => Refusal::Denied,
        _ => Refusal::General,
    }
}
