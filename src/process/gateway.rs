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
    pub(super) fn run(
        mut self,
        access_log: &AccessLog,
        mut around: Surroundings,
    ) -> Result<(), Error> {
        let ended = self.watch(access_log, &mut around);
        access_log.finish();
        ended?;
        self.say_counters(&self.reports, access_log);
        Ok(())
    }

    fn watch(&mut self, access_log: &AccessLog, around: &mut Surroundings) -> Result<(), Error> {
        let mut events = Events::with_capacity(8);
        let mut look_at = Instant::now() + Surroundings::INTERVAL;
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
            let until_look = look_at.saturating_duration_since(Instant::now());
            if until_look.is_zero() {
                look_at = Instant::now() + Surroundings::INTERVAL;
                self.look_around(around);
            }
            let patience = patience.map_or(until_look, |it| it.min(until_look));
            match self.poll.poll(&mut events, Some(patience)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                polled => polled.map_err(|it| Error::System("wait for signals", it))?,
            }
            let signals: Vec<i32> = self.signals.pending().collect();
            signals.into_iter().for_each(|signal| self.handle_signal(signal, access_log, around));
        }
    }

    fn look_around(&self, around: &mut Surroundings) {
        if around.look() {
            for reactor in &self.reactors {
                reactor.post(Mail::Surroundings(around.host(), around.sources()));
            }
        }
    }

    fn handle_signal(&mut self, signal: i32, access_log: &AccessLog, around: &mut Surroundings) {
        match signal {
            SIGTERM | SIGINT if self.over_at.is_none() => {
                self.stop(Instant::now() + self.drain);
                let drain = humantime::format_duration(self.drain);
                log::info!("stopping: sessions may go on for {drain}; a second signal ends them");
            }
            SIGTERM | SIGINT => self.stop(Instant::now()),
            SIGUSR1 => self.say_counters(&self.ask_reactors(), access_log),
            _ => {
                access_log.reopen();
                self.look_around(around);
            }
        }
    }

    fn say_counters(&self, reactors: &[Report], access_log: &AccessLog) {
        let (log_dropped, access_dropped) = (self.log.dropped(), access_log.dropped());
        self.log.say(&Summary { reactors, log_dropped, access_dropped }.to_string());
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
