//! A server that is asked to connect to itself, directly or by way of another.

use std::net::{IpAddr, SocketAddr};

use crate::support::netns::Netns;
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::{connect_to, connect_to_name, greeting, request};
use crate::support::{finish, session};

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
