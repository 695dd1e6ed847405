//! What the host says of names: resolv.conf and the hosts file, and what becomes of changes.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::nameserver::{Nameserver, at_once};
use crate::support::PATIENCE;
use crate::support::origin::Origin;
use crate::support::server::{Server, binary};
use crate::{asking, rep, server_asking};

#[test]
fn the_hosts_file_needs_no_server() {
    let nameserver = Nameserver::start(|asked| panic!("{} was asked for", asked.name));
    let server = server_asking(&[&nameserver], &[]);
    let baseline = server.baseline();
    let origin = Origin::start_everywhere();
    for name in ["localhost", "LocalHost.", "some.localhost"] {
        let client = asking(&server, name, origin.port());
        assert!(client.expect_granted().ip().is_loopback());
        drop(origin.accept());
    }
    assert!(nameserver.asked().is_empty());
    baseline.assert_restored();
}

/// An /etc of the server's own: files there can be written to, replaced and deleted.
struct Etc(TempDir);

impl Etc {
    fn new() -> Etc {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let status = Command::new("cp").args(["-a", "/etc/."]).arg(folder.path()).status();
        assert!(status.expect("cp runs").success());
        let etc = Etc(folder);
        // It may be a link to a file that is outside.
        let _ = fs::remove_file(etc.path("resolv.conf"));
        etc
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("room for a line");
    }

    /// As editors and DHCP clients do it.
    fn replace(&self, name: &str, text: &str) {
        let new = self.path(&format!("{name}.new"));
        fs::write(&new, text).expect("room for a line");
        fs::rename(new, self.path(name)).expect("our own folder");
    }

    fn server(&self, env: &[(&str, &str)]) -> Server {
        let script = "mount --bind \"$0\" /etc && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(self.0.path());
        command.args([binary(), "--listen", "127.0.0.1:0"]).envs(env.iter().copied());
        Server::spawn(command)
    }
}

/// Waits until a name is what it should be: files are looked at every two seconds.
#[track_caller]
fn expect_soon(server: &Server, name: &str, port: u16, rep_expected: u8) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let heard = rep(server, name, port);
        if heard == rep_expected {
            return;
        }
        assert!(Instant::now() < deadline, "{name} is still answered {heard}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
#[ignore = "needs root: tests/run"]
fn what_changes_is_read_again() {
    let etc = Etc::new();
    etc.write("hosts", "127.0.0.1 localhost\n");
    etc.write("resolv.conf", "");
    let nameserver = Nameserver::start(|asked| match asked.is("scanner.example") {
        // A name server that knows better.
        true => vec![at_once(asked.addresses(&[Ipv4Addr::new(127, 66, 66, 66).into()], 0))],
        false => vec![at_once(asked.reply().rcode(3).bytes())],
    });
    let server = etc.server(&[("RINGSOCKS_RESOLVER", nameserver.text().as_str())]);
    let baseline = server.baseline();
    let origin = Origin::start();
    assert_eq!(rep(&server, "printer.example", origin.port()), 4);
    etc.write("hosts", "127.0.0.1 localhost printer.example\n");
    expect_soon(&server, "printer.example", origin.port(), 0);
    etc.replace("hosts", "127.0.0.1 localhost\n127.0.0.1 scanner.example # new\n");
    expect_soon(&server, "scanner.example", origin.port(), 0);
    expect_soon(&server, "printer.example", origin.port(), 4);
    let before = nameserver.count("scanner.example");
    assert_eq!(rep(&server, "scanner.example", origin.port()), 0);
    assert_eq!(nameserver.count("scanner.example"), before, "the file comes first");
    // It is gone, and garbage, and what it said is still true.
    fs::remove_file(etc.path("hosts")).unwrap();
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(rep(&server, "scanner.example", origin.port()), 0);
    etc.write("hosts", "\u{1}\u{2}garbage\n\n::zz nonsense\n127.0.0.1 copier.example\n");
    expect_soon(&server, "copier.example", origin.port(), 0);
    drop(origin);
    baseline.assert_restored();
}

#[test]
#[ignore = "needs root: tests/run"]
fn another_server_is_asked_once_resolv_conf_names_it() {
    let etc = Etc::new();
    let ip = |last: u8| IpAddr::V4(Ipv4Addr::new(127, 53, std::process::id() as u8, last));
    // resolv.conf knows no ports.
    let Some(first) = at_port_53(ip(1)) else { panic!("root has a port 53 there") };
    etc.write("hosts", "");
    etc.write("resolv.conf", &format!("# ours\nnonsense here\nnameserver {}\n", ip(1)));
    let server = etc.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "500ms")]);
    let baseline = server.baseline();
    let origin = Origin::start();
    assert_eq!(rep(&server, "one.example", origin.port()), 0);
    assert!(first.is_asked());
    let second = at_port_53(ip(2)).expect("root has a port 53 there");
    etc.replace("resolv.conf", &format!("nameserver {}\n", ip(2)));
    server.signal(Signal::HUP);
    server.wait_line("names: ");
    assert_eq!(rep(&server, "two.example", origin.port()), 0);
    assert!(second.is_asked());
    // Without a file the last good one counts.
    fs::remove_file(etc.path("resolv.conf")).unwrap();
    server.signal(Signal::HUP);
    server.counters();
    assert_eq!(rep(&server, "three.example", origin.port()), 0);
    drop(origin);
    baseline.assert_restored();
}

/// A server of names at the port that resolv.conf means: everything is 127.0.0.1.
struct WellKnown(std::sync::Arc<std::sync::atomic::AtomicUsize>);

impl WellKnown {
    fn is_asked(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Relaxed) > 0
    }
}

fn at_port_53(ip: IpAddr) -> Option<WellKnown> {
    let socket = std::net::UdpSocket::bind((ip, 53)).ok()?;
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&count);
    std::thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut bytes) {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let asked = crate::nameserver::Asked::read(&bytes[..len], from, false);
            let answer = asked.addresses(&[Ipv4Addr::LOCALHOST.into()], 60);
            let _ = socket.send_to(&answer, from);
        }
    });
    Some(WellKnown(count))
}
