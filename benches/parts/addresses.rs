//! Reading addresses, and asking the gates whether they may pass.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use criterion::Criterion;
use ipnet::{IpNet, Ipv4Net};
use ringsocks::config::TargetRule;
use ringsocks::policy::{Host as Here, Targets, admits_client};
use ringsocks::proto::Host;

/// A visitor and its target, neither of them on this host.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 7, 7));
const TARGET: &str = "93.184.216.34:443";

pub(super) fn bench(criterion: &mut Criterion) {
    bench_parsing(criterion);
    bench_targets(criterion);
    bench_clients(criterion);
}

fn bench_parsing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("addresses/parse");
    for text in ["192.0.2.1", "2001:db8::1", "[2001:db8::1]", "www.example.com"] {
        group.bench_function(text, |it| {
            it.iter(|| Host::parse_name(black_box(text.as_bytes())).expect("a host"));
        });
    }
}

fn bench_targets(criterion: &mut Criterion) {
    let here = Here {
        listeners: vec![address("10.0.0.1:1080"), address("127.0.0.1:1080"), address("[::1]:1080")],
        addresses: ["10.0.0.1", "192.0.2.7", "fd00::1", "fe80::1"].map(ip).into(),
        networks: Vec::new(),
    };
    let networks: Vec<_> = networks().into_iter().map(TargetRule::Network).collect();
    let last = TargetRule::Network("93.184.0.0/16".parse().expect("a network"));
    let gates = [
        ("defaults, local client", Targets::new(None), ip("127.0.0.1")),
        ("defaults, client from afar", Targets::new(None), CLIENT),
        ("the last of 17 networks", Targets::new(Some([networks, vec![last]].concat())), CLIENT),
    ];
    let (target, local) = (address(TARGET), address("192.0.2.7:50000"));
    let mut group = criterion.benchmark_group("addresses/targets");
    for (name, targets, client) in gates {
        assert!(targets.permits(&here, client, target), "{name}");
        group.bench_function(name, |it| {
            it.iter(|| {
                targets.permits(&here, client, black_box(target))
                    && targets.permits_connected(&here, client, black_box(target), local)
            });
        });
    }
}

fn bench_clients(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("addresses/clients");
    let networks = networks();
    let (first, stranger) = (ip("10.0.0.9"), CLIENT);
    assert!(admits_client(&networks, first) && !admits_client(&networks, stranger));
    for (name, networks, client) in [
        ("anybody", &[][..], stranger),
        ("the first of 16 networks", &networks[..], first),
        ("none of 16 networks", &networks[..], stranger),
    ] {
        group.bench_function(name, |it| it.iter(|| admits_client(networks, black_box(client))));
    }
}

/// 10.0.0.0/16 and the next fifteen.
fn networks() -> Vec<IpNet> {
    (0..16).map(|second| Ipv4Net::new_assert(Ipv4Addr::new(10, second, 0, 0), 16).into()).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}
