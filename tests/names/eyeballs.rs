//! Happy Eyeballs (RFC 8305): which of a name's addresses are tried, when, and in what order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::nameserver::{A, Asked, Nameserver, Say, at_once};
use crate::support::netns::Netns;
use crate::support::origin::{ClosedPort, Origin};
use crate::support::server::Server;
use crate::{asking, rep, server_asking};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// A host with a way to the IPv6 Internet, as far as its routes know.
fn host() -> Netns {
    let host = Netns::new();
    host.run(
        "ip link add wide type veth peer name far
         ip link set far up
         ip link set wide up
         ip -6 address add fd01::1/64 dev wide nodad
         ip -6 route add default dev wide
         nft add table inet fates
         nft 'add chain inet fates out { type filter hook output priority 0; }'",
    );
    host
}

/// What the script says of the family that is asked for.
fn apart(v4: fn(&Asked) -> Vec<Say>, v6: fn(&Asked) -> Vec<Say>) -> Nameserver {
    Nameserver::start(move |asked| if asked.kind == A { v4(asked) } else { v6(asked) })
}

fn here(asked: &Asked) -> Vec<Say> {
    vec![at_once(asked.addresses(&[V4, V6], 60))]
}

fn nothing(_: &Asked) -> Vec<Say> {
    Vec::new()
}

#[test]
#[ignore = "needs root: tests/run"]
fn v4_waits_fifty_milliseconds_for_v6_and_no_longer() {
    host().enter(|| {
        let nameserver = apart(here, nothing);
        let server = server_asking(&[&nameserver], &[("RINGSOCKS_TIMEOUT_RESOLVE", "1h")]);
        let baseline = server.baseline();
        let origin = Origin::start();
        let start = Instant::now();
        let client = asking(&server, "slow-v6.example", origin.port());
        assert!(client.expect_granted().is_ipv4());
        assert!(start.elapsed() >= Duration::from_millis(50), "{:?}", start.elapsed());
        drop((client, origin.accept()));
        baseline.assert_restored();
    });
}

#[test]
#[ignore = "needs root: tests/run"]
fn v6_waits_for_nobody() {
    host().enter(|| {
        let nameserver = apart(nothing, here);
        let server = server_asking(&[&nameserver], &[("RINGSOCKS_TIMEOUT_RESOLVE", "1h")]);
        let baseline = server.baseline();
        let origin = Origin::start_on(V6);
        let client = asking(&server, "slow-v4.example", origin.port());
        assert!(client.expect_granted().is_ipv6());
        drop((client, origin));
        baseline.assert_restored();
    });
}

#[test]
#[ignore = "needs root: tests/run"]
fn without_a_v6_route_v4_comes_first() {
    Netns::new().enter(|| {
        let nameserver = apart(here, nothing);
        let server = server_asking(&[&nameserver], &[("RINGSOCKS_TIMEOUT_RESOLVE", "1h")]);
        let origin = Origin::start_everywhere();
        assert!(asking(&server, "v4.example", origin.port()).expect_granted().is_ipv4());
        let both = apart(here, here);
        let server = server_asking(&[&both], &[]);
        let client = asking(&server, "both.example", origin.port());
        assert!(client.expect_granted().is_ipv4());
    });
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_deaf_v6_address_costs_a_quarter_of_a_second() {
    let host = host();
    host.run("nft add rule inet fates out ip6 daddr ::1 tcp flags syn counter drop");
    host.enter(|| {
        let nameserver = apart(here, here);
        let server = server_asking(&[&nameserver], &[("RINGSOCKS_TIMEOUT_CONNECT", "1h")]);
        let baseline = server.baseline();
        let origin = Origin::start();
        let start = Instant::now();
        let client = asking(&server, "deaf.example", origin.port());
        assert!(client.expect_granted().is_ipv4());
        assert!(start.elapsed() >= Duration::from_millis(250), "{:?}", start.elapsed());
        let target = origin.accept();
        client.send(b"once");
        target.expect(b"once");
        origin.expect_nobody();
        // The attempt that lost is closed while the session goes on.
        assert_eq!(server.fds(), baseline.fds() + 2);
        drop((client, target));
        baseline.assert_at_rest();
    });
    assert_ne!(packets(&host, "::1"), 0, "v6 came first");
}

#[test]
#[ignore = "needs root: tests/run"]
fn eight_addresses_are_tried_and_families_take_turns() {
    let host = host();
    let v4: Vec<IpAddr> = (1..=6).map(|n| Ipv4Addr::new(127, 77, 0, n).into()).collect();
    let v6: Vec<IpAddr> =
        (1..=6).map(|n| Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 77, n).into()).collect();
    for ip in v4.iter().chain(&v6) {
        let family = if ip.is_ipv4() { "ip" } else { "ip6" };
        let syn = "tcp flags & (syn | ack) == syn";
        let rule = format!("{family} daddr {ip} {syn} counter drop");
        host.run(&format!("nft add rule inet fates out '{rule}'"));
    }
    let all = [v6.clone(), v4.clone()].concat();
    host.enter(|| {
        let nameserver = Nameserver::start(move |asked| vec![at_once(asked.addresses(&all, 60))]);
        let env = [("RINGSOCKS_TIMEOUT_CONNECT", "4s")];
        let server = server_asking(&[&nameserver], &env);
        let baseline = server.baseline();
        let start = Instant::now();
        assert_eq!(rep(&server, "many.example", 80), 6);
        assert!(start.elapsed() >= Duration::from_secs(4));
        baseline.assert_at_rest();
    });
    let tried = |addresses: &[IpAddr]| -> Vec<bool> {
        addresses.iter().map(|ip| packets(&host, &ip.to_string()) > 0).collect()
    };
    let four_of_six = [true, true, true, true, false, false];
    assert_eq!(tried(&v6), four_of_six);
    assert_eq!(tried(&v4), four_of_six);
}

