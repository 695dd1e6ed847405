use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The name servers, and which of them have been of use lately.
pub(super) struct Servers(Vec<Server>);

struct Server {
    address: SocketAddr,
    answered_at: Option<Instant>,
    avoided_until: Option<Instant>,
}

impl Servers {
    /// How long a server that has failed is asked only after the others.
    const AVOIDED: Duration = Duration::from_secs(10);

    pub(super) fn new(addresses: &[SocketAddr]) -> Servers {
        let server = |&address| Server { address, answered_at: None, avoided_until: None };
        Servers(addresses.iter().map(server).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn are(&self, addresses: &[SocketAddr]) -> bool {
        self.0.iter().map(|server| &server.address).eq(addresses)
    }

    /// Whom to ask next: each in turn, those that are avoided last. Once all are among those
    /// `asked`, that starts again.
    pub(super) fn next(&self, asked: &mut Vec<SocketAddr>, now: Instant) -> SocketAddr {
        if self.0.iter().all(|server| asked.contains(&server.address)) {
            asked.clear();
        }
        let is_avoided = |server: &Server| server.avoided_until.is_some_and(|until| until > now);
        let left = self.0.iter().filter(|server| !asked.contains(&server.address));
        let next = left.min_by_key(|server| is_avoided(server));
        next.unwrap_or(&self.0[0]).address
    }

    pub(super) fn has(&self, address: SocketAddr) -> bool {
        self.0.iter().any(|server| server.address == address)
    }

    /// A server has answered.
    pub(super) fn praise(&mut self, address: SocketAddr, now: Instant) {
        if let Some(server) = self.find(address) {
            (server.answered_at, server.avoided_until) = (Some(now), None);
        }
    }

    /// A server has failed at a question that it was asked at `asked_at`. If it has answered others
    /// since, it is the name that is slow.
    pub(super) fn blame(&mut self, address: SocketAddr, asked_at: Instant, now: Instant) {
        if let Some(server) = self.find(address)
            && server.answered_at.is_none_or(|at| at < asked_at)
        {
            server.avoided_until = Some(now + Self::AVOIDED);
        }
    }

    fn find(&mut self, address: SocketAddr) -> Option<&mut Server> {
        self.0.iter_mut().find(|server| server.address == address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_turn_and_who_failed_comes_last() {
        let addresses: Vec<SocketAddr> =
            ["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"].map(|it| it.parse().unwrap()).into();
        let mut servers = Servers::new(&addresses);
        let now = Instant::now();
        let turns = |servers: &Servers, now| -> Vec<usize> {
            let mut before = Vec::new();
            let mut turn = || {
                let next = servers.next(&mut before, now);
                before.push(next);
                addresses.iter().position(|address| *address == next).unwrap()
            };
            (0..4).map(|_| turn()).collect()
        };
        assert_eq!(turns(&servers, now), [0, 1, 2, 0]);
        servers.blame(addresses[0], now, now);
        assert_eq!(turns(&servers, now), [1, 2, 0, 1]);
        assert_eq!(turns(&servers, now + Servers::AVOIDED), [0, 1, 2, 0]);
        servers.praise(addresses[0], now);
        assert_eq!(turns(&servers, now), [0, 1, 2, 0]);
        servers.blame(addresses[0], now - Duration::from_secs(1), now);
        assert_eq!(turns(&servers, now), [0, 1, 2, 0]);
    }
}
