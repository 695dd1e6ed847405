//! Datagrams of every size, alone and in runs, arrive as they were or not at all.

use std::io::IoSlice;
use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU16;
use std::os::fd::AsFd;

use ringsocks::sys::{Batch, Outgoing, prepare_datagram_socket, send_datagrams};

use crate::injected::Faulty;
use crate::support::lan::{GATEWAY_V4, GATEWAY_V6, Lan, OTHER_V4, OTHER_V6};
use crate::support::server::Server;
use crate::support::socks::{datagram, parse_datagram};
use crate::support::udp::{Association, UdpOrigin, bind};
use crate::support::{assert_same_bytes, random_bytes, wait_until};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
/// The most that a UDP datagram carries over IPv4 and over IPv6.
const MOST_V4: usize = 65_507;
const MOST_V6: usize = 65_527;
/// What goes before the data in a datagram to or from an address of each family.
const HEADER_V4: usize = 10;
const HEADER_V6: usize = 22;
/// What the kernel's queues have room for at once, with some to spare.
const BURST: usize = 1 << 20;

/// Every length up to two packets of the common kinds, and around every limit after it.
fn lengths(most: usize) -> impl Iterator<Item = usize> {
    let small = (0..64).chain((64..3100).step_by(37)).chain(1400..1480);
    let around = (12..=16).map(|log2| 1_usize << log2).flat_map(|it| it - 30..it + 3);
    let large = (4000..most).step_by(4001).chain(most - 60..=most);
    small.chain(around).chain(large).filter(move |len| *len <= most)
}

#[test]
fn every_size_arrives_whole_in_both_directions() {
    for (client_at, target_at, most) in [
        (V4, V4, MOST_V4 - HEADER_V4),
        (V6, V6, MOST_V6 - HEADER_V6),
        (V6, V4, MOST_V4),
        (V4, V6, MOST_V4 - HEADER_V6),
    ] {
        let listen = SocketAddr::from((client_at, 0)).to_string();
        let server = Server::start(&["--listen", &listen]);
        let baseline = server.baseline();
        let origin = UdpOrigin::start_on(target_at);
        let client = Association::open(server.address());
        let asked_from = client.expect_exchange(&origin, origin.address());
        for len in lengths(most) {
            let (up, down) = (random_bytes(1, len), random_bytes(2, len));
            client.send_to(origin.address(), &up);
            origin.send_to(asked_from, &down);
            assert_same_bytes(&origin.receive().0, &up);
            let (source, received) = client.receive();
            assert_eq!(source, origin.address());
            assert_same_bytes(&received, &down);
        }
        assert_eq!(drops(&server), 0, "{:?}", server.counters());
        drop(client);
        baseline.assert_at_rest();
    }
}

fn drops(server: &Server) -> u64 {
    let counters = server.counters();
    counters.iter().filter(|(name, _)| name.starts_with("drops_")).map(|(_, count)| count).sum()
}

/// With the header in front of it a datagram may be longer than any can be: it is not cut.
#[test]
fn what_is_too_long_is_dropped_and_counted() {
    let server = Server::start(&["--workers", "1"]);
    let baseline = server.baseline();
    let [origin, origin_v6] = [V4, V6].map(UdpOrigin::start_on);
    let client = Association::open(server.address());
    let asked_from = client.expect_exchange(&origin, origin.address());
    let asked_from_v6 = client.expect_exchange(&origin_v6, origin_v6.address());
    let asked_from_v6 = SocketAddr::new(V6, asked_from_v6.port());
    let mut dropped = 0;
    for len in MOST_V4 - HEADER_V4 + 1..=MOST_V4 {
        origin.send_to(asked_from, &random_bytes(1, len));
        dropped += 1;
    }
    client.expect_exchange(&origin, origin.address());
    for len in [MOST_V4 - HEADER_V6 + 1, MOST_V4, MOST_V6] {
        origin_v6.send_to(asked_from_v6, &random_bytes(1, len));
        dropped += 1;
    }
    client.expect_exchange(&origin_v6, origin_v6.address());
    assert_eq!(server.counters()["drops_too_large"], dropped);
    drop(client);

    // IPv6 to the proxy carries more than IPv4 behind it can.
    let server_v6 = Server::start(&["--listen", "[::1]:0", "--workers", "1"]);
    let client = Association::open(server_v6.address());
    for len in MOST_V4 + 1..=MOST_V6 - HEADER_V4 {
        client.send_to(origin.address(), &random_bytes(1, len));
    }
    client.expect_exchange(&origin, origin.address());
    let dropped = (MOST_V6 - HEADER_V4 - MOST_V4) as u64;
    assert_eq!(server_v6.counters()["drops_too_large"], dropped);
    drop(client);
    baseline.assert_at_rest();
}

