//! UDP ASSOCIATE under a context: each datagram is a message of its own, with the header inside. The
//! messages of the control connection and the datagrams are numbered together; datagrams may be lost
//! or overtake each other, none may come twice.

use std::net::SocketAddr;
use std::time::Duration;

use crate::client::{BOTH_LEVELS, Client, DATA, LEVEL, Level, frame, token_of};
use crate::support::peer::hex;
use crate::support::socks::{UDP_ASSOCIATE, datagram, fragment, parse_datagram, request};
use crate::support::udp::{UNSAID, UdpEcho, UdpOrigin};
use crate::support::{assert_same_bytes, random_bytes};
use crate::world::World;

/// The longest datagram of IPv4.
const DATAGRAM_MAX: usize = 65_507;

/// Before the data of a datagram to an IPv4 address.
const HEADER: usize = 10;

/// How long nothing comes where nothing should.
const A_WHILE: Duration = Duration::from_millis(200);

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn datagrams_go_both_ways() {
    let world = World::start();
    let baseline = world.server.baseline();
    for level in BOTH_LEVELS {
        let association = Association::open(&world, level);
        let origin = UdpOrigin::start();
        for n in 0..50 {
            association.expect_exchange(&origin, n);
        }
    }
    baseline.assert_restored();
    assert_eq!(drops(&world), 0);
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn every_length_goes_both_ways() {
    let world = World::start();
    let echo = UdpEcho::start();
    for level in BOTH_LEVELS {
        let association = Association::open(&world, level);
        let longest = association.data_max();
        for len in [0, 1, 2, 100, 1200, 1472, 1473, 9000, 32_768, 65_000, longest - 1, longest] {
            let data = random_bytes(len as u64, len);
            association.send_to(echo.address(), &data);
            let (source, came) = association.receive();
            assert_eq!(source, echo.address());
            assert_same_bytes(&came, &data);
        }
    }
    assert_eq!(drops(&world), 0);
}

/// There is no way to tell the client of it, and nothing is cut.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn an_answer_that_is_too_long_for_a_message_is_dropped() {
    let world = World::start();
    for level in BOTH_LEVELS {
        let association = Association::open(&world, level);
        let origin = UdpOrigin::start();
        association.send_to(origin.address(), b"how long?");
        let asked_from = origin.expect(b"how long?");
        for len in [association.data_max() + 1, DATAGRAM_MAX] {
            let before = drops(&world);
            origin.send_to(asked_from, &random_bytes(3, len));
            world.server.wait_counters("it is dropped", |counters| sum(counters) == before + 1);
        }
        association.expect_exchange(&origin, 1);
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn bursts_arrive_in_their_order() {
    let world = World::start();
    let echo = UdpEcho::start();
    for level in BOTH_LEVELS {
        let association = Association::open(&world, level);
        for round in 0..10 {
            let burst: Vec<Vec<u8>> = (0..32).map(|n| random_bytes(round * 32 + n, 1200)).collect();
            for data in &burst {
                association.send_to(echo.address(), data);
            }
            for data in &burst {
                assert_same_bytes(&association.receive().1, data);
            }
        }
    }
    assert_eq!(drops(&world), 0);
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn what_is_not_under_the_context_is_dropped() {
    expect_dropped(|association, to| datagram(to, association.word()));
    expect_dropped(|association, to| frame(DATA, &datagram(to, association.word())));
    expect_dropped(|_, _| Vec::new());
    expect_dropped(|_, _| b"x".to_vec());
    expect_dropped(|_, _| frame(DATA, &[]));
    expect_dropped(|_, _| frame(DATA, &random_bytes(1, 1000)));
    expect_dropped(|_, _| vec![1, 0xff]);
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn what_is_framed_otherwise_is_dropped() {
    for (place, value) in [(0, 0), (0, 2), (0, 5), (1, 1), (1, LEVEL), (1, 4), (1, 0xff)] {
        expect_dropped(move |association, to| {
            let mut framed = association.framed(&datagram(to, association.word()));
            framed[place] = value;
            framed
        });
    }
}

/// LEN is what is left of the datagram, no more and no less.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn what_is_longer_or_shorter_than_it_says_is_dropped() {
    expect_dropped(|association, to| {
        let mut framed = association.framed(&datagram(to, association.word()));
        framed.push(0);
        framed
    });
    expect_dropped(|association, to| {
        let mut framed = association.framed(&datagram(to, association.word()));
        framed.pop();
        framed
    });
    expect_dropped(|association, to| {
        let framed = association.framed(&datagram(to, association.word()));
        let other = association.framed(&datagram(to, association.word()));
        [framed, other].concat()
    });
    expect_dropped(|association, to| {
        let mut framed = association.framed(&datagram(to, association.word()));
        framed[3] = framed[3].wrapping_sub(1);
        framed
    });
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn what_was_changed_on_its_way_is_dropped() {
    for from_the_end in [1, 5, 12, 13, 20, 30] {
        expect_dropped(move |association, to| {
            let mut framed = association.framed(&datagram(to, association.word()));
            let changed = framed.len() - from_the_end;
            framed[changed] ^= 1;
            framed
        });
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn what_is_not_protected_as_agreed_is_dropped() {
    expect_dropped(|association, to| {
        association.client.misprotected_frame(&datagram(to, association.word()))
    });
}

/// Its header is inside, and read only once it is known to be the client's.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn what_has_no_header_inside_is_dropped() {
    for inside in [&[][..], &[0; 3], &[0, 0, 0, 1, 127], &[0, 0, 0, 2, 1, 2, 3, 4, 5, 6]] {
        let inside = inside.to_vec();
        expect_dropped(move |association, _| association.framed(&inside));
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn what_comes_twice_is_relayed_once() {
    let world = World::start();
    for level in BOTH_LEVELS {
        let (association, origin) = (Association::open(&world, level), UdpOrigin::start());
        let before = drops(&world);
        let framed = association.framed(&datagram(origin.address(), b"once"));
        for _ in 0..3 {
            association.send_raw(&framed);
        }
        origin.expect(b"once");
        world.server.wait_counters("two are dropped", |counters| sum(counters) == before + 2);
        association.expect_exchange(&origin, 1);
        // Much later, when many others have come, it is none the more welcome.
        for later in [1, 10, 100, 1000] {
            let before = drops(&world);
            (0..later).for_each(|n| association.expect_exchange(&origin, n));
            association.send_raw(&framed);
            world.server.wait_counters("one is dropped", |counters| sum(counters) == before + 1);
        }
        association.expect_exchange(&origin, 2);
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn what_is_lost_is_missed_by_nobody() {
    let world = World::start();
    for level in BOTH_LEVELS {
        let (association, origin) = (Association::open(&world, level), UdpOrigin::start());
        for n in 0..10 {
            association.framed(&datagram(origin.address(), b"lost"));
            association.expect_exchange(&origin, n);
        }
    }
    assert_eq!(drops(&world), 0);
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn what_overtakes_is_relayed_as_it_comes() {
    let world = World::start();
    for level in BOTH_LEVELS {
        let (association, origin) = (Association::open(&world, level), UdpOrigin::start());
        let framed: Vec<Vec<u8>> = (0..8u8)
            .map(|n| association.framed(&datagram(origin.address(), &[b'a' + n])))
            .collect();
        for n in [2usize, 0, 1, 7, 3, 6, 5, 4] {
            association.send_raw(&framed[n]);
            origin.expect(&[b'a' + n as u8]);
        }
        association.expect_exchange(&origin, 1);
    }
    assert_eq!(drops(&world), 0);
}

/// Each is a message of its own; they are put together inside.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn fragments_are_messages_too() {
    let world = World::start();
    for level in BOTH_LEVELS {
        let (association, origin) = (Association::open(&world, level), UdpOrigin::start());
        for (frag, data) in [(1, b"one "), (2, b"two "), (0x83, b"last")] {
            association.send_raw(&association.framed(&fragment(frag, origin.address(), data)));
        }
        origin.expect(b"one two last");
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_context_without_sequence_relays_datagrams_and_none_twice() {
    use crate::support::initiator::{Flag, Mechanism};
    let world = World::start();
    let flags = Flag::usual_without(Flag::Sequence);
    let mut client = world.establish(world.alice.begin_with(Mechanism::Kerberos, &flags));
    client.agree(Level::Confidentiality);
    let (association, origin) = (Association::granted(client), UdpOrigin::start());
    association.expect_exchange(&origin, 1);
    let framed = association.framed(&datagram(origin.address(), b"once"));
    association.send_raw(&framed);
    association.send_raw(&framed);
    origin.expect(b"once");
    origin.expect_silence(A_WHILE);
    association.expect_exchange(&origin, 2);
}

/// What the control connection carries is for nobody, and numbered with the rest.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn messages_on_the_control_connection_are_thrown_away() {
    let world = World::start();
    let baseline = world.server.baseline();
    for level in BOTH_LEVELS {
        let (association, origin) = (Association::open(&world, level), UdpOrigin::start());
        association.expect_exchange(&origin, 1);
        for n in 0..20 {
            association.client.send(b"anybody there?");
            association.expect_exchange(&origin, n);
        }
        association.client.peer.fin();
        association.client.expect_eof();
    }
    baseline.assert_restored();
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn the_end_of_the_control_connection_is_the_associations() {
    let world = World::start();
    let baseline = world.server.baseline();
    for level in BOTH_LEVELS {
        let (association, origin) = (Association::open(&world, level), UdpOrigin::start());
        association.expect_exchange(&origin, 1);
        let (relay, framed) = {
            let framed = association.framed(&datagram(origin.address(), b"too late"));
            (association.relay, framed)
        };
        let Association { client, socket, .. } = association;
        drop(client);
        world.server.wait_counter("open", 0);
        socket.send_to(relay, &framed);
        origin.expect_silence(A_WHILE);
    }
    baseline.assert_restored();
}

/// A datagram that is dropped and counted, at either level, and hurts nothing.
#[track_caller]
fn expect_dropped(bad: impl Fn(&Association<'_>, SocketAddr) -> Vec<u8>) {
    let world = World::start();
    for level in BOTH_LEVELS {
        let (association, origin) = (Association::open(&world, level), UdpOrigin::start());
        // Before anything good has come, and after it.
        for n in 0..2 {
            let before = drops(&world);
            association.send_raw(&bad(&association, origin.address()));
            world.server.wait_counters("it is dropped", |counters| sum(counters) == before + 1);
            association.expect_exchange(&origin, n);
        }
    }
}

#[track_caller]
fn drops(world: &World) -> u64 {
    sum(&world.server.counters())
}

/// Every datagram that was dropped, for whatever reason.
fn sum(counters: &std::collections::BTreeMap<String, u64>) -> u64 {
    counters.iter().filter(|(name, _)| name.starts_with("drops_")).map(|(_, count)| count).sum()
}

/// As its client holds it.
struct Association<'a> {
    client: Client<'a>,
    socket: UdpOrigin,
    relay: SocketAddr,
}

impl<'a> Association<'a> {
    #[track_caller]
    fn open(world: &'a World, level: Level) -> Association<'a> {
        Association::granted(world.agreed(level))
    }

    #[track_caller]
    fn granted(client: Client<'a>) -> Association<'a> {
        client.send(&request(UDP_ASSOCIATE, UNSAID));
        let relay = client.expect_granted();
        Association { client, socket: UdpOrigin::start(), relay }
    }

    /// What may never reach a target.
    fn word(&self) -> &'static [u8] {
        b"not to be relayed"
    }

    /// As it goes on the wire.
    #[track_caller]
    fn framed(&self, datagram: &[u8]) -> Vec<u8> {
        self.client.data_frame(datagram)
    }

    /// The longest data whose message fits a datagram.
    #[track_caller]
    fn data_max(&self) -> usize {
        let overhead = token_of(&self.framed(&[])).len();
        DATAGRAM_MAX - 4 - overhead - HEADER
    }

    #[track_caller]
    fn send_to(&self, target: SocketAddr, data: &[u8]) {
        self.send_raw(&self.framed(&datagram(target, data)));
    }

    #[track_caller]
    fn send_raw(&self, bytes: &[u8]) {
        self.socket.send_to(self.relay, bytes);
    }

    /// The source and the data of the next datagram, which is a message of the context's.
    #[track_caller]
    fn receive(&self) -> (SocketAddr, Vec<u8>) {
        let (came, sender) = self.socket.receive();
        assert_eq!(sender, self.relay);
        let len = u16::try_from(came.len() - 4).expect("no longer than a datagram");
        assert_eq!(came[..4], [&[1, DATA], &len.to_be_bytes()[..]].concat());
        let opened = self.client.open(token_of(&came));
        match parse_datagram(&opened) {
            Some((source, data)) => (source, data.to_vec()),
            None => panic!("no header in {}", hex(&opened)),
        }
    }

    /// A datagram reaches `origin`, and nothing came before it; its answer comes back likewise.
    #[track_caller]
    fn expect_exchange(&self, origin: &UdpOrigin, number: u64) {
        let (question, answer) = (random_bytes(number, 20), random_bytes(number, 30));
        self.send_to(origin.address(), &question);
        let asked_from = origin.expect(&question);
        origin.send_to(asked_from, &answer);
        let (source, came) = self.receive();
        assert_eq!(source, origin.address());
        assert_same_bytes(&came, &answer);
    }
}
