use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Failure;
use super::keyed::Tag;

/// How long credentials that were right are taken for right.
const FRESH: Duration = Duration::from_secs(60);

/// Credentials remembered at a time; the oldest go first.
const REMEMBERED_MAX: usize = 65_536;

/// A check that takes longer than this may never end: the next one is made beside it.
const OVERDUE: Duration = Duration::from_secs(10);

/// Who may wait for one check.
const WAITERS_MAX: usize = 65_536;

/// Tells somebody what came of a check.
pub(super) type Report = Box<dyn FnOnce(Result<(), Failure>) + Send>;

/// Credentials that were right a moment ago, and the checks that are going on: equal ones at once
/// are one check.
#[derive(Default)]
pub(super) struct Verified {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    fresh_until: HashMap<Tag, Instant>,
    /// The same, the first to expire in front.
    order: VecDeque<(Instant, Tag)>,
    checks: HashMap<Tag, Check>,
}

struct Check {
    begun: Instant,
    waiters: Vec<Report>,
}

/// What to do about a check.
#[must_use]
pub(super) enum Begun {
    /// Make it, then [`finish`](Verified::finish).
    Make,
    /// Somebody makes it, and will report.
    Joined,
    /// Somebody has made it: report that they were right.
    Right(Report),
    /// Nobody more can wait for it: report that it failed.
    Crowded(Report),
}

impl Verified {
    /// Whether these credentials were right a moment ago.
    pub(super) fn is_fresh(&self, tag: &Tag, now: Instant) -> bool {
        self.lock().is_fresh(tag, now)
    }

    /// Begins a check of which `report` is told.
    pub(super) fn begin(&self, tag: Tag, now: Instant, report: Report) -> Begun {
        let mut state = self.lock();
        if state.is_fresh(&tag, now) {
            return Begun::Right(report);
        }
        let Some(check) = state.checks.get_mut(&tag) else {
            state.checks.insert(tag, Check { begun: now, waiters: vec![report] });
            return Begun::Make;
        };
        if check.waiters.len() >= WAITERS_MAX {
            return Begun::Crowded(report);
        }
        check.waiters.push(report);
        if now.saturating_duration_since(check.begun) < OVERDUE {
            return Begun::Joined;
        }
        // Whichever ends first reports to all.
        check.begun = now;
        Begun::Make
    }

