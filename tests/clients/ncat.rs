//! Nmap's netcat: SOCKS4, SOCKS4a and SOCKS5 with and without a password, and half-closes.

use std::net::SocketAddr;
use std::process::Command;
use std::thread;

use crate::program::{program, run, run_with_input};
use crate::stream::Stream;
use crate::support::origin::{Origin, Service};
use crate::support::peer::End;
use crate::support::server::Server;
use crate::{ClosedPort, LOGIN, assert_relayed};

/// More than the buffers of one session hold.
const LONG: u64 = 8_000_000;

#[test]
#[ignore = "needs ncat: tests/run"]
fn ncat_socks5_to_an_address_gets_its_echo() {
    expect_echo("socks5", &[], "127.0.0.1", &[]);
}

#[test]
#[ignore = "needs ncat: tests/run"]
fn ncat_socks5_leaves_a_name_to_us() {
    expect_echo("socks5", &["--proxy-dns", "remote"], "localhost", &[]);
}

#[test]
#[ignore = "needs ncat: tests/run"]
fn ncat_socks5_with_a_password_gets_its_echo() {
    expect_echo("socks5", &["--proxy-auth", LOGIN], "127.0.0.1", &["-u", LOGIN]);
}

#[test]
#[ignore = "needs ncat: tests/run"]
fn ncat_socks4_gets_its_echo() {
    expect_echo("socks4", &[], "127.0.0.1", &[]);
}

#[test]
#[ignore = "needs ncat: tests/run"]
fn ncat_socks4_with_a_userid_gets_its_echo() {
    expect_echo("socks4", &["--proxy-auth", "alice"], "127.0.0.1", &[]);
}

#[test]
#[ignore = "needs ncat: tests/run"]
fn ncat_socks4a_leaves_a_name_to_us() {
    expect_echo("socks4", &["--proxy-dns", "remote"], "localhost", &[]);
}

#[test]
#[ignore = "needs ncat: tests/run"]
fn ncat_hears_the_answer_that_follows_its_half_close() {
    let origin = Origin::start();
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let mut command = ncat("socks5", server.address(), "127.0.0.1", origin.port());
    let client = thread::spawn(move || run_with_input(&mut command, b"question".to_vec()));

    let peer = origin.accept();
    let received = peer.read_to_end();
    assert_eq!((&received.bytes[..], received.end), (&b"question"[..], End::Fin));
    peer.send(b"answer");
    drop(peer);

    let ended = client.join().expect("running ncat does not panic").expect_success();
    assert_eq!(ended.text(), "answer");
    baseline.assert_restored();
    assert_relayed(&server, 1, 8, 6);
}

#[test]
#[ignore = "needs ncat: tests/run"]
fn ncat_hears_what_a_target_says_that_speaks_first() {
    const BANNER: &str = "220 good morning\r\n";
    let service = Service::banner(BANNER);
    let server = Server::start(&[]);
    let baseline = server.baseline();
    for version in ["socks4", "socks5"] {
        let port = service.address().port();
        let ended = run(&mut ncat(version, server.address(), "127.0.0.1", port)).expect_success();
        assert_eq!(ended.text(), BANNER, "{version}");
    }
    baseline.assert_restored();
    assert_relayed(&server, 2, 0, 2 * BANNER.len() as u64);
}

#[test]
#[ignore = "needs ncat: tests/run"]
fn ncat_hears_that_the_target_refused() {
    let closed = ClosedPort::reserve();
    let server = Server::start(&[]);
    let baseline = server.baseline();
    for (version, error) in
        [("socks4", "Proxy connection failed"), ("socks5", "Error: Connection refused")]
    {
        let mut command = ncat(version, server.address(), "127.0.0.1", closed.port());
        let ended = run(&mut command).expect_code(1);
        assert!(ended.stderr.contains(error), "{version}: ncat said {:?}", ended.stderr);
    }
    baseline.assert_restored();
    assert_eq!(server.counters()["refused_05"], 2);
}

#[test]
#[ignore = "needs ncat: tests/run"]
fn ncat_fails_where_its_login_is_not_the_one_asked_for() {
    let service = Service::echo();
    let server = Server::start(&["-u", LOGIN]);
    let baseline = server.baseline();
    let port = service.address().port();
    for (version, login) in [("socks5", "alice:canary-glass"), ("socks5", ""), ("socks4", "alice")]
    {
        let mut command = ncat(version, server.address(), "127.0.0.1", port);
        if !login.is_empty() {
            command.args(["--proxy-auth", login]);
        }
        let ended = run_with_input(&mut command, b"let me in".to_vec()).expect_code(1);
        assert_eq!(ended.text(), "", "no echo for {version} as {login:?}");
    }
    baseline.assert_restored();
    assert_relayed(&server, 0, 0, 0);
}

fn expect_echo(version: &str, client_args: &[&str], host: &str, server_args: &[&str]) {
    let service = Service::echo();
    let server = Server::start(server_args);
    let baseline = server.baseline();
    let mut command = ncat(version, server.address(), host, service.address().port());
    let input = Stream::new(6, LONG).bytes();
    let ended = run_with_input(command.args(client_args), input).expect_success();
    assert_eq!(Stream::new(6, LONG).compare(&ended.stdout[..]), Ok(()), "the echo");
    baseline.assert_restored();
    assert_relayed(&server, 1, LONG, LONG);
}

/// ncat through our server, ending its direction at the end of stdin.
fn ncat(version: &str, proxy: SocketAddr, host: &str, port: u16) -> Command {
    let mut command = program("ncat");
    command.args(["--proxy", &proxy.to_string(), "--proxy-type", version, host, &port.to_string()]);
    command
}
