//! Deadlines by session slot: a hierarchical timer wheel of 1 ms ticks.
//!
//! Level 0 has a bucket for each of the 64 ticks of the current block, level 1 one for each of the
//! 64 blocks of the block above, and so on. A deadline lies on the level of the highest digit (base
//! 64) in which it differs from the current tick, in the bucket of its own digit there. So its
//! place follows from the deadline and the tick alone, the first bucket of the lowest level in use
//! is always the earliest, and a deadline moves down at most once per level on its way.

use std::time::{Duration, Instant};

const LEVEL_BITS: u32 = 6;
const BUCKETS: usize = 1 << LEVEL_BITS;
const LEVELS: usize = 7;

/// The last tick, some 139 years on: later deadlines count as this one.
const TICK_MAX: u64 = (1 << (LEVEL_BITS * LEVELS as u32)) - 1;

/// No node: the end of a bucket's list.
const NIL: u32 = u32::MAX;

/// No deadline.
const UNSET: u64 = u64::MAX;

/// One deadline for each of a dense range of slots.
///
/// [`set`](Self::set) and [`clear`](Self::clear) take constant time; memory grows only with the
/// highest slot. Deadlines are rounded up to the tick: none is reported early, and none more than
/// a tick late.
pub struct Timers {
    /// The instant of tick 0.
    origin: Instant,
    /// All deadlines before this tick were reported; those that are set are at it or after it.
    tick: u64,
    levels: [Level; LEVELS],
    /// By slot.
    nodes: Vec<Node>,
}

#[derive(Clone, Copy)]
struct Level {
    /// One bit a bucket that is not empty.
    occupied: u64,
    /// The first node of each bucket's list.
    heads: [u32; BUCKETS],
}

#[derive(Clone, Copy)]
struct Node {
    deadline: u64,
    previous: u32,
    next: u32,
}

#[derive(Clone, Copy)]
struct Place {
    level: usize,
    bucket: usize,
}

impl Timers {
    /// No deadlines; `now` is the earliest instant that will be told apart.
    pub fn new(now: Instant) -> Timers {
        let level = Level { occupied: 0, heads: [NIL; BUCKETS] };
        Timers { origin: now, tick: 0, levels: [level; LEVELS], nodes: Vec::new() }
    }

    /// Gives `slot` this deadline instead of the one it may have. One in the past is due at once.
    ///
    /// Slots are small and dense, as a slab's keys are: memory is kept for all up to the highest.
    pub fn set(&mut self, slot: usize, when: Instant) {
        if slot >= self.nodes.len() {
            let unset = Node { deadline: UNSET, previous: NIL, next: NIL };
            self.nodes.resize(slot + 1, unset);
        }
        let deadline = self.tick_at_or_after(when).max(self.tick);
        if self.nodes[slot].deadline != deadline {
            self.clear(slot);
            self.link(slot, deadline);
        }
    }

    /// Gives `slot` this deadline, or none.
    pub fn put(&mut self, slot: usize, when: Option<Instant>) {
        match when {
            Some(when) => self.set(slot, when),
            None => self.clear(slot),
        }
    }

    /// Takes away the deadline of `slot`, if it has one.
    pub fn clear(&mut self, slot: usize) {
        let Some(&Node { deadline, previous, next }) = self.nodes.get(slot) else { return };
        if deadline == UNSET {
            return;
        }
        if next != NIL {
            self.nodes[next as usize].previous = previous;
        }
        if previous != NIL {
            self.nodes[previous as usize].next = next;
        } else {
            let Place { level, bucket } = self.place(deadline);
            self.levels[level].replace_head(bucket, next);
        }
        self.nodes[slot].deadline = UNSET;
    }

    /// When to call [`expire`](Self::expire) next: never later than the earliest deadline.
    ///
    /// It may be earlier, for a deadline far away, but then expiring brings the next one closer.
    pub fn next(&self) -> Option<Instant> {
        self.earliest().map(|place| self.origin + Duration::from_millis(self.start(place)))
    }

    /// Appends each slot whose deadline has come to `due`, and takes its deadline away.
    ///
    /// A `now` before an earlier one counts as that.
    pub fn expire(&mut self, now: Instant, due: &mut Vec<usize>) {
        let target = self.tick_at_or_before(now).max(self.tick);
        while let Some(place) = self.earliest() {
            let start = self.start(place);
            if start > target {
                break;
            }
            self.tick = start;
            self.expire_bucket(place, due);
        }
        self.tick = target;
    }