/// Data of these lengths, each different from the others.
fn parts(seed: u64, lengths: impl IntoIterator<Item = usize>) -> Vec<Vec<u8>> {
    (seed..).zip(lengths).map(|(seed, len)| random_bytes(seed, len)).collect()
}

/// Datagrams of one length, the last of which may be shorter, as the kernel carries them together.
fn send_run(socket: &UdpSocket, to: SocketAddr, run: &[Vec<u8>]) {
    let slices: Vec<IoSlice<'_>> = run.iter().map(|it| IoSlice::new(it)).collect();
    let segment = u16::try_from(run[0].len()).ok().and_then(NonZeroU16::new);
    let message =
        Outgoing { to: Some(to), parts: &slices, segment: segment.filter(|_| run.len() > 1) };
    assert_eq!(send_datagrams(socket.as_fd(), &[message]).expect("it is sent"), 1);
}

/// Lengths of runs, and of what is in them.
const RUNS: [(usize, usize, usize); 9] = [
    (2, 1, 1),
    (2, 1200, 7),
    (10, 1200, 1200),
    (45, 1400, 1),
    (53, 1200, 1199),
    (64, 64, 63),
    (64, 1000, 999),
    (3, 20_000, 19_999),
    (16, 4000, 3999),
];

fn run(seed: u64, (count, each, last): (usize, usize, usize)) -> Vec<Vec<u8>> {
    parts(seed, iter::repeat_n(each, count - 1).chain([last]))
}

#[test]
fn runs_arrive_whole_in_both_directions() {
    for (client_at, target_at) in [(V4, V4), (V6, V6), (V4, V6), (V6, V4)] {
        let listen = SocketAddr::from((client_at, 0)).to_string();
        let server = Server::start(&["--listen", &listen, "--workers", "1"]);
        let baseline = server.baseline();
        let origin = UdpOrigin::start_on(target_at);
        let client = Association::open(server.address());
        let asked_from = client.expect_exchange(&origin, origin.address());
        // What answers as a run must be at an address that was asked.
        let answering = bind(target_at);
        let own = answering.local_addr().expect("it is bound");
        let asked_from = SocketAddr::new(target_at, asked_from.port());
        for (seed, shape) in (1000..).step_by(1000).zip(RUNS) {
            let run = run(seed, shape);
            let with_headers: Vec<Vec<u8>> =
                run.iter().map(|it| datagram(origin.address(), it)).collect();
            send_run(client.client(), client.relay(), &with_headers);
            for part in &run {
                assert_same_bytes(&origin.receive().0, part);
            }
            send_run(&answering, asked_from, &run);
            for part in &run {
                let (source, data) = client.receive();
                assert_eq!(source, own);
                assert_same_bytes(&data, part);
            }
        }
        assert_eq!(drops(&server), 0, "{:?}", server.counters());
        drop(client);
        baseline.assert_at_rest();
    }
}

/// A receiver that takes runs is sent runs: each way the server has made one call of many.
#[test]
fn runs_stay_runs_where_both_ends_know_them() {
    let server = Server::start(&["--workers", "1"]);
    let baseline = server.baseline();
    let (origin, client) = (bind(V4), Association::open(server.address()));
    let own = origin.local_addr().expect("it is bound");
    for socket in [&origin, client.client()] {
        prepare_datagram_socket(socket.as_fd(), BURST);
    }
    let run = run(1, (40, 1200, 700));
    let with_headers: Vec<Vec<u8>> = run.iter().map(|it| datagram(own, it)).collect();
    send_run(client.client(), client.relay(), &with_headers);
    let (asked_from, segment) = receive_run(&origin, &run);
    assert_eq!(segment, NonZeroU16::new(1200));

    send_run(&origin, asked_from, &run);
    let expected: Vec<Vec<u8>> = run.iter().map(|it| datagram(own, it)).collect();
    let (_, segment) = receive_run(client.client(), &expected);
    assert_eq!(segment, NonZeroU16::new(1200 + HEADER_V4 as u16));
    drop(client);
    baseline.assert_at_rest();
}

