//! Names that lead where a client may not go.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use crate::support::dns::Response;
use crate::support::dns::message::A;
use crate::support::finish;
use crate::support::lan::{GATEWAY_V4, GATEWAY_V6, OTHER_V4, OTHER_V6};
use crate::support::server::Server;
use crate::support::socks::request_name;
use crate::world::{PORT, World, ip, v4, v6};

/// Where no stranger may be led to.
const PRIVATE: &[&str] = &[
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.0.0.1",
    "10.0.0.2",
    "10.255.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.168.1.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.2",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:2",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::1",
    "2001:0:7f00:1::1",
    "fe80::1",
    "fd00::1",
    "fd00::2",
    "fec0::1",
    "ff02::1",
];

/// What the gateway has begun, but for the questions it asks and what comes to its listener.
fn begun(world: &World) -> Vec<SocketAddr> {
    let nameserver = world.nameserver.address();
    let begun =
        world.wire.begun_to(|to| to != nameserver && to != SocketAddr::new(GATEWAY_V4, 1080));
    begun.into_iter().map(|it| it.to).collect()
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_name_leads_a_stranger_to_no_private_address() {
    let world = World::new();
    let server = world.server_for_strangers(&[]);
    let baseline = server.baseline();
    for (n, address) in PRIVATE.iter().enumerate() {
        let name = format!("private-{n}.example");
        world.nameserver.addresses(&name, &[address]);
        let client = world.ask_as_stranger(&server, &name, PORT);
        assert_eq!(client.expect_reply().rep, 2, "{address}");
    }
    world.nameserver.addresses("all.example", PRIVATE);
    world.ask_as_stranger(&server, "all.example", PORT).expect_refused(2);
    for name in ["localhost", "sub.localhost"] {
        world.ask_as_stranger(&server, name, PORT).expect_refused(2);
    }
    assert_eq!(begun(&world), [], "something was connected to");
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn an_alias_leads_no_further_than_an_address() {
    let world = World::new();
    let server = world.server_for_strangers(&[]);
    let baseline = server.baseline();
    world.nameserver.script("alias.example", |question| {
        let alias = question.answer().cname(&question.name, 0, "inside.example");
        match question.kind {
            A => alias.address("inside.example", 0, [127, 0, 0, 1].into()),
            _ => alias.address("inside.example", 0, ip("::1")),
        }
    });
    world.nameserver.script("to-localhost.example", |question| {
        question.answer().cname(&question.name, 0, "localhost")
    });
    world.nameserver.addresses("localhost", &["127.0.0.1", "::1"]);
    world.ask_as_stranger(&server, "alias.example", PORT).expect_refused(2);
    let rep = world.ask_as_stranger(&server, "to-localhost.example", PORT).expect_reply().rep;
    assert!([2, 4].contains(&rep), "{rep}");
    assert_eq!(begun(&world), [], "something was connected to");
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn of_a_mixed_answer_only_what_is_allowed_is_tried() {
    let world = World::new();
    let (v4_origin, v6_origin) = (world.origin(&v4(1)), world.origin(&v6(1)));
    let inside = world.origin_at(SocketAddr::new(OTHER_V4, PORT));
    let inside_v6 = world.origin_at(SocketAddr::new(OTHER_V6, PORT));
    let (own, own_v6) = (GATEWAY_V4.to_string(), GATEWAY_V6.to_string());
    let (private, private_v6) = (OTHER_V4.to_string(), OTHER_V6.to_string());
    let inner = ["127.0.0.1", "::1", "::ffff:10.0.0.2", &own, &own_v6, &private, &private_v6];
    let server = world.server_for_strangers(&[]);
    let baseline = server.baseline();
    for (name, public, origin) in
        [("v4.example", v4(1), &v4_origin), ("v6.example", v6(1), &v6_origin)]
    {
        let mixed: Vec<&str> = inner.iter().copied().chain([public.as_str()]).collect();
        world.nameserver.addresses(name, &mixed);
        let client = world.ask_as_stranger(&server, name, PORT);
        client.expect_granted();
        let target = origin.accept();
        finish(client, &target);
    }
    // One that is allowed and dead makes the others no more so.
    let mixed: Vec<String> = inner.iter().map(|it| (*it).to_owned()).chain([v4(2)]).collect();
    world.has(&[v4(2)]);
    world
        .nameserver
        .addresses("dead.example", &mixed.iter().map(|it| it.as_str()).collect::<Vec<_>>());
    world.ask_as_stranger(&server, "dead.example", PORT).expect_refused(5);
    let expected = [v4(1), v6(1), v4(2)].map(|address| SocketAddr::new(ip(&address), PORT));
    assert_eq!(begun(&world), expected);
    inside.expect_nobody();
    inside_v6.expect_nobody();
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn what_is_allowed_is_reached_by_its_name() {
    let world = World::new();
    let inside = world.origin_at(SocketAddr::new(OTHER_V4, PORT));
    let inside_v6 = world.origin_at(SocketAddr::new(OTHER_V6, PORT));
    world.nameserver.addresses("v4.example", &["10.0.0.2"]);
    world.nameserver.addresses("mapped.example", &["::ffff:10.0.0.2"]);
    world.nameserver.addresses("v6.example", &["fd00::2"]);
    world.nameserver.addresses("other.example", &["192.168.1.1", &v4(1)]);
    let targets = ("RINGSOCKS_LISTEN_TARGETS", "10.0.0.0/8,fd00::/64");
    let server = world.server_for_strangers(&[targets]);
    let baseline = server.baseline();
    let reached =
        [("v4.example", &inside), ("mapped.example", &inside), ("v6.example", &inside_v6)];
    for (name, origin) in reached {
        let client = world.ask_as_stranger(&server, name, PORT);
        client.expect_granted();
        let target = origin.accept();
        finish(client, &target);
    }
    world.ask_as_stranger(&server, "other.example", PORT).expect_refused(2);
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn the_address_that_was_checked_is_the_one_that_is_connected_to() {
    let world = World::new();
    let origin = world.origin(&v4(1));
    let inside = world.origin_at(SocketAddr::new(OTHER_V4, PORT));
    // Public when it is asked for first, private ever after, and it holds for no time.
    let first = OnceLock::new();
    world.nameserver.script("flips.example", move |question| match question.kind {
        A if *first.get_or_init(|| question.id) == question.id => {
            question.answer().address(&question.name, 0, ip(&v4(1)))
        }
        A => question.answer().address(&question.name, 0, OTHER_V4),
        _ => question.answer().soa(0, 0),
    });
    let server = world.server_for_strangers(&[]);
    let baseline = server.baseline();
    let client = world.ask_as_stranger(&server, "flips.example", PORT);
    client.expect_granted();
    assert_eq!(world.nameserver.counts_for("flips.example"), [1, 1], "it was asked for again");
    let target = origin.accept();
    finish(client, &target);
    world.ask_as_stranger(&server, "flips.example", PORT).expect_refused(2);
    let public = SocketAddr::new(ip(&v4(1)), PORT);
    assert_eq!(begun(&world), [public]);
    inside.expect_nobody();
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn an_answer_that_comes_late_is_checked_too() {
    let world = World::new();
    let inside_v6 = world.origin_at(SocketAddr::new(OTHER_V6, PORT));
    world.has(&[v4(1)]);
    world.nameserver.script("late.example", |question| match question.kind {
        A => question.addresses(&[&v4(1)]).into(),
        _ => {
            let late = question.addresses(&["fd00::2", "::1", "fd00::1"]);
            Response::from(late).after(Duration::from_millis(500))
        }
    });
    let server = world.server_for_strangers(&[]);
    let baseline = server.baseline();
    world.ask_as_stranger(&server, "late.example", PORT).expect_refused(5);
    let public = SocketAddr::new(ip(&v4(1)), PORT);
    assert_eq!(begun(&world), [public]);
    inside_v6.expect_nobody();
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn no_name_leads_back_to_our_own_listener() {
    let world = World::new();
    // Even where everything is allowed.
    let targets = ("RINGSOCKS_LISTEN_TARGETS", "0.0.0.0/0,::/0");
    let server = world.server_for_strangers(&[targets]);
    assert_no_way_back(&world, &server, &["10.0.0.1", "::ffff:10.0.0.1", "0.0.0.0", "::"]);
    drop(server);
    let wildcards = ["--listen", "0.0.0.0:1080", "--listen", "[::]:1080"];
    let server = world.server_at(&wildcards, &[targets]);
    let anywhere = ["127.0.0.1", "127.7.7.7", "::1", "fd00::1", "10.0.0.1", "::ffff:127.0.0.1"];
    assert_no_way_back(&world, &server, &anywhere);
}

/// No name with one of these addresses is connected to at the port we listen at.
#[track_caller]
fn assert_no_way_back(world: &World, server: &Server, addresses: &[&str]) {
    let baseline = server.baseline();
    let gateway = SocketAddr::new(GATEWAY_V4, 1080);
    for address in addresses {
        let name = format!("loop-{}.example", address.replace(['.', ':'], "-"));
        world.nameserver.addresses(&name, &[address]);
        let client = world.lan.other.enter(|| request_name(gateway, &name, 1080));
        assert_eq!(client.expect_reply().rep, 2, "{address}");
    }
    baseline.assert_at_rest();
    assert_eq!(server.counters()["accepted"], addresses.len() as u64, "connected to itself");
}
