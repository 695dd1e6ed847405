//! May it: the gates that clients and targets pass.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use ipnet::IpNet;

/// How many sessions the whole process may have at a time, and has.
///
/// Descriptors are the process's, so the limit is: reactors share this one count, and touch it when
/// a session opens and when it closes.
pub struct SessionLimit {
    max: usize,
    open: AtomicUsize,
}

impl SessionLimit {
    /// A limit of `max` sessions; none is open.
    pub fn new(max: usize) -> SessionLimit {
        SessionLimit { max, open: AtomicUsize::new(0) }
    }

    /// How many there may be.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Counts one more, unless that would be too many.
    pub fn open(&self) -> bool {
        let more = |open| (open < self.max).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Counts one less.
    pub fn close(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

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
    fn a_session_opens_only_below_the_limit() {
        let limit = SessionLimit::new(2);
        assert!(limit.open() && limit.open() && !limit.open());
        limit.close();
        assert!(limit.open() && !limit.open());
    }

    #[test]
    fn the_unspecified_address_is_no_target() {
        assert!(!permits_target("0.0.0.0".parse().unwrap()));
        assert!(!permits_target("::".parse().unwrap()));
        assert!(permits_target("127.0.0.1".parse().unwrap()));
    }
}
