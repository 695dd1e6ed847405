//! nmap, whose `--proxies` speaks SOCKS4: version detection and scripts go through it, while the
//! scan for open ports itself goes past it (nmap's manual, "--proxies").

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::program::{program, run};
use crate::support::origin::Service;
use crate::support::server::Server;

const BANNER: &str = "SSH-2.0-OpenSSH_9.2\r\n";

#[test]
#[ignore = "needs nmap: tests/run"]
fn nmap_detects_a_version_through_socks4() {
    expect_found(&["-sV"], "OpenSSH 9.2");
}

#[test]
#[ignore = "needs nmap: tests/run"]
fn nmap_runs_a_script_through_socks4() {
    expect_found(&["--script", "banner"], "banner: SSH-2.0-OpenSSH_9.2");
}

fn expect_found(scan: &[&str], found: &str) {
    let service = Service::serving(|mut stream| {
        // What comes in one piece with the reply to its request nmap throws away.
        thread::sleep(Duration::from_millis(300));
        if stream.write_all(BANNER.as_bytes()).is_ok() {
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let mut command = nmap(server.address(), service.address());
    let ended = run(command.args(scan)).expect_success();
    let port = service.address().port();
    assert!(ended.text().contains(&format!("{port}/tcp open")), "{}", ended.text());
    assert!(ended.text().contains(found), "not {found:?} in: {}", ended.text());
    baseline.assert_restored();
    // The scan for open ports listens to nobody: what was found was heard through us.
    let counters = server.counters();
    assert!(counters["accepted"] > 0, "{counters:?}");
    assert!(counters["bytes_down"] >= BANNER.len() as u64, "{counters:?}");
}

/// A scan of one port of 127.0.0.1, without ping and without asking for names.
fn nmap(proxy: SocketAddr, target: SocketAddr) -> Command {
    let mut command = program("nmap");
    command.args(["-sT", "-Pn", "-n", "--proxies", &format!("socks4://{proxy}")]);
    command.args(["-p", &target.port().to_string(), &target.ip().to_string()]);
    command
}
