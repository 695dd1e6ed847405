//! A client that reaches the world through the gateway and in no other way, each on a host of its
//! own.

use std::net::{IpAddr, Ipv4Addr};

use crate::support::netns::Netns;
use crate::support::server::Server;

/// The gateway, as the world sees it.
pub(crate) const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
/// The world's two addresses.
pub(crate) const WORLD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
pub(crate) const WORLD_TOO: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3));

pub(crate) struct Office {
    pub(crate) client: Netns,
    pub(crate) gateway: Netns,
    pub(crate) world: Netns,
}

impl Office {
    pub(crate) fn new() -> Office {
        let office = Office { client: Netns::new(), gateway: Netns::new(), world: Netns::new() };
        office.client.link(&office.gateway, "inside");
        office.gateway.link(&office.world, "outside");
        office.client.add_address("10.1.0.2/24", "inside");
        office.gateway.add_address("10.1.0.1/24", "inside");
        office.gateway.add_address(&format!("{GATEWAY}/24"), "outside");
        for ip in [WORLD, WORLD_TOO] {
            office.world.add_address(&format!("{ip}/24"), "outside");
        }
        office
    }

    /// A server for the office, which may do everything there is with the world.
    #[track_caller]
    pub(crate) fn serve(&self, args: &[&str], env: &[(&str, &str)]) -> Server {
        let args = [&["--listen", "10.1.0.1:0", "--open"], args].concat();
        let ours = [
            ("RINGSOCKS_LISTEN_COMMANDS", "connect,udp,bind"),
            ("RINGSOCKS_LISTEN_TARGETS", "10.0.0.0/24"),
        ];
        self.gateway.enter(|| Server::start_with_env(&args, &[&ours[..], env].concat()))
    }
}
