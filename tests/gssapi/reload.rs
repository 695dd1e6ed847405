//! SIGHUP: the keytab is read again, whole or not at all.

use std::fs;

use crate::client::{CONTEXT, Level, frame};
use crate::support::initiator::Initiator;
use crate::support::origin::Origin;
use crate::support::realm::SERVICE;
use crate::support::wait_until;
use crate::world::World;
use rustix::process::Signal;

/// A ticket for a new key is refused until the keytab with it has been read; who is in stays in, and
/// who has a ticket for the old key may use it as long as the keytab has that too.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_new_key_is_accepted_and_sessions_live_on() {
    let world = World::start();
    let (client, target) = world.session(Level::Confidentiality);
    world.realm.extract(SERVICE, &world.realm.keytab());
    let bob = world.initiator("bob");
    world.server.signal(Signal::HUP);
    wait_until("the new key is accepted", || is_accepted(&world, &bob));
    assert!(is_accepted(&world, &world.alice), "alice's ticket is for the old key");
    client.expect_flow(&target);
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_key_that_is_gone_is_refused() {
    let world = World::start();
    let (client, target) = world.session(Level::Integrity);
    fs::remove_file(world.realm.keytab()).expect("a file of ours");
    world.realm.extract(SERVICE, &world.realm.keytab());
    world.server.signal(Signal::HUP);
    wait_until("the old key is refused", || !is_accepted(&world, &world.alice));
    assert!(is_accepted(&world, &world.initiator("bob")));
    client.expect_flow(&target);
}

/// What is there is better than nothing, and somebody has to be told.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_broken_keytab_leaves_the_old_one_in_force() {
    let world = World::start();
    let whole = fs::read(world.realm.keytab()).expect("a file of ours");
    for broken in [&b"no keytab"[..], b"", &whole[..whole.len() / 2]] {
        fs::write(world.realm.keytab(), broken).expect("a file of ours");
        expect_old_stays(&world);
    }
    fs::remove_file(world.realm.keytab()).expect("a file of ours");
    expect_old_stays(&world);
    fs::write(world.realm.keytab(), &whole).expect("a file of ours");
    world.server.signal(Signal::HUP);
    world.server.counters();
    assert!(is_accepted(&world, &world.alice));
}

/// Between its first message and its request.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_handshake_goes_on_across_a_reload() {
    let world = World::start();
    let origin = Origin::start();
    let mut client = world.established();
    for _ in 0..3 {
        world.server.signal(Signal::HUP);
        world.server.counters();
    }
    client.agree(Level::Confidentiality);
    world.server.signal(Signal::HUP);
    world.server.counters();
    client.connect(origin.address());
}

#[track_caller]
fn expect_old_stays(world: &World) {
    let said = world.server.stderr().len();
    world.server.signal(Signal::HUP);
    wait_until("it says what is wrong", || {
        let keytab = world.realm.keytab();
        let name = keytab.to_str().expect("a path of ours");
        world.server.stderr()[said..].iter().any(|line| line.contains(name))
    });
    assert!(is_accepted(world, &world.alice));
    let (client, target) = world.session(Level::Confidentiality);
    client.expect_flow(&target);
}

/// Whether a new client of this user's gets a context; if not it is refused as it should be.
#[track_caller]
fn is_accepted(world: &World, initiator: &Initiator) -> bool {
    let context = initiator.begin();
    let peer = world.greeted();
    peer.send(&frame(CONTEXT, &context.first()));
    let is_accepted = peer.has_input_within(crate::support::PATIENCE) && {
        let head = peer.read_exact(2);
        match head[..] {
            [1, CONTEXT] => true,
            [1, 0xff] => false,
            _ => peer.fail("01 01 or 01 FF", &format!("{head:02x?}")),
        }
    };
    if !is_accepted {
        peer.expect_eof();
    }
    is_accepted
}
