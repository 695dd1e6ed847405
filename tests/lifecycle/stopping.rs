//! SIGTERM and what comes after it.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::origin::{ClosedPort, Service};
use crate::support::peer::Peer;
use crate::support::server::{Server, binary, counters_in};
use crate::support::socks::{BIND, connect_to, greeting, open_session, request, send_request};
use crate::support::udp::{Association, UNSAID, UdpOrigin, is_refused};
use crate::support::{finish, session, wait_until};
use crate::workers_possible;

#[test]
fn sigterm_loses_no_client_that_waits_to_be_accepted() {
    for _ in 0..3 {
        let server = server_of_two();
        // Stopped, it leaves every client in the kernel's queues until after the signal.
        server.signal(Signal::STOP);
        assert_all_served_after_sigterm(server);
    }
}

#[test]
fn sigterm_loses_no_client_that_has_just_connected() {
    for _ in 0..3 {
        assert_all_served_after_sigterm(server_of_two());
    }
}

#[test]
fn sessions_finish_after_sigterm() {
    let mut server = Server::start(&["--drain", "1h"]);
    let (client, target) = session(&server);
    server.signal(Signal::TERM);
    wait_until_closed(server.address());
    client.send(b"still here");
    target.expect(b"still here");
    finish(client, &target);
    assert_eq!(server.wait_exit().code(), Some(0));
    assert_eq!(last_counters(&server)["finished"], 1);
}

#[test]
fn sigint_stops_as_sigterm_does() {
    let mut server = Server::start(&[]);
    server.signal(Signal::INT);
    assert_eq!(server.wait_exit().code(), Some(0));
}

#[test]
fn what_is_left_when_the_drain_time_is_over_is_reset() {
    let mut server = Server::start(&["--drain", "500ms"]);
    let (client, target) = session(&server);
    server.signal(Signal::TERM);
    client.expect_reset();
    target.expect_reset();
    assert_eq!(server.wait_exit().code(), Some(0));
    assert_eq!(last_counters(&server)["drained"], 1);
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut server = Server::start(&["--drain", "1h"]);
    let (client, _target) = session(&server);
    server.signal(Signal::TERM);
    // Two signals at once would be one: the first has been seen when nobody is let in.
    wait_until_closed(server.address());
    server.signal(Signal::TERM);
    server.wait_exit();
    client.expect_reset();
}

/// New datagrams are relayed, and who waits is still found.
#[test]
fn associations_and_waiting_clients_go_on_after_sigterm() {
    let mut server = Server::start(&["--drain", "1h"]);
    let origin = UdpOrigin::start();
    let client = Association::open(server.address());
    client.expect_exchange(&origin, origin.address());
    let silent = Association::open(server.address());
    let waiting = send_request(server.address(), &request(BIND, UNSAID));
    let bnd = waiting.expect_granted();
    server.signal(Signal::TERM);
    wait_until_closed(server.address());
    for association in [&client, &silent] {
        association.expect_exchange(&origin, origin.address());
    }
    let peer = Peer::connect(bnd);
    assert_eq!(waiting.expect_granted(), peer.local_address());
    finish(waiting, &peer);
    drop((client, silent));
    assert_eq!(server.wait_exit().code(), Some(0));
    let counters = last_counters(&server);
    assert_eq!((counters["finished"], counters["drained"]), (3, 0), "{counters:?}");
}

#[test]
fn associations_and_waiting_clients_are_reset_when_the_drain_time_is_over() {
    let mut server = Server::start(&["--drain", "500ms"]);
    let origin = UdpOrigin::start();
    let client = Association::open(server.address());
    let asked_from = client.expect_exchange(&origin, origin.address());
    let waiting = send_request(server.address(), &request(BIND, UNSAID));
    let bnd = waiting.expect_granted();
    let started = Instant::now();
    server.signal(Signal::TERM);
    client.control().expect_reset();
    waiting.expect_reset();
    assert!(started.elapsed() >= Duration::from_millis(500), "too early");
    assert_eq!(server.wait_exit().code(), Some(0));
    assert!(TcpStream::connect(bnd).is_err());
    for relay in [client.relay(), asked_from] {
        assert!(is_refused(relay.ip(), relay));
    }
    assert_eq!(last_counters(&server)["drained"], 2);
}

