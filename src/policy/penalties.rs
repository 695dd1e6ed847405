use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::expiring::Expiring;
use super::shards::{Client, Shards};
use crate::config::Penalty;

/// What clients that failed to log in still have to wait for; a client is an IPv4 address or an
/// IPv6 /64. Each failure adds to it, time takes it away; who has gathered too much is locked until
/// all of it has run off.
pub struct Penalties {
    penalty: Penalty,
    /// Whether each is locked.
    shards: Shards<Expiring<Client, bool>>,
    /// How many clients a shard remembers at most.
    room: usize,
}

impl Penalties {
    /// Clients at most; where there are more, the least locked ones go free.
    const CLIENTS: usize = 65_536;

    /// Penalties as these.
    pub fn new(penalty: Penalty) -> Penalties {
        let room = Self::CLIENTS / Shards::<()>::NUMBER;
        Penalties { penalty, shards: Shards::new(), room }
    }

    /// Whether nobody can log in from there.
    pub fn is_locked(&self, ip: IpAddr, now: Instant) -> bool {
        if self.spares(ip) {
            return false;
        }
        let client = Client::new(ip);
        let shard = self.shards.of(client.number());
        shard.get(client, now).is_some_and(|(_, is_locked)| *is_locked)
    }

    /// Somebody has failed to log in from there.
    pub fn punish(&self, ip: IpAddr, now: Instant) {
        self.add(self.penalty.failure, ip, now);
    }

    /// Somebody would have been let in, but is locked: that adds nothing. Yet it takes as long as a
    /// failure, or time would tell who knows a password.
    pub fn pass_over(&self, ip: IpAddr, now: Instant) {
        self.add(Duration::ZERO, ip, now);
    }

    fn add(&self, failure: Duration, ip: IpAddr, now: Instant) {
        if self.spares(ip) {
            return;
        }
        let Penalty { threshold, max, .. } = self.penalty;
        let client = Client::new(ip);
        let mut shard = self.shards.of(client.number());
        let (until, was_locked) = match shard.get(client, now) {
            Some((until, is_locked)) => (until, *is_locked),
            None => (now, false),
        };
        // Another thread may have read its clock after us: that takes nothing away.
        let until = (until + failure).min(until.max(now + max));
        let is_locked = was_locked || until.saturating_duration_since(now) >= threshold;
        shard.put(client, is_locked, until, now, self.room);
    }

