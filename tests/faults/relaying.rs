//! Peers that stop, hurry, or trickle while bytes are relayed, and slots that are used again.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::origin::{ClosedPort, Origin, Service};
use crate::support::peer::{End, Peer};
use crate::support::server::Server;
use crate::support::socks::{connect_to, credentials, greeting, open_session};
use crate::support::{finish, random_bytes, session, wait_until};

const MIB: u64 = 1 << 20;

/// A process that is one end of a connection.
struct PeerProcess(Child);

impl PeerProcess {
    /// Reads and forgets.
    fn reader(peer: Peer) -> PeerProcess {
        let stdin = Stdio::from(OwnedFd::from(peer.into_stream()));
        let child = Command::new("cat").stdin(stdin).stdout(Stdio::null()).spawn();
        PeerProcess(child.expect("cat runs"))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("our own child");
    }
}

impl Drop for PeerProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends without end from a thread, and counts what the kernel takes.
fn flood(stream: TcpStream, taken: &AtomicU64) {
    let peer = Peer::from(stream);
    let chunk = [0x5a; 16 * 1024];
    while peer.try_send(&chunk).is_ok() {
        taken.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    }
}

#[test]
fn a_stopped_client_stops_its_target_and_costs_nothing() {
    assert_back_pressure(|client, target| (client, target));
}

#[test]
fn a_stopped_target_stops_its_client_and_costs_nothing() {
    assert_back_pressure(|client, target| (target, client));
}

/// The first of a session's ends is stopped, and the second sends as fast as it can.
#[track_caller]
fn assert_back_pressure(roles: impl Fn(Peer, Peer) -> (Peer, Peer)) {
    let server = Server::start(&["--workers", "1"]);
    let baseline = server.baseline();
    let before = server.rss_anon();
    let (client, target) = session(&server);
    let (reader, writer) = roles(client, target);
    let reader = PeerProcess::reader(reader);
    let taken = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| flood(writer.into_stream(), &taken));
        reader.signal(Signal::STOP);
        // The kernel may find room for more after a while, but not for ever.
        let (stuck, used) = loop {
            let stuck = wait_until_still(&taken);
            let cpu = server.cpu_time();
            thread::sleep(Duration::from_secs(1));
            let used = server.cpu_time() - cpu;
            if taken.load(Ordering::Relaxed) == stuck {
                break (stuck, used);
            }
            assert!(stuck < 64 * MIB, "nobody stops the writer");
        };
        assert!(used < Duration::from_millis(10), "{used:?} of a second for nothing");
        let grown = server.rss_anon().saturating_sub(before);
        assert!(grown < MIB, "{grown} bytes for a session that stands still");

        reader.signal(Signal::CONT);
        wait_until("it goes on", || taken.load(Ordering::Relaxed) > stuck + 16 * MIB);
        drop(reader);
    });
    baseline.assert_at_rest();
}

/// Waits until nobody takes another byte, and says how many were taken.
#[track_caller]
fn wait_until_still(taken: &AtomicU64) -> u64 {
    let mut last = (0, Instant::now());
    wait_until("the writer stands still", || {
        let now = taken.load(Ordering::Relaxed);
        if now != last.0 {
            last = (now, Instant::now());
        }
        now > 0 && last.1.elapsed() > Duration::from_millis(500)
    });
    last.0
}

#[test]
fn a_byte_at_a_time_in_both_directions_is_no_burden() {
    const ROUNDS: u32 = 3000;
    let server = Server::start(&["--workers", "1"]);
    let baseline = server.baseline();
    let (client, target) = session(&server);
    let before = server.cpu_time();
    for round in 0..ROUNDS {
        let byte = [round as u8];
        client.send(&byte);
        target.send(&byte);
        target.expect(&byte);
        client.expect(&byte);
    }
    // Some system calls for each byte, and no more: they take single microseconds.
    let each = (server.cpu_time() - before) / (2 * ROUNDS);
    assert!(each < Duration::from_micros(500), "{each:?} for a byte");
    finish(client, &target);
    baseline.assert_at_rest();
}