#[test]
fn a_second_signal_ends_associations_and_waiting_clients_at_once() {
    let mut server = Server::start(&["--drain", "1h"]);
    let client = Association::open(server.address());
    let waiting = send_request(server.address(), &request(BIND, UNSAID));
    waiting.expect_granted();
    server.signal(Signal::TERM);
    wait_until_closed(server.address());
    server.signal(Signal::TERM);
    server.wait_exit();
    client.control().expect_reset();
    waiting.expect_reset();
}

#[test]
fn other_signals_do_no_harm() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let (client, target) = session(&server);
    for signal in [Signal::PIPE, Signal::WINCH, Signal::CHILD, Signal::USR1, Signal::URG] {
        server.signal(signal);
        client.send(b"ping");
        target.expect(b"ping");
    }
    finish(client, &target);
    baseline.assert_restored();
}

#[test]
#[ignore = "needs root: tests/run"]
fn as_pid_1_it_serves_and_stops() {
    let mut command = Command::new("unshare");
    command.args(["--fork", "--pid", "--kill-child", binary(), "--listen", "127.0.0.1:0"]);
    let mut server = Server::spawn(command);
    let (client, target) = session(&server);
    finish(client, &target);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit().code(), Some(0));
    assert_eq!(last_counters(&server)["finished"], 1);
}

#[test]
fn a_log_that_nobody_reads_hinders_neither_service_nor_stop() {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    // As much as a pipe holds (pipe(7)): whatever is written next would wait for ever.
    writer.write_all(&[b'.'; 64 * 1024]).expect("room for as much");
    let address = ClosedPort::everywhere().address();
    let mut command = Command::new(binary());
    command.args(["--listen", &address.to_string(), "--drain", "0"]).stderr(writer);
    let mut server = command.spawn().expect("the binary starts");
    wait_until("it serves", || TcpStream::connect(address).is_ok());

    let echo = Service::echo();
    let pid = Pid::from_child(&server);
    for _ in 0..10 {
        kill_process(pid, Signal::USR1).unwrap();
        let client = open_session(address, echo.address());
        client.send(b"ping");
        client.expect(b"ping");
    }
    kill_process(pid, Signal::TERM).unwrap();
    let mut status = None;
    wait_until("it ends", || {
        status = server.try_wait().expect("our own child");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    drop(reader);
}

/// A hundred clients that have connected and not spoken when SIGTERM comes are all served.
fn assert_all_served_after_sigterm(mut server: Server) {
    let echo = Service::echo();
    let clients: Vec<Peer> = (0..100).map(|_| Peer::connect(server.address())).collect();
    server.signal(Signal::TERM);
    server.signal(Signal::CONT);
    for client in &clients {
        client.send(&greeting(&[0]));
    }
    for client in &clients {
        client.expect(&[5, 0]);
        client.send(&connect_to(echo.address()));
    }
    for client in &clients {
        client.expect_granted();
        client.send(b"served");
        client.fin();
        client.expect(b"served");
        client.expect_eof();
    }
    drop(clients);
    assert_eq!(server.wait_exit().code(), Some(0));
    assert_eq!(last_counters(&server)["finished"], 100);
}

fn server_of_two() -> Server {
    Server::start(&["--drain", "1h", "--workers", &workers_possible(2).to_string()])
}

/// Waits until new clients are refused.
#[track_caller]
fn wait_until_closed(address: SocketAddr) {
    wait_until("new clients are refused", || TcpStream::connect(address).is_err());
}

#[track_caller]
fn last_counters(server: &Server) -> BTreeMap<String, u64> {
    counters_in(&server.wait_line("counters "))
}
