use std::time::Instant;

use crate::auth::Checked;
use crate::outcome::Outcome;
use crate::proto::gssapi::ABORT;
use crate::proto::{Dialect, Request};
use crate::relay::{Buffers, Endpoint, Received, Ring, Socket, Tokens};
use crate::session::context::Visitor;
use crate::session::logging_in::{Accepted, Asked};
use crate::session::negotiation::{Negotiation, Phase, Step};
use crate::session::outbox::Outbox;
use crate::session::securing::Securing;
use crate::session::{Context, Net, Pending};
use crate::token::Token;

/// A client that has not finished asking: its socket, and the bytes of an incomplete message.
pub(super) struct Handshake<S> {
    client: Endpoint<S>,
    negotiation: Negotiation,
    inbox: Option<Ring>,
    login: Login,
    /// Whom the client says it is, or is known as, until that is taken.
    uname: Option<Box<[u8]>>,
    /// Whether it has sent anything.
    heard: bool,
}

/// Whether the client's name and password are good.
#[derive(Clone, Copy)]
enum Login {
    /// It has not been asked, or that is settled.
    Idle,
    /// It is being asked; until then nothing more is taken.
    Asked(Asking),
    /// It has been answered.
    Answered(Asking, Checked),
}

/// A login that is asked about: its message is at the front of the inbox.
#[derive(Clone, Copy)]
struct Asking {
    /// How many bytes it took.
    consumed: u16,
    /// Of which snapshot of users it is asked.
    snapshot: u32,
}

/// What came of a turn of it.
pub(super) enum Heard {
    /// The client must say more, or something else must come first.
    Nothing,
    /// Whether its login is good will be told under this token.
    Asked(Token),
    /// Too many ask that: it is to be asked again in a while.
    Later,
    /// It wants to prove who it is by a security context.
    Establish,
    /// It has asked.
    Request(Request),
    /// It is refused; the answer is in the outbox.
    Refused(Outcome),
    /// There is nobody to answer, or nobody we would answer.
    Over(Outcome),
}

impl<S: Socket> Handshake<S> {
    pub(super) fn new(client: S) -> Handshake<S> {
        Handshake {
            client: Endpoint::new(client),
            negotiation: Negotiation::new(),
            inbox: None,
            login: Login::Idle,
            uname: None,
            heard: false,
        }
    }

    /// The handshake of a client that is known, and has sent `inbox` behind what proved that.
    pub(super) fn resume(client: Endpoint<S>, inbox: Option<Ring>) -> Handshake<S> {
        let negotiation = Negotiation::authenticated();
        Handshake { client, negotiation, inbox, login: Login::Idle, uname: None, heard: true }
    }

    pub(super) fn phase(&self) -> Phase {
        self.negotiation.phase()
    }

    /// The name that the client has given, or that it is known by; once.
    pub(super) fn take_uname(&mut self) -> Option<Box<[u8]>> {
        match self.login {
            Login::Idle => self.uname.take(),
            Login::Asked(_) | Login::Answered(..) => None,
        }
    }

    pub(super) fn client(&mut self) -> &mut Endpoint<S> {
        &mut self.client
    }

    /// What came of the login that was asked about.
    pub(super) fn handle_checked(&mut self, checked: Checked) {
        if let Login::Asked(asking) = self.login {
            self.login = Login::Answered(asking, checked);
        }
    }

    pub(super) fn advance(
        &mut self,
        cx: &mut Context<impl Net<Socket = S>>,
        visitor: Visitor,
        deadline: Option<Instant>,
        outbox: &mut Outbox,
    ) -> Heard {
        loop {
            if let Some(heard) = self.step(cx, visitor, deadline, outbox) {
                if let Heard::Nothing | Heard::Asked(_) | Heard::Later = heard {
                    outbox.flush(&mut self.client, &mut cx.buffers);
                }
                return heard;
            }
            match self.receive(&mut cx.buffers) {
                Received::Bytes(_) => self.heard = true,
                Received::Blocked => {
                    self.release_empty_inbox(&mut cx.buffers);
                    outbox.flush(&mut self.client, &mut cx.buffers);
                    return Heard::Nothing;
                }
                Received::End | Received::Reset if self.client.is_forged() => {
                    self.client.unseal(&mut cx.buffers);
                    outbox.push(&ABORT);
                    return Heard::Refused(Outcome::BadToken);
                }
                Received::End | Received::Reset => {
                    outbox.flush(&mut self.client, &mut cx.buffers);
                    return Heard::Over(if self.heard {
                        Outcome::ClientGone
                    } else {
                        Outcome::Empty
                    });
                }
            }
        }
    }

