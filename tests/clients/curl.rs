//! curl: every SOCKS version it speaks, names resolved on either side, logins, long transfers.

use std::fs::File;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::process::Command;

use crate::http::{self, HttpOrigin};
use crate::program::{program, run, run_reading};
use crate::support::server::Server;
use crate::{ClosedPort, LOGIN, has_ipv6};

/// A name that no resolver knows (RFC 6761), so only curl itself can have resolved it.
const LOCAL_NAME: &str = "origin.invalid";

/// 100 MB.
const LONG: u64 = 100_000_000;

/// CURLE_PROXY: the handshake with the proxy failed.
const CURLE_PROXY: i32 = 97;

#[test]
#[ignore = "needs curl: tests/run"]
fn curl_socks4_resolves_itself() {
    fetch_resolved_by_curl("socks4", &[], None);
}

#[test]
#[ignore = "needs curl: tests/run"]
fn curl_socks4a_leaves_the_name_to_us() {
    fetch_resolved_by_server("socks4a", &[], None);
}

#[test]
#[ignore = "needs curl: tests/run"]
fn curl_socks5_resolves_itself() {
    fetch_resolved_by_curl("socks5", &[], None);
}

#[test]
#[ignore = "needs curl: tests/run"]
fn curl_socks5h_leaves_the_name_to_us() {
    fetch_resolved_by_server("socks5h", &[], None);
}

#[test]
#[ignore = "needs curl: tests/run"]
fn curl_socks5_with_a_password() {
    fetch_resolved_by_curl("socks5", &["-u", LOGIN], Some(LOGIN));
}

#[test]
#[ignore = "needs curl: tests/run"]
fn curl_socks5h_with_a_password() {
    fetch_resolved_by_server("socks5h", &["-u", LOGIN], Some(LOGIN));
}

#[test]
#[ignore = "needs curl: tests/run"]
fn curl_offers_a_password_that_nobody_asks_for() {
    fetch_resolved_by_server("socks5h", &[], Some(LOGIN));
}

#[test]
#[ignore = "needs curl: tests/run"]
fn curl_socks5h_to_an_ipv6_address() {
    if !has_ipv6() {
        return;
    }
    let origin = HttpOrigin::start_on(Ipv6Addr::LOCALHOST.into());
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let ended = run(curl("socks5h", server.address(), None).arg(origin.url("9"))).expect_success();
    assert_eq!(ended.stdout, http::body(9).bytes());
    baseline.assert_restored();
}

#[test]
#[ignore = "needs curl: tests/run"]
fn curl_with_a_wrong_password_fails_at_the_proxy() {
    expect_login_refused("socks5h", Some("alice:canary-glass"));
}

#[test]
#[ignore = "needs curl: tests/run"]
fn curl_with_an_unknown_user_fails_at_the_proxy() {
    expect_login_refused("socks5h", Some("bob:canary-land"));
}

#[test]
#[ignore = "needs curl: tests/run"]
fn curl_without_the_password_asked_for_fails_at_the_proxy() {
    expect_login_refused("socks5h", None);
}

#[test]
#[ignore = "needs curl: tests/run"]
fn curl_socks4_where_users_are_required_fails_at_the_proxy() {
    expect_login_refused("socks4", None);
    expect_login_refused("socks4a", Some("alice:"));
}

#[test]
#[ignore = "needs curl: tests/run"]
fn curl_hears_that_the_target_refused() {
    let closed = ClosedPort::reserve();
    let server = Server::start(&[]);
    let baseline = server.baseline();
    for scheme in ["socks4", "socks4a", "socks5", "socks5h"] {
        let url = format!("http://127.0.0.1:{}/1", closed.port());
        run(curl(scheme, server.address(), None).arg(url)).expect_code(CURLE_PROXY);
    }
    baseline.assert_restored();
}

