//! Messages that are not what the client has said, in its order and protected as agreed: what came
//! before them reaches the target, nothing else does, and no clean end hides that.

use crate::client::{
    BOTH_LEVELS, CONTEXT, Client, DATA, LEVEL, Level, expect_aborted, frame, token_of,
};
use crate::support::origin::Origin;
use crate::support::random_bytes;
use crate::support::socks::connect_to;
use crate::world::World;

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_message_that_comes_again_ends_the_session() {
    let world = World::start();
    expect_end_of_session(
        &world,
        |client| {
            let message = client.data_frame(b"once");
            [&message[..], &message].concat()
        },
        b"once",
    );
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_message_that_comes_again_later_ends_the_session() {
    let world = World::start();
    expect_end_of_session(
        &world,
        |client| {
            let early = client.data_frame(b"early ");
            let more: Vec<Vec<u8>> = (0..100).map(|_| client.data_frame(b"x")).collect();
            [early.clone(), more.concat(), early].concat()
        },
        &[&b"early "[..], &[b'x'; 100]].concat(),
    );
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn messages_that_change_places_end_the_session() {
    let world = World::start();
    expect_end_of_session(
        &world,
        |client| {
            let [first, second] = [b"1111", b"2222"].map(|data| client.data_frame(data));
            [second, first].concat()
        },
        b"",
    );
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_message_that_is_missing_ends_the_session() {
    let world = World::start();
    expect_end_of_session(
        &world,
        |client| {
            let first = client.data_frame(b"first");
            client.data_frame(b"lost");
            [first, client.data_frame(b"third")].concat()
        },
        b"first",
    );
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_message_that_was_changed_ends_the_session() {
    let world = World::start();
    let len = 4 + 60 + 20;
    for changed in (4..len).step_by(5) {
        expect_end_of_session(
            &world,
            |client| {
                let mut message = client.data_frame(&random_bytes(1, 20));
                let changed = changed.min(message.len() - 1);
                message[changed] ^= 0x10;
                message
            },
            b"",
        );
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_message_that_was_cut_or_grew_ends_the_session() {
    let world = World::start();
    for change in [-20, -1, 1, 30] {
        expect_end_of_session(
            &world,
            |client| {
                let mut token = token_of(&client.data_frame(&[0x5a; 40])).to_vec();
                token.resize(token.len().saturating_add_signed(change), 0);
                frame(DATA, &token)
            },
            b"",
        );
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_message_that_is_not_protected_as_agreed_ends_the_session() {
    let world = World::start();
    expect_end_of_session(
        &world,
        |client| {
            let fine = client.data_frame(b"fine");
            [fine, client.misprotected_frame(b"not so")].concat()
        },
        b"fine",
    );
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn what_is_no_message_ends_the_session() {
    let world = World::start();
    expect_end_of_session(&world, |_| b"GET / HTTP/1.0\r\n\r\n".to_vec(), b"");
    expect_end_of_session(&world, |_| frame(DATA, &[]), b"");
    expect_end_of_session(&world, |_| frame(DATA, b"in the clear"), b"");
    expect_end_of_session(&world, |_| frame(DATA, &random_bytes(2, 65_535)), b"");
    expect_end_of_session(&world, |_| vec![1, 0xff], b"");
    for mtyp in [0, CONTEXT, LEVEL, 4, 0xff] {
        expect_end_of_session(
            &world,
            |client| {
                let mut message = client.data_frame(b"data");
                message[1] = mtyp;
                message
            },
            b"",
        );
    }
    for version in [0, 2, 5] {
        expect_end_of_session(
            &world,
            |client| {
                let mut message = client.data_frame(b"data");
                message[0] = version;
                message
            },
            b"",
        );
    }
}

/// The server's own messages, sent back to it.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_message_of_the_servers_own_ends_the_session() {
    let world = World::start();
    for level in BOTH_LEVELS {
        let (client, target) = world.session(level);
        target.send(b"echo?");
        let head = client.peer.read_exact(4);
        let token = client.peer.read_exact(usize::from(u16::from_be_bytes([head[2], head[3]])));
        client.peer.send(&frame(DATA, &token));
        target.expect_reset();
        client.expect_reset();
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_message_of_another_session_ends_the_session() {
    let world = World::start();
    for level in BOTH_LEVELS {
        let (other, _its_target) = world.session(level);
        let (client, target) = world.session(level);
        client.peer.send(&other.data_frame(b"for somebody else"));
        target.expect_reset();
        client.expect_reset();
    }
}

/// Before the session is granted there is a refusal to be told.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn instead_of_the_request_each_of_them_is_refused() {
    let world = World::start();
    let origin = Origin::start();
    let request = connect_to(origin.address());
    let baseline = world.server.baseline();
    for level in BOTH_LEVELS {
        expect_refused(&world, level, |_| request.clone());
        expect_refused(&world, level, |_| frame(DATA, &request));
        expect_refused(&world, level, |_| frame(DATA, &[]));
        expect_refused(&world, level, |client| client.misprotected_frame(&request));
        expect_refused(&world, level, |client| {
            frame(LEVEL, token_of(&client.data_frame(&request)))
        });
        expect_refused(&world, level, |client| {
            let mut message = client.data_frame(&request);
            let last = message.len() - 1;
            message[last] ^= 1;
            message
        });
        expect_refused(&world, level, |client| {
            client.data_frame(b"lost");
            client.data_frame(&request)
        });
        expect_refused(&world, level, |client| {
            let half = client.data_frame(&request[..5]);
            [&half[..], &half].concat()
        });
    }
    origin.expect_nobody();
    baseline.assert_restored();
}

/// Messages that end a session at either level: `arrives` is what the target hears before.
#[track_caller]
fn expect_end_of_session(world: &World, messages: impl Fn(&Client<'_>) -> Vec<u8>, arrives: &[u8]) {
    let baseline = world.server.baseline();
    for level in BOTH_LEVELS {
        let (client, target) = world.session(level);
        client.send(b"before ");
        target.expect(b"before ");
        client.peer.send(&messages(&client));
        target.expect(arrives);
        target.expect_reset();
        client.expect_reset();
    }
    baseline.assert_restored();
}

#[track_caller]
fn expect_refused(world: &World, level: Level, messages: impl Fn(&Client<'_>) -> Vec<u8>) {
    let client = world.agreed(level);
    client.peer.send(&messages(&client));
    expect_aborted(&client.peer);
}
