//! Who fails too often is locked for a while: its source, and nobody else's.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::logins::{asked, is_let_in, local, log_in_from};
use crate::support::netns::Netns;
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::credentials;
use crate::world::{GUESS, PASSWORD, World, argon2id, failures, reasons};

const ALICE: &[&str] = &["-u", "alice:canary-wonder"];

/// A failure costs so much, and so much locks.
fn serve(failure: &str, threshold: &str, max: &str) -> Server {
    let env = [
        ("RINGSOCKS_PENALTY_FAILURE", failure),
        ("RINGSOCKS_PENALTY_THRESHOLD", threshold),
        ("RINGSOCKS_PENALTY_MAX", max),
        ("RINGSOCKS_PENALTY_EXEMPT", "127.0.0.64/26"),
    ];
    Server::start_with_env(ALICE, &env)
}

#[track_caller]
fn fail(server: &Server, source: IpAddr, times: usize) {
    for _ in 0..times {
        assert!(!log_in_from(source, server, b"alice", GUESS));
    }
}

fn is_right_let_in(server: &Server, source: IpAddr) -> bool {
    log_in_from(source, server, b"alice", PASSWORD)
}

/// After so many failures, how long nobody is let in from there who asks again and again.
#[track_caller]
fn locked_for(server: &Server, source: IpAddr, failures: usize) -> Duration {
    let start = Instant::now();
    fail(server, source, failures);
    assert!(!is_right_let_in(server, source), "{failures} failures");
    while !is_right_let_in(server, source) {
        assert!(start.elapsed() < Duration::from_secs(100), "it never runs off");
        thread::sleep(Duration::from_millis(50));
    }
    start.elapsed()
}

/// That asking is no failure is seen by its end.
#[test]
fn who_fails_is_locked_the_longer_the_more_often() {
    let server = serve("4s", "5s", "14s");
    let locked = |host, failures, least| {
        let server = &server;
        move || {
            let lasted = locked_for(server, local(host), failures);
            assert!(lasted >= Duration::from_secs(least), "{failures} failures: {lasted:?}");
        }
    };
    thread::scope(|scope| {
        // Without an end the last one would take 400 seconds.
        for (host, failures, least) in [(2, 2, 8), (3, 3, 12), (4, 4, 14), (5, 100, 14)] {
            scope.spawn(locked(host, failures, least));
        }
        scope.spawn(|| {
            fail(&server, local(6), 1);
            assert!(is_right_let_in(&server, local(6)), "once is no harm");
        });
    });
}

/// What was asked before the lock is answered as what is asked behind it.
#[test]
fn a_hundred_guesses_at_once_are_no_more_than_one() {
    let env = [("RINGSOCKS_PENALTY_FAILURE", "1m"), ("RINGSOCKS_PENALTY_THRESHOLD", "1m")];
    let World { server, .. } = &World::start(&format!("alice:{}\n", argon2id()), &env);
    let clients: Vec<Peer> = (0..100).map(|_| asked(server, local(2))).collect();
    let (last, guessing) = clients.split_last().expect("there are some");
    for (number, client) in guessing.iter().enumerate() {
        client.send(&credentials(b"alice", format!("canary-{number}").as_bytes()));
    }
    last.send(&credentials(b"alice", PASSWORD));
    assert!(!clients.iter().any(is_let_in));
    assert!(is_right_let_in(server, local(1)));
}

/// Else a guess would cost nothing, and the next one would tell by its time whether it was right.
#[test]
fn who_leaves_before_the_answer_pays_all_the_same() {
    let env = [("RINGSOCKS_PENALTY_FAILURE", "1m"), ("RINGSOCKS_PENALTY_THRESHOLD", "150s")];
    let World { server, .. } = &World::start(&format!("alice:{}\n", argon2id()), &env);
    for _ in 0..3 {
        let client = asked(server, local(2));
        client.send(&credentials(b"alice", GUESS));
        server.wait_counters("it is asked", |counters| counters["authenticating"] == 1);
        client.reset();
    }
    assert_eq!(reasons(server, 3), ["wrong_password"; 3]);
    server.wait_counter("client_gone", 3);
    server.wait_counter("logins_failed", 3);
    assert!(!is_right_let_in(server, local(2)));
    assert!(is_right_let_in(server, local(1)));
}

#[test]
fn nobody_else_is_locked() {
    let server = serve("1m", "150s", "10m");
    fail(&server, local(2), 30);
    assert!(!is_right_let_in(&server, local(2)));
    for host in [1, 3, 4] {
        assert!(is_right_let_in(&server, local(host)), "{host}");
    }
    let expected = [&["wrong_password"; 3][..], &["locked"; 28]].concat();
    assert_eq!(reasons(&server, 31), expected);
    assert!(failures(&server, 31).iter().all(|it| it["ip"] == "127.0.0.2"));
}

#[test]
fn who_is_exempt_is_never_locked() {
    let server = serve("1m", "1m", "10m");
    for host in [64, 100, 127] {
        fail(&server, local(host), 10);
        assert!(is_right_let_in(&server, local(host)), "{host}");
    }
    assert!(reasons(&server, 30).iter().all(|reason| reason == "wrong_password"));
    for host in [63, 128] {
        fail(&server, local(host), 1);
        assert!(!is_right_let_in(&server, local(host)), "{host}");
    }
}

#[test]
fn by_default_the_fourth_failure_locks() {
    let server = Server::start(ALICE);
    let start = Instant::now();
    fail(&server, local(1), 3);
    assert!(is_right_let_in(&server, local(1)), "some of fifteen seconds has run off");
    fail(&server, local(1), 1);
    let is_let_in = is_right_let_in(&server, local(1));
    // By then one may be forgotten on a machine that is very busy.
    assert!(!is_let_in || start.elapsed() >= Duration::from_secs(5));
}

#[test]
fn where_a_failure_costs_nothing_nobody_is_locked() {
    let server = serve("0", "1m", "10m");
    fail(&server, local(1), 30);
    assert!(is_right_let_in(&server, local(1)));
    assert!(reasons(&server, 30).iter().all(|reason| reason == "wrong_password"));
}

#[test]
#[ignore = "needs root and iproute2: tests/run"]
fn addresses_of_one_v6_network_are_one_source() {
    let netns = Netns::new();
    for address in ["2001:db8:0:1::1/64", "2001:db8:0:1::ffff/64", "2001:db8:0:2::1/64"] {
        netns.add_address(address, "lo");
    }
    netns.enter(|| {
        let env = [("RINGSOCKS_PENALTY_FAILURE", "1m"), ("RINGSOCKS_PENALTY_THRESHOLD", "150s")];
        let server = "[2001:db8:0:2::1]:0";
        let server = Server::start_with_env(&[ALICE, &["--listen", server]].concat(), &env);
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let (one, other) = (ip("2001:db8:0:1::1"), ip("2001:db8:0:1::ffff"));
        fail(&server, one, 2);
        assert!(is_right_let_in(&server, other));
        fail(&server, other, 1);
        for locked in [one, other] {
            assert!(!is_right_let_in(&server, locked), "{locked}");
        }
        assert!(is_right_let_in(&server, ip("2001:db8:0:2::1")), "another network");
        assert_eq!(failures(&server, 5)[4]["ip"], "2001:db8:0:1::ffff");
    });
}
