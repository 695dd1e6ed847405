//! Every key there is: its place in a file, its variable, how it is read and shown.
//!
//! A new key is a line in [`KEYS`], a field in [`Layer`] and one in [`Config`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use log::LevelFilter;

use super::access_log::AccessLog;
use super::advertise::Advertise;
use super::auth::AuthRule;
use super::bind::Bind;
use super::checks;
use super::cpus::Cpus;
use super::error::{Error, Origins, Problem};
use super::gssapi::{Gssapi, Protection};
use super::keys::KEYS;
use super::listen::{Listen, ListenAddress, ListenCommand};
use super::login;
use super::pam::Pam;
use super::penalty::Penalty;
use super::polling::Polling;
use super::ports::PortRange;
use super::principals::PrincipalRule;
use super::relay::RelayMode;
use super::resolver::Resolver;
use super::secret::{Password, Secret};
use super::targets::TargetRule;
use super::udp::{ClientCheck, Filter, Fragments, Udp};
use super::value::Value;
use super::{Config, Limits, Timeouts};

/// What is configured so far, by a file, then the environment, then flags: each writes over what
/// the one before it said, field by field.
#[derive(Default)]
pub(super) struct Layer {
    /// Tables and single users, too; rules are [`LISTEN_AUTH`] or [`rule_path`].
    pub(super) origins: Origins,
    pub(super) workers: Option<usize>,
    pub(super) cpus: Option<Cpus>,
    pub(super) poll: Option<Polling>,
    pub(super) resolver: Option<Resolver>,
    pub(super) drain: Option<Duration>,
    pub(super) relay: Option<RelayMode>,
    pub(super) access_log: Option<AccessLog>,
    pub(super) log: Option<LevelFilter>,
    pub(super) open: Option<bool>,
    /// Replaced as a whole by a later layer.
    pub(super) users: Option<BTreeMap<String, Password>>,
    pub(super) users_file: Option<PathBuf>,
    /// Replaced as a whole by a later layer.
    pub(super) groups: Option<BTreeMap<String, Vec<String>>>,
    pub(super) groups_file: Option<PathBuf>,
    pub(super) pam_service: Option<String>,
    pub(super) pam_library: Option<PathBuf>,
    pub(super) pam_confdir: Option<PathBuf>,
    pub(super) auth_once: Option<Option<Duration>>,
    /// Replaced as a whole by a later layer.
    pub(super) listen: Option<Vec<Listen>>,
    /// The clients of every listener, whatever it says itself.
    pub(super) clients: Option<Vec<IpNet>>,
    /// The targets of every listener, whatever it says itself.
    pub(super) targets: Option<Vec<TargetRule>>,
    /// The commands of every listener, whatever it says itself.
    pub(super) commands: Option<Vec<ListenCommand>>,
    /// How clients of every listener log in, whatever it says itself.
    pub(super) auth: Option<Vec<AuthRule>>,
    pub(super) handshake: Option<Option<Duration>>,
    pub(super) resolve: Option<Option<Duration>>,
    pub(super) connect: Option<Option<Duration>>,
    pub(super) idle: Option<Option<Duration>>,
    pub(super) half_closed: Option<Option<Duration>>,
    pub(super) closing: Option<Option<Duration>>,
    pub(super) sessions: Option<usize>,
    pub(super) sessions_per_client: Option<Option<usize>>,
    pub(super) handshakes_per_client: Option<Option<usize>>,
    pub(super) ports_per_client: Option<Option<usize>>,
    pub(super) buffers: Option<u64>,
    pub(super) udp_ports: Option<PortRange>,
    pub(super) udp_advertise: Option<Advertise>,
    pub(super) udp_idle: Option<Option<Duration>>,
    pub(super) peers: Option<usize>,
    pub(super) client_check: Option<ClientCheck>,
    pub(super) filter: Option<Filter>,
    pub(super) fragments: Option<Fragments>,
    pub(super) bind_ports: Option<PortRange>,
    pub(super) bind_advertise: Option<Advertise>,
    pub(super) bind_timeout: Option<Option<Duration>>,
    pub(super) penalty_failure: Option<Duration>,
    pub(super) penalty_threshold: Option<Duration>,
    pub(super) penalty_max: Option<Duration>,
    pub(super) penalty_exempt: Option<Vec<IpNet>>,
    pub(super) gssapi_library: Option<PathBuf>,
    pub(super) gssapi_keytab: Option<String>,
    pub(super) gssapi_service: Option<String>,
    pub(super) gssapi_realms: Option<Vec<String>>,
    pub(super) gssapi_principals: Option<Vec<PrincipalRule>>,
    pub(super) gssapi_require: Option<Protection>,
    pub(super) gssapi_clear: Option<bool>,
}

