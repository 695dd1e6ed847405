//! May it: the gates that clients and targets pass.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ipnet::IpNet;

/// How many sessions the whole process may have at a time, and has.
///
/// Descriptors are the process's, so the limit is: reactors share this one count, and touch it when
/// a session opens and when it closes.
pub struct SessionLimit {
    max: usize,
    taken: AtomicUsize,
}

/// A session's place below the limit, given back when it is dropped.
pub struct Place(Arc<SessionLimit>);

impl SessionLimit {
    /// A limit of `max` sessions; none is open.
    pub fn new(max: usize) -> SessionLimit {
        SessionLimit { max, taken: AtomicUsize::new(0) }
    }

    /// How many there may be.
    pub fn max(&self) -> usize {
        self.max
    }

    /// A place, unless all are taken.
    pub fn take(self: &Arc<SessionLimit>) -> Option<Place> {
        self.take_below(self.max)
    }

    /// A place for what a session can do without, while half of them are free: new sessions always
    /// find the other half.
    pub fn take_spare(self: &Arc<SessionLimit>) -> Option<Place> {
        self.take_below(self.max / 2)
    }

    fn take_below(self: &Arc<SessionLimit>, max: usize) -> Option<Place> {
        let more = |taken| (taken < max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Place(Arc::clone(self)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

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

    #[test]
    fn a_session_opens_only_below_the_limit() {
        let limit = Arc::new(SessionLimit::new(2));
        let (one, _other) = (limit.take(), limit.take());
        assert!(one.is_some() && limit.take().is_none());
        drop(one);
        let _again = limit.take().expect("a place was given back");
        assert!(limit.take().is_none());
    }

    #[test]
    fn what_can_be_done_without_leaves_half_to_sessions() {
        let limit = Arc::new(SessionLimit::new(4));
        let _spare = [limit.take_spare(), limit.take_spare()].map(Option::unwrap);
        assert!(limit.take_spare().is_none());
        let _sessions = [limit.take(), limit.take()].map(Option::unwrap);
        assert!(limit.take().is_none());
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
