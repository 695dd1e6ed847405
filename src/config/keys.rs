//! The table of keys.

use std::path::PathBuf;
use std::time::Duration;

use super::advertise::Advertise;
use super::choice::Choice;
use super::error::Problem;
use super::resolver::Resolver;
use super::schema::{Form, Key, Shown};
use super::show::{show_duration, show_list, show_size, show_text, show_texts};

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
    Key {
        path: "users_file",
        form: Form::Value {
            set: |layer, value| put(&mut layer.users_file, value.to_users_file()),
            show: |config| path(config.users_file.as_ref(), "none"),
        },
    },
    Key { path: "groups", form: Form::Groups },
    Key {
        path: "groups_file",
        form: Form::Value {
            set: |layer, value| put(&mut layer.groups_file, value.to_path()),
            show: |config| path(config.groups_file.as_ref(), "none"),
        },
    },
    Key {
        path: "pam_service",
        form: Form::Value {
            set: |layer, value| put(&mut layer.pam_service, value.to_pam_service()),
            show: |config| text(config.pam.service.as_deref(), "PAM is not asked"),
        },
    },
    Key {
        path: "pam_library",
        form: Form::Value {
            set: |layer, value| put(&mut layer.pam_library, value.to_library()),
            show: |config| path(Some(&config.pam.library), ""),
        },
    },
    Key {
        path: "pam_confdir",
        form: Form::Value {
            set: |layer, value| put(&mut layer.pam_confdir, value.to_path()),
            show: |config| path(config.pam.confdir.as_ref(), "the system's"),
        },
    },
    Key {
        path: "auth_once",
        form: Form::Value {
            set: |layer, value| put(&mut layer.auth_once, value.to_auth_once()),
            show: |config| timeout(config.auth_once),
        },
    },
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
    Key {
        path: "penalty.failure",
        form: Form::Value {
            set: |layer, value| put(&mut layer.penalty_failure, value.to_penalty()),
            show: |config| Shown::Value(show_duration(config.penalty.failure)),
        },
    },
    Key {
        path: "penalty.threshold",
        form: Form::Value {
            set: |layer, value| put(&mut layer.penalty_threshold, value.to_penalty()),
            show: |config| Shown::Value(show_duration(config.penalty.threshold)),
        },
    },
    Key {
        path: "penalty.max",
        form: Form::Value {
            set: |layer, value| put(&mut layer.penalty_max, value.to_most_penalty()),
            show: |config| Shown::Value(show_duration(config.penalty.max)),
        },
    },
    Key {
        path: "penalty.exempt",
        form: Form::Value {
            set: |layer, value| put(&mut layer.penalty_exempt, value.to_exempt()),
            show: |config| Shown::Value(show_list(&config.penalty.exempt)),
        },
    },
    Key {
        path: "gssapi.library",
        form: Form::Value {
            set: |layer, value| put(&mut layer.gssapi_library, value.to_library()),
            show: |config| path(Some(&config.gssapi.library), ""),
        },
    },
    Key {
        path: "gssapi.keytab",
        form: Form::Value {
            set: |layer, value| put(&mut layer.gssapi_keytab, value.to_keytab()),
            show: |config| text(config.gssapi.keytab.as_deref(), "the default of the library"),
        },
    },
    Key {
        path: "gssapi.service",
        form: Form::Value {
            set: |layer, value| put(&mut layer.gssapi_service, value.to_service()),
            show: |config| text(config.gssapi.service.as_deref(), "any that there is a key of"),
        },
    },
    Key {
        path: "gssapi.realms",
        form: Form::Value {
            set: |layer, value| put(&mut layer.gssapi_realms, value.to_realms()),
            show: |config| match &config.gssapi.realms {
                Some(realms) => Shown::Value(show_texts(realms)),
                None => Shown::Unset("that of our own service"),
            },
        },
    },
    Key {
        path: "gssapi.principals",
        form: Form::Value {
            set: |layer, value| put(&mut layer.gssapi_principals, value.to_principals()),
            show: |config| Shown::Value(show_texts(&config.gssapi.principals)),
        },
    },
    Key {
        path: "gssapi.require",
        form: Form::Value {
            set: |layer, value| put(&mut layer.gssapi_require, value.to_choice()),
            show: |config| Shown::Value(config.gssapi.require.show()),
        },
    },
    Key {
        path: "gssapi.clear",
        form: Form::Value {
            set: |layer, value| put(&mut layer.gssapi_clear, value.to_boolean()),
            show: |config| Shown::Value(config.gssapi.clear.to_string()),
        },
    },
];

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

fn text(text: Option<&str>, unset: &'static str) -> Shown {
    text.map_or(Shown::Unset(unset), |text| Shown::Value(show_text(text)))
}

fn path(path: Option<&PathBuf>, unset: &'static str) -> Shown {
    text(path.map(|path| path.to_string_lossy()).as_deref(), unset)
}
