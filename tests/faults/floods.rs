//! More datagrams than anybody can take: sound ones, garbage, fragments, names.

use std::collections::BTreeMap;
use std::iter;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::dns::{Nameserver, Response};
use crate::support::origin::Service;
use crate::support::server::Server;
use crate::support::socks::{datagram, datagram_by_name, fragment, open_session, request_name};
use crate::support::udp::{Association, UdpEcho, UdpOrigin};
use crate::support::{random_bytes, wait_until};

const MIB: u64 = 1 << 20;
/// Every datagram that was sent to a client's port, by what became of it.
const FATES: [&str; 9] = [
    "datagrams_up",
    "drops_stranger",
    "drops_malformed",
    "drops_denied",
    "drops_fragment",
    "drops_unresolved",
    "drops_too_large",
    "drops_unsent",
    "drops_overflow",
];

/// Waits until of all these datagrams it is known what became of them.
#[track_caller]
fn wait_all_counted(server: &Server, sent: u64) {
    server.wait_counters(&format!("{sent} datagrams are counted"), |counters| {
        FATES.iter().map(|fate| counters[*fate]).sum::<u64>() == sent
    });
}

/// Sends these again and again, as fast as the kernel takes them, until it is over.
fn flood(association: &Association, datagrams: &[Vec<u8>], over: &AtomicBool) {
    let (socket, relay) = (association.client(), association.relay());
    while !over.load(Ordering::Relaxed) {
        for datagram in datagrams {
            // One that the kernel has no room for is none of the server's.
            let _ = socket.send_to(datagram, relay);
        }
    }
}

#[test]
fn a_flood_of_datagrams_leaves_others_their_turn() {
    let sink = UdpOrigin::start();
    assert_others_have_their_turn(&[datagram(sink.address(), &[0x5a; 1200])]);
}

#[test]
fn a_flood_of_echoes_leaves_others_their_turn() {
    let echo = UdpEcho::start();
    assert_others_have_their_turn(&[datagram(echo.address(), &[0x5a; 400])]);
}

#[test]
fn a_flood_of_the_longest_datagrams_leaves_others_their_turn() {
    let sink = UdpOrigin::start();
    assert_others_have_their_turn(&[datagram(sink.address(), &[0x5a; 65_000])]);
}

#[test]
fn a_flood_of_garbage_leaves_others_their_turn() {
    let garbage: Vec<Vec<u8>> = (0..64)
        .map(|seed| [&[0, 1][..], &random_bytes(seed, seed as usize * 20)].concat())
        .collect();
    assert_others_have_their_turn(&garbage);
}

/// Beside an association that sends these without a pause, a connection and another association of
/// the same reactor go on: for each of their bytes the flood has had so many datagrams at most.
#[track_caller]
fn assert_others_have_their_turn(datagrams: &[Vec<u8>]) {
    const ROUNDS: u64 = 100;
    /// Some tens of batches: on a busy machine the others are not awake at once.
    const SHARE: u64 = 5000;
    let server = Server::start(&["--workers", "1"]);
    let baseline = server.baseline();
    let (tcp, udp) = (Service::echo(), UdpEcho::start());
    let connection = open_session(server.address(), tcp.address());
    let [flooding, other] = [(); 2].map(|()| Association::open(server.address()));
    // Where garbage goes the first sound datagram has shown the client's port.
    flooding.expect_echo(udp.address(), 10);
    let memory = server.rss_anon();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| flood(&flooding, datagrams, &over));
        server.wait_counters("the flood is there", |counters| all(counters) > 1000);
        let before = all(&server.counters());
        for _ in 0..ROUNDS {
            connection.send(b"ping");
            connection.expect(b"ping");
            drop(open_session(server.address(), tcp.address()));
            other.expect_echo(udp.address(), 100);
        }
        let during = all(&server.counters()) - before;
        over.store(true, Ordering::Relaxed);
        assert!(during < ROUNDS * SHARE, "{during} datagrams of the flood in {ROUNDS} rounds");
        assert!(during > 0, "there was no flood");
    });
    // What a batch is received into is there for good.
    let more = server.rss_anon().saturating_sub(memory);
    assert!(more < 8 * MIB, "{more} bytes more");
    drop((connection, flooding, other));
    baseline.assert_at_rest();
}

