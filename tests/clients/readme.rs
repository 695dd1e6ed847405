//! The README's configuration, as it is written: its port, its users, its clients.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use tempfile::NamedTempFile;

use crate::http::{self, HttpOrigin};
use crate::program::{Ended, program, run};
use crate::support::netns::Netns;
use crate::support::server::Server;

/// 3 MB.
const LEN: u64 = 3_000_000;

/// CURLE_PROXY: the handshake with the proxy failed.
const CURLE_PROXY: i32 = 97;

/// A host of the internet, as far as the gateway can tell.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(8, 0, 0, 2));

#[test]
#[ignore = "needs root: tests/run"]
fn its_configuration_serves_whom_it_says() {
    let (office, internet) = (Netns::new(), Netns::new());
    office.link(&internet, "cable");
    office.run(
        "ip address add 10.1.2.3/32 dev lo; ip address add 192.0.2.7/32 dev lo
         ip address add 8.0.0.1/24 dev cable",
    );
    internet.run(&format!("ip address add {ELSEWHERE}/24 dev cable"));
    let here = office.enter(HttpOrigin::start);
    let inside = office.enter(|| HttpOrigin::start_on(Ipv4Addr::new(10, 1, 2, 3).into()));
    let there = internet.enter(|| HttpOrigin::start_on(ELSEWHERE));

    let file = configuration();
    let path = file.path().to_str().expect("a name in ASCII");
    let server = office.enter(|| Server::start(&["-c", path]));
    assert_eq!(server.address().to_string(), "0.0.0.0:1080");
    let baseline = server.baseline();

    let fetch = |from: &str, login: &str, url: &str| {
        let proxy = format!("socks5h://{login}127.0.0.1:1080");
        office.enter(|| run(curl().args(["--interface", from, "--proxy", &proxy, url])))
    };
    let (here, there) = (here.url_at("localhost", &LEN.to_string()), there.url(&LEN.to_string()));
    expect_body(fetch("127.0.0.1", "", &there));
    expect_body(fetch("127.0.0.1", "alice:correct%20horse@", &there));
    expect_body(fetch("127.0.0.1", "alice:correct%20horse@", &inside.url(&LEN.to_string())));
    expect_body(fetch("10.1.2.3", "bob:battery%20staple@", &there));
    fetch("10.1.2.3", "bob:correct%20horse@", &there).expect_code(CURLE_PROXY);
    fetch("10.1.2.3", "", &there).expect_code(CURLE_PROXY);
    fetch("192.0.2.7", "alice:correct%20horse@", &there).expect_code(CURLE_PROXY);
    // Its list of targets says nothing of this host.
    fetch("10.1.2.3", "bob:battery%20staple@", &here).expect_code(CURLE_PROXY);
    fetch("127.0.0.1", "alice:correct%20horse@", &here).expect_code(CURLE_PROXY);

    baseline.assert_restored();
    let counters = server.counters();
    let ended = ["finished", "bad_login", "no_method", "clients_denied", "refused_02"]
        .map(|name| counters[name]);
    assert_eq!(ended, [4, 1, 1, 1, 2], "{counters:?}");
    assert!(counters["bytes_down"] >= 4 * LEN, "{counters:?}");
}

fn configuration() -> NamedTempFile {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = fs::read_to_string(path).expect("there is a README");
    let (_, rest) = readme.split_once("```toml\n").expect("there is a configuration");
    let (mut text, _) = rest.split_once("```").expect("it ends");
    if !has_two_cpus() {
        let (_, rest) = text.split_once("cpus = \"0-1\"").expect("it names two CPUs");
        text = rest;
    }
    let file = NamedTempFile::new().expect("a file of our own");
    fs::write(file.path(), text).expect("it can be written");
    file
}

/// Whether we may run on the CPUs 0 and 1.
fn has_two_cpus() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"));
    allowed.is_some_and(|list| list.starts_with("0-") || list.starts_with("0,1"))
}

#[track_caller]
fn expect_body(ended: Ended) {
    let ended = ended.expect_success();
    assert_eq!(http::body(LEN).compare(&ended.stdout[..]), Ok(()), "what curl downloaded");
}

/// curl without anybody's curlrc.
fn curl() -> Command {
    let mut command = program("curl");
    command.args(["-q", "--silent", "--show-error", "--fail-with-body", "--noproxy", ""]);
    command
}
