//! One client's life: its states, their deadlines, and every transition between them.
//!
//! A [`Session`] is told facts (`handle_*`: an event, an answer, a deadline) and says what it needs
//! next ([`Turn`], [`wake_at`](Session::wake_at)). It reaches the world through [`Net`] and
//! [`Socket`] only, so that the simulator drives the code the reactor drives.
//!
//! The leaf modules own one state each and report what happened; what comes of it is decided here:
//!
//! ```text
//!   Securing
//!    ▲    ▼
//! Negotiating ─▶ Resolving ─▶ Connecting ┬▶ Relaying ─▶ Severing
//!      │             └──────▶ Accepting  ┘      │           │
//!      ├─▶ Associated ─────────────┐            │           │
//!      └──▶ Closing ◀── all above ─┴──▶ over ◀──┴───────────┘
//! ```

pub mod associate;
pub mod negotiation;

mod accepting;
mod closing;
mod connecting;
mod context;
mod handshake;
mod journal;
mod logging_in;
mod outbox;
mod pending;
mod relaying;
mod requests;
mod securing;

use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use self::accepting::{Accepted, Accepting};
use self::associate::Associated;
use self::closing::Closing;
use self::connecting::{Attempted, Connecting};
use self::context::Visitor;
pub use self::context::{Context, Net, Sealing, Terms};
use self::handshake::{Handshake, Heard};
use self::journal::Journal;
use self::negotiation::Phase;
use self::outbox::Outbox;
use self::pending::Pending;
use self::relaying::{Relay, Relayed, Severed, Severing, Side};
use self::securing::{Secured, Securing};
use crate::access::Record;
use crate::auth::Done;
use crate::dns::Answer;
use crate::metrics::{Stage, Traffic};
use crate::outcome::{Outcome, Refusal};
use crate::proto::Reply;
use crate::relay::{Endpoint, Lane, Pumped, Readiness, Socket};
use crate::timers::earlier;
use crate::token::{Role, Token};

/// How long a reset may wait for what came before it to be delivered.
const SEVERING: Duration = Duration::from_secs(1);
/// How often at most to ask whether a peer has acknowledged everything: no edge tells.
const ACKNOWLEDGEMENT_POLL: Duration = Duration::from_millis(20);
/// How often to try again what the kernel, short of memory, may have refused without a later edge.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often to ask again what too many others ask.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// RFC 1928 section 6: a refused client is gone 10 seconds after the failure was found.
const CLOSING_MAX: Duration = Duration::from_secs(10);

/// What a session needs after it was told something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// News, or [`wake_at`](Session::wake_at).
    Wait,
    /// Another turn, after the others have had theirs.
    Yield,
    /// Nothing: it is over.
    End(Outcome),
}

/// One client's session.
pub struct Session<N: Net> {
    state: State<N>,
    client: Token,
    /// What the state waits for besides the client: its target's events, its resolver's answer or a
    /// verdict.
    other: Option<Token>,
    outbox: Outbox,
    deadline: Option<Instant>,
    look_again_at: Option<Instant>,
    traffic: Traffic,
    journal: Journal,
    /// Which of the listeners its client came to.
    listener: u16,
}

enum State<N: Net> {
    Negotiating(Handshake<N::Socket>),
    Securing(Box<Securing<N::Socket>>),
    Resolving(Pending<N::Socket>, Purpose),
    Connecting(Connecting<N::Socket>),
    Accepting(Box<Accepting<N>>),
    Associated(Box<Associated<N>>),
    Relaying(Relay<N::Socket>),
    Severing(Severing<N::Socket>),
    Closing(Closing<N::Socket>),
    /// It is being moved from one state to another.
    Between,
}

/// What a name's addresses are for.
enum Purpose {
    /// To be connected to, at this port.
    Connect(u16),
    /// To be waited for (BIND).
    Bind {
        /// Where from, which nobody can know.
        port: u16,
        /// Those that are known so far.
        found: Vec<IpAddr>,
    },
}

impl<N: Net> Session<N> {
    /// A session with a client that has just been accepted; `client` is what its events come under,
    /// `record` says where it comes from, and `listener` where its targets are listed.
    pub fn new(
        socket: N::Socket,
        client: Token,
        record: Record,
        listener: u16,
        cx: &Context<N>,
    ) -> Session<N> {
        Session {
            state: State::Negotiating(Handshake::new(socket)),
            client,
            other: None,
            outbox: Outbox::new(),
            deadline: cx.after(cx.terms.timeout.handshake),
            look_again_at: None,
            traffic: Traffic::default(),
            journal: Journal::new(record, cx.now),
            listener,
        }
    }

