use std::time::{Duration, Instant};

use crate::config::Timeouts;
use crate::metrics::Traffic;
use crate::outcome::Outcome;
use crate::relay::{Buffers, Endpoint, Flow, Lane, Pumped, Socket, Work, pump};
use crate::session::outbox::{Flushed, Outbox};

/// After this time the kernel is told to look after the target, which takes four calls: most
/// sessions are over before. It is no later found to be gone, for the kernel counts from its last
/// word, a minute at first. (A client is looked after from the first: that is inherited.)
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(30);

/// Which of a session's two peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Target,
}

impl Side {
    /// How a session ends that this side reset.
    fn reset(self) -> Outcome {
        match self {
            Side::Client => Outcome::ClientReset,
            Side::Target => Outcome::TargetReset,
        }
    }
}

/// A client and its target, and a lane in each direction.
pub(super) struct Relay<S> {
    pub(super) client: Endpoint<S>,
    pub(super) target: Endpoint<S>,
    pub(super) up: Lane,
    pub(super) down: Lane,
    active_at: Instant,
    /// When to have its target looked after; none: it is.
    keep_alive_at: Option<Instant>,
}

/// What came of a turn of it.
pub(super) enum Relayed {
    /// It goes on.
    Pumped(Pumped),
    /// This side was reset before its end.
    Reset(Side),
    /// This side still sends, but nobody takes it. It has all it was sent, or else it would lose the
    /// rest when we close.
    Unheard(Side, Outcome),
    /// The same, but this side does not have all it was sent yet. No edge will tell when it has.
    Unacknowledged,
    /// Both directions have ended.
    Over(Outcome),
}

impl<S: Socket> Relay<S> {
    pub(super) fn new(
        client: Endpoint<S>,
        target: Endpoint<S>,
        up: Lane,
        now: Instant,
    ) -> Relay<S> {
        let keep_alive_at = now.checked_add(KEEP_ALIVE_AFTER);
        Relay { client, target, up, down: Lane::new(None), active_at: now, keep_alive_at }
    }

    /// What it has carried.
    pub(super) fn traffic(&self) -> Traffic {
        Traffic { up: self.up.bytes(), down: self.down.bytes() }
    }

    /// When anything last moved, be it one direction's end.
    pub(super) fn active_at(&self) -> Instant {
        self.active_at
    }

    /// When [`keep_alive`](Self::keep_alive) is to be called, if it is.
    pub(super) fn keep_alive_at(&self) -> Option<Instant> {
        self.keep_alive_at
    }

    /// Has the target looked after, once it is time.
    pub(super) fn keep_alive(&mut self, now: Instant) {
        if self.keep_alive_at.take_if(|at| *at <= now).is_some() {
            self.target.keep_alive();
        }
    }

    /// When it ends if nothing more moves; `replied`: the client has its reply.
    pub(super) fn expires_at(&self, timeout: &Timeouts, replied: bool) -> Option<Instant> {
        let timeout = match self.expires_as(replied) {
            Outcome::HandshakeTimeout => timeout.handshake,
            Outcome::HalfClosedTimeout => timeout.half_closed,
            _ => timeout.idle,
        };
        self.active_at.checked_add(timeout?)
    }

    /// How it ends if nothing more moves.
    pub(super) fn expires_as(&self, replied: bool) -> Outcome {
        if !replied {
            Outcome::HandshakeTimeout
        } else if self.is_half_closed() {
            Outcome::HalfClosedTimeout
        } else {
            Outcome::IdleTimeout
        }
    }

    /// Whether one direction has ended and the other has not.
    fn is_half_closed(&self) -> bool {
        let ended = |lane: &Lane| matches!(lane.flow(), Flow::Closed | Flow::Discarding);
        ended(&self.up) || ended(&self.down)
    }

    /// Whether something waits that no edge may ever tell of.
    pub(super) fn needs_another_look(&self) -> bool {
        let stuck = |source: &Endpoint<S>, lane: &Lane, sink: &Endpoint<S>| {
            let waiting = source.is_readable() && !sink.is_writable();
            lane.is_pending() || (waiting && lane.flow() == Flow::Open)
        };
        stuck(&self.client, &self.up, &self.target)
            || stuck(&self.target, &self.down, &self.client)
            || self.client.is_starved()
            || self.target.is_starved()
    }

    pub(super) fn advance(
        &mut self,
        buffers: &mut Buffers,
        outbox: &mut Outbox,
        now: Instant,
    ) -> Relayed {
        if outbox.flush(&mut self.client, buffers) == Flushed::Blocked {
            return Relayed::Pumped(Pumped::Blocked);
        }
        let mut work_up = Work::for_client(&self.client);
        let mut work_down = Work::for_client(&self.client);
        let Relay { client, target, up, down, .. } = self;
        let pumped_up = pump(client, up, target, buffers, &mut work_up);
        let pumped_down = pump(target, down, client, buffers, &mut work_down);
        self.pass_on_end();
        if work_up.moved() || work_down.moved() {
            self.active_at = now;
        }
        self.verdict(pumped_up, pumped_down)
    }