#[test]
#[ignore = "needs root: tests/run"]
fn of_many_failures_the_client_hears_the_most_informative() {
    const REFUSES: [u8; 4] = [127, 0, 0, 1];
    const DEAF: [u8; 4] = [127, 77, 0, 9];
    const NO_HOST: [u8; 4] = [192, 0, 2, 1];
    const NO_NETWORK: [u8; 4] = [198, 51, 100, 1];
    const FORBIDDEN: [u8; 4] = [192, 0, 2, 2];
    const DENIED: [u8; 4] = [0, 0, 0, 0];
    let cases: [(&str, &[[u8; 4]], u8); 9] = [
        ("refused", &[NO_HOST, REFUSES, NO_NETWORK], 5),
        ("deaf-refused", &[DEAF, REFUSES], 5),
        ("deaf", &[NO_HOST, DEAF, NO_NETWORK], 6),
        ("no-host", &[NO_NETWORK, NO_HOST], 4),
        ("no-network", &[NO_NETWORK], 3),
        ("denied-no-network", &[DENIED, NO_NETWORK, DENIED], 3),
        ("forbidden-no-host", &[FORBIDDEN, NO_HOST], 4),
        ("forbidden", &[FORBIDDEN], 2),
        ("denied", &[DENIED, DENIED], 2),
    ];
    let host = Netns::new();
    host.run(
        "ip route add unreachable 192.0.2.1
         ip route add prohibit 192.0.2.2
         nft add table inet fates
         nft 'add chain inet fates out { type filter hook output priority 0; }'
         nft add rule inet fates out ip daddr 127.77.0.9 drop",
    );
    host.enter(|| {
        let nameserver = Nameserver::start(move |asked| {
            let case = cases.iter().find(|(name, ..)| asked.is(&format!("{name}.example")));
            let addresses = case.expect("a case of ours").1;
            let addresses: Vec<IpAddr> = addresses.iter().map(|it| (*it).into()).collect();
            vec![at_once(asked.addresses(&addresses, 60))]
        });
        let env = [("RINGSOCKS_TIMEOUT_CONNECT", "1500ms")];
        let server = server_asking(&[&nameserver], &env);
        let baseline = server.baseline();
        let closed = ClosedPort::everywhere();
        for (name, _, expected) in cases {
            let heard = rep(&server, &format!("{name}.example"), closed.port());
            assert_eq!(heard, expected, "{name}");
        }
        baseline.assert_at_rest();
    });
}

#[test]
#[ignore = "needs root: tests/run"]
fn addresses_that_come_late_are_tried_when_the_others_have_failed() {
    host().enter(|| {
        let nameserver = Nameserver::start(|asked| match asked.kind {
            A => vec![at_once(asked.addresses(&[V4], 60))],
            _ => vec![Say::Message(Duration::from_millis(600), asked.addresses(&[V6], 60))],
        });
        let server = server_asking(&[&nameserver], &[]);
        let baseline = server.baseline();
        let origin = v6_only();
        let start = Instant::now();
        let client = asking(&server, "late.example", origin.port());
        assert!(client.expect_granted().is_ipv6());
        assert!(start.elapsed() >= Duration::from_millis(600));
        drop((client, origin.accept()));
        // And if they never help, the client hears of those that were there.
        assert_eq!(refused_in_both_families(&server), 5);
        baseline.assert_at_rest();
    });
}

fn refused_in_both_families(server: &Server) -> u8 {
    rep(server, "later.example", ClosedPort::everywhere().port())
}

/// At a port that nobody has on the other loopback.
fn v6_only() -> Origin {
    loop {
        let origin = Origin::start_on(V6);
        if Origin::try_start_at(SocketAddr::new(V4, origin.port())).is_some() {
            return origin;
        }
    }
}

/// How many packets the rule for this address has counted.
fn packets(host: &Netns, address: &str) -> u64 {
    let rules = host.run("nft list chain inet fates out");
    let rule = rules.lines().find(|line| line.contains(&format!("daddr {address} ")));
    let (_, counter) = rule.and_then(|rule| rule.split_once("packets ")).expect("its counter");
    counter.split_whitespace().next().expect("a number").parse().expect("a number")
}
