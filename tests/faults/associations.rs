//! Associations: whose datagrams they relay, how long they live, and how many there may be.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::lan::{GATEWAY_V4, Lan};
use crate::support::netns::Netns;
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::{BIND, UDP_ASSOCIATE, datagram, greeting, request, send_request};
use crate::support::udp::{Association, UNSAID, UdpEcho, UdpOrigin, bind, is_refused, send_from};
use crate::support::{PATIENCE, raise_descriptor_limit, wait_until};
use crate::vanishing::next_look;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
/// The kernel chooses: thousands of associations want as many ports.
const ANY_PORTS: (&str, &str) = ("RINGSOCKS_UDP_PORTS", "0");

const OTHER_CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

#[test]
fn datagrams_of_others_are_not_relayed() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let origin = UdpOrigin::start();
    let client = Association::open(server.address());
    let port = client.client().local_addr().expect("it is bound").port();
    let same_port = UdpSocket::bind((OTHER_CLIENT, port)).expect("nobody has it there");
    let others = [bind(OTHER_CLIENT), same_port, bind(Ipv4Addr::LOCALHOST.into())];
    let forged = datagram(origin.address(), b"forged");
    // Before the client has shown its port only its address tells it from others.
    others[..2].iter().for_each(|other| send_from(other, client.relay(), &forged));
    client.expect_exchange(&origin, origin.address());
    for _ in 0..20 {
        others.iter().for_each(|other| send_from(other, client.relay(), &forged));
        client.expect_exchange(&origin, origin.address());
    }
    let counters = server.counters();
    assert_eq!((counters["datagrams_up"], counters["datagrams_down"]), (21, 21), "{counters:?}");
    drop(client);
    baseline.assert_at_rest();
}

/// The kernel lets in whom it has not been told to keep out, and that is looked at.
#[test]
fn datagrams_of_others_that_are_queued_already_are_dropped_and_counted() {
    let server = Server::start(&["--workers", "1"]);
    let baseline = server.baseline();
    let origin = UdpOrigin::start();
    let client = Association::open(server.address());
    let other = bind(Ipv4Addr::LOCALHOST.into());
    server.signal(Signal::STOP);
    client.send_to(origin.address(), b"first");
    send_from(&other, client.relay(), &datagram(origin.address(), b"forged"));
    client.send_to(origin.address(), b"second");
    server.signal(Signal::CONT);
    origin.expect(b"first");
    origin.expect(b"second");
    server.wait_counter("drops_stranger", 1);
    drop(client);
    baseline.assert_at_rest();
}

/// Somebody behind the client's address that is faster has the association, unless the client has
/// said which port it will use.
#[test]
fn a_client_that_tells_its_port_cannot_be_forestalled() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let origin = UdpOrigin::start();
    let socket = bind(Ipv4Addr::LOCALHOST.into());
    let own = socket.local_addr().expect("it is bound");
    let control = send_request(server.address(), &request(UDP_ASSOCIATE, own));
    let client = Association::granted_from(control, socket);
    let faster = bind(Ipv4Addr::LOCALHOST.into());
    send_from(&faster, client.relay(), &datagram(origin.address(), b"forged"));
    client.expect_exchange(&origin, origin.address());
    drop(client);

    let client = Association::open(server.address());
    send_from(&faster, client.relay(), &datagram(origin.address(), b"faster"));
    origin.expect(b"faster");
    client.send_to(origin.address(), b"too late");
    send_from(&faster, client.relay(), &datagram(origin.address(), b"faster again"));
    origin.expect(b"faster again");
    drop(client);
    baseline.assert_at_rest();
}

#[test]
fn who_was_never_asked_cannot_answer() {
    const STORM: u64 = 1000;
    let server = Server::start(&["--workers", "1"]);
    let baseline = server.baseline();
    let origin = UdpOrigin::start();
    let client = Association::open(server.address());
    let asked_from = client.expect_exchange(&origin, origin.address());
    let stranger = UdpOrigin::start_on(OTHER_CLIENT);
    for number in 0..STORM {
        stranger.send_to(asked_from, b"an answer to nothing");
        // Now and then it is looked at whether all have been received: a full queue counts apart.
        if number % 100 == 99 {
            client.expect_exchange(&origin, origin.address());
        }
    }
    let counters = server.counters();
    assert_eq!(counters["drops_unsolicited"], STORM, "{counters:?}");
    assert_eq!(counters["datagrams_down"], 1 + STORM / 100, "{counters:?}");
    drop(client);
    baseline.assert_at_rest();
}

