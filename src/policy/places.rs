use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How many sessions the whole process may have at a time, and has, and how many descriptors they
/// hold.
///
/// Descriptors are the process's, so the limit is: reactors share this one count, and touch it when
/// a session opens and when it closes.
pub struct SessionLimit {
    sessions_max: u32,
    descriptors_max: u32,
    /// Sessions in the upper half; in the lower, the descriptors of those that have more than two.
    taken: AtomicU64,
    /// Whether a bell is hung up.
    awaited: AtomicBool,
    bells: Mutex<Vec<Bell>>,
}

/// Wakes who waits for a place. It is rung by whatever thread gives one back.
pub type Bell = Arc<dyn Fn() + Send + Sync>;

/// A session's place below the limit, with its client's descriptor and one more. It is given back
/// when it is dropped.
pub struct Place(Option<Arc<SessionLimit>>);

/// Room for a descriptor beside a session's two, given back when it is dropped.
pub struct Extra(Arc<SessionLimit>);

/// What is taken, unpacked.
#[derive(Clone, Copy)]
struct Taken {
    sessions: u32,
    extras: u32,
}

impl SessionLimit {
    /// Descriptors that come with a session's place: its client's and its target's.
    pub const DESCRIPTORS_PER_PLACE: usize = 2;
    /// One in so many descriptors is left to sessions that have not come yet.
    const LEFT_TO_SESSIONS: u32 = 16;

    /// A limit of `sessions_max` sessions, which may hold `descriptors_max` descriptors; none is open.
    pub fn new(sessions_max: usize, descriptors_max: usize) -> SessionLimit {
        // Half of all numbers, so that no sum overflows.
        let count = |max: usize| u32::try_from(max).unwrap_or(u32::MAX).min(u32::MAX / 4);
        SessionLimit {
            sessions_max: count(sessions_max),
            descriptors_max: count(descriptors_max),
            taken: AtomicU64::new(0),
            awaited: AtomicBool::new(false),
            bells: Mutex::default(),
        }
    }

    /// How many sessions there may be.
    pub fn max(&self) -> usize {
        self.sessions_max as usize
    }

    /// A place, unless all are taken.
    pub fn take(self: &Arc<SessionLimit>) -> Option<Place> {
        self.take_below(self.sessions_max)
    }

    /// A place for what a session can do without, while half of them are free: new sessions always
    /// find the other half.
    pub fn take_spare(self: &Arc<SessionLimit>) -> Option<Place> {
        self.take_below(self.sessions_max / 2)
    }

    /// Room for one more descriptor of a session that has its place.
    pub fn take_extra(self: &Arc<SessionLimit>) -> Option<Extra> {
        let max = self.descriptors_max - self.descriptors_max / Self::LEFT_TO_SESSIONS;
        self.add(|taken| {
            let more = Taken { extras: taken.extras + 1, ..taken };
            (more.descriptors() <= max).then_some(more)
        })?;
        Some(Extra(Arc::clone(self)))
    }

    /// A place; if all are taken, `bell` rings at the next release, wherever that is.
    pub fn take_or_await(self: &Arc<SessionLimit>, bell: &Bell) -> Option<Place> {
        self.take().or_else(|| self.await_or_take(bell))
    }

    /// What was given back before the bell hung there has not rung it, so it looks again.
    fn await_or_take(self: &Arc<SessionLimit>, bell: &Bell) -> Option<Place> {
        self.ring_at_release(bell);
        let place = self.take()?;
        self.withdraw(bell);
        Some(place)
    }

    /// Rings `bell` once, when the next place is given back after this call. Look again for what is
    /// awaited after it, not before.
    pub fn ring_at_release(&self, bell: &Bell) {
        let mut bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        if !bells.iter().any(|hung| Arc::ptr_eq(hung, bell)) {
            bells.push(Arc::clone(bell));
        }
        self.awaited.store(true, Ordering::SeqCst);
    }

    fn withdraw(&self, bell: &Bell) {
        let mut bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        bells.retain(|hung| !Arc::ptr_eq(hung, bell));
        self.awaited.store(!bells.is_empty(), Ordering::SeqCst);
    }

    fn take_below(self: &Arc<SessionLimit>, max: u32) -> Option<Place> {
        self.add(|taken| {
            let more = Taken { sessions: taken.sessions + 1, ..taken };
            let fits = more.sessions <= max && more.descriptors() <= self.descriptors_max;
            fits.then_some(more)
        })?;
        Some(Place(Some(Arc::clone(self))))
    }

