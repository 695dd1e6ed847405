//! What is known of a password is not computed again, for a while.

use std::fs;
use std::thread;

use rustix::process::Signal;

use crate::support::logins::{asked, is_let_in, local, log_in_from};
use crate::support::peer::Peer;
use crate::support::socks::credentials;
use crate::world::{GUESS, NO_PENALTIES, PASSWORD, World, argon2id, slow_argon2id, write_secret};

fn alice() -> String {
    format!("alice:{}\n", argon2id())
}

#[test]
fn two_hundred_logins_cost_one_hash() {
    let world = World::start(&alice(), &[]);
    let baseline = world.server.baseline();
    for login in 0..200u8 {
        assert!(log_in_from(local(login % 5 + 1), &world.server, b"alice", PASSWORD));
    }
    assert_eq!(world.hashes(), 1);
    baseline.assert_restored();
}

/// Whatever that is: being found out in another thread, waiting to be, or known.
#[test]
fn a_hundred_first_logins_at_once_cost_one_hash() {
    let world = World::start(&alice(), &[]);
    let baseline = world.server.baseline();
    let clients: Vec<Peer> = (0..100).map(|n| asked(&world.server, local(n % 4 + 1))).collect();
    clients.iter().for_each(|client| client.send(&credentials(b"alice", PASSWORD)));
    assert!(clients.iter().all(is_let_in));
    assert_eq!(world.hashes(), 1);
    drop(clients);
    baseline.assert_restored();
}

#[test]
fn a_wrong_password_is_computed_each_time() {
    let world = World::start(&alice(), &[NO_PENALTIES]);
    for _ in 0..3 {
        assert!(!log_in_from(local(1), &world.server, b"alice", GUESS));
    }
    assert_eq!(world.hashes(), 3);
    assert!(log_in_from(local(1), &world.server, b"alice", PASSWORD));
    assert!(!log_in_from(local(1), &world.server, b"alice", GUESS), "it is known what is right");
    assert_eq!(world.hashes(), 5);
}

/// Nobody's right password opens another's door.
#[test]
fn what_is_known_is_of_this_user_and_this_password() {
    let users = format!("{}bob:{}\n", alice(), argon2id());
    let world = World::start(&users, &[NO_PENALTIES]);
    assert!(log_in_from(local(1), &world.server, b"alice", PASSWORD));
    // The same octets, cut elsewhere.
    assert!(!log_in_from(local(1), &world.server, b"alicec", b"anary-wonder"));
    assert!(!log_in_from(local(1), &world.server, b"alic", b"ecanary-wonder"));
    assert!(log_in_from(local(1), &world.server, b"bob", PASSWORD));
    assert_eq!(world.hashes(), 4);
}

#[test]
fn what_is_read_again_is_computed_again() {
    let world = World::start(&alice(), &[]);
    let log_in = || assert!(log_in_from(local(1), &world.server, b"alice", PASSWORD));
    log_in();
    log_in();
    assert_eq!(world.hashes(), 1);
    world.server.signal(Signal::HUP);
    world.server.wait_line("users and groups are read again");
    log_in();
    log_in();
    assert_eq!(world.hashes(), 2);

    // What cannot be read changes nothing, and nothing is forgotten for it.
    fs::write(world.folder.path().join("users"), "alice:canary\n").unwrap();
    world.server.signal(Signal::HUP);
    world.server.wait_line("users and groups stay as they were: ");
    log_in();
    assert_eq!(world.hashes(), 2);
}

/// A login counts by the users there are when it is answered, not by those it was asked of.
#[test]
fn who_is_gone_while_the_password_is_computed_is_not_let_in() {
    let mallory = format!("mallory:{}\n", slow_argon2id(127));
    let users = format!("{}bob:{}\n{mallory}", alice(), argon2id());
    let world = World::start(&users, &[NO_PENALTIES, ("RINGSOCKS_TIMEOUT_HANDSHAKE", "2m")]);
    let log_in = |user: &[u8], password: &[u8]| {
        let client = asked(&world.server, local(1));
        client.send(&credentials(user, password));
        client
    };
    // One source has one thread where there are two processors: each waits for those before it.
    let threads = thread::available_parallelism().map_or(1, |it| it.get().max(2) - 1);
    let slow: Vec<Peer> =
        (0..threads as u8).map(|n| log_in(b"mallory", &[GUESS, &[b'0' + n]].concat())).collect();
    world.server.wait_counter("hashes", threads as u64);
    let (gone, stays) = (log_in(b"alice", PASSWORD), log_in(b"bob", PASSWORD));
    write_secret(&world.folder.path().join("users"), &format!("bob:{}\n", argon2id()));
    world.server.signal(Signal::HUP);
    world.server.wait_line("users and groups are read again");
    assert!(!gone.has_input() && !stays.has_input(), "it was not read in time");
    world.server.wait_counters("all are answered", |counters| {
        counters["logins"] + counters["logins_failed"] == threads as u64 + 2
    });
    assert!(!is_let_in(&gone) && is_let_in(&stays));
    assert!(!slow.iter().any(is_let_in));
}
