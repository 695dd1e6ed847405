//! May it: the gates that clients and targets pass.

mod admitted;
mod clients;
mod commands;
mod expiring;
mod methods;
#[cfg(test)]
mod naive;
mod penalties;
mod places;
mod ports;
mod shards;
mod special;
mod targets;

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

pub use admitted::Admitted;
pub use clients::{ClientLimits, Excess, HeldPort, Presence};
pub use commands::Commands;
pub use methods::Methods;
pub use penalties::Penalties;
pub use places::{Bell, Extra, Place, SessionLimit};
pub use ports::{Claim, NoPort, Ports};
pub use targets::{Host, Targets};

/// Whether a client at `peer` may connect to a listener for `clients`; an empty list admits all.
pub fn admits_client(clients: &[IpNet], peer: IpAddr) -> bool {
    clients.is_empty() || clients.iter().any(|network| network.contains(&peer))
}

/// Whether who listens on `listener` does so on `address` too, if that is one of this host's.
pub fn covers(listener: SocketAddr, address: SocketAddr) -> bool {
    listener.ip().is_unspecified()
        && listener.is_ipv4() == address.is_ipv4()
        && listener.port() == address.port()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_admitted_by_network() {
        let clients = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        assert!(admits_client(&clients, "10.1.2.3".parse().unwrap()));
        assert!(admits_client(&clients, "fd00::1".parse().unwrap()));
        assert!(!admits_client(&clients, "192.0.2.1".parse().unwrap()));
        assert!(!admits_client(&clients, "2001:db8::1".parse().unwrap()));
        assert!(admits_client(&[], "192.0.2.1".parse().unwrap()));
    }
}
