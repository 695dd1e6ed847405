//! One client's life: its states, their deadlines, and every transition between them.
//!
//! A [`Session`] is told facts (`handle_*`: an event, an answer, a deadline) and says what it needs
//! next ([`Turn`], [`wake_at`](Session::wake_at)). It reaches the world through [`Net`] and
//! [`Socket`] only, so that the simulator drives the code the reactor drives.
//!
//! The leaf modules own one state each and report what happened; what comes of it is decided here:
//!
//! ```text
//! Negotiating ─▶ Resolving ─▶ Connecting ─▶ Relaying ─▶ Severing
//!      │             │             │            │           │
//!      └─────────────┴──▶ Closing ◀┴────────────┴───▶ over ◀┘
//! ```

pub mod negotiation;

mod closing;
mod connecting;
mod handshake;
mod outbox;
mod pending;
mod relaying;

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::closing::Closing;
use self::connecting::{Attempted, Connecting};
use self::handshake::{Handshake, Heard};
use self::outbox::Outbox;
use self::pending::Pending;
use self::relaying::{Relay, Relayed, Severed, Severing, Side};
use crate::auth::Users;
use crate::config::Timeouts;
use crate::metrics::{Stage, Traffic};
use crate::outcome::{Outcome, Refusal};
use crate::proto::{Command, Host, Name, Reply, Request, canonical};
use crate::relay::{Buffers, Endpoint, Lane, Pumped, Readiness, Socket};
use crate::token::{Role, Token};

/// How long a reset may wait for what came before it to be delivered.
const SEVERING: Duration = Duration::from_secs(1);
/// How often to ask whether a peer has acknowledged everything: no edge tells.
const ACKNOWLEDGEMENT_POLL: Duration = Duration::from_millis(20);
/// How often to try again what the kernel, short of memory, may have refused without a later edge.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// RFC 1928 section 6: a refused client is gone 10 seconds after the failure was found.
const CLOSING_MAX: Duration = Duration::from_secs(10);

/// What a session needs of the world outside.
pub trait Net {
    /// The sockets it makes.
    type Socket: Socket;

    /// Starts a connection; the poll will report it under `token`.
    fn connect(&mut self, target: SocketAddr, token: Token) -> io::Result<Self::Socket>;

    /// Asks for a name's addresses; the answer comes under `token`, or never if `deadline` passes
    /// first. An error refuses the request.
    fn resolve(
        &mut self,
        name: &Name,
        token: Token,
        deadline: Option<Instant>,
    ) -> Result<(), Refusal>;
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

    fn after(&self, timeout: Option<Duration>) -> Option<Instant> {
        self.now.checked_add(timeout?)
    }
}

/// What a session needs after it was told something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// News, or [`wake_at`](Session::wake_at).
    Wait,
    /// Another turn, after the others have had theirs.
    Yield,
    /// A ring, when one comes back; then another turn.
    Starve,
    /// Nothing: it is over.
    End(Outcome),
}

/// One client's session.
pub struct Session<S> {
    state: State<S>,
    client: Token,
    /// What the state waits for besides the client: its target's events or its resolver's answer.
    other: Option<Token>,
    outbox: Outbox,
    deadline: Option<Instant>,
    look_again_at: Option<Instant>,
    traffic: Traffic,
}

enum State<S> {
    Negotiating(Handshake<S>),
    Resolving(Pending<S>, u16),
    Connecting(Connecting<S>),
    Relaying(Relay<S>),
    Severing(Severing<S>),
    Closing(Closing<S>),
    Over,
}

impl<S: Socket> Session<S> {
    /// A session with a client that has just been accepted; `client` is what its events come under.
    pub fn new(socket: S, client: Token, cx: &Context<impl Net<Socket = S>>) -> Session<S> {
        Session {
            state: State::Negotiating(Handshake::new(socket)),
            client,
            other: None,
            outbox: Outbox::new(),
            deadline: cx.after(cx.terms.timeout.handshake),
            look_again_at: None,
            traffic: Traffic::default(),
        }
    }

