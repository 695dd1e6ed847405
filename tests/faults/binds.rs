//! Ports at which somebody is waited for: strangers in crowds, peers and clients that go away.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::injected::Faulty;
use crate::support::origin::Service;
use crate::support::peer::{End, Peer};
use crate::support::server::Server;
use crate::support::socks::{BIND, open_session, request, send_request, socks4};
use crate::support::udp::UNSAID;
use crate::support::{
    assert_same_bytes, finish, raise_descriptor_limit, random_bytes, session, wait_until,
};

const KIB: u64 = 1024;
/// Whom the client waits for, and somebody else.
const EXPECTED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 8));

/// A client that waits for somebody at an address, or for anybody, and where it does.
#[track_caller]
fn wait_for(server: &Server, expected: Option<IpAddr>) -> (Peer, SocketAddr) {
    let expected = expected.map_or(UNSAID, |ip| (ip, 0).into());
    let client = send_request(server.address(), &request(BIND, expected));
    let bnd = client.expect_granted();
    (client, bnd)
}

/// Somebody who comes from this address.
#[track_caller]
fn come_from(ip: IpAddr, bnd: SocketAddr) -> Peer {
    Peer::connect_from((ip, 0).into(), bnd)
}

/// Whether nobody is waited for there any more.
fn is_closed(bnd: SocketAddr) -> bool {
    TcpStream::connect_timeout(&bnd, Duration::from_secs(5)).is_err()
}

#[test]
fn strangers_by_the_thousand_end_no_wait_and_cost_little() {
    const STRANGERS: u32 = 3000;
    let server = Server::start(&["--workers", "1"]);
    let baseline = server.baseline();
    let echo = Service::echo();
    let other = open_session(server.address(), echo.address());
    let (client, bnd) = wait_for(&server, Some(EXPECTED));
    let cpu = server.cpu_time();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..STRANGERS / 2 {
                    come_from(STRANGER, bnd).expect_silent_close();
                }
            });
        }
        // Others have their turn meanwhile.
        for _ in 0..200 {
            other.send(b"ping");
            other.expect(b"ping");
        }
    });
    let each = (server.cpu_time() - cpu) / STRANGERS;
    assert!(each < Duration::from_millis(1), "{each:?} for a stranger");
    assert_eq!(server.counters()["bind_strangers"], u64::from(STRANGERS));
    client.expect_silence(Duration::from_millis(1));
    let peer = come_from(EXPECTED, bnd);
    assert_eq!(client.expect_granted(), peer.local_address());
    finish(client, &peer);
    drop(other);
    baseline.assert_at_rest();
}

/// Strangers that stay, as far as the kernel lets them, keep nobody out.
#[test]
fn strangers_that_wait_in_the_queue_are_turned_away_before_the_peer() {
    let server = Server::start(&["--workers", "1"]);
    let baseline = server.baseline();
    for _ in 0..20 {
        let (client, bnd) = wait_for(&server, Some(EXPECTED));
        let strangers: Vec<Peer> = (0..10).map(|_| come_from(STRANGER, bnd)).collect();
        let peer = come_from(EXPECTED, bnd);
        assert_eq!(client.expect_granted(), peer.local_address());
        strangers.iter().for_each(Peer::expect_silent_close);
        peer.send(b"hello");
        client.expect(b"hello");
        finish(client, &peer);
    }
    assert_eq!(server.counters()["bind_strangers"], 200);
    baseline.assert_at_rest();
}

#[test]
fn nobody_else_gets_in_after_the_peer() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let (client, bnd) = wait_for(&server, None);
    let peer = come_from(EXPECTED, bnd);
    assert_eq!(client.expect_granted(), peer.local_address());
    assert!(is_closed(bnd), "somebody is waited for still");
    finish(client, &peer);
    baseline.assert_at_rest();
}

#[test]
fn a_peer_that_resets_at_once_ends_the_session() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    for _ in 0..50 {
        let (client, bnd) = wait_for(&server, Some(EXPECTED));
        let peer = come_from(EXPECTED, bnd);
        let address = peer.local_address();
        peer.reset();
        assert_eq!(client.expect_granted(), address);
        client.expect_reset();
    }
    assert_eq!(server.counters()["target_reset"], 50, "{:?}", server.counters());
    baseline.assert_at_rest();
}

