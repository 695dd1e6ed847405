//! The table of keys.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::Config;
use super::advertise::Advertise;
use super::choice::Choice;
use super::error::Problem;
use super::resolver::Resolver;
use super::schema::{Form, Key, Layer, Shown};
use super::show::{show_duration, show_list, show_size, show_text, show_texts};
use super::value::Value;

/// In the order they are shown.
pub(super) const KEYS: &[Key] = &[
    value(
        "workers",
        |layer, value| put(&mut layer.workers, value.to_count()),
        |config| plain_or(config.workers, "one per CPU"),
    ),
    value(
        "cpus",
        |layer, value| put(&mut layer.cpus, value.to_cpus()),
        |config| {
            let quoted = config.cpus.as_ref().map(|cpus| format!("\"{cpus}\""));
            plain_or(quoted, "all that this process may use")
        },
    ),
    value(
        "poll",
        |layer, value| put(&mut layer.poll, value.to_choice()),
        |config| choice(config.poll),
    ),
    value(
        "resolver",
        |layer, value| put(&mut layer.resolver, value.to_resolver()),
        |config| match &config.resolver {
            Resolver::ResolvConf => Shown::Unset("the servers of resolv.conf"),
            resolver => plain(resolver),
        },
    ),
    value(
        "drain",
        |layer, value| put(&mut layer.drain, value.to_drain()),
        |config| duration(config.drain),
    ),
    value(
        "relay",
        |layer, value| put(&mut layer.relay, value.to_choice()),
        |config| choice(config.relay),
    ),
    value(
        "access_log",
        |layer, value| put(&mut layer.access_log, value.to_access_log()),
        |config| plain(&config.access_log),
    ),
    value(
        "log",
        |layer, value| put(&mut layer.log, value.to_level()),
        |config| Shown::Value(format!("\"{}\"", config.log).to_lowercase()),
    ),
    value(
        "open",
        |layer, value| put(&mut layer.open, value.to_boolean()),
        |config| plain(&config.open),
    ),
    Key { path: "users", form: Form::Users },
    value(
        "users_file",
        |layer, value| put(&mut layer.users_file, value.to_users_file()),
        |config| path_or(config.users_file.as_deref(), "none"),
    ),
    Key { path: "groups", form: Form::Groups },
    value(
        "groups_file",
        |layer, value| put(&mut layer.groups_file, value.to_path()),
        |config| path_or(config.groups_file.as_deref(), "none"),
    ),
    value(
        "pam_service",
        |layer, value| put(&mut layer.pam_service, value.to_pam_service()),
        |config| text_or(config.pam.service.as_deref(), "PAM is not asked"),
    ),
    value(
        "pam_library",
        |layer, value| put(&mut layer.pam_library, value.to_library()),
        |config| path(&config.pam.library),
    ),
    value(
        "pam_confdir",
        |layer, value| put(&mut layer.pam_confdir, value.to_path()),
        |config| path_or(config.pam.confdir.as_deref(), "the system's"),
    ),
    value(
        "auth_once",
        |layer, value| put(&mut layer.auth_once, value.to_auth_once()),
        |config| timeout(config.auth_once),
    ),
    Key { path: "listen", form: Form::Listen },
    value(
        "timeout.handshake",
        |layer, value| put(&mut layer.handshake, value.to_timeout()),
        |config| timeout(config.timeout.handshake),
    ),
    value(
        "timeout.resolve",
        |layer, value| put(&mut layer.resolve, value.to_timeout()),
        |config| timeout(config.timeout.resolve),
    ),
    value(
        "timeout.connect",
        |layer, value| put(&mut layer.connect, value.to_timeout()),
        |config| timeout(config.timeout.connect),
    ),
    value(
        "timeout.idle",
        |layer, value| put(&mut layer.idle, value.to_timeout()),
        |config| timeout(config.timeout.idle),
    ),
    value(
        "timeout.half_closed",
        |layer, value| put(&mut layer.half_closed, value.to_timeout()),
        |config| timeout(config.timeout.half_closed),
    ),
    value(
        "timeout.closing",
        |layer, value| put(&mut layer.closing, value.to_timeout()),
        |config| timeout(config.timeout.closing),
    ),
    value(
        "limit.sessions",
        |layer, value| put(&mut layer.sessions, value.to_count()),
        |config| plain_or(config.limit.sessions, "what the descriptor limit allows"),
    ),
    value(
        "limit.sessions_per_client",
        |layer, value| put(&mut layer.sessions_per_client, value.to_limit()),
        |config| limit(config.limit.sessions_per_client),
    ),
    value(
        "limit.handshakes_per_client",
        |layer, value| put(&mut layer.handshakes_per_client, value.to_limit()),
        |config| limit(config.limit.handshakes_per_client),
    ),
    value(
        "limit.ports_per_client",
        |layer, value| put(&mut layer.ports_per_client, value.to_limit()),
        |config| limit(config.limit.ports_per_client),
    ),
    value(
        "limit.buffers",
        |layer, value| put(&mut layer.buffers, value.to_size()),
        |config| Shown::Value(show_size(config.limit.buffers)),
    ),
    value(
        "udp.ports",
        |layer, value| put(&mut layer.udp_ports, value.to_ports()),
        |config| quoted(&config.udp.ports),
    ),
    value(
        "udp.advertise",
        |layer, value| put(&mut layer.udp_advertise, value.to_advertise()),
        |config| advertise(&config.udp.advertise),
    ),
    value(
        "udp.idle",
        |layer, value| put(&mut layer.udp_idle, value.to_timeout()),
        |config| timeout(config.udp.idle),
    ),
    value(
        "udp.peers",
        |layer, value| put(&mut layer.peers, value.to_count()),
        |config| plain(&config.udp.peers),
    ),
    value(
        "udp.client_check",
        |layer, value| put(&mut layer.client_check, value.to_choice()),
        |config| choice(config.udp.client_check),
    ),
    value(
        "udp.filter",
        |layer, value| put(&mut layer.filter, value.to_choice()),
        |config| choice(config.udp.filter),
    ),
    value(
        "udp.fragments",
        |layer, value| put(&mut layer.fragments, value.to_choice()),
        |config| choice(config.udp.fragments),
    ),
    value(
        "bind.ports",
        |layer, value| put(&mut layer.bind_ports, value.to_ports()),
        |config| quoted(&config.bind.ports),
    ),
    value(
        "bind.advertise",
        |layer, value| put(&mut layer.bind_advertise, value.to_advertise()),
        |config| advertise(&config.bind.advertise),
    ),
    value(
        "bind.timeout",
        |layer, value| put(&mut layer.bind_timeout, value.to_timeout()),
        |config| timeout(config.bind.timeout),
    ),
    value(
        "penalty.failure",
        |layer, value| put(&mut layer.penalty_failure, value.to_penalty()),
        |config| duration(config.penalty.failure),
    ),
    value(
        "penalty.threshold",
        |layer, value| put(&mut layer.penalty_threshold, value.to_penalty()),
        |config| duration(config.penalty.threshold),
    ),
    value(
        "penalty.max",
        |layer, value| put(&mut layer.penalty_max, value.to_most_penalty()),
        |config| duration(config.penalty.max),
    ),
    value(
        "penalty.exempt",
        |layer, value| put(&mut layer.penalty_exempt, value.to_exempt()),
        |config| Shown::Value(show_list(&config.penalty.exempt)),
    ),
    value(
        "gssapi.library",
        |layer, value| put(&mut layer.gssapi_library, value.to_library()),
        |config| path(&config.gssapi.library),
    ),
    value(
        "gssapi.keytab",
        |layer, value| put(&mut layer.gssapi_keytab, value.to_keytab()),
        |config| text_or(config.gssapi.keytab.as_deref(), "the default of the library"),
    ),
    value(
        "gssapi.service",
        |layer, value| put(&mut layer.gssapi_service, value.to_service()),
        |config| text_or(config.gssapi.service.as_deref(), "any that there is a key of"),
    ),
    value(
        "gssapi.realms",
        |layer, value| put(&mut layer.gssapi_realms, value.to_realms()),
        |config| match &config.gssapi.realms {
            Some(realms) => Shown::Value(show_texts(realms)),
            None => Shown::Unset("that of our own service"),
        },
    ),
    value(
        "gssapi.principals",
        |layer, value| put(&mut layer.gssapi_principals, value.to_principals()),
        |config| Shown::Value(show_texts(&config.gssapi.principals)),
    ),
    value(
        "gssapi.require",
        |layer, value| put(&mut layer.gssapi_require, value.to_choice()),
        |config| choice(config.gssapi.require),
    ),
    value(
        "gssapi.clear",
        |layer, value| put(&mut layer.gssapi_clear, value.to_boolean()),
        |config| plain(&config.gssapi.clear),
    ),
];

