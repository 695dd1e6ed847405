//! Counting what each client has.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use criterion::Criterion;
use ringsocks::policy::{ClientLimits, Presence, SessionLimit};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// How many others are there.
const CROWD: u32 = 10_000;

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("clients");
    for (name, sessions, handshakes, crowd) in [
        ("come and go, no limits", None, None, 0),
        ("come and go, defaults", None, Some(256), 0),
        ("come and go, both limits", Some(100), Some(256), 0),
        ("come and go, both limits, in a crowd", Some(100), Some(256), CROWD),
    ] {
        let limits = Arc::new(ClientLimits::new(sessions, handshakes, None));
        let crowd: Vec<Presence> = (0..crowd).map(|it| admit(&limits, stranger(it))).collect();
        group.bench_function(name, |it| it.iter(|| come_and_go(&limits, black_box(CLIENT))));
        drop(crowd);
    }
    let limit = Arc::new(SessionLimit::new(10_000, 20_000));
    group.bench_function("a place", |it| it.iter(|| drop(limit.take().expect("a place"))));
}

/// A session from its first byte to its last.
fn come_and_go(limits: &Arc<ClientLimits>, client: IpAddr) {
    let mut presence = admit(limits, client);
    presence.handshake_over();
}

fn admit(limits: &Arc<ClientLimits>, client: IpAddr) -> Presence {
    limits.admit(client).unwrap_or_else(|excess| panic!("{client} has too many: {excess:?}"))
}

fn stranger(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() + number).into()
}
