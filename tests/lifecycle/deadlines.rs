//! Every deadline ends its state, with the right answer and the right counter.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::dns::{Nameserver, Response};
use crate::support::origin::{ClosedPort, DeafTarget};
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::{
    BIND, greeting, refusal, request, request_name, request_session, send_request, socks4,
};
use crate::support::udp::{Association, UNSAID, UdpOrigin, is_refused};
use crate::support::{finish, session, wait_until};

#[test]
fn handshake_ends_every_state_before_the_request_without_a_reply() {
    let server = Server::start_with_env(&[], &[("RINGSOCKS_TIMEOUT_HANDSHAKE", "300ms")]);
    let baseline = server.baseline();
    let unfinished = [&[][..], &[5], &[5, 1, 0], &[5, 1, 0, 5, 1, 0, 1, 127], &[4, 1, 0, 80]];
    for message in unfinished {
        let started = Instant::now();
        let client = Peer::connect(server.address());
        client.send(message);
        if message.starts_with(&[5, 1, 0]) {
            client.expect(&[5, 0]);
        }
        client.expect_silent_close();
        assert!(started.elapsed() >= Duration::from_millis(300), "closed too early");
    }
    baseline.assert_restored();
    server.wait_counter("handshake_timeout", unfinished.len() as u64);
}

#[test]
fn a_wait_that_is_interrupted_again_and_again_is_not_a_longer_one() {
    let env = [("RINGSOCKS_TIMEOUT_HANDSHAKE", "500ms")];
    let server = Server::start_with_env(&["--workers", "1"], &env);
    let baseline = server.baseline();
    let started = Instant::now();
    let client = Peer::connect(server.address());
    // Ever before the time is over the kernel breaks the wait off.
    while client.is_silent_for(Duration::from_millis(100)) {
        assert!(started.elapsed() < Duration::from_secs(10), "each interruption puts it off");
        server.signal(Signal::STOP);
        thread::sleep(Duration::from_millis(10));
        server.signal(Signal::CONT);
    }
    drop(client);
    baseline.assert_restored();
    server.wait_counter("handshake_timeout", 1);
}

#[test]
fn handshake_is_one_deadline_and_not_one_per_byte() {
    let server = Server::start_with_env(&[], &[("RINGSOCKS_TIMEOUT_HANDSHAKE", "1s")]);
    let baseline = server.baseline();
    let message = greeting(&[0; 255]);
    let client = Peer::connect(server.address());
    let mut sent = 0;
    while client.is_silent_for(Duration::from_millis(100)) {
        assert!(sent < message.len(), "the deadline moved with every byte");
        // The connection may end while we send; the next look tells.
        let _ = client.try_send(&message[sent..=sent]);
        sent += 1;
    }
    drop(client);
    baseline.assert_restored();
    server.wait_counter("handshake_timeout", 1);
}

#[test]
fn connect_answers_06() {
    let server = Server::start_with_env(&[], &[("RINGSOCKS_TIMEOUT_CONNECT", "300ms")]);
    let baseline = server.baseline();
    let deaf = DeafTarget::start();
    let client = request_session(server.address(), deaf.address());
    client.expect_refused(6);
    drop(client);
    baseline.assert_restored();
    server.wait_counter("refused_06", 1);
}

#[test]
fn idle_resets_both_sides() {
    let server = Server::start_with_env(&[], &[("RINGSOCKS_TIMEOUT_IDLE", "300ms")]);
    let baseline = server.baseline();
    let (client, target) = session(&server);
    client.expect_reset();
    target.expect_reset();
    baseline.assert_restored();
    server.wait_counter("idle_timeout", 1);
}

#[test]
fn idle_starts_anew_with_every_byte() {
    let server = Server::start_with_env(&[], &[("RINGSOCKS_TIMEOUT_IDLE", "2s")]);
    let baseline = server.baseline();
    let (client, target) = session(&server);
    for _ in 0..15 {
        client.expect_silence(Duration::from_millis(200));
        target.send(b".");
        client.expect(b".");
    }
    finish(client, &target);
    baseline.assert_restored();
    server.wait_counter("finished", 1);
}

#[test]
fn half_closed_resets_what_is_left() {
    let env = [("RINGSOCKS_TIMEOUT_HALF_CLOSED", "300ms")];
    let server = Server::start_with_env(&[], &env);
    let baseline = server.baseline();
    let (client, target) = session(&server);
    client.fin();
    target.expect_eof();
    client.expect_reset();
    let (client, target) = session(&server);
    target.fin();
    client.expect_eof();
    target.expect_reset();
    drop(client);
    baseline.assert_restored();
    server.wait_counter("half_closed_timeout", 2);
}

#[test]
fn closing_does_not_wait_for_a_client_that_never_closes() {
    let server = Server::start_with_env(&[], &[("RINGSOCKS_TIMEOUT_CLOSING", "300ms")]);
    let baseline = server.baseline();
    let closed = ClosedPort::everywhere();
    let client = request_session(server.address(), closed.address());
    server.wait_counter("refused_05", 1);
    baseline.assert_restored();
    client.expect_refused(5);
}