/// A key with one value: how that is read, and shown.
const fn value(
    path: &'static str,
    set: fn(&mut Layer, Value<'_>) -> Result<(), Problem>,
    show: fn(&Config) -> Shown,
) -> Key {
    Key { path, form: Form::Value { set, show } }
}

fn put<T>(field: &mut Option<T>, value: Result<T, Problem>) -> Result<(), Problem> {
    *field = Some(value?);
    Ok(())
}

fn plain(value: &impl ToString) -> Shown {
    Shown::Value(value.to_string())
}

fn plain_or(value: Option<impl ToString>, unset: &'static str) -> Shown {
    value.map_or(Shown::Unset(unset), |value| plain(&value))
}

fn quoted(value: &impl fmt::Display) -> Shown {
    Shown::Value(format!("\"{value}\""))
}

fn choice(choice: impl Choice) -> Shown {
    Shown::Value(choice.show())
}

fn limit(limit: Option<usize>) -> Shown {
    plain(&limit.unwrap_or_default())
}

fn advertise(advertise: &Advertise) -> Shown {
    match advertise.entries() {
        [] => Shown::Unset("our own address"),
        entries => Shown::Value(show_list(entries)),
    }
}

fn duration(duration: Duration) -> Shown {
    Shown::Value(show_duration(duration))
}

fn timeout(timeout: Option<Duration>) -> Shown {
    duration(timeout.unwrap_or_default())
}

fn text_or(text: Option<&str>, unset: &'static str) -> Shown {
    text.map_or(Shown::Unset(unset), |text| Shown::Value(show_text(text)))
}

fn path(path: &Path) -> Shown {
    Shown::Value(show_text(&path.to_string_lossy()))
}

fn path_or(path: Option<&Path>, unset: &'static str) -> Shown {
    path.map_or(Shown::Unset(unset), self::path)
}