    /// Empties the bucket that starts at the current tick: what is not due moves a level down.
    fn expire_bucket(&mut self, Place { level, bucket }: Place, due: &mut Vec<usize>) {
        let mut slot = self.levels[level].heads[bucket];
        self.levels[level].replace_head(bucket, NIL);
        while slot != NIL {
            let Node { deadline, next, .. } = self.nodes[slot as usize];
            if deadline <= self.tick {
                self.nodes[slot as usize].deadline = UNSET;
                due.push(slot as usize);
            } else {
                self.link(slot as usize, deadline);
            }
            slot = next;
        }
    }

    fn link(&mut self, slot: usize, deadline: u64) {
        let Place { level, bucket } = self.place(deadline);
        let next = self.levels[level].heads[bucket];
        self.nodes[slot] = Node { deadline, previous: NIL, next };
        if next != NIL {
            self.nodes[next as usize].previous = slot as u32;
        }
        self.levels[level].replace_head(bucket, slot as u32);
    }

    /// Where a deadline at or after the current tick lies.
    fn place(&self, deadline: u64) -> Place {
        let level = ((deadline ^ self.tick) | 1).ilog2() / LEVEL_BITS;
        let bucket = (deadline >> (level * LEVEL_BITS)) as usize % BUCKETS;
        Place { level: level as usize, bucket }
    }

    /// The bucket that holds the earliest deadline.
    fn earliest(&self) -> Option<Place> {
        let level = self.levels.iter().position(|level| level.occupied != 0)?;
        let bucket = self.levels[level].occupied.trailing_zeros() as usize;
        Some(Place { level, bucket })
    }

    /// The first tick of a bucket.
    fn start(&self, Place { level, bucket }: Place) -> u64 {
        let shift = level as u32 * LEVEL_BITS;
        let digits_above = self.tick >> (shift + LEVEL_BITS);
        ((digits_above << LEVEL_BITS) | bucket as u64) << shift
    }

    fn tick_at_or_after(&self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.origin);
        ticks(since.as_secs(), since.subsec_nanos().div_ceil(1_000_000))
    }

    fn tick_at_or_before(&self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.origin);
        ticks(since.as_secs(), since.subsec_millis())
    }
}

impl Level {
    fn replace_head(&mut self, bucket: usize, head: u32) {
        self.heads[bucket] = head;
        if head == NIL {
            self.occupied &= !(1 << bucket);
        } else {
            self.occupied |= 1 << bucket;
        }
    }
}

fn ticks(secs: u64, millis: u32) -> u64 {
    secs.saturating_mul(1000).saturating_add(u64::from(millis)).min(TICK_MAX)
}

