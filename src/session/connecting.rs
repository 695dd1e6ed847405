use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::outcome::{Refusal, is_exhaustion};
use crate::policy::{self, Place};
use crate::relay::{Endpoint, Socket};
use crate::session::{Context, Net, Pending};
use crate::token::{Role, Token};

/// A connection to a target that is being made: its addresses are tried in turn, each a
/// little after the one before it, and the first that answers wins (RFC 8305 section 5).
pub(super) struct Connecting<S> {
    pub(super) pending: Pending<S>,
    addresses: VecDeque<SocketAddr>,
    attempts: Vec<Attempt<S>>,
    /// When the next address is tried though an attempt is still under way.
    next_at: Instant,
    refusal: Option<Refusal>,
}

struct Attempt<S> {
    target: Endpoint<S>,
    address: SocketAddr,
    token: Token,
    /// What an attempt beside another takes of what sessions may use.
    _place: Option<Place>,
}

/// What came of a turn of it.
pub(super) enum Attempted<S> {
    /// No target has answered; there is another address to try at this time.
    Waiting(Option<Instant>),
    /// One has, and its events come under `token`; `bnd` is our end of the connection.
    Connected { target: Endpoint<S>, token: Token, bnd: SocketAddr },
    /// No address is left to try.
    Failed(Refusal),
}

impl<S: Socket> Connecting<S> {
    /// At most this many of a name's addresses are tried.
    const ATTEMPTS_MAX: usize = 8;
    /// "Connection Attempt Delay" (RFC 8305 section 8).
    const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

    pub(super) fn new(
        pending: Pending<S>,
        addresses: Vec<SocketAddr>,
        now: Instant,
    ) -> Connecting<S> {
        let mut addresses = interleave(addresses);
        addresses.truncate(Self::ATTEMPTS_MAX);
        Connecting { pending, addresses, attempts: Vec::new(), next_at: now, refusal: None }
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
        slot: usize,
    ) -> Attempted<S> {
        while let Some(done) = self.attempts.iter().position(|it| it.target.is_writable()) {
            let attempt = self.attempts.remove(done);
            let token = attempt.token;
            match attempt.finish(&cx.terms.listeners) {
                Ok((target, bnd)) => return Attempted::Connected { target, token, bnd },
                Err(refusal) => {
                    self.fail(refusal);
                    self.next_at = cx.now;
                }
            }
        }
        if self.attempts.is_empty() || self.next_at <= cx.now {
            self.start_next(cx, slot);
        }
        if self.attempts.is_empty() {
            return Attempted::Failed(self.refusal(Refusal::Denied));
        }
        Attempted::Waiting((!self.addresses.is_empty()).then_some(self.next_at))
    }

    /// Starts an attempt at the next address that may be connected to and gets as far as a socket.
    /// Beside another attempt it waits if there is nothing left for it now.
    fn start_next(&mut self, cx: &mut Context<impl Net<Socket = S>>, slot: usize) {
        self.next_at = cx.now + Self::ATTEMPT_DELAY;
        let beside = !self.attempts.is_empty();
        let place = if beside { cx.terms.limit.take_spare() } else { None };
        if beside && place.is_none() {
            return;
        }
        while let Some(&address) = self.addresses.front() {
            if !policy::permits_target(&cx.terms.listeners, address) {
                self.skip(Refusal::Denied);
                continue;
            }
            let token = cx.token(Role::Target, slot);
            match cx.net.connect(address, token) {
                Ok(target) => {
                    let target = Endpoint::new(target);
                    self.attempts.push(Attempt { target, address, token, _place: place });
                    self.addresses.pop_front();
                    return;
                }
                Err(error) if beside && is_exhaustion(&error) => return,
                Err(error) => self.skip(Refusal::of_connect(&error)),
            }
        }
    }

    /// The next address is none for us.
    fn skip(&mut self, refusal: Refusal) {
        self.addresses.pop_front();
        self.fail(refusal);
    }

    fn fail(&mut self, refusal: Refusal) {
        self.refusal = Some(self.refusal(refusal));
    }
}

impl<S: Socket> Attempt<S> {
    /// The connected target and our end of it, or why there is none.
    fn finish(self, listeners: &[SocketAddr]) -> Result<(Endpoint<S>, SocketAddr), Refusal> {
        if let Some(error) = self.target.error() {
            return Err(Refusal::of_connect(&error));
        }
        let bnd = self.target.local_addr().map_err(|error| Refusal::of_connect(&error))?;
        if bnd == self.address {
            // Where nobody listens, a connection from that very port reaches itself.
            return Err(Refusal::ConnectionRefused);
        }
        if policy::is_loop(listeners, bnd, self.address) {
            return Err(Refusal::Denied);
        }
        Ok((self.target, bnd))
    }
}

/// The addresses with their families in turn, beginning with the first one's, each in its order
/// (RFC 8305 section 4).
fn interleave(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut interleaved = VecDeque::new();
    while let Some(address) = first.pop_front() {
        interleaved.push_back(address);
        interleaved.extend(second.pop_front());
    }
    interleaved.extend(second);
    interleaved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interleaved(addresses: &[&str]) -> Vec<String> {
        let parsed = addresses.iter().map(|text| text.parse().unwrap()).collect();
        interleave(parsed).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn families_take_turns_in_their_own_orders() {
        let v6 = ["[::1]:1", "[::2]:1", "[::3]:1"];
        assert_eq!(interleaved(&v6), v6);
        assert_eq!(
            interleaved(&[v6[0], v6[1], v6[2], "1.0.0.1:1"]),
            [v6[0], "1.0.0.1:1", v6[1], v6[2]]
        );
        assert_eq!(
            interleaved(&["1.0.0.1:1", "1.0.0.2:1", v6[0], v6[1], v6[2]]),
            ["1.0.0.1:1", v6[0], "1.0.0.2:1", v6[1], v6[2]]
        );
        assert!(interleaved(&[]).is_empty());
    }
}
