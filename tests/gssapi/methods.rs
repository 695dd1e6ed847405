//! Which method is chosen where GSSAPI is one: the server's order counts, and what is offered.

use std::net::IpAddr;

use crate::client::expect_aborted;
use crate::support::origin::Origin;
use crate::support::peer::Peer;
use crate::support::socks::{CONNECT, connect_to, credentials, greeting, socks4};
use crate::world::World;

const NONE: u8 = 0;
const GSSAPI: u8 = 1;
const PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;

/// `-u` takes them.
const BOB: &[&str] = &["-u", "bob:canary-7f3a"];

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn with_a_keytab_everybody_is_asked_for_a_context() {
    let world = World::start();
    for offered in [&[GSSAPI][..], &[NONE, GSSAPI], &[NONE, GSSAPI, PASSWORD], &[2, 1, 0]] {
        expect_chosen(&world, offered, GSSAPI);
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn who_does_not_offer_a_context_is_turned_away() {
    let world = World::start();
    for offered in [&[NONE][..], &[PASSWORD], &[NONE, PASSWORD], &[0x80, 3]] {
        expect_chosen(&world, offered, NO_METHOD).expect_eof();
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn with_users_too_a_context_comes_before_a_password() {
    let world = World::start_with_args(BOB, &[]);
    expect_chosen(&world, &[NONE, PASSWORD, GSSAPI], GSSAPI);
    expect_password_lets_in(&world, &[NONE, PASSWORD]);
    expect_chosen(&world, &[NONE], NO_METHOD).expect_eof();
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn the_order_is_the_servers() {
    let world = World::start_with_args(BOB, &[("RINGSOCKS_LISTEN_AUTH", "password+gssapi")]);
    expect_password_lets_in(&world, &[GSSAPI, PASSWORD]);
    expect_chosen(&world, &[NONE, GSSAPI], GSSAPI);
}

/// curl offers 00 and 01 to every server.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn where_none_comes_first_an_offered_context_confuses_nobody() {
    let world = World::start_with(&[("RINGSOCKS_LISTEN_AUTH", "none+gssapi")]);
    let origin = Origin::start();
    let client = expect_chosen(&world, &[NONE, GSSAPI, PASSWORD], NONE);
    client.send(&connect_to(origin.address()));
    client.expect_granted();
    expect_chosen(&world, &[GSSAPI], GSSAPI);
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn the_clients_network_chooses_the_methods() {
    let rules = "127.0.0.2/32=none,127.0.0.3/32=password,gssapi";
    let world = World::start_with_args(BOB, &[("RINGSOCKS_LISTEN_AUTH", rules)]);
    for (source, method) in [("127.0.0.1", GSSAPI), ("127.0.0.2", NONE), ("127.0.0.3", PASSWORD)] {
        let source: IpAddr = source.parse().expect("an address");
        let client = Peer::connect_from((source, 0).into(), world.server.address());
        client.send(&greeting(&[NONE, GSSAPI, PASSWORD]));
        client.expect(&[5, method]);
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn without_a_context_there_is_no_way_in() {
    let world = World::start();
    let origin = Origin::start();
    let (address, port) = ([127, 0, 0, 1], origin.port());
    let client = Peer::connect(world.server.address());
    client.send(&socks4(CONNECT, address, port, b"alice", None));
    client.expect_silent_close();

    let client = world.greeted();
    client.send(&connect_to(origin.address()));
    expect_aborted(&client);

    let client = world.greeted();
    client.send(&[credentials(b"bob", b"canary-7f3a"), connect_to(origin.address())].concat());
    expect_aborted(&client);
    origin.expect_nobody();
}

#[track_caller]
fn expect_password_lets_in(world: &World, offered: &[u8]) {
    let origin = Origin::start();
    let client = expect_chosen(world, offered, PASSWORD);
    client.send(&credentials(b"bob", b"canary-7f3a"));
    client.expect(&[1, 0]);
    client.send(&connect_to(origin.address()));
    client.expect_granted();
}

#[track_caller]
fn expect_chosen(world: &World, offered: &[u8], method: u8) -> Peer {
    let client = Peer::connect(world.server.address());
    client.send(&greeting(offered));
    client.expect(&[5, method]);
    client
}
