//! What is said of a login that fails: to the client always the same, to the operator one line.

use crate::support::logins::{asked, local, log_in_from};
use crate::support::peer::{End, Peer};
use crate::support::random_bytes;
use crate::support::server::Server;
use crate::support::socks::credentials;
use crate::world::{GUESS, NO_PENALTIES, PASSWORD, World, argon2id, failures, reasons};

/// One failure locks a source for good.
const STRICT: [(&str, &str); 3] = [
    ("RINGSOCKS_PENALTY_FAILURE", "1h"),
    ("RINGSOCKS_PENALTY_THRESHOLD", "1h"),
    ("RINGSOCKS_PENALTY_MAX", "1h"),
];

/// All that a client hears that has said more than its password.
#[track_caller]
fn expect_denied(client: &Peer, user: &[u8], password: &[u8]) {
    let more = random_bytes(1, 20_000);
    let heard = client.exchange(&[credentials(user, password), more].concat());
    assert_eq!((&heard.bytes[..], heard.end), (&[1, 1][..], End::Fin));
}

#[test]
fn whatever_is_wrong_the_answer_is_the_same_and_costs_one_hash() {
    let world = World::start(&format!("alice:{}\nbob:{}\n", argon2id(), argon2id()), &STRICT);
    let baseline = world.server.baseline();
    let mut hashes = world.hashes();
    let mut costs_one = |what: &str| {
        let now = world.hashes();
        assert_eq!(now - hashes, 1, "{what}");
        hashes = now;
    };
    expect_denied(&asked(&world.server, local(2)), b"mallory", GUESS);
    costs_one("an unknown user");
    expect_denied(&asked(&world.server, local(3)), b"alice", GUESS);
    costs_one("a wrong password");
    for (user, password) in [(&b"alice"[..], GUESS), (b"alice", PASSWORD), (b"mallory", PASSWORD)] {
        expect_denied(&asked(&world.server, local(3)), user, password);
        costs_one("a locked source");
    }

    // What is known of a password elsewhere does not help one who is locked, nor hurry the answer.
    assert!(log_in_from(local(4), &world.server, b"alice", PASSWORD));
    costs_one("a right password");
    for _ in 0..2 {
        expect_denied(&asked(&world.server, local(3)), b"alice", PASSWORD);
        costs_one("a locked source, again");
    }
    assert!(log_in_from(local(4), &world.server, b"alice", PASSWORD));

    let locked = ["locked"; 5];
    let expected = [&["unknown_user", "wrong_password"][..], &locked].concat();
    assert_eq!(reasons(&world.server, 7), expected);
    let counters = world.server.counters();
    assert_eq!((counters["logins"], counters["logins_failed"]), (2, 7), "{counters:?}");
    assert_eq!((counters["hashes"], counters["bad_login"]), (8, 7), "{counters:?}");
    baseline.assert_restored();
}

/// Plain users cost no hash, known or not.
#[test]
fn where_nobody_has_a_hash_none_is_computed() {
    let world = World::start("alice:plain:canary-wonder\n", &[NO_PENALTIES]);
    expect_denied(&asked(&world.server, local(1)), b"mallory", GUESS);
    expect_denied(&asked(&world.server, local(1)), b"alice", GUESS);
    assert!(log_in_from(local(1), &world.server, b"alice", PASSWORD));
    assert_eq!(world.hashes(), 0);
}

#[test]
fn a_failed_login_is_one_line_whatever_the_name_is() {
    let server =
        Server::start_with_env(&[], &[("RINGSOCKS_USER", "alice:canary-wonder"), NO_PENALTIES]);
    let long = [b'\x1b'; 255];
    let names: [(&[u8], &str); 9] = [
        (b"alice", "alice"),
        (b"", r#""""#),
        (b"-", r#""-""#),
        (b"a user", r#""a\x20user""#),
        (
            b"x method=password reason=wrong_password",
            r#""x\x20method=password\x20reason=wrong_password""#,
        ),
        (b"x\r\n[] auth_failed ip=192.0.2.1", r#""x\r\n[]\x20auth_failed\x20ip=192.0.2.1""#),
        (b"\"\\", r#""\"\\""#),
        ("\u{202e}\u{2028}".as_bytes(), r#""\xe2\x80\xae\xe2\x80\xa8""#),
        (&long, &format!("\"{}\"", r"\x1b".repeat(255))),
    ];
    for (name, _) in &names {
        assert!(!log_in_from(local(7), &server, name, GUESS), "{}", name.escape_ascii());
    }
    let told = failures(&server, names.len());
    for (fields, (name, shown)) in told.iter().zip(&names) {
        assert_eq!(fields["user"], *shown, "{}", name.escape_ascii());
        assert_eq!((&*fields["ip"], &*fields["method"]), ("127.0.0.7", "password"));
        let reason = if *name == b"alice" { "wrong_password" } else { "unknown_user" };
        assert_eq!(fields["reason"], reason);
    }
}
