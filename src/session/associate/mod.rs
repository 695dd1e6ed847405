//! A client's relay for datagrams (UDP ASSOCIATE, RFC 1928 section 7).
//!
//! One socket for the client, and one for each family of targets, whoever they are: a client's
//! datagrams leave from one port of ours, so that whom it sent something can tell it from others.
//! What cannot be relayed is dropped, counted, and ends nothing.
//!
//! ```text
//! client ─▶ inside ─▶ header off ─▶ fragments ─▶ name? ─▶ gate ─▶ outside ─▶ targets
//! client ◀─ inside ◀─ header on ◀──────────────────────── contacted? ◀─ outside ◀─ targets
//! ```
//!
//! Between the inside socket and the header each datagram of a client with a security context is
//! opened, and sealed.

pub mod contacts;
pub mod reassembly;

mod client;
mod down;
mod naming;
mod sealing;
mod sockets;
mod up;

use std::iter;
use std::time::Instant;

use self::contacts::{Circle, Contacts, Identity};
use self::naming::Naming;
use self::reassembly::{Budget, Reassembly};
use self::sealing::Sealed;
pub(super) use self::sockets::Inside;
use self::sockets::{Family, Outside, Port};
use crate::config::{self, Filter, Timeouts};
use crate::dns::Answer;
use crate::metrics::{Datagrams, DropReason, Traffic};
use crate::outcome::Outcome;
use crate::relay::{Buffers, Endpoint, Posted, Readiness, Received, Segmentation};
use crate::session::context::Visitor;
use crate::session::outbox::{Flushed, Outbox};
use crate::session::{Context, Net, earlier};
use crate::sys::Batch;
use crate::token::Token;

/// What the associations of a reactor share.
pub struct Shared {
    /// Made when the first association needs it: it is large.
    batch: Option<Box<Batch>>,
    /// None: anybody may answer.
    contacts: Option<Contacts>,
    fragments: Budget,
    room: naming::Room,
    segmentation: Segmentation,
    /// Used by those whose clients seal their datagrams.
    sealed: Sealed,
    /// What all of them have relayed and dropped.
    totals: Datagrams,
}

/// How much of what is bounded for all associations together they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Associations that remember whom they have sent to.
    pub circles: usize,
    /// Addresses that they have sent to.
    pub contacts: usize,
    /// Bytes in fragments whose others have not come.
    pub fragments: usize,
    /// Names that are asked for.
    pub names: usize,
    /// Bytes that wait for these.
    pub letters: usize,
}

/// A client's association.
pub(super) struct Associated<N: Net> {
    pub(super) control: Endpoint<N::Socket>,
    inside: Inside<N::Datagrams>,
    /// By [`Family`]. Boxed, for an association that is idle may never have had one.
    outside: [Option<Box<Outside<N::Datagrams>>>; 2],
    circle: Option<Circle>,
    fragments: Reassembly,
    naming: Naming,
    /// Nothing has been counted while there is none.
    tally: Option<Box<Datagrams>>,
    active_at: Instant,
}

/// What came of a turn of it.
pub(super) enum Relayed {
    /// It has relayed what there was.
    All,
    /// There may be more, for another turn.
    Yielded,
    /// There may be more, and no edge will tell when it can be had.
    Starved,
    /// The control connection has ended.
    Over(Outcome),
}

impl Shared {
    /// Contacted addresses of all associations together: some 10 MB.
    const CONTACTS_MAX: usize = 128 * 1024;
    /// Bytes in fragments whose others have not come.
    const FRAGMENTS_MAX: usize = 8 << 20;

    /// Nothing is held yet.
    pub(super) fn new(udp: &config::Udp) -> Shared {
        Shared {
            batch: None,
            contacts: identity(udp.filter)
                .map(|identity| Contacts::new(identity, udp.peers, Self::CONTACTS_MAX)),
            fragments: Budget::new(Self::FRAGMENTS_MAX),
            room: naming::Room::new(),
            segmentation: Segmentation::new(),
            sealed: Sealed::default(),
            totals: Datagrams::default(),
        }
    }

    /// What all associations have relayed and dropped.
    pub fn totals(&self) -> &Datagrams {
        &self.totals
    }

