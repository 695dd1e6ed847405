//! A gateway and clients with a router between them that rewrites addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::support::netns::Netns;
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::{BIND, UDP_ASSOCIATE, request, send_request};
use crate::support::udp::{Association, UNSAID, UdpOrigin};
use crate::support::{assert_same_bytes, random_bytes, wait_until};

/// Where the clients are, and others whom they talk to.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2));
const FRIEND: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 3));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 4));
/// The router, as they see it.
const PUBLIC: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
/// The router and the gateway, as they see one another.
const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 254));
const ROUTER_TOO: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 253));
const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// As many as the router forwards.
const UDP_PORTS: &str = "40000-40009";
const BIND_PORTS: &str = "41000-41009";

/// More than the buffers of one session hold.
const LONG: usize = 4_000_000;

/// Time enough for what was relayed to arrive.
const A_WHILE: Duration = Duration::from_millis(300);

struct Networks {
    outside: Netns,
    router: Netns,
    gateway: Netns,
}

impl Networks {
    /// The router rewrites nothing yet.
    fn new() -> Networks {
        let networks =
            Networks { outside: Netns::new(), router: Netns::new(), gateway: Netns::new() };
        let Networks { outside, router, gateway } = &networks;
        outside.link(router, "out");
        router.link(gateway, "in");
        for ip in [CLIENT, FRIEND, STRANGER] {
            outside.add_address(&format!("{ip}/24"), "out");
        }
        router.add_address(&format!("{PUBLIC}/24"), "out");
        for ip in [ROUTER, ROUTER_TOO] {
            router.add_address(&format!("{ip}/24"), "in");
        }
        gateway.add_address(&format!("{GATEWAY}/24"), "in");
        outside.run(&format!("ip route add default via {PUBLIC}"));
        gateway.run(&format!("ip route add default via {ROUTER}"));
        router.run(
            "echo 1 >/proc/sys/net/ipv4/ip_forward
             nft add table ip nat
             nft 'add chain ip nat pre { type nat hook prerouting priority dstnat; }'
             nft 'add chain ip nat post { type nat hook postrouting priority srcnat; }'",
        );
        networks
    }

    /// From now on the gateway is reached at the router's ports, and nowhere else from outside.
    fn forward_ports(&self, port: u16) {
        self.router.run(&format!(
            "nft add rule ip nat pre iifname out ip daddr {PUBLIC} \
                 tcp dport {{ {port}, {BIND_PORTS} }} dnat to {GATEWAY}
             nft add rule ip nat pre iifname out ip daddr {PUBLIC} \
                 udp dport {{ {UDP_PORTS} }} dnat to {GATEWAY}
             nft add rule ip nat post oifname out masquerade",
        ));
        self.outside.run("ip route delete default");
    }

    /// From now on clients have the router's addresses, and other ports: those of one for their
    /// connections, those of the other for their datagrams.
    fn hide_clients(&self, connections_as: IpAddr, datagrams_as: IpAddr) {
        self.router.run(&format!(
            "nft add rule ip nat post oifname in \
                 meta l4proto tcp snat to {connections_as}:20000-29999 fully-random
             nft add rule ip nat post oifname in \
                 meta l4proto udp snat to {datagrams_as}:30000-39999 fully-random",
        ));
    }

    /// From now on the client's datagrams come from another port than this one of its own, and
    /// answers to that port reach it.
    fn show_port(&self, own: u16, shown: u16) {
        self.router.run(&format!(
            "nft add table ip ports
             nft flush table ip ports
             nft 'add chain ip ports back {{ type filter hook prerouting priority raw; }}'
             nft 'add chain ip ports forth {{ type filter hook postrouting priority raw; }}'
             nft add rule ip ports back ip daddr {CLIENT} udp dport {shown} udp dport set {own}
             nft add rule ip ports forth ip saddr {CLIENT} udp sport {own} udp sport set {shown}",
        ));
    }

