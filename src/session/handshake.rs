use crate::outcome::Outcome;
use crate::proto::Request;
use crate::relay::{Buffers, Endpoint, Received, Ring, Socket};
use crate::session::negotiation::{Negotiation, Phase, Step};
use crate::session::outbox::Outbox;
use crate::session::{Context, Net, Pending};

/// A client that has not finished asking: its socket, and the bytes of an incomplete message.
pub(super) struct Handshake<S> {
    client: Endpoint<S>,
    negotiation: Negotiation,
    inbox: Option<Ring>,
    heard: bool,
}

/// What came of a turn of it.
pub(super) enum Heard {
    /// The client must say more.
    Nothing,
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
            heard: false,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.negotiation.phase()
    }

    /// The name that the client has given; once.
    pub(super) fn take_uname(&mut self) -> Option<Box<[u8]>> {
        self.negotiation.take_uname()
    }

    pub(super) fn client(&mut self) -> &mut Endpoint<S> {
        &mut self.client
    }

    pub(super) fn advance(
        &mut self,
        cx: &mut Context<impl Net<Socket = S>>,
        outbox: &mut Outbox,
    ) -> Heard {
        loop {
            if let Some(heard) = self.step(cx, outbox) {
                return heard;
            }
            match self.receive(&mut cx.buffers) {
                Received::Bytes(_) => self.heard = true,
                Received::Blocked => {
                    self.release_empty_inbox(&mut cx.buffers);
                    outbox.flush(&mut self.client);
                    return Heard::Nothing;
                }
                Received::End | Received::Reset => {
                    outbox.flush(&mut self.client);
                    return Heard::Over(if self.heard {
                        Outcome::ClientGone
                    } else {
                        Outcome::Empty
                    });
                }
            }
        }
    }

    /// Takes the messages that are complete in the inbox, until one ends the handshake.
    fn step(
        &mut self,
        cx: &mut Context<impl Net<Socket = S>>,
        outbox: &mut Outbox,
    ) -> Option<Heard> {
        loop {
            let inbox = self.inbox.as_mut()?;
            match self.negotiation.step(inbox.bytes(), &cx.terms.users) {
                Step::More => return None,
                Step::Say { consumed, answer } => {
                    inbox.consume(consumed);
                    outbox.push(&answer);
                }
                Step::Request { consumed, request } => {
                    inbox.consume(consumed);
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

    /// Receives no more than the inbox holds: what comes early waits in the kernel.
    fn receive(&mut self, buffers: &mut Buffers) -> Received {
        if !self.client.is_readable() {
            return Received::Blocked;
        }
        let inbox = self.inbox.get_or_insert_with(|| buffers.inbox());
        inbox.align();
        let received = self.client.recv(inbox.room());
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

    /// The client alone; what it sent is forgotten.
    pub(super) fn into_client(mut self, buffers: &mut Buffers) -> Endpoint<S> {
        self.release(buffers);
        self.client
    }

    pub(super) fn release(&mut self, buffers: &mut Buffers) {
        if let Some(inbox) = self.inbox.take() {
            buffers.give(inbox);
        }
    }
}
