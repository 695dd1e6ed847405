use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use slab::Slab;

use super::list::{Links, List};
use crate::timers::Timers;

/// Jobs that wait, a line of them for each source; lines take turns.
///
/// Every step takes constant time. There are no more lines than jobs that wait or run.
pub(super) struct Queue<T> {
    queue_max: usize,
    per_source_max: usize,
    running_max: usize,
    waiting: Slab<Waiting<T>>,
    followers: Links,
    lines: Slab<Line>,
    by_source: HashMap<Source, usize>,
    /// The lines of which a job may begin; the first is next.
    turns: List,
    neighbours: Links,
    /// How many jobs may begin, as far as their sources are concerned.
    ready: usize,
    /// Of jobs that wait, by their slots.
    deadlines: Timers,
}

/// Whose job it is. A client is an IPv4 address or an IPv6 /64, which is what one host may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// Nobody's, or everybody's.
    Common,
    V4(Ipv4Addr),
    /// The upper half of the address.
    V6(u64),
}

/// A job that begins.
pub(super) struct Begun<T> {
    pub(super) job: T,
    /// When it is too late for that.
    pub(super) deadline: Option<Instant>,
    pub(super) place: Running,
}

/// What a job that runs counts as until it has [ended](Queue::end).
pub(super) struct Running(usize);

struct Waiting<T> {
    job: T,
    deadline: Option<Instant>,
    line: usize,
}

struct Line {
    source: Source,
    jobs: List,
    waiting: usize,
    running: usize,
}

impl Line {
    fn ready(&self, running_max: usize) -> usize {
        self.waiting.min(running_max - self.running)
    }
}

impl<T> Queue<T> {
    /// Room for `queue_max` jobs, `per_source_max` of one source, of which `running_max` at a time
    /// may run.
    pub(super) fn new(
        queue_max: usize,
        per_source_max: usize,
        running_max: usize,
        now: Instant,
    ) -> Queue<T> {
        Queue {
            queue_max,
            per_source_max,
            running_max,
            waiting: Slab::new(),
            followers: Links::default(),
            lines: Slab::new(),
            by_source: HashMap::new(),
            turns: List::default(),
            neighbours: Links::default(),
            ready: 0,
            deadlines: Timers::new(now),
        }
    }

    /// How many jobs may begin at once if there are as many threads.
    pub(super) fn ready(&self) -> usize {
        self.ready
    }

    /// Whether one more job of this source may be queued: as many at most as there are places left,
    /// so that those that become free are for sources that have none, or few.
    pub(super) fn has_room(&self, source: Source) -> bool {
        let of_source = self.by_source.get(&source).map_or(0, |&line| self.lines[line].waiting);
        let left = self.queue_max - self.waiting.len();
        of_source < self.per_source_max.min(left)
    }

    /// Queues a job; gives it back where there is [no room](Self::has_room).
    pub(super) fn push(
        &mut self,
        source: Source,
        deadline: Option<Instant>,
        job: T,
    ) -> Result<(), T> {
        if !self.has_room(source) {
            return Err(job);
        }
        let line = self.line_of(source);
        let slot = self.waiting.insert(Waiting { job, deadline, line });
        self.deadlines.put(slot, deadline);
        self.followers.append(&mut self.lines[line].jobs, slot);
        self.change(line, |it| it.waiting += 1);
        Ok(())
    }

    /// Takes the job whose turn it is. Whoever does tells when it has [ended](Self::end).
    pub(super) fn begin(&mut self) -> Option<Begun<T>> {
        let line = self.turns.first()?;
        self.neighbours.remove(&mut self.turns, line);
        self.neighbours.append(&mut self.turns, line);
        let slot = self.lines[line].jobs.first()?;
        self.deadlines.clear(slot);
        self.followers.remove(&mut self.lines[line].jobs, slot);
        let Waiting { job, deadline, .. } = self.waiting.remove(slot);
        self.change(line, |it| {
            it.waiting -= 1;
            it.running += 1;
        });
        Some(Begun { job, deadline, place: Running(line) })
    }

    /// A job that has begun has ended.
    pub(super) fn end(&mut self, Running(line): Running) {
        self.change(line, |it| it.running -= 1);
    }