fn all(counters: &BTreeMap<String, u64>) -> u64 {
    FATES.iter().map(|fate| counters[*fate]).sum()
}

/// Each is in one counter, whatever the client sends.
#[test]
fn every_datagram_of_a_flood_of_garbage_is_counted() {
    const SENT: u64 = 20_000;
    let server = Server::start(&["--workers", "1"]);
    let baseline = server.baseline();
    let origin = UdpOrigin::start();
    let client = Association::open(server.address());
    client.expect_exchange(&origin, origin.address());
    let memory = server.rss_anon();
    for number in 0..SENT {
        let mut garbage = random_bytes(number, (number % 300) as usize);
        // Never sound: there is no such ATYP.
        if let Some(atyp) = garbage.get_mut(3) {
            *atyp |= 0x10;
        }
        client.send_raw(&garbage);
        if number % 1000 == 0 {
            client.expect_exchange(&origin, origin.address());
        }
    }
    // One that gets through tells of those that did not.
    client.expect_exchange(&origin, origin.address());
    let counters = server.counters();
    let dropped = counters["drops_malformed"] + counters["drops_overflow"];
    assert_eq!(dropped, SENT, "{counters:?}");
    assert!(counters["drops_malformed"] >= 1000, "{counters:?}");
    let more = server.rss_anon().saturating_sub(memory);
    assert!(more < MIB, "{more} bytes more");
    drop(client);
    baseline.assert_at_rest();
}

#[test]
fn what_a_queue_has_no_room_for_is_counted() {
    const SENT: u64 = 20_000;
    let server = Server::start(&["--workers", "1"]);
    let baseline = server.baseline();
    let [origin, probe] = [(); 2].map(|()| UdpOrigin::start());
    let client = Association::open(server.address());
    let asked_from = client.expect_exchange(&origin, origin.address());

    server.signal(Signal::STOP);
    (0..SENT).for_each(|_| client.send_to(origin.address(), b"up"));
    server.signal(Signal::CONT);
    // What is behind a loss tells of it.
    let probes = repeat_until(|| {
        client.send_to(probe.address(), b"up, too");
        probe.receive_within(Duration::from_millis(50)).is_some()
    });
    let counters = server.counters();
    let lost = counters["drops_overflow"];
    assert_eq!(counters["datagrams_up"] + lost, 1 + SENT + probes, "{counters:?}");
    assert!((1..SENT).contains(&lost), "{counters:?}");

    server.signal(Signal::STOP);
    (0..SENT).for_each(|_| origin.send_to(asked_from, b"down"));
    server.signal(Signal::CONT);
    let probes = repeat_until(|| {
        probe.send_to(asked_from, b"down, too");
        let mut received = || client.receive_within(Duration::from_millis(50));
        iter::from_fn(&mut received).any(|(source, _)| source == probe.address())
    });
    let counters = server.counters();
    let lost = counters["drops_overflow"] - lost;
    assert_eq!(counters["datagrams_down"] + lost, 1 + SENT + probes, "{counters:?}");
    assert!((1..SENT).contains(&lost), "{counters:?}");
    drop(client);
    baseline.assert_at_rest();
}

/// How often it took.
fn repeat_until(mut succeeds: impl FnMut() -> bool) -> u64 {
    let mut times = 0;
    wait_until("it succeeds", || {
        times += 1;
        succeeds()
    });
    times
}