#[test]
fn a_client_whose_port_changes_is_kept_out_unless_it_may() {
    for (check, follows) in [("strict", false), ("address", true), ("off", true)] {
        let server = Server::start_with_env(&[], &[("RINGSOCKS_UDP_CLIENT_CHECK", check)]);
        let baseline = server.baseline();
        let origin = UdpOrigin::start();
        let client = Association::open(server.address());
        client.expect_exchange(&origin, origin.address());
        let rebound = bind(Ipv4Addr::LOCALHOST.into());
        send_from(&rebound, client.relay(), &datagram(origin.address(), b"rebound"));
        if follows {
            let asked_from = origin.expect(b"rebound");
            origin.send_to(asked_from, b"pong");
            rebound.set_read_timeout(Some(PATIENCE)).expect("above zero");
            let (len, sender) = rebound.recv_from(&mut [0; 64]).expect("the answer follows");
            assert_eq!((len, sender), (10 + 4, client.relay()), "{check}");
        } else {
            client.expect_exchange(&origin, origin.address());
        }
        drop(client);
        baseline.assert_at_rest();
    }
}

#[test]
fn a_client_whose_address_changes_asks_again() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let origin = UdpOrigin::start();
    let client = Association::open(server.address());
    client.expect_exchange(&origin, origin.address());
    let moved = bind(OTHER_CLIENT);
    send_from(&moved, client.relay(), &datagram(origin.address(), b"moved"));
    client.expect_exchange(&origin, origin.address());

    let control = Peer::connect_from((OTHER_CLIENT, 0).into(), server.address());
    control.send(&[greeting(&[0]), request(UDP_ASSOCIATE, UNSAID)].concat());
    control.expect(&[5, 0]);
    let again = Association::granted_from(control, moved);
    again.expect_exchange(&origin, origin.address());
    drop((client, again));
    baseline.assert_at_rest();
}

#[test]
fn nothing_is_relayed_once_the_control_connection_has_ended() {
    let half_close = |control: Peer| {
        control.fin();
        control.expect_silent_close();
    };
    let ends =
        [("finished", drop as fn(Peer)), ("finished", half_close), ("client_reset", Peer::reset)];
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let origin = UdpOrigin::start();
    for (outcome, end) in ends {
        let before = server.counters()[outcome];
        let client = Association::open(server.address());
        let (relay, asked_from) =
            (client.relay(), client.expect_exchange(&origin, origin.address()));
        let socket = client.hang_up(end);
        let own = socket.local_addr().expect("it is bound");
        wait_until("nobody listens to the client any more", || is_refused(own.ip(), relay));
        send_from(&socket, relay, &datagram(origin.address(), b"into the void"));
        origin.send_to(asked_from, b"into the void, too");
        baseline.assert_restored();
        origin.expect_silence(Duration::from_millis(1));
        assert_eq!(server.counters()[outcome], before + 1, "{:?}", server.counters());
    }
}

/// What was sent before the end may get through or not; nothing that was sent after it does.
#[test]
fn a_client_that_ends_in_the_middle_of_a_stream_of_datagrams_leaves_nothing() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let origin = UdpOrigin::start();
    for round in 0..30 {
        let client = Association::open(server.address());
        for _ in 0..20 {
            client.send_to(origin.address(), b"in flight");
        }
        let relay = client.relay();
        let socket = client.hang_up(if round % 2 == 0 { drop } else { Peer::reset });
        for _ in 0..20 {
            send_from(&socket, relay, &datagram(origin.address(), b"in flight"));
        }
    }
    baseline.assert_at_rest();
    assert_eq!(server.counters()["associated"], 0);
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_client_that_vanishes_is_given_up_and_its_port_with_it() {
    let lan = Lan::new();
    let env = [("RINGSOCKS_UDP_IDLE", "1s"), ("RINGSOCKS_LISTEN_COMMANDS", "connect,udp")];
    let listen = format!("{GATEWAY_V4}:0");
    let server =
        lan.gateway.enter(|| Server::start_with_env(&["--open", "--listen", &listen], &env));
    let baseline = server.baseline();
    let client = lan.other.enter(|| {
        let client = Association::open(server.address());
        let control = client.control().local_address();
        wait_until("the kernel looks after the control connection", || {
            next_look(&lan, control).is_some_and(|seconds| seconds <= 60)
        });
        client
    });
    lan.cut();
    baseline.assert_at_rest();
    assert_eq!(server.counters()["idle_timeout"], 1, "{:?}", server.counters());
    assert!(lan.gateway.enter(|| is_refused(GATEWAY_V4, client.relay())));
}