#[test]
fn a_peer_that_half_closes_at_once_is_answered_whole() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let data = random_bytes(1, 1 << 20);
    for _ in 0..5 {
        let (client, bnd) = wait_for(&server, Some(EXPECTED));
        let peer = come_from(EXPECTED, bnd);
        peer.send(b"all of it");
        peer.fin();
        client.expect_granted();
        client.expect(b"all of it");
        client.expect_eof();
        thread::scope(|scope| {
            scope.spawn(|| {
                client.send(&data);
                client.fin();
            });
            let received = peer.read_to_end();
            assert_same_bytes(&received.bytes, &data);
            assert_eq!(received.end, End::Fin);
        });
    }
    baseline.assert_at_rest();
}

#[test]
fn a_client_that_goes_away_leaves_no_port_behind() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let ends: [fn(Peer); 3] = [
        drop,
        |client| {
            client.fin();
            client.expect_silent_close();
        },
        Peer::reset,
    ];
    for end in ends {
        let (client, bnd) = wait_for(&server, Some(EXPECTED));
        drop(come_from(STRANGER, bnd));
        end(client);
        wait_until("the port is closed", || is_closed(bnd));
    }
    baseline.assert_at_rest();
    assert_eq!(server.counters()["client_gone"], 3, "{:?}", server.counters());
}

#[test]
fn a_client_that_reads_nothing_for_long_gets_both_replies_and_every_byte() {
    let server = Server::start(&["--workers", "1"]);
    let baseline = server.baseline();
    let client = send_request(server.address(), &request(BIND, UNSAID));
    server.wait_counter("accepting", 1);
    let bnd = listening_port(&server);
    let peer = come_from(EXPECTED, bnd);
    let data = random_bytes(2, 4 << 20);
    thread::scope(|scope| {
        scope.spawn(|| {
            peer.send(&data);
            peer.fin();
        });
        server.wait_counter("relaying", 1);
        assert_eq!(client.expect_granted(), bnd);
        assert_eq!(client.expect_granted(), peer.local_address());
        let received = client.read_to_end();
        assert_same_bytes(&received.bytes, &data);
        assert_eq!(received.end, End::Fin);
    });
    drop((client, peer));
    baseline.assert_at_rest();
}

/// Where the server listens besides its own address, by what the kernel says of it.
#[track_caller]
fn listening_port(server: &Server) -> SocketAddr {
    let sockets: Vec<String> = std::fs::read_dir(server.proc("fd"))
        .expect("the server runs")
        .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
        .filter_map(|link| {
            let link = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned();
            Some(link)
        })
        .collect();
    let table = std::fs::read_to_string(server.proc("net/tcp")).expect("a table of sockets");
    let listening = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_ours = fields.get(3) == Some(&"0A") && sockets.iter().any(|it| it == fields[9]);
        let port = is_ours.then(|| fields[1].split_once(':'))??.1;
        u16::from_str_radix(port, 16).ok()
    });
    let mut others = listening.filter(|port| *port != server.address().port());
    let port = others.next().expect("it listens for somebody");
    (Ipv4Addr::LOCALHOST, port).into()
}

#[test]
fn socks4_clients_wait_as_well_and_go_away_as_well() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let ask = || {
        let client = Peer::connect(server.address());
        client.send(&socks4(BIND, [127, 0, 0, 7], 0, b"", None));
        let bnd = client.expect_socks4_granted();
        (client, bnd)
    };
    let (client, bnd) = ask();
    for _ in 0..20 {
        come_from(STRANGER, bnd).expect_silent_close();
    }
    let peer = come_from(EXPECTED, bnd);
    assert_eq!(client.expect_socks4_granted(), peer.local_address());
    finish(client, &peer);
    let (client, bnd) = ask();
    client.reset();
    wait_until("the port is closed", || is_closed(bnd));
    assert_eq!(server.counters()["bind_strangers"], 20);
    baseline.assert_at_rest();
}

#[test]
fn thousands_wait_at_once_and_leave_nothing() {
    const WAITING: usize = 4000;
    raise_descriptor_limit();
    let server = Server::start_with_env(&[], &[("RINGSOCKS_BIND_PORTS", "0")]);
    let baseline = server.baseline();
    for end in [drop as fn(Peer), Peer::reset] {
        // Pipes of the round before may be kept.
        let (before, fds) = (server.rss_anon(), server.fds());
        let mut waiting: Vec<(Peer, SocketAddr)> =
            (0..WAITING).map(|_| wait_for(&server, Some(EXPECTED))).collect();
        server.wait_counter("accepting", WAITING as u64);
        assert_eq!(server.fds(), fds + 2 * WAITING);
        let each = server.rss_anon().saturating_sub(before) / WAITING as u64;
        assert!(each <= 3 * KIB, "{each} bytes for one that waits");
        for _ in 0..20 {
            let (client, bnd) = waiting.swap_remove(waiting.len() / 2);
            let peer = come_from(EXPECTED, bnd);
            assert_eq!(client.expect_granted(), peer.local_address());
            finish(client, &peer);
        }
        waiting.into_iter().for_each(|(client, _)| end(client));
        baseline.assert_at_rest();
    }
}

