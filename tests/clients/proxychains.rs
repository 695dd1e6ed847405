//! proxychains4: a program that knows nothing of SOCKS, with its `connect` replaced.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;

use crate::http::{self, HttpOrigin};
use crate::program::{path_of, program, run, run_with_input};
use crate::support::origin::Service;
use crate::support::server::Server;
use crate::{ClosedPort, LOGIN};

const LOGIN_WORDS: &str = "alice canary-land";

/// CURLE_COULDNT_CONNECT: all that a program under proxychains can know.
const CURLE_COULDNT_CONNECT: i32 = 7;

#[test]
#[ignore = "needs proxychains4 and curl: tests/run"]
fn proxychains_takes_curl_through_socks5() {
    expect_fetch("socks5", "", &[]);
}

#[test]
#[ignore = "needs proxychains4 and curl: tests/run"]
fn proxychains_takes_curl_through_socks4() {
    expect_fetch("socks4", "", &[]);
}

#[test]
#[ignore = "needs proxychains4 and curl: tests/run"]
fn proxychains_takes_curl_through_with_a_password() {
    expect_fetch("socks5", LOGIN_WORDS, &["-u", LOGIN]);
}

#[test]
#[ignore = "needs proxychains4 and curl: tests/run"]
fn proxychains_with_a_wrong_password_fails() {
    let origin = HttpOrigin::start();
    let server = Server::start(&["-u", LOGIN]);
    let baseline = server.baseline();
    let chain = Chain::new("socks5", server.address(), "alice canary-glass");
    run(chain.curl().arg(origin.url("1"))).expect_code(CURLE_COULDNT_CONNECT);
    baseline.assert_restored();
    assert_eq!(origin.connections(), 0, "connections at the origin");
}

#[test]
#[ignore = "needs proxychains4 and curl: tests/run"]
fn proxychains_hears_that_the_target_refused() {
    let closed = ClosedPort::reserve();
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let chain = Chain::new("socks5", server.address(), "");
    let url = format!("http://127.0.0.1:{}/1", closed.port());
    let ended = run(chain.curl().arg(url)).expect_code(CURLE_COULDNT_CONNECT);
    // How proxychains marks a chain that it could not complete.
    assert!(ended.stderr.contains("<--"), "proxychains said {:?}", ended.stderr);
    baseline.assert_restored();
}

#[test]
#[ignore = "needs proxychains4 and nc: tests/run"]
fn proxychains_leaves_a_name_to_us() {
    // In capitals: proxychains reads the hosts file itself, by the letter.
    const NAME: &str = "LOCALHOST";
    let service = Service::echo();
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let chain = Chain::new("socks5", server.address(), "");
    let port = service.address().port().to_string();
    let mut command = chain.command();
    let command = command.arg(path_of("nc")).args(["-N", NAME, &port]);
    let ended = run_with_input(command, b"hello".to_vec()).expect_success();
    assert_eq!(ended.text(), "hello");
    assert!(ended.stderr.contains(NAME), "proxychains sent no name: {}", ended.stderr);
    baseline.assert_restored();
}

fn expect_fetch(kind: &str, login: &str, server_args: &[&str]) {
    let origin = HttpOrigin::start();
    let server = Server::start(server_args);
    let baseline = server.baseline();
    let before = server.counters()["accepted"];
    let chain = Chain::new(kind, server.address(), login);
    let ended = run(chain.curl().arg(origin.url("1000000"))).expect_success();
    assert_eq!(http::body(1_000_000).compare(&ended.stdout[..]), Ok(()), "what curl downloaded");
    assert_eq!(server.counters()["accepted"], before + 1, "it went through the server");
    baseline.assert_restored();
}

/// A configuration with one proxy and no `localnet`, which would go past it.
struct Chain {
    folder: TempDir,
}

impl Chain {
    fn new(kind: &str, proxy: SocketAddr, login: &str) -> Chain {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (ip, port) = (proxy.ip(), proxy.port());
        let text = format!("strict_chain\nproxy_dns\n[ProxyList]\n{kind} {ip} {port} {login}\n");
        fs::write(folder.path().join("proxychains.conf"), text).expect("a file of our own");
        Chain { folder }
    }

    fn command(&self) -> Command {
        let mut command = program("proxychains4");
        command.arg("-f").arg(self.folder.path().join("proxychains.conf"));
        command
    }

    fn curl(&self) -> Command {
        let mut command = self.command();
        command.arg(path_of("curl"));
        command.args(["-q", "--silent", "--show-error", "--fail-with-body", "--noproxy", "*"]);
        command
    }
}
