//! Datagrams that the kernel or the network refuses: they are lost, and nothing else is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use crate::injected::Faulty;
use crate::support::dns::message::A;
use crate::support::dns::{ClosedNameserver, Nameserver, Response};
use crate::support::lan::{GATEWAY_V4, GATEWAY_V6, Lan, OTHER_V4, OTHER_V6};
use crate::support::netns::Netns;
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::{UDP_ASSOCIATE, datagram, request, send_request};
use crate::support::udp::{Association, UNSAID, UdpEcho, UdpOrigin, bind, send_from};
use crate::support::wait_until;

/// How long a server that fails again and again is watched.
const WINDOW: Duration = Duration::from_millis(500);
/// What has not come back for so long is sent again.
const LOST_AFTER: Duration = Duration::from_millis(20);

/// Between what is refused, each healthy datagram goes there and back.
#[track_caller]
fn assert_healthy_beside(client: &Association, echo: &UdpEcho, refused: &[SocketAddr]) {
    for round in 0..10 {
        for target in refused {
            client.send_to(*target, b"into the void");
        }
        client.expect_echo(echo.address(), 100 + round);
    }
}

/// What a firewall may say of a datagram, by family.
const REJECTS: [(&str, IpAddr, &str); 11] = [
    ("ip", OTHER_V4, "icmp type port-unreachable"),
    ("ip", OTHER_V4, "icmp type prot-unreachable"),
    ("ip", OTHER_V4, "icmp type host-unreachable"),
    ("ip", OTHER_V4, "icmp type host-prohibited"),
    ("ip", OTHER_V4, "icmp type admin-prohibited"),
    ("ip", OTHER_V4, "icmp type net-unreachable"),
    ("ip", OTHER_V4, "icmp type net-prohibited"),
    ("ip6", OTHER_V6, "icmpv6 type port-unreachable"),
    ("ip6", OTHER_V6, "icmpv6 type addr-unreachable"),
    ("ip6", OTHER_V6, "icmpv6 type no-route"),
    ("ip6", OTHER_V6, "icmpv6 type admin-prohibited"),
];

#[test]
#[ignore = "needs root: tests/run"]
fn what_a_firewall_rejects_or_drops_costs_no_healthy_datagram() {
    let lan = Lan::new();
    let mut ports = 1000..;
    let mut refused: Vec<SocketAddr> = Vec::new();
    for (host, hook) in [(&lan.other, "input"), (&lan.gateway, "output")] {
        host.run(&format!(
            "nft add table inet firewall
             nft 'add chain inet firewall rules {{ type filter hook {hook} priority 0; }}'"
        ));
        for (_, target, with) in REJECTS {
            let port: u16 = ports.next().expect("ports enough");
            host.run(&format!(
                "nft add rule inet firewall rules udp dport {port} reject with {with}"
            ));
            refused.push((target, port).into());
        }
        let port = ports.next().expect("ports enough");
        host.run(&format!("nft add rule inet firewall rules udp dport {port} drop"));
        refused.extend([OTHER_V4, OTHER_V6].map(|target| SocketAddr::new(target, port)));
    }
    let echo = lan.other.enter(|| UdpEcho::start_on(OTHER_V4));
    let echo_v6 = lan.other.enter(|| UdpEcho::start_on(OTHER_V6));
    lan.gateway.enter(|| {
        let server = Server::start(&[]);
        let baseline = server.baseline();
        let client = Association::open(server.address());
        assert_healthy_beside(&client, &echo, &refused);
        assert_healthy_beside(&client, &echo_v6, &refused);
        let counters = server.counters();
        // Our own firewall says so to the call; what others say is heard of no more.
        let ours = 2 * 10 * (REJECTS.len() as u64 + 2);
        assert!(counters["drops_unsent"] >= ours, "{counters:?}");
        assert!(counters["drops_unsent"] < 2 * ours, "{counters:?}");
        let sent = 20 * refused.len() as u64 + 20;
        assert_eq!(counters["datagrams_up"] + counters["drops_unsent"], sent, "{counters:?}");
        drop(client);
        baseline.assert_at_rest();
    });
}

