//! Many who want to be known at once: nobody is let in for it, nobody refused, and others have their
//! turn.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::support::logins::{asked, is_let_in, local, log_in_from};
use crate::support::origin::Service;
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::{connect_to, credentials};
use crate::support::stubs::Stub;
use crate::support::{raise_descriptor_limit, wait_until};
use crate::world::{GUESS, NO_PENALTIES, PASSWORD, World, argon2id, slow_argon2id, text};

const MIB: u64 = 1024 * 1024;

/// A server that asks PAM's stub: it takes this long, and then says the same to everybody.
fn serve(stub: &Stub, service: &str, handshake: &str) -> Server {
    raise_descriptor_limit();
    let env = [
        ("RINGSOCKS_PAM_SERVICE", service),
        ("RINGSOCKS_PAM_LIBRARY", text(stub.library())),
        ("RINGSOCKS_TIMEOUT_HANDSHAKE", handshake),
        NO_PENALTIES,
    ];
    Server::start_with_env(&[], &env)
}

/// Clients of so many sources that have all sent a name of their own and a password.
fn crowd(server: &Server, sources: u8, each: usize) -> Vec<Peer> {
    let clients: Vec<Peer> =
        (0..each).flat_map(|_| (1..=sources).map(|source| asked(server, local(source)))).collect();
    for (number, client) in clients.iter().enumerate() {
        client.send(&credentials(format!("user-{number}").as_bytes(), PASSWORD));
    }
    clients
}

/// One source has 64 places at most, and 15 threads of 16.
#[test]
fn a_full_queue_delays_and_neither_admits_nor_refuses() {
    let stub = Stub::build("pam");
    for (sources, each, sleep) in [(1, 150, 400), (20, 70, 100)] {
        for (auth, expected) in [(0, true), (7, false)] {
            let service = format!("sleep={sleep}.auth={auth}.acct=0");
            let server = serve(&stub, &service, "2m");
            let baseline = server.baseline();
            let clients = crowd(&server, sources, each);
            // In the order of their coming, nearly: nobody waits much longer than the last one.
            wait_until_last_is_answered(&server, clients.len() as u64);
            let answers: Vec<bool> = clients.iter().map(is_let_in).collect();
            assert!(answers.iter().all(|it| *it == expected), "{answers:?}");
            drop(clients);
            baseline.assert_restored();
        }
    }
}

#[track_caller]
fn wait_until_last_is_answered(server: &Server, clients: u64) {
    server.wait_counters("everybody is answered", |counters| {
        counters["logins"] + counters["logins_failed"] == clients
    });
}

#[test]
fn who_waits_too_long_is_closed_without_a_word() {
    const CLIENTS: u64 = 200;
    let stub = Stub::build("pam");
    let server = serve(&stub, "sleep=600000.auth=0.acct=0", "2s");
    let baseline = server.baseline();
    let before = server.rss_anon();
    let clients = crowd(&server, 1, CLIENTS as usize);
    let grown = server.rss_anon().saturating_sub(before);
    assert!(grown < 4 * MIB, "{grown} bytes");
    clients.iter().for_each(Peer::expect_silent_close);
    let counters = server.counters();
    assert_eq!(counters["handshake_timeout"], CLIENTS, "{counters:?}");
    assert_eq!((counters["logins"], counters["logins_failed"]), (0, 0), "{counters:?}");
    // Others find the thread that one source does not get.
    let other = asked(&server, local(2));
    other.send(&credentials(b"alice", PASSWORD));
    wait_until("no more threads than there may be", || threads(&server, "pam") == 16);
    other.expect_silent_close();
    baseline.assert_restored();
}

fn threads(server: &Server, name: &str) -> usize {
    let tasks = std::fs::read_dir(server.proc("task")).expect("the server runs");
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|comm| comm.trim() == name)
        .count()
}

/// Each guess costs a second and more of a processor, on threads that are not the reactors'.
#[test]
fn a_flood_of_failures_leaves_others_their_logins_and_their_pace() {
    const USERS: usize = 20;
    let users: String = (0..USERS).map(|n| format!("user-{n}:{}\n", argon2id())).collect();
    let users = format!("mallory:{}\n{users}", slow_argon2id(127));
    let env = [("RINGSOCKS_TIMEOUT_HANDSHAKE", "1m")];
    let World { server, .. } = &World::start(&users, &env);
    let baseline = server.baseline();
    let echo = Service::echo();
    let relaying = open_by_password(server, &echo);

    let flood: Vec<Peer> = (0..100).map(|_| asked(server, local(2))).collect();
    for (number, client) in flood.iter().enumerate() {
        client.send(&credentials(b"mallory", &[GUESS, &[b'0' + number as u8]].concat()));
    }
    let (is_over, turns) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                relaying.send(b"ping");
                relaying.expect(b"ping");
                turns.fetch_add(1, Ordering::Relaxed);
            }
        });
        for n in 1..USERS {
            let user = format!("user-{n}");
            assert!(log_in_from(local(1), server, user.as_bytes(), PASSWORD), "{user}");
        }
        // A reactor that computed one would relay nothing meanwhile.
        for _ in 0..2 {
            let before = (server.counters()["hashes"], turns.load(Ordering::Relaxed));
            let is_next = |counters: &BTreeMap<String, u64>| counters["hashes"] > before.0;
            server.wait_counters("one of the flood's is computed", is_next);
            let turns = turns.load(Ordering::Relaxed) - before.1;
            assert!(turns >= 20, "{turns} turns in a second and more");
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(server.counters()["logins"], USERS as u64);
    // Who only ends its direction may still want to know.
    flood.into_iter().for_each(Peer::reset);
    drop(relaying);
    baseline.assert_restored();
}

fn open_by_password(server: &Server, echo: &Service) -> Peer {
    let client = asked(server, local(1));
    client.send(&credentials(b"user-0", PASSWORD));
    assert!(is_let_in(&client));
    client.send(&connect_to(echo.address()));
    client.expect_granted();
    client
}

#[test]
fn clients_that_leave_while_their_password_is_checked_leave_nothing() {
    let users = format!("alice:{}\nmallory:{}\n", argon2id(), slow_argon2id(16));
    let World { server, .. } = &World::start(&users, &[NO_PENALTIES]);
    let baseline = server.baseline();
    let leaving: [fn(Peer); 3] = [Peer::reset, drop::<Peer>, |client| client.fin()];
    for (number, leave) in leaving.into_iter().enumerate() {
        for source in 1..=4 {
            let client = asked(server, local(source));
            let guess = [GUESS, &[b'0' + number as u8]].concat();
            client.send(&credentials(b"mallory", &guess));
            leave(client);
            let client = asked(server, local(source));
            client.send(&credentials(b"alice", PASSWORD));
            leave(client);
        }
    }
    baseline.assert_restored();
    assert!(log_in_from(local(1), server, b"alice", PASSWORD));
    baseline.assert_at_rest();
}