    /// The count and the flag are in one order for all threads (`SeqCst`): either who waits sees
    /// what was given back, or who gave it back sees that somebody waits.
    fn add(&self, more: impl Fn(Taken) -> Option<Taken>) -> Option<()> {
        let more = |taken| more(Taken::unpack(taken)).map(Taken::pack);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).ok().map(drop)
    }

    fn give_back(&self, what: Taken) {
        self.taken.fetch_sub(what.pack(), Ordering::SeqCst);
        if self.awaited.load(Ordering::SeqCst) {
            self.ring();
        }
    }

    #[cold]
    fn ring(&self) {
        let bells = {
            let mut bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
            self.awaited.store(false, Ordering::SeqCst);
            mem::take(&mut *bells)
        };
        bells.iter().for_each(|bell| bell());
    }
}

impl Taken {
    const PLACE: Taken = Taken { sessions: 1, extras: 0 };
    const EXTRA: Taken = Taken { sessions: 0, extras: 1 };

    fn unpack(taken: u64) -> Taken {
        Taken { sessions: (taken >> 32) as u32, extras: taken as u32 }
    }

    fn pack(self) -> u64 {
        u64::from(self.sessions) << 32 | u64::from(self.extras)
    }

    fn descriptors(self) -> u32 {
        self.sessions * SessionLimit::DESCRIPTORS_PER_PLACE as u32 + self.extras
    }
}

