use std::time::Instant;

use super::route::Route;
use super::tally::Tally;
use crate::pace::Schedule;
use crate::pattern::Pattern;

/// What all connections of a load know and count in.
pub(super) struct Context {
    /// Of all but the flow beside them.
    route: Route,
    beside: Option<Route>,
    pub(super) pattern: Pattern,
    pub(super) tally: Tally,
    pub(super) requests: Requests,
    /// Whether nothing new is to be begun.
    pub(super) draining: bool,
}

/// Which requests are to be sent when.
#[derive(Default)]
pub(super) struct Requests {
    /// How long each is.
    pub(super) size: usize,
    rate: Option<f64>,
    /// Of an open loop, once it has begun.
    schedule: Option<Schedule>,
    lanes: Vec<Asked>,
}

/// Where a lane is in an open loop's schedule.
#[derive(Clone, Copy, Default)]
struct Asked {
    issued: u64,
    /// How many are due and not yet sent.
    overdue: u64,
}

impl Context {
    pub(super) fn new(route: Route) -> Context {
        Context {
            route,
            beside: None,
            pattern: Pattern::default(),
            tally: Tally::new(),
            requests: Requests::default(),
            draining: false,
        }
    }

    pub(super) fn with_requests(mut self, size: usize, lanes: usize, rate: Option<f64>) -> Context {
        let lanes = vec![Asked::default(); lanes];
        self.requests = Requests { size, rate, schedule: None, lanes };
        self
    }

    pub(super) fn with_route_beside(mut self, route: Route) -> Context {
        self.beside = Some(route);
        self
    }

    pub(super) fn route(&self, beside: bool) -> &Route {
        self.beside.as_ref().filter(|_| beside).unwrap_or(&self.route)
    }
}

impl Requests {
    /// From `now` on requests have their times.
    pub(super) fn begin_schedule(&mut self, now: Instant) {
        let lanes = self.lanes.len();
        self.schedule = self.rate.map(|rate| Schedule::new(now, rate, lanes));
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.schedule.as_ref().map(Schedule::next)
    }

    /// Whose lane's request has become due, if one has.
    pub(super) fn due(&mut self, now: Instant) -> Option<usize> {
        let lane = self.schedule.as_mut()?.due(now)?;
        self.lanes[lane].overdue += 1;
        Some(lane)
    }

    /// The time from which a lane's next request counts, if it is to be sent now.
    pub(super) fn take(&mut self, lane: usize, draining: bool) -> Option<Instant> {
        if self.rate.is_none() {
            return (!draining).then(Instant::now);
        }
        let asked = &mut self.lanes[lane];
        asked.overdue = asked.overdue.checked_sub(1)?;
        asked.issued += 1;
        Some(self.schedule.as_ref()?.intended(lane, asked.issued - 1))
    }
}
