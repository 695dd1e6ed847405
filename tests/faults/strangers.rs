//! Clients of other hosts: what is not public is not theirs.

use std::net::{IpAddr, SocketAddr};

use crate::support::finish;
use crate::support::lan::{GATEWAY_V4, GATEWAY_V6, Lan, OTHER_V4};
use crate::support::origin::Origin;
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::{connect_to, connect_to_name, greeting, socks4};

/// Addresses that no stranger may have us connect to.
const PRIVATE: &[&str] = &[
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.0.0.2",
    "100.64.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.2",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a00:2",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::1",
    "fc00::1",
    "fd00::1",
    "fd00::2",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
];

/// Names that other programs take for one of these.
const SPELLINGS: &[&[u8]] = &[
    b"localhost",
    b"LOCALHOST",
    b"localhost.",
    b"127.0.0.1.",
    b"127.1",
    b"127.0.1",
    b"0",
    b"0.0.0.0.",
    b"2130706433",
    b"0x7f000001",
    b"0x7f.0.0.1",
    b"0x7f.1",
    b"0177.0.0.1",
    b"017700000001",
    b"00127.0.0.1",
    b"127.0.0.1:80",
    b"127.0.0.1%lo",
    b"[::1]",
    b"[127.0.0.1]",
    b"::1%lo",
    b"::1%1",
    b"0:0:0:0:0:0:0:1",
    b"::ffff:7f00:1",
    b"::ffff:127.0.0.1",
    b"0000:0000:0000:0000:0000:ffff:7f00:0001",
    b"127.0.0.1\0.example",
    b"\xe2\x91\xa0\xe2\x91\xa1\xe2\x91\xa6.\xe2\x93\xaa.\xe2\x93\xaa.\xe2\x91\xa0",
    b"127\xe3\x80\x820\xe3\x80\x820\xe3\x80\x821",
    b"\xef\xbc\x91\xef\xbc\x92\xef\xbc\x97.0.0.1",
];

/// A gateway for strangers that counts what it lets out.
fn start(lan: &Lan, env: &[(&str, &str)]) -> Server {
    lan.count_syns();
    let listen = format!("{GATEWAY_V4}:1080");
    let quiet =
        [&[("RINGSOCKS_RESOLVER", "127.0.0.1:1"), ("RINGSOCKS_TIMEOUT_RESOLVE", "2s")], env];
    let env = quiet.concat();
    lan.gateway.enter(|| Server::start_with_env(&["--open", "--listen", &listen], &env))
}

#[test]
#[ignore = "needs root: tests/run"]
fn no_private_address_is_connected_to_for_a_stranger() {
    let lan = Lan::new();
    let server = start(&lan, &[]);
    let baseline = server.baseline();
    for text in PRIVATE {
        let ip: IpAddr = text.parse().expect("an address");
        let by_address = connect_to(SocketAddr::new(ip, 80));
        let by_name = connect_to_name(text.as_bytes(), 80);
        for request in [by_address, by_name] {
            assert_eq!(rep(&lan, &server, &request), 2, "{text}");
        }
        if let IpAddr::V4(ip) = ip
            && ip.octets()[..3] != [0; 3]
        {
            let client = stranger(&lan, &server);
            client.send(&socks4(1, ip.octets(), 80, b"", None));
            assert_eq!(client.read_at_most(2), [0, 91], "{text}");
        }
    }
    baseline.assert_at_rest();
    assert_eq!(lan.syns_sent(), 0, "something was connected to");
}

#[test]
#[ignore = "needs root: tests/run"]
fn no_spelling_of_the_loopback_is_connected_to_for_a_stranger() {
    let lan = Lan::new();
    let server = start(&lan, &[]);
    let baseline = server.baseline();
    for name in SPELLINGS {
        let rep = rep(&lan, &server, &connect_to_name(name, 1080));
        assert!([1, 2, 4].contains(&rep), "{}: {rep}", name.escape_ascii());
    }
    baseline.assert_at_rest();
    assert_eq!(lan.syns_sent(), 0, "something was connected to");
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_stranger_reaches_public_addresses_and_those_that_are_allowed() {
    const PUBLIC: [&str; 2] = ["93.184.215.14", "2606:2800:21f:cb07::1"];
    let lan = Lan::new();
    for (ip, via) in PUBLIC.iter().zip(["10.0.0.2", "fd00::2"]) {
        let prefix = if ip.contains(':') { 128 } else { 32 };
        lan.other.add_address(&format!("{ip}/{prefix}"), "lo");
        lan.gateway.run(&format!("ip route add {ip} via {via}"));
    }
    let by_default = start(&lan, &[]);
    let origins = lan.other.enter(|| {
        let origin = |ip: &str| Origin::start_on(ip.parse().expect("an address"));
        (PUBLIC.map(origin), Origin::start_on(OTHER_V4))
    });
    let (public, private) = origins;
    for origin in &public {
        assert_reached(&lan, &by_default, origin);
    }
    assert_eq!(rep(&lan, &by_default, &connect_to(private.address())), 2);
    drop(by_default);

    lan.gateway.run("nft delete table inet count");
    let allowed = start(&lan, &[("RINGSOCKS_LISTEN_TARGETS", "10.0.0.0/8")]);
    assert_reached(&lan, &allowed, &private);
    let own = SocketAddr::new(GATEWAY_V4, 1080);
    assert_eq!(rep(&lan, &allowed, &connect_to(own)), 2, "our own listener");
    for origin in &public {
        assert_eq!(rep(&lan, &allowed, &connect_to(origin.address())), 2);
    }
}

#[test]
#[ignore = "needs root: tests/run"]
fn public_is_public_for_clients_on_this_host_too_where_it_is_said() {
    let lan = Lan::new();
    lan.gateway.enter(|| {
        let server = Server::start_with_env(&[], &[("RINGSOCKS_LISTEN_TARGETS", "public")]);
        let origin = Origin::start();
        for target in [origin.address(), (GATEWAY_V6, origin.port()).into()] {
            let client = Peer::connect(server.address());
            client.send(&greeting(&[0]));
            client.expect(&[5, 0]);
            client.send(&connect_to(target));
            client.expect_refused(2);
        }
        origin.expect_nobody();
    });
}

fn stranger(lan: &Lan, server: &Server) -> Peer {
    lan.other.enter(|| Peer::connect(server.address()))
}

#[track_caller]
fn requesting(lan: &Lan, server: &Server, request: &[u8]) -> Peer {
    let client = stranger(lan, server);
    client.send(&greeting(&[0]));
    client.expect(&[5, 0]);
    client.send(request);
    client
}

#[track_caller]
fn rep(lan: &Lan, server: &Server, request: &[u8]) -> u8 {
    let client = requesting(lan, server, request);
    let reply = client.expect_reply();
    client.expect_eof();
    reply.rep
}

#[track_caller]
fn assert_reached(lan: &Lan, server: &Server, origin: &Origin) {
    let client = requesting(lan, server, &connect_to(origin.address()));
    client.expect_granted();
    finish(client, &origin.accept());
}
