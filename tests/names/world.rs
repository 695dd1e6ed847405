//! A small Internet: the gateway's host, and another that is everyone else. Needs root.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::support::dns::Nameserver;
use crate::support::netns::Netns;
use crate::support::origin::Origin;
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::request_name;
use crate::wire::Wire;

pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
pub(crate) const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1);
pub(crate) const OUTSIDE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2);

/// Where the origins of a test listen, all of them.
pub(crate) const PORT: u16 = 8080;

/// A public address of the other host, or of nobody: then what is sent there is lost.
pub(crate) fn v4(n: u8) -> String {
    format!("93.184.216.{n}")
}

pub(crate) fn v6(n: u8) -> String {
    format!("2600:1::{n:x}")
}

pub(crate) struct World {
    pub(crate) gateway: Netns,
    pub(crate) outside: Netns,
    pub(crate) nameserver: Nameserver,
    pub(crate) wire: Wire,
}

impl World {
    /// Both families lead everywhere.
    pub(crate) fn new() -> World {
        let world = World::without_v6();
        world.gateway.run(&format!("ip route add default via {OUTSIDE_V6}"));
        world
    }

    /// There is no way to the IPv6 Internet.
    pub(crate) fn without_v6() -> World {
        let (gateway, outside) = (Netns::new(), Netns::new());
        gateway.link(&outside, "cable");
        for (host, v4, v6) in [(&gateway, GATEWAY, GATEWAY_V6), (&outside, OUTSIDE, OUTSIDE_V6)] {
            host.run(&format!(
                "echo 0 >/proc/sys/net/ipv4/ip_forward
                 ip address add {v4}/24 dev cable
                 ip address add {v6}/64 dev cable nodad"
            ));
        }
        gateway.run(&format!("ip route add default via {OUTSIDE}"));
        outside.run(&format!("ip route add default via {GATEWAY}"));
        let nameserver = outside.enter(|| Nameserver::start_at((OUTSIDE, 0).into()));
        let wire = gateway.enter(Wire::tap);
        World { gateway, outside, nameserver, wire }
    }

    /// The other host has these addresses from now on; nobody listens there yet.
    pub(crate) fn has(&self, addresses: &[String]) {
        for address in addresses {
            self.outside.run(&format!("ip address add {address} dev lo"));
        }
    }

    /// Somebody listens at this address of the other host.
    pub(crate) fn origin(&self, address: &str) -> Origin {
        self.has(&[address.to_owned()]);
        self.origin_at(SocketAddr::new(ip(address), PORT))
    }

    pub(crate) fn origin_at(&self, address: SocketAddr) -> Origin {
        let origin = self.outside.enter(|| Origin::try_start_at(address));
        origin.unwrap_or_else(|| panic!("nobody else listens at {address}"))
    }

    /// The real binary for clients on its own host.
    #[track_caller]
    pub(crate) fn server(&self, env: &[(&str, &str)]) -> Server {
        self.server_listening_at(GATEWAY_LOOPBACK, env)
    }

    /// The real binary for clients on the other host.
    #[track_caller]
    pub(crate) fn server_for_strangers(&self, env: &[(&str, &str)]) -> Server {
        self.server_listening_at("10.1.0.1:1080", env)
    }

    #[track_caller]
    fn server_listening_at(&self, address: &str, env: &[(&str, &str)]) -> Server {
        let nameserver = self.nameserver.address().to_string();
        let ours = [("RINGSOCKS_RESOLVER", &*nameserver), ("RINGSOCKS_WORKERS", "1")];
        let env = [&ours[..], env].concat();
        let args = ["--open", "--listen", address];
        self.gateway.enter(|| Server::start_with_env(&args, &env))
    }

    /// A client on the gateway's own host that asks for `name`.
    #[track_caller]
    pub(crate) fn ask(&self, server: &Server, name: &str) -> Peer {
        self.gateway.enter(|| request_name(server.address(), name, PORT))
    }

    /// A client on the other host that asks for `name`.
    #[track_caller]
    pub(crate) fn ask_as_stranger(&self, server: &Server, name: &str, port: u16) -> Peer {
        self.outside.enter(|| request_name(server.address(), name, port))
    }
}

const GATEWAY_LOOPBACK: &str = "127.0.0.1:0";

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