    /// The poll reported something under `token`.
    pub fn handle_event(
        &mut self,
        cx: &mut Context<N>,
        token: Token,
        readiness: Readiness,
    ) -> Turn {
        match &mut self.state {
            State::Accepting(accepting) if token != self.client => {
                accepting.handle_readiness(token);
            }
            State::Associated(associated) if token != self.client => {
                associated.handle_readiness(token, readiness);
            }
            _ => match self.endpoint(token) {
                Some(endpoint) => endpoint.handle_readiness(readiness),
                None => return Turn::Wait,
            },
        }
        self.advance(cx)
    }

    /// The resolver has answered the question asked under `token`.
    pub fn handle_answer(&mut self, cx: &mut Context<N>, token: Token, answer: Answer) -> Turn {
        let visitor = self.visitor();
        if let State::Associated(associated) = &mut self.state {
            associated.handle_answer(cx, visitor, token, &answer);
            return self.advance(cx);
        }
        if self.other != Some(token) {
            return Turn::Wait;
        }
        if answer.is_last() {
            self.other = None;
        }
        self.state = match mem::replace(&mut self.state, State::Between) {
            State::Resolving(pending, purpose) => self.resolved(cx, pending, purpose, answer),
            State::Accepting(mut accepting) => {
                if let Answer::Addresses { addresses, .. } = answer {
                    accepting.expected.extend(self.permitted(cx, addresses, 0));
                }
                State::Accepting(accepting)
            }
            State::Connecting(mut connecting) => {
                if let Answer::Addresses { addresses, more } = answer {
                    connecting.extend(addresses, more);
                }
                State::Connecting(connecting)
            }
            state => state,
        };
        self.advance(cx)
    }

    /// What was asked about its client under `token` is known. It is taken unless nobody waits for it
    /// any more.
    pub fn handle_done(
        &mut self,
        cx: &mut Context<N>,
        token: Token,
        done: &mut Option<Done>,
    ) -> Turn {
        if self.other.take_if(|other| *other == token).is_none() {
            return Turn::Wait;
        }
        let visitor = self.visitor();
        match (&mut self.state, done.take()) {
            (State::Negotiating(handshake), Some(Done::Password { checked, .. })) => {
                handshake.handle_checked(checked);
            }
            (State::Securing(securing), Some(Done::Token(stepped))) => {
                securing.handle_stepped(cx, visitor, stepped);
            }
            (_, left) => *done = left,
        }
        self.advance(cx)
    }

