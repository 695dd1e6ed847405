use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token};

use super::Generator;
use super::connection::{Connection, Turn};
use super::context::Context;
use super::tally::Tally;
pub(super) use super::work::Job;
use super::work::{Failure, Work};
use crate::alarm::Alarm;
use crate::limits;
use crate::pattern::RECEIVED;

/// How many connections are opened at a time before all of them are open.
const OPENING_MAX: usize = 64;
/// How long an answer is waited for.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// When a lane is given another connection after one has failed.
const AFTER_FAILURE: Duration = Duration::from_millis(10);
/// How often it is looked whether somebody waits too long.
const LOOK_EVERY: Duration = Duration::from_millis(500);

const ALARM: Token = Token(usize::MAX);

/// The event loop, and a lane for each connection that is wanted.
pub(super) struct Driver {
    poll: Poll,
    events: Events,
    alarm: Alarm,
    lanes: Vec<Lane>,
    cx: Context,
    buffer: Box<[u8]>,
    /// How many lanes have been given a connection.
    begun: usize,
    /// How many lanes have had one that did once what it is there for.
    ready: usize,
    /// Connections that had more to do than others would wait for.
    queue: VecDeque<usize>,
    /// Lanes whose connection has failed, and when they are given another.
    failed: VecDeque<(Instant, usize)>,
    next_look: Instant,
    /// How many connections there have been.
    opened: u64,
    spoilt: bool,
}

struct Lane {
    job: Job,
    connection: Option<Connection>,
    ready: bool,
}

