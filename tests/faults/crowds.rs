//! Very many clients, and single ones that want everything.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::support::netns::Netns;
use crate::support::origin::{Origin, Service};
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::{greeting, open_session};
use crate::support::{finish, raise_descriptor_limit, session};

const SLOW_CLIENTS: usize = 6000;
/// Of one address, which may have 256 handshakes.
const SLOW_CLIENTS_EACH: usize = 200;
const KIB: u64 = 1024;

#[test]
fn thousands_of_silent_clients_cost_little() {
    assert_cheap_and_unnoticed(&[], |_| {});
}

#[test]
fn thousands_of_slow_clients_cost_little() {
    // A greeting of 255 methods takes its time, byte by byte.
    assert_cheap_and_unnoticed(&[5, 255], |clients| {
        for client in clients {
            client.send(&[1]);
        }
    });
}

/// Thousands of handshakes that have got as far as `message`, and go on `dripping`, leave another
/// client alone, and cost at most 2 KiB each.
#[track_caller]
fn assert_cheap_and_unnoticed(message: &[u8], dripping: impl Fn(&[Peer])) {
    raise_descriptor_limit();
    let env = [("RINGSOCKS_TIMEOUT_HANDSHAKE", "1h")];
    let server = Server::start_with_env(&["--workers", "1"], &env);
    let baseline = server.baseline();
    let alone = median_set_up(&server);
    let before = server.rss_anon();

    let clients: Vec<Peer> = (0..SLOW_CLIENTS)
        .map(|number| {
            let client = Peer::connect_from(slow_address(number), server.address());
            if !message.is_empty() {
                client.send(message);
            }
            client
        })
        .collect();
    server.wait_counter("greeting", SLOW_CLIENTS as u64);
    dripping(&clients);
    let beside = median_set_up(&server);
    dripping(&clients);
    server.wait_counter("greeting", SLOW_CLIENTS as u64);
    let each = server.rss_anon().saturating_sub(before) / SLOW_CLIENTS as u64;

    assert!(each <= 2 * KIB, "{each} bytes for a client");
    assert!(beside < 10 * alone, "{alone:?} alone, {beside:?} beside them");
    drop(clients);
    baseline.assert_at_rest();
}

fn slow_address(number: usize) -> SocketAddr {
    let host = (number / SLOW_CLIENTS_EACH) as u8;
    (Ipv4Addr::new(127, 0, 2, host + 1), 0).into()
}

/// How long it takes a client, half of the time, from connecting to its first byte of the target.
fn median_set_up(server: &Server) -> Duration {
    let origin = Origin::start();
    let mut took: Vec<Duration> = (0..100)
        .map(|_| {
            let started = Instant::now();
            let client = open_session(server.address(), origin.address());
            let target = origin.accept();
            target.send(b"!");
            client.expect(b"!");
            let took = started.elapsed();
            finish(client, &target);
            took
        })
        .collect();
    took.sort();
    took[took.len() / 2]
}

#[test]
fn one_client_cannot_have_every_session() {
    let env = [("RINGSOCKS_LIMIT_SESSIONS", "40"), ("RINGSOCKS_LIMIT_SESSIONS_PER_CLIENT", "10")];
    let server = Server::start_with_env(&[], &env);
    let baseline = server.baseline();
    let echo = Service::echo();
    let greedy = |number: u8| SocketAddr::from((Ipv4Addr::new(127, 0, 3, number), 0));
    let (served, turned_away) = storm(&server, greedy(1), 100);
    assert_eq!((served.len(), turned_away), (10, 90));
    server.wait_counter("clients_over_limit", 90);

    for _ in 0..5 {
        let other = open_session(server.address(), echo.address());
        other.send(b"ping");
        other.expect(b"ping");
        other.fin();
        other.expect_eof();
    }
    drop(served);
    server.wait_counter("open", 0);
    let (served, _) = storm(&server, greedy(1), 20);
    assert_eq!(served.len(), 10, "what was given back can be had again");
    drop(served);
    baseline.assert_at_rest();
}

#[test]
fn one_client_cannot_have_every_handshake() {
    let env =
        [("RINGSOCKS_LIMIT_HANDSHAKES_PER_CLIENT", "8"), ("RINGSOCKS_TIMEOUT_HANDSHAKE", "1h")];
    let server = Server::start_with_env(&[], &env);
    let baseline = server.baseline();
    let origin = Origin::start();
    let (slow, turned_away) = storm(&server, (Ipv4Addr::new(127, 0, 3, 2), 0).into(), 100);
    assert_eq!((slow.len(), turned_away), (8, 92));
    // Who has asked is no longer in a handshake, and makes room for the next.
    for client in &slow {
        client.send(&crate::support::socks::connect_to(origin.address()));
        client.expect_granted();
    }
    let targets: Vec<Peer> = slow.iter().map(|_| origin.accept()).collect();
    let (more, _) = storm(&server, (Ipv4Addr::new(127, 0, 3, 2), 0).into(), 20);
    assert_eq!(more.len(), 8);
    let (client, target) = session(&server);
    finish(client, &target);
    drop((slow, more, targets));
    baseline.assert_at_rest();
}

#[test]
fn by_default_one_client_has_256_handshakes() {
    let server = Server::start_with_env(&[], &[("RINGSOCKS_TIMEOUT_HANDSHAKE", "1h")]);
    let baseline = server.baseline();
    let (slow, turned_away) = storm(&server, (Ipv4Addr::new(127, 0, 3, 3), 0).into(), 300);
    assert_eq!((slow.len(), turned_away), (256, 44));
    drop(slow);
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn addresses_of_one_v6_network_are_one_client() {
    let network = Netns::new();
    for address in ["fd00:a::1", "fd00:a::2", "fd00:a::3", "fd00:a:0:1::1", "fd00:b::9"] {
        network.add_address(&format!("{address}/128"), "lo");
    }
    network.enter(|| {
        let env = [("RINGSOCKS_LIMIT_HANDSHAKES_PER_CLIENT", "4")];
        let server = Server::start_with_env(&["--open", "--listen", "[fd00:b::9]:0"], &env);
        let baseline = server.baseline();
        let from = |address: &str| {
            let source: IpAddr = address.parse().expect("an address");
            storm(&server, (source, 0).into(), 3)
        };
        let (_one, one_away) = from("fd00:a::1");
        let (_two, two_away) = from("fd00:a::2");
        let (_three, three_away) = from("fd00:a::3");
        let (_other, other_away) = from("fd00:a:0:1::1");
        assert_eq!([one_away, two_away, three_away, other_away], [0, 2, 3, 0]);
        drop((_one, _two, _three, _other));
        baseline.assert_at_rest();
    });
}

/// Clients of one address that all ask for a method: those that were served, and how many were
/// closed instead.
#[track_caller]
fn storm(server: &Server, source: SocketAddr, clients: usize) -> (Vec<Peer>, usize) {
    let clients: Vec<Peer> =
        (0..clients).map(|_| Peer::connect_from(source, server.address())).collect();
    let mut served = Vec::new();
    let mut turned_away = 0;
    for client in clients {
        if client.try_send(&greeting(&[0])).is_ok() && client.read_at_most(2) == [5, 0] {
            served.push(client);
        } else {
            turned_away += 1;
        }
    }
    (served, turned_away)
}
