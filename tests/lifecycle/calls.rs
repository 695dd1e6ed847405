//! How many system calls sessions cost, and which never: `strace` counts those of the reactors.

use std::fs;
use std::net::SocketAddr;
use std::thread;

use rustix::process::{Resource, getrlimit};

use crate::support::origin::{Origin, Service};
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::{greeting, open_session};
use crate::support::strace::count_calls;
use crate::support::{finish, raise_descriptor_limit, random_bytes, wait_until};

/// Besides `epoll_wait`, of which there are the fewer the more goes on at a time.
const CALLS_PER_SESSION: u64 = 24;
/// Fewer cannot do it, but a whole session takes them all: whoever sees fewer has missed some.
const CALLS_AT_LEAST: u64 = 19;
const SESSIONS: u64 = 200;

#[test]
#[ignore = "needs root: tests/run"]
fn a_whole_session_takes_few_calls() {
    let server = Server::start(&["--workers", "1", "--access-log", "off"]);
    let baseline = server.quiet_baseline();
    let origin = Origin::start();
    let calls = count_calls(&server, 1, || {
        for _ in 0..SESSIONS {
            let client = open_session(server.address(), origin.address());
            let target = origin.accept();
            client.send(b"x");
            target.expect(b"x");
            target.send(b"y");
            client.expect(b"y");
            finish(client, &target);
        }
        wait_until("everything is closed", || server.fds() == baseline.fds());
    });
    let waits = ["epoll_wait", "epoll_pwait"];
    let all: u64 =
        calls.iter().filter(|(name, _)| !waits.contains(&name.as_str())).map(|it| it.1).sum();
    let (least, most) = (SESSIONS * CALLS_AT_LEAST, SESSIONS * CALLS_PER_SESSION);
    assert!((least..=most).contains(&all), "{all} calls for {SESSIONS} sessions: {calls:?}");
    assert_eq!(server.counters()["finished"], SESSIONS);
}

#[test]
#[ignore = "needs root and two CPUs: tests/run"]
fn two_reactors_never_wait_for_each_other() {
    const WORKERS: usize = 2;
    let server = Server::start(&["--workers", "2", "--access-log", "off"]);
    let before = sockets(&server);
    let echo = Service::echo();
    let calls = count_calls(&server, WORKERS, || {
        thread::scope(|scope| {
            for seed in 0..8 {
                let (proxy, target) = (server.address(), echo.address());
                scope.spawn(move || (0..20).for_each(|_| send_a_mebibyte(seed, proxy, target)));
            }
        });
        wait_until("every session is closed", || sockets(&server) == before);
    });
    assert!(calls["recvfrom"] > 8 * 20 * 4, "{calls:?}");
    assert_eq!(calls.get("futex"), None, "{calls:?}");
    assert_eq!(server.counters()["finished"], 8 * 20);
}

/// Open sockets: empty pipes stay for whoever needs one next.
fn sockets(server: &Server) -> usize {
    let open = fs::read_dir(server.proc("fd")).expect("the server runs");
    let targets = open.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

fn send_a_mebibyte(seed: u64, proxy: SocketAddr, target: SocketAddr) {
    let client = open_session(proxy, target);
    let bytes = random_bytes(seed, 1 << 20);
    assert!(client.exchange(&bytes).bytes == bytes, "the echo of seed {seed} is another");
}

#[test]
#[ignore = "needs two CPUs: tests/run"]
fn many_sessions_spread_evenly_over_two_reactors() {
    raise_descriptor_limit();
    let descriptors = getrlimit(Resource::Nofile).current.expect("a limit") as usize;
    // The server keeps two for each, though these have no target yet.
    let sessions = (descriptors / 2 - 1000).min(10_000);
    assert!(sessions >= 2000, "{descriptors} files are not enough to judge by");
    let env =
        [("RINGSOCKS_TIMEOUT_HANDSHAKE", "0"), ("RINGSOCKS_LIMIT_HANDSHAKES_PER_CLIENT", "0")];
    let server = Server::start_with_env(&["--workers", "2"], &env);
    let clients: Vec<Peer> = (0..sessions)
        .map(|_| {
            let client = Peer::connect(server.address());
            client.send(&greeting(&[0]));
            client
        })
        .collect();
    server.wait_counter("open", sessions as u64);
    let loads = loads(&server);
    assert_eq!((loads.len(), loads.iter().sum()), (2, sessions as u64));
    let half = sessions as u64 / 2;
    assert!(loads.iter().all(|load| load.abs_diff(half) <= half / 10), "{loads:?}");
    drop(clients);
}

/// How many sessions each reactor has.
fn loads(server: &Server) -> Vec<u64> {
    server.counters();
    let said = server.stderr();
    let line = said.iter().rfind(|line| line.contains(" load=")).expect("its counters");
    let (_, loads) = line.rsplit_once(" load=").expect("the load is there");
    loads.split(',').map(|load| load.parse().expect("a number")).collect()
}