impl Layer {
    /// What was said, unless its parts do not fit together.
    pub(super) fn build_checked(self) -> Result<Config, Error> {
        let config = self.build();
        checks::check(&config)?;
        Ok(config)
    }

    /// Puts the default where nothing was said.
    pub(super) fn build(mut self) -> Config {
        let seconds = |n| Some(Duration::from_secs(n));
        let listen = self.build_listeners();
        Config {
            workers: self.workers,
            cpus: self.cpus,
            poll: self.poll.unwrap_or(Polling::Wait),
            resolver: self.resolver.unwrap_or(Resolver::ResolvConf),
            listen,
            users: self.users.unwrap_or_default(),
            users_file: self.users_file,
            groups: self.groups.unwrap_or_default(),
            groups_file: self.groups_file,
            pam: Pam {
                service: self.pam_service,
                library: self.pam_library.unwrap_or_else(|| "libpam.so.0".into()),
                confdir: self.pam_confdir,
            },
            auth_once: self.auth_once.unwrap_or(None),
            timeout: Timeouts {
                handshake: self.handshake.unwrap_or(seconds(10)),
                resolve: self.resolve.unwrap_or(seconds(5)),
                connect: self.connect.unwrap_or(seconds(10)),
                idle: self.idle.unwrap_or(seconds(2 * 60 * 60)),
                half_closed: self.half_closed.unwrap_or(seconds(60)),
                closing: self.closing.unwrap_or(seconds(2)),
            },
            limit: Limits {
                sessions: self.sessions,
                sessions_per_client: self.sessions_per_client.unwrap_or(None),
                handshakes_per_client: self.handshakes_per_client.unwrap_or(Some(256)),
                ports_per_client: self.ports_per_client.unwrap_or(None),
                buffers: self.buffers.unwrap_or(256 << 20),
            },
            udp: Udp {
                ports: self.udp_ports.unwrap_or(PortRange::between(40000, 40999)),
                advertise: self.udp_advertise.unwrap_or_default(),
                idle: self.udp_idle.unwrap_or(seconds(5 * 60)),
                peers: self.peers.unwrap_or(4096),
                client_check: self.client_check.unwrap_or(ClientCheck::Strict),
                filter: self.filter.unwrap_or(Filter::Address),
                fragments: self.fragments.unwrap_or(Fragments::Reassemble),
            },
            bind: Bind {
                ports: self.bind_ports.unwrap_or(PortRange::between(41000, 41999)),
                advertise: self.bind_advertise.unwrap_or_default(),
                timeout: self.bind_timeout.unwrap_or(seconds(2 * 60)),
            },
            penalty: Penalty {
                failure: self.penalty_failure.unwrap_or(Duration::from_secs(5)),
                threshold: self.penalty_threshold.unwrap_or(Duration::from_secs(15)),
                max: self.penalty_max.unwrap_or(Duration::from_secs(10 * 60)),
                exempt: self.penalty_exempt.unwrap_or_default(),
            },
            gssapi: Gssapi {
                library: self.gssapi_library.unwrap_or_else(|| "libgssapi_krb5.so.2".into()),
                keytab: self.gssapi_keytab,
                service: self.gssapi_service,
                realms: self.gssapi_realms,
                principals: self.gssapi_principals.unwrap_or_else(PrincipalRule::default_rules),
                require: self.gssapi_require.unwrap_or(Protection::Integrity),
                clear: self.gssapi_clear.unwrap_or(false),
            },
            drain: self.drain.unwrap_or(Duration::from_secs(30)),
            relay: self.relay.unwrap_or(RelayMode::Auto),
            access_log: self.access_log.unwrap_or(AccessLog::Stdout),
            log: self.log.unwrap_or(LevelFilter::Info),
            open: self.open.unwrap_or(false),
            origins: self.origins,
        }
    }

    fn build_listeners(&mut self) -> Vec<Listen> {
        let mut listeners = self.listen.take().unwrap_or_else(default_listeners);
        for listen in &mut listeners {
            if let Some(clients) = &self.clients {
                listen.clients.clone_from(clients);
            }
            if self.targets.is_some() {
                listen.targets.clone_from(&self.targets);
            }
            if self.commands.is_some() {
                listen.commands.clone_from(&self.commands);
            }
            if self.auth.is_some() {
                listen.auth.clone_from(&self.auth);
            }
        }
        listeners
    }
}

/// A key that may stand in a file.
pub(super) struct Key {
    /// Its place, the tables before it divided by dots.
    pub(super) path: &'static str,
    pub(super) form: Form,
}

