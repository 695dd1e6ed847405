//! PySocks: what Python programs speak SOCKS with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::datagrams::{Echo, Load};
use crate::program::{Ended, program, run, run_with_input};
use crate::stream::Stream;
use crate::support::dns::Nameserver;
use crate::support::origin::Service;
use crate::support::server::Server;
use crate::{ClosedPort, LOGIN, has_ipv6};

/// The interpreter that Debian's python3-socks belongs to, whatever else PATH has first.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/pysocks.py");

pub(crate) const DATAGRAMS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/datagrams.py");

const DNS_QUERY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/dns_query.py");

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
        &["SOCKS5", "remote", "alice:canary-glass"],
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

/// It asks for its datagrams to be relayed from `0.0.0.0` and its port.
#[test]
#[ignore = "needs python3-socks: tests/run"]
fn pysocks_datagrams_by_address() {
    let server = Server::start(&[]);
    expect_datagrams(&server, &["local", ""], Load::FEW, &[("127.0.0.1", &Echo::start())]);
}

/// It asks for its datagrams to be relayed from the name `0` and its port.
#[test]
#[ignore = "needs python3-socks: tests/run"]
fn pysocks_datagrams_by_name() {
    let nameserver = Nameserver::start();
    nameserver.addresses("one.example", &["127.0.0.1"]);
    nameserver.addresses("two.example", &["127.0.0.2"]);
    let server = nameserver.server(&[]);
    let one = Echo::start();
    let two = Echo::start_on(Ipv4Addr::new(127, 0, 0, 2).into());
    let echoes = [("one.example", &one), ("two.example", &two)];
    expect_datagrams(&server, &["remote", ""], Load::FEW, &echoes);
    // One question a name, not one a datagram.
    assert_eq!(nameserver.counts_for("one.example")[0], 1);
    assert_eq!(nameserver.counts_for("two.example")[0], 1);
}

#[test]
#[ignore = "needs python3-socks: tests/run"]
fn pysocks_datagrams_with_a_password() {
    let server = Server::start(&["-u", LOGIN]);
    expect_datagrams(&server, &["remote", LOGIN], Load::FEW, &[("127.0.0.1", &Echo::start())]);
}

#[test]
#[ignore = "needs python3-socks: tests/run"]
fn pysocks_datagrams_to_several_places_come_from_one() {
    let hosts: [IpAddr; 3] =
        [Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)].map(IpAddr::V4);
    let echoes = hosts.map(Echo::start_on);
    let names = hosts.map(|ip| ip.to_string());
    let named: Vec<(&str, &Echo)> = names.iter().map(String::as_str).zip(&echoes).collect();
    expect_datagrams(&Server::start(&[]), &["local", ""], Load::FEW, &named);
    // Whoever is spoken to sees the same port.
    let ports: Vec<u16> = echoes.iter().flat_map(Echo::sources).map(|it| it.port()).collect();
    assert!(ports.len() == 3 && ports.iter().all(|port| *port == ports[0]), "from {ports:?}");
}

#[test]
#[ignore = "needs python3-socks: tests/run"]
fn pysocks_datagrams_to_both_families() {
    if has_ipv6() {
        let (v4, v6) = (Echo::start(), Echo::start_on(Ipv6Addr::LOCALHOST.into()));
        let echoes = [("127.0.0.1", &v4), ("::1", &v6)];
        expect_datagrams(&Server::start(&[]), &["local", ""], Load::FEW, &echoes);
    }
}

#[test]
#[ignore = "needs python3-socks: tests/run"]
fn pysocks_datagrams_as_many_and_as_large_as_those_of_quic() {
    let server = Server::start(&[]);
    expect_datagrams(&server, &["local", ""], Load::QUIC, &[("127.0.0.1", &Echo::start())]);
}

#[test]
#[ignore = "needs python3-socks and python3-dnspython: tests/run"]
fn pysocks_takes_a_question_to_a_name_server() {
    let nameserver = Nameserver::start();
    nameserver.addresses("www.example", &["192.0.2.7", "192.0.2.8"]);
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let hosts = [server.address(), nameserver.address()];
    let hosts = hosts.iter().flat_map(|it| [it.ip().to_string(), it.port().to_string()]);
    let ended = run(program(PYTHON).arg(DNS_QUERY).args(hosts).arg("www.example"));
    assert_eq!(ended.expect_success().text(), "192.0.2.7\n192.0.2.8\n");
    baseline.assert_restored();
    let counters = server.counters();
    assert_eq!([counters["datagrams_up"], counters["datagrams_down"]], [1, 1], "{counters:?}");
    let heard = nameserver.heard();
    assert!(heard.len() == 1 && !heard[0].over_tcp, "{heard:?}");
}

#[test]
#[ignore = "needs python3-socks: tests/run"]
fn pysocks_hears_that_no_datagrams_are_relayed() {
    let echo = Echo::start();
    let server = Server::start_with_env(&[], &[("RINGSOCKS_LISTEN_COMMANDS", "connect,bind")]);
    let baseline = server.baseline();
    let echoes = [("127.0.0.1", &echo)];
    let ended = send_datagrams(&server, &["remote", ""], Load::FEW, &echoes).expect_code(RAISED);
    let error = "SOCKS5Error: 0x07: Command not supported";
    assert!(ended.stderr.starts_with(error), "not {error:?} but {:?}", ended.stderr);
    baseline.assert_restored();
    assert_eq!(echo.heard(), 0);
}

fn expect_datagrams(server: &Server, session: &[&str; 2], load: Load, echoes: &[(&str, &Echo)]) {
    let baseline = server.baseline();
    let ended = send_datagrams(server, session, load, echoes);
    baseline.assert_restored();
    load.assert_echoed(ended, echoes, server);
}

fn send_datagrams(
    server: &Server,
    session: &[&str; 2],
    load: Load,
    echoes: &[(&str, &Echo)],
) -> Ended {
    let mut command = program(PYTHON);
    command.args([DATAGRAMS, &server.address().to_string()]).args(session).args(load.args());
    run(command.args(echoes.iter().map(|(name, echo)| format!("{name}:{}", echo.port()))))
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
