use std::net::SocketAddr;
use std::time::{Duration, Instant};
use std::vec;

use crate::outcome::Refusal;
use crate::policy;
use crate::relay::{Endpoint, Socket};
use crate::session::{Context, Net, Pending};
use crate::token::{Role, Token};

/// A connection to a target that is being made: its addresses are tried in their order, each a
/// little after the one before it, and the first that answers wins (RFC 8305 section 5).
pub(super) struct Connecting<S> {
    pub(super) pending: Pending<S>,
    addresses: vec::IntoIter<SocketAddr>,
    attempts: Vec<Attempt<S>>,
    /// When the next address is tried though an attempt is still under way.
    next_at: Instant,
    refusal: Option<Refusal>,
}

struct Attempt<S> {
    target: Endpoint<S>,
    address: SocketAddr,
    token: Token,
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
        mut addresses: Vec<SocketAddr>,
        now: Instant,
    ) -> Connecting<S> {
        addresses.truncate(Self::ATTEMPTS_MAX);
        let addresses = addresses.into_iter();
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
        Attempted::Waiting((self.addresses.len() > 0).then_some(self.next_at))
    }

    /// Starts an attempt at the next address that may be connected to and gets as far as a socket.
    fn start_next(&mut self, cx: &mut Context<impl Net<Socket = S>>, slot: usize) {
        while let Some(address) = self.addresses.next() {
            match start(cx, slot, address) {
                Ok(attempt) => {
                    self.attempts.push(attempt);
                    self.next_at = cx.now + Self::ATTEMPT_DELAY;
                    return;
                }
                Err(refusal) => self.fail(refusal),
            }
        }
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

fn start<N: Net>(
    cx: &mut Context<N>,
    slot: usize,
    address: SocketAddr,
) -> Result<Attempt<N::Socket>, Refusal> {
    if !policy::permits_target(&cx.terms.listeners, address) {
        return Err(Refusal::Denied);
    }
    let token = cx.token(Role::Target, slot);
    let target = cx.net.connect(address, token).map_err(|error| Refusal::of_connect(&error))?;
    Ok(Attempt { target: Endpoint::new(target), address, token })
}
