//! libtorrent, the engine of qBittorrent: it sends what would be TCP by datagrams.

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Child, Stdio};

use crate::datagrams::drops;
use crate::office::{Office, WORLD};
use crate::program::{program, run};
use crate::pysocks::PYTHON;
use crate::support::netns::Netns;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/torrent.py");

/// 8 MB, thousands of datagrams.
const LEN: u64 = 8_000_000;

/// More than a datagram carries on a cable.
const DATAGRAM_MAX: u64 = 1500;

#[test]
#[ignore = "needs python3-libtorrent and root: tests/run"]
fn libtorrent_fetches_by_datagrams() {
    let office = Office::new();
    let server = office.serve(&[], &[]);
    let baseline = server.baseline();
    let seed = Seed::start(&office.world, WORLD);
    let mut fetch = program(PYTHON);
    let (proxy_ip, proxy_port) = (server.address().ip(), server.address().port());
    fetch.args([SCRIPT, "fetch", &proxy_ip.to_string(), &proxy_port.to_string()]);
    fetch.args([seed.ip.to_string(), seed.port.to_string(), LEN.to_string()]);
    office.client.enter(|| run(&mut fetch)).expect_success();
    baseline.assert_restored();
    let counters = server.counters();
    assert!(counters["bytes_down"] >= LEN, "{counters:?}");
    assert!(counters["datagrams_down"] >= LEN / DATAGRAM_MAX, "{counters:?}");
    assert_eq!(drops(&counters), 0, "{counters:?}");
}

/// Who has it all, gone when dropped.
struct Seed {
    child: Child,
    ip: IpAddr,
    port: u16,
}

impl Seed {
    #[track_caller]
    fn start(network: &Netns, ip: IpAddr) -> Seed {
        let mut command = program(PYTHON);
        command.args([SCRIPT, "seed", &ip.to_string(), &LEN.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = network.enter(|| command.spawn()).expect("an installed program starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a pipe can be read");
        let port = line.trim_end().parse().expect("the port that it listens on");
        Seed { child, ip, port }
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        // The end of its stdin, which it waits for.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