/// First parts whose others never come, from many associations: what may be held of them is bounded.
#[test]
fn fragments_without_an_end_are_bounded_and_given_up() {
    const ASSOCIATIONS: usize = 100;
    const PARTS: u8 = 126;
    const PART: usize = 510;
    let server = Server::start(&["--workers", "1"]);
    let baseline = server.baseline();
    let origin = UdpOrigin::start();
    let associations: Vec<Association> =
        (0..ASSOCIATIONS).map(|_| Association::open(server.address())).collect();
    associations.iter().for_each(|it| {
        it.expect_exchange(&origin, origin.address());
    });
    let memory = server.rss_anon();
    let data = [0x5a; PART];
    for _ in 0..3 {
        for association in &associations {
            for frag in 1..=PARTS {
                association.send_fragment(frag, origin.address(), &data);
            }
            association.expect_exchange(&origin, origin.address());
            for frag in 1..=PARTS {
                association.send_fragment(frag, origin.address(), &data);
            }
        }
    }
    let more = server.rss_anon().saturating_sub(memory);
    // 12 MiB would be held of them without a bound.
    assert!(more < 12 * MIB, "{more} bytes more");
    let sent = 3 * 2 * u64::from(PARTS) * ASSOCIATIONS as u64;
    let whole = 1 + 3;
    // They are given up five seconds after the first of them at the latest.
    wait_all_counted(&server, sent + whole * ASSOCIATIONS as u64);
    let counters = server.counters();
    assert_eq!(counters["datagrams_up"], whole * ASSOCIATIONS as u64, "{counters:?}");
    assert_eq!(counters["drops_fragment"] + counters["drops_overflow"], sent, "{counters:?}");
    associations.iter().for_each(|it| {
        it.expect_exchange(&origin, origin.address());
    });
    drop(associations);
    baseline.assert_at_rest();
}

/// Fragments in any order, of any length, to anybody: memory is flat, and whole datagrams pass.
#[test]
fn fragments_without_an_order_harm_nobody() {
    const SENT: u64 = 30_000;
    let server = Server::start(&["--workers", "1"]);
    let baseline = server.baseline();
    let origin = UdpOrigin::start();
    // Some of them are complete all the same.
    let sink = UdpOrigin::start();
    let client = Association::open(server.address());
    client.expect_exchange(&origin, origin.address());
    let memory = server.rss_anon();
    let dice = random_bytes(7, 3 * SENT as usize);
    for (number, dice) in dice.chunks(3).enumerate() {
        let target = SocketAddr::new(sink.address().ip(), sink.port() ^ u16::from(dice[2] & 1));
        let fragment = fragment(dice[0] | 1, target, &random_bytes(1, dice[1].into()));
        client.send_raw(&fragment);
        if number % 500 == 0 {
            client.expect_exchange(&origin, origin.address());
        }
    }
    client.expect_exchange(&origin, origin.address());
    let more = server.rss_anon().saturating_sub(memory);
    assert!(more < MIB, "{more} bytes more");
    drop(client);
    baseline.assert_at_rest();
    assert!(server.counters()["drops_fragment"] > SENT / 2, "{:?}", server.counters());
}

/// Names that nobody answers for: more than one association may ask for, and more than all may.
#[test]
fn names_without_an_answer_leave_others_theirs() {
    const ASSOCIATIONS: usize = 140;
    const NAMES: usize = 60;
    let nameserver = Nameserver::start();
    nameserver.script_others(|_| Response::silence());
    nameserver.addresses("known.example", &["127.0.0.1"]);
    let server = nameserver.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "2s")]);
    let baseline = server.baseline();
    let (tcp, udp) = (Service::echo(), UdpEcho::start());
    let associations: Vec<Association> =
        (0..ASSOCIATIONS).map(|_| Association::open(server.address())).collect();
    let memory = server.rss_anon();
    for (number, association) in associations.iter().enumerate() {
        for name in 0..NAMES {
            let name = format!("n{name}.a{number}.example");
            association.send_to_name(name.as_bytes(), 53, &[0x5a; 1000]);
        }
    }
    // While they wait others do not, nor do their own datagrams to addresses.
    associations.iter().for_each(|it| it.expect_echo(udp.address(), 100));
    for _ in 0..3 {
        let client = request_name(server.address(), "known.example", tcp.address().port());
        client.expect_granted();
        client.send(b"ping");
        client.expect(b"ping");
    }
    // What is known need not be asked for.
    let other = Association::open(server.address());
    other.send_to_name(b"known.example", udp.address().port(), b"by name");
    other.expect(udp.address(), b"by name");

    let more = server.rss_anon().saturating_sub(memory);
    assert!(more < 24 * MIB, "{more} bytes more");
    let sent = ASSOCIATIONS * (NAMES + 1) + 1;
    wait_all_counted(&server, sent as u64);
    let counters = server.counters();
    assert_eq!(counters["drops_unresolved"], (ASSOCIATIONS * NAMES) as u64, "{counters:?}");
    drop((associations, other));
    baseline.assert_at_rest();
}

