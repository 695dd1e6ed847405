//! Chromium: a browser's many connections at a time, names resolved on either side.

use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;

use crate::program::{program, run};
use crate::site::{self, Site};
use crate::support::server::Server;

/// What keeps a browser from calling home: all that it does through us is to load our page.
const QUIET: [&str; 12] = [
    "--no-first-run",
    "--disable-background-networking",
    "--disable-client-side-phishing-detection",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-features=OptimizationHints,MediaRouter,Translate,NetworkTimeServiceQuerying",
    "--disable-quic",
    "--disable-sync",
    "--gaia-url=http://127.0.0.1:1",
    "--component-updater=url-source=http://127.0.0.1:1",
];

#[test]
#[ignore = "needs chromium: tests/run"]
fn chromium_loads_a_page_of_60_files_through_socks5() {
    expect_page("socks5", "localhost");
}

#[test]
#[ignore = "needs chromium: tests/run"]
fn chromium_loads_a_page_of_60_files_through_socks4() {
    expect_page("socks4", "127.0.0.1");
}

fn expect_page(scheme: &str, host: &str) {
    let site = Site::start();
    // Nobody's name resolves but that of this host: should it call home still, nobody answers.
    let server = Server::start_with_env(&[], &[("RINGSOCKS_RESOLVER", "127.0.0.1:1")]);
    let baseline = server.baseline();
    let home = tempfile::tempdir().expect("a temporary folder");
    let mut command = chromium(&home, scheme, server.address());
    let ended = run(command.arg(site.url_at(host))).expect_success();
    assert!(ended.text().contains(&site::verdict()), "it loaded:\n{}", ended.text());

    let visits = site.visits();
    let (mut asked, mut expected) = (visits.paths, site::paths());
    asked.sort();
    expected.sort();
    assert_eq!(asked, expected);

    baseline.assert_restored();
    let counters = server.counters();
    assert_eq!(counters["bytes_down"], visits.bytes, "all of it, through us alone: {counters:?}");
}

/// A browser without a window that writes what became of a page, with a home of its own.
fn chromium(home: &TempDir, scheme: &str, proxy: SocketAddr) -> Command {
    let mut command = program("chromium");
    command.env("HOME", home.path());
    command.arg(format!("--user-data-dir={}", home.path().join("profile").display()));
    command.args(["--headless", "--disable-gpu", "--disable-dev-shm-usage"]);
    // It refuses to be root in a sandbox.
    command.arg("--no-sandbox");
    command.args(QUIET);
    // Without the second, what is on this host is asked for past the proxy.
    command.arg(format!("--proxy-server={scheme}://{proxy}"));
    command.arg("--proxy-bypass-list=<-loopback>");
    command.args(["--virtual-time-budget=60000", "--dump-dom"]);
    command
}
