use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;

use super::shards::{Client, Shards};

/// How many sessions, handshakes among them, and ports one client may have in the whole process. A
/// client is an IPv4 address or an IPv6 /64, which is what one host may be given.
///
/// Nothing is locked or remembered where nothing is limited. A client is in the table while
/// something of it counts: there are no more entries than sessions.
pub struct ClientLimits {
    sessions: Option<usize>,
    handshakes: Option<usize>,
    ports: Option<usize>,
    shards: Shards<HashMap<Client, Counts>>,
}

/// A client's session as it counts against its limits; dropped, it no longer does.
pub struct Presence {
    /// None where it counts against nothing, now or any more.
    limits: Option<Arc<ClientLimits>>,
    client: Client,
    shakes_hands: bool,
}

/// A port that a client has of us, as it counts against its limit; dropped, it no longer does.
pub struct HeldPort(Option<(Arc<ClientLimits>, Client)>);

/// What a client has too many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// Sessions.
    Sessions,
    /// Handshakes that are not over.
    Handshakes,
    /// Ports for datagrams and for connections of others.
    Ports,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    sessions: usize,
    handshakes: usize,
    ports: usize,
}

impl ClientLimits {
    /// Limits of this many at a time, at least one; `None` is any number.
    pub fn new(
        sessions: Option<usize>,
        handshakes: Option<usize>,
        ports: Option<usize>,
    ) -> ClientLimits {
        ClientLimits { sessions, handshakes, ports, shards: Shards::new() }
    }

    /// Counts a new session, in its handshake, of the client at this address.
    pub fn admit(self: &Arc<ClientLimits>, client: IpAddr) -> Result<Presence, Excess> {
        let client = Client::new(client);
        if self.sessions.is_none() && self.handshakes.is_none() {
            return Ok(Presence { limits: None, client, shakes_hands: false });
        }
        let mut shard = self.shards.of(client.number());
        let counts = shard.entry(client).or_default();
        if self.sessions.is_some_and(|max| counts.sessions >= max) {
            return Err(Excess::Sessions);
        }
        if self.handshakes.is_some_and(|max| counts.handshakes >= max) {
            return Err(Excess::Handshakes);
        }
        counts.sessions += usize::from(self.sessions.is_some());
        counts.handshakes += usize::from(self.handshakes.is_some());
        let shakes_hands = self.handshakes.is_some();
        Ok(Presence { limits: Some(Arc::clone(self)), client, shakes_hands })
    }

    /// Counts a port that the client at this address is given.
    pub fn hold_port(self: &Arc<ClientLimits>, client: IpAddr) -> Result<HeldPort, Excess> {
        let Some(max) = self.ports else { return Ok(HeldPort(None)) };
        let client = Client::new(client);
        let mut shard = self.shards.of(client.number());
        let counts = shard.entry(client).or_default();
        if counts.ports >= max {
            return Err(Excess::Ports);
        }
        counts.ports += 1;
        Ok(HeldPort(Some((Arc::clone(self), client))))
    }

    fn give_back(&self, client: Client, back: Counts) {
        let mut shard = self.shards.of(client.number());
        let Entry::Occupied(mut known) = shard.entry(client) else { return };
        let counts = known.get_mut();
        counts.sessions -= back.sessions;
        counts.handshakes -= back.handshakes;
        counts.ports -= back.ports;
        if *counts == Counts::default() {
            known.remove();
            shrink_if_sparse(&mut shard);
        }
    }
}

/// What a crowd left behind is not kept for ever.
fn shrink_if_sparse(shard: &mut HashMap<Client, Counts>) {
    const KEPT: usize = 56;
    if shard.capacity() > KEPT && shard.len() < shard.capacity() / 8 {
        let room = KEPT.max(shard.len() * 2);
        shard.shrink_to(room);
    }
}