    fn spares(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.penalty.failure.is_zero() || self.penalty.exempt.iter().any(|it| it.contains(&ip))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn penalties(failure: u64, threshold: u64, max: u64) -> Penalties {
        Penalties::new(Penalty {
            failure: seconds(failure),
            threshold: seconds(threshold),
            max: seconds(max),
            exempt: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn clients(penalties: &Penalties) -> usize {
        penalties.shards.all().map(|shard| shard.len()).sum()
    }

    #[test]
    fn who_is_passed_over_gathers_nothing() {
        let penalties = penalties(5, 15, 600);
        let start = Instant::now();
        let who = ip("192.0.2.1");
        penalties.pass_over(who, start);
        assert_eq!(clients(&penalties), 0);
        (0..3).for_each(|_| penalties.punish(who, start));
        (0..100).for_each(|n| penalties.pass_over(who, start + seconds(n % 15)));
        assert!(penalties.is_locked(who, start + seconds(14)));
        assert!(!penalties.is_locked(who, start + seconds(15)));
        assert!(!penalties.is_locked(ip("192.0.2.2"), start));
    }

    #[test]
    fn who_fails_often_enough_is_locked_until_all_of_it_has_run_off() {
        let penalties = penalties(5, 15, 600);
        let start = Instant::now();
        let is_locked = |now| penalties.is_locked(ip("192.0.2.1"), now);
        for _ in 0..2 {
            penalties.punish(ip("192.0.2.1"), start);
            assert!(!is_locked(start));
        }
        penalties.punish(ip("192.0.2.1"), start);
        assert!(is_locked(start) && !penalties.is_locked(ip("192.0.2.2"), start));
        let almost = start + seconds(15) - Duration::from_nanos(1);
        assert!(
            is_locked(almost),
            "less than the threshold is left, and it is locked all the same"
        );
        assert!(!is_locked(start + seconds(15)));
        penalties.punish(ip("192.0.2.1"), start + seconds(15));
        assert!(!is_locked(start + seconds(15)), "what has run off is forgotten");
    }

    #[test]
    fn who_fails_now_and_then_is_never_locked() {
        let penalties = penalties(5, 15, 600);
        let start = Instant::now();
        for turn in 0..1000 {
            let now = start + seconds(5 * turn);
            penalties.punish(ip("192.0.2.1"), now);
            assert!(!penalties.is_locked(ip("192.0.2.1"), now));
        }
    }

    #[test]
    fn it_escalates_to_the_most_and_no_further() {
        let penalties = penalties(5, 15, 600);
        let start = Instant::now();
        let left = |failures: u64| {
            let until = (0..).find(|&n| !penalties.is_locked(ip("192.0.2.1"), start + seconds(n)));
            (failures, until.unwrap())
        };
        for failures in 1..=1000u64 {
            penalties.punish(ip("192.0.2.1"), start);
            if [3, 4, 20, 119, 120, 121, 1000].contains(&failures) {
                assert_eq!(left(failures), (failures, (5 * failures).min(600)));
            }
        }
    }

    #[test]
    fn who_is_exempt_has_no_penalties_and_is_not_remembered() {
        let penalties = penalties(5, 5, 600);
        let now = Instant::now();
        for client in ["10.1.2.3", "::ffff:10.1.2.3", "fd00::1"] {
            penalties.punish(ip(client), now);
            assert!(!penalties.is_locked(ip(client), now), "{client}");
        }
        assert_eq!(clients(&penalties), 0);
        penalties.punish(ip("11.1.2.3"), now);
        assert!(penalties.is_locked(ip("11.1.2.3"), now));
    }

    #[test]
    fn there_are_none_where_a_failure_costs_nothing() {
        let penalties = penalties(0, 0, 600);
        let now = Instant::now();
        penalties.punish(ip("192.0.2.1"), now);
        assert!(!penalties.is_locked(ip("192.0.2.1"), now));
        assert_eq!(clients(&penalties), 0);
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_network() {
        let penalties = penalties(5, 15, 600);
        let now = Instant::now();
        for client in ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:ffff:ffff:ffff"] {
            penalties.punish(ip(client), now);
        }
        assert!(penalties.is_locked(ip("2001:db8::3"), now));
        assert!(!penalties.is_locked(ip("2001:db8:0:1::1"), now));
        for client in ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"] {
            penalties.punish(ip(client), now);
        }
        assert!(penalties.is_locked(ip("::ffff:192.0.2.1"), now));
        assert!(!penalties.is_locked(ip("192.0.2.2"), now));
        assert_eq!(clients(&penalties), 2);
    }

    #[test]
    fn a_million_strangers_fit_and_free_nobody_who_is_locked() {
        let penalties = penalties(5, 15, 600);
        let start = Instant::now();
        let guilty: Vec<IpAddr> =
            (0..1000u32).map(|n| (n | 203 << 24).to_be_bytes().into()).collect();
        for client in &guilty {
            (0..100).for_each(|_| penalties.punish(*client, start));
        }
        let mut number = 88_172_645_463_325_252u64;
        for turn in 0..1_000_000 {
            number ^= number << 13;
            number ^= number >> 7;
            number ^= number << 17;
            let stranger = IpAddr::from((u128::from(number) << 64).to_be_bytes());
            penalties.punish(stranger, start + Duration::from_micros(turn));
        }
        let remembered = clients(&penalties);
        assert!((60_000..=Penalties::CLIENTS).contains(&remembered), "{remembered}");
        let now = start + seconds(1);
        assert!(guilty.iter().all(|&client| penalties.is_locked(client, now)));
        for n in 0..10_000u32 {
            penalties.punish(n.to_be_bytes().into(), start + seconds(3600));
        }
        assert_eq!(clients(&penalties), 10_000, "what has run off is forgotten");
    }

    /// A clock that another thread has read before ours.
    #[test]
    fn a_clock_that_is_behind_takes_nothing_away() {
        let penalties = penalties(5, 15, 600);
        let start = Instant::now();
        let later = start + seconds(2);
        (0..3).for_each(|_| penalties.punish(ip("192.0.2.1"), later));
        penalties.punish(ip("192.0.2.1"), start);
        assert!(penalties.is_locked(ip("192.0.2.1"), start));
        assert!(
            penalties.is_locked(ip("192.0.2.1"), later + seconds(20) - Duration::from_millis(1))
        );
        assert!(!penalties.is_locked(ip("192.0.2.1"), later + seconds(20)));
    }

    /// What each client still has to wait for, second by second.
    #[derive(Default)]
    struct Naive(Vec<(usize, u64, bool)>);

    impl Naive {
        fn punish(&mut self, client: usize, [failure, threshold, max]: [u64; 3], room: usize) {
            if failure == 0 {
                return;
            }
            let place = self.0.iter().position(|(of, ..)| *of == client);
            let (_, left, was_locked) = place.map_or((client, 0, false), |at| self.0.remove(at));
            let left = (left + failure).min(max);
            self.0.push((client, left, was_locked || left >= threshold));
            if self.0.len() > room {
                let least = self.0.iter().map(|&(of, left, _)| (left, of)).min().unwrap();
                self.0.retain(|(of, ..)| *of != least.1);
            }
        }

        fn pass(&mut self, seconds: u64) {
            self.0.iter_mut().for_each(|(_, left, _)| *left = left.saturating_sub(seconds));
            self.0.retain(|(_, left, _)| *left > 0);
        }

        fn is_locked(&self, client: usize) -> bool {
            self.0.iter().any(|&(of, _, is_locked)| of == client && is_locked)
        }
    }

    /// Clients of one shard, in their order.
    fn neighbours(penalties: &Penalties, number: usize) -> Vec<IpAddr> {
        let shard = |ip: IpAddr| penalties.shards.index(Client::new(ip).number());
        let all = (1u32..).map(|n| IpAddr::from(n.to_be_bytes()));
        all.filter(|&it| shard(it) == 0).take(number).collect()
    }

    proptest! {
        /// Whoever fails whenever, it is what counting down second by second says.
        #[test]
        fn it_is_a_list_of_what_is_left(
            failure in 0..8u64,
            threshold in 0..20u64,
            more in 0..20u64,
            room in 1..6usize,
            steps in prop::collection::vec((0..6usize, 0..12u64), 0..100),
        ) {
            let max = threshold.max(1) + more;
            let mut penalties = penalties(failure, threshold, max);
            penalties.room = room;
            let clients = neighbours(&penalties, 6);
            let mut naive = Naive::default();
            let mut now = Instant::now();
            for (client, passes) in steps {
                // Many fail at once, some much later.
                let passes = passes.saturating_sub(6);
                naive.pass(passes);
                now += seconds(passes);
                naive.punish(client, [failure, threshold, max], room);
                penalties.punish(clients[client], now);
                for (number, &ip) in clients.iter().enumerate() {
                    prop_assert_eq!(penalties.is_locked(ip, now), naive.is_locked(number));
                }
            }
        }
    }
}
