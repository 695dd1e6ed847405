use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::access::{GivenPort, Record};
use crate::metrics::{Datagrams, Traffic};
use crate::outcome::Refusal;
use crate::proto::{Command, Target};

/// What there will be to tell of a session, and how long its steps take.
pub(super) struct Journal {
    record: Record,
    began: Instant,
    step: Option<(Step, Instant)>,
}

/// What takes its time.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// To find out who the client is.
    Auth,
    /// To find out what the target's name means.
    Resolve,
    /// To connect to the target, or for somebody to connect to us.
    Connect,
}

impl Journal {
    pub(super) fn new(record: Record, now: Instant) -> Journal {
        Journal { record, began: now, step: Some((Step::Auth, now)) }
    }

    /// Where the client comes from.
    pub(super) fn client(&self) -> IpAddr {
        self.record.client.ip()
    }

    /// The client has sent a whole greeting or SOCKS4 request.
    pub(super) fn greeted(&mut self) {
        self.record.greeted = true;
    }

    /// The client says that it is this.
    pub(super) fn named(&mut self, uname: Box<[u8]>) {
        self.record.user = Some(uname);
    }

    /// The client asks for this.
    pub(super) fn requested(&mut self, command: Command, target: Target) {
        (self.record.command, self.record.target) = (Some(command), Some(target));
    }

    /// A step begins; the one before it is over.
    pub(super) fn begin(&mut self, step: Step, now: Instant) {
        self.end_step(now);
        self.step = Some((step, now));
    }

    /// The step that had begun is over.
    pub(super) fn end_step(&mut self, now: Instant) {
        let Some((step, since)) = self.step.take() else { return };
        let took = Some(now.saturating_duration_since(since).into());
        match step {
            Step::Auth => self.record.auth = took,
            Step::Resolve => self.record.resolve = took,
            Step::Connect => self.record.connect = took,
        }
    }

    /// The client is told that it has been connected to this, from our address `bnd`.
    pub(super) fn granted(&mut self, address: SocketAddr, bnd: SocketAddr, now: Instant) {
        self.end_step(now);
        (self.record.connected, self.record.outgoing) = (Some(address), Some(bnd));
        self.record.rep = Some(0);
    }

    /// The client is told that somebody may connect to `own`, and to say `bnd` to them.
    pub(super) fn listening(&mut self, own: SocketAddr, bnd: SocketAddr, now: Instant) {
        self.begin(Step::Connect, now);
        self.record.outgoing = Some(own);
        self.record.given = Some(GivenPort { bnd, datagrams: None }.into());
        self.record.rep = Some(0);
    }

    /// The client is told to send its datagrams to `bnd`.
    pub(super) fn associated(&mut self, bnd: SocketAddr, now: Instant) {
        self.end_step(now);
        self.record.given = Some(GivenPort { bnd, datagrams: None }.into());
        self.record.rep = Some(0);
    }

    /// These datagrams were relayed and dropped.
    pub(super) fn relayed(&mut self, datagrams: Box<Datagrams>) {
        if let Some(given) = &mut self.record.given {
            given.datagrams = Some(datagrams);
        }
    }

    /// The client is told that it gets nothing.
    pub(super) fn refused(&mut self, refusal: Refusal, now: Instant) {
        self.end_step(now);
        self.record.rep = Some(refusal.rep());
    }

    /// All of it, now that the session is over.
    pub(super) fn finish(mut self, traffic: Traffic, now: Instant) -> Record {
        self.end_step(now);
        self.record.traffic = traffic;
        self.record.duration = now.saturating_duration_since(self.began);
        self.record
    }
}