/// The earlier of two times that may not come.
pub fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn expire(timers: &mut Timers, now: Instant) -> Vec<usize> {
        let mut due = Vec::new();
        timers.expire(now, &mut due);
        due
    }

    #[test]
    fn nothing_is_due_where_nothing_is_set() {
        let now = Instant::now();
        let mut timers = Timers::new(now);
        assert_eq!(timers.next(), None);
        assert_eq!(expire(&mut timers, now + 1000 * MS), []);
        timers.clear(7);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_deadline_is_reported_once_and_never_early() {
        let now = Instant::now();
        let mut timers = Timers::new(now);
        let when = now + Duration::from_micros(2500);
        timers.set(3, when);
        assert_eq!(expire(&mut timers, now + 2 * MS), []);
        assert_eq!(expire(&mut timers, when), []);
        assert_eq!(timers.next(), Some(now + 3 * MS));
        assert_eq!(expire(&mut timers, now + 3 * MS), [3]);
        assert_eq!(timers.next(), None);
        assert_eq!(expire(&mut timers, now + 1000 * MS), []);
    }

    #[test]
    fn a_deadline_in_the_past_is_due_at_once() {
        let now = Instant::now() + 1000 * MS;
        let mut timers = Timers::new(now);
        assert_eq!(expire(&mut timers, now + 100 * MS), []);
        timers.set(0, now + 50 * MS);
        timers.set(1, now - 500 * MS);
        timers.set(2, now + 100 * MS);
        assert!(timers.next().unwrap() <= now + 100 * MS);
        let mut due = expire(&mut timers, now + 100 * MS);
        due.sort_unstable();
        assert_eq!(due, [0, 1, 2]);
    }

    #[test]
    fn a_new_deadline_takes_the_place_of_the_old() {
        let now = Instant::now();
        let mut timers = Timers::new(now);
        timers.set(0, now + 10 * MS);
        timers.set(0, now + 5000 * MS);
        timers.set(1, now + 5000 * MS);
        timers.set(1, now + 20 * MS);
        timers.set(2, now + 20 * MS);
        timers.clear(2);
        assert_eq!(expire(&mut timers, now + 20 * MS), [1]);
        assert_eq!(expire(&mut timers, now + 4999 * MS), []);
        assert_eq!(expire(&mut timers, now + 5000 * MS), [0]);
    }

    #[test]
    fn time_that_goes_backwards_does_no_harm() {
        let now = Instant::now() + 1000 * MS;
        let mut timers = Timers::new(now);
        timers.set(0, now + 200 * MS);
        assert_eq!(expire(&mut timers, now + 100 * MS), []);
        assert_eq!(expire(&mut timers, now + 50 * MS), []);
        assert_eq!(expire(&mut timers, now - 500 * MS), []);
        assert_eq!(expire(&mut timers, now + 199 * MS), []);
        assert_eq!(expire(&mut timers, now + 200 * MS), [0]);
        assert_eq!(expire(&mut timers, now + 205 * MS), []);

        timers.set(1, now + 203 * MS);
        assert_eq!(timers.next(), Some(now + 205 * MS));
        assert_eq!(expire(&mut timers, now + 201 * MS), [1]);
    }

    #[test]
    fn waking_at_next_reaches_deadlines_years_away_in_few_steps() {
        let origin = Instant::now();
        for millis in [1, 63, 64, 65, 4095, 4096, 7_200_000, 31_536_000_000, 946_080_000_000] {
            let mut timers = Timers::new(origin);
            let when = origin + Duration::from_millis(millis);
            timers.set(0, when);
            let mut due = Vec::new();
            let mut wakes = 0;
            let mut now = origin;
            while due.is_empty() {
                now = timers.next().unwrap();
                assert!(now <= when, "{millis}");
                timers.expire(now, &mut due);
                wakes += 1;
                assert!(wakes <= LEVELS, "{millis}");
            }
            assert_eq!(now, when);
        }
    }

    #[test]
    fn a_deadline_beyond_the_last_tick_waits_for_it() {
        let now = Instant::now();
        let mut timers = Timers::new(now);
        let year = Duration::from_secs(365 * 24 * 3600);
        timers.set(0, now + 1000 * year);
        assert_eq!(expire(&mut timers, now + 100 * year), []);
        assert!(timers.next().is_some());
    }

    #[test]
    fn memory_does_not_grow_in_steady_state() {
        let origin = Instant::now();
        let mut timers = Timers::new(origin);
        timers.set(99, origin + MS);
        let capacity = timers.nodes.capacity();
        let mut due = Vec::new();
        for step in 0..10_000u32 {
            let now = origin + step * 7 * MS;
            timers.expire(now, &mut due);
            timers.set(step as usize % 100, now + step % 977 * MS);
        }
        assert_eq!(timers.nodes.capacity(), capacity);
    }

    #[derive(Clone, Debug)]
    enum Action {
        Set { slot: usize, after: Duration },
        SetAgain { slot: usize },
        SetPast { slot: usize, before: Duration },
        Clear { slot: usize },
        Jump { by: Duration },
        WakeAtNext,
    }

    fn action() -> impl Strategy<Value = Action> {
        let slot = || 0usize..12;
        prop_oneof![
            4 => (slot(), duration()).prop_map(|(slot, after)| Action::Set { slot, after }),
            1 => slot().prop_map(|slot| Action::SetAgain { slot }),
            1 => (slot(), duration()).prop_map(|(slot, before)| Action::SetPast { slot, before }),
            2 => slot().prop_map(|slot| Action::Clear { slot }),
            2 => duration().prop_map(|by| Action::Jump { by }),
            3 => Just(Action::WakeAtNext),
        ]
    }

    /// Of every order of magnitude, from nanoseconds to three years; often on a block's border.
    fn duration() -> impl Strategy<Value = Duration> {
        prop_oneof![
            (0u32..47, any::<u64>())
                .prop_map(|(bits, random)| Duration::from_nanos(random >> (63 - bits))),
            (0u64..100_000_000_000).prop_map(Duration::from_millis),
            (0u32..6, 0u64..64, 0u64..3).prop_map(|(level, bucket, around)| {
                Duration::from_millis(((bucket << (level * LEVEL_BITS)) + around).saturating_sub(1))
            }),
        ]
    }

    /// The same in the plainest way: deadlines in ticks since `origin`, by slot.
    struct Model {
        origin: Instant,
        tick: u128,
        deadlines: BTreeMap<usize, u128>,
    }

    impl Model {
        fn set(&mut self, slot: usize, when: Instant) {
            let nanos = when.saturating_duration_since(self.origin).as_nanos();
            self.deadlines.insert(slot, nanos.div_ceil(1_000_000).max(self.tick));
        }

        fn expire(&mut self, now: Instant) -> BTreeSet<usize> {
            self.tick = self.tick.max((now - self.origin).as_millis());
            let is_due = |deadline: &u128| *deadline <= self.tick;
            let due = self.deadlines.iter().filter(|(_, deadline)| is_due(deadline));
            let due = due.map(|(slot, _)| *slot).collect();
            self.deadlines.retain(|_, deadline| !is_due(deadline));
            due
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn timers_agree_with_a_sorted_list(actions in prop::collection::vec(action(), 0..80)) {
            let origin = Instant::now();
            let mut now = origin;
            let mut timers = Timers::new(origin);
            let mut model = Model { origin, tick: 0, deadlines: BTreeMap::new() };
            let mut last_set = BTreeMap::new();
            for action in actions {
                match action {
                    Action::Set { slot, after } => {
                        timers.set(slot, now + after);
                        model.set(slot, now + after);
                        last_set.insert(slot, now + after);
                    }
                    Action::SetAgain { slot } => {
                        let when = last_set.get(&slot).copied().unwrap_or(now);
                        timers.set(slot, when);
                        model.set(slot, when);
                    }
                    Action::SetPast { slot, before } => {
                        let when = now.checked_sub(before).unwrap_or(origin);
                        timers.set(slot, when);
                        model.set(slot, when);
                    }
                    Action::Clear { slot } => {
                        timers.clear(slot);
                        model.deadlines.remove(&slot);
                    }
                    Action::Jump { by } => now += by,
                    Action::WakeAtNext => now = timers.next().map_or(now, |next| next.max(now)),
                }
                let before = timers.next();
                let due = expire(&mut timers, now);
                let distinct: BTreeSet<_> = due.iter().copied().collect();
                prop_assert_eq!(distinct.len(), due.len());
                prop_assert_eq!(distinct, model.expire(now));

                let earliest = model.deadlines.values().min();
                prop_assert_eq!(timers.next().is_some(), earliest.is_some());
                if let (Some(next), Some(earliest)) = (timers.next(), earliest) {
                    prop_assert!(next > now, "waking at once would not move on");
                    prop_assert!((next - origin).as_millis() <= *earliest);
                }
                if before.is_some_and(|before| before <= now) {
                    prop_assert!(timers.next() != before);
                }
            }
        }

        #[test]
        fn waking_at_next_reports_all_in_order(
            delays in prop::collection::vec(duration(), 1..40),
        ) {
            let origin = Instant::now();
            let mut timers = Timers::new(origin);
            for (slot, delay) in delays.iter().enumerate() {
                timers.set(slot, origin + *delay);
            }
            let mut reported = 0;
            let mut wakes = 0;
            while let Some(now) = timers.next() {
                for slot in expire(&mut timers, now) {
                    let late = now - origin;
                    prop_assert!(late >= delays[slot]);
                    prop_assert!(late < delays[slot] + MS);
                    reported += 1;
                }
                wakes += 1;
                prop_assert!(wakes <= delays.len() * LEVELS);
            }
            prop_assert_eq!(reported, delays.len());
        }
    }
}