/// Receives these in one message or several; who sent them, and how the first was cut.
#[track_caller]
fn receive_run(socket: &UdpSocket, expected: &[Vec<u8>]) -> (SocketAddr, Option<NonZeroU16>) {
    let mut batch = Batch::new();
    let mut received: Vec<Vec<u8>> = Vec::new();
    let mut first = None;
    wait_until("the run arrives", || {
        if batch.receive(socket.as_fd(), 1).is_ok() {
            for message in batch.messages() {
                first.get_or_insert((message.source, message.segment));
                received.extend(message.datagrams().map(<[u8]>::to_vec));
            }
        }
        received.len() >= expected.len()
    });
    assert_eq!(received.len(), expected.len());
    for (received, expected) in received.iter().zip(expected) {
        assert_same_bytes(received, expected);
    }
    first.expect("a message")
}

/// Bursts of equal and unequal lengths to several targets at once: each gets its own, in order.
#[test]
fn bursts_to_several_targets_arrive_whole_and_in_order() {
    let server = Server::start(&["--workers", "1"]);
    let baseline = server.baseline();
    let origins = [V4, V6, V4, V6].map(UdpOrigin::start_on);
    let client = Association::open(server.address());
    for round in 0..30_u64 {
        let dice = random_bytes(round + 1, 400);
        let mut expected = [const { Vec::new() }; 4];
        let mut bytes = 0;
        for (number, dice) in dice.chunks(2).enumerate() {
            // Runs of one target and one length, now and then broken.
            let to = usize::from(dice[0] / 16 % 4);
            let len = if dice[1] < 32 { usize::from(dice[1]) } else { 300 + 100 * to };
            let data = random_bytes(1000 * round + number as u64, len);
            bytes += len;
            client.send_to(origins[to].address(), &data);
            expected[to].push(data);
        }
        assert!(bytes < BURST);
        for (origin, expected) in origins.iter().zip(&expected) {
            for data in expected {
                assert_same_bytes(&origin.receive().0, data);
            }
        }
    }
    assert_eq!(drops(&server), 0, "{:?}", server.counters());
    drop(client);
    baseline.assert_at_rest();
}

/// IPv4 gets 700 bytes through, and IPv6, which has no links below 1,280, gets 1,300.
fn narrow_lan() -> Lan {
    let lan = Lan::new();
    for host in [&lan.gateway, &lan.other] {
        host.run("ip link set cable mtu 1300");
    }
    lan.gateway.run(&format!("ip route replace {OTHER_V4} dev cable src {GATEWAY_V4} mtu 700"));
    lan
}

/// A way that carries less than one of a run's datagrams: they go one by one, and in pieces.
#[test]
#[ignore = "needs root: tests/run"]
fn runs_longer_than_the_way_is_wide_arrive_whole() {
    let lan = narrow_lan();
    let origins = lan.other.enter(|| [OTHER_V4, OTHER_V6].map(UdpOrigin::start_on));
    let answering = lan.other.enter(|| [OTHER_V4, OTHER_V6].map(bind));
    lan.gateway.enter(|| {
        let server = Server::start(&["--workers", "1"]);
        let baseline = server.baseline();
        let client = Association::open(server.address());
        let gateways = [GATEWAY_V4, GATEWAY_V6];
        for ((origin, answering), gateway) in origins.iter().zip(&answering).zip(gateways) {
            let asked_from = client.expect_exchange(origin, origin.address());
            let asked_from = SocketAddr::new(gateway, asked_from.port());
            let shapes = [(20, 1200, 1200), (20, 1400, 3), (2, 9000, 1), (30, 500, 499)];
            for (seed, shape) in (1000..).step_by(1000).zip(shapes) {
                let run = run(seed, shape);
                let with_headers: Vec<Vec<u8>> =
                    run.iter().map(|it| datagram(origin.address(), it)).collect();
                with_headers.iter().for_each(|it| client.send_raw(it));
                for part in &run {
                    assert_same_bytes(&origin.receive().0, part);
                }
                if with_headers[0].len() < 2000 {
                    send_run(client.client(), client.relay(), &with_headers);
                    for part in &run {
                        assert_same_bytes(&origin.receive().0, part);
                    }
                }
                for part in &run {
                    answering.send_to(part, asked_from).expect("it is sent");
                }
                for part in &run {
                    assert_same_bytes(&client.receive().1, part);
                }
            }
        }
        assert_eq!(drops(&server), 0, "{:?}", server.counters());
        drop(client);
        baseline.assert_at_rest();
    });
}

