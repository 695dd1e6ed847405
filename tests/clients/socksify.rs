//! Dante's `socksify`: a program that knows nothing of SOCKS, with its calls on sockets replaced,
//! those for datagrams and for connections that it awaits too.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use tempfile::TempDir;

use crate::LOGIN;
use crate::datagrams::{Echo, Load, drops};
use crate::ftp::{self, FtpServer};
use crate::office::{GATEWAY, Office, WORLD, WORLD_TOO};
use crate::program::{path_of, program, run, run_with_input};
use crate::pysocks::{DATAGRAMS, PYTHON};
use crate::stream::Stream;
use crate::support::dns::Nameserver;
use crate::support::netns::Netns;
use crate::support::server::Server;

/// More than the buffers of one session hold.
const LONG: u64 = 8_000_000;

#[test]
#[ignore = "needs socksify and root: tests/run"]
fn socksify_takes_datagrams_through() {
    expect_datagrams(Load::FEW, &[], "socks_v5", "none");
}

#[test]
#[ignore = "needs socksify and root: tests/run"]
fn socksify_takes_datagrams_through_with_a_password() {
    expect_datagrams(Load::FEW, &["-u", LOGIN], "socks_v5", "username");
}

#[test]
#[ignore = "needs socksify and root: tests/run"]
fn socksify_takes_as_many_datagrams_through_as_those_of_quic() {
    expect_datagrams(Load::QUIC, &[], "socks_v5", "none");
}

#[test]
#[ignore = "needs socksify, nc and root: tests/run"]
fn socksify_takes_ncs_datagrams_through() {
    let office = Office::new();
    let server = office.serve(&[], &[]);
    expect_nc_echo(&office, &server, &WORLD.to_string());
}

#[test]
#[ignore = "needs socksify, nc and root: tests/run"]
fn socksify_takes_ncs_datagrams_through_to_a_name() {
    let office = Office::new();
    let nameserver = office.gateway.enter(Nameserver::start);
    nameserver.addresses("echo.example", &[&WORLD.to_string()]);
    let resolver = nameserver.address().to_string();
    let server = office.serve(&[], &[("RINGSOCKS_RESOLVER", &resolver)]);
    expect_nc_echo(&office, &server, "echo.example");
    assert_eq!(nameserver.counts_for("echo.example")[0], 1);
}

#[test]
#[ignore = "needs socksify, curl, vsftpd and root: tests/run"]
fn socksify_takes_active_ftp_of_curl_through() {
    expect_ftp("socks_v5", &[]);
}

/// With PORT where others say EPRT.
#[test]
#[ignore = "needs socksify, curl, vsftpd and root: tests/run"]
fn socksify_takes_active_ftp_of_curl_through_as_it_was() {
    expect_ftp("socks_v5", &["--disable-eprt"]);
}

#[test]
#[ignore = "needs socksify, curl, vsftpd and root: tests/run"]
fn socksify_takes_active_ftp_of_curl_through_socks4() {
    expect_ftp("socks_v4", &[]);
}

#[test]
#[ignore = "needs socksify, tnftp, vsftpd and root: tests/run"]
fn socksify_takes_active_ftp_of_tnftp_through() {
    let office = Office::new();
    let server = office.serve(&[], &[]);
    let ftp = FtpServer::start(&office.world, WORLD);
    expect_ftp_of_tnftp(&office, &server, &ftp);
}

/// The server refuses to connect to anybody but its client, which it knows by the router's address.
/// curl would not do: it announces the address that its connection has, whatever it has bound.
#[test]
#[ignore = "needs socksify, tnftp, vsftpd and root: tests/run"]
fn socksify_takes_active_ftp_through_a_gateway_behind_a_router() {
    const ROUTER: &str = "198.51.100.1";
    const BEYOND: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2));
    let (office, beyond) = (Office::new(), Netns::new());
    let router = &office.world;
    router.link(&beyond, "beyond");
    router.add_address(&format!("{ROUTER}/24"), "beyond");
    beyond.add_address(&format!("{BEYOND}/24"), "beyond");
    office.gateway.run(&format!("ip route add default via {WORLD}"));
    router.run(&format!(
        "echo 1 >/proc/sys/net/ipv4/ip_forward
         nft add table ip nat
         nft 'add chain ip nat pre {{ type nat hook prerouting priority dstnat; }}'
         nft 'add chain ip nat post {{ type nat hook postrouting priority srcnat; }}'
         nft add rule ip nat pre iifname beyond tcp dport 41000-41009 dnat to {GATEWAY}
         nft add rule ip nat post oifname beyond masquerade"
    ));
    let env = [
        ("RINGSOCKS_LISTEN_TARGETS", "198.51.100.0/24"),
        ("RINGSOCKS_BIND_PORTS", "41000-41009"),
        ("RINGSOCKS_BIND_ADVERTISE", ROUTER),
    ];
    let server = office.serve(&[], &env);
    let ftp = FtpServer::start(&beyond, BEYOND);
    expect_ftp_of_tnftp(&office, &server, &ftp);
}

fn expect_datagrams(load: Load, server_args: &[&str], version: &str, method: &str) {
    let office = Office::new();
    let server = office.serve(server_args, &[]);
    let baseline = server.baseline();
    let echoes = [WORLD, WORLD_TOO].map(|ip| office.world.enter(|| Echo::start_on(ip)));
    let names = [WORLD, WORLD_TOO].map(|ip| ip.to_string());
    let echoes: Vec<(&str, &Echo)> = names.iter().map(String::as_str).zip(&echoes).collect();
    let socksify = Socksify::new(server.address(), version, method);
    let mut python = socksify.command(PYTHON);
    python.args([DATAGRAMS, "none", "", ""]).args(load.args());
    python.args(echoes.iter().map(|(name, echo)| format!("{name}:{}", echo.port())));
    let ended = office.client.enter(|| run(&mut python));
    baseline.assert_restored();
    load.assert_echoed(ended, &echoes, &server);
}

