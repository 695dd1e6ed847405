use std::mem;
use std::ops::Range;
use std::time::Instant;

use crate::auth::{Acceptor, Failure, Stepped, Task};
use crate::outcome::Outcome;
use crate::proto::gssapi::{ABORT, Level, MessageType, Order, Seal, TOKEN_MAX, header};
use crate::proto::socks5::Method;
use crate::relay::{Buffers, Endpoint, Framed, Received, Sent, Socket, Stage, Tokens};
use crate::session::context::{Sealing, Visitor};
use crate::session::handshake::Handshake;
use crate::session::outbox::{Flushed, Outbox};
use crate::session::{Context, Net};
use crate::token::Token;

/// A client that proves who it is by a security context, and agrees on how messages are protected
/// under it (RFC 1961 sections 3 and 4).
pub(super) struct Securing<S> {
    client: Endpoint<S>,
    tokens: Tokens,
    /// What is left of our last token.
    answer: Vec<u8>,
    step: Step,
    steps_left: u8,
    user: Option<Box<[u8]>>,
}

enum Step {
    /// The client's next token is for this; for none, if it is the first.
    Token(Option<Box<dyn Acceptor>>),
    /// Its token is being looked at.
    Asked,
    /// There is a context: the client is to ask for a level.
    Level(Box<dyn Seal>),
    /// It has got this one.
    Agreed(Box<dyn Seal>, Level),
    /// There will be nothing.
    Failed,
}

/// What came of a turn of it.
pub(super) enum Secured {
    /// The client must say more, or something else must come first.
    Nothing,
    /// What its token is good for will be told under this token.
    Asked(Token),
    /// Too many ask that: it is to be asked again in a while.
    Later,
    /// Everything is agreed upon.
    Agreed,
    /// It is refused; the answer is in the outbox.
    Refused,
    /// There is nobody to answer.
    Over(Outcome),
}

impl<S: Socket> Securing<S> {
    /// Who has not proved anything by then never will.
    const STEPS_MAX: u8 = 8;

    pub(super) fn new(client: Endpoint<S>, tokens: Tokens) -> Securing<S> {
        Securing {
            client,
            tokens,
            answer: Vec::new(),
            step: Step::Token(None),
            steps_left: Self::STEPS_MAX,
            user: None,
        }
    }

    pub(super) fn client(&mut self) -> &mut Endpoint<S> {
        &mut self.client
    }

    /// Whether it has something to say that is not yet sent.
    pub(super) fn is_speaking(&self) -> bool {
        !self.answer.is_empty()
    }

    /// Who the client is, or says it is; once.
    pub(super) fn take_user(&mut self) -> Option<Box<[u8]>> {
        self.user.take()
    }

    /// What its token was good for.
    pub(super) fn handle_stepped(
        &mut self,
        cx: &mut Context<impl Net<Socket = S>>,
        visitor: Visitor,
        stepped: Stepped,
    ) {
        let (step, answer) = match stepped {
            Stepped::Continue { acceptor, answer } => (Step::Token(Some(acceptor)), answer),
            Stepped::Established { seal, user, answer } => {
                let is_welcome = cx.may_be_used_by(visitor, &user);
                self.user = Some(user);
                match is_welcome {
                    true => (Step::Level(seal), answer),
                    false => {
                        self.judge(cx, visitor, Err(Failure::Group));
                        (Step::Failed, Vec::new())
                    }
                }
            }
            Stepped::Failed { user, failure } => {
                self.user = user;
                self.judge(cx, visitor, Err(failure));
                (Step::Failed, Vec::new())
            }
        };
        self.step = if answer.len() <= TOKEN_MAX { step } else { Step::Failed };
        if !matches!(self.step, Step::Failed) {
            self.say(MessageType::Context, &answer);
        }
    }

    pub(super) fn advance(
        &mut self,
        cx: &mut Context<impl Net<Socket = S>>,
        visitor: Visitor,
        deadline: Option<Instant>,
        outbox: &mut Outbox,
    ) -> Secured {
        loop {
            match self.flush(outbox, &mut cx.buffers) {
                Flushed::Empty => {}
                Flushed::Blocked => return Secured::Nothing,
                Flushed::Broken => return Secured::Over(Outcome::ClientGone),
            }
            let expected = match self.step {
                Step::Token(_) => MessageType::Context,
                Step::Level(_) => MessageType::Level,
                Step::Asked if self.client.is_reset() => {
                    return Secured::Over(Outcome::ClientGone);
                }
                Step::Asked => return Secured::Nothing,
                Step::Agreed(..) => return Secured::Agreed,
                Step::Failed => {
                    outbox.push(&ABORT);
                    return Secured::Refused;
                }
            };
            match self.tokens.frame(expected, &mut self.client, &mut cx.buffers) {
                Framed::Whole(place) => {
                    if let Some(secured) = self.handle_token(cx, visitor, deadline, place) {
                        return secured;
                    }
                }
                Framed::Unexpected => self.fail(cx, visitor, Failure::Token),
                Framed::Not(Received::End | Received::Reset) => {
                    return Secured::Over(Outcome::ClientGone);
                }
                Framed::Not(_) => return Secured::Nothing,
            }
        }
    }

