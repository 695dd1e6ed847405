//! May it: the gates that clients and targets pass.

use std::net::IpAddr;

use ipnet::IpNet;

/// Whether a client at `peer` may connect to a listener for `clients`; an empty list admits all.
pub fn admits_client(clients: &[IpNet], peer: IpAddr) -> bool {
    clients.is_empty() || clients.iter().any(|network| network.contains(&peer))
}

/// Whether an address may be connected to. It is asked of the very address that goes to the call.
///
/// Linux takes the unspecified address for the host itself: nobody means that by it.
pub fn permits_target(target: IpAddr) -> bool {
    !target.is_unspecified()
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

    #[test]
    fn the_unspecified_address_is_no_target() {
        assert!(!permits_target("0.0.0.0".parse().unwrap()));
        assert!(!permits_target("::".parse().unwrap()));
        assert!(permits_target("127.0.0.1".parse().unwrap()));
    }
}
