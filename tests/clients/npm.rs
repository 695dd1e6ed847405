//! npm's `socks`: what programs of Node.js speak SOCKS with.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{ChildStdout, Command};
use std::thread;

use crate::datagrams::{Echo, Load};
use crate::program::{Ended, program, run, run_reading, run_with_input};
use crate::stream::Stream;
use crate::support::assert_same_bytes;
use crate::support::dns::Nameserver;
use crate::support::origin::Service;
use crate::support::peer::{End, Peer};
use crate::support::server::Server;
use crate::{ClosedPort, LOGIN, assert_relayed, has_ipv6};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/npm/client.js");

const BIND: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/npm/bind.js");

const DATAGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/npm/datagrams.js");

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
    expect_raised(("5", "alice:canary-glass"), &["-u", LOGIN], "Socks5 Authentication failed");
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

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_awaits_a_connection() {
    expect_bind(&Server::start(&[]), "5", "", "127.0.0.1");
}

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_awaits_a_connection_over_ipv6() {
    if has_ipv6() {
        expect_bind(&Server::start(&[]), "5", "", "::1");
    }
}

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_awaits_a_connection_of_anybody() {
    expect_bind(&Server::start(&[]), "5", "", "0.0.0.0");
}

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_awaits_a_connection_with_a_password() {
    expect_bind(&Server::start(&["-u", LOGIN]), "5", LOGIN, "127.0.0.1");
}

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_awaits_a_connection_of_a_name() {
    let nameserver = Nameserver::start();
    nameserver.addresses("peer.example", &["127.0.0.1"]);
    expect_bind(&nameserver.server(&[]), "5", "", "peer.example");
}

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_of_version_4_awaits_a_connection() {
    expect_bind(&Server::start(&[]), "4", "", "127.0.0.1");
    expect_bind(&Server::start(&[]), "4", "alice", "127.0.0.1");
}

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_goes_on_waiting_when_a_stranger_comes() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let (ended, ()) = bind(&server, ("5", "", "127.0.0.2"), b"hello", |mut stdout| {
        let bound = address_line(&mut stdout);
        let stranger = Peer::connect(bound);
        stranger.expect_silent_close();
        let peer = Peer::connect_from(([127, 0, 0, 2], 0).into(), bound);
        assert_eq!(address_line(&mut stdout), peer.local_address());
        peer.expect(b"hello");
        peer.expect_eof();
    });
    ended.expect_success();
    baseline.assert_restored();
    assert_relayed(&server, 1, 5, 0);
    assert_eq!(server.counters()["bind_strangers"], 1);
}

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_hears_that_nobody_came() {
    let server = Server::start_with_env(&[], &[("RINGSOCKS_BIND_TIMEOUT", "1s")]);
    let baseline = server.baseline();
    for (version, error) in [
        ("5", "Socks5 Proxy rejected incoming bound connection - TTLExpired"),
        ("4", "Socks4 Proxy rejected incoming bound connection - (Failed)"),
    ] {
        let (ended, bound) = bind(&server, (version, "", "127.0.0.1"), b"", |mut stdout| {
            let bound = address_line(&mut stdout);
            assert_eq!(stdout.fill_buf().expect("a pipe can be read"), b"", "nobody came");
            bound
        });
        let ended = ended.expect_code(RAISED);
        assert!(ended.stderr.contains(error), "not {error:?} but {:?}", ended.stderr);
        assert!(Peer::try_connect_from(([127, 0, 0, 1], 0).into(), bound).is_err());
    }
    baseline.assert_restored();
}

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_hears_what_is_not_served() {
    let server = Server::start_with_env(&[], &[("RINGSOCKS_LISTEN_COMMANDS", "connect")]);
    let baseline = server.baseline();
    let error = "Socks5 proxy rejected connection - CommandNotSupported";
    let bind = run(npm(BIND, server.address()).args(["5", "", "127.0.0.1", "0"]));
    let args = Load::FEW.args();
    let associate = run(npm(DATAGRAMS, server.address()).arg("").args(args).arg("127.0.0.1:9"));
    for ended in [bind, associate].map(|ended| ended.expect_code(RAISED)) {
        assert!(ended.stderr.contains(error), "not {error:?} but {:?}", ended.stderr);
    }
    baseline.assert_restored();
}

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_datagrams_by_address() {
    let (one, two) = (Echo::start(), Echo::start());
    let echoes = [("127.0.0.1", &one), ("127.0.0.1", &two)];
    expect_datagrams(&Server::start(&[]), "", Load::FEW, &echoes);
}

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_datagrams_by_name_with_a_password() {
    let nameserver = Nameserver::start();
    nameserver.addresses("echo.example", &["127.0.0.1"]);
    let server = nameserver.server(&[("RINGSOCKS_USERS_alice", "plain:canary-land")]);
    expect_datagrams(&server, LOGIN, Load::FEW, &[("echo.example", &Echo::start())]);
}

