use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::outcome::{Refusal, is_exhaustion};
use crate::policy::{Claim, HeldPort};
use crate::proto::canonical;
use crate::relay::Endpoint;
use crate::session::context::Visitor;
use crate::session::{Context, Net, Pending, with_port};
use crate::token::{Role, Token};

/// A client that waits for somebody to connect to us (BIND).
pub(super) struct Accepting<N: Net> {
    pub(super) pending: Pending<N::Socket>,
    pub(super) expected: Expected,
    door: Door<N::Listener>,
    is_reported: bool,
}

/// Where a peer may connect to.
pub(super) struct Door<L> {
    token: Token,
    // Given back before the port is free.
    _claim: Claim,
    _held: HeldPort,
    listener: L,
}

/// Who may connect.
pub(super) enum Expected {
    /// Whoever the client might have connected to.
    Anyone,
    /// Somebody at one of these addresses, in canonical form.
    These(Vec<IpAddr>),
}

/// What came of a turn of it.
pub(super) enum Accepted<S> {
    /// Nobody has come who is expected.
    Nobody,
    /// Somebody may have come, and there is nothing left to take them with. No edge will tell when
    /// there is.
    Starved,
    /// Others may be waiting.
    Yielded,
    /// The one at `address` has, and its events come under `token`; `local` is our end.
    Peer { peer: Endpoint<S>, address: SocketAddr, token: Token, local: SocketAddr },
}

impl<N: Net> Accepting<N> {
    /// Strangers are turned away by so many before others have their turn.
    const STRANGERS_PER_TURN: usize = 16;

    pub(super) fn new(
        pending: Pending<N::Socket>,
        expected: Expected,
        door: Door<N::Listener>,
    ) -> Accepting<N> {
        Accepting { pending, expected, door, is_reported: false }
    }

    /// The poll reported something under `token`.
    pub(super) fn handle_readiness(&mut self, token: Token) {
        self.is_reported |= token == self.door.token;
    }

    /// Lets the first one in who is expected, and nobody else: a stranger is no reason to give up
    /// waiting, for then anybody could end it.
    pub(super) fn advance(&mut self, cx: &mut Context<N>, visitor: Visitor) -> Accepted<N::Socket> {
        let mut failures = 0;
        for _ in 0..Self::STRANGERS_PER_TURN {
            if !self.is_reported {
                return Accepted::Nobody;
            }
            let Some(_room) = cx.terms.limit.take_extra() else { return Accepted::Starved };
            match cx.net.accept(&mut self.door.listener) {
                Ok((socket, address)) => {
                    if let Some(accepted) = self.admit(cx, visitor, socket, address) {
                        return accepted;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_reported = false;
                }
                Err(error) if is_exhaustion(&error) => return Accepted::Starved,
                // A peer that is gone already, or an error that was its connection's.
                Err(_) => failures += 1,
            }
        }
        // Nothing but errors: one that stays must not keep us busy.
        if failures == Self::STRANGERS_PER_TURN { Accepted::Starved } else { Accepted::Yielded }
    }

    /// The very address that is connected is what is judged.
    fn admit(
        &self,
        cx: &mut Context<N>,
        visitor: Visitor,
        mut socket: N::Socket,
        address: SocketAddr,
    ) -> Option<Accepted<N::Socket>> {
        let address = SocketAddr::new(canonical(address.ip()), address.port());
        if !self.expected.includes(address.ip()) || !cx.permits(visitor, address) {
            cx.bind_strangers += 1;
            return None;
        }
        let token = cx.token(Role::Target, visitor.slot);
        cx.net.watch(&mut socket, token).ok()?;
        let peer = Endpoint::new(socket);
        let local = peer.local_addr().ok()?;
        let is_permitted = cx.permits_connected(visitor, address, local);
        is_permitted.then_some(Accepted::Peer { peer, address, token, local })
    }
}

impl<L> Door<L> {
    /// Opens a port at `own` for `peer`, whoever that may be if it is not known. Tells where that is,
    /// and what the client is to be told.
    pub(super) fn open(
        cx: &mut Context<impl Net<Listener = L>>,
        visitor: Visitor,
        own: SocketAddr,
        peer: Option<IpAddr>,
    ) -> Result<(Door<L>, SocketAddr, SocketAddr), Refusal> {
        let held = cx.terms.clients.hold_port(visitor.client).map_err(|_| Refusal::Denied)?;
        let token = cx.token(Role::BindListener, visitor.slot);
        let (net, ports) = (&mut cx.net, &cx.terms.bind_ports);
        let taken = ports.take(own.ip(), |port| net.listen(with_port(own, port), token));
        let (listener, claim) = taken.map_err(|error| {
            ports.tell(&error, "a peer to connect to", cx.now);
            Refusal::General
        })?;
        let own = with_port(own, claim.port());
        let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let told = cx.terms.bind.advertise.address_for(peer, canonical(own.ip()));
        let bnd = SocketAddr::new(told, own.port());
        Ok((Door { token, _claim: claim, _held: held, listener }, own, bnd))
    }
}

impl Expected {
    fn includes(&self, ip: IpAddr) -> bool {
        match self {
            Expected::Anyone => true,
            Expected::These(addresses) => addresses.contains(&ip),
        }
    }

    /// The name turns out to have these, too.
    pub(super) fn extend(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        if let Expected::These(known) = self {
            known.extend(addresses);
        }
    }

    /// Whom to be reachable for: one of this family if there is a choice.
    pub(super) fn nearest(&self, is_ipv4: bool) -> Option<IpAddr> {
        match self {
            Expected::Anyone => None,
            Expected::These(addresses) => {
                let of_family = addresses.iter().find(|ip| ip.is_ipv4() == is_ipv4);
                of_family.or(addresses.first()).copied()
            }
        }
    }
}