#[test]
fn a_session_at_full_speed_leaves_a_thousand_others_their_turn() {
    const OTHERS: usize = 1000;
    let server = Server::start(&["--workers", "1"]);
    let baseline = server.baseline();
    let (flood, taken) = Service::flood();
    let hot = open_session(server.address(), flood.address());
    let origin = Origin::start();
    let others: Vec<(Peer, Peer)> = (0..OTHERS)
        .map(|_| {
            let client = open_session(server.address(), origin.address());
            (client, origin.accept())
        })
        .collect();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut last = hot.read_at_most(65536);
            while !last.is_empty() && !over.load(Ordering::Relaxed) {
                last = hot.read_at_most(65536);
            }
        });
        for _ in 0..3 {
            let hot_before = taken.load(Ordering::Relaxed);
            for (client, _) in &others {
                client.send(b"ping");
            }
            for (client, target) in &others {
                target.expect(b"ping");
                target.send(b"pong");
                client.expect(b"pong");
            }
            assert!(taken.load(Ordering::Relaxed) > hot_before, "the hot one stands still");
        }
        over.store(true, Ordering::Relaxed);
    });
    drop((hot, others, flood));
    baseline.assert_at_rest();
}

#[test]
fn resets_by_the_thousand_leave_nothing() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let origin = Origin::start();
    for round in 0..2000 {
        let client = open_session(server.address(), origin.address());
        let target = origin.accept();
        let _ = client.try_send(&random_bytes(round, round as usize % 50));
        let _ = target.try_send(&random_bytes(round, round as usize % 70));
        match round % 3 {
            0 => client.reset(),
            1 => target.reset(),
            _ => {
                client.reset();
                target.reset();
            }
        }
    }
    baseline.assert_at_rest();
    let counters = server.counters();
    assert_eq!(counters["client_reset"] + counters["target_reset"], 2000, "{counters:?}");
}

#[test]
fn slots_used_again_and_again_mix_no_two_sessions_up() {
    let env = [("RINGSOCKS_LIMIT_SESSIONS", "12"), ("RINGSOCKS_PENALTY_FAILURE", "0")];
    let server = Server::start_with_env(&["--workers", "1", "-u", "alice:canary-7f3a"], &env);
    let baseline = server.baseline();
    let origin = canary_target();
    let closed = ClosedPort::everywhere();
    let (server, origin, closed) = (&server, &origin, &closed);
    thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                for round in 0..100 {
                    one_life(server, origin, closed, thread * 1000 + round);
                }
            });
        }
    });
    baseline.assert_at_rest();
}

/// Answers with what it got, as long as that is one canary over and over.
fn canary_target() -> Service {
    Service::serving(|stream| {
        let peer = Peer::from(stream);
        let first = peer.read_at_most(CANARY_LEN);
        let mut piece = first.clone();
        while piece.len() == CANARY_LEN && piece == first {
            if peer.try_send(&piece).is_err() {
                return;
            }
            piece = peer.read_at_most(CANARY_LEN);
        }
        if !first.starts_with(&piece) {
            // The session's client waits for its own bytes, and gets these.
            let _ = peer.try_send(b"TAMPERED");
        }
        peer.fin();
    })
}

const CANARY_LEN: usize = 16;

/// One session whose every byte is its own: in the messages, behind them, and in the data.
fn one_life(server: &Server, origin: &Service, closed: &ClosedPort, number: u64) {
    let canary = format!("<canary-{number:07}>").into_bytes();
    assert_eq!(canary.len(), CANARY_LEN);
    let messages =
        [greeting(&[2]), credentials(b"alice", b"canary-7f3a"), connect_to(origin.address())];
    let client = Peer::connect(server.address());
    match number % 5 {
        // Leaves its canary in an inbox and goes.
        0 => {
            let _ = client.try_send(&[&messages[0][..], &credentials(b"alice", &canary)].concat());
            client.reset();
        }
        // Is refused with its canary behind the request.
        1 => {
            let request = connect_to(closed.address());
            let all = [&messages[0][..], &messages[1], &request, &canary].concat();
            client.send(&all);
            client.expect(&[5, 2, 1, 0]);
            client.expect_refused(5);
        }
        // Has its canary in flight in both directions and goes.
        2 => {
            let all = [messages.concat(), canary.repeat(100)].concat();
            let _ = client.try_send(&all);
            let heard = client.read_at_most(14 + CANARY_LEN);
            if let Some(data) = heard.get(14..) {
                assert!(canary.starts_with(data), "{}", data.escape_ascii());
            }
            client.reset();
        }
        // Gets back every byte that it sent, and no other.
        _ => {
            let data = canary.repeat(number as usize % 200 + 1);
            let all = [&messages.concat()[..], &data].concat();
            let heard = client.exchange(&all);
            assert_eq!(heard.bytes[..4], [5, 2, 1, 0]);
            assert!(heard.bytes[14..] == data, "{}", heard.bytes[14..].escape_ascii());
            assert_eq!(heard.end, End::Fin);
        }
    }
}
