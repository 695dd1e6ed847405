use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::expiring::Expiring;
use super::shards::Shards;

/// Who has logged in from where, for those who cannot say it each time: an address that has may
/// come without for a while, as that user. It is the very address, not its network.
pub struct Admitted {
    /// How long; nothing is remembered if `None`.
    lasts: Option<Duration>,
    hasher: RandomState,
    shards: Shards<Expiring<IpAddr, Box<[u8]>>>,
}

impl Admitted {
    /// Addresses at most; where there are more, those whose time is over first must log in again.
    const ADDRESSES: usize = 65_536;

    /// For so long each; `None` is not at all.
    pub fn new(lasts: Option<Duration>) -> Admitted {
        Admitted { lasts, hasher: RandomState::new(), shards: Shards::new() }
    }

    /// Somebody has logged in from there as this user.
    pub fn admit(&self, ip: IpAddr, user: &[u8], now: Instant) {
        let Some(lasts) = self.lasts else { return };
        let ip = ip.to_canonical();
        let room = Self::ADDRESSES / Shards::<()>::NUMBER;
        let mut shard = self.shards.of(self.hasher.hash_one(ip));
        shard.put(ip, user.into(), now + lasts, now, room);
    }

    /// Everybody must log in again.
    pub fn clear(&self) {
        self.shards.all().for_each(|mut shard| *shard = Expiring::default());
    }

    /// Who may come from there without saying so.
    pub fn user(&self, ip: IpAddr, now: Instant) -> Option<Box<[u8]>> {
        self.lasts?;
        let ip = ip.to_canonical();
        let shard = self.shards.of(self.hasher.hash_one(ip));
        let (_, user) = shard.get(ip, now)?;
        Some(user.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTS: Duration = Duration::from_secs(600);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn entries(admitted: &Admitted) -> usize {
        admitted.shards.all().map(|shard| shard.len()).sum()
    }

    #[test]
    fn once_it_is_cleared_everybody_must_log_in_again() {
        let (admitted, now) = (Admitted::new(Some(LASTS)), Instant::now());
        let (one, other) = (ip("192.0.2.1"), ip("2001:db8::1"));
        admitted.admit(one, b"alice", now);
        admitted.admit(other, b"bob", now);
        admitted.clear();
        assert_eq!((admitted.user(one, now), admitted.user(other, now)), (None, None));
        assert_eq!(entries(&admitted), 0);
        admitted.admit(one, b"alice", now);
        assert!(admitted.user(one, now).is_some());
    }

    #[test]
    fn an_address_that_has_logged_in_is_known_for_a_while() {
        let admitted = Admitted::new(Some(LASTS));
        let start = Instant::now();
        let user = |text, now| admitted.user(ip(text), now);
        assert_eq!(user("192.0.2.1", start), None);
        admitted.admit(ip("192.0.2.1"), b"alice", start);
        assert_eq!(user("192.0.2.1", start).as_deref(), Some(&b"alice"[..]));
        assert_eq!(user("::ffff:192.0.2.1", start).as_deref(), Some(&b"alice"[..]));
        assert_eq!(user("192.0.2.2", start), None);
        let last = start + LASTS - Duration::from_millis(1);
        assert!(user("192.0.2.1", last).is_some());
        assert_eq!(user("192.0.2.1", start + LASTS), None, "coming without prolongs nothing");
        admitted.admit(ip("192.0.2.1"), b"bob", last);
        assert_eq!(user("192.0.2.1", start + LASTS).as_deref(), Some(&b"bob"[..]));
    }

    #[test]
    fn a_neighbour_of_the_same_network_is_somebody_else() {
        let admitted = Admitted::new(Some(LASTS));
        let now = Instant::now();
        admitted.admit(ip("2001:db8::1"), b"alice", now);
        assert!(admitted.user(ip("2001:db8::1"), now).is_some());
        assert_eq!(admitted.user(ip("2001:db8::2"), now), None);
    }

    #[test]
    fn nothing_is_remembered_where_everyone_must_log_in() {
        let admitted = Admitted::new(None);
        let now = Instant::now();
        admitted.admit(ip("192.0.2.1"), b"alice", now);
        assert_eq!((admitted.user(ip("192.0.2.1"), now), entries(&admitted)), (None, 0));
    }

    #[test]
    fn a_crowd_has_no_more_room_than_there_is() {
        let admitted = Admitted::new(Some(LASTS));
        let now = Instant::now();
        for n in 0..200_000u32 {
            admitted.admit(IpAddr::from(n.to_be_bytes()), b"alice", now);
        }
        let crowd = entries(&admitted);
        assert!((60_000..=Admitted::ADDRESSES).contains(&crowd), "{crowd}");
        let later = now + LASTS;
        for n in 0..10_000u32 {
            admitted.admit(IpAddr::from((n | 1 << 31).to_be_bytes()), b"bob", later);
        }
        assert_eq!(entries(&admitted), 10_000, "who is over is forgotten");
    }
}