/// What a key holds.
pub(super) enum Form {
    /// One value.
    Value { set: fn(&mut Layer, Value<'_>) -> Result<(), Problem>, show: fn(&Config) -> Shown },
    /// The table of users and their passwords.
    Users,
    /// The table of groups and their users.
    Groups,
    /// The array of listeners, each a table of [`LISTEN_KEYS`].
    Listen,
}

/// An effective value as `check` tells it.
pub(super) enum Shown {
    Value(String),
    /// Nothing was configured; what that means.
    Unset(&'static str),
}

/// Where to listen if nobody says.
fn default_listeners() -> Vec<Listen> {
    vec![Listen::at(ListenAddress::Loopback(1080))]
}

/// Where the rules of every listener were said, if they were at once.
pub(super) const LISTEN_AUTH: &str = "listen.auth";

/// Where a rule of one listener was said.
pub(super) fn rule_path(listen: usize, rule: usize) -> String {
    format!("listen.{listen}.auth.{rule}")
}

/// The keys of one `[[listen]]`.
pub(super) const LISTEN_KEYS: [&str; 5] = ["address", "clients", "targets", "commands", "auth"];

impl Key {
    /// The table it stands in, empty for the top, and its own name.
    pub(super) fn split(&self) -> (&'static str, &'static str) {
        self.path.rsplit_once('.').unwrap_or(("", self.path))
    }

    /// `RINGSOCKS_TIMEOUT_IDLE` for `timeout.idle`.
    pub(super) fn variable(&self) -> String {
        format!("RINGSOCKS_{}", self.path.replace('.', "_").to_uppercase())
    }
}

/// The key `name` of the table `table`, empty for the top.
pub(super) fn find(table: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.split() == (table, name))
}

/// Whether `name` is a table of keys.
pub(super) fn is_table(name: &str) -> bool {
    !name.is_empty() && KEYS.iter().any(|key| key.split().0 == name)
}

/// What may stand in a table: its keys and, at the top, the other tables.
pub(super) fn names(table: &str) -> Vec<&'static str> {
    let mut names: Vec<_> =
        KEYS.iter().filter(|key| key.split().0 == table).map(|key| key.split().1).collect();
    if table.is_empty() {
        names.extend(KEYS.iter().map(|key| key.split().0).filter(|table| !table.is_empty()));
        names.dedup();
    }
    names
}

/// The candidate that `name` most likely is a slip of the pen for.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let slips = |candidate: &str| {
        strsim::damerau_levenshtein(&name.to_lowercase(), &candidate.to_lowercase())
    };
    candidates
        .into_iter()
        .map(|candidate| (slips(candidate), candidate))
        .filter(|&(slips, candidate)| slips <= candidate.len() / 3)
        .min_by_key(|&(slips, _)| slips)
        .map(|(_, candidate)| candidate)
}

/// Adds a user to a table of them.
pub(super) fn add_user(
    users: &mut BTreeMap<String, Password>,
    name: &str,
    password: Password,
) -> Result<(), Problem> {
    if name.len() > Secret::MAX_LEN {
        return Err(Problem::new("the user's name is too long")
            .hint("SOCKS carries at most 255 bytes of it (RFC 1929)"));
    }
    match users.insert(name.to_owned(), password) {
        None => Ok(()),
        Some(_) => Err(Problem::new(format!("the user {name:?} is given twice"))),
    }
}

/// Adds a group to a table of them.
pub(super) fn add_group(
    groups: &mut BTreeMap<String, Vec<String>>,
    name: &str,
    members: Vec<String>,
) -> Result<(), Problem> {
    if name.is_empty() {
        return Err(Problem::new("the group has no name").hint(login::GROUP));
    }
    groups.insert(name.to_owned(), members);
    Ok(())
}

/// The keys a table knows, for someone whose key resembles none.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    format!("known here: {}", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_keys_share_a_path_or_a_variable() {
        let mut variables: Vec<_> = KEYS.iter().map(Key::variable).collect();
        variables.sort();
        variables.dedup();
        assert_eq!(variables.len(), KEYS.len());
        for key in KEYS {
            let (table, name) = key.split();
            assert_eq!(find(table, name).map(|found| found.path), Some(key.path));
        }
    }

    #[test]
    fn a_slip_is_recognized_and_a_stranger_is_not() {
        assert_eq!(nearest("tiemout", names("")), Some("timeout"));
        assert_eq!(nearest("Workers", names("")), Some("workers"));
        assert_eq!(nearest("halfclosed", names("timeout")), Some("half_closed"));
        assert_eq!(nearest("nameserver", names("")), None);
        assert_eq!(nearest("", names("")), None);
    }
}
