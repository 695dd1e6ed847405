use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::Users;
use crate::config::{self, Timeouts};
use crate::dns::{Answer, Asked};
use crate::policy::{ClientLimits, Commands, Host, Ports, SessionLimit, Targets};
use crate::proto::{Name, canonical};
use crate::relay::{Buffers, DatagramSocket, Socket};
use crate::session::associate;
use crate::token::{Role, Token};

/// What a session needs of the world outside.
pub trait Net {
    /// The connections it makes.
    type Socket: Socket;
    /// Where a peer may connect to.
    type Listener;
    /// What it sends datagrams with.
    type Datagrams: DatagramSocket;

    /// Starts a connection; the poll will report it under `token`.
    fn connect(&mut self, target: SocketAddr, token: Token) -> io::Result<Self::Socket>;

    /// The address of ours that packets to `ip` are sent from, with any port.
    fn source_towards(&mut self, ip: IpAddr) -> io::Result<SocketAddr>;

    /// Listens at `address`, port 0 being any; the poll will report who comes under `token`. Returns
    /// the port, too.
    fn listen(&mut self, address: SocketAddr, token: Token) -> io::Result<(Self::Listener, u16)>;

    /// Takes somebody who has come, and says who that is; nothing is reported of them yet.
    fn accept(&mut self, listener: &mut Self::Listener) -> io::Result<(Self::Socket, SocketAddr)>;

    /// From now on the poll reports of `socket` under `token`.
    fn watch(&mut self, socket: &mut Self::Socket, token: Token) -> io::Result<()>;

    /// A socket for datagrams at `address`, port 0 being any; the poll will report what arrives
    /// under `token`. Returns the port, too.
    fn bind_datagrams(
        &mut self,
        address: SocketAddr,
        token: Token,
    ) -> io::Result<(Self::Datagrams, u16)>;

    /// Asks for a name's addresses; answers that come later come under `token`, none of them after
    /// `deadline`.
    fn resolve(
        &mut self,
        name: &Name,
        token: Token,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Asked;

    /// What is known of a name without asking anybody.
    fn known(&mut self, name: &Name, now: Instant) -> Option<Answer>;

    /// Whoever asked under `token` wants no more answers.
    fn forget(&mut self, token: Token);
}

/// What all sessions of a reactor share.
pub struct Context<N: Net> {
    /// The time of this tick.
    pub now: Instant,
    /// The world outside.
    pub net: N,
    /// Where rings and inboxes come from.
    pub buffers: Buffers,
    /// What its associations share.
    pub datagrams: associate::Shared,
    /// Who connected to a listener for somebody else, and was closed.
    pub bind_strangers: u64,
    /// The rules of the house.
    pub terms: Arc<Terms>,
    /// What is known of the host we run on.
    pub host: Arc<Host>,
    generation: u32,
}

/// Whose session it is, as far as it matters for what it may reach, and what answers come under.
#[derive(Clone, Copy)]
pub(super) struct Visitor {
    pub(super) slot: usize,
    pub(super) listener: usize,
    pub(super) client: IpAddr,
}

/// What a session must know of the configuration.
pub struct Terms {
    /// Who may use it.
    pub users: Users,
    /// How long each state may last.
    pub timeout: Timeouts,
    /// What the clients of each listener may ask for.
    pub commands: Vec<Commands>,
    /// What they may reach.
    pub targets: Vec<Targets>,
    /// How datagrams are relayed.
    pub udp: config::Udp,
    /// The ports for them.
    pub udp_ports: Arc<Ports>,
    /// How a peer is waited for.
    pub bind: config::Bind,
    /// The ports for that.
    pub bind_ports: Arc<Ports>,
    /// How many sessions there may be; attempts beside another take spare ones.
    pub limit: Arc<SessionLimit>,
    /// How many of them one client may have.
    pub clients: Arc<ClientLimits>,
}

impl<N: Net> Context<N> {
    /// A context at `now`.
    pub fn new(
        now: Instant,
        net: N,
        buffers: Buffers,
        terms: Arc<Terms>,
        host: Arc<Host>,
    ) -> Context<N> {
        let datagrams = associate::Shared::new(&terms.udp);
        Context { now, net, buffers, datagrams, bind_strangers: 0, terms, host, generation: 0 }
    }

    /// A token that no other life of `slot` has.
    pub fn token(&mut self, role: Role, slot: usize) -> Token {
        self.generation = self.generation.wrapping_add(1);
        Token::new(self.generation, role, slot)
    }

    /// Whether this client may be connected to `target`.
    pub(super) fn permits(&self, visitor: Visitor, target: SocketAddr) -> bool {
        self.terms.targets[visitor.listener].permits(&self.host, visitor.client, target)
    }

    /// Whether this client may keep a connection to `target` that came from `local`.
    pub(super) fn permits_connected(
        &self,
        visitor: Visitor,
        target: SocketAddr,
        local: SocketAddr,
    ) -> bool {
        let targets = &self.terms.targets[visitor.listener];
        targets.permits_connected(&self.host, visitor.client, target, local)
    }

    /// Whether this client may send datagrams to `target`: as for connections, and never to many at
    /// once, nor to another association, for two could feed each other for ever.
    pub(super) fn permits_datagram(&self, visitor: Visitor, target: SocketAddr) -> bool {
        !is_group(target.ip()) && self.permits(visitor, target) && !self.is_own_port(target)
    }

    /// Whether this client may send to one of these addresses, and there is a way there.
    pub(super) fn has_way_to(&mut self, visitor: Visitor, answer: &Answer) -> bool {
        let Answer::Addresses { addresses, .. } = answer else { return false };
        addresses
            .iter()
            .copied()
            .map(canonical)
            .any(|ip| self.permits(visitor, (ip, 0).into()) && self.net.source_towards(ip).is_ok())
    }

    /// Whether an association of ours is at `address`.
    pub(super) fn is_own_port(&self, address: SocketAddr) -> bool {
        let ip = canonical(address.ip());
        self.terms.udp_ports.is_claimed(ip, address.port()) && self.host.is_local(ip)
    }

    pub(super) fn after(&self, timeout: Option<Duration>) -> Option<Instant> {
        self.now.checked_add(timeout?)
    }
}

/// Whether it is the address of more than one host.
fn is_group(ip: IpAddr) -> bool {
    ip.is_multicast() || ip == Ipv4Addr::BROADCAST
}
