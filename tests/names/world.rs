//! A small Internet: the gateway's host, and another that is everyone else. Needs root.

use std::net::{IpAddr, SocketAddr};

use crate::support::dns::Nameserver;
use crate::support::lan::{GATEWAY_V4, Lan, OTHER_V4};
use crate::support::origin::Origin;
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::request_name;
use crate::wire::Wire;

/// Where the origins of a test listen, all of them.
pub(crate) const PORT: u16 = 8080;

/// A public address of the other host, or of nobody: then what is sent there is lost.
pub(crate) fn v4(n: u8) -> String {
    format!("93.184.216.{n}")
}

pub(crate) fn v6(n: u8) -> String {
    format!("2600:1::{n:x}")
}

/// The route that there is one to.
pub(crate) const V6_INTERNET: &str = "default via fd00::2";

pub(crate) struct World {
    pub(crate) lan: Lan,
    pub(crate) nameserver: Nameserver,
    pub(crate) wire: Wire,
}

impl World {
    /// Both families lead everywhere.
    pub(crate) fn new() -> World {
        let world = World::without_v6();
        world.lan.gateway.run(&format!("ip route add {V6_INTERNET}"));
        world
    }

    /// There is no way to the IPv6 Internet.
    pub(crate) fn without_v6() -> World {
        let lan = Lan::new();
        lan.gateway.run(&format!("ip route add default via {OTHER_V4}"));
        // What is for nobody is lost: neither forwarded nor complained about.
        lan.other.run(
            "echo 0 >/proc/sys/net/ipv4/ip_forward
             ip -6 route add blackhole default",
        );
        let nameserver = lan.other.enter(|| Nameserver::start_at((OTHER_V4, 0).into()));
        let wire = lan.gateway.enter(Wire::tap);
        World { lan, nameserver, wire }
    }

    /// The other host has these addresses from now on; nobody listens there yet.
    pub(crate) fn has(&self, addresses: &[String]) {
        for address in addresses {
            let nodad = if ip(address).is_ipv6() { "nodad" } else { "" };
            self.lan.other.run(&format!("ip address add {address} dev lo {nodad}"));
        }
    }

    /// Somebody listens at this address of the other host.
    pub(crate) fn origin(&self, address: &str) -> Origin {
        self.has(&[address.to_owned()]);
        self.origin_at(SocketAddr::new(ip(address), PORT))
    }

    pub(crate) fn origin_at(&self, address: SocketAddr) -> Origin {
        let origin = self.lan.other.enter(|| Origin::try_start_at(address));
        origin.unwrap_or_else(|| panic!("nobody else listens at {address}"))
    }

    /// The real binary for clients on its own host.
    #[track_caller]
    pub(crate) fn server(&self, env: &[(&str, &str)]) -> Server {
        self.server_at(&["--listen", "127.0.0.1:0"], env)
    }

    /// The real binary for clients on the other host.
    #[track_caller]
    pub(crate) fn server_for_strangers(&self, env: &[(&str, &str)]) -> Server {
        self.server_at(&["--listen", &format!("{GATEWAY_V4}:1080")], env)
    }

    /// The real binary that is told so where it listens.
    #[track_caller]
    pub(crate) fn server_at(&self, listen: &[&str], env: &[(&str, &str)]) -> Server {
        let nameserver = self.nameserver.address().to_string();
        let ours = [("RINGSOCKS_RESOLVER", &*nameserver), ("RINGSOCKS_WORKERS", "1")];
        let env = [&ours[..], env].concat();
        let args = [&["--open"], listen].concat();
        self.lan.gateway.enter(|| Server::start_with_env(&args, &env))
    }

    /// A client on the gateway's own host that asks for `name`.
    #[track_caller]
    pub(crate) fn ask(&self, server: &Server, name: &str) -> Peer {
        self.lan.gateway.enter(|| request_name(server.address(), name, PORT))
    }

    /// A client on the other host that asks for `name`.
    #[track_caller]
    pub(crate) fn ask_as_stranger(&self, server: &Server, name: &str, port: u16) -> Peer {
        self.lan.other.enter(|| request_name(server.address(), name, port))
    }
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
