//! A line of the access log.

use std::fmt::Write;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use criterion::Criterion;
use ringsocks::access::Record;
use ringsocks::metrics::Traffic;
use ringsocks::outcome::Outcome;
use ringsocks::proto::{Command, Host, Target};

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("access");
    let hostile = Record { user: Some(Box::from(&b"\x1b[31m\n\"\xff=  -"[..])), ..finished() };
    for (name, record) in [("a line", finished()), ("a line that is escaped", hostile)] {
        let mut line = record.to_string();
        assert!(line.ends_with("end=finished fault=none"), "{line}");
        group.bench_function(name, |it| {
            it.iter(|| {
                line.clear();
                write!(line, "{}", black_box(&record)).expect("a string takes it");
            });
        });
    }
}

/// A session that went well.
fn finished() -> Record {
    let here = |port| SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), port));
    let span = Some(Duration::from_micros(1_234).into());
    Record {
        user: Some(Box::from(&b"alice"[..])),
        command: Some(Command::Connect),
        target: Host::parse_name(b"www.example.com").ok().map(|host| Target { host, port: 443 }),
        connected: Some(here(443)),
        outgoing: Some(here(50_001)),
        rep: Some(0),
        traffic: Traffic { up: 1_234, down: 5_678_901 },
        auth: span,
        resolve: span,
        connect: span,
        duration: Duration::from_millis(5_678),
        ended: SystemTime::UNIX_EPOCH + Duration::from_millis(1_900_000_000_123),
        outcome: Outcome::Finished,
        ..Record::new(1, 1_234_567, here(1080), here(50_000))
    }
}