impl Driver {
    /// A driver for lanes with these jobs.
    pub(super) fn new((jobs, cx): (Vec<Job>, Context)) -> io::Result<Driver> {
        if jobs.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no connections are asked for",
            ));
        }
        limits::raise_open_files()?;
        let poll = Poll::new()?;
        let lane = |job| Lane { job, connection: None, ready: false };
        Ok(Driver {
            alarm: Alarm::new(poll.registry(), ALARM)?,
            poll,
            events: Events::with_capacity(1024),
            lanes: jobs.into_iter().map(lane).collect(),
            cx,
            buffer: vec![0; RECEIVED].into(),
            begun: 0,
            ready: 0,
            queue: VecDeque::new(),
            failed: VecDeque::new(),
            next_look: Instant::now() + LOOK_EVERY,
            opened: 0,
            spoilt: false,
        })
    }

    fn too_few(&self) -> io::Error {
        let (ready, all) = (self.ready, self.lanes.len());
        let tally = &self.cx.tally;
        let reason = tally.first_error().unwrap_or("no answer came");
        let what = format!("{ready} of {all} connections work, {} failed: {reason}", tally.errors);
        io::Error::new(io::ErrorKind::TimedOut, what)
    }

    /// What was asked for in time and is not answered took at least as long as until now.
    fn give_up(&mut self) {
        for index in 0..self.lanes.len() {
            let Some(connection) = &self.lanes[index].connection else { continue };
            let asked = connection.asked();
            self.cx.tally.count_error(&Failure::TooLate);
            let overdue = std::iter::from_fn(|| self.cx.requests.take(index, true));
            asked
                .into_iter()
                .chain(overdue)
                .for_each(|asked| self.cx.tally.record(asked.elapsed()));
        }
    }

    pub(super) fn reset_all(&mut self) {
        for lane in &mut self.lanes {
            if let Some(connection) = lane.connection.take() {
                connection.reset();
            }
        }
    }

    fn turn(&mut self, until: Instant) -> io::Result<()> {
        let patience = self.patience(until)?;
        match self.poll.poll(&mut self.events, patience) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        events.iter().for_each(|event| self.handle_event(event));
        self.events = events;
        let now = Instant::now();
        self.give_turns();
        self.ask(now);
        self.replace_failed(now);
        self.look(now);
        match self.spoilt {
            true => Err(io::Error::new(io::ErrorKind::InvalidData, Failure::WrongByte.to_string())),
            false => Ok(()),
        }
    }

    fn patience(&mut self, until: Instant) -> io::Result<Option<Duration>> {
        if !self.queue.is_empty() {
            return Ok(Some(Duration::ZERO));
        }
        let now = Instant::now();
        if let Some(due) = self.cx.requests.next_due().filter(|_| !self.cx.draining) {
            if due <= now {
                return Ok(Some(Duration::ZERO));
            }
            self.alarm.set(due)?;
        }
        let failed = self.failed.front().map_or(until, |(time, _)| *time);
        let next = until.min(self.next_look).min(failed);
        Ok(Some(next.saturating_duration_since(now)))
    }

    fn handle_event(&mut self, event: &Event) {
        if event.token() != ALARM {
            self.with_connection(event.token().0, |connection, cx, buffer| {
                connection.handle_event(cx, buffer, event)
            });
        }
    }

    fn give_turns(&mut self) {
        for _ in 0..self.queue.len() {
            let Some(lane) = self.queue.pop_front() else { return };
            self.with_connection(lane, |connection, cx, buffer| {
                connection.queued = false;
                connection.handle_turn(cx, buffer)
            });
        }
    }

    fn ask(&mut self, now: Instant) {
        if self.cx.draining {
            return;
        }
        while let Some(lane) = self.cx.requests.due(now) {
            self.with_connection(lane, |connection, cx, _| connection.ask(cx));
        }
    }

    fn replace_failed(&mut self, now: Instant) {
        while self.failed.front().is_some_and(|(time, _)| *time <= now) {
            if let Some((_, lane)) = self.failed.pop_front() {
                self.connect(lane);
            }
        }
    }

    /// Gives up who waits for an answer that does not come.
    fn look(&mut self, now: Instant) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK_EVERY;
        for lane in 0..self.lanes.len() {
            self.with_connection(lane, |connection, _, _| match connection.waits(now) {
                Some(time) if time > ANSWER_PATIENCE => Err(Failure::TooLate),
                _ => Ok(Turn::Wait),
            });
        }
    }

    fn connect(&mut self, lane: usize) {
        self.opened += 1;
        let work = Work::new(self.lanes[lane].job, lane, self.opened);
        match Connection::open(&mut self.cx, work, self.poll.registry(), Token(lane)) {
            Ok(connection) => self.lanes[lane].connection = Some(connection),
            Err(failure) => self.fail(lane, &failure),
        }
    }

    /// Lets a lane's connection do something, and sees to what the lane needs next.
    fn with_connection(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut Connection, &mut Context, &mut [u8]) -> Result<Turn, Failure>,
    ) {
        let lane = &mut self.lanes[index];
        let Some(connection) = &mut lane.connection else { return };
        let turn = act(connection, &mut self.cx, &mut self.buffer);
        if !lane.ready && (connection.is_ready() || matches!(turn, Ok(Turn::Done))) {
            lane.ready = true;
            self.ready += 1;
        }
        match turn {
            Ok(Turn::Wait) => {}
            Ok(Turn::Yield) if connection.queued => {}
            Ok(Turn::Yield) => {
                connection.queued = true;
                self.queue.push_back(index);
            }
            Ok(Turn::Done) => {
                lane.connection = None;
                if !self.cx.draining {
                    self.connect(index);
                }
            }
            Err(failure) => self.fail(index, &failure),
        }
    }

    fn fail(&mut self, index: usize, failure: &Failure) {
        if let Some(connection) = self.lanes[index].connection.take() {
            connection.reset();
        }
        self.spoilt |= matches!(failure, Failure::WrongByte);
        self.cx.tally.count_error(failure);
        if !self.cx.draining {
            self.failed.push_back((Instant::now() + AFTER_FAILURE, index));
        }
    }
}

impl Generator for Driver {
    /// Opens a connection for each lane, and waits until each has done once what it is there for.
    /// From then on requests are sent at their times, if they have any.
    fn open(&mut self, deadline: Instant) -> io::Result<()> {
        while self.ready < self.lanes.len() {
            while self.begun < self.lanes.len() && self.begun - self.ready < OPENING_MAX {
                self.begun += 1;
                self.connect(self.begun - 1);
            }
            if Instant::now() >= deadline {
                return Err(self.too_few());
            }
            self.turn(deadline)?;
        }
        self.cx.requests.begin_schedule(Instant::now());
        Ok(())
    }

    fn go_on_until(&mut self, end: Instant) -> io::Result<()> {
        while Instant::now() < end {
            self.turn(end)?;
        }
        Ok(())
    }

    fn count_from_now(&mut self) {
        self.cx.tally.clear();
    }

    /// Resets what is not over in time.
    fn drain(&mut self, deadline: Instant) -> io::Result<u64> {
        self.cx.draining = true;
        self.failed.clear();
        for lane in 0..self.lanes.len() {
            self.with_connection(lane, |connection, cx, _| connection.finish(cx));
        }
        while self.lanes.iter().any(|lane| lane.connection.is_some()) && Instant::now() < deadline {
            self.turn(deadline)?;
        }
        self.give_up();
        self.reset_all();
        Ok(0)
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.cx.tally
    }
}
