//! Every key there is: its place in a file, its variable, how it is read and shown.
//!
//! A new key is a line in [`KEYS`], a field in [`Layer`] and one in [`Config`].

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use log::LevelFilter;

use super::access_log::AccessLog;
use super::advertise::Advertise;
use super::bind::Bind;
use super::choice::Choice;
use super::cpus::Cpus;
use super::error::Problem;
use super::listen::{Listen, ListenAddress, ListenCommand};
use super::polling::Polling;
use super::ports::PortRange;
use super::relay::RelayMode;
use super::resolver::Resolver;
use super::secret::Secret;
use super::targets::TargetRule;
use super::udp::{ClientCheck, Filter, Fragments, Udp};
use super::value::{Value, show_duration, show_list, show_size};
use super::{Config, Limits, Timeouts};

/// What is configured so far, by a file, then the environment, then flags: each writes over what
/// the one before it said, field by field.
#[derive(Default)]
pub(super) struct Layer {
    workers: Option<usize>,
    cpus: Option<Cpus>,
    poll: Option<Polling>,
    resolver: Option<Resolver>,
    drain: Option<Duration>,
    relay: Option<RelayMode>,
    access_log: Option<AccessLog>,
    log: Option<LevelFilter>,
    open: Option<bool>,
    /// Replaced as a whole by a later layer.
    pub(super) users: Option<BTreeMap<String, Secret>>,
    /// Replaced as a whole by a later layer.
    pub(super) listen: Option<Vec<Listen>>,
    /// The clients of every listener, whatever it says itself.
    pub(super) clients: Option<Vec<IpNet>>,
    /// The targets of every listener, whatever it says itself.
    pub(super) targets: Option<Vec<TargetRule>>,
    /// The commands of every listener, whatever it says itself.
    pub(super) commands: Option<Vec<ListenCommand>>,
    handshake: Option<Option<Duration>>,
    resolve: Option<Option<Duration>>,
    connect: Option<Option<Duration>>,
    idle: Option<Option<Duration>>,
    half_closed: Option<Option<Duration>>,
    closing: Option<Option<Duration>>,
    sessions: Option<usize>,
    sessions_per_client: Option<Option<usize>>,
    handshakes_per_client: Option<Option<usize>>,
    ports_per_client: Option<Option<usize>>,
    buffers: Option<u64>,
    udp_ports: Option<PortRange>,
    udp_advertise: Option<Advertise>,
    udp_idle: Option<Option<Duration>>,
    peers: Option<usize>,
    client_check: Option<ClientCheck>,
    filter: Option<Filter>,
    fragments: Option<Fragments>,
    bind_ports: Option<PortRange>,
    bind_advertise: Option<Advertise>,
    bind_timeout: Option<Option<Duration>>,
}