fn expect_nc_echo(office: &Office, server: &Server, host: &str) {
    let baseline = server.baseline();
    let echo = office.world.enter(|| Echo::start_on(WORLD));
    let socksify = Socksify::new(server.address(), "socks_v5", "none");
    let mut nc = socksify.command("nc");
    // It ends when it has its answer.
    nc.args(["-u", "-W", "1", "-w", "60", host, &echo.port().to_string()]);
    let ended = office.client.enter(|| run_with_input(&mut nc, b"hello".to_vec()));
    assert_eq!(ended.expect_success().text(), "hello");
    baseline.assert_restored();
    let counters = server.counters();
    assert_eq!([counters["datagrams_up"], counters["datagrams_down"]], [1, 1], "{counters:?}");
    assert_eq!(drops(&counters), 0, "{counters:?}");
}

fn expect_ftp_of_tnftp(office: &Office, server: &Server, ftp: &FtpServer) {
    let baseline = server.baseline();
    ftp.put("file.bin", &Stream::new(23, LONG).bytes());
    let socksify = Socksify::new(server.address(), "socks_v5", "none");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = "user anonymous nobody\nls\nget file.bin\nput file.bin copy.bin\nbye\n";
    let mut tnftp = socksify.command("tnftp");
    tnftp.args(["-A", "-n", "-v", &ftp.ip().to_string()]).current_dir(&folder);
    let ended = office.client.enter(|| run_with_input(&mut tnftp, script.into()));

    let said = ended.expect_success().text();
    assert!(said.lines().any(|line| line.ends_with(" file.bin")), "no listing in {said}");
    let fetched = fs::read(folder.path().join("file.bin")).expect("what it was told to fetch");
    assert_eq!(Stream::new(23, LONG).compare(&fetched[..]), Ok(()), "what tnftp downloaded");
    assert_eq!(Stream::new(23, LONG).compare(&ftp.get("copy.bin")[..]), Ok(()), "its upload");
    baseline.assert_restored();
    // What is said, and a session for each of three that are carried.
    expect_sessions(server, 4, LONG, LONG);
}

fn expect_ftp(version: &str, curl_args: &[&str]) {
    let office = Office::new();
    let server = office.serve(&[], &[]);
    let ftp = FtpServer::start(&office.world, WORLD);
    expect_ftp_of_curl(&office, &server, &ftp, version, curl_args);
}

fn expect_ftp_of_curl(
    office: &Office,
    server: &Server,
    ftp: &FtpServer,
    version: &str,
    curl_args: &[&str],
) {
    let baseline = server.baseline();
    ftp.put("file.bin", &Stream::new(21, LONG).bytes());
    let socksify = Socksify::new(server.address(), version, "none");
    let mut download = ftp::active(socksify.command("curl"), curl_args);
    download.arg(ftp.url("file.bin"));
    let ended = office.client.enter(|| run(&mut download)).expect_success();
    assert_eq!(Stream::new(21, LONG).compare(&ended.stdout[..]), Ok(()), "what curl downloaded");
    baseline.assert_restored();
    // What is said and what is carried are a session each.
    expect_sessions(server, 2, 0, LONG);

    let mut upload = ftp::active(socksify.command("curl"), curl_args);
    upload.args(["-T", "-", &ftp.url("copy.bin")]);
    let input = Stream::new(22, LONG).bytes();
    office.client.enter(|| run_with_input(&mut upload, input)).expect_success();
    assert_eq!(Stream::new(22, LONG).compare(&ftp.get("copy.bin")[..]), Ok(()), "its upload");
    baseline.assert_restored();
    expect_sessions(server, 4, LONG, LONG);
}

/// So many sessions have come to their end, and these bytes at least were carried.
#[track_caller]
fn expect_sessions(server: &Server, sessions: u64, up: u64, down: u64) {
    let counters = server.counters();
    assert_eq!(counters["finished"], sessions, "{counters:?}");
    assert!(counters["bytes_up"] >= up && counters["bytes_down"] >= down, "{counters:?}");
}

/// A configuration with one proxy for everything.
pub(crate) struct Socksify {
    folder: TempDir,
}

impl Socksify {
    pub(crate) fn new(proxy: SocketAddr, version: &str, method: &str) -> Socksify {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (ip, port) = (proxy.ip(), proxy.port());
        // Names are left to the proxy.
        let text = format!(
            "resolveprotocol: fake
             route {{
                 from: 0.0.0.0/0 to: 0.0.0.0/0 via: {ip} port = {port}
                 proxyprotocol: {version}
                 method: {method}
             }}"
        );
        fs::write(folder.path().join("socks.conf"), text).expect("a file of our own");
        Socksify { folder }
    }

    pub(crate) fn command(&self, client: &str) -> Command {
        let mut command = program("socksify");
        let (user, password) = LOGIN.split_once(':').expect("a name and a password");
        command.env("SOCKS_CONF", self.folder.path().join("socks.conf"));
        command.env("SOCKS_USERNAME", user).env("SOCKS_PASSWORD", password);
        // Nobody is on the client's own network, as far as it can tell.
        command.env("SOCKS_AUTOADD_LANROUTES", "no");
        command.arg(path_of(client));
        command
    }
}
