//! Memory for messages under way is bounded, and who holds some takes it from nobody for long.

use std::iter;
use std::time::Duration;

use crate::client::{Client, Level};
use crate::support::origin::Service;
use crate::support::peer::Peer;
use crate::support::socks::connect_to;
use crate::support::{assert_same_bytes, random_bytes};
use crate::world::World;

const MIB: u64 = 1 << 20;

/// So long may a message keep its room while others wait.
const KEPT: Duration = Duration::from_secs(60);

fn start(buffers: &str) -> World {
    World::start_with_args(&["--workers", "1"], &[("RINGSOCKS_LIMIT_BUFFERS", buffers)])
}

/// A session that has sent so much of a long message behind another of this length, and what is left
/// of it.
fn half_sent(world: &World, first: usize, sent: usize) -> (Client<'_>, Peer, Vec<u8>) {
    let first = vec![7; first];
    let (client, target) = world.session(Level::Confidentiality);
    let message = client.data_frame(&first);
    let mut next = client.data_frame(&[8; 60_000]);
    let rest = next.split_off(sent);
    client.peer.send(&[message, next].concat());
    assert_same_bytes(&target.read_exact(first.len()), &first);
    (client, target, rest)
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn five_bytes_of_a_message_keep_no_ring() {
    let world = start("4MiB");
    let baseline = world.server.baseline();
    let crowd: Vec<_> = iter::repeat_with(|| half_sent(&world, 20_000, 5)).take(50).collect();
    world.server.wait_counters("no ring for five bytes", |counters| counters["rings_in_use"] == 0);
    for (client, target, rest) in &crowd {
        client.peer.send(rest);
        assert_same_bytes(&target.read_exact(60_000), &[8; 60_000]);
    }
    drop(crowd);
    baseline.assert_restored();
}

/// As long as there is room for everybody, nobody has to hurry.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_message_that_others_wait_for_is_given_a_minute() {
    let world = start("1MiB");
    let baseline = world.server.baseline();
    // Until one of them has to wait with what an inbox holds.
    let mut crowd = Vec::new();
    while world.server.counters()["inboxes_in_use"] == 0 {
        assert!(crowd.len() < 200, "there is no end of room");
        crowd.push(half_sent(&world, 9, 40_000));
    }
    let (client, target) = world.session(Level::Confidentiality);
    client.send(&[9; 60_000]);
    assert!(target.is_silent_for(Duration::from_secs(3)), "there was room");
    assert_eq!(world.server.counters()["idle_timeout"], 0);
    let is_heard = target.has_input_within(10 * KEPT);
    assert!(is_heard, "others keep the room for ever: {:?}", world.server.counters());
    assert_same_bytes(&target.read_exact(60_000), &[9; 60_000]);
    let counters = world.server.counters();
    let ended = counters["idle_timeout"];
    assert!((1..10).contains(&ended), "as many as it takes: {counters:?}");
    drop((client, target, crowd));
    baseline.assert_restored();
}

/// What a socket does not take of a message is kept in what is left of the rings.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn stalled_readers_of_sealed_messages_bound_memory_and_stop_nobody() {
    let world = start("16MiB");
    let baseline = world.server.baseline();
    let echo = Service::echo();
    let (flood, _) = Service::flood();
    let open = |service: &Service| {
        let client = world.agreed(Level::Confidentiality);
        client.send(&connect_to(service.address()));
        client.expect_granted();
        client
    };
    let before = world.server.rss_anon();
    let stalled: Vec<Client<'_>> = iter::repeat_with(|| open(&flood)).take(200).collect();
    world.server.wait_counters("no ring is left", |counters| counters["rings_free"] == 0);
    for seed in 0..3 {
        let client = open(&echo);
        let data = random_bytes(seed, 200_000);
        assert_same_bytes(&client.exchange(&data, &[30_000, 900]).bytes, &data);
    }
    let grown = world.server.rss_anon() - before;
    assert!(grown < 16 * MIB, "{grown} bytes");
    assert_eq!(world.server.counters()["open"], 200, "the stalled sessions pay nothing for it");
    drop(stalled);
    baseline.assert_restored();
}
