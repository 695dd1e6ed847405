//! The whole gateway: listeners, reactors on their CPUs, and signals.

use std::error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use mio::{Events, Interest, Poll, Token, Waker};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0::Signals;

use crate::auth::{Users, UsersError};
use crate::config::{self, Config};
use crate::logging::LogWriter;
use crate::metrics::{Report, Summary};
use crate::offload::Pool;
use crate::policy::SessionLimit;
use crate::reactor::{BACKLOG, Group, Listener, Mail, Mailbox, Reactor, Setup};
use crate::relay::RING_BYTES;
use crate::session::Terms;
use crate::sys;

/// Names that `getaddrinfo(3)` may work on at a time, and that may wait for it.
const RESOLVER_THREADS: usize = 16;
const RESOLVER_QUEUE: usize = 4096;
/// Descriptors a session needs: its client's and its target's.
const DESCRIPTORS_PER_SESSION: u64 = 2;
/// Descriptors for everything else: standard streams, logs, the resolvers' own.
const DESCRIPTORS_RESERVED: u64 = 64;
/// Descriptors of one reactor besides its listeners and sessions.
const DESCRIPTORS_PER_REACTOR: usize = 8;
/// Sessions, however many descriptors there are: every reactor reserves room for all at start.
const SESSIONS_MAX: u64 = 1 << 20;
/// How long to wait for a reactor that has to answer at once.
const REACTOR_PATIENCE: Duration = Duration::from_secs(1);

const SIGNALS: Token = Token(0);
const REACTOR_ENDED: Token = Token(1);

/// Why the gateway does not run, or no longer does.
#[derive(Debug)]
pub enum Error {
    /// The configuration cannot be run on this machine.
    Config(config::Error),
    /// The users cannot log in.
    Users(UsersError),
    /// The descriptor limit does not allow a single session.
    Descriptors {
        /// The hard limit of open descriptors.
        limit: u64,
        /// What the gateway needs for itself and one session.
        needed: u64,
    },
    /// An address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// The system refused something else.
    System(&'static str, io::Error),
}

impl Error {
    /// The process's exit status: 78 (`EX_CONFIG`) where the configuration is to blame.
    pub fn exit_status(&self) -> u8 {
        match self {
            Error::Config(_) | Error::Users(_) => config::Error::EXIT_STATUS,
            Error::Descriptors { .. } | Error::Listen(..) | Error::System(..) => 1,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Config(error) => error.fmt(f),
            Error::Users(error) => error.fmt(f),
            Error::Descriptors { limit, needed } => write!(
                f,
                "a limit of {limit} open files leaves none for sessions: {needed} are needed at \
                 least\n  hint: raise it (ulimit -n, LimitNOFILE=) or run fewer workers"
            ),
            Error::Listen(address, error) => {
                write!(f, "cannot listen on {address}: {error}")?;
                match error.kind() {
                    io::ErrorKind::AddrInUse => {
                        f.write_str("\n  hint: is another instance, or another server, running?")
                    }
                    io::ErrorKind::AddrNotAvailable => {
                        f.write_str("\n  hint: no interface of this host has this address")
                    }
                    io::ErrorKind::PermissionDenied => f.write_str(
                        "\n  hint: ports below 1024 need root or the capability NET_BIND_SERVICE",
                    ),
                    _ => Ok(()),
                }
            }
            Error::System(what, error) => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl error::Error for Error {}

/// What a configuration comes to on this machine.
pub struct Plan<'a> {
    config: &'a Config,
    users: Users,
    /// Of each reactor.
    cpus: Vec<usize>,
    sessions_max: usize,
}

impl Plan<'_> {
    /// Makes out what would run, or why it would not.
    pub fn new(config: &Config) -> Result<Plan<'_>, Error> {
        let users = config.users.iter().map(|(name, password)| (name, password.expose()));
        let users = Users::new(users).map_err(Error::Users)?;
        let allowed =
            sys::allowed_cpus().map_err(|it| Error::System("read the CPU affinity", it))?;
        let cpus = config.reactor_cpus(&allowed).map_err(Error::Config)?;
        let sessions_max = session_limit(config, cpus.len())?;
        Ok(Plan { config, users, cpus, sessions_max })
    }
}

impl fmt::Display for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpus: Vec<String> = self.cpus.iter().map(ToString::to_string).collect();
        write!(
            f,
            "{} reactors on CPUs {}, {} sessions at most, {}",
            self.cpus.len(),
            cpus.join(","),
            self.sessions_max,
            if self.users.is_empty() { "no password asked" } else { "passwords required" }
        )
    }
}