    /// What they hold now: nothing, when there is none.
    pub fn held(&self) -> Held {
        let (names, letters) = self.room.used();
        Held {
            circles: self.contacts.as_ref().map_or(0, Contacts::circles),
            contacts: self.contacts.as_ref().map_or(0, Contacts::len),
            fragments: self.fragments.used(),
            names,
            letters,
        }
    }
}

impl<N: Net> Associated<N> {
    /// Stray bytes of a client are thrown away by so many before others have their turn.
    const DISCARD_BYTES: usize = 64 * 1024;
    /// So many messages, each of which may be a run of 64 KiB, are opened or sealed before others
    /// have their turn.
    const SEALED_MESSAGES_MAX: usize = 8;

    /// An association of the client behind `control`.
    pub(super) fn new(
        cx: &mut Context<N>,
        control: Endpoint<N::Socket>,
        inside: Inside<N::Datagrams>,
    ) -> Associated<N> {
        Associated {
            control,
            inside,
            outside: [None, None],
            circle: cx.datagrams.contacts.as_mut().map(Contacts::open),
            fragments: Reassembly::new(),
            naming: Naming::default(),
            tally: None,
            active_at: cx.now,
        }
    }

    /// The poll reported something under `token`.
    pub(super) fn handle_readiness(&mut self, token: Token, readiness: Readiness) {
        if let Some(port) = self.ports().find(|port| port.token == token) {
            port.endpoint.handle_readiness(readiness);
        }
    }

    /// The resolver has answered a question asked under `token`.
    pub(super) fn handle_answer(
        &mut self,
        cx: &mut Context<N>,
        visitor: Visitor,
        token: Token,
        answer: &Answer,
    ) {
        if !answer.is_last() && !cx.has_way_to(visitor, answer) {
            return;
        }
        let Some(asked) = self.naming.end(token, &mut cx.datagrams.room) else { return };
        if !answer.is_last() {
            cx.net.forget(token);
        }
        self.send_letters(cx, visitor, &asked.letters, answer);
    }

    /// Hears the client out first: when it has ended its connection nothing is relayed any more.
    pub(super) fn advance(
        &mut self,
        cx: &mut Context<N>,
        visitor: Visitor,
        outbox: &mut Outbox,
    ) -> Relayed {
        if let Some(outcome) = self.hear_control(outbox, &mut cx.buffers) {
            return Relayed::Over(outcome);
        }
        if self.is_readable() {
            let mut batch = cx.datagrams.batch.take().unwrap_or_default();
            self.relay_up(cx, visitor, &mut batch);
            for family in [Family::V4, Family::V6] {
                self.relay_down(cx, family, &mut batch);
            }
            cx.datagrams.batch = Some(batch);
        }
        match () {
            () if self.is_readable() || self.control.is_readable() => Relayed::Yielded,
            () if self.control.is_starved() => Relayed::Starved,
            () if self.ports().any(|port| port.endpoint.is_starved()) => Relayed::Starved,
            () => Relayed::All,
        }
    }

    /// Stray bytes are no reason to end it.
    fn hear_control(&mut self, outbox: &mut Outbox, buffers: &mut Buffers) -> Option<Outcome> {
        if outbox.flush(&mut self.control, buffers) == Flushed::Broken {
            return Some(Outcome::ClientReset);
        }
        match self.control.discard(Self::DISCARD_BYTES, buffers) {
            Received::End => Some(Outcome::Finished),
            Received::Reset => Some(Outcome::ClientReset),
            Received::Bytes(_) | Received::Blocked => {
                self.control.is_reset().then_some(Outcome::ClientReset)
            }
        }
    }

    /// When [`expire`](Self::expire) is to be called; `replied`: the client has its reply.
    pub(super) fn expires_at(
        &self,
        terms: (&config::Udp, &Timeouts),
        replied: bool,
    ) -> Option<Instant> {
        let waiting = earlier(self.fragments.expires_at(), self.naming.expires_at());
        earlier(waiting, self.ends_at(terms, replied))
    }

    fn ends_at(&self, (udp, timeout): (&config::Udp, &Timeouts), replied: bool) -> Option<Instant> {
        let patience = if replied { udp.idle } else { timeout.handshake };
        self.active_at.checked_add(patience?)
    }