#[test]
#[ignore = "needs root: tests/run"]
fn an_accept_that_fails_now_and_then_loses_no_peer() {
    for errno in ["ENFILE", "ENOBUFS", "ECONNABORTED", "EINTR", "EPROTO"] {
        let server = Faulty::new("accept4", &format!("error={errno}:when=2+2"));
        let baseline = server.baseline();
        for _ in 0..2 {
            let (client, bnd) = wait_for(&server, Some(EXPECTED));
            let peer = come_from(EXPECTED, bnd);
            assert_eq!(client.expect_granted(), peer.local_address(), "{errno}");
            finish(client, &peer);
        }
        baseline.assert_at_rest();
    }
}

#[test]
#[ignore = "needs root: tests/run"]
fn accepts_that_fail_for_long_cost_nothing_and_are_made_up_for() {
    for errno in ["EMFILE", "ENOMEM", "EPERM"] {
        // All but the client's.
        let server = Faulty::new("accept4", &format!("error={errno}:when=2+"));
        let (client, bnd) = wait_for(&server, Some(EXPECTED));
        let peer = come_from(EXPECTED, bnd);
        let (cpu, started) = (server.cpu_time(), Instant::now());
        client.expect_silence(Duration::from_millis(500));
        let (used, passed) = (server.cpu_time() - cpu, started.elapsed());
        assert!(used < passed / 10, "{errno}: {used:?} of {passed:?} for waiting");
        server.heal();
        assert_eq!(client.expect_granted(), peer.local_address(), "{errno}");
        finish(client, &peer);
        server.wait_counter("open", 0);
    }
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_port_that_cannot_be_had_is_01_and_the_next_is_granted() {
    for (call, errno) in [
        ("socket", "EMFILE"),
        ("socket", "ENFILE"),
        ("bind", "EACCES"),
        ("bind", "ENOMEM"),
        ("listen", "EADDRINUSE"),
    ] {
        let server = Faulty::new(call, &format!("error={errno}:when=2+3"));
        let baseline = server.baseline();
        let (mut granted, mut refused) = (0, 0);
        for _ in 0..12 {
            let client = send_request(server.address(), &request(BIND, UNSAID));
            let reply = client.expect_reply();
            match reply.rep {
                0 => {
                    let peer = come_from(EXPECTED, reply.bnd);
                    client.expect_granted();
                    finish(client, &peer);
                    granted += 1;
                }
                1 => refused += 1,
                rep => panic!("{call} {errno}: REP {rep:02x}"),
            }
        }
        assert!(granted >= 3, "{call} {errno}: {granted} granted, {refused} refused");
        assert_eq!(server.counters()["refused_01"], refused, "{call} {errno}");
        // Of a port that is in use there is another.
        assert!(refused >= 3 || errno == "EADDRINUSE", "{call} {errno}: {refused} refused");
        baseline.assert_at_rest();
    }
}

#[test]
#[ignore = "needs root: tests/run"]
fn who_cannot_be_watched_is_refused_or_turned_away_and_the_next_is_served() {
    // The client, its port, whoever comes there.
    let server = Faulty::new("epoll_ctl", "error=ENOSPC:when=2");
    send_request(server.address(), &request(BIND, UNSAID)).expect_refused(1);
    let (client, bnd) = wait_for(&server, None);
    let peer = come_from(EXPECTED, bnd);
    client.expect_granted();
    finish(client, &peer);

    let server = Faulty::new("epoll_ctl", "error=ENOSPC:when=3");
    let (client, bnd) = wait_for(&server, None);
    come_from(EXPECTED, bnd).expect_silent_close();
    let peer = come_from(EXPECTED, bnd);
    assert_eq!(client.expect_granted(), peer.local_address());
    finish(client, &peer);
    server.wait_counter("open", 0);
}

#[test]
fn sessions_go_on_beside_waiting_ones() {
    let server = Server::start(&["--workers", "1"]);
    let baseline = server.baseline();
    let waiting: Vec<(Peer, SocketAddr)> = (0..50).map(|_| wait_for(&server, None)).collect();
    for _ in 0..20 {
        let (client, target) = session(&server);
        finish(client, &target);
    }
    drop(waiting);
    baseline.assert_at_rest();
}
