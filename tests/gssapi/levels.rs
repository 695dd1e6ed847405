//! Which protection is agreed on (RFC 1961 section 4).

use crate::client::{CONTEXT, Client, DATA, LEVEL, Level, expect_aborted, frame, read_frame};
use crate::support::origin::Origin;
use crate::support::socks::connect_to;
use crate::world::World;

const REQUIRE_CONFIDENTIALITY: (&str, &str) = ("RINGSOCKS_GSSAPI_REQUIRE", "confidentiality");

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn what_is_asked_for_is_agreed_on_and_a_free_choice_is_confidentiality() {
    let world = World::start();
    for (asked, agreed) in [(1, 1), (2, 2), (3, 2)] {
        expect_agreed(&world, asked, agreed);
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn where_confidentiality_is_required_it_is_answered() {
    let world = World::start_with(&[REQUIRE_CONFIDENTIALITY]);
    for asked in [1, 2, 3] {
        expect_agreed(&world, asked, 2);
    }
    expect_level_refused(&world, &[0]);
}

/// The client was told 2 and does not keep to it.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_client_that_does_less_than_was_answered_is_refused() {
    let world = World::start_with(&[REQUIRE_CONFIDENTIALITY]);
    let origin = Origin::start();
    let mut client = world.established();
    assert_eq!(client.ask_level(1), 2);
    client.peer.send(&client.misprotected_frame(&connect_to(origin.address())));
    expect_aborted(&client.peer);
    origin.expect_nobody();
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn what_is_no_level_is_refused() {
    let world = World::start();
    let levels = [&[0][..], &[4], &[9], &[0x80], &[0xff], &[], &[1, 1], &[2, 0], &[1; 100]];
    for level in levels {
        expect_level_refused(&world, level);
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_level_in_another_message_is_refused() {
    let world = World::start();
    for mtyp in [0, CONTEXT, DATA, 4, 0xff] {
        expect_instead_of_level(&world, |client| frame(mtyp, &client.context.wrap(&[2], false)));
    }
    for version in [0, 2, 5, 0xff] {
        expect_instead_of_level(&world, |client| {
            let mut message = client.level_frame(&[2]);
            message[0] = version;
            message
        });
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_level_that_was_changed_on_its_way_is_refused() {
    let world = World::start();
    let len = world.established().level_frame(&[1]).len();
    assert_eq!(len, 4 + 29, "a header, the overhead of AES with SHA-1, and a byte");
    for changed in 4..len {
        expect_instead_of_level(&world, |client| {
            let mut message = client.level_frame(&[1]);
            message[changed] ^= 1;
            message
        });
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_level_that_nobody_has_wrapped_is_refused() {
    let world = World::start();
    for token in [&[1][..], &[2], &[1; 29], &[]] {
        expect_instead_of_level(&world, |_| frame(LEVEL, token));
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_level_of_another_context_is_refused() {
    let world = World::start();
    let other = world.established();
    expect_instead_of_level(&world, |_| other.level_frame(&[2]));
}

/// For clients that protect nothing once they are known, which the RFC does not provide for.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn no_protection_is_agreed_on_where_that_is_configured() {
    let world = World::start_with(&[("RINGSOCKS_GSSAPI_CLEAR", "true")]);
    let origin = Origin::start();
    let mut client = world.established();
    assert_eq!(client.ask_level(0), 0);
    let client = client.peer;
    client.send(&connect_to(origin.address()));
    client.expect_granted();
    client.send(b"ping");
    let target = origin.accept();
    target.expect(b"ping");
    target.send(b"pong");
    client.expect(b"pong");
    // Who wants protection has it all the same.
    for (asked, agreed) in [(1, 1), (2, 2), (3, 2)] {
        expect_agreed(&world, asked, agreed);
    }
    for level in [&[9][..], &[0, 0]] {
        expect_level_refused(&world, level);
    }
}

/// Whatever comes behind the level has waited for its turn.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn all_that_follows_the_context_may_come_at_once() {
    let world = World::start();
    for level in [Level::Integrity, Level::Confidentiality] {
        let origin = Origin::start();
        let context = world.alice.begin();
        let peer = world.greeted();
        peer.send(&frame(CONTEXT, &context.first()));
        context.step(&read_frame(&peer, CONTEXT));
        let mut client = Client::established(peer, context);
        client.assume(level);
        let messages = [
            client.level_frame(&[level as u8]),
            client.data_frame(&connect_to(origin.address())),
            client.data_frame(b"early "),
            client.data_frame(b"birds"),
        ];
        client.peer.send(&messages.concat());
        client.peer.fin();
        assert_eq!(client.read_level(), level as u8);
        client.expect_granted();
        let target = origin.accept();
        target.expect(b"early birds");
        target.expect_eof();
    }
}

#[track_caller]
fn expect_agreed(world: &World, asked: u8, agreed: u8) {
    let origin = Origin::start();
    let mut client = world.established();
    assert_eq!(client.ask_level(asked), agreed, "asked for {asked}");
    client.connect(origin.address());
    client.expect_flow(&origin.accept());
}

#[track_caller]
fn expect_level_refused(world: &World, level: &[u8]) {
    expect_instead_of_level(world, |client| client.level_frame(level));
}

#[track_caller]
fn expect_instead_of_level(world: &World, message: impl Fn(&Client<'_>) -> Vec<u8>) {
    let client = world.established();
    client.peer.send(&message(&client));
    expect_aborted(&client.peer);
}
