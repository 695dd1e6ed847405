//! A server that is asked to connect to itself, directly or by way of another.

use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use crate::support::netns::Netns;
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::{connect_to, connect_to_name, datagram, greeting, request};
use crate::support::udp::{Association, UdpOrigin};
use crate::support::{finish, session, wait_until};

const LOCAL: [&str; 5] = ["127.0.0.1", "127.9.9.9", "10.0.0.1", "192.168.7.7", "172.16.5.5"];
const LOCAL_V6: [&str; 3] = ["::1", "fd00::1", "2001:db8::7"];

fn host() -> Netns {
    let host = Netns::new();
    for address in LOCAL.iter().chain(&LOCAL_V6).filter(|it| !["127.9.9.9", "::1"].contains(it)) {
        let prefix = if address.contains(':') { 128 } else { 32 };
        host.add_address(&format!("{address}/{prefix}"), "lo");
    }
    host
}

#[test]
#[ignore = "needs root: tests/run"]
fn no_address_of_this_host_leads_back_to_our_own_listeners() {
    let host = host();
    host.enter(|| {
        let listen = ["127.0.0.1:1080", "[::1]:1080", "10.0.0.1:1081", "0.0.0.0:1082", "[::]:1082"];
        let listen: Vec<&str> = listen.iter().flat_map(|it| ["--listen", it]).collect();
        let server = Server::start(&[&listen[..], &["--open"]].concat());
        let baseline = server.baseline();
        let mut denied = vec![
            ("127.0.0.1", 1080),
            ("::1", 1080),
            ("::ffff:127.0.0.1", 1080),
            ("10.0.0.1", 1081),
            ("::ffff:10.0.0.1", 1081),
            ("0.0.0.0", 1080),
            ("::", 1080),
            ("::ffff:0.0.0.0", 1080),
        ];
        denied.extend(LOCAL.iter().chain(&LOCAL_V6).map(|it| (*it, 1082)));
        denied.extend([("::ffff:192.168.7.7", 1082), ("::ffff:127.4.4.4", 1082)]);
        for (ip, port) in denied {
            let target = SocketAddr::new(ip.parse::<IpAddr>().expect("an address"), port);
            assert_denied(&server, &request(1, target), &target.to_string());
            assert_denied(&server, &connect_to_name(ip.as_bytes(), port), ip);
        }
        assert_denied(&server, &connect_to_name(b"localhost", 1080), "localhost");
        assert_denied(&server, &connect_to_name(b"localhost", 1082), "localhost");

        // The server learns of it when it gets there, if not before.
        host.add_address("198.51.100.9/32", "lo");
        let late = SocketAddr::from(([198, 51, 100, 9], 1082));
        assert_denied(&server, &connect_to(late), "an address that came later");
        let (client, target) = session(&server);
        finish(client, &target);
        baseline.assert_at_rest();
    });
}

/// No interface has these addresses, and we come there from another.
#[test]
#[ignore = "needs root: tests/run"]
fn no_network_that_is_routed_to_this_host_leads_back_to_our_own_listeners() {
    let host = host();
    host.run(
        "ip route add local 198.51.77.0/24 dev lo src 10.0.0.1
         ip -6 route add local 2001:db8:77::/64 dev lo",
    );
    host.enter(|| {
        let listen = ["127.0.0.1:1080", "0.0.0.0:1082", "[::]:1082"];
        let listen: Vec<&str> = listen.iter().flat_map(|it| ["--listen", it]).collect();
        let server = Server::start(&[&listen[..], &["--open"]].concat());
        for target in ["198.51.77.5:1082", "[2001:db8:77::5]:1082"] {
            let target: SocketAddr = target.parse().expect("an address");
            assert_denied(&server, &request(1, target), &target.to_string());
        }
    });
}

#[track_caller]
fn assert_denied(server: &Server, request: &[u8], what: &str) {
    let client = Peer::connect(server.address());
    client.send(&greeting(&[0]));
    client.expect(&[5, 0]);
    client.send(request);
    assert_eq!(client.expect_reply().rep, 2, "{what}");
    client.expect_eof();
}

#[test]
fn two_chained_servers_loop_no_further_than_a_client_may_go() {
    const EACH: usize = 12;
    let env = [("RINGSOCKS_LIMIT_SESSIONS_PER_CLIENT", "12")];
    let servers = [Server::start_with_env(&[], &env), Server::start_with_env(&[], &env)];
    let baselines = servers.each_ref().map(Server::baseline);
    let client = Peer::connect(servers[0].address());
    let mut depth = 0;
    loop {
        let next = servers[(depth + 1) % 2].address();
        if client.try_send(&greeting(&[0])).is_err() || client.read_at_most(2) != [5, 0] {
            break;
        }
        client.send(&connect_to(next));
        if client.read_at_most(10).get(..2) != Some(&[5, 0]) {
            break;
        }
        depth += 1;
        assert!(depth <= 2 * EACH, "they go on and on");
    }
    assert!(depth >= EACH, "only {depth} deep");
    drop(client);
    for baseline in baselines {
        baseline.assert_at_rest();
    }
}