impl Layer {
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
            drain: self.drain.unwrap_or(Duration::from_secs(30)),
            relay: self.relay.unwrap_or(RelayMode::Auto),
            access_log: self.access_log.unwrap_or(AccessLog::Stdout),
            log: self.log.unwrap_or(LevelFilter::Info),
            open: self.open.unwrap_or(false),
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

/// The keys of one `[[listen]]`.
pub(super) const LISTEN_KEYS: [&str; 4] = ["address", "clients", "targets", "commands"];

/// In the order they are shown.
pub(super) const KEYS: &[Key] = &[
    Key {
        path: "workers",
        form: Form::Value {
            set: |layer, value| put(&mut layer.workers, value.to_count()),
            show: |config| or_unset(config.workers, "one per CPU"),
        },
    },
    Key {
        path: "cpus",
        form: Form::Value {
            set: |layer, value| put(&mut layer.cpus, value.to_cpus()),
            show: |config| {
                let quoted = config.cpus.as_ref().map(|cpus| format!("\"{cpus}\""));
                or_unset(quoted, "all that this process may use")
            },
        },
    },
    Key {
        path: "poll",
        form: Form::Value {
            set: |layer, value| put(&mut layer.poll, value.to_choice()),
            show: |config| Shown::Value(config.poll.show()),
        },
    },
    Key {
        path: "resolver",
        form: Form::Value {
            set: |layer, value| put(&mut layer.resolver, value.to_resolver()),
            show: |config| match &config.resolver {
                Resolver::ResolvConf => Shown::Unset("the servers of resolv.conf"),
                resolver => Shown::Value(resolver.to_string()),
            },
        },
    },
    Key {
        path: "drain",
        form: Form::Value {
            set: |layer, value| put(&mut layer.drain, value.to_drain()),
            show: |config| Shown::Value(show_duration(config.drain)),
        },
    },
    Key {
        path: "relay",
        form: Form::Value {
            set: |layer, value| put(&mut layer.relay, value.to_choice()),
            show: |config| Shown::Value(config.relay.show()),
        },
    },
    Key {
        path: "access_log",
        form: Form::Value {
            set: |layer, value| put(&mut layer.access_log, value.to_access_log()),
            show: |config| Shown::Value(config.access_log.to_string()),
        },
    },
    Key {
        path: "log",
        form: Form::Value {
            set: |layer, value| put(&mut layer.log, value.to_level()),
            show: |config| Shown::Value(format!("\"{}\"", config.log).to_lowercase()),
        },
    },
    Key {
        path: "open",
        form: Form::Value {
            set: |layer, value| put(&mut layer.open, value.to_boolean()),
            show: |config| Shown::Value(config.open.to_string()),
        },
    },
    Key { path: "users", form: Form::Users },
    Key { path: "listen", form: Form::Listen },
    Key {
        path: "timeout.handshake",
        form: Form::Value {
            set: |layer, value| put(&mut layer.handshake, value.to_timeout()),
            show: |config| timeout(config.timeout.handshake),
        },
    },
    Key {
        path: "timeout.resolve",
        form: Form::Value {
            set: |layer, value| put(&mut layer.resolve, value.to_timeout()),
            show: |config| timeout(config.timeout.resolve),
        },
    },
    Key {
        path: "timeout.connect",
        form: Form::Value {
            set: |layer, value| put(&mut layer.connect, value.to_timeout()),
            show: |config| timeout(config.timeout.connect),
        },
    },
    Key {
        path: "timeout.idle",
        form: Form::Value {
            set: |layer, value| put(&mut layer.idle, value.to_timeout()),
            show: |config| timeout(config.timeout.idle),
        },
    },
    Key {
        path: "timeout.half_closed",
        form: Form::Value {
            set: |layer, value| put(&mut layer.half_closed, value.to_timeout()),
            show: |config| timeout(config.timeout.half_closed),
        },
    },
    Key {
        path: "timeout.closing",
        form: Form::Value {
            set: |layer, value| put(&mut layer.closing, value.to_timeout()),
            show: |config| timeout(config.timeout.closing),
        },
    },
    Key {
        path: "limit.sessions",
        form: Form::Value {
            set: |layer, value| put(&mut layer.sessions, value.to_count()),
            show: |config| or_unset(config.limit.sessions, "what the descriptor limit allows"),
        },
    },
    Key {
        path: "limit.sessions_per_client",
        form: Form::Value {
            set: |layer, value| put(&mut layer.sessions_per_client, value.to_limit()),
            show: |config| limit(config.limit.sessions_per_client),
        },
    },
    Key {
        path: "limit.handshakes_per_client",
        form: Form::Value {
            set: |layer, value| put(&mut layer.handshakes_per_client, value.to_limit()),
            show: |config| limit(config.limit.handshakes_per_client),
        },
    },
    Key {
        path: "limit.ports_per_client",
        form: Form::Value {
            set: |layer, value| put(&mut layer.ports_per_client, value.to_limit()),
            show: |config| limit(config.limit.ports_per_client),
        },
    },
    Key {
        path: "limit.buffers",
        form: Form::Value {
            set: |layer, value| put(&mut layer.buffers, value.to_size()),
            show: |config| Shown::Value(show_size(config.limit.buffers)),
        },
    },
    Key {
        path: "udp.ports",
        form: Form::Value {
            set: |layer, value| put(&mut layer.udp_ports, value.to_ports()),
            show: |config| Shown::Value(format!("\"{}\"", config.udp.ports)),
        },
    },
    Key {
        path: "udp.advertise",
        form: Form::Value {
            set: |layer, value| put(&mut layer.udp_advertise, value.to_advertise()),
            show: |config| advertise(&config.udp.advertise),
        },
    },
    Key {
        path: "udp.idle",
        form: Form::Value {
            set: |layer, value| put(&mut layer.udp_idle, value.to_timeout()),
            show: |config| timeout(config.udp.idle),
        },
    },
    Key {
        path: "udp.peers",
        form: Form::Value {
            set: |layer, value| put(&mut layer.peers, value.to_count()),
            show: |config| Shown::Value(config.udp.peers.to_string()),
        },
    },
    Key {
        path: "udp.client_check",
        form: Form::Value {
            set: |layer, value| put(&mut layer.client_check, value.to_choice()),
            show: |config| Shown::Value(config.udp.client_check.show()),
        },
    },
    Key {
        path: "udp.filter",
        form: Form::Value {
            set: |layer, value| put(&mut layer.filter, value.to_choice()),
            show: |config| Shown::Value(config.udp.filter.show()),
        },
    },
    Key {
        path: "udp.fragments",
        form: Form::Value {
            set: |layer, value| put(&mut layer.fragments, value.to_choice()),
            show: |config| Shown::Value(config.udp.fragments.show()),
        },
    },
    Key {
        path: "bind.ports",
        form: Form::Value {
            set: |layer, value| put(&mut layer.bind_ports, value.to_ports()),
            show: |config| Shown::Value(format!("\"{}\"", config.bind.ports)),
        },
    },
    Key {
        path: "bind.advertise",
        form: Form::Value {
            set: |layer, value| put(&mut layer.bind_advertise, value.to_advertise()),
            show: |config| advertise(&config.bind.advertise),
        },
    },
    Key {
        path: "bind.timeout",
        form: Form::Value {
            set: |layer, value| put(&mut layer.bind_timeout, value.to_timeout()),
            show: |config| timeout(config.bind.timeout),
        },
    },
];

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
    users: &mut BTreeMap<String, Secret>,
    name: &str,
    password: Secret,
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

/// The keys a table knows, for someone whose key resembles none.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    format!("known here: {}", quoted.join(", "))
}

fn put<T>(field: &mut Option<T>, value: Result<T, Problem>) -> Result<(), Problem> {
    *field = Some(value?);
    Ok(())
}

fn or_unset(value: Option<impl ToString>, unset: &'static str) -> Shown {
    value.map_or(Shown::Unset(unset), |value| Shown::Value(value.to_string()))
}

fn limit(limit: Option<usize>) -> Shown {
    Shown::Value(limit.unwrap_or_default().to_string())
}

fn advertise(advertise: &Advertise) -> Shown {
    match advertise.entries() {
        [] => Shown::Unset("our own address"),
        entries => Shown::Value(show_list(entries)),
    }
}

fn timeout(timeout: Option<Duration>) -> Shown {
    Shown::Value(show_duration(timeout.unwrap_or_default()))
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
