//! May it: the gates that clients and targets pass.

mod clients;
#[cfg(test)]
mod naive;
mod places;
mod special;
mod targets;

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

pub use clients::{ClientLimits, Excess, Presence};
pub use places::{Bell, Place, SessionLimit};
pub use targets::{Host, Targets};

/// Whether a client at `peer` may connect to a listener for `clients`; an empty list admits all.
pub fn admits_client(clients: &[IpNet], peer: IpAddr) -> bool {
    clients.is_empty() || clients.iter().any(|network| network.contains(&peer))
}

/// Whether an address may be connected to. It is asked of the very address that goes to the call;
/// `listeners` are ours.
///
/// Linux takes the unspecified address for the host itself: nobody means that by it. A session with
/// ourselves would be one with ourselves again.
pub fn permits_target(listeners: &[SocketAddr], target: SocketAddr) -> bool {
    let is_ours = |&listener: &SocketAddr| {
        let exact = (listener.ip(), listener.port()) == (target.ip(), target.port());
        exact || (covers(listener, target) && target.ip().is_loopback())
    };
    !target.ip().is_unspecified() && !listeners.iter().any(is_ours)
}

/// Whether a connection from `local` has reached ourselves: what only the routing knew. An address
/// of this host is connected to from that same address.
pub fn is_loop(listeners: &[SocketAddr], local: SocketAddr, target: SocketAddr) -> bool {
    local.ip() == target.ip() && listeners.iter().any(|&listener| covers(listener, target))
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

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_unspecified_address_is_no_target() {
        assert!(!permits_target(&[], address("0.0.0.0:80")));
        assert!(!permits_target(&[], address("[::]:80")));
        assert!(permits_target(&[], address("127.0.0.1:80")));
    }

    #[test]
    fn our_own_listeners_are_no_targets() {
        let exact = [address("127.0.0.1:1080"), address("[::1]:1080")];
        assert!(!permits_target(&exact, address("127.0.0.1:1080")));
        assert!(!permits_target(&exact, address("[::1]:1080")));
        assert!(permits_target(&exact, address("127.0.0.2:1080")));
        assert!(permits_target(&exact, address("127.0.0.1:1081")));
        assert!(!is_loop(&exact, address("192.0.2.1:5000"), address("192.0.2.1:1080")));

        let wildcard = [address("0.0.0.0:1080")];
        assert!(!permits_target(&wildcard, address("127.0.0.2:1080")));
        assert!(permits_target(&wildcard, address("[::1]:1080")));
        assert!(permits_target(&wildcard, address("192.0.2.1:1080")));
        assert!(is_loop(&wildcard, address("192.0.2.1:5000"), address("192.0.2.1:1080")));
        assert!(!is_loop(&wildcard, address("192.0.2.1:5000"), address("192.0.2.1:1081")));
        assert!(!is_loop(&wildcard, address("192.0.2.1:5000"), address("192.0.2.2:1080")));
    }
}