    /// Takes the whole token that is at `place`. What is returned ends this turn.
    fn handle_token(
        &mut self,
        cx: &mut Context<impl Net<Socket = S>>,
        visitor: Visitor,
        deadline: Option<Instant>,
        place: Range<usize>,
    ) -> Option<Secured> {
        let token = self.tokens.bytes_mut(place.clone()).to_vec();
        let secured = match mem::replace(&mut self.step, Step::Failed) {
            Step::Token(acceptor) => self.ask(cx, visitor, deadline, acceptor, token),
            Step::Level(seal) => {
                self.agree(cx, visitor, seal, token);
                None
            }
            step => {
                self.step = step;
                None
            }
        };
        // Asked again, it must still be there.
        if !matches!(secured, Some(Secured::Later)) {
            self.tokens.consume(place.end);
            self.tokens.release_empty(&mut cx.buffers);
        }
        secured
    }

    /// Asks what a token is good for.
    fn ask(
        &mut self,
        cx: &mut Context<impl Net<Socket = S>>,
        visitor: Visitor,
        deadline: Option<Instant>,
        acceptor: Option<Box<dyn Acceptor>>,
        token: Vec<u8>,
    ) -> Option<Secured> {
        let acceptor = acceptor.or_else(|| Some(cx.auth.mechanism()?.begin()));
        let Some(acceptor) = acceptor.filter(|_| self.steps_left > 0) else {
            self.fail(cx, visitor, Failure::Token);
            return None;
        };
        match cx.ask(visitor, Task::Token { acceptor, token }, deadline) {
            Ok(token) => {
                self.steps_left -= 1;
                self.step = Step::Asked;
                Some(Secured::Asked(token))
            }
            // Nobody waits for a place any more.
            Err(_) if self.client.is_reset() => Some(Secured::Over(Outcome::ClientGone)),
            Err(Task::Token { acceptor, .. }) => {
                self.step = Step::Token(Some(acceptor));
                Some(Secured::Later)
            }
            Err(Task::Password(_)) => None,
        }
    }

    /// The client asks for a level of protection; it gets one that is good enough for us.
    fn agree(
        &mut self,
        cx: &mut Context<impl Net<Socket = S>>,
        visitor: Visitor,
        mut seal: Box<dyn Seal>,
        mut token: Vec<u8>,
    ) {
        let asked = match seal.unwrap(&mut token) {
            Ok(opened) if opened.order == Order::Next => Level::parse(&token[opened.message]),
            _ => None,
        };
        let Some(level) = asked.and_then(|asked| grant(asked, cx.terms.sealing)) else {
            return self.fail(cx, visitor, Failure::Protection);
        };
        let mut answer = Vec::new();
        if seal.wrap(&[level as u8], false, &mut answer).is_err() {
            return self.fail(cx, visitor, Failure::Broken);
        }
        // Only now: a token may be anybody's who has seen it, a message is its key's.
        self.step = match self.judge(cx, visitor, Ok(())) {
            true => Step::Agreed(seal, level),
            false => Step::Failed,
        };
        if let Step::Agreed(..) = self.step {
            self.say(MessageType::Level, &answer);
        }
    }

    fn fail(&mut self, cx: &mut Context<impl Net<Socket = S>>, visitor: Visitor, failure: Failure) {
        self.judge(cx, visitor, Err(failure));
        self.step = Step::Failed;
    }

    fn judge(
        &self,
        cx: &mut Context<impl Net<Socket = S>>,
        visitor: Visitor,
        result: Result<(), Failure>,
    ) -> bool {
        cx.judge(visitor, Method::Gssapi, self.user.as_deref(), result)
    }

    fn say(&mut self, message: MessageType, token: &[u8]) {
        self.answer.extend(header(message, token.len()));
        self.answer.extend(token);
    }

    fn flush(&mut self, outbox: &mut Outbox, buffers: &mut Buffers) -> Flushed {
        match outbox.flush(&mut self.client, buffers) {
            Flushed::Empty => {}
            flushed => return flushed,
        }
        while !self.answer.is_empty() {
            match self.client.send(&self.answer, buffers) {
                Sent::Bytes(n) => drop(self.answer.drain(..n)),
                Sent::Blocked => return Flushed::Blocked,
                Sent::Broken => return Flushed::Broken,
            }
        }
        Flushed::Empty
    }

    /// The rest of the handshake, under the context.
    pub(super) fn into_handshake(self) -> Handshake<S> {
        let Securing { mut client, tokens, step, .. } = self;
        match step {
            Step::Agreed(seal, level) if level != Level::Clear => {
                client.seal(Stage::new(seal, level == Level::Confidentiality, tokens));
                Handshake::resume(client, None)
            }
            _ => Handshake::resume(client, tokens.into_received()),
        }
    }

    /// The client alone; what it sent is forgotten.
    pub(super) fn into_client(mut self, buffers: &mut Buffers) -> Endpoint<S> {
        self.release(buffers);
        self.client
    }

    pub(super) fn release(&mut self, buffers: &mut Buffers) {
        self.tokens.release(buffers);
    }
}

/// What a client gets that asks for this (RFC 1961 section 4.2: we "may or may not take the client's
/// request into account").
fn grant(asked: Level, sealing: Sealing) -> Option<Level> {
    match asked {
        Level::Clear => sealing.may_be_clear.then_some(Level::Clear),
        Level::Integrity if sealing.confidential => Some(Level::Confidentiality),
        Level::Integrity => Some(Level::Integrity),
        Level::Confidentiality | Level::Selective => Some(Level::Confidentiality),
    }
}
