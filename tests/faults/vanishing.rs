//! Peers that are gone without a word.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::lan::{GATEWAY_V4, Lan, OTHER_V4};
use crate::support::origin::Origin;
use crate::support::peer::{End, Peer};
use crate::support::server::Server;
use crate::support::socks::{connect_to, greeting, open_session};
use crate::support::wait_until;

#[test]
#[ignore = "needs root: tests/run"]
fn a_target_that_vanishes_is_given_up_when_idle() {
    assert_given_up(&[("RINGSOCKS_TIMEOUT_IDLE", "1s")], "idle_timeout", |_, _| {});
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_target_that_acknowledges_nothing_is_given_up() {
    assert_given_up(&[], "target_reset", |lan, client| {
        lan.gateway.run("echo 3 >/proc/sys/net/ipv4/tcp_retries2");
        client.send(b"into the void");
    });
}

/// A session whose target vanishes, and the counter of how it ended.
#[track_caller]
fn assert_given_up(env: &[(&str, &str)], counter: &str, then: impl FnOnce(&Lan, &Peer)) {
    let lan = Lan::new();
    let origin = lan.other.enter(|| Origin::start_on(OTHER_V4));
    let server = lan.gateway.enter(|| Server::start_with_env(&[], env));
    let baseline = server.baseline();
    let client = lan.gateway.enter(|| open_session(server.address(), origin.address()));
    let target = origin.accept();
    lan.cut();
    then(&lan, &client);
    assert_eq!(client.read_to_end().end, End::Reset);
    baseline.assert_at_rest();
    assert_eq!(server.counters()[counter], 1, "{:?}", server.counters());
    drop(target);
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_client_that_vanishes_is_given_up_at_every_stage() {
    let lan = Lan::new();
    let env = [
        ("RINGSOCKS_TIMEOUT_HANDSHAKE", "2s"),
        ("RINGSOCKS_TIMEOUT_IDLE", "1s"),
        ("RINGSOCKS_LISTEN_TARGETS", "10.0.0.0/8"),
    ];
    let listen = format!("{GATEWAY_V4}:0");
    let server =
        lan.gateway.enter(|| Server::start_with_env(&["--open", "--listen", &listen], &env));
    let baseline = server.baseline();
    let origin = lan.other.enter(|| Origin::start_on(OTHER_V4));
    let clients: Vec<Peer> = lan.other.enter(|| {
        let messages = [vec![], vec![5], greeting(&[0]), connect_to(origin.address())];
        (0..=messages.len())
            .map(|spoken| {
                let client = Peer::connect(server.address());
                messages[..spoken].iter().filter(|it| it.len() != 1).for_each(|it| client.send(it));
                client
            })
            .collect()
    });
    let target = origin.accept();
    wait_until("all but the last wait for more", || server.counters()["relaying"] == 1);
    lan.cut();
    baseline.assert_at_rest();
    let counters = server.counters();
    assert_eq!((counters["handshake_timeout"], counters["idle_timeout"]), (4, 1), "{counters:?}");
    drop((clients, target));
}

#[test]
#[ignore = "needs root: tests/run"]
fn the_kernel_looks_after_both_ends_of_an_idle_session() {
    let lan = Lan::new();
    lan.gateway.enter(|| {
        let server = Server::start(&[]);
        let origin = Origin::start();
        let client = open_session(server.address(), origin.address());
        let target = origin.accept();
        wait_until("the kernel's next look at the client is planned", || {
            next_look(&lan, client.local_address()).is_some()
        });
        // The target's is planned by a session that has lasted, and no later than a minute after
        // the last word all the same.
        assert_eq!(next_look(&lan, target.local_address()), None, "a young session");
        let deadline = Instant::now() + Duration::from_secs(300);
        let seconds = loop {
            match next_look(&lan, target.local_address()) {
                Some(seconds) => break seconds,
                None => assert!(Instant::now() < deadline, "nobody looks after the target"),
            }
            thread::sleep(Duration::from_millis(200));
        };
        assert!(seconds <= 30, "in {seconds} seconds, half a minute late");
    });
}

/// In how many seconds the kernel looks after the peer at this address, by what `ss` says:
/// `timer:(keepalive,29sec,0)`, and minutes or milliseconds in the place of seconds.
pub(crate) fn next_look(lan: &Lan, peer: SocketAddr) -> Option<u64> {
    let said = lan.gateway.run(&format!("ss -tnoH state established dst {peer}"));
    let (_, timer) = said.split_once("timer:(keepalive,")?;
    let time = timer.split(',').next().unwrap_or_default();
    if time.ends_with("ms") {
        return Some(1);
    }
    let (minutes, rest) = time.split_once("min").unwrap_or(("0", time));
    let seconds = rest.trim_end_matches("sec").split('.').next().unwrap_or_default();
    let seconds = if seconds.is_empty() { "0" } else { seconds };
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("no time: {said}"));
    Some(60 * number(minutes) + number(seconds))
}
