//! npm's `socks`: what programs of Node.js speak SOCKS with.

use std::net::{Ipv6Addr, SocketAddr};

use crate::program::{Ended, program, run_with_input};
use crate::stream::Stream;
use crate::support::origin::Service;
use crate::support::server::Server;
use crate::{ClosedPort, LOGIN, assert_relayed, has_ipv6};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/npm/client.js");

/// Where `tests/run` installs what `tests/clients/npm/package-lock.json` names.
const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/npm/node_modules");

/// More than the buffers of one session hold.
const LONG: u64 = 8_000_000;

/// The script's exit status when the package raised an error.
const RAISED: i32 = 3;

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_by_name() {
    expect_echo("5", "", "localhost", &[]);
}

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_by_address() {
    expect_echo("5", "", "127.0.0.1", &[]);
}

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_by_ipv6_address() {
    if has_ipv6() {
        expect_echo_of(&Service::echo_on(Ipv6Addr::LOCALHOST.into()), "5", "", "::1", &[]);
    }
}

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_with_a_password() {
    expect_echo("5", LOGIN, "localhost", &["-u", LOGIN]);
}

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_offers_a_password_that_nobody_asks_for() {
    expect_echo("5", LOGIN, "127.0.0.1", &[]);
}

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_of_version_4() {
    expect_echo("4", "", "127.0.0.1", &[]);
}

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_of_version_4_with_a_userid() {
    expect_echo("4", "alice", "127.0.0.1", &[]);
}

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_of_version_4a_leaves_the_name_to_us() {
    expect_echo("4", "", "localhost", &[]);
}

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_hears_a_target_that_speaks_first() {
    const BANNER: &str = "220 good morning\r\n";
    let service = Service::banner(BANNER);
    let server = Server::start(&[]);
    let baseline = server.baseline();
    for version in ["4", "5"] {
        let session = (version, "", "127.0.0.1");
        let ended = socks(server.address(), session, service.address().port(), b"QUIT\r\n");
        assert_eq!(ended.expect_success().text(), BANNER, "SOCKS{version}");
    }
    baseline.assert_restored();
    assert_relayed(&server, 2, 2 * b"QUIT\r\n".len() as u64, 2 * BANNER.len() as u64);
}

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_with_a_wrong_password_raises_an_error() {
    expect_raised(("5", "alice:looking-glass"), &["-u", LOGIN], "Socks5 Authentication failed");
}

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_without_the_password_asked_for_raises_an_error() {
    expect_raised(("5", ""), &["-u", LOGIN], "no accepted authentication type");
}

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_of_version_4_where_users_are_required_raises_an_error() {
    expect_raised(("4", "alice"), &["-u", LOGIN], "Socket closed");
}

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_hears_that_the_target_refused() {
    expect_raised(("5", ""), &[], "Socks5 proxy rejected connection - ConnectionRefused");
    expect_raised(("4", ""), &[], "Socks4 Proxy rejected connection - (Failed)");
}

fn expect_echo(version: &str, login: &str, host: &str, server_args: &[&str]) {
    expect_echo_of(&Service::echo(), version, login, host, server_args);
}

fn expect_echo_of(service: &Service, version: &str, login: &str, host: &str, server_args: &[&str]) {
    let server = Server::start(server_args);
    let baseline = server.baseline();
    let input = Stream::new(13, LONG).bytes();
    let session = (version, login, host);
    let ended = socks(server.address(), session, service.address().port(), &input);
    let ended = ended.expect_success();
    assert_eq!(Stream::new(13, LONG).compare(&ended.stdout[..]), Ok(()), "the echo");
    baseline.assert_restored();
    assert_relayed(&server, 1, LONG, LONG);
}

/// The package gets no session to a closed port, and raises this.
fn expect_raised((version, login): (&str, &str), server_args: &[&str], error: &str) {
    let closed = ClosedPort::reserve();
    let server = Server::start(server_args);
    let baseline = server.baseline();
    let ended = socks(server.address(), (version, login, "127.0.0.1"), closed.port(), b"hello");
    let ended = ended.expect_code(RAISED);
    assert!(ended.stderr.contains(error), "not {error:?} but {:?}", ended.stderr);
    baseline.assert_restored();
    assert_relayed(&server, 0, 0, 0);
}

fn socks(
    proxy: SocketAddr,
    (version, login, host): (&str, &str, &str),
    port: u16,
    input: &[u8],
) -> Ended {
    let (proxy_host, proxy_port) = (proxy.ip().to_string(), proxy.port().to_string());
    let mut command = program("node");
    command.env("NODE_PATH", PACKAGES);
    command.args([SCRIPT, &proxy_host, &proxy_port, version, login, host, &port.to_string()]);
    run_with_input(&mut command, input.to_vec())
}
