use std::net::SocketAddr;
use std::vec;

use crate::outcome::Refusal;
use crate::policy;
use crate::relay::{Endpoint, Socket};
use crate::session::{Context, Net, Pending};
use crate::token::{Role, Token};

/// A connection to a target that is being made: one attempt at a time, in the addresses' order.
pub(super) struct Connecting<S> {
    pub(super) pending: Pending<S>,
    addresses: vec::IntoIter<SocketAddr>,
    attempt: Option<Attempt<S>>,
    refusal: Option<Refusal>,
}

struct Attempt<S> {
    target: Endpoint<S>,
    address: SocketAddr,
    token: Token,
}

/// What came of a turn of it.
pub(super) enum Attempted<S> {
    /// The target has not answered; its events come under this token.
    Waiting(Token),
    /// It has; `bnd` is our end of the connection.
    Connected { target: Endpoint<S>, bnd: SocketAddr },
    /// No address is left to try.
    Failed(Refusal),
}

impl<S: Socket> Connecting<S> {
    /// At most this many of a name's addresses are tried.
    const ATTEMPTS_MAX: usize = 8;

    pub(super) fn new(pending: Pending<S>, mut addresses: Vec<SocketAddr>) -> Connecting<S> {
        addresses.truncate(Self::ATTEMPTS_MAX);
        Connecting { pending, addresses: addresses.into_iter(), attempt: None, refusal: None }
    }

    /// The attempt's socket, if `token` is its.
    pub(super) fn attempted(&mut self, token: Token) -> Option<&mut Endpoint<S>> {
        self.attempt.as_mut().filter(|attempt| attempt.token == token).map(|it| &mut it.target)
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
        loop {
            let Some(attempt) = self.attempt.take() else {
                if !self.start_next(cx, slot) {
                    return Attempted::Failed(self.refusal(Refusal::Denied));
                }
                continue;
            };
            if !attempt.target.is_writable() {
                let token = attempt.token;
                self.attempt = Some(attempt);
                return Attempted::Waiting(token);
            }
            match attempt.finish(&cx.terms.listeners) {
                Ok((target, bnd)) => return Attempted::Connected { target, bnd },
                Err(refusal) => self.fail(refusal),
            }
        }
    }

    /// Starts an attempt at the next address that may be connected to and gets as far as a socket.
    fn start_next(&mut self, cx: &mut Context<impl Net<Socket = S>>, slot: usize) -> bool {
        while let Some(address) = self.addresses.next() {
            match start(cx, slot, address) {
                Ok(attempt) => {
                    self.attempt = Some(attempt);
                    return true;
                }
                Err(refusal) => self.fail(refusal),
            }
        }
        false
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
