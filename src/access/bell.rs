use std::sync::atomic::{AtomicU8, Ordering, fence};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// What wakes the writer: the first record after a silence, once; then nothing until it has had
/// time to let more of them gather, unless that many come that a queue might overflow.
pub(super) struct Bell {
    state: AtomicU8,
}

/// It is at work, and will look at the queues before it sleeps.
const AWAKE: u8 = 0;
/// It sleeps until somebody rings.
const ASLEEP: u8 = 1;
/// It gives the records some time to gather.
const GATHERING: u8 = 2;

impl Bell {
    pub(super) fn new() -> Bell {
        Bell { state: AtomicU8::new(AWAKE) }
    }

    /// A record has been put into a queue, which overflows soon if there `is_much` in it.
    pub(super) fn ring_for_record(&self, sleeper: &Thread, is_much: impl FnOnce() -> bool) {
        // With the fence in `sleep`: either the sleeper finds the record, or it is seen asleep.
        fence(Ordering::SeqCst);
        match self.state.load(Ordering::Relaxed) {
            ASLEEP => self.ring(ASLEEP, sleeper),
            GATHERING if is_much() => self.ring(GATHERING, sleeper),
            _ => {}
        }
    }

    /// There is something to do that does not wait.
    pub(super) fn ring_for_order(&self, sleeper: &Thread) {
        fence(Ordering::SeqCst);
        self.ring(ASLEEP, sleeper);
        self.ring(GATHERING, sleeper);
    }

    fn ring(&self, state: u8, sleeper: &Thread) {
        let (set, seen) = (Ordering::AcqRel, Ordering::Relaxed);
        if self.state.compare_exchange(state, AWAKE, set, seen).is_ok() {
            sleeper.unpark();
        }
    }

    /// Sleeps until somebody rings, for so long at most, but not while there is work.
    pub(super) fn sleep(&self, patience: Option<Duration>, has_work: impl FnOnce() -> bool) {
        let until = patience.map(|patience| Instant::now() + patience);
        self.wait(ASLEEP, until, has_work);
    }

    /// Sleeps for so long, or until a queue is about to overflow or there is an order.
    pub(super) fn gather(&self, patience: Duration, is_much: impl FnOnce() -> bool) {
        self.wait(GATHERING, Some(Instant::now() + patience), is_much);
    }

    fn wait(&self, state: u8, until: Option<Instant>, has_work: impl FnOnce() -> bool) {
        self.state.store(state, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if has_work() {
            self.state.store(AWAKE, Ordering::Relaxed);
        }
        while self.state.load(Ordering::Acquire) == state {
            match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(Duration::ZERO) => self.state.store(AWAKE, Ordering::Relaxed),
                Some(patience) => thread::park_timeout(patience),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    /// Waits for a condition, for a minute at most.
    fn wait_for(what: &str, mut is_met: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_met() {
            assert!(Instant::now() < deadline, "{what}");
            thread::yield_now();
        }
    }

    #[test]
    fn no_record_is_overslept() {
        const RECORDS: u64 = 50_000;
        let (mut records, mut queue) = rtrb::RingBuffer::new(8);
        let bell = Arc::new(Bell::new());
        let taken = Arc::new(AtomicU64::new(0));
        let (near, seen) = (Arc::clone(&bell), Arc::clone(&taken));
        let sleeper = thread::spawn(move || {
            while seen.load(Ordering::Relaxed) < RECORDS {
                near.sleep(None, || !queue.is_empty());
                while queue.pop().is_ok() {
                    seen.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        for number in 1..=RECORDS {
            records.push(()).unwrap();
            bell.ring_for_record(sleeper.thread(), || false);
            wait_for("a record is overslept", || taken.load(Ordering::Relaxed) == number);
        }
        sleeper.join().unwrap();
    }

    #[test]
    fn no_order_is_overslept() {
        for _ in 0..5_000 {
            let bell = Arc::new(Bell::new());
            let ordered = Arc::new(AtomicU8::new(0));
            let (near, seen) = (Arc::clone(&bell), Arc::clone(&ordered));
            let sleeper = thread::spawn(move || {
                let has_order = || seen.load(Ordering::Relaxed) == 1;
                near.gather(LONG, has_order);
                near.sleep(None, has_order);
            });
            ordered.store(1, Ordering::Relaxed);
            bell.ring_for_order(sleeper.thread());
            wait_for("an order is overslept", || sleeper.is_finished());
        }
    }

    #[test]
    fn records_gather_until_there_are_many() {
        let bell = Arc::new(Bell::new());
        let near = Arc::clone(&bell);
        let sleeper = thread::spawn(move || near.gather(LONG, || false));
        wait_for("it gathers", || bell.state.load(Ordering::Relaxed) == GATHERING);
        bell.ring_for_record(sleeper.thread(), || false);
        assert_eq!(bell.state.load(Ordering::Relaxed), GATHERING);
        bell.ring_for_record(sleeper.thread(), || true);
        wait_for("it ends", || sleeper.is_finished());
    }

    #[test]
    fn a_wait_takes_as_long_as_it_may_and_no_work_waits() {
        let bell = Bell::new();
        let start = Instant::now();
        bell.gather(Duration::from_millis(30), || false);
        bell.sleep(Some(Duration::from_millis(30)), || false);
        assert!(start.elapsed() >= Duration::from_millis(60));
        bell.gather(LONG, || true);
        bell.sleep(None, || true);
        assert_eq!(bell.state.load(Ordering::Relaxed), AWAKE);
    }
}