#[test]
fn thousands_of_associations_at_once_leave_nothing() {
    const ASSOCIATIONS: usize = 5000;
    raise_descriptor_limit();
    let server = Server::start_with_env(&[], &[ANY_PORTS]);
    let baseline = server.baseline();
    let echo = UdpEcho::start();
    let socket = bind(Ipv4Addr::LOCALHOST.into());
    for end in [drop as fn(Peer), Peer::reset] {
        let before = server.rss_anon();
        // One socket of the client is enough for all: each has an address of ours.
        let associations: Vec<(Peer, SocketAddr)> = (0..ASSOCIATIONS)
            .map(|_| {
                let control = send_request(server.address(), &request(UDP_ASSOCIATE, UNSAID));
                let relay = control.expect_granted();
                send_from(&socket, relay, &datagram(echo.address(), b"ping"));
                (control, relay)
            })
            .collect();
        server.wait_counter("associated", ASSOCIATIONS as u64);
        for (_, relay) in &associations {
            assert_echoed(&socket, *relay, echo.address());
        }
        // The control connection, the client's side and the targets'.
        assert_eq!(server.fds(), baseline.fds() + 3 * ASSOCIATIONS);
        let each = server.rss_anon().saturating_sub(before) / ASSOCIATIONS as u64;
        assert!(each <= 4 * KIB, "{each} bytes for an association");
        associations.into_iter().for_each(|(control, _)| end(control));
        baseline.assert_at_rest();
    }
}

/// Another datagram there and back; what came back before for others is no hindrance.
#[track_caller]
fn assert_echoed(socket: &UdpSocket, relay: SocketAddr, echo: SocketAddr) {
    socket.set_read_timeout(Some(PATIENCE)).expect("above zero");
    send_from(socket, relay, &datagram(echo, b"pong"));
    let mut buffer = [0; 64];
    loop {
        let (len, sender) = socket.recv_from(&mut buffer).expect("an echo");
        if sender == relay && buffer[..len].ends_with(b"pong") {
            return;
        }
    }
}

