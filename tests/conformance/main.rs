//! The SOCKS rows of the specification, one named test each, aimed at any running server.
//!
//! Without further ado the rows run against our own binary. Aimed at another server:
//!
//! * `RINGSOCKS_CONFORMANCE_ADDR=host:port`: the server;
//! * `RINGSOCKS_CONFORMANCE_USER`, `_PASSWORD`: what it requires, if it does;
//! * `RINGSOCKS_CONFORMANCE_ORIGIN`: the address at which it sees what we listen on
//!   (default 127.0.0.1).
//!
//! Rows that need what that server has not, or does not grant, show as ignored. The names are the
//! rows': n, u, r, p, c, b, d, f of RFC 1928 and 1929, q of known clients, s of security.

#[path = "../support/mod.rs"]
mod support;

mod associate;
mod bench;
mod bind;
mod connect;
mod datagrams;
mod fragments;
mod login;
mod methods;
mod reply;
mod request;
mod socks4;

use libtest_mimic::{Arguments, Completion, Trial};

use bench::{Bench, Needs};
use support::server::Server;

/// One row: its name, the server it needs, and what it does with it.
struct Row {
    name: &'static str,
    needs: &'static [Needs],
    run: fn(&Bench),
}

/// Rows by the names of their functions, below what they need: one thing, or a list in brackets.
macro_rules! rows {
    ($($needs:tt: $($name:ident)+;)+) => {
        pub(crate) const ROWS: &[crate::Row] = &[$($(crate::Row {
            name: stringify!($name),
            needs: crate::needs!($needs),
            run: $name,
        },)+)+];
    };
}
macro_rules! needs {
    ([$($need:ident)+]) => { &[$(crate::bench::Needs::$need),+] };
    ($need:ident) => { crate::needs!([$need]) };
}
use {needs, rows};

fn main() {
    let arguments = Arguments::from_args();
    let modules = [
        methods::ROWS,
        login::ROWS,
        request::ROWS,
        reply::ROWS,
        connect::ROWS,
        socks4::ROWS,
        bind::ROWS,
        associate::ROWS,
        datagrams::ROWS,
        fragments::ROWS,
    ];
    let trials = modules.into_iter().flatten().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit();
}

fn trial(row: &'static Row) -> Trial {
    Trial::ignorable_test(row.name, || match Bench::for_needs(row.needs) {
        Ok(bench) => {
            let baseline = bench.own_server().map(Server::baseline);
            (row.run)(&bench);
            if let Some(baseline) = baseline {
                baseline.assert_restored();
            }
            Ok(Completion::Completed)
        }
        Err(reason) => Ok(Completion::ignored_with(reason)),
    })
}
