//! What the server needs before it serves, and what it says where that is missing.

use std::fs;
use std::process::Command;

use crate::support::peer::Peer;
use crate::support::realm::Realm;
use crate::support::server::{Ended, Server, run};
use crate::support::session;
use crate::support::socks::greeting;
use crate::world::World;

/// The exit status of a configuration that cannot run (sysexits.h).
const EX_CONFIG: Option<i32> = Some(78);

const NO_LIBRARY: &str = "/nonexistent/libgssapi.so.0";

#[test]
fn a_library_that_is_missing_is_named_and_nothing_runs() {
    let ended =
        run(&[], &[("RINGSOCKS_GSSAPI_SERVICE", "rcmd"), ("RINGSOCKS_GSSAPI_LIBRARY", NO_LIBRARY)]);
    expect_said(&ended, &[NO_LIBRARY, "libgssapi-krb5-2"]);
}

#[test]
fn a_library_that_is_another_is_named_and_nothing_runs() {
    let ended = run(
        &[],
        &[("RINGSOCKS_GSSAPI_SERVICE", "rcmd"), ("RINGSOCKS_GSSAPI_LIBRARY", "libm.so.6")],
    );
    expect_said(&ended, &["libm.so.6"]);
}

#[test]
fn nobody_who_does_not_ask_for_it_needs_the_library() {
    let server = Server::start_with_env(&[], &[("RINGSOCKS_GSSAPI_LIBRARY", NO_LIBRARY)]);
    session(&server);
    let server = Server::start_with_env(
        &["-u", "bob:canary-7f3a"],
        &[("RINGSOCKS_GSSAPI_LIBRARY", NO_LIBRARY)],
    );
    let client = Peer::connect(server.address());
    client.send(&greeting(&[0, 1, 2]));
    client.expect(&[5, 2]);
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_keytab_that_cannot_be_used_is_named_and_nothing_runs() {
    let realm = Realm::start();
    let whole = fs::read(realm.keytab()).expect("a file of ours");
    let broken = realm.path("broken.keytab");
    let path = broken.to_str().expect("a path of ours");
    expect_no_start(&realm, &[("RINGSOCKS_GSSAPI_KEYTAB", path)], &[path]);
    for content in [&b"no keytab"[..], b"", &whole[..10]] {
        fs::write(&broken, content).expect("a file of ours");
        expect_no_start(&realm, &[("RINGSOCKS_GSSAPI_KEYTAB", path)], &[path]);
    }
}

/// It would have us wait for its writer, and a device without an end for memory.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_keytab_that_is_no_file_is_not_waited_for() {
    let realm = Realm::start();
    let fifo = realm.path("fifo.keytab");
    let made = Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs");
    assert!(made.success());
    let fifo = fifo.to_str().expect("a path of ours");
    for keytab in [fifo, &format!("FILE:{fifo}"), "/dev/zero"] {
        let parts = [keytab, "not a regular file"];
        expect_no_start(&realm, &[("RINGSOCKS_GSSAPI_KEYTAB", keytab)], &parts);
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_service_without_a_key_is_named_and_nothing_runs() {
    let realm = Realm::start();
    let keytab = realm.keytab();
    let path = keytab.to_str().expect("a path of ours");
    let env = [("RINGSOCKS_GSSAPI_KEYTAB", path), ("RINGSOCKS_GSSAPI_SERVICE", "http")];
    expect_no_start(&realm, &env, &["http"]);
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn protection_cannot_be_required_and_left_out() {
    let realm = Realm::start();
    let keytab = realm.keytab();
    let env = [
        ("RINGSOCKS_GSSAPI_KEYTAB", keytab.to_str().expect("a path of ours")),
        ("RINGSOCKS_GSSAPI_REQUIRE", "confidentiality"),
        ("RINGSOCKS_GSSAPI_CLEAR", "true"),
    ];
    expect_no_start(&realm, &env, &["clear", "confidentiality"]);
}

/// It is said at the beginning, not to the first client.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn check_reads_the_keytab_too() {
    let world = World::start();
    let keytab = world.realm.path("none.keytab");
    let path = keytab.to_str().expect("a path of ours");
    expect_said(&run_in(&world.realm, &["check"], &[("RINGSOCKS_GSSAPI_KEYTAB", path)]), &[path]);
}

#[track_caller]
fn expect_no_start(realm: &Realm, env: &[(&str, &str)], parts: &[&str]) {
    expect_said(&run_in(realm, &[], env), parts);
}

#[track_caller]
fn run_in(realm: &Realm, args: &[&str], env: &[(&str, &str)]) -> Ended {
    let realm = realm.env();
    let mut all: Vec<(&str, &str)> =
        realm.iter().map(|(name, value)| (*name, &value[..])).collect();
    all.extend(env);
    run(args, &all)
}

#[track_caller]
fn expect_said(ended: &Ended, parts: &[&str]) {
    assert_eq!(ended.code, EX_CONFIG, "{}{}", ended.stdout, ended.stderr);
    for part in parts {
        assert!(ended.stderr.contains(part), "no {part:?} in {}", ended.stderr);
    }
}
