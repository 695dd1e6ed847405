use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::client::Client;
use crate::outcome::Refusal;
use crate::policy::{Claim, Extra, HeldPort, NoPort};
use crate::proto::{Host, Target, canonical};
use crate::relay::{DatagramEndpoint, DatagramSocket};
use crate::session::context::Visitor;
use crate::session::{Context, Net, with_port};
use crate::token::{Role, Token};

/// The client's side of an association.
pub(in crate::session) struct Inside<D> {
    pub(super) client: Client,
    /// Whether the socket sends to the client by itself.
    is_connected: bool,
    pub(super) port: Port<D>,
    /// Room for the first outside socket, without which it would be of no use.
    pub(super) room: Option<Extra>,
    _held: HeldPort,
}

/// A socket at a port of ours.
pub(super) struct Port<D> {
    pub(super) token: Token,
    // Given back before the port is free.
    _claim: Claim,
    pub(super) endpoint: DatagramEndpoint<D>,
}

/// The side of the targets of one family.
pub(super) struct Outside<D> {
    pub(super) port: Port<D>,
    _room: Extra,
}

/// Of a target.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl<D: DatagramSocket> Inside<D> {
    /// Opens a port for a client that found us at `own`, and tells where the client is to send to.
    pub(in crate::session) fn open(
        cx: &mut Context<impl Net<Datagrams = D>>,
        visitor: Visitor,
        own: SocketAddr,
        hint: &Target,
    ) -> Result<(Inside<D>, SocketAddr), Refusal> {
        let client = visitor.client;
        let held = cx.terms.clients.hold_port(client).map_err(|_| Refusal::Denied)?;
        let room = cx.terms.limit.take_extra().ok_or(Refusal::General)?;
        let (port, number) = Port::open_inside(cx, visitor, own).map_err(|error| {
            cx.terms.udp_ports.tell(&error, "datagrams", cx.now);
            Refusal::General
        })?;
        let told = cx.terms.udp.advertise.address_for(client, canonical(own.ip()));
        let client = Client::new(cx.terms.udp.client_check, client, port_hint(client, hint));
        let room = Some(room);
        let mut inside = Inside { client, is_connected: false, port, room, _held: held };
        inside.let_in_the_client(own);
        Ok((inside, SocketAddr::new(told, number)))
    }

    /// A datagram of the client's has come from `source`.
    pub(super) fn confirm(&mut self, source: SocketAddr) {
        if self.client.confirm(source) {
            self.let_in_the_client(source);
        }
    }

    /// The kernel sees to it that others need not be looked at; if it cannot, we do it alone.
    fn let_in_the_client(&mut self, near: SocketAddr) {
        let Some(peer) = self.client.peer() else { return };
        let connected = self.port.endpoint.connect(with_scope(peer, near));
        self.is_connected = connected.is_ok() && self.client.is_pinned();
    }

    /// Where answers go: the client, and whether the socket does not know it.
    pub(super) fn address(&self) -> Option<(SocketAddr, Option<SocketAddr>)> {
        let client = self.client.address()?;
        Some((client, Some(client).filter(|_| !self.is_connected)))
    }
}

impl<D: DatagramSocket> Port<D> {
    /// The client's side is at the address that the client found us at, never at all of ours.
    fn open_inside(
        cx: &mut Context<impl Net<Datagrams = D>>,
        visitor: Visitor,
        own: SocketAddr,
    ) -> Result<(Port<D>, u16), NoPort> {
        let token = cx.token(Role::UdpClient, visitor.slot);
        let net = &mut cx.net;
        let (socket, claim) = cx
            .terms
            .udp_ports
            .take(own.ip(), |port| net.bind_datagrams(with_port(own, port), token))?;
        let number = claim.port();
        Ok((Port { token, _claim: claim, endpoint: DatagramEndpoint::new(socket) }, number))
    }
}

impl<D: DatagramSocket> Outside<D> {
    /// How often the kernel is asked for a port: it may choose one that is ours at another address.
    const PORT_CHOICES: usize = 4;

    /// Targets are sent to from wherever the way to each of them begins. Gives the room back where
    /// there is no socket to be had.
    pub(super) fn open(
        cx: &mut Context<impl Net<Datagrams = D>>,
        visitor: Visitor,
        family: Family,
        room: Extra,
    ) -> Result<Outside<D>, Extra> {
        let (token, ip) = (cx.token(family.role(), visitor.slot), family.unspecified());
        for _ in 0..Self::PORT_CHOICES {
            let (socket, port) = match cx.net.bind_datagrams((ip, 0).into(), token) {
                Ok(bound) => bound,
                Err(error) => {
                    log::debug!("no socket for datagrams: {error}");
                    break;
                }
            };
            if let Some(claim) = cx.terms.udp_ports.claim(ip, port) {
                let endpoint = DatagramEndpoint::new(socket);
                return Ok(Outside { port: Port { token, _claim: claim, endpoint }, _room: room });
            }
        }
        Err(room)
    }
}

impl Family {
    pub(super) fn of(address: SocketAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    fn unspecified(self) -> IpAddr {
        match self {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    fn role(self) -> Role {
        match self {
            Family::V4 => Role::UdpV4,
            Family::V6 => Role::UdpV6,
        }
    }
}

/// The port that a client says it will send from. Clients write all kinds of things there; it counts
/// if the address is the one that we see.
fn port_hint(client: IpAddr, hint: &Target) -> Option<u16> {
    let is_its_own = hint.host == Host::from(client);
    Some(hint.port).filter(|&port| is_its_own && port != 0)
}

/// A link-local address says nothing without the link that it is on.
fn with_scope(address: SocketAddr, near: SocketAddr) -> SocketAddr {
    match (address, near) {
        (SocketAddr::V6(it), SocketAddr::V6(near)) if it.scope_id() == 0 => {
            SocketAddrV6::new(*it.ip(), it.port(), 0, near.scope_id()).into()
        }
        _ => address,
    }
}