/// The same towards the client.
#[test]
#[ignore = "needs root: tests/run"]
fn runs_longer_than_the_way_to_the_client_is_wide_arrive_whole() {
    let lan = narrow_lan();
    for gateway in [GATEWAY_V4, GATEWAY_V6] {
        let listen = SocketAddr::from((gateway, 0)).to_string();
        let env =
            [("RINGSOCKS_LISTEN_COMMANDS", "udp"), ("RINGSOCKS_LISTEN_TARGETS", "127.0.0.0/8")];
        let server = lan.gateway.enter(|| {
            Server::start_with_env(&["--listen", &listen, "--open", "--workers", "1"], &env)
        });
        let baseline = server.baseline();
        let origin = lan.gateway.enter(|| UdpOrigin::start_on(V4));
        let answering = lan.gateway.enter(|| bind(V4));
        let client = lan.other.enter(|| Association::open(server.address()));
        let asked_from = client.expect_exchange(&origin, origin.address());
        let asked_from = SocketAddr::new(V4, asked_from.port());
        for (seed, shape) in (1000..).step_by(1000).zip([(20, 1200, 1200), (40, 1400, 3)]) {
            let run = run(seed, shape);
            send_run(&answering, asked_from, &run);
            for part in &run {
                assert_same_bytes(&client.receive().1, part);
            }
        }
        assert_eq!(drops(&server), 0, "{:?}", server.counters());
        drop(client);
        baseline.assert_at_rest();
    }
}

#[test]
fn every_datagram_names_its_own_source() {
    let server = Server::start(&["--workers", "1"]);
    let baseline = server.baseline();
    let origin = UdpOrigin::start();
    let client = Association::open(server.address());
    let asked_from = client.expect_exchange(&origin, origin.address());
    // Of one address, as the client has asked; in runs that the kernel could merge.
    let sources: Vec<UdpSocket> = (0..8).map(|_| bind(V4)).collect();
    for round in 0..50_u64 {
        let dice = random_bytes(round + 1, 100);
        for (number, dice) in dice.iter().enumerate() {
            let source = &sources[usize::from(dice / 16 % 8)];
            let port = source.local_addr().expect("it is bound").port();
            let data = [&port.to_be_bytes()[..], &[number as u8; 300]].concat();
            source.send_to(&data, asked_from).expect("it is sent");
        }
        for number in 0..dice.len() {
            let (source, data) = client.receive();
            assert_eq!((source.ip(), &data[2..]), (V4, &[number as u8; 300][..]));
            assert_eq!(source.port().to_be_bytes(), data[..2]);
        }
    }
    drop(client);
    baseline.assert_at_rest();
}

#[test]
fn an_empty_datagram_is_no_end() {
    let server = Server::start(&["--workers", "1"]);
    let baseline = server.baseline();
    let origin = UdpOrigin::start();
    let client = Association::open(server.address());
    let asked_from = client.expect_exchange(&origin, origin.address());
    for _ in 0..100 {
        // Without as much as a header it is nobody's, with one it is empty.
        client.send_raw(b"");
        client.send_to(origin.address(), b"");
        origin.expect(b"");
        origin.send_to(asked_from, b"");
        client.expect(origin.address(), b"");
    }
    assert_eq!(server.counters()["drops_malformed"], 100);
    assert!(parse_datagram(b"").is_none());
    drop(client);
    baseline.assert_at_rest();
}

/// The kernel or a device does not know of runs: they go one by one, and no more are tried.
#[test]
#[ignore = "needs root: tests/run"]
fn runs_that_are_refused_go_one_by_one() {
    for errno in ["EIO", "EINVAL", "EMSGSIZE", "ENOPROTOOPT", "EOPNOTSUPP"] {
        // The first two calls are the exchange's.
        let server = Faulty::new("sendmmsg", &format!("error={errno}:when=3+10"));
        let baseline = server.baseline();
        let origin = UdpOrigin::start();
        let client = Association::open(server.address());
        let asked_from = client.expect_exchange(&origin, origin.address());
        let answering = bind(V4);
        for seed in (1000..).step_by(1000).take(3) {
            let run = run(seed, (5, 1000, 999));
            let with_headers: Vec<Vec<u8>> =
                run.iter().map(|it| datagram(origin.address(), it)).collect();
            send_run(client.client(), client.relay(), &with_headers);
            for part in &run {
                assert_same_bytes(&origin.receive().0, part);
            }
            send_run(&answering, asked_from, &run);
            for part in &run {
                assert_same_bytes(&client.receive().1, part);
            }
        }
        assert_eq!(drops(&server), 0, "{errno}: {:?}", server.counters());
        drop(client);
        baseline.assert_at_rest();
    }
}