/// Serves until a signal says stop.
pub fn serve(plan: Plan<'_>, log: &LogWriter) -> Result<(), Error> {
    // First of all, for a signal that comes early must not find its default.
    let mut gateway = Gateway::new(plan.config.drain, log.clone())
        .map_err(|it| Error::System("watch for signals", it))?;
    let groups = take_addresses(plan.config, plan.cpus.len())?;
    let addresses: Vec<SocketAddr> = groups.iter().map(|(group, _)| group.address).collect();
    log::info!("ringsocks {}: {plan}", env!("CARGO_PKG_VERSION"));

    let limit = Arc::new(SessionLimit::new(plan.sessions_max));
    let rings_max = (plan.config.limit.buffers / plan.cpus.len() as u64) as usize / RING_BYTES;
    let resolvers = Pool::new("resolve", RESOLVER_THREADS, RESOLVER_QUEUE)
        .map_err(|it| Error::System("read the CPU affinity", it))?;
    let timeout = plan.config.timeout.clone();
    let terms = Arc::new(Terms { users: plan.users, timeout, listeners: addresses.clone() });
    for (&cpu, listeners) in plan.cpus.iter().zip(listen(groups, plan.cpus.len())?) {
        let setup = Setup {
            listeners,
            terms: Arc::clone(&terms),
            limit: Arc::clone(&limit),
            rings_max,
            resolvers: resolvers.clone(),
        };
        gateway.start_reactor(cpu, setup).map_err(|it| Error::System("start a reactor", it))?;
    }
    announce(&addresses);
    gateway.run()
}

/// An address that is taken, and who may connect to it.
type Taken = (Group, Arc<[IpNet]>);

/// Takes every address for every reactor. The wildcards come first: who has one has all.
fn take_addresses(config: &Config, reactors: usize) -> Result<Vec<Taken>, Error> {
    let mut wanted: Vec<_> = config
        .listen
        .iter()
        .flat_map(|listen| listen.address.sockets().map(move |socket| (socket, &listen.clients)))
        .collect();
    wanted.sort_by_key(|((address, _), _)| !address.ip().is_unspecified());
    let mut groups: Vec<Taken> = Vec::new();
    for ((address, required), clients) in wanted {
        let claimed = groups.iter().map(|(group, _)| group).find(|group| group.covers(address));
        match Group::take(address, reactors, claimed) {
            Ok(group) => groups.push((group, clients.clone().into())),
            Err(error) if !required && is_missing_family(&error) => {
                log::info!("not listening on {address}: this host has no IPv6");
            }
            Err(error) => return Err(Error::Listen(address, error)),
        }
    }
    Ok(groups)
}

/// Opens every address, and gives each reactor its share of all.
fn listen(groups: Vec<Taken>, reactors: usize) -> Result<Vec<Vec<Listener>>, Error> {
    let mut shares: Vec<Vec<Listener>> = Vec::new();
    shares.resize_with(reactors, Vec::new);
    for (group, clients) in groups {
        let address = group.address;
        let listeners = group.listen(&clients).map_err(|it| Error::Listen(address, it))?;
        shares.iter_mut().zip(listeners).for_each(|(share, listener)| share.push(listener));
    }
    Ok(shares)
}