    /// Takes the messages that are complete in the inbox, until one ends the handshake or is to be
    /// waited for.
    fn step(
        &mut self,
        cx: &mut Context<impl Net<Socket = S>>,
        visitor: Visitor,
        deadline: Option<Instant>,
        outbox: &mut Outbox,
    ) -> Option<Heard> {
        loop {
            if let Some(heard) = self.settle(cx, visitor, outbox) {
                return Some(heard);
            }
            let inbox = self.inbox.as_mut()?;
            let accepted = match self.negotiation.phase() {
                Phase::Greeting => cx.accepted(visitor),
                Phase::Authenticating | Phase::Requesting => Accepted::new(),
            };
            match self.negotiation.step(inbox.bytes(), &accepted) {
                Step::More => return None,
                Step::Say { consumed, answer } => {
                    inbox.consume(consumed);
                    outbox.push(&answer);
                    self.recognize(cx, visitor);
                }
                Step::Verify { consumed, credentials } => {
                    let asked = cx.log_in(visitor, &credentials, deadline);
                    let uname = credentials.uname.into();
                    let asking = Asking { consumed: consumed as u16, snapshot: cx.snapshot };
                    if let Some(heard) = self.ask(asked, uname, asking) {
                        return Some(heard);
                    }
                }
                Step::Establish { consumed, answer } => {
                    inbox.consume(consumed);
                    outbox.push(&answer);
                    self.release_empty_inbox(&mut cx.buffers);
                    return Some(Heard::Establish);
                }
                Step::Request { consumed, request } => {
                    inbox.consume(consumed);
                    if request.dialect == Dialect::Socks4 {
                        self.recognize(cx, visitor);
                    }
                    self.release_empty_inbox(&mut cx.buffers);
                    return Some(Heard::Request(request));
                }
                Step::Refuse { answer, outcome } if answer.is_empty() => {
                    return Some(Heard::Over(outcome));
                }
                Step::Refuse { answer, outcome } => {
                    outbox.push(answer.as_slice());
                    return Some(Heard::Refused(outcome));
                }
            }
        }
    }

    /// Goes on with a login that has been answered. What is returned says that it has not, or that
    /// it is a bad one.
    fn settle(
        &mut self,
        cx: &mut Context<impl Net<Socket = S>>,
        visitor: Visitor,
        outbox: &mut Outbox,
    ) -> Option<Heard> {
        let (asking, checked) = match self.login {
            Login::Idle => return None,
            Login::Asked(_) if self.client.is_reset() => {
                return Some(Heard::Over(Outcome::ClientGone));
            }
            Login::Asked(_) => return Some(Heard::Nothing),
            Login::Answered(asking, checked) => (asking, checked),
        };
        self.login = Login::Idle;
        if asking.snapshot != cx.snapshot {
            // Users are others now: it is to be asked of them.
            return None;
        }
        if let Some(inbox) = &mut self.inbox {
            inbox.consume(asking.consumed.into());
        }
        let is_good = cx.judge_password(visitor, self.uname.as_deref(), checked);
        outbox.push(&self.negotiation.settle(is_good));
        (!is_good).then_some(Heard::Refused(Outcome::BadLogin))
    }

    /// A login of this name has been asked about, unless that could not be done now.
    fn ask(&mut self, asked: Asked, uname: Box<[u8]>, asking: Asking) -> Option<Heard> {
        let heard = match asked {
            // Nobody waits for a place any more.
            Asked::Full if self.client.is_reset() => {
                return Some(Heard::Over(Outcome::ClientGone));
            }
            Asked::Full => return Some(Heard::Later),
            Asked::Known(checked) => {
                self.login = Login::Answered(asking, checked);
                None
            }
            Asked::Pending(token) => {
                self.login = Login::Asked(asking);
                Some(Heard::Asked(token))
            }
        };
        self.uname = Some(uname);
        heard
    }

    /// Who comes without a login may be known by an earlier one.
    fn recognize(&mut self, cx: &Context<impl Net<Socket = S>>, visitor: Visitor) {
        if self.negotiation.phase() != Phase::Authenticating {
            self.uname = cx.admitted(visitor);
        }
    }

    /// Receives no more than the inbox holds: what comes early waits in the kernel.
    fn receive(&mut self, buffers: &mut Buffers) -> Received {
        if !self.client.is_readable() {
            return Received::Blocked;
        }
        let inbox = self.inbox.get_or_insert_with(|| buffers.inbox());
        inbox.align();
        let received = self.client.recv(inbox.room(), buffers);
        if let Received::Bytes(n) = received {
            inbox.fill(n);
        }
        received
    }

    fn release_empty_inbox(&mut self, buffers: &mut Buffers) {
        if let Some(inbox) = self.inbox.take_if(|inbox| inbox.is_empty()) {
            buffers.give(inbox);
        }
    }

    /// The client that has asked, with what it sent after its request.
    pub(super) fn into_pending(self, request: &Request) -> Pending<S> {
        Pending { client: self.client, early: self.inbox, dialect: request.dialect }
    }

    /// The client that wants a security context, with what it sent after its greeting.
    pub(super) fn into_securing(self) -> Securing<S> {
        Securing::new(self.client, Tokens::new(self.inbox))
    }

    /// The client alone; what it sent is forgotten.
    pub(super) fn into_client(mut self, buffers: &mut Buffers) -> Endpoint<S> {
        self.forget_received(buffers);
        self.client
    }

    pub(super) fn release(&mut self, buffers: &mut Buffers) {
        self.client.release(buffers);
        self.forget_received(buffers);
    }

    fn forget_received(&mut self, buffers: &mut Buffers) {
        self.client.forget_received(buffers);
        if let Some(inbox) = self.inbox.take() {
            buffers.give(inbox);
        }
    }
}
