//! PySocks: what Python programs speak SOCKS with.

use std::net::{Ipv6Addr, SocketAddr};

use crate::program::{Ended, program, run_with_input};
use crate::stream::Stream;
use crate::support::origin::Service;
use crate::support::server::Server;
use crate::{ClosedPort, LOGIN, has_ipv6};

/// The interpreter that Debian's python3-socks belongs to, whatever else PATH has first.
const PYTHON: &str = "/usr/bin/python3";

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/pysocks.py");

/// Few enough bytes to be sent before any answer is read.
const LEN: u64 = 20_000;

/// The script's exit status when PySocks raised an error.
const RAISED: i32 = 3;

#[test]
#[ignore = "needs python3-socks: tests/run"]
fn pysocks_by_name() {
    expect_echo(&["SOCKS5", "remote", ""], "localhost", &[]);
}

#[test]
#[ignore = "needs python3-socks: tests/run"]
fn pysocks_by_address() {
    expect_echo(&["SOCKS5", "local", ""], "127.0.0.1", &[]);
}

#[test]
#[ignore = "needs python3-socks: tests/run"]
fn pysocks_by_ipv6_address() {
    if has_ipv6() {
        expect_echo_of(
            Service::echo_on(Ipv6Addr::LOCALHOST.into()),
            &["SOCKS5", "local", ""],
            "::1",
            &[],
        );
    }
}

#[test]
#[ignore = "needs python3-socks: tests/run"]
fn pysocks_with_a_password() {
    expect_echo(&["SOCKS5", "remote", LOGIN], "localhost", &["-u", LOGIN]);
}

#[test]
#[ignore = "needs python3-socks: tests/run"]
fn pysocks_socks4() {
    expect_echo(&["SOCKS4", "local", ""], "127.0.0.1", &[]);
}

#[test]
#[ignore = "needs python3-socks: tests/run"]
fn pysocks_socks4_with_a_userid() {
    expect_echo(&["SOCKS4", "local", "alice"], "127.0.0.1", &[]);
}

#[test]
#[ignore = "needs python3-socks: tests/run"]
fn pysocks_socks4a() {
    expect_echo(&["SOCKS4", "remote", ""], "localhost", &[]);
}

#[test]
#[ignore = "needs python3-socks: tests/run"]
fn pysocks_with_a_wrong_password_raises_an_auth_error() {
    expect_raised(
        &["SOCKS5", "remote", "alice:looking-glass"],
        &["-u", LOGIN],
        "SOCKS5AuthError: SOCKS5 authentication failed",
    );
}

#[test]
#[ignore = "needs python3-socks: tests/run"]
fn pysocks_without_the_password_asked_for_raises_an_auth_error() {
    expect_raised(
        &["SOCKS5", "remote", ""],
        &["-u", LOGIN],
        "SOCKS5AuthError: All offered SOCKS5 authentication methods were rejected",
    );
}

#[test]
#[ignore = "needs python3-socks: tests/run"]
fn pysocks_socks4_where_users_are_required_raises_an_error() {
    let closed_early = "GeneralProxyError: Connection closed unexpectedly";
    expect_raised(&["SOCKS4", "local", "alice"], &["-u", LOGIN], closed_early);
}

#[test]
#[ignore = "needs python3-socks: tests/run"]
fn pysocks_hears_that_the_target_refused() {
    expect_raised(&["SOCKS5", "local", ""], &[], "SOCKS5Error: 0x05: Connection refused");
    expect_raised(&["SOCKS4", "local", ""], &[], "SOCKS4Error: 0x5b: Request rejected or failed");
}

fn expect_echo(session: &[&str; 3], host: &str, server_args: &[&str]) {
    expect_echo_of(Service::echo(), session, host, server_args);
}

fn expect_echo_of(service: Service, session: &[&str; 3], host: &str, server_args: &[&str]) {
    let server = Server::start(server_args);
    let baseline = server.baseline();
    let ended = pysocks(server.address(), session, host, service.address().port());
    let ended = ended.expect_success();
    assert_eq!(Stream::new(3, LEN).compare(&ended.stdout[..]), Ok(()), "the echo");
    baseline.assert_restored();
}

/// PySocks gets no session to a closed port, and raises this.
fn expect_raised(session: &[&str; 3], server_args: &[&str], error: &str) {
    let closed = ClosedPort::reserve();
    let server = Server::start(server_args);
    let baseline = server.baseline();
    let ended = pysocks(server.address(), session, "127.0.0.1", closed.port()).expect_code(RAISED);
    assert!(ended.stderr.starts_with(error), "not {error:?} but {:?}", ended.stderr);
    baseline.assert_restored();
}

fn pysocks(proxy: SocketAddr, [version, rdns, login]: &[&str; 3], host: &str, port: u16) -> Ended {
    let (proxy_host, proxy_port) = (proxy.ip().to_string(), proxy.port().to_string());
    let mut command = program(PYTHON);
    command.args([SCRIPT, &proxy_host, &proxy_port, version, rdns, login, host]);
    command.arg(port.to_string());
    run_with_input(&mut command, Stream::new(3, LEN).bytes())
}
