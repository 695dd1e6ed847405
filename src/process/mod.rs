//! The whole gateway: listeners, reactors on their CPUs, and signals.

mod addresses;
mod gateway;
mod passwd;
mod plan;
mod roster;
mod surroundings;

use std::error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use self::gateway::{Gateway, Upkeep};
pub use self::passwd::{PasswdError, users_line};
pub use self::plan::Plan;
use self::roster::Roster;
use self::surroundings::Surroundings;
use crate::access::AccessLog;
use crate::auth;
use crate::config::{self, Config, Listen};
use crate::logging::LogWriter;
use crate::offload::Pool;
use crate::policy::{
    Admitted, ClientLimits, Commands, Methods, Penalties, Ports, SessionLimit, Targets,
};
use crate::reactor::{Lookups, Setup, SystemPools, TaskPools};
use crate::session::{Sealing, Terms};
use crate::sys;

/// Names that `getaddrinfo(3)` may work on at a time, and that may wait for it.
const RESOLVER_THREADS: usize = 16;
const DATAGRAM_RESOLVER_THREADS: usize = 8;
const RESOLVER_QUEUE: usize = 4096;
/// Of one client: others have the rest to themselves.
const RESOLVER_QUEUE_PER_CLIENT: usize = RESOLVER_QUEUE / 2;

/// Logins that PAM may work on at a time.
const PAM_THREADS: usize = 16;
/// Logins that may wait, of each kind, and of one client's: more wait with their sessions.
const TASK_QUEUE: usize = 1024;
const TASK_QUEUE_PER_CLIENT: usize = 64;

