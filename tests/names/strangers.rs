//! Clients of other hosts, and names that lead where they must not go.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;

use crate::nameserver::{A, Nameserver, at_once};
use crate::server_asking;
use crate::support::lan::{GATEWAY_V4, Lan, OTHER_V4};
use crate::support::origin::Origin;
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::{connect_to_name, greeting};

const PUBLIC: &str = "93.184.215.14";

/// What a name must not lead to, in the labels of the name.
const FORBIDDEN: [(&str, &str); 14] = [
    ("loopback", "127.0.0.1"),
    ("loopback6", "::1"),
    ("mapped", "::ffff:127.0.0.1"),
    ("compatible", "::127.0.0.1"),
    ("metadata", "169.254.169.254"),
    ("mapped-metadata", "::ffff:169.254.169.254"),
    ("private", "10.0.0.2"),
    ("gateway", "10.0.0.1"),
    ("nat64", "64:ff9b::7f00:1"),
    ("sixtofour", "2002:7f00:1::1"),
    ("teredo", "2001:0:7f00:1::1"),
    ("local", "fe80::1"),
    ("unique-local", "fd00::2"),
    ("nobody", "0.0.0.0"),
];

fn gateway(lan: &Lan, nameserver: &Nameserver, env: &[(&str, &str)]) -> Server {
    let listen = format!("{GATEWAY_V4}:1080");
    let env = [&[("RINGSOCKS_LISTEN", listen.as_str()), ("RINGSOCKS_OPEN", "true")], env].concat();
    lan.gateway.enter(|| {
        let resolver = nameserver.text();
        let all = [&[("RINGSOCKS_RESOLVER", resolver.as_str())], &env[..]].concat();
        Server::start_with_env(&["--listen", &listen], &all)
    })
}

#[track_caller]
fn asking(lan: &Lan, server: &Server, name: &str, port: u16) -> Peer {
    let client = lan.other.enter(|| Peer::connect(server.address()));
    client.send(&greeting(&[0]));
    client.expect(&[5, 0]);
    client.send(&connect_to_name(name.as_bytes(), port));
    client
}

/// A public address that the gateway's neighbour has, and somebody who listens there.
fn public_origin(lan: &Lan) -> Origin {
    lan.other.run(&format!("ip address add {PUBLIC} dev lo"));
    lan.gateway.run(&format!("ip route add {PUBLIC} via {OTHER_V4}"));
    lan.other.enter(|| Origin::start_on(PUBLIC.parse().unwrap()))
}

#[test]
#[ignore = "needs root: tests/run"]
fn no_name_leads_a_stranger_to_what_is_not_public() {
    let lan = Lan::new();
    lan.count_syns();
    let nameserver = lan.gateway.enter(|| {
        Nameserver::start(|asked| {
            let label = asked.name.split('.').next().unwrap().to_ascii_lowercase();
            let (_, ip) = FORBIDDEN.iter().find(|it| it.0 == label).expect("a label of ours");
            vec![at_once(asked.addresses(&[ip.parse().unwrap()], 0))]
        })
    });
    let server = gateway(&lan, &nameserver, &[]);
    let baseline = server.baseline();
    for (label, ip) in FORBIDDEN {
        let client = asking(&lan, &server, &format!("{label}.example"), 80);
        assert_eq!(client.expect_reply().rep, 2, "{label}: {ip}");
    }
    baseline.assert_at_rest();
    assert_eq!(lan.syns_sent(), 0, "something was connected to");
}

#[test]
#[ignore = "needs root: tests/run"]
fn of_many_addresses_only_public_ones_are_tried() {
    let lan = Lan::new();
    let origin = public_origin(&lan);
    let private = lan.other.enter(|| {
        Origin::try_start_at(SocketAddr::new(OTHER_V4, origin.port())).expect("a port is free")
    });
    lan.count_syns();
    let nameserver = lan.gateway.enter(|| {
        let all: Vec<IpAddr> = FORBIDDEN.iter().map(|it| it.1.parse().unwrap()).collect();
        let all = [all, vec![PUBLIC.parse().unwrap()]].concat();
        Nameserver::start(move |asked| vec![at_once(asked.addresses(&all, 0))])
    });
    let server = gateway(&lan, &nameserver, &[]);
    let baseline = server.baseline();
    let client = asking(&lan, &server, "mixed.example", origin.port());
    client.expect_granted();
    drop(origin.accept());
    private.expect_nobody();
    assert_eq!(lan.syns_sent(), 1, "only one was tried");
    drop(client);
    baseline.assert_restored();
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_name_that_changes_its_mind_is_asked_for_once() {
    let lan = Lan::new();
    let origin = public_origin(&lan);
    let first = OnceLock::new();
    let nameserver = lan.gateway.enter(|| {
        Nameserver::start(move |asked| {
            let is_first = asked.kind != A || *first.get_or_init(|| asked.id) == asked.id;
            let ip = if is_first { PUBLIC } else { "10.0.0.2" };
            vec![at_once(asked.addresses(&[ip.parse().unwrap()], 0))]
        })
    });
    let server = gateway(&lan, &nameserver, &[]);
    let baseline = server.baseline();
    let client = asking(&lan, &server, "rebound.example", origin.port());
    client.expect_granted();
    drop((client, origin.accept()));
    assert_eq!(nameserver.count("rebound.example"), 2, "what was checked is what was used");
    let client = asking(&lan, &server, "rebound.example", origin.port());
    assert_eq!(client.expect_reply().rep, 2);
    baseline.assert_restored();
}

#[test]
#[ignore = "needs root: tests/run"]
fn who_is_told_otherwise_reaches_what_is_private() {
    let lan = Lan::new();
    let private = lan.other.enter(|| Origin::start_on(OTHER_V4));
    let nameserver = lan.gateway.enter(|| Nameserver::with(&["127.0.0.1", "10.0.0.2"]));
    let server = gateway(&lan, &nameserver, &[("RINGSOCKS_LISTEN_TARGETS", "10.0.0.0/8")]);
    let baseline = server.baseline();
    let client = asking(&lan, &server, "office.example", private.port());
    client.expect_granted();
    drop((client, private.accept()));
    baseline.assert_restored();
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_name_of_the_gateway_itself_leads_nowhere() {
    let lan = Lan::new();
    lan.gateway.enter(|| {
        let nameserver = Nameserver::with(&["127.0.0.1", "::1", "10.0.0.1", "fd00::1"]);
        let server = server_asking(&[&nameserver], &[("RINGSOCKS_LISTEN_CLIENTS", "127.0.0.1")]);
        let baseline = server.baseline();
        let own = server.address().port();
        let client = crate::asking(&server, "myself.example", own);
        // 127.0.0.1 is where it listens; elsewhere at that port is nobody.
        assert_eq!(client.expect_reply().rep, 5);
        drop(client);
        baseline.assert_restored();
        drop(server);
        let env = [("RINGSOCKS_OPEN", "true")];
        let resolver = nameserver.text();
        let env = [&[("RINGSOCKS_RESOLVER", resolver.as_str())], &env[..]].concat();
        let everywhere =
            Server::start_with_env(&["--listen", "0.0.0.0:1090", "--listen", "[::]:1090"], &env);
        let local = SocketAddr::from(([127, 0, 0, 1], 1090));
        let client = Peer::connect(local);
        client.send(&greeting(&[0]));
        client.expect(&[5, 0]);
        client.send(&connect_to_name(b"myself.example", 1090));
        assert_eq!(client.expect_reply().rep, 2);
        drop(everywhere);
    });
}
