use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::outcome::{Refusal, is_exhaustion};
use crate::policy::Place;
use crate::proto::canonical;
use crate::relay::{Endpoint, Socket};
use crate::session::context::Visitor;
use crate::session::{Context, Net, Pending};
use crate::token::{Role, Token};

/// A connection to a target that is being made: its addresses are tried in turn, each a
/// little after the one before it, and the first that answers wins (RFC 8305 section 5).
pub(super) struct Connecting<S> {
    pub(super) pending: Pending<S>,
    port: u16,
    candidates: Candidates,
    /// Whether the name may turn out to have more addresses.
    more: bool,
    attempts: Vec<Attempt<S>>,
    attempts_left: usize,
    /// When the next address is tried though an attempt is still under way.
    next_at: Instant,
    refusal: Option<Refusal>,
}

struct Attempt<S> {
    target: Endpoint<S>,
    address: SocketAddr,
    token: Token,
    began: Instant,
    /// What an attempt beside another takes of what sessions may use.
    place: Option<Place>,
}

/// What came of a turn of it.
pub(super) enum Attempted<S> {
    /// No target has answered; there is another address to try at this time.
    Waiting(Option<Instant>),
    /// The one at `address` has, and its events come under `token`; `bnd` is our end.
    Connected { target: Endpoint<S>, address: SocketAddr, token: Token, bnd: SocketAddr },
    /// No address is left to try.
    Failed(Refusal),
}

impl<S: Socket> Connecting<S> {
    /// At most this many of a name's addresses are tried.
    const ATTEMPTS_MAX: usize = 8;
    /// "Connection Attempt Delay" (RFC 8305 section 8).
    const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
    /// "Maximum Connection Attempt Delay" (RFC 8305 section 8): the next address is not kept waiting
    /// longer, whatever it costs.
    const ATTEMPT_DELAY_MAX: Duration = Duration::from_secs(2);

    pub(super) fn new(
        pending: Pending<S>,
        candidates: Candidates,
        port: u16,
        more: bool,
        now: Instant,
    ) -> Connecting<S> {
        Connecting {
            pending,
            port,
            candidates,
            more,
            // Most need no second.
            attempts: Vec::with_capacity(1),
            attempts_left: Self::ATTEMPTS_MAX,
            next_at: now,
            refusal: None,
        }
    }

    /// The rest of what the name is known to mean.
    pub(super) fn extend(&mut self, addresses: Vec<IpAddr>, more: bool) {
        self.candidates.extend(addresses);
        self.more = more;
    }

    /// The socket of the attempt whose token it is.
    pub(super) fn attempted(&mut self, token: Token) -> Option<&mut Endpoint<S>> {
        let attempt = self.attempts.iter_mut().find(|attempt| attempt.token == token)?;
        Some(&mut attempt.target)
    }

    /// What the client hears if it ends here for this reason.
    pub(super) fn refusal(&self, reason: Refusal) -> Refusal {
        self.refusal.map_or(reason, |earlier| earlier.most_informative(reason))
    }

    pub(super) fn advance(
        &mut self,
        cx: &mut Context<impl Net<Socket = S>>,
        visitor: Visitor,
    ) -> Attempted<S> {
        while let Some(done) = self.attempts.iter().position(|it| it.target.is_writable()) {
            let attempt = self.attempts.remove(done);
            let Attempt { token, address, .. } = attempt;
            match attempt.finish(cx, visitor) {
                Ok((target, bnd)) => return Attempted::Connected { target, address, token, bnd },
                Err(refusal) => {
                    self.fail(refusal);
                    self.next_at = cx.now;
                }
            }
        }
        if self.has_candidate() && (self.attempts.is_empty() || self.next_at <= cx.now) {
            self.start_next(cx, visitor);
        }
        if !self.attempts.is_empty() {
            return Attempted::Waiting(self.has_candidate().then_some(self.next_at));
        }
        if self.more && self.attempts_left > 0 {
            return Attempted::Waiting(None);
        }
        Attempted::Failed(self.refusal(Refusal::Denied))
    }

    /// Starts an attempt at the next address that may be connected to and gets as far as a socket.
    /// Beside another attempt it waits if there is nothing left for it now, but not for ever.
    fn start_next(&mut self, cx: &mut Context<impl Net<Socket = S>>, visitor: Visitor) {
        self.next_at = cx.now + Self::ATTEMPT_DELAY;
        while let Some(address) = self.next_permitted(cx, visitor)
            && let Some(place) = self.make_room(cx)
        {
            let token = cx.token(Role::Target, visitor.slot);
            let connected = cx.net.connect(address, token);
            if !self.attempts.is_empty() && connected.as_ref().is_err_and(is_exhaustion) {
                return;
            }
            self.attempts_left -= 1;
            match connected {
                Ok(target) => {
                    let (target, began) = (Endpoint::new(target), cx.now);
                    self.attempts.push(Attempt { target, address, token, began, place });
                    self.candidates.pop();
                    return;
                }
                Err(error) => self.skip(Refusal::of_connect(&error)),
            }
        }
    }

    /// The next address to try; those that are not for this client are passed over.
    fn next_permitted(
        &mut self,
        cx: &Context<impl Net<Socket = S>>,
        visitor: Visitor,
    ) -> Option<SocketAddr> {
        while self.has_candidate() {
            let address = SocketAddr::new(self.candidates.first()?, self.port);
            if cx.permits(visitor, address) {
                return Some(address);
            }
            self.skip(Refusal::Denied);
        }
        None
    }