impl Place {
    /// Gives it back unused, and rings no bell: for who waits nothing has changed.
    pub fn put_back(mut self) {
        if let Some(limit) = self.0.take() {
            limit.taken.fetch_sub(Taken::PLACE.pack(), Ordering::SeqCst);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(limit) = &self.0 {
            limit.give_back(Taken::PLACE);
        }
    }
}

impl Drop for Extra {
    fn drop(&mut self) {
        self.0.give_back(Taken::EXTRA);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;
    use std::sync::atomic::AtomicUsize;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_session_opens_only_below_the_limit() {
        let limit = Arc::new(SessionLimit::new(2, usize::MAX));
        let (one, _other) = (limit.take(), limit.take());
        assert!(one.is_some() && limit.take().is_none());
        drop(one);
        let _again = limit.take().expect("a place was given back");
        assert!(limit.take().is_none());
    }

    #[test]
    fn what_can_be_done_without_leaves_half_to_sessions() {
        let limit = Arc::new(SessionLimit::new(4, usize::MAX));
        let _spare = [limit.take_spare(), limit.take_spare()].map(Option::unwrap);
        assert!(limit.take_spare().is_none());
        let _sessions = [limit.take(), limit.take()].map(Option::unwrap);
        assert!(limit.take().is_none());
    }

    #[test]
    fn extras_leave_a_part_of_the_descriptors_to_sessions() {
        let limit = Arc::new(SessionLimit::new(100, 32));
        let places: Vec<Place> = (0..5).map(|_| limit.take().unwrap()).collect();
        let extras: Vec<Extra> = (0..20).map(|_| limit.take_extra().unwrap()).collect();
        assert!(limit.take_extra().is_none(), "two in 32 are left");
        let last = limit.take().expect("it was left to this one");
        assert!(limit.take().is_none(), "no descriptor is left");
        drop(extras);
        let many: Vec<Place> = (0..100).map_while(|_| limit.take()).collect();
        assert_eq!(many.len(), 10);
        drop((places, last, many));
        assert_eq!(limit.taken.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn an_extra_that_comes_back_rings_for_who_waits() {
        let limit = Arc::new(SessionLimit::new(2, 17 * 2));
        let (bell, count) = counting_bell();
        let extra = limit.take_extra().unwrap();
        limit.ring_at_release(&bell);
        drop(extra);
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn an_unused_place_comes_back_and_rings_for_nobody() {
        let limit = Arc::new(SessionLimit::new(1, usize::MAX));
        let (bell, count) = counting_bell();
        limit.ring_at_release(&bell);
        limit.take().unwrap().put_back();
        assert_eq!(count.load(Ordering::SeqCst), 0);
        drop(limit.take().expect("it came back"));
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    fn counting_bell() -> (Bell, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let rung = Arc::clone(&count);
        let bell: Bell = Arc::new(move || {
            rung.fetch_add(1, Ordering::SeqCst);
        });
        (bell, count)
    }

    #[test]
    fn a_release_rings_once_for_each_that_waits_and_for_nobody_else() {
        let limit = Arc::new(SessionLimit::new(2, usize::MAX));
        let (one, two) = (limit.take(), limit.take());
        let (bells, counts): (Vec<_>, Vec<_>) = (0..3).map(|_| counting_bell()).unzip();
        for bell in [&bells[0], &bells[1], &bells[0]] {
            assert!(limit.take_or_await(bell).is_none());
        }
        let rung = || counts.iter().map(|count| count.load(Ordering::SeqCst)).collect::<Vec<_>>();
        assert_eq!(rung(), [0, 0, 0]);
        drop(one);
        assert_eq!(rung(), [1, 1, 0]);
        drop(two);
        assert_eq!(rung(), [1, 1, 0], "nobody waits any more");
        assert!(limit.take_or_await(&bells[2]).is_some(), "there is a place: nobody waits");
        assert_eq!(rung(), [1, 1, 0]);
        limit.ring_at_release(&bells[2]);
        drop(limit.take());
        assert_eq!(rung(), [1, 1, 1]);
    }

    #[test]
    fn a_release_right_before_the_wait_is_not_lost() {
        let limit = Arc::new(SessionLimit::new(1, usize::MAX));
        let (bell, rung) = counting_bell();
        let last = limit.take();
        assert!(limit.take().is_none());
        drop(last);
        let place = limit.await_or_take(&bell);
        assert!(place.is_some() && rung.load(Ordering::SeqCst) == 0);
        drop(place);
        assert_eq!(rung.load(Ordering::SeqCst), 0, "it no longer waits");
    }

    /// A sleeper that only its bell wakes.
    #[derive(Default)]
    struct Sleeper {
        rung: Mutex<bool>,
        woken: Condvar,
    }

    impl Sleeper {
        fn ring(&self) {
            *self.rung.lock().unwrap() = true;
            self.woken.notify_one();
        }

        fn sleep(&self, deadline: Instant) {
            let patience = deadline.saturating_duration_since(Instant::now());
            let rung = self.rung.lock().unwrap();
            let waited = self.woken.wait_timeout_while(rung, patience, |rung| !*rung);
            let (mut rung, timeout) = waited.unwrap();
            assert!(!timeout.timed_out(), "it sleeps though a place was given back");
            *rung = false;
        }
    }

    /// A place, and how often it was slept for.
    fn take_in_time(
        limit: &Arc<SessionLimit>,
        bell: &Bell,
        sleeper: &Sleeper,
        deadline: Instant,
    ) -> (Place, usize) {
        let mut sleeps = 0;
        loop {
            match limit.take_or_await(bell) {
                Some(place) => return (place, sleeps),
                None => sleeper.sleep(deadline),
            }
            sleeps += 1;
        }
    }

    /// Takes a place again and again, asleep whenever there is none. Says how often it slept.
    fn work(limit: &Arc<SessionLimit>, deadline: Instant) -> usize {
        let sleeper = Arc::new(Sleeper::default());
        let rung = Arc::clone(&sleeper);
        let bell: Bell = Arc::new(move || rung.ring());
        let mut slept = 0;
        for turn in 0..4000 {
            let (place, sleeps) = take_in_time(limit, &bell, &sleeper, deadline);
            slept += sleeps;
            if turn % 8 == 0 {
                thread::yield_now();
            }
            drop(place);
        }
        slept
    }

    /// Were a release to pass a sleeper by while the others finish, it would sleep for ever.
    #[test]
    fn nobody_sleeps_while_a_place_is_free() {
        let deadline = Instant::now() + Duration::from_secs(100);
        for (threads, max) in [(2, 1), (4, 1), (4, 3), (8, 2)] {
            let limit = Arc::new(SessionLimit::new(max, usize::MAX));
            let places: Vec<Place> = (0..max).map(|_| limit.take().unwrap()).collect();
            let slept: usize = thread::scope(|scope| {
                let workers: Vec<_> =
                    (0..threads).map(|_| scope.spawn(|| work(&limit, deadline))).collect();
                while limit.bells.lock().unwrap().len() < threads {
                    assert!(Instant::now() < deadline, "not everyone waits");
                    thread::yield_now();
                }
                drop(places);
                workers.into_iter().map(|worker| worker.join().unwrap()).sum()
            });
            assert!(slept >= threads, "all of them have slept at least once");
            assert_eq!(limit.taken.load(Ordering::SeqCst), 0);
            assert!(limit.bells.lock().unwrap().is_empty(), "somebody still waits");
        }
    }
}
