use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, Waker};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0::Signals;

use crate::access::AccessLog;
use crate::logging::LogWriter;
use crate::metrics::{Report, Summary};
use crate::process::Error;
use crate::process::roster::Roster;
use crate::process::surroundings::Surroundings;
use crate::reactor::{Mail, Mailbox, Reactor, Setup};
use crate::sys;

/// How long to wait for a reactor that has to answer at once.
const REACTOR_PATIENCE: Duration = Duration::from_secs(1);

const SIGNALS: Token = Token(0);
const REACTOR_ENDED: Token = Token(1);

/// The main thread: it waits for signals and for reactors that end.
pub(super) struct Gateway {
    poll: Poll,
    signals: Signals,
    drain: Duration,
    reactors: Vec<Arc<Mailbox>>,
    ended: Ended,
    reports: Vec<Report>,
    log: LogWriter,
    /// When everything is over, told to stop: by then the reactors have ended, or never will.
    over_at: Option<Instant>,
}

/// What the main thread keeps up to date meanwhile.
pub(super) struct Upkeep<'a> {
    pub(super) access_log: &'a AccessLog,
    pub(super) around: Surroundings,
    /// When to look whether they have changed.
    pub(super) look_at: Instant,
    pub(super) roster: Roster<'a>,
}

/// Where reactors say what they have counted when they end.
struct Ended {
    waker: Arc<Waker>,
    sender: Sender<io::Result<Report>>,
    receiver: Receiver<io::Result<Report>>,
}

impl Gateway {
    pub(super) fn new(drain: Duration, log: LogWriter) -> io::Result<Gateway> {
        let poll = Poll::new()?;
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1])?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), REACTOR_ENDED)?);
        let (sender, receiver) = mpsc::channel();
        let ended = Ended { waker, sender, receiver };
        let (reactors, reports) = (Vec::new(), Vec::new());
        Ok(Gateway { poll, signals, drain, reactors, ended, reports, log, over_at: None })
    }

    pub(super) fn start_reactor(&mut self, cpu: usize, setup: Setup) -> io::Result<()> {
        let reactor = Reactor::new(setup)?;
        let mailbox = reactor.mailbox();
        let (waker, sender) = (Arc::clone(&self.ended.waker), self.ended.sender.clone());
        let run = move || {
            if let Err(error) = sys::run_on(&[cpu]) {
                log::warn!("cannot pin a reactor to CPU {cpu}: {error}");
            }
            // Nobody listens any more only if the process is ending.
            if sender.send(reactor.run()).is_ok() {
                let _ = waker.wake();
            }
        };
        thread::Builder::new().name(format!("reactor-{cpu}")).spawn(run)?;
        self.reactors.push(mailbox);
        Ok(())
    }

    /// Serves until every reactor has ended, or one must not have.
    pub(super) fn run(mut self, mut upkeep: Upkeep<'_>) -> Result<(), Error> {
        let ended = self.watch(&mut upkeep);
        upkeep.access_log.finish();
        ended?;
        self.say_counters(&self.reports, &upkeep);
        Ok(())
    }

    fn watch(&mut self, upkeep: &mut Upkeep<'_>) -> Result<(), Error> {
        let mut events = Events::with_capacity(8);
        loop {
            while let Ok(report) = self.ended.receiver.try_recv() {
                // Without it a share of the clients would wait for ever, so it ends the process.
                self.reports.push(report.map_err(|it| Error::System("run a reactor", it))?);
            }
            let patience = self.over_at.map(|at| at.saturating_duration_since(Instant::now()));
            if self.reports.len() == self.reactors.len() {
                return Ok(());
            }
            if patience == Some(Duration::ZERO) {
                log::error!("a reactor does not end: leaving it");
                return Ok(());
            }
            let until_upkeep = self.keep_up(upkeep).saturating_duration_since(Instant::now());
            let patience = patience.map_or(until_upkeep, |it| it.min(until_upkeep));
            match self.poll.poll(&mut events, Some(patience)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                polled => polled.map_err(|it| Error::System("wait for signals", it))?,
            }
            // Each once, however often it has come meanwhile.
            let signals: Vec<i32> = self.signals.pending().collect();
            signals.into_iter().for_each(|signal| self.handle_signal(signal, upkeep));
        }
    }

    /// Does what is due, and says when there is more to do.
    fn keep_up(&self, Upkeep { around, look_at, roster, .. }: &mut Upkeep<'_>) -> Instant {
        if Instant::now() >= *look_at {
            *look_at = Instant::now() + Surroundings::INTERVAL;
            self.look_around(around);
        }
        roster.tidy();
        if roster.due().is_some_and(|at| Instant::now() >= at) {
            self.read_roster(roster);
        }
        roster.due().map_or(*look_at, |at| at.min(*look_at))
    }

    fn look_around(&self, around: &mut Surroundings) {
        if around.look() {
            for reactor in &self.reactors {
                reactor.post(Mail::Surroundings(around.host(), around.sources()));
            }
        }
    }

    fn handle_signal(&mut self, signal: i32, upkeep: &mut Upkeep<'_>) {
        match signal {
            SIGTERM | SIGINT if self.over_at.is_none() => {
                self.stop(Instant::now() + self.drain);
                let drain = humantime::format_duration(self.drain);
                log::info!("stopping: sessions may go on for {drain}; a second signal ends them");
            }
            SIGTERM | SIGINT => self.stop(Instant::now()),
            SIGUSR1 => self.say_counters(&self.ask_reactors(), upkeep),
            _ => {
                upkeep.access_log.reopen();
                self.look_around(&mut upkeep.around);
                upkeep.roster.want();
            }
        }
    }

    fn read_roster(&self, roster: &mut Roster<'_>) {
        match roster.read() {
            Ok(auth) => {
                for reactor in &self.reactors {
                    reactor.post(Mail::Auth(Arc::clone(auth)));
                }
                log::info!("users and groups are read again");
            }
            Err(error) => {
                let error = error.to_string();
                let what = error.lines().next().unwrap_or_default();
                log::error!("users and groups stay as they were: {what}");
            }
        }
    }

    fn say_counters(&self, reactors: &[Report], upkeep: &Upkeep<'_>) {
        let summary = Summary {
            reactors,
            hashes: upkeep.roster.hashes(),
            log_dropped: self.log.dropped(),
            access_dropped: upkeep.access_log.dropped(),
        };
        self.log.say(&summary.to_string());
    }

    fn stop(&mut self, until: Instant) {
        self.over_at = Some(until + REACTOR_PATIENCE);
        for reactor in &self.reactors {
            reactor.post(Mail::Stop { until });
        }
    }

    /// What every reactor that still runs has counted, and what the others had when they ended.
    fn ask_reactors(&self) -> Vec<Report> {
        let (sender, receiver) = mpsc::channel();
        for reactor in &self.reactors {
            reactor.post(Mail::Report(sender.clone()));
        }
        drop(sender);
        let mut reports = self.reports.clone();
        let deadline = Instant::now() + REACTOR_PATIENCE;
        while reports.len() < self.reactors.len() {
            match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(report) => reports.push(report),
                Err(_) => {
                    let missing = self.reactors.len() - reports.len();
                    log::warn!("{missing} reactors do not answer: the counters lack theirs");
                    break;
                }
            }
        }
        reports
    }
}