    /// [`wake_at`](Self::wake_at) has come.
    pub fn handle_deadline(&mut self, cx: &mut Context<N>) -> Turn {
        let now = cx.now;
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.deadline)
            && let Some(outcome) = self.expire(cx)
        {
            return Turn::End(outcome);
        }
        if due(self.look_again_at) {
            self.look_again_at = None;
            self.look_again();
            if self.outstays(cx) {
                self.abort();
                return Turn::End(Outcome::IdleTimeout);
            }
        }
        self.advance(cx)
    }

    /// It may go on: it had yielded.
    pub fn handle_turn(&mut self, cx: &mut Context<N>) -> Turn {
        self.advance(cx)
    }

    /// Makes both sides see a reset when it is dropped: it ends because we say so.
    pub fn abort(&mut self) {
        match &mut self.state {
            State::Relaying(relay) => relay.reset_on_close(),
            State::Severing(severing) => severing.sink.reset_on_close(),
            State::Negotiating(handshake) => handshake.client().reset_on_close(),
            State::Securing(securing) => securing.client().reset_on_close(),
            State::Resolving(pending, _) => pending.client.reset_on_close(),
            State::Connecting(connecting) => connecting.pending.client.reset_on_close(),
            State::Accepting(accepting) => accepting.pending.client.reset_on_close(),
            State::Associated(associated) => associated.control.reset_on_close(),
            State::Closing(_) | State::Between => {}
        }
    }

    /// Closes it, gives back what it holds, and says what there is to tell of it.
    pub fn close(mut self, cx: &mut Context<N>) -> Record {
        self.forget_question(cx);
        let buffers = &mut cx.buffers;
        match &mut self.state {
            State::Negotiating(handshake) => handshake.release(buffers),
            State::Securing(securing) => securing.release(buffers),
            State::Resolving(pending, _) => pending.release(buffers),
            State::Connecting(connecting) => connecting.pending.release(buffers),
            State::Accepting(accepting) => accepting.pending.release(buffers),
            State::Associated(associated) => {
                let datagrams = associated.release(cx);
                self.traffic = datagrams.bytes;
                self.journal.relayed(datagrams);
            }
            State::Relaying(relay) => {
                relay.release(buffers);
                self.traffic = relay.traffic();
            }
            State::Severing(severing) => {
                severing.release(buffers);
                self.traffic = severing.traffic();
            }
            State::Closing(closing) => closing.peer.release(buffers),
            State::Between => {}
        }
        self.journal.finish(self.traffic, cx.now)
    }

    /// When it wants [`handle_deadline`](Self::handle_deadline), if nothing happens before.
    pub fn wake_at(&self) -> Option<Instant> {
        earlier(self.deadline, self.look_again_at)
    }

    /// What it is doing.
    pub fn stage(&self) -> Stage {
        match &self.state {
            State::Negotiating(handshake) => match handshake.phase() {
                Phase::Greeting => Stage::Greeting,
                Phase::Authenticating => Stage::Authenticating,
                Phase::Requesting => Stage::Requesting,
            },
            State::Securing(_) => Stage::Authenticating,
            State::Resolving(..) => Stage::Resolving,
            State::Connecting(_) => Stage::Connecting,
            State::Accepting(_) => Stage::Accepting,
            State::Associated(_) => Stage::Associated,
            State::Relaying(_) => Stage::Relaying,
            State::Severing(_) => Stage::Severing,
            State::Closing(_) | State::Between => Stage::Closing,
        }
    }

    /// Whether its client has not finished asking.
    pub fn is_negotiating(&self) -> bool {
        matches!(self.state, State::Negotiating(_) | State::Securing(_))
    }

    /// The token of its client.
    pub fn client_token(&self) -> Token {
        self.client
    }

    fn endpoint(&mut self, token: Token) -> Option<&mut Endpoint<N::Socket>> {
        let side = if token == self.client { Side::Client } else { Side::Target };
        match (&mut self.state, side) {
            (State::Negotiating(handshake), Side::Client) => Some(handshake.client()),
            (State::Securing(securing), Side::Client) => Some(securing.client()),
            (State::Resolving(pending, _), Side::Client) => Some(&mut pending.client),
            (State::Connecting(connecting), Side::Client) => Some(&mut connecting.pending.client),
            (State::Accepting(accepting), Side::Client) => Some(&mut accepting.pending.client),
            (State::Associated(associated), Side::Client) => Some(&mut associated.control),
            (State::Connecting(connecting), Side::Target) => connecting.attempted(token),
            (_, Side::Target) if self.other != Some(token) => None,
            (State::Relaying(relay), Side::Client) => Some(&mut relay.client),
            (State::Relaying(relay), Side::Target) => Some(&mut relay.target),
            (State::Severing(severing), side) => Some(severing.endpoint(side)),
            (State::Closing(closing), side) if closing.side == side => Some(&mut closing.peer),
            _ => None,
        }
    }

    /// Does what can be done now.
    fn advance(&mut self, cx: &mut Context<N>) -> Turn {
        loop {
            let turn = match self.state {
                State::Relaying(_) => self.relay(cx),
                _ => self.step(cx),
            };
            if let Some(turn) = turn {
                return turn;
            }
        }
    }

    /// A turn of any other state, where it stands; none if it has become another, which may have
    /// something to do already. Most turns are a relay's: they need not carry what these need.
    #[inline(never)]
    fn step(&mut self, cx: &mut Context<N>) -> Option<Turn> {
        match self.state {
            State::Negotiating(_) => self.negotiate(cx),
            State::Securing(_) => self.secure(cx),
            State::Resolving(..) => self.await_answer(cx),
            State::Connecting(_) => self.await_target(cx),
            State::Accepting(_) => self.await_peer(cx),
            State::Associated(_) => self.relay_datagrams(cx),
            State::Relaying(_) => self.relay(cx),
            State::Severing(_) => self.pass_on_reset(cx),
            State::Closing(_) => self.await_end(cx),
            State::Between => Some(Turn::Wait),
        }
    }

    fn negotiate(&mut self, cx: &mut Context<N>) -> Option<Turn> {
        let visitor = self.visitor();
        let State::Negotiating(handshake) = &mut self.state else { return None };
        let heard = handshake.advance(cx, visitor, self.deadline, &mut self.outbox);
        note_progress(&mut self.journal, handshake, &heard, cx.now);
        let is_starved = handshake.client().is_starved();
        match heard {
            Heard::Nothing => return Some(self.wait(cx.now, is_starved)),
            Heard::Asked(token) => {
                self.other = Some(token);
                return Some(self.wait(cx.now, is_starved));
            }
            Heard::Later => return Some(self.ask_again(cx.now)),
            Heard::Over(outcome) => return Some(Turn::End(outcome)),
            Heard::Establish => {
                let securing = self.take_handshake()?.into_securing();
                self.state = State::Securing(securing.into());
            }
            Heard::Refused(outcome) => {
                if let Outcome::Refused(refusal) = outcome {
                    self.journal.refused(refusal, cx.now);
                }
                let client = self.take_handshake()?.into_client(&mut cx.buffers);
                self.state = self.see_off(cx, client, Side::Client, outcome);
            }
            Heard::Request(request) => {
                let pending = self.take_handshake()?.into_pending(&request);
                self.state = self.meet(cx, pending, request);
            }
        }
        None
    }

    fn secure(&mut self, cx: &mut Context<N>) -> Option<Turn> {
        let visitor = self.visitor();
        let State::Securing(securing) = &mut self.state else { return None };
        let secured = securing.advance(cx, visitor, self.deadline, &mut self.outbox);
        if !matches!(secured, Secured::Nothing | Secured::Asked(_) | Secured::Later)
            && let Some(user) = securing.take_user()
        {
            self.journal.named(user);
        }
        let (is_speaking, is_starved) = (securing.is_speaking(), securing.client().is_starved());
        match secured {
            Secured::Nothing if is_speaking => return Some(self.wait_and_look_again(cx.now)),
            Secured::Nothing => return Some(self.wait(cx.now, is_starved)),
            Secured::Asked(token) => {
                self.other = Some(token);
                return Some(self.wait(cx.now, is_starved));
            }
            Secured::Later => return Some(self.ask_again(cx.now)),
            Secured::Over(outcome) => return Some(Turn::End(outcome)),
            Secured::Agreed => {
                self.state = State::Negotiating(self.take_securing()?.into_handshake());
            }
            Secured::Refused => {
                let client = self.take_securing()?.into_client(&mut cx.buffers);
                self.state = self.see_off(cx, client, Side::Client, Outcome::BadLogin);
            }
        }
        None
    }

    fn await_answer(&mut self, cx: &mut Context<N>) -> Option<Turn> {
        let State::Resolving(pending, _) = &mut self.state else { return None };
        if pending.is_gone(&mut self.outbox, &mut cx.buffers) {
            return Some(Turn::End(gone(&pending.client)));
        }
        let is_starved = pending.client.is_starved();
        Some(self.wait(cx.now, is_starved))
    }

    fn await_target(&mut self, cx: &mut Context<N>) -> Option<Turn> {
        let visitor = self.visitor();
        let State::Connecting(connecting) = &mut self.state else { return None };
        let pending = &mut connecting.pending;
        if pending.is_gone(&mut self.outbox, &mut cx.buffers) {
            return Some(Turn::End(gone(&pending.client)));
        }
        let is_starved = pending.client.is_starved();
        match connecting.advance(cx, visitor) {
            Attempted::Waiting(next_at) => {
                let turn = self.wait(cx.now, is_starved);
                self.look_again_at = earlier(self.look_again_at, next_at);
                return Some(turn);
            }
            Attempted::Connected { target, address, token, bnd } => {
                self.forget_question(cx);
                self.other = Some(token);
                self.journal.granted(address, bnd, cx.now);
                let pending = self.take_pending()?;
                self.state = self.grant(cx, pending, target, bnd);
            }
            Attempted::Failed(refusal) => {
                let pending = self.take_pending()?;
                self.state = self.refuse(cx, pending, refusal);
            }
        }
        None
    }

    fn await_peer(&mut self, cx: &mut Context<N>) -> Option<Turn> {
        let visitor = self.visitor();
        let State::Accepting(accepting) = &mut self.state else { return None };
        let pending = &mut accepting.pending;
        if pending.is_gone(&mut self.outbox, &mut cx.buffers) {
            return Some(Turn::End(gone(&pending.client)));
        }
        let is_starved = pending.client.is_starved();
        match accepting.advance(cx, visitor) {
            Accepted::Nobody => return Some(self.wait(cx.now, is_starved)),
            Accepted::Starved => return Some(self.wait_and_look_again(cx.now)),
            Accepted::Yielded => return Some(Turn::Yield),
            Accepted::Peer { peer, address, token, local } => {
                self.forget_question(cx);
                self.other = Some(token);
                self.journal.granted(address, local, cx.now);
                let pending = self.take_pending()?;
                self.state = self.grant(cx, pending, peer, address);
            }
        }
        None
    }

    fn relay_datagrams(&mut self, cx: &mut Context<N>) -> Option<Turn> {
        let visitor = self.visitor();
        let State::Associated(associated) = &mut self.state else { return None };
        let relayed = associated.advance(cx, visitor, &mut self.outbox);
        let replied = self.outbox.is_empty();
        let end = associated.expires_at((&cx.terms.udp, &cx.terms.timeout), replied);
        self.deadline = earlier(self.deadline, end);
        Some(match relayed {
            associate::Relayed::Over(outcome) => Turn::End(outcome),
            associate::Relayed::Yielded => Turn::Yield,
            associate::Relayed::All if replied => Turn::Wait,
            associate::Relayed::All | associate::Relayed::Starved => {
                self.wait_and_look_again(cx.now)
            }
        })
    }

    fn relay(&mut self, cx: &mut Context<N>) -> Option<Turn> {
        let State::Relaying(relay) = &mut self.state else { return None };
        let relayed = relay.advance(&mut cx.buffers, &mut self.outbox, cx.now);
        let replied = self.outbox.is_empty();
        let looks_again = !replied || relay.needs_another_look();
        let active_at = relay.active_at();
        // The deadline is brought forward at once, but put back only when it comes: moving a byte
        // touches no timer.
        let end = relay.expires_at(&cx.terms.timeout, replied);
        let deadline = earlier(end, relay.keep_alive_at());
        self.deadline = earlier(self.deadline, deadline);
        match relayed {
            Relayed::Reset(side) => {
                let relay = self.take_relay()?;
                self.state = self.sever(cx, relay, side);
                None
            }
            Relayed::Unheard(side, outcome) => {
                let relay = self.take_relay()?;
                self.state = self.linger(cx, relay, side, outcome);
                None
            }
            Relayed::Over(outcome) => Some(Turn::End(outcome)),
            Relayed::Unacknowledged => Some(self.poll_acknowledgement(cx.now, active_at)),
            Relayed::Pumped(Pumped::Yielded) => Some(Turn::Yield),
            Relayed::Pumped(Pumped::Blocked) if looks_again => {
                Some(self.wait_and_look_again(cx.now))
            }
            Relayed::Pumped(Pumped::Blocked) => Some(Turn::Wait),
        }
    }

    fn pass_on_reset(&mut self, cx: &mut Context<N>) -> Option<Turn> {
        let State::Severing(severing) = &mut self.state else { return None };
        Some(match severing.advance(&mut cx.buffers) {
            Severed::Over => Turn::End(severing.outcome()),
            Severed::Pumped(Pumped::Yielded) => Turn::Yield,
            Severed::Pumped(Pumped::Blocked) => self.poll_acknowledgement(cx.now, cx.now),
        })
    }

    fn await_end(&mut self, cx: &mut Context<N>) -> Option<Turn> {
        let State::Closing(closing) = &mut self.state else { return None };
        if closing.advance(&mut self.outbox, &mut cx.buffers) {
            return Some(Turn::End(closing.outcome));
        }
        let is_starved = closing.peer.is_starved();
        Some(self.wait(cx.now, is_starved))
    }

    fn take_handshake(&mut self) -> Option<Handshake<N::Socket>> {
        match mem::replace(&mut self.state, State::Between) {
            State::Negotiating(handshake) => Some(handshake),
            _ => None,
        }
    }

    fn take_securing(&mut self) -> Option<Box<Securing<N::Socket>>> {
        match mem::replace(&mut self.state, State::Between) {
            State::Securing(securing) => Some(securing),
            _ => None,
        }
    }

    fn take_pending(&mut self) -> Option<Pending<N::Socket>> {
        match mem::replace(&mut self.state, State::Between) {
            State::Resolving(pending, _) => Some(pending),
            State::Connecting(connecting) => Some(connecting.pending),
            State::Accepting(accepting) => Some(accepting.pending),
            _ => None,
        }
    }

    fn take_relay(&mut self) -> Option<Relay<N::Socket>> {
        match mem::replace(&mut self.state, State::Between) {
            State::Relaying(relay) => Some(relay),
            _ => None,
        }
    }

    /// What a name means is of no more interest.
    fn forget_question(&mut self, cx: &mut Context<N>) {
        let question = self.other.take_if(|token| token.role() == Some(Role::Answer));
        if let Some(token) = question {
            cx.net.forget(token);
        }
    }

    /// The target has answered: says so and opens the lanes.
    fn grant(
        &mut self,
        cx: &Context<N>,
        pending: Pending<N::Socket>,
        target: Endpoint<N::Socket>,
        bnd: SocketAddr,
    ) -> State<N> {
        let Pending { client, early, dialect } = pending;
        self.outbox.push(Reply::Granted { dialect, bnd }.encode().as_slice());
        self.deadline = None;
        State::Relaying(Relay::new(client, target, Lane::new(early), cx.now))
    }

    fn refuse(
        &mut self,
        cx: &mut Context<N>,
        mut pending: Pending<N::Socket>,
        refusal: Refusal,
    ) -> State<N> {
        self.forget_question(cx);
        self.journal.refused(refusal, cx.now);
        let reply = Reply::Refused { dialect: pending.dialect, refusal };
        self.outbox.push(reply.encode().as_slice());
        pending.forget_early(&mut cx.buffers);
        self.see_off(cx, pending.client, Side::Client, Outcome::Refused(refusal))
    }

    /// One side goes on sending to a side that is no more.
    fn linger(
        &mut self,
        cx: &mut Context<N>,
        mut relay: Relay<N::Socket>,
        side: Side,
        outcome: Outcome,
    ) -> State<N> {
        relay.release(&mut cx.buffers);
        self.traffic = relay.traffic();
        let peer = match side {
            Side::Client => relay.client,
            Side::Target => relay.target,
        };
        self.see_off(cx, peer, side, outcome)
    }

    fn see_off(
        &mut self,
        cx: &mut Context<N>,
        mut peer: Endpoint<N::Socket>,
        side: Side,
        outcome: Outcome,
    ) -> State<N> {
        peer.forget_received(&mut cx.buffers);
        let limit = cx.terms.timeout.closing.map_or(CLOSING_MAX, |it| it.min(CLOSING_MAX));
        self.deadline = cx.after(Some(limit));
        State::Closing(Closing::new(peer, side, outcome))
    }

    /// One side was reset: what it had sent goes to the other, then the reset does.
    fn sever(&mut self, cx: &mut Context<N>, relay: Relay<N::Socket>, side: Side) -> State<N> {
        self.deadline = cx.after(Some(SEVERING));
        State::Severing(Severing::new(relay, side, &mut cx.buffers))
    }

    /// The state's deadline has come. `None`: it goes on, in another state or to a later deadline.
    fn expire(&mut self, cx: &mut Context<N>) -> Option<Outcome> {
        let (state, outcome) = match mem::replace(&mut self.state, State::Between) {
            // It was to have more addresses: these will do.
            State::Resolving(pending, Purpose::Bind { found, .. }) if !found.is_empty() => {
                self.forget_question(cx);
                (self.listen_for(cx, pending, found), None)
            }
            State::Resolving(pending, _) => {
                (self.refuse(cx, pending, Refusal::HostUnreachable), None)
            }
            State::Connecting(connecting) => {
                let refusal = connecting.refusal(Refusal::TimedOut);
                (self.refuse(cx, connecting.pending, refusal), None)
            }
            State::Accepting(accepting) => {
                (self.refuse(cx, accepting.pending, Refusal::TimedOut), None)
            }
            State::Associated(mut associated) => {
                let replied = self.outbox.is_empty();
                let outcome = associated.expire(cx, replied);
                self.deadline = associated.expires_at((&cx.terms.udp, &cx.terms.timeout), replied);
                if outcome.is_some() {
                    associated.control.reset_on_close();
                }
                (State::Associated(associated), outcome)
            }
            State::Relaying(mut relay) => {
                relay.keep_alive(cx.now);
                let replied = self.outbox.is_empty();
                let outcome = relay.expires_as(replied);
                let end = relay.expires_at(&cx.terms.timeout, replied);
                self.deadline = earlier(end, relay.keep_alive_at());
                let over = end.is_some_and(|at| at <= cx.now);
                if over {
                    relay.reset_on_close();
                }
                (State::Relaying(relay), over.then_some(outcome))
            }
            State::Severing(mut severing) => {
                let outcome = severing.outcome();
                severing.sink.reset_on_close();
                (State::Severing(severing), Some(outcome))
            }
            State::Closing(closing) => {
                let outcome = closing.outcome;
                (State::Closing(closing), Some(outcome))
            }
            state @ (State::Negotiating(_) | State::Securing(_) | State::Between) => {
                (state, Some(Outcome::HandshakeTimeout))
            }
        };
        self.state = state;
        outcome
    }

    fn visitor(&self) -> Visitor {
        let (slot, client) = (self.client.slot(), self.journal.client());
        Visitor { slot, listener: self.listener.into(), client }
    }

    /// Waits for its peer, which may be starved.
    fn wait(&mut self, now: Instant, is_starved: bool) -> Turn {
        if self.outbox.is_empty() && !is_starved {
            return Turn::Wait;
        }
        self.wait_and_look_again(now)
    }

    /// Asks again soon what too many others ask.
    fn ask_again(&mut self, now: Instant) -> Turn {
        self.look_again_at = now.checked_add(ASK_AGAIN);
        Turn::Wait
    }

    fn wait_and_look_again(&mut self, now: Instant) -> Turn {
        self.look_again_at = self.look_again_at.or_else(|| now.checked_add(LOOK_AGAIN));
        Turn::Wait
    }

    /// Asks again soon, or ever less often if nothing has moved since `active_at`.
    fn poll_acknowledgement(&mut self, now: Instant, active_at: Instant) -> Turn {
        let patience = now.saturating_duration_since(active_at) / 4;
        self.look_again_at = now.checked_add(patience.clamp(ACKNOWLEDGEMENT_POLL, LOOK_AGAIN));
        Turn::Wait
    }

    /// Whether its client keeps room that others wait for, and for too long.
    fn outstays(&mut self, cx: &mut Context<N>) -> bool {
        let client = self.endpoint(self.client);
        client.is_some_and(|client| client.outstays(cx.now, &mut cx.buffers))
    }

    fn look_again(&mut self) {
        match &mut self.state {
            State::Negotiating(handshake) => handshake.client().look_again(),
            State::Securing(securing) => securing.client().look_again(),
            State::Resolving(pending, _) => pending.client.look_again(),
            State::Connecting(connecting) => connecting.pending.client.look_again(),
            State::Accepting(accepting) => accepting.pending.client.look_again(),
            State::Associated(associated) => associated.look_again(),
            State::Relaying(relay) => {
                relay.client.look_again();
                relay.target.look_again();
            }
            State::Severing(severing) => {
                severing.endpoint(Side::Client).look_again();
                severing.endpoint(Side::Target).look_again();
            }
            State::Closing(closing) => closing.peer.look_again(),
            State::Between => {}
        }
    }
}

fn note_progress<S: Socket>(
    journal: &mut Journal,
    handshake: &mut Handshake<S>,
    heard: &Heard,
    now: Instant,
) {
    let phase = handshake.phase();
    if phase != Phase::Greeting || matches!(heard, Heard::Request(_) | Heard::Establish) {
        journal.greeted();
    }
    if let Some(uname) = handshake.take_uname() {
        journal.named(uname);
    }
    let is_over = matches!(heard, Heard::Request(_) | Heard::Refused(_) | Heard::Over(_));
    if phase == Phase::Requesting || is_over {
        journal.end_step(now);
    }
}

/// How a session ends whose client is no more.
fn gone<S: Socket>(client: &Endpoint<S>) -> Outcome {
    if client.is_forged() { Outcome::BadToken } else { Outcome::ClientGone }
}

fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}
