//! Names that hang beside sessions that have nothing to do with them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::support::dns::message::NXDOMAIN;
use crate::support::dns::{Nameserver, Response};
use crate::support::origin::Service;
use crate::support::peer::Peer;
use crate::support::raise_descriptor_limit;
use crate::support::server::Server;
use crate::support::socks::{connect_to_name, greeting};

/// How many clients wait for them: this process and the server have a descriptor for each.
const HANGING_CLIENTS: usize = 8_000;
/// Deadlines that no test waits for.
const PATIENT: [(&str, &str); 2] =
    [("RINGSOCKS_TIMEOUT_RESOLVE", "30s"), ("RINGSOCKS_TIMEOUT_CONNECT", "30s")];
/// How many sessions are timed.
const TIMED: usize = 1_000;

/// The times to set a session up, from the least on.
struct SetUpTimes(Vec<Duration>);

impl SetUpTimes {
    fn hundredth(&self, n: usize) -> Duration {
        self.0[(self.0.len() - 1) * n / 100]
    }
}

fn request(name: &str, port: u16) -> Vec<u8> {
    [greeting(&[0]), connect_to_name(name.as_bytes(), port)].concat()
}

/// A client from one of eight addresses that waits for the answer to this.
fn waiting_client(server: &Server, n: usize, request: &[u8]) -> Peer {
    let source = Ipv4Addr::new(127, 7, 7, 1 + (n % 8) as u8);
    let client = Peer::connect_from((source, 0).into(), server.address());
    client.send(request);
    client
}

/// As many sessions as are timed, one after the other, each of which must succeed.
#[track_caller]
fn set_up_sessions(server: &Server, name: &str, target: SocketAddr) -> SetUpTimes {
    let request = request(name, target.port());
    let mut times: Vec<Duration> = (0..TIMED)
        .map(|_| {
            let started = Instant::now();
            let client = Peer::connect(server.address());
            client.send(&request);
            client.expect(&[5, 0]);
            client.expect_granted();
            let took = started.elapsed();
            client.send(b"ping");
            client.expect(b"ping");
            took
        })
        .collect();
    times.sort();
    SetUpTimes(times)
}

#[track_caller]
fn assert_no_worse(what: &str, alone: &SetUpTimes, beside: &SetUpTimes) {
    for hundredth in [50, 90] {
        let (alone, beside) = (alone.hundredth(hundredth), beside.hundredth(hundredth));
        println!("{what}: {hundredth} of 100 within {alone:?} alone, {beside:?} beside them");
        assert!(beside < alone * 10, "{what}: {alone:?} alone, {beside:?} beside them");
    }
}

#[test]
fn eight_thousand_names_under_a_silent_server_leave_a_known_name_alone() {
    raise_descriptor_limit();
    let echo = Service::echo();
    let nameserver = Nameserver::start();
    nameserver.script_others(|_| Response::silence());
    nameserver.addresses("known.example", &["127.0.0.1"]);
    let server = nameserver.server(&PATIENT);
    let baseline = server.baseline();
    let alone = set_up_sessions(&server, "known.example", echo.address());

    let hanging: Vec<Peer> = (0..HANGING_CLIENTS)
        .map(|n| waiting_client(&server, n, &request(&format!("hangs-{n}.example"), 80)))
        .collect();
    let fds = server.fds();
    assert!(fds < baseline.fds() + HANGING_CLIENTS + 200, "{fds} descriptors");
    let beside = set_up_sessions(&server, "known.example", echo.address());
    assert_no_worse("a known name", &alone, &beside);
    assert_eq!(nameserver.counts_for("known.example"), [1, 1]);

    let counters = server.counters();
    assert_eq!(counters["resolving"], HANGING_CLIENTS as u64, "some were given up: {counters:?}");
    // Others are asked for beside them.
    nameserver.addresses("new.example", &["127.0.0.1"]);
    let client = waiting_client(&server, 0, &request("new.example", echo.address().port()));
    client.expect(&[5, 0]);
    client.expect_granted();
    drop(client);

    // The server finds its voice again, and everyone hears.
    nameserver.script_others(|question| question.failure(NXDOMAIN).soa(60, 60));
    for client in &hanging {
        client.expect(&[5, 0]);
        client.expect_refused(4);
    }
    drop(hanging);
    baseline.assert_at_rest();
}

#[test]
fn thousands_who_wait_for_one_slow_name_leave_others_alone() {
    raise_descriptor_limit();
    const WAITING: usize = 3_000;
    let echo = Service::echo();
    let nameserver = Nameserver::start();
    nameserver.script("slow.example", |_| Response::silence());
    nameserver.addresses("known.example", &["127.0.0.1"]);
    let server = nameserver.server(&PATIENT);
    let baseline = server.baseline();
    let alone = set_up_sessions(&server, "known.example", echo.address());

    let slow = request("slow.example", echo.address().port());
    let crowd: Vec<Peer> = (0..WAITING).map(|n| waiting_client(&server, n, &slow)).collect();
    let beside = set_up_sessions(&server, "known.example", echo.address());
    assert_no_worse("beside a crowd", &alone, &beside);

    // Half of them leave, the others hear of it when it comes.
    let mut crowd = crowd;
    crowd.truncate(WAITING / 2);
    nameserver.addresses("slow.example", &["127.0.0.1"]);
    for client in &crowd {
        client.expect(&[5, 0]);
        assert!(client.expect_reply().rep == 0, "not granted");
    }
    let asked = nameserver.counts_for("slow.example");
    assert!(asked.iter().all(|asked| *asked <= 6), "asked {asked:?} times");
    server.wait_counters("those who left are gone", |it| it["client_gone"] == WAITING as u64 / 2);
    drop(crowd);
    baseline.assert_at_rest();
}

#[test]
fn who_asks_and_hangs_up_without_end_leaves_nothing() {
    raise_descriptor_limit();
    const NAMES: usize = 20_000;
    let echo = Service::echo();
    let nameserver = Nameserver::start();
    nameserver.script_others(|_| Response::silence());
    nameserver.addresses("known.example", &["127.0.0.1"]);
    let server = nameserver.server(&PATIENT);
    let baseline = server.baseline();
    set_up_sessions(&server, "known.example", echo.address());
    let before = server.rss_anon();
    for batch in (0..NAMES).step_by(500) {
        let ask = |n: usize| waiting_client(&server, n, &request(&format!("left-{n}.example"), 80));
        let clients: Vec<Peer> = (batch..batch + 500).map(ask).collect();
        for client in &clients {
            client.expect(&[5, 0]);
        }
    }
    set_up_sessions(&server, "known.example", echo.address());
    let grown = server.rss_anon().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for {NAMES} names");
    // Long before their deadline.
    baseline.assert_at_rest();
}