fn is_missing_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// The sessions that the descriptor limit, once raised, and the configuration allow.
fn session_limit(config: &Config, reactors: usize) -> Result<usize, Error> {
    let limit = sys::raise_descriptor_limit()
        .map_err(|it| Error::System("raise the limit of open files", it))?;
    let addresses: usize =
        config.listen.iter().map(|listen| listen.address.sockets().count()).sum();
    let overhead = DESCRIPTORS_RESERVED + (reactors * (DESCRIPTORS_PER_REACTOR + addresses)) as u64;
    let affordable = limit.saturating_sub(overhead) / DESCRIPTORS_PER_SESSION;
    if affordable == 0 {
        return Err(Error::Descriptors { limit, needed: overhead + DESCRIPTORS_PER_SESSION });
    }
    let affordable = affordable.min(SESSIONS_MAX) as usize;
    let wanted = config.limit.sessions.unwrap_or(affordable);
    if wanted > affordable {
        log::warn!(
            "limit.sessions = {wanted} is lowered to {affordable}: {limit} files may be open"
        );
    }
    Ok(wanted.min(affordable))
}

fn announce(addresses: &[SocketAddr]) {
    for address in addresses {
        log::info!("listening on {address}");
    }
    warn_of_short_backlog();
}

fn warn_of_short_backlog() {
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
    if let Some(somaxconn) = somaxconn.ok().and_then(|it| it.trim().parse::<i32>().ok())
        && somaxconn < BACKLOG
    {
        log::warn!(
            "net.core.somaxconn is {somaxconn}: a burst of more new clients is turned away; \
             {BACKLOG} would be better"
        );
    }
}

/// The main thread: it waits for signals and for reactors that end.
struct Gateway {
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
    fn new(drain: Duration, log: LogWriter) -> io::Result<Gateway> {
        let poll = Poll::new()?;
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1])?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), REACTOR_ENDED)?);
        let (sender, receiver) = mpsc::channel();
        let ended = Ended { waker, sender, receiver };
        let (reactors, reports) = (Vec::new(), Vec::new());
        Ok(Gateway { poll, signals, drain, reactors, ended, reports, log, over_at: None })
    }

    fn start_reactor(&mut self, cpu: usize, setup: Setup) -> io::Result<()> {
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

    fn run(mut self) -> Result<(), Error> {
        let mut events = Events::with_capacity(8);
        loop {
            while let Ok(report) = self.ended.receiver.try_recv() {
                // Without it a share of the clients would wait for ever, so it ends the process.
                self.reports.push(report.map_err(|it| Error::System("run a reactor", it))?);
            }
            let patience = self.over_at.map(|at| at.saturating_duration_since(Instant::now()));
            if self.reports.len() == self.reactors.len() {
                break;
            }
            if patience == Some(Duration::ZERO) {
                log::error!("a reactor does not end: leaving it");
                break;
            }
            match self.poll.poll(&mut events, patience) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                polled => polled.map_err(|it| Error::System("wait for signals", it))?,
            }
            let signals: Vec<i32> = self.signals.pending().collect();
            signals.into_iter().for_each(|signal| self.handle_signal(signal));
        }
        self.log.say(&Summary(&self.reports).to_string());
        Ok(())
    }

    fn handle_signal(&mut self, signal: i32) {
        match signal {
            SIGTERM | SIGINT if self.over_at.is_none() => {
                self.stop(Instant::now() + self.drain);
                let drain = humantime::format_duration(self.drain);
                log::info!("stopping: sessions may go on for {drain}; a second signal ends them");
            }
            SIGTERM | SIGINT => self.stop(Instant::now()),
            SIGUSR1 => self.log.say(&Summary(&self.ask_reactors()).to_string()),
            _ => {
                log::info!("nothing is re-read on this signal: restart to change the configuration")
            }
        }
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
