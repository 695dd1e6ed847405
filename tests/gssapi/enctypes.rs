//! Every way of Kerberos to encrypt and to sign: those that the server does itself, and those that it
//! leaves to the library. They differ in keys, in checksums and in what a message is longer for.

use std::thread;
use std::time::Duration;

use crate::client::{BOTH_LEVELS, Level, TOKEN_MAX, frame, token_of};
use crate::streams::expect_exchange;
use crate::support::origin::Origin;
use crate::support::realm::Realm;
use crate::support::socks::{UDP_ASSOCIATE, datagram, parse_datagram, request};
use crate::support::udp::{UNSAID, UdpEcho, UdpOrigin};
use crate::support::{assert_same_bytes, random_bytes};
use crate::world::World;

/// Of messages: around a cipher's blocks, and larger ones.
const SIZES: &[usize] = &[1, 15, 16, 17, 31, 32, 33, 1000, 16_384, 40_000];

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn aes128_with_sha1() {
    expect_all("aes128-cts-hmac-sha1-96");
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn aes256_with_sha1() {
    expect_all("aes256-cts-hmac-sha1-96");
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn aes128_with_sha256() {
    expect_all("aes128-cts-hmac-sha256-128");
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn aes256_with_sha384() {
    expect_all("aes256-cts-hmac-sha384-192");
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn camellia256() {
    expect_all("camellia256-cts-cmac");
}

/// Whose messages are of an older form (RFC 4757).
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn rc4() {
    expect_all("arcfour-hmac");
}

#[track_caller]
fn expect_all(enctype: &'static str) {
    let world = World::start_in(Realm::start_with_enctype(enctype), &[], &[]);
    let baseline = world.server.baseline();
    for level in BOTH_LEVELS {
        expect_exchange(&world, level, 1_000_000, SIZES);
        expect_longest(&world, level);
        expect_datagrams(&world, level);
        expect_forgeries_end_it(&world, level);
    }
    baseline.assert_restored();
}

/// Its length is the library's to say.
#[track_caller]
fn expect_longest(world: &World, level: Level) {
    let (client, target) = world.session(level);
    let data = random_bytes(3, client.message_max());
    let framed = client.data_frame(&data);
    assert!(framed.len() > TOKEN_MAX - 32, "{} bytes are not the longest", framed.len());
    client.peer.send(&framed);
    assert_same_bytes(&target.read_exact(data.len()), &data);
    thread::scope(|scope| {
        scope.spawn(|| target.send(&data));
        assert_same_bytes(&client.read_exact(data.len()), &data);
    });
}

#[track_caller]
fn expect_datagrams(world: &World, level: Level) {
    let client = world.agreed(level);
    client.send(&request(UDP_ASSOCIATE, UNSAID));
    let relay = client.expect_granted();
    let (socket, echo) = (UdpOrigin::start(), UdpEcho::start());
    for len in [0, 1, 15, 16, 17, 1200, 1472, 9000, 60_000] {
        let data = random_bytes(len as u64, len);
        let framed = client.data_frame(&datagram(echo.address(), &data));
        // Of two the second is none.
        socket.send_to(relay, &framed);
        socket.send_to(relay, &framed);
        let (came, _) = socket.receive();
        let opened = client.open(token_of(&came));
        assert_eq!(parse_datagram(&opened), Some((echo.address(), &data[..])));
    }
    // Nor is one that came long ago.
    let first = client.data_frame(&datagram(echo.address(), b"first"));
    socket.send_to(relay, &first);
    for _ in 0..200 {
        socket.receive();
        socket.send_to(relay, &client.data_frame(&datagram(echo.address(), b"more")));
    }
    socket.receive();
    socket.send_to(relay, &first);
    socket.expect_silence(Duration::from_millis(100));
}

/// One bit of it, wherever it is: no byte of the token may be anything else than it was.
#[track_caller]
fn expect_forgeries_end_it(world: &World, level: Level) {
    let origin = Origin::start();
    let len = world.agreed(level).data_frame(b"forged").len();
    for changed in 4..len {
        let client = world.agreed(level);
        client.connect(origin.address());
        let target = origin.accept();
        let mut message = client.data_frame(b"forged");
        message[changed] ^= 1 << (changed % 8);
        client.peer.send(&message);
        target.expect_reset();
        client.expect_reset();
    }
    let (client, target) = world.session(level);
    client.peer.send(&frame(3, token_of(&client.data_frame(b"once"))));
    target.expect(b"once");
    client.peer.send(&client.misprotected_frame(b"otherwise"));
    target.expect_reset();
}