/// An association's own ports, those of another one, and the listeners', by every address of the host.
#[test]
#[ignore = "needs root: tests/run"]
fn no_address_of_this_host_leads_datagrams_back_to_our_own_ports() {
    let host = host();
    host.run(
        "ip route add local 198.51.77.0/24 dev lo src 10.0.0.1
         ip -6 route add local 2001:db8:77::/64 dev lo",
    );
    host.enter(|| {
        let listen = ["127.0.0.1:1080", "[::1]:1080", "0.0.0.0:1082", "[::]:1082"];
        let listen: Vec<&str> = listen.iter().flat_map(|it| ["--listen", it]).collect();
        let env = [("RINGSOCKS_UDP_CLIENT_CHECK", "off")];
        let server = Server::start_with_env(&[&listen[..], &["--open"]].concat(), &env);
        let baseline = server.baseline();
        let origins = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()]
            .map(UdpOrigin::start_on);
        let clients = [0, 1].map(|listener| Association::open(server.addresses()[listener]));
        let [mut v4, mut v6] = [vec![1082], vec![1082]];
        for client in &clients {
            let ports = if client.relay().is_ipv4() { &mut v4 } else { &mut v6 };
            ports.push(client.relay().port());
            v4.push(client.expect_exchange(&origins[0], origins[0].address()).port());
            v6.push(client.expect_exchange(&origins[1], origins[1].address()).port());
        }
        host.add_address("198.51.100.9/32", "lo");
        server.wait_line("addresses of this host have changed");
        // The reactors are told of it before they are asked for these.
        server.counters();
        let v4_names = ["198.51.77.5", "::ffff:127.0.0.1", "::ffff:10.0.0.1"];
        let v6_names = ["2001:db8:77::5"];
        let own = |names: &[&[&'static str]], ports: &[u16]| -> Vec<(&'static str, u16)> {
            let names = names.concat();
            ports.iter().flat_map(|port| names.clone().into_iter().map(|it| (it, *port))).collect()
        };
        let denied = [
            own(&[&LOCAL, &v4_names], &v4),
            own(&[&LOCAL_V6, &v6_names], &v6),
            // It came up later.
            own(&[&["198.51.100.9"]], &v4),
            vec![("127.0.0.1", 1080), ("::1", 1080), ("::ffff:127.0.0.1", 1080)],
        ]
        .concat();
        let payload = datagram(origins[0].address(), b"round and round");
        let mut dropped = 0;
        for client in &clients {
            for (ip, port) in &denied {
                let target = SocketAddr::new(ip.parse().expect("an address"), *port);
                client.send_to(target, &payload);
                client.send_to_name(ip.as_bytes(), *port, &payload);
                dropped += 2;
            }
            client.expect_exchange(&origins[0], origins[0].address());
        }
        let counters = server.counters();
        assert_eq!(counters["drops_denied"], dropped, "{counters:?}");
        assert_eq!(counters["datagrams_up"], 6, "{counters:?}");
        drop(clients);
        baseline.assert_at_rest();
    });
}

/// Datagrams that go round have a header taken off or put on by each server that they pass: they
/// come to an end when there is none left, or no room for another.
#[test]
fn datagrams_go_round_between_two_servers_until_they_are_used_up() {
    for check in ["strict", "address", "off"] {
        let env = [("RINGSOCKS_UDP_CLIENT_CHECK", check)];
        let servers = [(); 2].map(|()| Server::start_with_env(&["--workers", "1"], &env));
        let baselines = servers.each_ref().map(Server::baseline);
        let clients = servers.each_ref().map(|server| Association::open(server.address()));
        let [one, other] = clients.each_ref().map(Association::relay);
        // Who takes the other for its client sends it what comes from it.
        let nested = |hops: usize| {
            let relays = [one, other].into_iter().cycle().take(hops);
            relays.fold(b"x".to_vec(), |data, relay| datagram(relay, &data))
        };
        let origin = UdpOrigin::start();
        let asked_from = clients.each_ref().map(|it| it.expect_exchange(&origin, origin.address()));
        for hops in [2, 3, 10, 6000] {
            for client in &clients {
                client.send_raw(&nested(hops));
            }
        }
        wait_until_still(&servers);
        // Now each may be the other's client, and an answer goes round with ever more headers.
        asked_from.iter().for_each(|it| origin.send_to(*it, b"an answer"));
        let last = wait_until_still(&servers);
        let longest = servers.each_ref().map(|it| it.counters()["drops_too_large"]);
        assert_eq!(longest.iter().sum::<u64>(), if check == "strict" { 0 } else { 2 }, "{check}");
        // Each datagram passes as often as it has headers, or has room for.
        let bound = (2 * 4 + 2) * 66_000 / 10;
        assert!(last.iter().sum::<u64>() <= bound, "{check}: {last:?}");
        assert!(servers.iter().all(|server| server.counters()["associated"] == 1));
        drop(clients);
        for baseline in baselines {
            baseline.assert_at_rest();
        }
    }
}

/// Waits until nothing goes round any more; how many datagrams went through each.
#[track_caller]
fn wait_until_still(servers: &[Server; 2]) -> [u64; 2] {
    let mut last = servers.each_ref().map(relayed);
    wait_until("they die down", || {
        thread::sleep(Duration::from_millis(100));
        let now = servers.each_ref().map(relayed);
        mem::replace(&mut last, now) == now
    });
    last
}

/// How many datagrams went through it, either way.
fn relayed(server: &Server) -> u64 {
    let counters = server.counters();
    counters["datagrams_up"] + counters["datagrams_down"]
}
