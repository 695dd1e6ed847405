//! The configuration: a file, `RINGSOCKS_*` over it, flags over both; parsed values, checked whole.
//!
//! `schema` has every key once; the `file`, the `environment` and the `flags` are read
//! through it into one layer, which is then built into a [`Config`]. Anything wrong is an
//! [`Error`] that says where, what, and what was meant. What only the running process can know
//! (which CPUs, which descriptors) is checked when it is asked for.

mod access_log;
mod advertise;
mod bind;
mod choice;
mod cpus;
mod environment;
mod error;
mod file;
mod flags;
mod listen;
mod polling;
mod ports;
mod relay;
mod report;
mod resolver;
mod schema;
mod secret;
mod targets;
mod udp;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use log::LevelFilter;

pub use access_log::AccessLog;
pub use advertise::Advertise;
pub use bind::Bind;
pub use cpus::Cpus;
pub use error::Error;
pub use flags::Args;
pub use listen::{Listen, ListenAddress, ListenCommand};
pub use polling::Polling;
pub use ports::PortRange;
pub use relay::RelayMode;
pub use resolver::Resolver;
pub use secret::Secret;
pub use targets::TargetRule;
pub use udp::{ClientCheck, Filter, Fragments, Udp};

use environment::Environment;
use error::Problem;
use schema::Layer;

/// Everything that can be configured. `Display` is the report of `ringsocks check`.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many reactors to run; one per CPU if `None`.
    pub workers: Option<usize>,
    /// Which CPUs to run on; all of the affinity mask if `None`.
    pub cpus: Option<Cpus>,
    /// What reactors do while nothing happens.
    pub poll: Polling,
    /// Who is asked for the addresses of names.
    pub resolver: Resolver,
    /// Where to listen; never empty, no socket twice.
    pub listen: Vec<Listen>,
    /// Names and passwords; if there are any, everyone needs one.
    pub users: BTreeMap<String, Secret>,
    /// How long each state of a session may last.
    pub timeout: Timeouts,
    /// How much may be used at a time.
    pub limit: Limits,
    /// How UDP associations behave.
    pub udp: Udp,
    /// How BIND waits for its connection.
    pub bind: Bind,
    /// How long sessions may go on after the first signal to stop; zero is not at all.
    pub drain: Duration,
    /// How bytes go from socket to socket.
    pub relay: RelayMode,
    /// Where every session leaves its line.
    pub access_log: AccessLog,
    /// What to log of operations.
    pub log: LevelFilter,
    /// Whether strangers may be served on purpose.
    pub open: bool,
}

/// Deadlines, in whole milliseconds and never zero; `None` is never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From accept to the whole request.
    pub handshake: Option<Duration>,
    /// Of one name.
    pub resolve: Option<Duration>,
    /// Of the connection to the target.
    pub connect: Option<Duration>,
    /// With both directions open and nothing moving.
    pub idle: Option<Duration>,
    /// With one direction ended and nothing moving in the other.
    pub half_closed: Option<Duration>,
    /// For the last bytes to a client whose request failed.
    pub closing: Option<Duration>,
}

/// Limits of the whole process, all reactors together. A client is an IPv4 address or an IPv6 /64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at a time; what the descriptor limit allows if `None`.
    pub sessions: Option<usize>,
    /// Sessions of one client at a time; as many as it likes if `None`.
    pub sessions_per_client: Option<usize>,
    /// Handshakes of one client at a time; as many as it likes if `None`.
    pub handshakes_per_client: Option<usize>,
    /// UDP associations and BINDs that wait of one client at a time; as many as it likes if `None`.
    pub ports_per_client: Option<usize>,
    /// Bytes of memory for rings, 1 MiB or more.
    pub buffers: u64,
}

impl Config {
    /// Reads what the command line, the environment and the file named by either say.
    pub fn load(
        args: &Args,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Config, Error> {
        let flags = args.flags();
        let environment = Environment::new(environment)?;
        let mut layer = Layer::default();
        if let Some(path) = flags.config() {
            file::read(path, "--config", &mut layer)?;
        } else if let Some(path) = environment.config() {
            file::read(&path, environment::CONFIG, &mut layer)?;
        }
        environment.read(&mut layer)?;
        flags.read(&mut layer)?;
        let config = layer.build();
        config.refuse_open_proxy()?;
        Ok(config)
    }

    /// Reads what a file with this `text` says alone; `name` is what errors call it.
    pub fn parse(name: &str, text: &str) -> Result<Config, Error> {
        let mut layer = Layer::default();
        file::parse(name, text, &mut layer)?;
        let config = layer.build();
        config.refuse_open_proxy()?;
        Ok(config)
    }

    /// Fails if anyone who can reach a listener from another host would be served, without that
    /// having been asked for; [`load`](Self::load) calls it.
    pub fn refuse_open_proxy(&self) -> Result<(), Error> {
        if self.open || !self.users.is_empty() {
            return Ok(());
        }
        let is_open = |listen: &&Listen| !listen.address.is_loopback() && listen.clients.is_empty();
        let Some(listen) = self.listen.iter().find(is_open) else {
            return Ok(());
        };
        let address = listen.address;
        let problem = format!(
            "the listener \"{address}\" would be an open proxy: with neither users nor clients, \
             everyone who can reach it may use it"
        );
        let ways = format!(
            "do one of these:\n\
             \x20    require a password:    users = {{ alice = \"plain:PASSWORD\" }}\n\
             \x20                           or RINGSOCKS_USERS_alice=plain:PASSWORD\n\
             \x20    say who may connect:   [[listen]]\n\
             \x20                           address = \"{address}\"\n\
             \x20                           clients = [\"10.0.0.0/8\"]\n\
             \x20    serve all on purpose:  open = true\n\
             \x20                           or --open, or RINGSOCKS_OPEN=true"
        );
        Err(Error::new(Problem::new(problem).hint(ways)))
    }
}

impl Default for Config {
    /// What runs if nothing is configured: SOCKS on 127.0.0.1:1080 and `[::1]`:1080.
    fn default() -> Config {
        Layer::default().build()
    }
}