    /// Takes out what is too late to begin.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<T> {
        let mut due = Vec::new();
        self.deadlines.expire(now, &mut due);
        due.into_iter().map(|slot| self.take_out(slot)).collect()
    }

    fn take_out(&mut self, slot: usize) -> T {
        let Waiting { job, line, .. } = self.waiting.remove(slot);
        self.followers.remove(&mut self.lines[line].jobs, slot);
        self.change(line, |it| it.waiting -= 1);
        job
    }

    fn line_of(&mut self, source: Source) -> usize {
        *self.by_source.entry(source).or_insert_with(|| {
            self.lines.insert(Line { source, jobs: List::default(), waiting: 0, running: 0 })
        })
    }

    /// Changes a line, and with it whether it has a turn and whether there is any reason for it.
    fn change(&mut self, line: usize, change: impl FnOnce(&mut Line)) {
        let it = &mut self.lines[line];
        let before = it.ready(self.running_max);
        change(it);
        let after = it.ready(self.running_max);
        self.ready = self.ready - before + after;
        match (before > 0, after > 0) {
            (false, true) => self.neighbours.append(&mut self.turns, line),
            (true, false) => self.neighbours.remove(&mut self.turns, line),
            _ => {}
        }
        if it.waiting == 0 && it.running == 0 {
            self.by_source.remove(&it.source);
            self.lines.remove(line);
        }
    }
}