    /// Ends a check, and remembers the credentials if they are right and `may_remember`. Whoever is
    /// returned must be told.
    #[must_use]
    pub(super) fn finish(
        &self,
        tag: &Tag,
        result: Result<(), Failure>,
        may_remember: bool,
        now: Instant,
    ) -> Vec<Report> {
        let mut state = self.lock();
        if result.is_ok() && may_remember {
            state.remember(*tag, now);
        }
        state.checks.remove(tag).map_or_else(Vec::new, |check| check.waiters)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_fresh(&self, tag: &Tag, now: Instant) -> bool {
        self.fresh_until.get(tag).is_some_and(|&until| now < until)
    }

    fn remember(&mut self, tag: Tag, now: Instant) {
        while self.order.front().is_some_and(|&(until, _)| until <= now) {
            self.forget_first();
        }
        if self.fresh_until.contains_key(&tag) {
            return;
        }
        if self.order.len() >= REMEMBERED_MAX {
            self.forget_first();
        }
        let until = now + FRESH;
        self.fresh_until.insert(tag, until);
        self.order.push_back((until, tag));
    }

    fn forget_first(&mut self) {
        if let Some((_, tag)) = self.order.pop_front() {
            self.fresh_until.remove(&tag);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{self, Receiver, Sender};
    use std::sync::{Arc, Barrier};
    use std::thread;

    use super::*;

    type Answer = Result<(), Failure>;

    fn tag(n: u64) -> Tag {
        let mut tag = [0; 32];
        tag[..8].copy_from_slice(&n.to_le_bytes());
        tag
    }

    fn report(sender: &Sender<Answer>) -> Report {
        let sender = sender.clone();
        Box::new(move |answer| sender.send(answer).unwrap())
    }

    fn answers(receiver: &Receiver<Answer>) -> Vec<Answer> {
        receiver.try_iter().collect()
    }

    fn finish(verified: &Verified, tag: Tag, answer: Answer, now: Instant) {
        verified.finish(&tag, answer, true, now).into_iter().for_each(|report| report(answer));
    }

    fn verify(verified: &Verified, tag: Tag, now: Instant) {
        assert!(matches!(verified.begin(tag, now, Box::new(|_| ())), Begun::Make));
        finish(verified, tag, Ok(()), now);
    }

    #[test]
    fn right_credentials_are_fresh_for_a_minute_however_often_they_come() {
        let (verified, start) = (Verified::default(), Instant::now());
        assert!(!verified.is_fresh(&tag(1), start));
        verify(&verified, tag(1), start);
        for second in 0..60 {
            assert!(verified.is_fresh(&tag(1), start + Duration::from_secs(second)));
        }
        let (sender, receiver) = mpsc::channel();
        let late = start + Duration::from_millis(59_999);
        let Begun::Right(report) = verified.begin(tag(1), late, report(&sender)) else {
            panic!("they are fresh");
        };
        report(Ok(()));
        assert_eq!(answers(&receiver), [Ok(())]);
        assert!(!verified.is_fresh(&tag(1), start + FRESH));
        assert!(!verified.is_fresh(&tag(2), start));
        verify(&verified, tag(1), start + FRESH);
        assert!(verified.is_fresh(&tag(1), start + FRESH));
    }

    #[test]
    fn wrong_credentials_and_those_of_locked_sources_are_not_remembered() {
        let (verified, now) = (Verified::default(), Instant::now());
        let (sender, receiver) = mpsc::channel();
        assert!(matches!(verified.begin(tag(1), now, report(&sender)), Begun::Make));
        finish(&verified, tag(1), Err(Failure::WrongPassword), now);
        assert!(matches!(verified.begin(tag(2), now, report(&sender)), Begun::Make));
        verified.finish(&tag(2), Ok(()), false, now).into_iter().for_each(|report| report(Ok(())));
        assert_eq!(answers(&receiver), [Err(Failure::WrongPassword), Ok(())]);
        assert!(!verified.is_fresh(&tag(1), now));
        assert!(!verified.is_fresh(&tag(2), now));
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let (verified, now) = (Verified::default(), Instant::now());
        let count = REMEMBERED_MAX as u64 + 10;
        (0..count).for_each(|n| verify(&verified, tag(n), now));
        let state = verified.lock();
        assert_eq!((state.fresh_until.len(), state.order.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
        drop(state);
        assert!((0..10).all(|n| !verified.is_fresh(&tag(n), now)));
        assert!((10..count).all(|n| verified.is_fresh(&tag(n), now)));

        verify(&verified, tag(count), now + FRESH);
        let state = verified.lock();
        assert_eq!((state.fresh_until.len(), state.order.len()), (1, 1), "the expired make room");
    }

    #[test]
    fn equal_checks_are_one_and_all_are_told() {
        for answer in [Ok(()), Err(Failure::WrongPassword)] {
            let (verified, now) = (Verified::default(), Instant::now());
            let (sender, receiver) = mpsc::channel();
            assert!(matches!(verified.begin(tag(1), now, report(&sender)), Begun::Make));
            for _ in 0..7 {
                assert!(matches!(verified.begin(tag(1), now, report(&sender)), Begun::Joined));
            }
            assert!(matches!(verified.begin(tag(2), now, report(&sender)), Begun::Make));
            assert!(answers(&receiver).is_empty());
            finish(&verified, tag(1), answer, now);
            assert_eq!(answers(&receiver), [answer; 8]);
            assert_eq!(verified.lock().checks.len(), 1, "another check is another's");
        }
    }

    #[test]
    fn a_check_that_never_ends_holds_nobody_for_ever() {
        let (verified, start) = (Verified::default(), Instant::now());
        let (sender, receiver) = mpsc::channel();
        assert!(matches!(verified.begin(tag(1), start, report(&sender)), Begun::Make));
        let before = start + OVERDUE - Duration::from_millis(1);
        assert!(matches!(verified.begin(tag(1), before, report(&sender)), Begun::Joined));
        let late = start + OVERDUE;
        assert!(matches!(verified.begin(tag(1), late, report(&sender)), Begun::Make));
        assert!(matches!(verified.begin(tag(1), late, report(&sender)), Begun::Joined));
        finish(&verified, tag(1), Ok(()), late);
        assert_eq!(answers(&receiver), [Ok(()); 4], "the stuck one's waiters are told too");
        // It ends after all: there is nobody left to tell, and nothing breaks.
        finish(&verified, tag(1), Ok(()), late);
        assert!(answers(&receiver).is_empty());
        assert!(verified.lock().checks.is_empty());
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let (verified, now) = (Verified::default(), Instant::now());
        assert!(matches!(verified.begin(tag(1), now, Box::new(|_| ())), Begun::Make));
        for _ in 1..WAITERS_MAX {
            assert!(matches!(verified.begin(tag(1), now, Box::new(|_| ())), Begun::Joined));
        }
        assert!(matches!(verified.begin(tag(1), now, Box::new(|_| ())), Begun::Crowded(_)));
        assert_eq!(verified.finish(&tag(1), Ok(()), true, now).len(), WAITERS_MAX);
    }

    #[test]
    fn threads_that_come_at_once_make_one_check() {
        const THREADS: usize = 8;
        for round in 0..200 {
            let (verified, made) = (Arc::new(Verified::default()), Arc::new(AtomicUsize::new(0)));
            let (gate, now) = (Arc::new(Barrier::new(THREADS)), Instant::now());
            let (sender, receiver) = mpsc::channel();
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    let (verified, made, gate) = (verified.clone(), made.clone(), gate.clone());
                    let report = report(&sender);
                    thread::spawn(move || {
                        gate.wait();
                        match verified.begin(tag(round), now, report) {
                            Begun::Make => {
                                made.fetch_add(1, Ordering::Relaxed);
                                finish(&verified, tag(round), Ok(()), now);
                            }
                            Begun::Right(report) => report(Ok(())),
                            Begun::Joined => {}
                            Begun::Crowded(_) => panic!("there is room"),
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(made.load(Ordering::Relaxed), 1);
            assert_eq!(answers(&receiver), [Ok(()); THREADS]);
        }
    }
}