#[test]
#[ignore = "needs root: tests/run"]
fn where_no_route_leads_a_datagram_is_lost_and_no_other() {
    let lan = Lan::new();
    lan.gateway.run("echo 50 >/proc/sys/net/ipv4/neigh/cable/retrans_time_ms");
    let mut refused: Vec<SocketAddr> = vec![([198, 18, 0, 1], 53).into()];
    refused.push("[2001:db8::1]:53".parse().expect("an address"));
    for (number, kind) in (1..).zip(["unreachable", "prohibit", "blackhole"]) {
        let (v4, v6) = (format!("198.18.{number}.1"), format!("2001:db8:{number}::1"));
        lan.gateway.run(&format!("ip route add {kind} {v4}; ip route add {kind} {v6}"));
        refused.push(format!("{v4}:53").parse().expect("an address"));
        refused.push(format!("[{v6}]:53").parse().expect("an address"));
    }
    // What no neighbour answers for waits for one, and is thrown away.
    let nobody: SocketAddr = ([10, 0, 0, 77], 53).into();
    let echo = lan.other.enter(|| UdpEcho::start_on(OTHER_V4));
    let echo_v6 = lan.other.enter(|| UdpEcho::start_on(OTHER_V6));
    lan.gateway.enter(|| {
        let server = Server::start(&[]);
        let baseline = server.baseline();
        let client = Association::open(server.address());
        let all = [&refused[..], &[nobody]].concat();
        assert_healthy_beside(&client, &echo, &all);
        assert_healthy_beside(&client, &echo_v6, &all);
        let counters = server.counters();
        assert_eq!(counters["drops_unsent"], 20 * refused.len() as u64, "{counters:?}");
        drop(client);
        baseline.assert_at_rest();
    });
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_host_without_ipv6_relays_ipv4() {
    for how in ["all", "lo"] {
        let network = Netns::new();
        network.run(&format!("echo 1 >/proc/sys/net/ipv6/conf/{how}/disable_ipv6"));
        network.enter(|| {
            let server = Server::start(&["--listen", "127.0.0.1:0"]);
            let baseline = server.baseline();
            let echo = UdpEcho::start();
            let client = Association::open(server.address());
            let refused = ["[2001:db8::1]:53", "[::1]:53", "[fd00::1]:53"];
            let refused = refused.map(|it| it.parse().expect("an address"));
            assert_healthy_beside(&client, &echo, &refused);
            let counters = server.counters();
            assert_eq!(counters["drops_unsent"], 30, "{counters:?}");
            drop(client);
            baseline.assert_at_rest();
        });
    }
}

/// What a call on the client's socket reports is about an earlier datagram: this one is not lost.
#[test]
#[ignore = "needs root: tests/run"]
fn a_report_about_another_datagram_costs_none() {
    for errno in ["ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "EINTR"] {
        // One goes out, one does not come back, and does at the second attempt.
        let server = Faulty::new("sendmmsg", &format!("error={errno}:when=2+3"));
        let baseline = server.baseline();
        let echo = UdpEcho::start();
        let client = Association::open(server.address());
        for round in 0..20 {
            client.expect_echo(echo.address(), 100 + round);
        }
        let counters = server.counters();
        assert_eq!(counters["drops_unsent"], 0, "{errno}: {counters:?}");
        drop(client);
        baseline.assert_at_rest();
    }
}

#[test]
#[ignore = "needs root: tests/run"]
fn sends_that_fail_cost_what_they_would_have_sent_and_no_more() {
    for (errno, counter) in [
        ("EAGAIN", "drops_unsent"),
        ("ENOBUFS", "drops_unsent"),
        ("ENOMEM", "drops_unsent"),
        ("EPERM", "drops_unsent"),
        ("EIO", "drops_unsent"),
        ("EINVAL", "drops_unsent"),
        ("EMSGSIZE", "drops_too_large"),
    ] {
        let server = Faulty::new("sendmmsg", &format!("error={errno}:when=1+3"));
        let baseline = server.baseline();
        let echo = UdpEcho::start();
        let client = Association::open(server.address());
        let (mut sent, mut echoed) = (0, 0);
        while echoed < 10 {
            client.send_to(echo.address(), b"ping");
            sent += 1;
            echoed += u64::from(client.receive_within(LOST_AFTER).is_some());
            assert!(sent < 1000, "{errno}: {echoed} of {sent} came back");
        }
        let lost = server.counters()[counter];
        assert!(lost > 0, "{errno}: {:?}", server.counters());
        server.heal();
        // Upwards it was one, and so was its echo if it got so far.
        server.wait_counters("each is counted", |counters| {
            let (up, down) = (counters["datagrams_up"], counters["datagrams_down"]);
            let lost = counters[counter];
            up <= sent && up + down + lost == sent + up
        });
        while client.receive_within(LOST_AFTER).is_some() {}
        for round in 0..10 {
            client.expect_echo(echo.address(), 100 + round);
        }
        drop(client);
        baseline.assert_at_rest();
    }
}

/// A send that fails for good is no reason to be busy.
#[test]
#[ignore = "needs root: tests/run"]
fn sends_that_fail_for_good_end_nothing_and_keep_nobody_busy() {
    for errno in ["EAGAIN", "ENOBUFS", "EPERM", "ECONNREFUSED", "EIO", "EMSGSIZE"] {
        let server = Faulty::new("sendmmsg", &format!("error={errno}:when=1+"));
        let baseline = server.baseline();
        let echo = UdpEcho::start();
        let client = Association::open(server.address());
        for _ in 0..200 {
            client.send_to(echo.address(), b"into the void");
        }
        server.wait_counters("each is counted", |counters| {
            counters["drops_unsent"] + counters["drops_too_large"] == 200
        });
        baseline.assert_idle();
        server.heal();
        client.expect_echo(echo.address(), 100);
        drop(client);
        baseline.assert_at_rest();
    }
}

#[test]
#[ignore = "needs root: tests/run"]
fn receives_that_fail_lose_nothing() {
    for errno in ["ECONNREFUSED", "EHOSTUNREACH", "ENOBUFS", "ENOMEM", "EIO", "EINTR"] {
        let server = Faulty::new("recvmmsg", &format!("error={errno}:when=1+2"));
        let baseline = server.baseline();
        let echo = UdpEcho::start();
        let client = Association::open(server.address());
        for round in 0..20 {
            client.expect_echo(echo.address(), 100 + round);
        }
        drop(client);
        baseline.assert_at_rest();
    }
}

/// What is queued meanwhile is relayed once it can be.
#[test]
#[ignore = "needs root: tests/run"]
fn receives_that_fail_for_long_keep_nobody_busy_and_lose_nothing() {
    for errno in ["ENOMEM", "EIO", "EINVAL", "ECONNREFUSED"] {
        let server = Faulty::new("recvmmsg", &format!("error={errno}:when=1+"));
        let baseline = server.baseline();
        let origin = UdpOrigin::start();
        let client = Association::open(server.address());
        (0..50).for_each(|number| client.send_to(origin.address(), &[number]));
        let cpu = server.cpu_time();
        thread::sleep(WINDOW);
        let used = server.cpu_time() - cpu;
        assert!(used < WINDOW / 10, "{errno}: {used:?} of {WINDOW:?} for waiting");
        server.heal();
        for number in 0..50 {
            origin.expect(&[number]);
        }
        drop(client);
        baseline.assert_at_rest();
    }
}

/// Calls without which there is no association, or no way out for its datagrams.
#[test]
#[ignore = "needs root: tests/run"]
fn a_socket_that_cannot_be_had_is_01_or_a_datagram_and_the_next_is_served() {
    for (call, errno) in [
        ("socket", "EMFILE"),
        ("socket", "ENFILE"),
        ("socket", "ENOBUFS"),
        ("bind", "EACCES"),
        ("bind", "ENOMEM"),
        ("bind", "EADDRINUSE"),
        ("getsockname", "ENOBUFS"),
    ] {
        let server = Faulty::new(call, &format!("error={errno}:when=1+3"));
        let baseline = server.baseline();
        let echo = UdpEcho::start();
        let (mut served, mut refused) = (0, 0);
        for _ in 0..12 {
            let control = send_request(server.address(), &request(UDP_ASSOCIATE, UNSAID));
            let reply = control.expect_reply();
            match reply.rep {
                0 => {
                    let client = bind(Ipv4Addr::LOCALHOST.into());
                    client.set_read_timeout(Some(LOST_AFTER)).expect("above zero");
                    wait_until("a datagram comes back", || {
                        send_from(&client, reply.bnd, &datagram(echo.address(), b"ping"));
                        client.recv(&mut [0; 64]).is_ok()
                    });
                    served += 1;
                }
                1 => refused += 1,
                rep => panic!("{call} {errno}: REP {rep:02x}"),
            }
        }
        assert!(served >= 3, "{call} {errno}: {served} served, {refused} refused");
        // Of a port that is in use there is another.
        assert!(refused >= 3 || errno == "EADDRINUSE", "{call} {errno}: {refused} refused");
        assert_eq!(server.counters()["refused_01"], refused, "{call} {errno}");
        baseline.assert_at_rest();
    }
}

#[test]
#[ignore = "needs root: tests/run"]
fn without_a_socket_to_send_with_datagrams_are_lost_until_there_is_one() {
    // The first is the client's side.
    let server = Faulty::new("socket", "error=EMFILE:when=2+");
    let baseline = server.baseline();
    let [echo, echo_v6] =
        [Ipv4Addr::LOCALHOST.into(), IpAddr::from(Ipv6Addr::LOCALHOST)].map(UdpEcho::start_on);
    let client = Association::open(server.address());
    for _ in 0..50 {
        client.send_to(echo.address(), b"into the void");
        client.send_to(echo_v6.address(), b"into the void");
    }
    server.wait_counter("drops_unsent", 100);
    baseline.assert_idle();
    server.heal();
    client.expect_echo(echo.address(), 100);
    client.expect_echo(echo_v6.address(), 100);
    drop(client);
    baseline.assert_at_rest();
}

/// Calls that are of help only: everything works without.
#[test]
#[ignore = "needs root: tests/run"]
fn without_what_a_socket_can_do_without_everything_works() {
    for (call, errno) in [("setsockopt", "ENOPROTOOPT"), ("connect", "EPERM")] {
        let server = Faulty::new(call, &format!("error={errno}:when=1+"));
        let baseline = server.baseline();
        let echo = UdpEcho::start();
        let client = Association::open(server.address());
        let other = bind(Ipv4Addr::LOCALHOST.into());
        for round in 0..20 {
            client.expect_echo(echo.address(), 100 + round);
            let forged = datagram(echo.address(), b"forged");
            send_from(&other, client.relay(), &forged);
        }
        client.expect_echo(echo.address(), 1000);
        assert_eq!(server.counters()["datagrams_up"], 21);
        drop(client);
        baseline.assert_at_rest();
    }
}

#[test]
fn targets_that_refuse_by_the_thousand_cost_no_healthy_datagram() {
    const STORM: usize = 5000;
    let server = Server::start(&["--log", "debug", "--workers", "1"]);
    let baseline = server.baseline();
    let echo = UdpEcho::start();
    let closed = ClosedNameserver::reserve();
    let client = Association::open(server.address());
    client.expect_echo(echo.address(), 100);
    let lines = server.stderr().len();
    for number in 0..STORM {
        client.send_to(closed.address(), b"nobody is there");
        if number % 50 == 0 {
            client.expect_echo(echo.address(), 100 + number);
        }
    }
    client.expect_echo(echo.address(), 100);
    assert!(server.stderr().len() - lines < 10, "{:#?}", server.stderr());
    assert_eq!(server.counters()["datagrams_up"] as usize, STORM + 2 + STORM / 50);
    drop(client);
    baseline.assert_at_rest();
}

/// The client's own port is closed for a while: each answer to it is refused, and the refusals are
/// reported to calls that are about others.
#[test]
fn a_client_that_refuses_answers_loses_no_datagram_later() {
    const STORM: u64 = 1000;
    let server = Server::start(&["--workers", "1"]);
    let baseline = server.baseline();
    let origin = UdpOrigin::start();
    let client = Association::open(server.address());
    let asked_from = client.expect_exchange(&origin, origin.address());
    let (socket, relay) = (client.client(), client.relay());
    let elsewhere = ClosedNameserver::reserve();
    for _ in 0..5 {
        // Connected elsewhere it hears only from there; all else is refused.
        socket.connect(elsewhere.address()).expect("any address can be connected to");
        let before = server.counters()["datagrams_down"];
        (0..STORM).for_each(|_| origin.send_to(asked_from, b"refused"));
        server.wait_counters("all are sent", |counters| {
            counters["datagrams_down"] == before + STORM && counters["drops_unsent"] == 0
        });
        socket.connect(relay).expect("any address can be connected to");
        for number in 0..20 {
            client.send_to(origin.address(), &[number]);
            origin.expect(&[number]);
        }
        // Behind the last refusal each answer arrives.
        for number in 0..20 {
            origin.send_to(asked_from, &[number]);
            client.expect(origin.address(), &[number]);
        }
    }
    drop(client);
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_cable_that_is_pulled_and_put_back_ends_no_association() {
    let lan = Lan::new();
    let [echo, echo_v6] = [OTHER_V4, OTHER_V6].map(|ip| lan.other.enter(|| UdpEcho::start_on(ip)));
    lan.gateway.enter(|| {
        let server = Server::start(&[]);
        let baseline = server.baseline();
        let client = Association::open(server.address());
        for echo in [&echo, &echo_v6].repeat(3) {
            client.expect_echo(echo.address(), 100);
            lan.gateway.run("ip link set cable down");
            for _ in 0..20 {
                client.send_to(echo.address(), b"into the void");
            }
            lan.gateway.run("ip link set cable up");
            for (ip, bits) in [(GATEWAY_V4, 24), (GATEWAY_V6, 64)] {
                lan.gateway.add_address(&format!("{ip}/{bits}"), "cable");
            }
            wait_until("the cable carries again", || {
                client.send_to(echo.address(), b"ping");
                client.receive_within(LOST_AFTER).is_some()
            });
            while client.receive_within(LOST_AFTER).is_some() {}
        }
        drop(client);
        baseline.assert_at_rest();
    });
}

/// What the client's connection says is heard later if it cannot be now.
#[test]
#[ignore = "needs root: tests/run"]
fn an_end_that_cannot_be_heard_at_once_is_heard_later() {
    for end in [drop as fn(Peer), Peer::reset] {
        for errno in ["ENOMEM", "ENOBUFS"] {
            // The greeting and the request come first.
            let server = Faulty::new("recvfrom", &format!("error={errno}:when=3+"));
            let echo = UdpEcho::start();
            let client = Association::open(server.address());
            client.expect_echo(echo.address(), 100);
            client.control().send(b"stray bytes");
            client.expect_echo(echo.address(), 100);
            client.hang_up(end);
            thread::sleep(LOST_AFTER);
            server.heal();
            server.wait_counter("open", 0);
        }
    }
}

/// A name may have an address to which there is no way, and one to which there is.
#[test]
#[ignore = "needs root: tests/run"]
fn a_name_of_both_families_is_reached_by_the_one_there_is_a_way_to() {
    let network = Netns::new();
    network.enter(|| {
        let nameserver = Nameserver::start();
        for (name, v4_after, v6_after) in
            [("v6first.example", 200, 0), ("v4first.example", 0, 200), ("both.example", 0, 0)]
        {
            nameserver.script(name, move |question| {
                let after = if question.kind == A { v4_after } else { v6_after };
                let answer = question.addresses(&["127.0.0.1", "2001:db8::1"]);
                Response::from(answer).after(Duration::from_millis(after))
            });
        }
        let server = nameserver.server(&[]);
        let origin = UdpOrigin::start();
        let client = Association::open(server.address());
        for name in ["v6first.example", "v4first.example", "both.example"] {
            for number in 0..3 {
                client.send_to_name(name.as_bytes(), origin.port(), &[number]);
                origin.expect(&[number]);
            }
        }
        assert_eq!(server.counters()["drops_unsent"], 0);
    });
}