impl From<Option<IpAddr>> for Source {
    fn from(address: Option<IpAddr>) -> Source {
        match address.map(|it| it.to_canonical()) {
            None => Source::Common,
            Some(IpAddr::V4(v4)) => Source::V4(v4),
            Some(IpAddr::V6(v6)) => Source::V6((v6.to_bits() >> 64) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn source(n: u8) -> Source {
        Source::V4(Ipv4Addr::new(192, 0, 2, n))
    }

    fn queue(queue_max: usize, per_source_max: usize, running_max: usize) -> Queue<u32> {
        Queue::new(queue_max, per_source_max, running_max, Instant::now())
    }

    fn is_empty<T>(queue: &Queue<T>) -> bool {
        queue.waiting.is_empty()
            && queue.lines.is_empty()
            && queue.by_source.is_empty()
            && queue.turns.first().is_none()
            && queue.deadlines.next().is_none()
            && queue.ready == 0
    }

    /// Runs whatever may begin, each to its end before the next.
    fn run_all(queue: &mut Queue<u32>) -> Vec<u32> {
        let mut run = Vec::new();
        while let Some(begun) = queue.begin() {
            run.push(begun.job);
            queue.end(begun.place);
        }
        run
    }

    #[test]
    fn sources_take_turns_however_many_jobs_they_have() {
        let mut queue = queue(100, 100, 1);
        for job in 0..5 {
            queue.push(source(1), None, 10 + job).unwrap();
        }
        queue.push(source(2), None, 20).unwrap();
        queue.push(source(3), None, 30).unwrap();
        queue.push(source(3), None, 31).unwrap();
        assert_eq!(run_all(&mut queue), [10, 20, 30, 11, 31, 12, 13, 14]);
        assert!(is_empty(&queue));
    }

    #[test]
    fn who_comes_back_is_last_again() {
        let mut queue = queue(100, 100, 1);
        queue.push(source(1), None, 10).unwrap();
        queue.push(source(2), None, 20).unwrap();
        queue.push(source(2), None, 21).unwrap();
        let begun = queue.begin().unwrap();
        queue.end(begun.place);
        queue.push(source(1), None, 11).unwrap();
        assert_eq!(run_all(&mut queue), [20, 11, 21]);
    }

    #[test]
    fn one_source_has_so_many_places_and_all_have_so_many() {
        let mut queue = queue(5, 2, 1);
        for n in 1..=2 {
            queue.push(source(n), None, 0).unwrap();
            queue.push(source(n), None, 0).unwrap();
            assert_eq!(queue.push(source(n), None, 7), Err(7));
        }
        queue.push(source(3), None, 0).unwrap();
        assert_eq!(queue.push(source(4), None, 8), Err(8));
        assert_eq!(queue.push(source(3), None, 9), Err(9));
        assert_eq!(queue.by_source.len(), 3);
        assert_eq!(run_all(&mut queue).len(), 5);
        assert!(is_empty(&queue));
    }

    #[test]
    fn the_next_place_is_for_who_has_none() {
        let mut queue = queue(100, 64, 1);
        let greedy = 1..=6;
        for n in greedy.clone() {
            while queue.push(source(n), None, 0).is_ok() {}
        }
        while queue.has_room(source(7)) {
            queue.push(source(7), None, 0).unwrap();
        }
        for _ in 0..10 {
            let begun = queue.begin().unwrap();
            queue.end(begun.place);
        }
        assert!(!queue.has_room(source(1)), "it has as many as are left");
        assert!(queue.has_room(source(8)));
    }

    #[test]
    fn a_job_that_runs_has_left_its_place_in_the_line() {
        let mut queue = queue(5, 1, 1);
        queue.push(source(1), None, 1).unwrap();
        let begun = queue.begin().unwrap();
        queue.push(source(1), None, 2).unwrap();
        assert_eq!(queue.push(source(1), None, 3), Err(3));
        assert!(queue.begin().is_none(), "its source runs as many as it may");
        queue.end(begun.place);
        assert_eq!(run_all(&mut queue), [2]);
    }

    #[test]
    fn one_source_runs_so_many_jobs_at_a_time_and_others_pass_by() {
        let mut queue = queue(100, 100, 2);
        for job in 0..4 {
            queue.push(source(1), None, 10 + job).unwrap();
        }
        assert_eq!(queue.ready(), 2);
        let stuck = [queue.begin().unwrap(), queue.begin().unwrap()];
        assert!(queue.begin().is_none());
        assert_eq!(queue.ready(), 0);
        queue.push(source(2), None, 20).unwrap();
        assert_eq!(queue.ready(), 1);
        assert_eq!(run_all(&mut queue), [20]);
        for begun in stuck {
            queue.end(begun.place);
        }
        assert_eq!(run_all(&mut queue), [12, 13]);
        assert!(is_empty(&queue));
    }

    #[test]
    fn what_is_too_late_gives_up_its_place_wherever_it_stands() {
        let start = Instant::now();
        let mut queue = queue(10, 4, 1);
        queue.push(source(1), None, 10).unwrap();
        queue.push(source(1), Some(start + 5 * MS), 11).unwrap();
        queue.push(source(1), None, 12).unwrap();
        queue.push(source(1), Some(start + 9 * MS), 13).unwrap();
        queue.push(source(2), Some(start + 5 * MS), 20).unwrap();
        for n in 4..9 {
            queue.push(source(n), None, 10 * u32::from(n)).unwrap();
        }
        assert_eq!(queue.expire(start + 4 * MS), []);
        assert_eq!(queue.push(source(3), None, 30), Err(30));
        let mut late = queue.expire(start + 6 * MS);
        late.sort();
        assert_eq!(late, [11, 20]);
        queue.push(source(3), None, 30).unwrap();
        assert_eq!(run_all(&mut queue), [10, 40, 50, 60, 70, 80, 30, 12, 13]);
        assert_eq!(queue.expire(start + 100 * MS), []);
        assert!(is_empty(&queue));
    }

    /// Nothing of those who came and went is left, though nothing ever began.
    #[test]
    fn a_flood_that_only_dies_leaves_nothing_behind() {
        let start = Instant::now();
        let mut queue = queue(100, 10, 1);
        for n in 0..10_000u32 {
            let now = start + n * MS;
            queue.expire(now);
            let source = Source::V6(n.into());
            queue.push(source, Some(now + 50 * MS), n).unwrap();
            assert!(queue.lines.len() <= 51 && queue.waiting.capacity() <= 128);
        }
        queue.expire(start + 20_000 * MS);
        assert!(is_empty(&queue));
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_network() {
        let of = |text: &str| Source::from(Some(text.parse::<IpAddr>().unwrap()));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_ne!(of("0.0.0.0"), Source::from(None));
        assert_ne!(of("::"), Source::from(None));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push { source: u8, lasts: Option<u32> },
        Begin,
        End { which: usize },
        Pass { millis: u32 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => (0..5u8, prop::option::of(0..40u32))
                .prop_map(|(source, lasts)| Step::Push { source, lasts }),
            3 => Just(Step::Begin),
            2 => any::<usize>().prop_map(|which| Step::End { which }),
            1 => (0..20u32).prop_map(|millis| Step::Pass { millis }),
        ]
    }

    /// The same in the plainest way.
    struct Model {
        bounds: (usize, usize, usize),
        lines: BTreeMap<u8, VecDeque<(u32, Option<Instant>)>>,
        running: BTreeMap<u8, usize>,
        turns: VecDeque<u8>,
    }

    impl Model {
        fn push(&mut self, source: u8, deadline: Option<Instant>, job: u32) -> bool {
            let (queue_max, per_source_max, _) = self.bounds;
            let waiting: usize = self.lines.values().map(VecDeque::len).sum();
            let line = self.lines.entry(source).or_default();
            let has_room = line.len() < per_source_max.min(queue_max - waiting);
            if has_room {
                line.push_back((job, deadline));
            }
            self.settle();
            has_room
        }

        fn begin(&mut self) -> Option<(u8, u32)> {
            let source = self.turns.pop_front()?;
            self.turns.push_back(source);
            let (job, _) = self.lines.get_mut(&source)?.pop_front()?;
            *self.running.entry(source).or_default() += 1;
            self.settle();
            Some((source, job))
        }

        fn end(&mut self, source: u8) {
            *self.running.get_mut(&source).unwrap() -= 1;
            self.settle();
        }

        fn expire(&mut self, now: Instant) -> Vec<u32> {
            let mut late = Vec::new();
            for line in self.lines.values_mut() {
                let is_late = |deadline: Option<Instant>| deadline.is_some_and(|it| it <= now);
                late.extend(line.iter().filter(|(_, it)| is_late(*it)).map(|(job, _)| *job));
                line.retain(|(_, deadline)| !is_late(*deadline));
            }
            self.settle();
            late.sort();
            late
        }

        fn ready(&self, source: u8) -> usize {
            let running = self.running.get(&source).copied().unwrap_or_default();
            self.lines.get(&source).map_or(0, |line| line.len().min(self.bounds.2 - running))
        }

        /// Those of whom a job may begin have a turn, the newest among them the last.
        fn settle(&mut self) {
            let ready: Vec<u8> =
                self.lines.keys().copied().filter(|&source| self.ready(source) > 0).collect();
            self.turns.retain(|source| ready.contains(source));
            let new: Vec<u8> =
                ready.into_iter().filter(|source| !self.turns.contains(source)).collect();
            assert!(new.len() <= 1);
            self.turns.extend(new);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn it_serves_like_plain_lists(
            queue_max in 0..12usize,
            per_source_max in 0..6usize,
            running_max in 1..4usize,
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let mut now = Instant::now();
            let mut queue = Queue::new(queue_max, per_source_max, running_max, now);
            let mut model = Model {
                bounds: (queue_max, per_source_max, running_max),
                lines: BTreeMap::new(),
                running: BTreeMap::new(),
                turns: VecDeque::new(),
            };
            let mut running = Vec::new();
            for (job, step) in (0u32..).zip(steps) {
                match step {
                    Step::Push { source: of, lasts } => {
                        let deadline = lasts.map(|millis| now + millis * MS);
                        let has_room = model.push(of, deadline, job);
                        let pushed = queue.push(source(of), deadline, job);
                        prop_assert_eq!(pushed, if has_room { Ok(()) } else { Err(job) });
                    }
                    Step::Begin => {
                        let expected = model.begin();
                        let begun = queue.begin();
                        prop_assert_eq!(begun.as_ref().map(|it| it.job), expected.map(|it| it.1));
                        running.extend(begun.zip(expected).map(|(it, (of, _))| (of, it.place)));
                    }
                    Step::End { which } if !running.is_empty() => {
                        let (of, place) = running.swap_remove(which % running.len());
                        model.end(of);
                        queue.end(place);
                    }
                    Step::End { .. } => {}
                    Step::Pass { millis } => {
                        now += millis * MS;
                        let mut late = queue.expire(now);
                        late.sort();
                        prop_assert_eq!(late, model.expire(now));
                    }
                }
                let ready: usize = (0..5).map(|of| model.ready(of)).sum();
                prop_assert_eq!(queue.ready(), ready);
                let busy = (0..5).filter(|of| {
                    model.lines.get(of).is_some_and(|line| !line.is_empty())
                        || model.running.get(of).is_some_and(|&it| it > 0)
                });
                prop_assert_eq!(queue.lines.len(), busy.count());
                prop_assert_eq!(queue.by_source.len(), queue.lines.len());
            }
        }
    }
}
