//! Who may come: whose ticket it is, for which service, and by which key.

use std::fs;

use crate::client::{CONTEXT, Client, expect_aborted, frame};
use crate::contexts::expect_first_token_refused;
use crate::support::initiator::{Flag, Initiator, Mechanism};
use crate::support::realm::{OTHER_REALM, REALM, Realm, SERVICE};
use crate::support::server::Server;
use crate::world::{World, greeted, serve};

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn users_of_another_realm_are_refused_unless_it_is_named() {
    let world = World::start();
    let mallory = world.initiator(&format!("mallory@{OTHER_REALM}"));
    expect_context_refused(&world.server, &mallory);
    let realms = format!("{REALM},{OTHER_REALM}");
    let open = serve(&world.realm, &[], &[("RINGSOCKS_GSSAPI_REALMS", &realms)]);
    expect_context_accepted(&open, &mallory);
    expect_context_accepted(&open, &world.alice);
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn users_of_our_own_realm_are_refused_where_only_another_is_named() {
    let world = World::start_with(&[("RINGSOCKS_GSSAPI_REALMS", OTHER_REALM)]);
    expect_context_refused(&world.server, &world.alice);
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_principal_that_no_rule_names_is_refused() {
    let rules = "alice@PROXY.TEST=alice,*/admin@*=*-admin";
    let world = World::start_with(&[("RINGSOCKS_GSSAPI_PRINCIPALS", rules)]);
    expect_context_accepted(&world.server, &world.alice);
    expect_context_accepted(&world.server, &world.initiator("carol/admin"));
    for user in ["bob", "bob/operator", "alicex"] {
        expect_context_refused(&world.server, &world.initiator(user));
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_user_of_no_group_that_the_rule_names_is_refused() {
    let realm = Realm::start();
    let file = realm.path("ringsocks.toml");
    let text = "groups = { staff = [\"alice\", \"carol\"] }
        [[listen]]
        address = \"127.0.0.1:0\"
        auth = [{ methods = [\"gssapi\"], groups = [\"staff\"] }]";
    fs::write(&file, text).expect("a file of ours");
    let world = World::start_in(realm, &["-c", file.to_str().expect("a path of ours")], &[]);
    expect_context_accepted(&world.server, &world.alice);
    expect_context_refused(&world.server, &world.initiator("bob"));
    world.server.wait_line("auth_failed ip=127.0.0.1 user=bob method=gssapi ");
}

/// `alice/admin` is not `alice`.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn an_instance_is_nobody_by_default() {
    let world = World::start();
    expect_context_refused(&world.server, &world.initiator("alice/admin"));
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_failure_is_told_in_one_line() {
    let world = World::start();
    expect_first_token_refused(&world, b"nonsense");
    world.server.wait_line("auth_failed ip=127.0.0.1 user=- method=gssapi reason=");
    expect_context_refused(&world.server, &world.initiator("alice/admin"));
    world.server.wait_line("auth_failed ip=127.0.0.1 user=alice/admin@PROXY.TEST method=gssapi ");
    // Whoever gets in is no failure.
    expect_context_accepted(&world.server, &world.alice);
    world.server.counters();
    let lines = world.server.stderr();
    assert_eq!(lines.iter().filter(|line| line.contains("auth_failed")).count(), 2, "{lines:#?}");
}

/// A keytab may have keys of several services.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_context_is_for_the_configured_service_where_there_is_one() {
    let realm = Realm::start();
    realm.add_service("http/localhost");
    realm.extract("http/localhost", &realm.keytab());
    let world = World::start_in(realm, &[], &[("RINGSOCKS_GSSAPI_SERVICE", "rcmd")]);
    let begin = || world.alice.begin_for("http@localhost", Mechanism::Kerberos, Flag::USUAL);
    expect_context_accepted(&world.server, &world.alice);
    expect_first_token_refused(&world, &begin().first());

    let any = serve(&world.realm, &[], &[]);
    Client::establish(greeted(&any), begin());
}

/// A service that others have the keys of, or an older key of ours.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_ticket_for_a_key_that_is_not_in_the_keytab_is_refused() {
    let world = World::start();
    world.realm.add_service("http/localhost");
    let context = world.alice.begin_for("http@localhost", Mechanism::Kerberos, Flag::USUAL);
    expect_first_token_refused(&world, &context.first());
    let elsewhere = world.realm.path("elsewhere.keytab");
    world.realm.extract(SERVICE, &elsewhere);
    expect_context_refused(&world.server, &world.initiator("bob"));
}

#[track_caller]
fn expect_context_accepted(server: &Server, initiator: &Initiator) {
    Client::establish(greeted(server), initiator.begin());
}

#[track_caller]
fn expect_context_refused(server: &Server, initiator: &Initiator) {
    let client = greeted(server);
    client.send(&frame(CONTEXT, &initiator.begin().first()));
    expect_aborted(&client);
}