#[test]
fn fifty_thousand_destinations_cost_no_descriptor_and_little_memory() {
    const DESTINATIONS: u32 = 50_000;
    /// Few enough for every queue on the way.
    const BURST: u32 = 50;
    const PEERS: u32 = 4096;
    let server = Server::start(&["--workers", "1"]);
    let baseline = server.baseline();
    // 127.x.y.z is all ours.
    let all = UdpOrigin::start_on(Ipv4Addr::UNSPECIFIED.into());
    let destination = |number: u32| {
        let ip = Ipv4Addr::from_bits(Ipv4Addr::new(127, 16, 0, 1).to_bits() + number);
        SocketAddr::from((ip, all.port()))
    };
    let client = Association::open(server.address());
    client.send_to(destination(0), b"first");
    let asked_from = all.expect(b"first");
    let (fds, memory) = (server.fds(), server.rss_anon());
    let mut largest = 0;
    for burst in (0..DESTINATIONS).step_by(BURST as usize) {
        for number in burst..burst + BURST {
            client.send_to(destination(number), &number.to_be_bytes());
        }
        for number in burst..burst + BURST {
            assert_eq!(all.expect(&number.to_be_bytes()), asked_from);
        }
        if burst % (100 * BURST) == 0 {
            assert_eq!(server.fds(), fds);
            largest = largest.max(server.rss_anon());
        }
    }
    assert!(largest - memory <= 2 * MIB, "{} bytes more", largest - memory);

    // The last ones may still answer, from any port, and the first no more.
    let forgotten = UdpOrigin::start_on(destination(0).ip());
    forgotten.send_to(asked_from, b"too late");
    for number in [DESTINATIONS - PEERS, DESTINATIONS - 1] {
        let origin = UdpOrigin::start_on(destination(number).ip());
        origin.send_to(asked_from, b"in time");
        client.expect(origin.address(), b"in time");
    }
    assert_eq!(server.counters()["drops_unsolicited"], 1);
    client.expect_exchange(&forgotten, forgotten.address());
    drop(client);
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn without_a_port_left_an_association_is_refused_with_01_until_one_comes_back() {
    let env = [("RINGSOCKS_UDP_PORTS", "20000-20007")];
    assert_ports_run_out(&env, UDP_ASSOCIATE, "no free port of 20000-20007 is found");
}

#[test]
#[ignore = "needs root: tests/run"]
fn without_a_port_left_a_bind_is_refused_with_01_until_one_comes_back() {
    let env = [("RINGSOCKS_BIND_PORTS", "20000-20007")];
    assert_ports_run_out(&env, BIND, "no free port of 20000-20007 is found");
}

/// Eight ports, and it is told once that they are not enough. The kernel chooses none of them for
/// anybody else.
#[track_caller]
fn assert_ports_run_out(env: &[(&str, &str)], command: u8, told: &str) {
    let network = Netns::new();
    network.enter(|| {
        let server = Server::start_with_env(&[], env);
        let baseline = server.baseline();
        let ask = || send_request(server.address(), &request(command, UNSAID));
        // Somebody else has one of them.
        let foreign_udp = UdpSocket::bind("127.0.0.1:20003").expect("nobody has it");
        let foreign_tcp = TcpListener::bind("127.0.0.1:20003").expect("nobody has it");
        let mut granted: Vec<Peer> = (0..7).map(|_| ask()).collect();
        let mut ports: Vec<u16> = granted.iter().map(|it| it.expect_granted().port()).collect();
        ports.sort();
        assert_eq!(ports, [20000, 20001, 20002, 20004, 20005, 20006, 20007]);
        let started = Instant::now();
        for _ in 0..100 {
            ask().expect_refused(1);
        }
        assert_eq!(server.counters()["refused_01"], 100);
        let lines = server.stderr();
        let of_ports = lines.iter().filter(|line| line.contains(told)).count() as u64;
        // At most once a second.
        assert!((1..=1 + started.elapsed().as_secs()).contains(&of_ports), "{lines:#?}");

        drop(granted.swap_remove(3));
        server.wait_counter("open", 6);
        let again = ask();
        assert!((20000..=20007).contains(&again.expect_granted().port()));
        ask().expect_refused(1);
        drop((granted, again, foreign_udp, foreign_tcp));
        baseline.assert_at_rest();
    });
}

#[test]
fn one_client_may_have_so_many_ports_and_no_more() {
    let env = [("RINGSOCKS_LIMIT_PORTS_PER_CLIENT", "3")];
    let server = Server::start_with_env(&[], &env);
    let baseline = server.baseline();
    let ask = |command, from: IpAddr| {
        let client = Peer::connect_from((from, 0).into(), server.address());
        client.send(&[greeting(&[0]), request(command, UNSAID)].concat());
        client.expect(&[5, 0]);
        client
    };
    let first = Ipv4Addr::LOCALHOST.into();
    for _ in 0..3 {
        let granted = [UDP_ASSOCIATE, BIND, UDP_ASSOCIATE].map(|command| ask(command, first));
        granted.iter().for_each(|it| assert!(it.expect_granted().port() > 0));
        for command in [UDP_ASSOCIATE, BIND] {
            ask(command, first).expect_refused(2);
        }
        let others = [ask(BIND, OTHER_CLIENT), ask(UDP_ASSOCIATE, OTHER_CLIENT)];
        others.iter().for_each(|it| assert!(it.expect_granted().port() > 0));
        drop((granted, others));
        server.wait_counter("open", 0);
    }
    assert_eq!(server.counters()["refused_02"], 6);
    baseline.assert_at_rest();
}
