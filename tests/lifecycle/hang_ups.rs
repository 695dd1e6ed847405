//! Clients that go away, or never meant us.

use crate::support::dns::{Nameserver, Response};
use crate::support::origin::DeafTarget;
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::{
    BIND, UDP_ASSOCIATE, request, request_by_name, request_name, request_session, send_request,
};
use crate::support::udp::{Association, UNSAID, UdpOrigin};
use crate::support::wait_until;

#[test]
fn close_while_connecting_frees_everything_at_once() {
    assert_freed_by(drop);
}

#[test]
fn reset_while_connecting_frees_everything_at_once() {
    assert_freed_by(Peer::reset);
}

#[test]
fn fin_while_connecting_frees_everything_at_once() {
    assert_freed_by(|client| {
        client.fin();
        client.expect_silent_close();
    });
}

#[test]
fn close_while_resolving_frees_the_session_at_once() {
    let nameserver = Nameserver::start();
    nameserver.script_others(|_| Response::silence());
    let server = nameserver.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "1h")]);
    let baseline = server.baseline();
    let client = request_name(server.address(), "silent.example", 80);
    nameserver.wait_for_question("silent.example");
    drop(client);
    server.wait_counter("open", 0);
    server.wait_counter("client_gone", 1);
    // The question itself goes on until it would be asked again.
    baseline.assert_restored();
}

#[test]
fn close_while_a_name_to_wait_for_is_resolved_frees_the_session_at_once() {
    let nameserver = Nameserver::start();
    nameserver.script_others(|_| Response::silence());
    let server = nameserver.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "1h")]);
    let baseline = server.baseline();
    let client = send_request(server.address(), &request_by_name(BIND, b"silent.example", 0));
    nameserver.wait_for_question("silent.example");
    drop(client);
    server.wait_counter("open", 0);
    server.wait_counter("client_gone", 1);
    baseline.assert_restored();
}

/// Its datagrams wait for a name, its fragments for others, its targets may still answer.
#[test]
fn an_association_that_ends_gives_up_what_waits() {
    let nameserver = Nameserver::start();
    nameserver.script_others(|_| Response::silence());
    let server = nameserver.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "1h")]);
    let baseline = server.baseline();
    let origin = UdpOrigin::start();
    for (round, end) in (1..).zip([drop as fn(Peer), Peer::reset]) {
        let client = Association::open(server.address());
        client.expect_exchange(&origin, origin.address());
        client.send_to_name(format!("silent{round}.example").as_bytes(), 53, b"waits");
        client.send_fragment(1, origin.address(), b"waits as well");
        nameserver.wait_for_question(&format!("silent{round}.example"));
        client.hang_up(end);
        server.wait_counter("open", 0);
        let counters = server.counters();
        assert_eq!(counters["drops_unresolved"], round, "{counters:?}");
        assert_eq!(counters["drops_fragment"], round, "{counters:?}");
    }
    let counters = server.counters();
    assert_eq!((counters["finished"], counters["client_reset"]), (1, 1), "{counters:?}");
    baseline.assert_restored();
}

#[test]
fn whoever_hangs_up_behind_the_request_leaves_nothing() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    for command in [UDP_ASSOCIATE, BIND] {
        for end in [drop as fn(Peer), Peer::reset, |client| client.fin()] {
            for _ in 0..20 {
                end(send_request(server.address(), &request(command, UNSAID)));
            }
        }
    }
    baseline.assert_restored();
    server.wait_counter("accepted", 120);
}

#[test]
fn stray_bytes_on_a_control_connection_are_thrown_away() {
    let server = Server::start(&["--workers", "1"]);
    let baseline = server.baseline();
    let origin = UdpOrigin::start();
    let client = Association::open(server.address());
    let chunk = [0x5a; 64 * 1024];
    let memory = server.rss_anon();
    for _ in 0..200 {
        client.control().send(&chunk);
        client.expect_exchange(&origin, origin.address());
    }
    let more = server.rss_anon().saturating_sub(memory);
    assert!(more < 1 << 20, "{more} bytes more");
    client.control().expect_silence(std::time::Duration::from_millis(1));
    drop(client);
    baseline.assert_restored();
}

#[test]
fn probes_cost_no_log_line() {
    let server = Server::start(&["--log", "info"]);
    let baseline = server.baseline();
    let lines = server.stderr().len();
    for _ in 0..20 {
        drop(Peer::connect(server.address()));
        Peer::connect(server.address()).reset();
    }
    server.wait_counters("40 probes have come and gone", |counters| {
        (counters["accepted"], counters["open"]) == (40, 0)
    });
    let logged: Vec<String> = server.stderr().split_off(lines);
    assert!(logged.iter().all(|line| line.contains("counters ")), "{logged:#?}");
    assert_eq!(server.counters()["empty"], 40);
    baseline.assert_restored();
}

#[test]
fn noise_is_counted_once_each() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    for noise in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01", b"SSH-2.0-x\r\n"] {
        let client = Peer::connect(server.address());
        client.send(noise);
        client.expect_silent_close();
    }
    baseline.assert_restored();
    assert_eq!(server.counters()["noise"], 3);
}

/// A client that hangs up while the target does not answer leaves nothing behind, long
/// before any deadline of ours.
fn assert_freed_by(hang_up: impl FnOnce(Peer)) {
    let env = [("RINGSOCKS_TIMEOUT_CONNECT", "1h"), ("RINGSOCKS_TIMEOUT_CLOSING", "1h")];
    let server = Server::start_with_env(&[], &env);
    let baseline = server.baseline();
    let deaf = DeafTarget::start();
    let client = request_session(server.address(), deaf.address());
    wait_until("one socket to the client, one to the target", || {
        server.fds() == baseline.fds() + 2
    });
    hang_up(client);
    baseline.assert_restored();
    assert_eq!(server.counters()["client_gone"], 1);
}
