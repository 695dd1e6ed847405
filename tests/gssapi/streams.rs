//! What is said under a context (RFC 1961 section 5): a stream, however it is cut into messages.

use std::net::SocketAddr;
use std::thread;

use crate::client::{BOTH_LEVELS, Client, DATA, Level, TOKEN_MAX, read_frame};
use crate::support::dns::Nameserver;
use crate::support::origin::{ClosedPort, Origin, Service};
use crate::support::peer::End;
use crate::support::socks::{connect_to, connect_to_name, refusal, request};
use crate::support::{assert_same_bytes, random_bytes, wait_until};
use crate::world::World;

const MB: usize = 1_000_000;

/// What AES with SHA-1 leaves of a token.
const MESSAGE_MAX: [usize; 2] = [65_507, 65_475];

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_request_may_come_a_byte_a_message() {
    let world = World::start();
    for level in BOTH_LEVELS {
        let origin = Origin::start();
        let client = world.agreed(level);
        for byte in connect_to(origin.address()) {
            client.send(&[byte]);
        }
        client.expect_granted();
        client.expect_flow(&origin.accept());
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_message_may_come_a_byte_a_segment() {
    let world = World::start();
    for level in BOTH_LEVELS {
        let origin = Origin::start();
        let client = world.agreed(level);
        client.peer.send_byte_by_byte(&client.data_frame(&connect_to(origin.address())));
        client.expect_granted();
        let target = origin.accept();
        client.peer.send_byte_by_byte(&client.data_frame(b"slowly"));
        target.expect(b"slowly");
        client.expect_flow(&target);
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn data_may_come_in_the_message_of_the_request() {
    let world = World::start();
    for level in BOTH_LEVELS {
        let origin = Origin::start();
        let client = world.agreed(level);
        client.send(&[connect_to(origin.address()), b"EARLY".to_vec()].concat());
        client.expect_granted();
        let target = origin.accept();
        target.expect(b"EARLY");
        client.expect_flow(&target);
    }
}

/// As much as goes in one message.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn much_data_may_come_in_the_message_of_the_request() {
    let world = World::start();
    for level in BOTH_LEVELS {
        let origin = Origin::start();
        let client = world.agreed(level);
        let request = connect_to(origin.address());
        let data = random_bytes(1, client.message_max() - request.len());
        client.send(&[&request[..], &data].concat());
        client.expect_granted();
        let target = origin.accept();
        assert_same_bytes(&target.read_exact(data.len()), &data);
        client.expect_flow(&target);
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn data_may_come_in_messages_behind_the_request() {
    let world = World::start();
    for level in BOTH_LEVELS {
        let origin = Origin::start();
        let client = world.agreed(level);
        let (head, tail) = (connect_to(origin.address()), random_bytes(2, 100_000));
        let (cut, rest) = head.split_at(3);
        let mut messages = vec![client.data_frame(cut), client.data_frame(rest)];
        messages.extend(tail.chunks(7001).map(|piece| client.data_frame(piece)));
        client.peer.send(&messages.concat());
        client.expect_granted();
        let target = origin.accept();
        assert_same_bytes(&target.read_exact(tail.len()), &tail);
        client.expect_flow(&target);
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_message_of_no_bytes_says_nothing() {
    let world = World::start();
    for level in BOTH_LEVELS {
        let origin = Origin::start();
        let client = world.agreed(level);
        client.send(b"");
        client.send(&connect_to(origin.address()));
        client.send(b"");
        client.expect_granted();
        let target = origin.accept();
        client.expect_flow(&target);
        client.send(b"");
        client.expect_flow(&target);
        client.peer.fin();
        target.expect_eof();
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn every_failure_is_told_under_the_context() {
    let nameserver = Nameserver::start();
    let resolver = nameserver.address().to_string();
    let env = [
        ("RINGSOCKS_LISTEN_TARGETS", "127.0.0.1/32"),
        ("RINGSOCKS_LISTEN_COMMANDS", "connect"),
        ("RINGSOCKS_RESOLVER", &resolver[..]),
    ];
    let world = World::start_with(&env);
    let baseline = world.server.baseline();
    let closed = ClosedPort::everywhere();
    let denied: SocketAddr = ([127, 0, 0, 2], 80).into();
    let unknown_atyp = [&[5, 1, 0, 2], &[0; 6][..]].concat();
    for level in BOTH_LEVELS {
        expect_refused(&world, level, &connect_to(closed.address()), 5);
        expect_refused(&world, level, &connect_to(denied), 2);
        expect_refused(&world, level, &connect_to_name(b"nobody.example", 80), 4);
        expect_refused(&world, level, &request(9, closed.address()), 7);
        expect_refused(&world, level, &request(2, closed.address()), 7);
        expect_refused(&world, level, &unknown_atyp, 8);
        expect_refused(&world, level, &[4, 1, 0, 1, 127, 0, 0, 1, 0, 80], 1);
    }
    baseline.assert_restored();
}

/// What came behind a request that is refused is for nobody, and costs the refusal nothing.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_refusal_arrives_though_more_comes_behind_the_request() {
    let world = World::start();
    let closed = ClosedPort::everywhere();
    let client = world.agreed(Level::Confidentiality);
    let more = random_bytes(3, 50_000);
    let heard = client.exchange(&[connect_to(closed.address()), more].concat(), &[10, 30_000]);
    assert_eq!((&heard.bytes[..], heard.end), (&refusal(5)[..], End::Fin));
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn the_longest_messages_go_both_ways() {
    let world = World::start();
    for (level, longest) in BOTH_LEVELS.into_iter().zip(MESSAGE_MAX) {
        let (client, target) = world.session(level);
        assert_eq!(client.message_max(), longest);
        let up = random_bytes(4, longest);
        let framed = client.data_frame(&up);
        assert!(framed.len() > TOKEN_MAX - 16, "{} bytes are not the longest", framed.len());
        client.peer.send(&framed);
        assert_same_bytes(&target.read_exact(longest), &up);

        let down = random_bytes(5, 40 * longest);
        thread::scope(|scope| {
            scope.spawn(|| target.send(&down));
            assert_same_bytes(&client.read_exact(down.len()), &down);
        });
    }
}

/// A target's few bytes are told at once: no message waits until it is full.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_byte_is_told_at_once() {
    let world = World::start();
    for level in BOTH_LEVELS {
        let (client, target) = world.session(level);
        for byte in 0..50 {
            target.send(&[byte]);
            client.expect(&[byte]);
            client.send(&[byte]);
            target.expect(&[byte]);
        }
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn messages_of_any_length_go_both_ways_at_once() {
    let world = World::start();
    let baseline = world.server.baseline();
    for level in BOTH_LEVELS {
        for seed in 0..4 {
            let noise = random_bytes(seed, 400);
            let sizes: Vec<usize> = noise.chunks(2).map(size).collect();
            expect_exchange(&world, level, 3 * MB, &sizes);
        }
    }
    baseline.assert_restored();
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_hundred_megabytes_go_both_ways_at_once_with_integrity() {
    expect_bulk(Level::Integrity);
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_hundred_megabytes_go_both_ways_at_once_with_confidentiality() {
    expect_bulk(Level::Confidentiality);
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn half_close_by_the_client_leaves_the_answer_whole() {
    let world = World::start();
    let (question, answer) = (random_bytes(6, 200_000), random_bytes(7, 500_000));
    for level in BOTH_LEVELS {
        let (client, target) = world.session(level);
        thread::scope(|scope| {
            let heard = scope.spawn(|| client.exchange(&question, &[9000]));
            let asked = target.read_to_end();
            assert_same_bytes(&asked.bytes, &question);
            assert_eq!(asked.end, End::Fin);
            target.send(&answer);
            target.fin();
            let heard = heard.join().expect("reading does not panic");
            assert_same_bytes(&heard.bytes, &answer);
            assert_eq!(heard.end, End::Fin);
        });
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn half_close_by_the_target_leaves_the_question_whole() {
    let world = World::start();
    let (first, second) = (random_bytes(8, 500_000), random_bytes(9, 200_000));
    for level in BOTH_LEVELS {
        let (client, target) = world.session(level);
        thread::scope(|scope| {
            let heard = scope.spawn(|| target.exchange(&first));
            let told = client.read_to_end();
            assert_same_bytes(&told.bytes, &first);
            assert_eq!(told.end, End::Fin);
            second.chunks(9000).for_each(|piece| client.send(piece));
            client.peer.fin();
            let heard = heard.join().expect("reading does not panic");
            assert_same_bytes(&heard.bytes, &second);
            assert_eq!(heard.end, End::Fin);
        });
    }
}

/// A FIN in the middle of a message is no clean end: something of it is missing.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn an_end_in_the_middle_of_a_message_is_a_reset() {
    let world = World::start();
    let baseline = world.server.baseline();
    for level in BOTH_LEVELS {
        for cut in [1, 4, 5, 40] {
            let (client, target) = world.session(level);
            client.send(b"whole");
            let message = client.data_frame(&random_bytes(10, 100));
            client.peer.send(&message[..cut]);
            client.peer.fin();
            target.expect(b"whole");
            target.expect_reset();
        }
    }
    baseline.assert_restored();
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_reset_stays_a_reset() {
    let world = World::start();
    let baseline = world.server.baseline();
    for level in BOTH_LEVELS {
        let (client, target) = world.session(level);
        target.send(b"last words");
        client.expect(b"last words");
        target.reset();
        client.expect_reset();

        let (client, target) = world.session(level);
        client.send(b"last words");
        target.expect(b"last words");
        client.peer.reset();
        target.expect_reset();
    }
    baseline.assert_restored();
}

/// A client that does not read stops its target, and what it has not read is bounded.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_stopped_client_stops_its_target() {
    use std::sync::atomic::Ordering::Relaxed;
    let world = World::start();
    let before = world.server.rss_anon();
    let (flood, taken) = Service::flood();
    let client = world.agreed(Level::Confidentiality);
    client.connect(flood.address());
    let mut last = 0;
    wait_until("the target is stopped", || {
        thread::sleep(std::time::Duration::from_millis(300));
        std::mem::replace(&mut last, taken.load(Relaxed)) == taken.load(Relaxed) && last > 0
    });
    let grown = world.server.rss_anon().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes for a client that does not read");
    // Others are none the worse for it, and it is heard out once it reads.
    let (other, target) = world.session(Level::Integrity);
    other.expect_flow(&target);
    assert!(client.read_exact(5 * MB).iter().all(|byte| *byte == 0x5a));
}

/// So many sessions at once, each with its own context.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn sessions_side_by_side_mix_nothing_up() {
    let world = World::start();
    let baseline = world.server.baseline();
    let echo = Service::echo();
    let clients: Vec<Client<'_>> = (0..100)
        .map(|n| {
            let client = world.agreed(BOTH_LEVELS[n % 2]);
            client.connect(echo.address());
            client
        })
        .collect();
    for (seed, client) in (0..).zip(&clients) {
        client.send(&random_bytes(seed, 4096));
    }
    for (seed, client) in (0..).zip(&clients) {
        client.expect(&random_bytes(seed, 4096));
        client.peer.fin();
        client.expect_eof();
    }
    drop(clients);
    baseline.assert_restored();
}

/// Where the longest are as likely as the shortest.
fn size(noise: &[u8]) -> usize {
    let noise = usize::from(u16::from_be_bytes([noise[0], noise[1]]));
    match noise % 4 {
        0 => 1 + noise % 16,
        1 => 1 + noise % 2000,
        2 => 1 + noise % MESSAGE_MAX[1],
        _ => MESSAGE_MAX[1],
    }
}

/// The kernel cannot seal what it moves by itself.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn where_everything_else_is_spliced_messages_are_not() {
    for relay in ["splice", "copy"] {
        let world = World::start_with(&[("RINGSOCKS_RELAY", relay)]);
        let baseline = world.server.baseline();
        for level in BOTH_LEVELS {
            expect_exchange(&world, level, 5 * MB, &[MESSAGE_MAX[1], 20_000]);
        }
        baseline.assert_restored();
    }
}

#[track_caller]
fn expect_bulk(level: Level) {
    let world = World::start();
    let baseline = world.server.baseline();
    expect_exchange(&world, level, 100 * MB, &[MESSAGE_MAX[1]]);
    baseline.assert_restored();
    let counters = world.server.counters();
    let bytes = [counters["bytes_up"], counters["bytes_down"]];
    assert_eq!(bytes, [100 * MB as u64; 2], "what was carried, and not how");
}

/// So many bytes go each way at once, the client's in messages as long as these (again and again).
#[track_caller]
pub(crate) fn expect_exchange(world: &World, level: Level, len: usize, sizes: &[usize]) {
    let (up, down) = (random_bytes(11, len), random_bytes(12, len));
    let (client, target) = world.session(level);
    thread::scope(|scope| {
        let at_target = scope.spawn(|| target.exchange(&down));
        let at_client = client.exchange(&up, sizes);
        let at_target = at_target.join().expect("reading does not panic");
        for (received, sent) in [(at_client, &down), (at_target, &up)] {
            assert_same_bytes(&received.bytes, sent);
            assert_eq!(received.end, End::Fin);
        }
    });
}

/// The reply is a message of its own, and there is no other.
#[track_caller]
fn expect_refused(world: &World, level: Level, request: &[u8], rep: u8) {
    let client = world.agreed(level);
    client.send(request);
    let reply = client.open(&read_frame(&client.peer, DATA));
    assert_eq!((reply.len(), &reply[..2]), (10, &[5, rep][..]), "{request:02x?}");
    client.expect_eof();
}
