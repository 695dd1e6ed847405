//! OpenBSD's netcat: SOCKS4 and SOCKS5 without a password, and half-closes.

use std::net::SocketAddr;
use std::process::Command;
use std::thread;

use crate::program::{program, run, run_with_input};
use crate::stream::Stream;
use crate::support::origin::{Origin, Service};
use crate::support::peer::End;
use crate::support::server::Server;
use crate::{ClosedPort, LOGIN};

/// More than the buffers of one session hold.
const LONG: u64 = 8_000_000;

#[test]
#[ignore = "needs nc: tests/run"]
fn nc_socks5_to_an_address_gets_its_echo() {
    expect_echo("5", "127.0.0.1");
}

#[test]
#[ignore = "needs nc: tests/run"]
fn nc_socks5_to_a_name_gets_its_echo() {
    expect_echo("5", "localhost");
}

#[test]
#[ignore = "needs nc: tests/run"]
fn nc_socks4_gets_its_echo() {
    expect_echo("4", "127.0.0.1");
}

#[test]
#[ignore = "needs nc: tests/run"]
fn nc_hears_the_answer_that_follows_its_half_close() {
    let origin = Origin::start();
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let mut command = nc("5", server.address(), "127.0.0.1", origin.port());
    let client = thread::spawn(move || run_with_input(&mut command, b"question".to_vec()));

    let peer = origin.accept();
    let received = peer.read_to_end();
    assert_eq!((&received.bytes[..], received.end), (&b"question"[..], End::Fin));
    peer.send(b"answer");
    drop(peer);

    let ended = client.join().expect("running nc does not panic").expect_success();
    assert_eq!(ended.text(), "answer");
    baseline.assert_restored();
}

#[test]
#[ignore = "needs nc: tests/run"]
fn nc_hears_what_a_target_says_that_closes_first() {
    let origin = Origin::start();
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let mut command = nc("5", server.address(), "127.0.0.1", origin.port());
    let client = thread::spawn(move || run(&mut command));

    let peer = origin.accept();
    peer.send(b"goodbye");
    peer.fin();

    let ended = client.join().expect("running nc does not panic").expect_success();
    assert_eq!(ended.text(), "goodbye");
    drop(peer);
    baseline.assert_restored();
}

#[test]
#[ignore = "needs nc: tests/run"]
fn nc_hears_why_it_was_refused() {
    let closed = ClosedPort::reserve();
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let ended = run(&mut nc("5", server.address(), "127.0.0.1", closed.port())).expect_code(1);
    assert!(ended.stderr.contains("refused"), "nc said {:?}", ended.stderr);
    baseline.assert_restored();
}

#[test]
#[ignore = "needs nc: tests/run"]
fn nc_fails_where_a_password_is_asked_for() {
    let service = Service::echo();
    let server = Server::start(&["-u", LOGIN]);
    let baseline = server.baseline();
    for version in ["4", "5"] {
        let mut command = nc(version, server.address(), "127.0.0.1", service.address().port());
        let ended = run_with_input(&mut command, b"let me in".to_vec()).expect_code(1);
        assert_eq!(ended.text(), "", "no echo for SOCKS{version}");
    }
    baseline.assert_restored();
}

fn expect_echo(version: &str, host: &str) {
    let service = Service::echo();
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let mut command = nc(version, server.address(), host, service.address().port());
    let ended = run_with_input(&mut command, Stream::new(5, LONG).bytes()).expect_success();
    assert_eq!(Stream::new(5, LONG).compare(&ended.stdout[..]), Ok(()), "the echo");
    baseline.assert_restored();
}

/// nc through our server, ending its direction at the end of stdin (`-N`).
fn nc(version: &str, proxy: SocketAddr, host: &str, port: u16) -> Command {
    let mut command = program("nc");
    command.args(["-N", "-X", version, "-x", &proxy.to_string(), host, &port.to_string()]);
    command
}