/// The server listens on IPv6 only, so that is what its clients send their datagrams over.
#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_datagrams_by_way_of_ipv6() {
    if has_ipv6() {
        let server = Server::start(&["--listen", "[::1]:0"]);
        expect_datagrams(&server, "", Load::FEW, &[("127.0.0.1", &Echo::start())]);
    }
}

#[test]
#[ignore = "needs node and npm's socks: tests/run"]
fn npm_socks_datagrams_as_many_and_as_large_as_those_of_quic() {
    expect_datagrams(&Server::start(&[]), "", Load::QUIC, &[("127.0.0.1", &Echo::start())]);
}

fn expect_datagrams(server: &Server, login: &str, load: Load, echoes: &[(&str, &Echo)]) {
    let baseline = server.baseline();
    let targets = echoes.iter().map(|(name, echo)| format!("{name}:{}", echo.port()));
    let ended = run(npm(DATAGRAMS, server.address()).arg(login).args(load.args()).args(targets));
    baseline.assert_restored();
    load.assert_echoed(ended, echoes, server);
}

/// Somebody comes and both sides send at once: every byte arrives, and the addresses are right.
fn expect_bind(server: &Server, version: &str, login: &str, host: &str) {
    let baseline = server.baseline();
    // Who is on this host comes to its loopback.
    let expected: IpAddr = match host {
        "::1" => Ipv6Addr::LOCALHOST.into(),
        _ => Ipv4Addr::LOCALHOST.into(),
    };
    let input = Stream::new(19, LONG).bytes();
    let (ended, received) = bind(server, (version, login, host), &input, move |mut stdout| {
        let bound = address_line(&mut stdout);
        assert_eq!(bound.ip(), expected, "the family and the address");
        let peer = Peer::connect(bound);
        assert_eq!(address_line(&mut stdout), peer.local_address(), "who came");
        thread::scope(|scope| {
            let down = scope.spawn(|| Stream::new(20, LONG).compare(stdout));
            let up = peer.exchange(&Stream::new(20, LONG).bytes());
            assert_eq!(down.join().expect("comparing does not panic"), Ok(()), "at the client");
            up
        })
    });
    ended.expect_success();
    assert_same_bytes(&received.bytes, &input);
    assert_eq!(received.end, End::Fin);
    baseline.assert_restored();
    assert_relayed(server, 1, LONG, LONG);
}

/// The package waits for a connection from `host`, while `meet` follows what it prints.
fn bind<T: Send + 'static>(
    server: &Server,
    (version, login, host): (&str, &str, &str),
    input: &[u8],
    meet: impl FnOnce(BufReader<ChildStdout>) -> T + Send + 'static,
) -> (Ended, T) {
    let mut command = npm(BIND, server.address());
    command.args([version, login, host, "0"]);
    run_reading(&mut command, input.to_vec(), |stdout| meet(BufReader::new(stdout)))
}

/// An address and a port, as the script prints them.
fn address_line(stdout: &mut BufReader<ChildStdout>) -> SocketAddr {
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a pipe from a client can be read");
    let (ip, port) = line.trim_end().split_once(' ').expect("an address and a port");
    let ip: IpAddr = ip.parse().expect("an address");
    SocketAddr::new(ip, port.parse().expect("a port"))
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
    let mut command = npm(SCRIPT, proxy);
    command.args([version, login, host, &port.to_string()]);
    run_with_input(&mut command, input.to_vec())
}

/// A script of ours, which uses the package with this server.
fn npm(script: &str, proxy: SocketAddr) -> Command {
    let mut command = program("node");
    command.env("NODE_PATH", PACKAGES);
    command.args([script, &proxy.ip().to_string(), &proxy.port().to_string()]);
    command
}
