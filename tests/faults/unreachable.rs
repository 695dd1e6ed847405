//! Targets that do not answer, or whose network says no.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::support::lan::{Lan, OTHER_V4, OTHER_V6};
use crate::support::origin::{DeafTarget, Origin};
use crate::support::server::Server;
use crate::support::socks::request_session;

/// What a firewall says, and what the client hears.
const REJECTS: [(IpAddr, &str, u8); 13] = [
    (OTHER_V4, "tcp reset", 5),
    (OTHER_V4, "icmp type port-unreachable", 5),
    (OTHER_V4, "icmp type prot-unreachable", 5),
    (OTHER_V4, "icmp type host-unreachable", 4),
    (OTHER_V4, "icmp type host-prohibited", 4),
    (OTHER_V4, "icmp type admin-prohibited", 4),
    (OTHER_V4, "icmp type net-unreachable", 3),
    (OTHER_V4, "icmp type net-prohibited", 3),
    (OTHER_V6, "tcp reset", 5),
    (OTHER_V6, "icmpv6 type port-unreachable", 5),
    (OTHER_V6, "icmpv6 type addr-unreachable", 4),
    (OTHER_V6, "icmpv6 type no-route", 3),
    (OTHER_V6, "icmpv6 type admin-prohibited", 2),
];

/// A route of a kind, where it leads, and what the client hears.
const ROUTES: [(&str, &str, u8); 8] = [
    ("", "198.18.0.1", 3),
    ("unreachable", "198.18.1.1", 4),
    ("prohibit", "198.18.2.1", 2),
    ("blackhole", "198.18.3.1", 1),
    ("", "2001:db8:0::1", 3),
    ("unreachable", "2001:db8:1::1", 4),
    ("prohibit", "2001:db8:2::1", 2),
    ("blackhole", "2001:db8:3::1", 1),
];

#[test]
#[ignore = "needs root: tests/run"]
fn each_rejection_has_its_rep() {
    let lan = Lan::new();
    lan.other.run(
        "nft add table inet firewall
         nft 'add chain inet firewall in { type filter hook input priority 0; }'",
    );
    for (port, (_, with, _)) in (1000..).zip(REJECTS) {
        lan.other
            .run(&format!("nft add rule inet firewall in tcp dport {port} reject with {with}"));
    }
    lan.gateway.enter(|| {
        let server = Server::start(&[]);
        let baseline = server.baseline();
        for (port, (host, with, rep)) in (1000..).zip(REJECTS) {
            assert_refused(&server, (host, port).into(), rep, with);
        }
        baseline.assert_at_rest();
    });
}

#[test]
#[ignore = "needs root: tests/run"]
fn each_missing_route_has_its_rep() {
    let lan = Lan::new();
    for (kind, host, _) in ROUTES.into_iter().filter(|(kind, ..)| !kind.is_empty()) {
        lan.gateway.run(&format!("ip route add {kind} {host}"));
    }
    lan.gateway.enter(|| {
        let server = Server::start(&[]);
        let baseline = server.baseline();
        for (kind, host, rep) in ROUTES {
            let host: IpAddr = host.parse().expect("an address");
            assert_refused(&server, (host, 80).into(), rep, kind);
        }
        baseline.assert_at_rest();
    });
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_neighbour_that_is_not_there_is_unreachable() {
    let lan = Lan::new();
    lan.gateway.run("echo 50 >/proc/sys/net/ipv4/neigh/cable/retrans_time_ms");
    lan.gateway.enter(|| {
        let server = Server::start(&[]);
        let baseline = server.baseline();
        assert_refused(&server, ([10, 0, 0, 77], 80).into(), 4, "no such host");
        baseline.assert_at_rest();
    });
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_dropped_syn_is_answered_06_when_the_time_is_over() {
    let lan = Lan::new();
    lan.other.run(
        "nft add table inet firewall
         nft 'add chain inet firewall in { type filter hook input priority 0; }'
         nft add rule inet firewall in tcp dport 80 drop",
    );
    lan.gateway.enter(|| {
        let server = Server::start_with_env(&[], &[("RINGSOCKS_TIMEOUT_CONNECT", "1s")]);
        let baseline = server.baseline();
        let started = Instant::now();
        assert_refused(&server, (OTHER_V4, 80).into(), 6, "dropped");
        assert!(started.elapsed() >= Duration::from_secs(1));
        baseline.assert_at_rest();
    });
}

#[test]
fn a_target_that_resets_at_once_ends_the_session() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let origin = Origin::start();
    for _ in 0..50 {
        let client = request_session(server.address(), origin.address());
        origin.accept().reset();
        let reply = client.expect_reply();
        assert!([0, 5].contains(&reply.rep), "{reply:?}");
        if reply.rep == 0 {
            client.expect_reset();
        } else {
            client.expect_eof();
        }
    }
    baseline.assert_at_rest();
}

#[test]
fn a_target_that_dies_while_it_is_connected_to_is_refused() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let deaf = DeafTarget::start();
    let client = request_session(server.address(), deaf.address());
    server.wait_counter("connecting", 1);
    // The kernel asks again, and there is nobody any more.
    drop(deaf);
    client.expect_refused(5);
    drop(client);
    baseline.assert_at_rest();
}

#[track_caller]
fn assert_refused(server: &Server, target: SocketAddr, rep: u8, why: &str) {
    let client = request_session(server.address(), target);
    let reply = client.expect_reply();
    assert_eq!(reply.rep, rep, "{target}: {why}");
    client.expect_eof();
}