impl Presence {
    /// The handshake of this session is over, the session goes on.
    pub fn handshake_over(&mut self) {
        let Some(limits) = self.limits.as_ref().filter(|_| self.shakes_hands) else { return };
        limits.give_back(self.client, Counts { handshakes: 1, ..Counts::default() });
        self.shakes_hands = false;
        if limits.sessions.is_none() {
            self.limits = None;
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Some(limits) = &self.limits {
            let sessions = usize::from(limits.sessions.is_some());
            let handshakes = usize::from(self.shakes_hands);
            limits.give_back(self.client, Counts { sessions, handshakes, ports: 0 });
        }
    }
}

impl Drop for HeldPort {
    fn drop(&mut self) {
        if let Some((limits, client)) = &self.0 {
            limits.give_back(*client, Counts { ports: 1, ..Counts::default() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    fn limits(sessions: usize, handshakes: usize) -> Arc<ClientLimits> {
        let limit = |n| Some(n).filter(|&n| n > 0);
        Arc::new(ClientLimits::new(limit(sessions), limit(handshakes), Some(3)))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn entries(limits: &ClientLimits) -> usize {
        limits.shards.all().map(|shard| shard.len()).sum()
    }

    fn admit(limits: &Arc<ClientLimits>, text: &str) -> Result<Presence, Excess> {
        limits.admit(ip(text))
    }

    #[test]
    fn a_presence_is_small() {
        assert!(size_of::<Presence>() <= 24);
    }

    #[test]
    fn a_client_has_so_many_sessions_and_another_does_not_mind() {
        let limits = limits(2, 0);
        let one = admit(&limits, "192.0.2.1").unwrap();
        let mut two = admit(&limits, "192.0.2.1").unwrap();
        two.handshake_over();
        assert_eq!(admit(&limits, "192.0.2.1").err(), Some(Excess::Sessions));
        assert!(admit(&limits, "192.0.2.2").is_ok());
        drop(one);
        let _again = admit(&limits, "192.0.2.1").unwrap();
        assert_eq!(admit(&limits, "192.0.2.1").err(), Some(Excess::Sessions));
    }

    #[test]
    fn a_handshake_counts_until_it_is_over_or_its_session_is() {
        for sessions in [0, 100] {
            let limits = limits(sessions, 2);
            let mut one = admit(&limits, "192.0.2.1").unwrap();
            let two = admit(&limits, "192.0.2.1").unwrap();
            assert_eq!(admit(&limits, "192.0.2.1").err(), Some(Excess::Handshakes));
            one.handshake_over();
            one.handshake_over();
            let three = admit(&limits, "192.0.2.1").unwrap();
            assert_eq!(admit(&limits, "192.0.2.1").err(), Some(Excess::Handshakes));
            drop(two);
            drop(admit(&limits, "192.0.2.1").unwrap());
            drop((one, three));
            assert_eq!(entries(&limits), 0);
        }
    }

    #[test]
    fn a_client_holds_so_many_ports_and_another_does_not_mind() {
        let limits = limits(0, 0);
        let hold = |client: &str| limits.hold_port(ip(client));
        let mut held: Vec<HeldPort> = (0..3).map(|_| hold("192.0.2.1").unwrap()).collect();
        assert_eq!(hold("192.0.2.1").err(), Some(Excess::Ports));
        held.push(hold("192.0.2.2").unwrap());
        held.swap_remove(0);
        held.push(hold("192.0.2.1").unwrap());
        assert_eq!(hold("192.0.2.1").err(), Some(Excess::Ports));
        drop(held);
        assert_eq!(entries(&limits), 0);
        let unlimited = Arc::new(ClientLimits::new(None, None, None));
        let _many: Vec<_> =
            (0..1000).map(|_| unlimited.hold_port(ip("192.0.2.1")).unwrap()).collect();
        assert_eq!(entries(&unlimited), 0);
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_network() {
        let one_client =
            [["192.0.2.1", "::ffff:192.0.2.1"], ["2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"]];
        for [first, second] in one_client {
            let limits = limits(1, 0);
            let _first = admit(&limits, first).unwrap();
            assert_eq!(admit(&limits, second).err(), Some(Excess::Sessions), "{second}");
        }
        let limits = limits(1, 0);
        let clients =
            ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1", "::1", "0.0.0.1"];
        let _all = clients.map(|client| admit(&limits, client).unwrap());
        assert_eq!(entries(&limits), clients.len());
    }

    #[test]
    fn nothing_is_remembered_where_nothing_is_limited() {
        let limits = limits(0, 0);
        let _all: Vec<_> = (0..1000).map(|_| admit(&limits, "192.0.2.1").unwrap()).collect();
        assert_eq!(entries(&limits), 0);
    }

    #[test]
    fn a_crowd_leaves_no_room_behind() {
        let limits = limits(1, 1);
        let crowd: Vec<_> =
            (0..20_000u32).map(|n| limits.admit(IpAddr::from(n.to_be_bytes())).unwrap()).collect();
        assert_eq!(entries(&limits), 20_000);
        let fullest = limits.shards.all().map(|shard| shard.len()).max().unwrap();
        assert!(fullest < 20_000 / 8, "a shard has {fullest}");
        drop(crowd);
        for shard in limits.shards.all() {
            assert!(shard.is_empty() && shard.capacity() <= 64, "{}", shard.capacity());
        }
    }

    #[test]
    fn threads_together_never_exceed_a_limit() {
        let limits = limits(5, 3);
        let work = |limits: Arc<ClientLimits>| {
            let mut admitted = 0;
            for turn in 0..5000 {
                let Ok(mut presence) = limits.admit(ip("192.0.2.1")) else { continue };
                let counts = limits.shards.of(presence.client.number())[&presence.client];
                assert!(counts.sessions <= 5 && counts.handshakes <= 3);
                if turn % 2 == 0 {
                    presence.handshake_over();
                    thread::yield_now();
                }
                admitted += 1;
            }
            admitted
        };
        let workers = [(); 8].map(|()| {
            let limits = Arc::clone(&limits);
            thread::spawn(move || work(limits))
        });
        let admitted: usize = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        assert!(admitted > 0);
        assert_eq!(entries(&limits), 0);
    }

    proptest! {
        /// Whatever comes and goes in whatever order, it is what naive counting says.
        #[test]
        fn it_counts_like_lists_of_sessions(
            sessions in 0..4usize,
            handshakes in 0..4usize,
            steps in prop::collection::vec((0..3u8, 0..16usize), 0..200),
        ) {
            let limits = limits(sessions, handshakes);
            let mut present: Vec<(usize, bool, Presence)> = Vec::new();
            for (step, which) in steps {
                let index = which.checked_rem(present.len());
                match (step, index) {
                    (0, _) => {
                        let client = which % 3;
                        let of_client = present.iter().filter(|(of, ..)| *of == client);
                        let now = of_client.clone().count();
                        let shaking = of_client.filter(|(_, shakes, _)| *shakes).count();
                        let expected = match () {
                            () if sessions > 0 && now >= sessions => Some(Excess::Sessions),
                            () if handshakes > 0 && shaking >= handshakes => Some(Excess::Handshakes),
                            () => None,
                        };
                        let admitted = limits.admit(ip(&format!("192.0.2.{client}")));
                        prop_assert_eq!(admitted.as_ref().err().copied(), expected);
                        present.extend(admitted.ok().map(|presence| (client, true, presence)));
                    }
                    (1, Some(index)) => {
                        present[index].1 = false;
                        present[index].2.handshake_over();
                    }
                    (_, Some(index)) => drop(present.swap_remove(index)),
                    (_, None) => {}
                }
            }
            present.clear();
            prop_assert_eq!(entries(&limits), 0);
        }
    }
}