#[test]
fn a_flood_of_names_is_dropped_and_others_have_theirs_resolved() {
    const NAMES: u64 = 20_000;
    let nameserver = Nameserver::start();
    nameserver.script_others(|_| Response::silence());
    nameserver.addresses("known.example", &["127.0.0.1"]);
    let server = nameserver.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "1s")]);
    let baseline = server.baseline();
    let tcp = Service::echo();
    let udp = UdpEcho::start();
    let [client, other] = [(); 2].map(|()| Association::open(server.address()));
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..NAMES {
                let name = format!("n{number}.silent.example");
                let datagram = datagram_by_name(name.as_bytes(), 53, b"?");
                client.client().send_to(&datagram, client.relay()).expect("loopback has room");
            }
        });
        for number in 0..20 {
            let name = format!("known{number}.example");
            nameserver.addresses(&name, &["127.0.0.1"]);
            request_name(server.address(), &name, tcp.address().port()).expect_granted();
            other.send_to_name(b"known.example", udp.address().port(), &[number]);
            other.expect(udp.address(), &[number]);
        }
    });
    // The end of the flood may still fill the queue; and what is behind a loss tells of it.
    let probes = repeat_until(|| {
        client.send_to(udp.address(), b"!");
        client.receive_within(Duration::from_secs(1)).is_some()
    });
    wait_all_counted(&server, NAMES + probes + 20);
    let counters = server.counters();
    let dropped = counters["drops_unresolved"] + counters["drops_overflow"];
    assert!((NAMES..NAMES + probes).contains(&dropped), "{counters:?}");
    drop((client, other));
    baseline.assert_at_rest();
}

#[test]
fn datagrams_to_a_slow_name_wait_in_order_and_hold_nobody_up() {
    let nameserver = Nameserver::start();
    nameserver.script_others(|_| Response::silence());
    for (name, after) in [("slow.example", 400), ("quick.example", 0)] {
        nameserver.script(name, move |question| {
            let answer = Response::from(question.addresses(&["127.0.0.1"]));
            answer.after(Duration::from_millis(after))
        });
    }
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    let [slow, quick, direct] = [(); 3].map(|()| UdpOrigin::start());
    let client = Association::open(server.address());
    for number in 0..30 {
        client.send_to_name(b"silent.example", slow.port(), b"never");
        client.send_to_name(b"slow.example", slow.port(), &[number]);
        client.send_to_name(b"quick.example", quick.port(), &[number]);
        client.send_to(direct.address(), &[number]);
    }
    for number in 0..30 {
        direct.expect(&[number]);
    }
    for number in 0..30 {
        quick.expect(&[number]);
    }
    // Long before the slow one is known; a busy machine may take as long.
    for number in 0..30 {
        slow.expect(&[number]);
    }
    let asked_from = client.expect_exchange(&slow, (Ipv4Addr::LOCALHOST, slow.port()).into());
    slow.send_to(asked_from, b"and back");
    client.expect(slow.address(), b"and back");
    drop(client);
    baseline.assert_restored();
}