#[test]
fn resolve_answers_04() {
    let nameserver = Nameserver::start();
    nameserver.script_others(|_| Response::silence());
    let server = nameserver.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "300ms")]);
    let baseline = server.baseline();
    let started = Instant::now();
    let client = request_name(server.address(), "silent.example", 80);
    client.expect_refused(4);
    assert!(started.elapsed() >= Duration::from_millis(300), "refused too early");
    drop(client);
    baseline.assert_restored();
    server.wait_counter("refused_04", 1);
}

#[test]
fn who_waits_in_vain_hears_06_in_the_second_reply() {
    let server = Server::start_with_env(&[], &[("RINGSOCKS_BIND_TIMEOUT", "300ms")]);
    let baseline = server.baseline();
    let started = Instant::now();
    let client = send_request(server.address(), &request(BIND, ([127, 0, 0, 7], 0).into()));
    let bnd = client.expect_granted();
    // A stranger does not lengthen it.
    let stranger = Peer::connect(bnd);
    stranger.expect_silent_close();
    client.expect(&refusal(6));
    client.expect_eof();
    assert!(started.elapsed() >= Duration::from_millis(300), "refused too early");
    assert!(TcpStream::connect(bnd).is_err());
    drop(client);

    let client = Peer::connect(server.address());
    client.send(&socks4(BIND, [127, 0, 0, 7], 0, b"", None));
    client.expect_socks4_granted();
    client.expect_socks4_rejected();
    drop(client);
    baseline.assert_restored();
    server.wait_counter("refused_06", 2);
}

/// Whoever relays has time that it had not while it waited, and the other way round.
#[test]
fn waiting_has_a_deadline_of_its_own() {
    let env = [("RINGSOCKS_BIND_TIMEOUT", "1s"), ("RINGSOCKS_TIMEOUT_IDLE", "300ms")];
    let server = Server::start_with_env(&[], &env);
    let baseline = server.baseline();
    let wait = || {
        let client = send_request(server.address(), &request(BIND, UNSAID));
        let bnd = client.expect_granted();
        (client, bnd)
    };
    let (client, _) = wait();
    client.expect_silence(Duration::from_millis(600));
    client.expect(&refusal(6));
    let (client, bnd) = wait();
    let peer = Peer::connect(bnd);
    client.expect_granted();
    client.expect_reset();
    peer.expect_reset();
    drop(client);
    baseline.assert_restored();
    server.wait_counter("idle_timeout", 1);
}

#[test]
fn idle_associations_are_reset() {
    let server = Server::start_with_env(&[], &[("RINGSOCKS_UDP_IDLE", "300ms")]);
    let baseline = server.baseline();
    let origin = UdpOrigin::start();
    let started = Instant::now();
    // Never used, and not used any more.
    let unused = Association::open(server.address());
    let used = Association::open(server.address());
    used.expect_exchange(&origin, origin.address());
    for client in [&unused, &used] {
        client.control().expect_reset();
        assert!(started.elapsed() >= Duration::from_millis(300), "too early");
        let relay = client.relay();
        wait_until("the port is closed", || is_refused(relay.ip(), relay));
    }
    baseline.assert_restored();
    server.wait_counter("idle_timeout", 2);
}

/// It is what is relayed that counts: neither what is dropped nor what comes on the connection.
#[test]
fn an_association_is_idle_while_nothing_is_relayed() {
    let server = Server::start_with_env(&[], &[("RINGSOCKS_UDP_IDLE", "1s")]);
    let baseline = server.baseline();
    let started = Instant::now();
    let client = Association::open(server.address());
    while client.control().is_silent_for(Duration::from_millis(50)) {
        assert!(started.elapsed() < Duration::from_secs(10), "garbage keeps it alive");
        client.send_raw(b"garbage");
        // The connection may end while we send; the next look tells.
        let _ = client.control().try_send(b"garbage, too");
    }
    assert!(started.elapsed() >= Duration::from_secs(1), "too early");
    baseline.assert_restored();
    server.wait_counter("idle_timeout", 1);
}

#[test]
fn an_association_stays_while_datagrams_go_either_way() {
    let server = Server::start_with_env(&[], &[("RINGSOCKS_UDP_IDLE", "2s")]);
    let baseline = server.baseline();
    let origin = UdpOrigin::start();
    let client = Association::open(server.address());
    let asked_from = client.expect_exchange(&origin, origin.address());
    for _ in 0..10 {
        client.control().expect_silence(Duration::from_millis(300));
        origin.send_to(asked_from, b"down");
        client.expect(origin.address(), b"down");
    }
    for _ in 0..10 {
        client.control().expect_silence(Duration::from_millis(300));
        client.send_to(origin.address(), b"up");
        origin.expect(b"up");
    }
    drop(client);
    baseline.assert_restored();
    server.wait_counter("finished", 1);
}