#[test]
#[ignore = "needs curl: tests/run"]
fn curl_downloads_100_mb_unchanged() {
    let origin = HttpOrigin::start();
    let server = Server::start(&["-u", LOGIN]);
    let baseline = server.baseline();
    let mut command = curl("socks5h", server.address(), Some(LOGIN));
    let (ended, compared) =
        run_reading(command.arg(origin.url(&LONG.to_string())), Vec::new(), |stdout| {
            http::body(LONG).compare(stdout)
        });
    ended.expect_success();
    assert_eq!(compared, Ok(()), "what curl downloaded");
    baseline.assert_restored();
}

#[test]
#[ignore = "needs curl: tests/run"]
fn curl_uploads_100_mb_unchanged() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("upload");
    let mut file = File::create(&path).expect("a file of our own");
    io::copy(&mut http::body(LONG), &mut file).expect("room for 100 MB in the temporary folder");

    let origin = HttpOrigin::start();
    let server = Server::start(&["-u", LOGIN]);
    let baseline = server.baseline();
    let mut command = curl("socks5h", server.address(), Some(LOGIN));
    let ended = run(command.arg("-T").arg(&path).arg(origin.url("upload")));
    assert_eq!(ended.expect_success().text(), http::receipt(LONG));
    baseline.assert_restored();
}

#[test]
#[ignore = "needs curl: tests/run"]
fn curl_fetches_fifty_urls_at_once() {
    const URLS: usize = 50;
    let origin = HttpOrigin::start();
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let mut command = curl("socks5h", server.address(), None);
    command.args(["--parallel", "--parallel-immediate", "--parallel-max", "50"]);
    command.args((0..URLS).map(|_| origin.url_at("localhost", "4096")));
    let ended = run(&mut command).expect_success();
    assert_eq!(ended.stdout.len(), URLS * 4096);
    assert_eq!(origin.connections(), URLS);
    baseline.assert_restored();
}

/// Fetches by a name that only curl can resolve.
fn fetch_resolved_by_curl(scheme: &str, server_args: &[&str], login: Option<&str>) {
    let resolve = |port| format!("{LOCAL_NAME}:{port}:127.0.0.1");
    fetch(scheme, server_args, login, LOCAL_NAME, resolve);
}

/// Fetches by a name that curl would resolve to an address where nothing is (RFC 5737).
fn fetch_resolved_by_server(scheme: &str, server_args: &[&str], login: Option<&str>) {
    fetch(scheme, server_args, login, "localhost", |port| format!("localhost:{port}:192.0.2.1"));
}

fn fetch(
    scheme: &str,
    server_args: &[&str],
    login: Option<&str>,
    host: &str,
    resolve: impl Fn(u16) -> String,
) {
    let origin = HttpOrigin::start();
    let server = Server::start(server_args);
    let baseline = server.baseline();
    let mut command = curl(scheme, server.address(), login);
    command.args(["--resolve", &resolve(origin.port())]);
    let ended = run(command.arg(origin.url_at(host, "100000"))).expect_success();
    assert_eq!(http::body(100_000).compare(&ended.stdout[..]), Ok(()), "what curl downloaded");
    assert_eq!(origin.connections(), 1);
    baseline.assert_restored();
}

fn expect_login_refused(scheme: &str, login: Option<&str>) {
    let origin = HttpOrigin::start();
    let server = Server::start(&["-u", LOGIN]);
    let baseline = server.baseline();
    let ended = run(curl(scheme, server.address(), login).arg(origin.url("1")));
    let ended = ended.expect_code(CURLE_PROXY);
    assert_eq!(ended.text(), "", "nothing of the origin's");
    baseline.assert_restored();
    assert_eq!(origin.connections(), 0, "connections at the origin");
}

/// curl through our server, without anybody's curlrc.
fn curl(scheme: &str, proxy: SocketAddr, login: Option<&str>) -> Command {
    let mut command = program("curl");
    command.args(["-q", "--silent", "--show-error", "--fail-with-body", "--globoff"]);
    command.args(["--noproxy", "", "--proxy", &format!("{scheme}://{proxy}")]);
    if let Some(login) = login {
        command.args(["--proxy-user", login]);
    }
    command
}
