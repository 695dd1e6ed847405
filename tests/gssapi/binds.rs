//! BIND under a context: both replies are messages of it, and so is what follows.

use std::net::SocketAddr;

use crate::client::{BOTH_LEVELS, Client, Level};
use crate::support::peer::Peer;
use crate::support::random_bytes;
use crate::support::socks::{BIND, refusal, request};
use crate::world::World;

/// From whom a peer is awaited.
const US: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A client whose first reply has told where we listen for its peer.
fn awaiting_a_peer(world: &World, level: Level) -> (Client<'_>, SocketAddr) {
    let client = world.agreed(level);
    client.send(&request(BIND, US));
    let listening = client.expect_granted();
    (client, listening)
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn both_replies_come_under_the_context() {
    let world = World::start();
    let baseline = world.server.baseline();
    for level in BOTH_LEVELS {
        let (client, listening) = awaiting_a_peer(&world, level);
        client.peer.expect_silence(std::time::Duration::from_millis(100));
        let peer = Peer::connect(listening);
        assert_eq!(client.expect_granted(), peer.local_address());
        peer.send(b"from the peer");
        client.expect(b"from the peer");
        client.send(b"from the client");
        peer.expect(b"from the client");
        client.expect_clean_end(&peer);
    }
    baseline.assert_restored();
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn early_data_waits_for_the_peer() {
    let world = World::start();
    for level in BOTH_LEVELS {
        let client = world.agreed(level);
        let data = random_bytes(1, 500);
        client.send(&[&request(BIND, US)[..], &data[..100]].concat());
        let listening = client.expect_granted();
        data[100..].chunks(77).for_each(|piece| client.send(piece));
        let peer = Peer::connect(listening);
        client.expect_granted();
        peer.expect(&data);
        client.expect_clean_end(&peer);
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn that_nobody_came_is_told_under_the_context() {
    let world = World::start_with(&[("RINGSOCKS_BIND_TIMEOUT", "300ms")]);
    for level in BOTH_LEVELS {
        let (client, _) = awaiting_a_peer(&world, level);
        client.expect(&refusal(6));
        client.expect_eof();
    }
}

/// What is early is opened when there is somebody to have it.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_peer_hears_nothing_of_a_broken_message() {
    let world = World::start();
    let baseline = world.server.baseline();
    for level in BOTH_LEVELS {
        let (client, listening) = awaiting_a_peer(&world, level);
        client.peer.send(&client.misprotected_frame(b"early"));
        Peer::connect_and_expect_reset(listening);
    }
    baseline.assert_restored();
}