    /// The poll reported something under `token`.
    pub fn handle_event(
        &mut self,
        cx: &mut Context<impl Net<Socket = S>>,
        token: Token,
        readiness: Readiness,
    ) -> Turn {
        let Some(endpoint) = self.endpoint(token) else { return Turn::Wait };
        endpoint.handle_readiness(readiness);
        self.advance(cx)
    }

    /// The resolver has answered the question asked under `token`.
    pub fn handle_answer(
        &mut self,
        cx: &mut Context<impl Net<Socket = S>>,
        token: Token,
        answer: Result<Vec<IpAddr>, Refusal>,
    ) -> Turn {
        if self.other != Some(token) {
            return Turn::Wait;
        }
        let State::Resolving(pending, port) = mem::replace(&mut self.state, State::Over) else {
            unreachable!("an answer's token is only kept while resolving");
        };
        self.other = None;
        match answer {
            Ok(addresses) => {
                let to = addresses.into_iter().map(|ip| SocketAddr::new(canonical(ip), port));
                self.connect(cx, pending, to.collect());
            }
            Err(refusal) => self.refuse(cx, pending, refusal),
        }
        self.advance(cx)
    }

    /// [`wake_at`](Self::wake_at) has come.
    pub fn handle_deadline(&mut self, cx: &mut Context<impl Net<Socket = S>>) -> Turn {
        let now = cx.now;
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.deadline)
            && let Some(turn) = self.expire(cx)
        {
            return turn;
        }
        if due(self.look_again_at) {
            self.look_again_at = None;
            self.look_again();
        }
        self.advance(cx)
    }

    /// It may go on: it had yielded, or there is a ring.
    pub fn handle_turn(&mut self, cx: &mut Context<impl Net<Socket = S>>) -> Turn {
        self.advance(cx)
    }

    /// Makes both sides see a reset when it is dropped: it ends because we say so.
    pub fn abort(&mut self) {
        match &mut self.state {
            State::Relaying(relay) => {
                relay.client.reset_on_close();
                relay.target.reset_on_close();
            }
            State::Severing(severing) => severing.sink.reset_on_close(),
            State::Negotiating(handshake) => handshake.client().reset_on_close(),
            State::Resolving(pending, _) => pending.client.reset_on_close(),
            State::Connecting(connecting) => connecting.pending.client.reset_on_close(),
            State::Closing(_) | State::Over => {}
        }
    }

    /// Closes it, gives back what it holds, and says what it carried.
    pub fn close(mut self, buffers: &mut Buffers) -> Traffic {
        match &mut self.state {
            State::Negotiating(handshake) => handshake.release(buffers),
            State::Resolving(pending, _) => pending.release(buffers),
            State::Connecting(connecting) => connecting.pending.release(buffers),
            State::Relaying(relay) => {
                relay.release(buffers);
                self.traffic = relay.traffic();
            }
            State::Severing(severing) => {
                severing.lane.release(buffers);
                self.traffic = severing.traffic();
            }
            State::Closing(_) | State::Over => {}
        }
        self.traffic
    }

    /// When it wants [`handle_deadline`](Self::handle_deadline), if nothing happens before.
    pub fn wake_at(&self) -> Option<Instant> {
        earlier(self.deadline, self.look_again_at)
    }

    /// What it is doing.
    pub fn stage(&self) -> Stage {
        match &self.state {
            State::Negotiating(handshake) => match handshake.phase() {
                negotiation::Phase::Greeting => Stage::Greeting,
                negotiation::Phase::Authenticating => Stage::Authenticating,
                negotiation::Phase::Requesting => Stage::Requesting,
            },
            State::Resolving(..) => Stage::Resolving,
            State::Connecting(_) => Stage::Connecting,
            State::Relaying(_) => Stage::Relaying,
            State::Severing(_) => Stage::Severing,
            State::Closing(_) | State::Over => Stage::Closing,
        }
    }

    /// Since when it has held a ring without moving a byte of it, if it holds one.
    pub fn stalled_since(&self) -> Option<Instant> {
        match &self.state {
            State::Relaying(relay) => earlier(relay.up.stalled_since(), relay.down.stalled_since()),
            State::Severing(severing) => severing.lane.stalled_since(),
            _ => None,
        }
    }

    /// The token of its client.
    pub fn client_token(&self) -> Token {
        self.client
    }

    fn endpoint(&mut self, token: Token) -> Option<&mut Endpoint<S>> {
        let side = match token {
            _ if token == self.client => Side::Client,
            _ if Some(token) == self.other => Side::Target,
            _ => return None,
        };
        Some(match (&mut self.state, side) {
            (State::Negotiating(handshake), Side::Client) => handshake.client(),
            (State::Resolving(pending, _), Side::Client) => &mut pending.client,
            (State::Connecting(connecting), Side::Client) => &mut connecting.pending.client,
            (State::Connecting(connecting), Side::Target) => connecting.attempted(token)?,
            (State::Relaying(relay), Side::Client) => &mut relay.client,
            (State::Relaying(relay), Side::Target) => &mut relay.target,
            (State::Severing(severing), side) => severing.endpoint(side),
            (State::Closing(closing), Side::Client) => &mut closing.peer,
            _ => return None,
        })
    }

    /// Does what can be done now.
    fn advance(&mut self, cx: &mut Context<impl Net<Socket = S>>) -> Turn {
        loop {
            match &mut self.state {
                State::Negotiating(handshake) => match handshake.advance(cx, &mut self.outbox) {
                    Heard::Nothing => return self.wait(cx.now, !self.outbox.is_empty()),
                    Heard::Request(request) => self.meet(cx, request),
                    Heard::Refused(outcome) => self.dismiss(cx, outcome),
                    Heard::Over(outcome) => return Turn::End(outcome),
                },
                State::Resolving(pending, _) => {
                    if pending.is_gone(&mut self.outbox, &mut cx.buffers) {
                        return Turn::End(Outcome::ClientGone);
                    }
                    return self.wait(cx.now, !self.outbox.is_empty());
                }
                State::Connecting(connecting) => {
                    if connecting.pending.is_gone(&mut self.outbox, &mut cx.buffers) {
                        return Turn::End(Outcome::ClientGone);
                    }
                    match connecting.advance(cx, self.client.slot()) {
                        Attempted::Waiting(token) => {
                            self.other = Some(token);
                            return self.wait(cx.now, !self.outbox.is_empty());
                        }
                        Attempted::Connected { target, bnd } => self.grant(cx, target, bnd),
                        Attempted::Failed(refusal) => self.give_up(cx, refusal),
                    }
                }
                State::Relaying(relay) => {
                    match relay.advance(&mut cx.buffers, &mut self.outbox, cx.now) {
                        Relayed::Pumped(pumped) => return self.pumped(cx, pumped),
                        Relayed::Unacknowledged => return self.poll_acknowledgement(cx.now),
                        Relayed::Reset(side) => self.sever(cx, side),
                        Relayed::Unheard(side, outcome) => self.linger(cx, side, outcome),
                        Relayed::Over(outcome) => return Turn::End(outcome),
                    }
                }
                State::Severing(severing) => match severing.advance(&mut cx.buffers, cx.now) {
                    Severed::Pumped(Pumped::Yielded) => return Turn::Yield,
                    Severed::Pumped(Pumped::Starved) => return Turn::Starve,
                    Severed::Pumped(Pumped::Blocked) => return self.poll_acknowledgement(cx.now),
                    Severed::Over => return self.sever_sink(),
                },
                State::Closing(closing) => {
                    if closing.advance(&mut self.outbox) {
                        return Turn::End(closing.outcome);
                    }
                    return self.wait(cx.now, !self.outbox.is_empty());
                }
                State::Over => return Turn::Wait,
            }
        }
    }

    /// A well-formed request: does what it asks, or says that we do not.
    fn meet(&mut self, cx: &mut Context<impl Net<Socket = S>>, request: Request) {
        let State::Negotiating(handshake) = mem::replace(&mut self.state, State::Over) else {
            unreachable!("only a negotiation ends in a request");
        };
        let pending = handshake.into_pending(&request);
        let port = request.target.port;
        match (request.command, request.target.host) {
            (Command::Connect, Host::Ip(ip)) => {
                self.connect(cx, pending, vec![SocketAddr::new(ip, port)]);
            }
            (Command::Connect, Host::Name(name)) => self.resolve(cx, pending, &name, port),
            (Command::Bind | Command::UdpAssociate, _) => {
                self.refuse(cx, pending, Refusal::CommandUnsupported);
            }
        }
    }

    fn resolve(
        &mut self,
        cx: &mut Context<impl Net<Socket = S>>,
        pending: Pending<S>,
        name: &Name,
        port: u16,
    ) {
        let token = cx.token(Role::Answer, self.client.slot());
        self.deadline = cx.after(cx.terms.timeout.resolve);
        match cx.net.resolve(name, token, self.deadline) {
            Ok(()) => {
                self.other = Some(token);
                self.state = State::Resolving(pending, port);
            }
            Err(refusal) => self.refuse(cx, pending, refusal),
        }
    }

    fn connect(
        &mut self,
        cx: &mut Context<impl Net<Socket = S>>,
        pending: Pending<S>,
        addresses: Vec<SocketAddr>,
    ) {
        self.deadline = cx.after(cx.terms.timeout.connect);
        self.state = State::Connecting(Connecting::new(pending, addresses));
    }

    /// The target has answered: says so and opens the lanes.
    fn grant(
        &mut self,
        cx: &mut Context<impl Net<Socket = S>>,
        target: Endpoint<S>,
        bnd: SocketAddr,
    ) {
        let State::Connecting(connecting) = mem::replace(&mut self.state, State::Over) else {
            unreachable!("only a connection that is being made is granted");
        };
        let Pending { client, early, dialect } = connecting.pending;
        self.outbox.push(Reply::Granted { dialect, bnd }.encode().as_slice());
        let up = Lane::with_early(early, cx.now);
        self.state = State::Relaying(Relay::new(client, target, up, cx.now));
        self.deadline = None;
    }

    /// No target for a client that waits for one.
    fn give_up(&mut self, cx: &mut Context<impl Net<Socket = S>>, refusal: Refusal) {
        match mem::replace(&mut self.state, State::Over) {
            State::Resolving(pending, _) => self.refuse(cx, pending, refusal),
            State::Connecting(connecting) => {
                let refusal = connecting.refusal(refusal);
                self.refuse(cx, connecting.pending, refusal);
            }
            _ => unreachable!("only a pending request is given up"),
        }
    }

    fn refuse(
        &mut self,
        cx: &mut Context<impl Net<Socket = S>>,
        mut pending: Pending<S>,
        refusal: Refusal,
    ) {
        let reply = Reply::Refused { dialect: pending.dialect, refusal };
        self.outbox.push(reply.encode().as_slice());
        pending.release(&mut cx.buffers);
        self.see_off(cx, pending.client, Outcome::Refused(refusal));
    }

    /// A client that is refused during its handshake; the answer is in the outbox.
    fn dismiss(&mut self, cx: &mut Context<impl Net<Socket = S>>, outcome: Outcome) {
        let State::Negotiating(handshake) = mem::replace(&mut self.state, State::Over) else {
            unreachable!("only a negotiation is dismissed");
        };
        let client = handshake.into_client(&mut cx.buffers);
        self.see_off(cx, client, outcome);
    }

    /// One side goes on sending to a side that is no more.
    fn linger(&mut self, cx: &mut Context<impl Net<Socket = S>>, side: Side, outcome: Outcome) {
        let State::Relaying(mut relay) = mem::replace(&mut self.state, State::Over) else {
            unreachable!("only a relay has two sides");
        };
        relay.release(&mut cx.buffers);
        self.traffic = relay.traffic();
        let peer = match side {
            Side::Client => relay.client,
            Side::Target => {
                // From here on the target's events are those of the peer that is seen off.
                self.client = self.other.unwrap_or(self.client);
                relay.target
            }
        };
        self.see_off(cx, peer, outcome);
    }

    fn see_off(
        &mut self,
        cx: &mut Context<impl Net<Socket = S>>,
        peer: Endpoint<S>,
        outcome: Outcome,
    ) {
        self.other = None;
        let limit = cx.terms.timeout.closing.map_or(CLOSING_MAX, |it| it.min(CLOSING_MAX));
        self.deadline = cx.after(Some(limit));
        self.state = State::Closing(Closing::new(peer, outcome));
    }

    /// One side was reset: what it had sent goes to the other, then the reset does.
    fn sever(&mut self, cx: &mut Context<impl Net<Socket = S>>, side: Side) {
        let State::Relaying(relay) = mem::replace(&mut self.state, State::Over) else {
            unreachable!("only a relay has two sides");
        };
        self.deadline = cx.after(Some(SEVERING));
        self.state = State::Severing(Severing::new(relay, side, &mut cx.buffers));
    }

    fn sever_sink(&mut self) -> Turn {
        let State::Severing(severing) = &mut self.state else {
            unreachable!("only a reset on its way arrives");
        };
        severing.sink.reset_on_close();
        Turn::End(severing.outcome())
    }

    /// The state's deadline has come. `None`: things moved meanwhile, the deadline is a later one.
    fn expire(&mut self, cx: &mut Context<impl Net<Socket = S>>) -> Option<Turn> {
        match &mut self.state {
            State::Negotiating(_) => Some(Turn::End(Outcome::HandshakeTimeout)),
            State::Resolving(..) => {
                self.give_up(cx, Refusal::HostUnreachable);
                Some(self.advance(cx))
            }
            State::Connecting(_) => {
                self.give_up(cx, Refusal::TimedOut);
                Some(self.advance(cx))
            }
            State::Relaying(relay) => {
                let outcome = if !self.outbox.is_empty() {
                    Outcome::HandshakeTimeout
                } else if relay.is_half_closed() {
                    Outcome::HalfClosedTimeout
                } else {
                    Outcome::IdleTimeout
                };
                self.deadline = self.relay_deadline(cx);
                if self.deadline.is_none_or(|at| at > cx.now) {
                    return None;
                }
                self.abort();
                Some(Turn::End(outcome))
            }
            State::Severing(_) => Some(self.sever_sink()),
            State::Closing(closing) => Some(Turn::End(closing.outcome)),
            State::Over => Some(Turn::Wait),
        }
    }

    /// When a relay in which nothing more moves ends.
    fn relay_deadline(&self, cx: &Context<impl Net<Socket = S>>) -> Option<Instant> {
        let State::Relaying(relay) = &self.state else { return self.deadline };
        let timeout = if !self.outbox.is_empty() {
            cx.terms.timeout.handshake
        } else if relay.is_half_closed() {
            cx.terms.timeout.half_closed
        } else {
            cx.terms.timeout.idle
        };
        relay.active_at().checked_add(timeout?)
    }

    fn pumped(&mut self, cx: &Context<impl Net<Socket = S>>, pumped: Pumped) -> Turn {
        // The deadline is brought forward at once, but put back only when it comes: moving a byte
        // touches no timer.
        self.deadline = earlier(self.deadline, self.relay_deadline(cx));
        match pumped {
            Pumped::Yielded => Turn::Yield,
            Pumped::Starved => Turn::Starve,
            Pumped::Blocked => {
                let State::Relaying(relay) = &self.state else { return Turn::Wait };
                self.wait(cx.now, relay.needs_another_look() || !self.outbox.is_empty())
            }
        }
    }

    fn wait(&mut self, now: Instant, look_again: bool) -> Turn {
        if look_again && self.look_again_at.is_none() {
            self.look_again_at = now.checked_add(LOOK_AGAIN);
        }
        Turn::Wait
    }

    fn poll_acknowledgement(&mut self, now: Instant) -> Turn {
        self.look_again_at = now.checked_add(ACKNOWLEDGEMENT_POLL);
        Turn::Wait
    }

    fn look_again(&mut self) {
        match &mut self.state {
            State::Negotiating(handshake) => handshake.client().look_again(),
            State::Resolving(pending, _) => pending.client.look_again(),
            State::Connecting(connecting) => connecting.pending.client.look_again(),
            State::Relaying(relay) => {
                relay.client.look_again();
                relay.target.look_again();
            }
            State::Severing(severing) => {
                severing.endpoint(Side::Client).look_again();
                severing.endpoint(Side::Target).look_again();
            }
            State::Closing(closing) => closing.peer.look_again(),
            State::Over => {}
        }
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
