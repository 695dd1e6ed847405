use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// At most one line a second of one kind, whichever thread has it to say.
#[derive(Debug, Default)]
pub struct Throttle {
    /// What the nanoseconds below count from.
    first: OnceLock<Instant>,
    next_at: AtomicU64,
    suppressed: AtomicU64,
}

const INTERVAL: Duration = Duration::from_secs(1);

impl Throttle {
    /// Nothing has been said yet.
    pub const fn new() -> Throttle {
        let (next_at, suppressed) = (AtomicU64::new(0), AtomicU64::new(0));
        Throttle { first: OnceLock::new(), next_at, suppressed }
    }

    /// Whether a line may be said at `now`: then, how many were not since the last.
    pub fn allow(&self, now: Instant) -> Option<u64> {
        let first = *self.first.get_or_init(|| now);
        let now = now.saturating_duration_since(first).as_nanos() as u64;
        let next_at = self.next_at.load(Ordering::Relaxed);
        let later = now + INTERVAL.as_nanos() as u64;
        let allowed = now >= next_at
            && self
                .next_at
                .compare_exchange(next_at, later, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if allowed {
            Some(self.suppressed.swap(0, Ordering::Relaxed))
        } else {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn one_line_a_second_tells_how_many_were_not_said() {
        let throttle = Throttle::new();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(throttle.allow(at(0)), Some(0));
        assert_eq!(throttle.allow(at(1)), None);
        assert_eq!(throttle.allow(at(999)), None);
        assert_eq!(throttle.allow(at(1000)), Some(2));
        assert_eq!(throttle.allow(at(1999)), None);
        assert_eq!(throttle.allow(at(90_000)), Some(1));
        assert_eq!(throttle.allow(at(95_000)), Some(0));
    }

    #[test]
    fn threads_share_one_line() {
        let throttle = Throttle::new();
        let now = Instant::now();
        let ask = || (0..1000).filter_map(|_| throttle.allow(now)).count();
        let said: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|it| it.join().unwrap()).sum()
        });
        assert_eq!(said, 1);
        assert_eq!(throttle.allow(now + INTERVAL), Some(3999));
    }
}
