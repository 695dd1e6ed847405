//! The configuration: a file, `RINGSOCKS_*` over it, flags over both; parsed values, checked whole.
//!
//! `schema` has every key once; the `file`, the `environment` and the `flags` are read
//! through it into one layer, which is then built into a [`Config`]. Anything wrong is an
//! [`Error`] that says where, what, and what was meant. What only the running process can know
//! (which CPUs, which descriptors) is checked when it is asked for.

mod access_log;
mod advertise;
mod auth;
mod bind;
mod checks;
mod choice;
mod cpus;
mod environment;
mod error;
mod file;
mod flags;
mod gssapi;
mod keys;
mod listen;
mod login;
mod pam;
mod penalty;
mod polling;
mod ports;
mod principals;
mod relay;
mod report;
mod resolver;
mod schema;
mod secret;
mod show;
mod targets;
mod udp;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

pub use access_log::AccessLog;
pub use advertise::Advertise;
pub use auth::{AuthMethod, AuthRule};
pub use bind::Bind;
pub use cpus::Cpus;
pub use error::Error;
pub use flags::Args;
pub use gssapi::{Gssapi, Protection};
pub use listen::{Listen, ListenAddress, ListenCommand};
pub use pam::Pam;
pub use penalty::Penalty;
pub use polling::Polling;
pub use ports::PortRange;
pub use principals::{Pattern, PrincipalRule};
pub use relay::RelayMode;
pub use resolver::Resolver;
pub use secret::{Password, Secret};
pub use targets::TargetRule;
pub use udp::{ClientCheck, Filter, Fragments, Udp};

use choice::Choice;
use environment::Environment;
use error::Origins;
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
    /// Names and passwords.
    pub users: BTreeMap<String, Password>,
    /// A file of more of them.
    pub users_file: Option<PathBuf>,
    /// Groups, and the users in each.
    pub groups: BTreeMap<String, Vec<String>>,
    /// A file of more of them.
    pub groups_file: Option<PathBuf>,
    /// Whose users there are if they are not ours.
    pub pam: Pam,
    /// How long an address that has logged in may come without, never zero; `None` is not at all.
    pub auth_once: Option<Duration>,
    /// How long each state of a session may last.
    pub timeout: Timeouts,
    /// How much may be used at a time.
    pub limit: Limits,
    /// How UDP associations behave.
    pub udp: Udp,
    /// How BIND waits for its connection.
    pub bind: Bind,
    /// What failed logins cost.
    pub penalty: Penalty,
    /// Which security contexts are accepted.
    pub gssapi: Gssapi,
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
    origins: Origins,
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
        layer.build_checked()
    }

    /// Reads what a file with this `text` says alone; `name` is what errors call it.
    pub fn parse(name: &str, text: &str) -> Result<Config, Error> {
        let mut layer = Layer::default();
        file::parse(name, text, &mut layer)?;
        layer.build_checked()
    }

    /// How clients of a listener log in: the first rule that is for a client counts, and who fits
    /// none is not served.
    pub fn auth_rules(&self, listen: &Listen) -> Vec<AuthRule> {
        let default = || vec![AuthRule::for_everyone(self.methods_there_are())];
        listen.auth.clone().unwrap_or_else(default)
    }

    /// Where a key was said, or one user, or a table: `ringsocks.toml:3:9`, a variable.
    pub fn place(&self, key: &str) -> Option<&str> {
        self.origins.place(key)
    }

    /// Where a rule of a listener was said, both by their numbers.
    pub fn place_of_rule(&self, listen: usize, rule: usize) -> Option<&str> {
        self.place(schema::LISTEN_AUTH).or_else(|| self.place(&schema::rule_path(listen, rule)))
    }

    /// Whether there is anyone to compare a password with.
    pub fn has_passwords(&self) -> bool {
        !self.users.is_empty() || self.users_file.is_some() || self.pam.service.is_some()
    }

    /// How clients of a listener log in, in a word or two.
    pub fn methods(&self, listen: &Listen) -> String {
        match self.auth_rules(listen).as_slice() {
            [rule] if rule.from.is_empty() => {
                let words: Vec<_> = rule.methods.iter().map(|method| method.word()).collect();
                words.join(" or ")
            }
            _ => "by network".to_owned(),
        }
    }

    fn methods_there_are(&self) -> Vec<AuthMethod> {
        let has_keys = self.gssapi.keytab.is_some() || self.gssapi.service.is_some();
        let mut methods = Vec::new();
        methods.extend(has_keys.then_some(AuthMethod::Gssapi));
        methods.extend(self.has_passwords().then_some(AuthMethod::Password));
        if methods.is_empty() {
            methods.push(AuthMethod::None);
        }
        methods
    }
}

impl Default for Config {
    /// What runs if nothing is configured: SOCKS on 127.0.0.1:1080 and `[::1]`:1080.
    fn default() -> Config {
        Layer::default().build()
    }
}