    #[track_caller]
    fn serve(&self, env: &[(&str, &str)]) -> Server {
        let ours = [
            ("RINGSOCKS_LISTEN_COMMANDS", "connect,udp,bind"),
            ("RINGSOCKS_LISTEN_TARGETS", "10.0.0.0/8,198.51.100.0/24,127.0.0.0/8"),
            ("RINGSOCKS_UDP_PORTS", UDP_PORTS),
            ("RINGSOCKS_BIND_PORTS", BIND_PORTS),
        ];
        let args = ["--open", "--listen", &format!("{GATEWAY}:0"), "--listen", "127.0.0.1:0"];
        self.gateway.enter(|| Server::start_with_env(&args, &[&ours[..], env].concat()))
    }

    /// As [`serve`](Self::serve), with everybody told what is right for them.
    #[track_caller]
    fn serve_behind_router(&self) -> Server {
        let advertise = format!("10.0.0.0/8={GATEWAY},{PUBLIC}");
        let env = ["RINGSOCKS_UDP_ADVERTISE", "RINGSOCKS_BIND_ADVERTISE"];
        let server = self.serve(&env.map(|name| (name, advertise.as_str())));
        self.forward_ports(server.address().port());
        server
    }

    /// A datagram of the client reaches the gateway, and not whom it is for.
    #[track_caller]
    fn expect_not_relayed(&self, association: &Association, target: &UdpOrigin) {
        self.gateway.run(&format!(
            "nft add table inet count
             nft 'add chain inet count in {{ type filter hook input priority 0; }}'
             nft add rule inet count in udp dport {UDP_PORTS} counter"
        ));
        association.send_to(target.address(), b"ping");
        let counted = || self.gateway.run("nft list chain inet count in").contains("packets 1 ");
        wait_until("the datagram is there", counted);
        target.expect_silence(A_WHILE);
    }
}

#[test]
#[ignore = "needs root: tests/run"]
fn datagrams_reach_the_address_that_is_advertised() {
    let networks = Networks::new();
    let server = networks.serve_behind_router();
    let baseline = server.baseline();
    let proxy = SocketAddr::new(PUBLIC, server.address().port());
    networks.outside.enter(|| {
        let friend = UdpOrigin::start_on(FRIEND);
        let association = Association::open(proxy);
        let relay = association.relay();
        assert_eq!(relay.ip(), PUBLIC);
        assert!((40_000..=40_009).contains(&relay.port()), "{relay} is not forwarded");
        let asked_from = association.expect_exchange(&friend, friend.address());
        assert_eq!(asked_from.ip(), PUBLIC, "who the router says it is");
    });
    baseline.assert_restored();
}