    /// Room for an attempt, and the place that it takes if the session's own is not free. Where
    /// there is none to spare, the oldest attempt gives way once it has had its time.
    fn make_room(&mut self, cx: &Context<impl Net<Socket = S>>) -> Option<Option<Place>> {
        let Some(oldest) = self.attempts.first() else { return Some(None) };
        if let Some(place) = cx.terms.limit.take_spare() {
            return Some(Some(place));
        }
        if cx.now < oldest.began + Self::ATTEMPT_DELAY_MAX {
            return None;
        }
        self.fail(Refusal::TimedOut);
        Some(self.attempts.remove(0).place)
    }

    fn has_candidate(&self) -> bool {
        self.attempts_left > 0 && self.candidates.first().is_some()
    }

    /// The next address is none for us.
    fn skip(&mut self, refusal: Refusal) {
        self.candidates.pop();
        self.fail(refusal);
    }

    fn fail(&mut self, refusal: Refusal) {
        self.refusal = Some(self.refusal(refusal));
    }
}

impl<S: Socket> Attempt<S> {
    /// The connected target and our end of it, or why there is none.
    fn finish(
        self,
        cx: &Context<impl Net<Socket = S>>,
        visitor: Visitor,
    ) -> Result<(Endpoint<S>, SocketAddr), Refusal> {
        if let Some(error) = self.target.error() {
            return Err(Refusal::of_connect(&error));
        }
        let bnd = self.target.local_addr().map_err(|error| Refusal::of_connect(&error))?;
        if bnd == self.address {
            // Where nobody listens, a connection from that very port reaches itself.
            return Err(Refusal::ConnectionRefused);
        }
        if !cx.permits_connected(visitor, self.address, bnd) {
            return Err(Refusal::Denied);
        }
        Ok((self.target, bnd))
    }
}

/// Addresses not tried yet.
pub(super) enum Candidates {
    /// The one that was asked for. It may be tried already.
    Asked(Option<IpAddr>),
    /// Those of a name.
    Named(Turns),
}

/// The families in turn, beginning with the first one's, each in its order (RFC 8305 section 4).
pub(super) struct Turns {
    v4: VecDeque<IpAddr>,
    v6: VecDeque<IpAddr>,
    v6_is_next: bool,
}

impl Candidates {
    pub(super) fn asked(ip: IpAddr) -> Candidates {
        Candidates::Asked(Some(canonical(ip)))
    }

    pub(super) fn named(addresses: Vec<IpAddr>) -> Candidates {
        let v6_is_next = addresses.first().is_some_and(|ip| canonical(*ip).is_ipv6());
        let mut turns = Turns { v4: VecDeque::new(), v6: VecDeque::new(), v6_is_next };
        turns.extend(addresses);
        Candidates::Named(turns)
    }

    fn extend(&mut self, addresses: Vec<IpAddr>) {
        if let Candidates::Named(turns) = self {
            turns.extend(addresses);
        }
    }

    fn first(&self) -> Option<IpAddr> {
        match self {
            Candidates::Asked(ip) => *ip,
            Candidates::Named(turns) => turns.first(),
        }
    }

    fn pop(&mut self) -> Option<IpAddr> {
        match self {
            Candidates::Asked(ip) => ip.take(),
            Candidates::Named(turns) => turns.pop(),
        }
    }
}

impl Turns {
    fn extend(&mut self, addresses: Vec<IpAddr>) {
        for ip in addresses.into_iter().map(canonical) {
            if ip.is_ipv6() { self.v6.push_back(ip) } else { self.v4.push_back(ip) }
        }
    }

    fn first(&self) -> Option<IpAddr> {
        let (now, then) = if self.v6_is_next { (&self.v6, &self.v4) } else { (&self.v4, &self.v6) };
        now.front().or(then.front()).copied()
    }

    fn pop(&mut self) -> Option<IpAddr> {
        let first = self.first()?;
        let family = if first.is_ipv6() { &mut self.v6 } else { &mut self.v4 };
        family.pop_front();
        self.v6_is_next = first.is_ipv4();
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(addresses: &[&str]) -> Candidates {
        Candidates::named(addresses.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn in_turn(mut candidates: Candidates) -> Vec<String> {
        std::iter::from_fn(|| candidates.pop()).map(|ip| ip.to_string()).collect()
    }

    #[test]
    fn families_take_turns_in_their_own_orders() {
        let v6 = ["::1", "::2", "::3"];
        assert_eq!(in_turn(candidates(&v6)), v6);
        let many_v6 = candidates(&[v6[0], v6[1], v6[2], "1.0.0.1"]);
        assert_eq!(in_turn(many_v6), [v6[0], "1.0.0.1", v6[1], v6[2]]);
        let v4_first = candidates(&["1.0.0.1", "1.0.0.2", v6[0], v6[1], v6[2]]);
        assert_eq!(in_turn(v4_first), ["1.0.0.1", v6[0], "1.0.0.2", v6[1], v6[2]]);
        assert!(in_turn(candidates(&[])).is_empty());
        assert_eq!(in_turn(Candidates::asked("::ffff:1.0.0.1".parse().unwrap())), ["1.0.0.1"]);
    }

    #[test]
    fn who_comes_late_takes_its_turn() {
        let mut late = candidates(&["1.0.0.1", "1.0.0.2"]);
        late.pop();
        late.extend(vec!["::1".parse().unwrap(), "::ffff:1.0.0.3".parse().unwrap()]);
        assert_eq!(in_turn(late), ["::1", "1.0.0.2", "1.0.0.3"]);
    }
}
