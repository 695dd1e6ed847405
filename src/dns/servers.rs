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

    /// Whom to ask next who has asked these `before`: each in turn, those that are avoided last.
    /// `None`: there is nobody else.
    pub(super) fn choose(&self, before: &[SocketAddr], now: Instant) -> Option<SocketAddr> {
        let is_avoided = |server: &Server| server.avoided_until.is_some_and(|until| until > now);
        let left = self.0.iter().filter(|server| !before.contains(&server.address));
        left.min_by_key(|server| is_avoided(server)).map(|server| server.address)
    }

    /// Whom to ask first.
    pub(super) fn first(&self, now: Instant) -> SocketAddr {
        self.choose(&[], now).unwrap_or(self.0[0].address)
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
            while let Some(next) = servers.choose(&before, now) {
                before.push(next);
            }
            let place = |it| addresses.iter().position(|address| address == it).unwrap();
            before.iter().map(place).collect()
        };
        assert_eq!(turns(&servers, now), [0, 1, 2]);
        servers.blame(addresses[0], now, now);
        assert_eq!(turns(&servers, now), [1, 2, 0]);
        assert_eq!(turns(&servers, now + Servers::AVOIDED), [0, 1, 2]);
        servers.praise(addresses[0], now);
        assert_eq!(turns(&servers, now), [0, 1, 2]);
        servers.blame(addresses[0], now - Duration::from_secs(1), now);
        assert_eq!(turns(&servers, now), [0, 1, 2]);
    }
}
