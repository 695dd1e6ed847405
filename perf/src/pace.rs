//! When what is to be done, if it is not to be done at once.

use std::time::{Duration, Instant};

/// How often a paced stream is sent some more of, if it is faster than its least piece allows.
const BEAT: f64 = 0.000_2;
/// The least that is sent of a paced stream at a time.
const PIECE_MIN: u64 = 16 * 1024;
/// How much of what a paced stream could not send is made up for.
const DEBT_MAX: f64 = 0.1;

/// An open loop: so many requests a second at even distances, on some connections in turn.
///
/// Each has its intended time, whether or not it can be sent by then.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    start: Instant,
    interval: f64,
    lanes: u64,
    issued: u64,
}

impl Schedule {
    /// `rate` requests a second on `lanes` connections, the first one at `start`.
    pub fn new(start: Instant, rate: f64, lanes: usize) -> Schedule {
        Schedule { start, interval: 1.0 / rate, lanes: lanes as u64, issued: 0 }
    }

    /// When the next request is intended.
    pub fn next(&self) -> Instant {
        self.time(self.issued)
    }

    /// Whose request is due, if one is.
    pub fn due(&mut self, now: Instant) -> Option<usize> {
        (self.next() <= now).then(|| {
            let lane = self.issued % self.lanes;
            self.issued += 1;
            lane as usize
        })
    }

    /// When the `nth` request of a lane is intended, the first one being 0.
    pub fn intended(&self, lane: usize, nth: u64) -> Instant {
        self.time(nth * self.lanes + lane as u64)
    }

    fn time(&self, index: u64) -> Instant {
        self.start + Duration::from_secs_f64(index as f64 * self.interval)
    }
}

/// A stream that is sent at so many bytes a second.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    bytes_per_second: u64,
    since: Instant,
    spent: u64,
}

impl Allowance {
    /// An allowance from `now` on; `u64::MAX` allows everything.
    pub fn new(bytes_per_second: u64, now: Instant) -> Allowance {
        Allowance { bytes_per_second, since: now, spent: 0 }
    }

    /// How much may be sent now: nothing until it is worth it.
    pub fn available(&mut self, now: Instant) -> u64 {
        if self.bytes_per_second == u64::MAX {
            return u64::MAX;
        }
        let earned = (now - self.since).as_secs_f64() * self.bytes_per_second as f64;
        let debt_max = (self.bytes_per_second as f64 * DEBT_MAX).max(self.piece() as f64);
        self.spent = self.spent.max((earned - debt_max).max(0.0) as u64);
        let available = (earned as u64).saturating_sub(self.spent);
        if available < self.piece() { 0 } else { available }
    }

    /// Counts what was sent.
    pub fn spend(&mut self, bytes: u64) {
        self.spent = self.spent.saturating_add(bytes);
    }

    /// When there is something to send again, never if it is allowed nothing.
    pub fn next(&self) -> Option<Instant> {
        let due = (self.spent + self.piece()) as f64 / self.bytes_per_second as f64;
        // A nanosecond more, so that rounding does not make it due just before it is.
        Some(self.since + Duration::try_from_secs_f64(due).ok()? + Duration::from_nanos(1))
    }

    fn piece(&self) -> u64 {
        PIECE_MIN.max((self.bytes_per_second as f64 * BEAT) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_even_distances_and_in_turn() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 1000.0, 3);
        let at = |ms: u64| start + Duration::from_micros(ms * 1000 + 1);
        assert_eq!(schedule.due(start), Some(0));
        assert_eq!(schedule.due(start), None);
        let late: Vec<usize> = std::iter::from_fn(|| schedule.due(at(4))).collect();
        assert_eq!(late, [1, 2, 0, 1]);
        assert_eq!(schedule.next(), schedule.intended(2, 1));
        assert_eq!(schedule.intended(2, 1), start + Duration::from_millis(5));
    }

    #[test]
    fn what_is_late_keeps_its_intended_time() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 100.0, 1);
        let late = start + Duration::from_secs(1);
        let mut nth = 0;
        while schedule.due(late).is_some() {
            assert_eq!(schedule.intended(0, nth), start + Duration::from_millis(10) * nth as u32);
            nth += 1;
        }
        assert_eq!(nth, 101);
    }

    #[test]
    fn an_allowance_is_earned_with_time() {
        let start = Instant::now();
        let mut allowance = Allowance::new(100_000_000, start);
        let mut sent = 0;
        for step in 1..=10_000_u32 {
            let available = allowance.available(start + Duration::from_micros(100) * step);
            assert!(available == 0 || available >= PIECE_MIN);
            allowance.spend(available);
            sent += available;
        }
        assert!((99_900_000..=100_000_000).contains(&sent), "{sent}");
    }

    #[test]
    fn something_is_available_when_it_was_said_to_be() {
        for rate in [1, 1000, 12_345_678, 10_000_000_000] {
            let mut allowance = Allowance::new(rate, Instant::now());
            for _ in 0..100 {
                let available = allowance.available(allowance.next().unwrap());
                assert!(available > 0, "at {rate} bytes a second");
                allowance.spend(available);
            }
        }
    }

    #[test]
    fn what_could_not_be_sent_is_not_all_made_up_for() {
        let start = Instant::now();
        let mut allowance = Allowance::new(1_000_000_000, start);
        assert!(allowance.available(start + Duration::from_secs(60)) <= 101_000_000);
    }

    #[test]
    fn without_a_pace_everything_may_be_sent() {
        let now = Instant::now();
        let mut allowance = Allowance::new(u64::MAX, now);
        allowance.spend(u64::MAX);
        allowance.spend(1);
        assert_eq!(allowance.available(now), u64::MAX);
    }

    #[test]
    fn nothing_a_second_is_nothing_for_ever() {
        let start = Instant::now();
        let mut allowance = Allowance::new(0, start);
        assert_eq!(allowance.available(start + Duration::from_secs(1000)), 0);
        assert_eq!(allowance.next(), None);
    }
}