/// Why the gateway does not run, or no longer does.
#[derive(Debug)]
pub enum Error {
    /// The configuration cannot be run on this machine.
    Config(config::Error),
    /// Who may come cannot be made out.
    Auth(auth::Error),
    /// The descriptor limit does not allow a single session.
    Descriptors {
        /// The hard limit of open descriptors.
        limit: u64,
        /// What the gateway needs for itself and one session.
        needed: u64,
    },
    /// An address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// The access log cannot be opened.
    AccessLog(config::AccessLog, io::Error),
    /// The system refused something else.
    System(&'static str, io::Error),
}

impl Error {
    /// The process's exit status: 78 (`EX_CONFIG`) where the configuration is to blame.
    pub fn exit_status(&self) -> u8 {
        match self {
            Error::Config(_) | Error::Auth(_) => config::Error::EXIT_STATUS,
            Error::Descriptors { .. }
            | Error::Listen(..)
            | Error::AccessLog(..)
            | Error::System(..) => 1,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Config(error) => error.fmt(f),
            Error::Auth(error) => error.fmt(f),
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
            Error::AccessLog(place, error) => {
                write!(f, "cannot open the access log {place}: {error}")
            }
            Error::System(what, error) => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl error::Error for Error {}

/// Serves until a signal says stop.
pub fn serve(plan: Plan<'_>, log: &LogWriter) -> Result<(), Error> {
    // First of all, for a signal that comes early must not find its default.
    let mut gateway = Gateway::new(plan.config.drain, log.clone())
        .map_err(|it| Error::System("watch for signals", it))?;
    let groups = addresses::take(plan.config, plan.cpus.len())?;
    let listeners: Vec<SocketAddr> = groups.iter().map(|(group, _)| group.address).collect();
    log::info!("ringsocks {}: {plan}", env!("CARGO_PKG_VERSION"));

    let limit = Arc::new(SessionLimit::new(plan.sessions_max, plan.descriptors_max));
    let (pools, tasks) = (system_pools()?, task_pools(plan.cpus.len())?);
    let auth = Arc::new(plan.auth);
    let terms = Arc::new(terms(plan.config, groups.iter().map(|(_, listen)| *listen), limit));
    let around = Surroundings::new(plan.config.resolver.clone(), listeners)?;
    let host = around.host();
    let (access_log, sinks) = AccessLog::start(&plan.config.access_log, plan.cpus.len())
        .map_err(|it| Error::AccessLog(plan.config.access_log.clone(), it))?;
    let shares = addresses::listen(groups, plan.cpus.len())?;
    let parts = plan.cpus.iter().zip(shares.into_iter().zip(sinks));
    for (index, (&cpu, (listeners, sink))) in parts.enumerate() {
        let setup = Setup {
            index: index as u16,
            listeners,
            terms: Arc::clone(&terms),
            host: Arc::clone(&host),
            poll: plan.config.poll,
            rings_max: plan.rings_max,
            relay: plan.config.relay,
            pipes_max: plan.pipes_max,
            resolver: match plan.config.resolver {
                config::Resolver::System => Lookups::System(pools.clone()),
                _ => Lookups::Own(around.sources(), plan.channels_max),
            },
            auth: Arc::clone(&auth),
            tasks: tasks.clone(),
            sink,
        };
        gateway.start_reactor(cpu, setup).map_err(|it| Error::System("start a reactor", it))?;
    }
    addresses::announce(&host.listeners);
    let roster = Roster::new(plan.config, auth, Instant::now());
    let look_at = Instant::now() + Surroundings::INTERVAL;
    gateway.run(Upkeep { access_log: &access_log, around, look_at, roster })
}

/// What sessions must know of a configuration with these listeners.
fn terms<'a>(
    config: &Config,
    listeners: impl Iterator<Item = &'a Listen> + Clone,
    limit: Arc<SessionLimit>,
) -> Terms {
    let config::Limits { sessions_per_client, handshakes_per_client, ports_per_client, .. } =
        config.limit;
    Terms {
        methods: listeners.clone().map(|it| Methods::new(config.auth_rules(it))).collect(),
        penalties: Penalties::new(config.penalty.clone()).into(),
        admitted: Admitted::new(config.auth_once).into(),
        sealing: Sealing {
            confidential: config.gssapi.require == config::Protection::Confidentiality,
            may_be_clear: config.gssapi.clear,
        },
        timeout: config.timeout.clone(),
        commands: listeners.clone().map(|it| Commands::new(it.commands.clone())).collect(),
        targets: listeners.map(|it| Targets::new(it.targets.clone())).collect(),
        udp: config.udp.clone(),
        udp_ports: ports(config.udp.ports),
        bind: config.bind.clone(),
        bind_ports: ports(config.bind.ports),
        limit,
        clients: ClientLimits::new(sessions_per_client, handshakes_per_client, ports_per_client)
            .into(),
    }
}

/// Threads for the system's resolver, should it be asked.
fn system_pools() -> Result<SystemPools, Error> {
    let pool = |name, threads| pool(name, threads, RESOLVER_QUEUE, RESOLVER_QUEUE_PER_CLIENT);
    Ok(SystemPools {
        requests: pool("resolve", RESOLVER_THREADS)?,
        datagrams: pool("resolve-udp", DATAGRAM_RESOLVER_THREADS)?,
    })
}

/// Threads that find out who clients are, beside so many reactors.
fn task_pools(reactors: usize) -> Result<TaskPools, Error> {
    let pool = |name, threads| pool(name, threads, TASK_QUEUE, TASK_QUEUE_PER_CLIENT);
    let processors = reactors.max(2);
    Ok(TaskPools {
        hashes: pool("hash", processors)?.patient(),
        pam: pool("pam", PAM_THREADS)?,
        gssapi: pool("gssapi", processors)?,
    })
}

fn pool(
    name: &'static str,
    threads: usize,
    queue: usize,
    queue_per_client: usize,
) -> Result<Pool, Error> {
    Pool::new(name, threads, queue, queue_per_client)
        .map_err(|it| Error::System("read the CPU affinity", it))
}

/// Ports of a range, from one on that nobody can foretell.
fn ports(range: config::PortRange) -> Arc<Ports> {
    let mut first = [0; 4];
    sys::fill_random(&mut first);
    Ports::new(range, u32::from_ne_bytes(first)).into()
}
