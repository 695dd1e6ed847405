use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::{Auth, Task};
use crate::config::{self, Timeouts};
use crate::dns::{Answer, Asked};
use crate::metrics::Logins;
use crate::policy::{
    Admitted, ClientLimits, Commands, Host, Methods, Penalties, Ports, SessionLimit, Targets,
};
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

    /// Asks for a name's addresses, for the client at this address; answers that come later come
    /// under `token`, none of them after `deadline`.
    fn resolve(
        &mut self,
        name: &Name,
        client: IpAddr,
        token: Token,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Asked;

    /// What is known of a name without asking anybody.
    fn known(&mut self, name: &Name, now: Instant) -> Option<Answer>;

    /// Whoever asked under `token` wants no more answers.
    fn forget(&mut self, token: Token);

    /// Has a task done for the client at this address where it holds nobody up, unless that cannot
    /// begin before `deadline`; what comes of it comes under `token`. Returns the task if too many
    /// are waiting.
    fn offload(
        &mut self,
        task: Task,
        client: IpAddr,
        token: Token,
        deadline: Option<Instant>,
    ) -> Result<(), Task>;
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
    /// Clients that have proved who they are, or tried to.
    pub logins: Logins,
    /// The rules of the house.
    pub terms: Arc<Terms>,
    /// What is known of the host we run on.
    pub host: Arc<Host>,
    /// Who clients may be.
    pub(super) auth: Arc<Auth>,
    /// Which of its snapshots that is.
    pub(super) snapshot: u32,
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
    /// How the clients of each listener prove who they are.
    pub methods: Vec<Methods>,
    /// From where too many have failed to.
    pub penalties: Arc<Penalties>,
    /// From where somebody has.
    pub admitted: Arc<Admitted>,
    /// How messages under a security context are protected.
    pub sealing: Sealing,
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

/// How messages under a security context are to be protected (RFC 1961 section 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sealing {
    /// So that nobody else can read them, whatever the client asks for.
    pub confidential: bool,
    /// Not at all, if the client asks for that.
    pub may_be_clear: bool,
}

impl<N: Net> Context<N> {
    /// A context at `now`.
    pub fn new(
        now: Instant,
        net: N,
        buffers: Buffers,
        terms: Arc<Terms>,
        host: Arc<Host>,
        auth: Arc<Auth>,
    ) -> Context<N> {
        let datagrams = associate::Shared::new(&terms.udp);
        Context {
            now,
            net,
            buffers,
            datagrams,
            bind_strangers: 0,
            logins: Logins::default(),
            terms,
            host,
            auth,
            snapshot: 0,
            generation: 0,
        }
    }

    /// From now on clients may be others: who was let in before is, but nobody else for that.
    pub fn use_auth(&mut self, auth: Arc<Auth>) {
        self.auth = auth;
        self.snapshot = self.snapshot.wrapping_add(1);
        self.terms.admitted.clear();
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