    /// Gives up what has waited too long: it may be the association.
    pub(super) fn expire(&mut self, cx: &mut Context<N>, replied: bool) -> Option<Outcome> {
        let dropped = self.fragments.expire(cx.now, &mut cx.datagrams.fragments);
        self.count_drop(cx, DropReason::Fragment, dropped);
        while let Some(asked) = self.naming.expire(cx.now, &mut cx.datagrams.room) {
            self.give_up_name(cx, &asked);
        }
        let ends_at = self.ends_at((&cx.terms.udp, &cx.terms.timeout), replied);
        let is_over = ends_at.is_some_and(|at| at <= cx.now);
        is_over.then_some(match replied {
            true => Outcome::IdleTimeout,
            false => Outcome::HandshakeTimeout,
        })
    }

    /// Finds out what no edge may ever tell.
    pub(super) fn look_again(&mut self) {
        self.control.look_again();
        self.ports().for_each(|port| port.endpoint.look_again());
    }

    /// Gives back what it holds of what is shared. Returns what it has relayed and dropped.
    pub(super) fn release(&mut self, cx: &mut Context<N>) -> Box<Datagrams> {
        self.control.release(&mut cx.buffers);
        while let Some(asked) = self.naming.give_up(&mut cx.datagrams.room) {
            self.give_up_name(cx, &asked);
        }
        let dropped = self.fragments.abandon(&mut cx.datagrams.fragments);
        self.count_drop(cx, DropReason::Fragment, dropped);
        if let (Some(contacts), Some(circle)) = (&mut cx.datagrams.contacts, self.circle.take()) {
            contacts.forget(circle);
        }
        self.tally.take().unwrap_or_default()
    }

    fn give_up_name(&mut self, cx: &mut Context<N>, asked: &naming::Asked) {
        cx.net.forget(asked.token());
        self.count_drop(cx, DropReason::Unresolved, asked.letters.len() as u64);
    }

    /// The socket for targets of a family, if there is one to be had.
    fn outside(
        &mut self,
        cx: &mut Context<N>,
        visitor: Visitor,
        family: Family,
    ) -> Option<&mut Outside<N::Datagrams>> {
        let outside = &mut self.outside[family as usize];
        if outside.is_none() {
            let room = self.inside.room.take().or_else(|| cx.terms.limit.take_extra())?;
            match Outside::open(cx, visitor, family, room) {
                Ok(opened) => *outside = Some(opened.into()),
                Err(room) => self.inside.room = Some(room),
            }
        }
        outside.as_deref_mut()
    }

    /// What a turn takes of a socket at most: each byte of a sealed datagram takes its time.
    fn messages_max(&self) -> usize {
        if self.control.is_sealed() { Self::SEALED_MESSAGES_MAX } else { Batch::LEN_MAX }
    }

    fn is_readable(&mut self) -> bool {
        self.ports().any(|port| port.endpoint.is_readable())
    }

    fn ports(&mut self) -> impl Iterator<Item = &mut Port<N::Datagrams>> {
        let outside = self.outside.iter_mut().flatten().map(|outside| &mut outside.port);
        iter::once(&mut self.inside.port).chain(outside)
    }

    fn count_posted(&mut self, cx: &mut Context<N>, posted: Posted, to: fn(u64) -> Traffic) {
        if posted.parcels > 0 {
            self.active_at = cx.now;
            for tally in [self.tally.get_or_insert_default(), &mut cx.datagrams.totals] {
                tally.relayed += to(posted.parcels);
                tally.bytes += to(posted.bytes);
            }
        }
        self.count_drop(cx, DropReason::Unsent, posted.unsent);
        self.count_drop(cx, DropReason::TooLarge, posted.too_large);
    }

    fn count_drop(&mut self, cx: &mut Context<N>, reason: DropReason, count: u64) {
        if count > 0 {
            self.tally.get_or_insert_default().count_drop(reason, count);
            cx.datagrams.totals.count_drop(reason, count);
        }
    }
}

/// What makes a source one that was sent to.
fn identity(filter: Filter) -> Option<Identity> {
    match filter {
        Filter::Address => Some(Identity::Address),
        Filter::AddressPort => Some(Identity::AddressPort),
        Filter::EndpointIndependent => None,
    }
}