#[test]
#[ignore = "needs root: tests/run"]
fn everybody_is_told_an_address_that_is_theirs_to_send_to() {
    let networks = Networks::new();
    let server = networks.serve_behind_router();
    let [on_network, on_loopback] = server.addresses() else { panic!("two listeners") };
    let from_router = networks.router.enter(|| Association::open(*on_network));
    assert_eq!(from_router.relay().ip(), GATEWAY);
    let from_gateway = networks.gateway.enter(|| Association::open(*on_loopback));
    assert_eq!(from_gateway.relay().ip(), Ipv4Addr::LOCALHOST);
    let nearby = networks.router.enter(|| UdpOrigin::start_on(ROUTER));
    for association in [from_router, from_gateway] {
        association.expect_exchange(&nearby, nearby.address());
    }
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_peer_reaches_the_address_that_is_advertised() {
    let networks = Networks::new();
    let server = networks.serve_behind_router();
    let baseline = server.baseline();
    let proxy = SocketAddr::new(PUBLIC, server.address().port());
    networks.outside.enter(|| {
        let client = send_request(proxy, &request(BIND, (FRIEND, 0).into()));
        let bound = client.expect_granted();
        assert_eq!(bound.ip(), PUBLIC);
        assert!((41_000..=41_009).contains(&bound.port()), "{bound} is not forwarded");
        Peer::connect_from((STRANGER, 0).into(), bound).expect_silent_close();
        let friend = Peer::connect_from((FRIEND, 0).into(), bound);
        assert_eq!(client.expect_granted(), friend.local_address());
        let (up, down) = (random_bytes(1, LONG), random_bytes(2, LONG));
        thread::scope(|scope| {
            let at_friend = scope.spawn(|| friend.exchange(&down));
            assert_same_bytes(&client.exchange(&up).bytes, &down);
            assert_same_bytes(&at_friend.join().expect("reading does not panic").bytes, &up);
        });
    });
    baseline.assert_restored();
    assert_eq!(server.counters()["bind_strangers"], 1);
}

/// It is the peer who connects, so it is the peer's address of ours that counts, wherever the
/// client is.
#[test]
#[ignore = "needs root: tests/run"]
fn who_awaits_a_peer_is_told_the_address_that_is_the_peers_to_connect_to() {
    let networks = Networks::new();
    let server = networks.serve_behind_router();
    let proxy = server.address();
    let awaiting = |peer: IpAddr| {
        let waiting = send_request(proxy, &request(BIND, (peer, 0).into()));
        waiting.expect_granted().ip()
    };
    networks.router.enter(|| {
        assert_eq!(awaiting(FRIEND), PUBLIC);
        assert_eq!(awaiting(ROUTER), GATEWAY);
    });
}

/// The client says where its datagrams come from as far as it knows: that is another address and
/// another port than we see.
#[test]
#[ignore = "needs root: tests/run"]
fn a_client_behind_a_router_need_not_know_its_own_address() {
    let networks = Networks::new();
    let server = networks.serve(&[]);
    networks.hide_clients(ROUTER, ROUTER);
    let baseline = server.baseline();
    let target = networks.router.enter(|| UdpOrigin::start_on(ROUTER_TOO));
    networks.outside.enter(|| {
        for says_where in [true, false] {
            let ours = UdpSocket::bind((CLIENT, 0)).expect("the kernel has a port for us");
            let known = ours.local_addr().expect("a bound socket has an address");
            let dst = if says_where { known } else { UNSAID };
            let control = send_request(server.address(), &request(UDP_ASSOCIATE, dst));
            let association = Association::granted_from(control, ours);
            assert_eq!(association.relay().ip(), GATEWAY);
            for _ in 0..3 {
                association.expect_exchange(&target, target.address());
            }
        }
    });
    baseline.assert_restored();
}

/// Some routers that many clients share do that.
#[test]
#[ignore = "needs root: tests/run"]
fn datagrams_of_another_address_than_the_connections_are_relayed_where_that_is_wanted() {
    for (client_check, is_relayed) in [("strict", false), ("address", false), ("off", true)] {
        let networks = Networks::new();
        let server = networks.serve(&[("RINGSOCKS_UDP_CLIENT_CHECK", client_check)]);
        networks.hide_clients(ROUTER, ROUTER_TOO);
        let target = networks.gateway.enter(|| UdpOrigin::start_on(GATEWAY));
        let association = networks.outside.enter(|| Association::open(server.address()));
        if is_relayed {
            for _ in 0..3 {
                association.expect_exchange(&target, target.address());
            }
        } else {
            networks.expect_not_relayed(&association, &target);
        }
    }
}

/// A router does that which has forgotten a client that was silent for some time.
#[test]
#[ignore = "needs root: tests/run"]
fn a_client_that_gets_another_port_meanwhile_is_heard_where_that_is_wanted() {
    for (client_check, is_relayed) in [("strict", false), ("address", true), ("off", true)] {
        let networks = Networks::new();
        let server = networks.serve(&[("RINGSOCKS_UDP_CLIENT_CHECK", client_check)]);
        let target = networks.router.enter(|| UdpOrigin::start_on(ROUTER));
        let association = networks.outside.enter(|| Association::open(server.address()));
        let own = association.client().local_addr().expect("a bound socket has an address").port();
        networks.show_port(own, 30_001);
        association.expect_exchange(&target, target.address());
        networks.show_port(own, 30_002);
        if is_relayed {
            association.expect_exchange(&target, target.address());
        } else {
            networks.expect_not_relayed(&association, &target);
        }
    }
}