    /// Passes on a FIN while the other direction goes on. Once both have ended there is nothing left
    /// to read on either side, so that closing them is the same, and a call less.
    fn pass_on_end(&mut self) {
        match (self.up.flow(), self.down.flow()) {
            (Flow::Closed, Flow::Closed) => {}
            (Flow::Closed, _) => self.target.finish(),
            (_, Flow::Closed) => self.client.finish(),
            _ => {}
        }
    }

    fn verdict(&self, up: Pumped, down: Pumped) -> Relayed {
        if self.client.is_reset() || self.up.is_severed() {
            return Relayed::Reset(Side::Client);
        }
        if self.target.is_reset() || self.down.is_severed() {
            return Relayed::Reset(Side::Target);
        }
        let (unheard, outcome) = match (self.up.flow(), self.down.flow()) {
            (Flow::Closed, Flow::Closed) => return Relayed::Over(self.ending()),
            (Flow::Discarding, Flow::Closed) => (Side::Client, Side::Target.reset()),
            (Flow::Closed, Flow::Discarding) => (Side::Target, Side::Client.reset()),
            _ => return Relayed::Pumped(most_urgent(up, down)),
        };
        if self.endpoint(unheard).is_acknowledged() {
            return Relayed::Unheard(unheard, outcome);
        }
        match most_urgent(up, down) {
            Pumped::Yielded => Relayed::Pumped(Pumped::Yielded),
            Pumped::Blocked => Relayed::Unacknowledged,
        }
    }

    fn endpoint(&self, side: Side) -> &Endpoint<S> {
        match side {
            Side::Client => &self.client,
            Side::Target => &self.target,
        }
    }

    /// How it ended, both directions being closed: cleanly, unless somebody refused what came last.
    fn ending(&self) -> Outcome {
        if self.client.is_broken() {
            Side::Client.reset()
        } else if self.target.is_broken() {
            Side::Target.reset()
        } else {
            Outcome::Finished
        }
    }

    pub(super) fn reset_on_close(&mut self) {
        self.client.reset_on_close();
        self.target.reset_on_close();
    }

    pub(super) fn release(&mut self, buffers: &mut Buffers) {
        self.client.release(buffers);
        self.up.release(buffers);
        self.down.release(buffers);
    }
}

/// A reset on its way from the side that was reset to the other: first what it had sent before.
pub(super) struct Severing<S> {
    source: Endpoint<S>,
    pub(super) lane: Lane,
    pub(super) sink: Endpoint<S>,
    side: Side,
    carried: Traffic,
}

/// What came of a turn of it.
pub(super) enum Severed {
    /// The sink does not have all of it yet.
    Pumped(Pumped),
    /// It has, or never will.
    Over,
}

impl<S: Socket> Severing<S> {
    /// Gives up the lane into the side that was reset.
    pub(super) fn new(relay: Relay<S>, side: Side, buffers: &mut Buffers) -> Severing<S> {
        let carried = relay.traffic();
        let Relay { client, target, up, down, .. } = relay;
        let (mut source, lane, sink, mut dead) = match side {
            Side::Client => (client, up, target, down),
            Side::Target => (target, down, client, up),
        };
        dead.release(buffers);
        // It is still there, and must not take this for the end of what the target says.
        if source.is_forged() {
            source.reset_on_close();
        }
        Severing { source, lane, sink, side, carried }
    }

    pub(super) fn outcome(&self) -> Outcome {
        match self.source.is_forged() || self.sink.is_forged() {
            true => Outcome::BadToken,
            false => self.side.reset(),
        }
    }

    pub(super) fn release(&mut self, buffers: &mut Buffers) {
        self.source.release(buffers);
        self.sink.release(buffers);
        self.lane.release(buffers);
    }

    /// What the session has carried.
    pub(super) fn traffic(&self) -> Traffic {
        match self.side {
            Side::Client => Traffic { up: self.lane.bytes(), ..self.carried },
            Side::Target => Traffic { down: self.lane.bytes(), ..self.carried },
        }
    }

    /// The endpoint on this side.
    pub(super) fn endpoint(&mut self, side: Side) -> &mut Endpoint<S> {
        if side == self.side { &mut self.source } else { &mut self.sink }
    }

    pub(super) fn advance(&mut self, buffers: &mut Buffers) -> Severed {
        let mut work = Work::new();
        let pumped = pump(&mut self.source, &mut self.lane, &mut self.sink, buffers, &mut work);
        let handed_over = !matches!(self.lane.flow(), Flow::Open | Flow::Flushing(_));
        if handed_over && self.sink.is_acknowledged() {
            self.sink.reset_on_close();
            return Severed::Over;
        }
        Severed::Pumped(pumped)
    }
}

/// What the session needs most: a turn, or only news.
fn most_urgent(one: Pumped, other: Pumped) -> Pumped {
    if one == Pumped::Yielded { one } else { other }
}
