//! What the pure parts cost: no socket, no clock, no kernel. `cargo bench` measures all of them,
//! `cargo bench timers` those of one subject.

mod access;
mod addresses;
mod clients;
mod datagrams;
mod dns;
mod handshake;
mod lane;
mod ring;
mod sealing;
mod timers;

use std::time::Duration;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let subjects = [
        access::bench,
        addresses::bench,
        clients::bench,
        datagrams::bench,
        dns::bench,
        handshake::bench,
        lane::bench,
        ring::bench,
        sealing::bench,
        timers::bench,
    ];
    for bench in subjects {
        bench(&mut criterion);
    }
    criterion.final_summary();
}
