use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::Users;
use crate::config::Timeouts;
use crate::dns::Asked;
use crate::policy::SessionLimit;
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
    fn resolve(&mut self, name: &Name, token: Token, deadline: Option<Instant>) -> Asked;

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
    generation: u32,
}

/// What a session must know of the configuration.
pub struct Terms {
    /// Who may use it.
    pub users: Users,
    /// How long each state may last.
    pub timeout: Timeouts,
    /// Where we listen: nobody is connected to us by ourselves.
    pub listeners: Vec<SocketAddr>,
    /// How many sessions there may be; attempts beside another take spare ones.
    pub limit: Arc<SessionLimit>,
}

impl<N> Context<N> {
    /// A context at `now`.
    pub fn new(now: Instant, net: N, buffers: Buffers, terms: Arc<Terms>) -> Context<N> {
        Context { now, net, buffers, terms, generation: 0 }
    }

    /// A token that no other life of `slot` has.
    pub fn token(&mut self, role: Role, slot: usize) -> Token {
        self.generation = self.generation.wrapping_add(1);
        Token::new(self.generation, role, slot)
    }

    pub(super) fn after(&self, timeout: Option<Duration>) -> Option<Instant> {
        self.now.checked_add(timeout?)
    }
}
