use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::Users;
use crate::config::Timeouts;
use crate::dns::Asked;
use crate::policy::{ClientLimits, Host, SessionLimit, Targets};
use crate::proto::Name;
use crate::relay::{Buffers, Socket};
use crate::token::{Role, Token};

/// What a session needs of the world outside.
pub trait Net {
    /// The sockets it makes.
    type Socket: Socket;

    /// Starts a connection; the poll will report it under `token`.
    fn connect(&mut self, target: SocketAddr, token: Token) -> io::Result<Self::Socket>;

    /// Asks for a name's addresses; answers that come later come under `token`, none of them after
    /// `deadline`.
    fn resolve(
        &mut self,
        name: &Name,
        token: Token,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Asked;

    /// Whoever asked under `token` wants no more answers.
    fn forget(&mut self, token: Token);
}

/// What all sessions of a reactor share.
pub struct Context<N> {
    /// The time of this tick.
    pub now: Instant,
    /// The world outside.
    pub net: N,
    /// Where rings and inboxes come from.
    pub buffers: Buffers,
    /// The rules of the house.
    pub terms: Arc<Terms>,
    /// What is known of the host we run on.
    pub host: Arc<Host>,
    generation: u32,
}

/// Whose session it is, as far as it matters for what it may reach.
#[derive(Clone, Copy)]
pub(super) struct Visitor {
    pub(super) listener: usize,
    pub(super) client: IpAddr,
}

/// What a session must know of the configuration.
pub struct Terms {
    /// Who may use it.
    pub users: Users,
    /// How long each state may last.
    pub timeout: Timeouts,
    /// What the clients of each listener may reach.
    pub targets: Vec<Targets>,
    /// How many sessions there may be; attempts beside another take spare ones.
    pub limit: Arc<SessionLimit>,
    /// How many of them one client may have.
    pub clients: Arc<ClientLimits>,
}

impl<N> Context<N> {
    /// A context at `now`.
    pub fn new(
        now: Instant,
        net: N,
        buffers: Buffers,
        terms: Arc<Terms>,
        host: Arc<Host>,
    ) -> Context<N> {
        Context { now, net, buffers, terms, host, generation: 0 }
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

    pub(super) fn after(&self, timeout: Option<Duration>) -> Option<Instant> {
        self.now.checked_add(timeout?)
    }
}
