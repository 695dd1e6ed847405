//! Thousands of seeds, each of which is played alone, and what they come to.

use std::env;
use std::fmt::Display;
use std::panic::{self, AssertUnwindSafe};
use std::thread;

use ringsocks::outcome::Outcome;

const SEED_VARIABLE: &str = "RINGSOCKS_SIMULATION_SEED";

/// What a seed came to, or many of them.
#[derive(Clone)]
pub(crate) struct Played {
    pub(crate) hash: u64,
    pub(crate) ticks: u64,
    /// How often each event happened.
    pub(crate) counts: Vec<u64>,
    /// How often sessions ended so.
    pub(crate) outcomes: [u64; Outcome::COUNT],
}

/// Plays one seed, and tells all of it if it is to be verbose.
pub(crate) type Play = fn(seed: u64, verbose: bool) -> Played;

/// Plays the one seed that the environment names, or so many, none of which may fail. `test` is what
/// cargo calls the crate. What all came to, if it was all.
pub(crate) fn play_seeds(test: &str, seeds: u64, play: Play) -> Option<Played> {
    if let Some(seed) = env::var(SEED_VARIABLE).ok().map(|it| it.parse().expect("a number")) {
        let played = play(seed, true);
        println!("trace {:016x} of {} ticks", played.hash, played.ticks);
        return None;
    }
    let halves = thread::scope(|scope| {
        let half = |first: u64| {
            let attempt = move |seed| attempt(seed, play);
            scope.spawn(move || (first..seeds).step_by(2).map(attempt).collect::<Vec<_>>())
        };
        let halves = [half(0), half(1)];
        halves.map(|half| half.join().unwrap())
    });
    let (played, failed): (Vec<_>, Vec<_>) = halves.into_iter().flatten().partition(Result::is_ok);
    let mut failed: Vec<u64> = failed.into_iter().filter_map(Result::err).collect();
    failed.sort_unstable();
    assert!(
        failed.is_empty(),
        "{} seeds failed; play one: \
         {SEED_VARIABLE}={} cargo test --test {test} -- --nocapture\n{failed:?}",
        failed.len(),
        failed[0],
    );
    played.into_iter().flatten().reduce(Played::and)
}

/// A seed plays the same however often, and another plays something else.
pub(crate) fn assert_repeatable(play: Play) {
    for seed in 0..20 {
        assert_eq!(play(seed, false).hash, play(seed, false).hash, "seed {seed}");
    }
    assert_ne!(play(0, false).hash, play(1, false).hash);
}

fn attempt(seed: u64, play: Play) -> Result<Played, u64> {
    panic::catch_unwind(AssertUnwindSafe(|| play(seed, false))).map_err(|_| {
        eprintln!("^ seed {seed}");
        seed
    })
}

impl Played {
    fn and(mut self, other: Played) -> Played {
        self.ticks += other.ticks;
        self.counts.iter_mut().zip(other.counts).for_each(|(all, one)| *all += one);
        self.outcomes.iter_mut().zip(other.outcomes).for_each(|(all, one)| *all += one);
        self
    }

    /// Everything worth simulating has happened, more than once: each of these events, whose counts
    /// are in their order, and each of these ends.
    pub(crate) fn assert_interesting(
        &self,
        events: impl IntoIterator<Item = impl Display>,
        ends: impl Fn(Outcome) -> bool,
    ) {
        println!("{} ticks", self.ticks);
        let events = events.into_iter().map(|it| it.to_string()).zip(self.counts.iter().copied());
        let ends = Outcome::ALL.into_iter().filter(|it| ends(*it));
        let ends = ends.map(|it| (it.to_string(), self.outcomes[it.index()]));
        let mut missing = Vec::new();
        for (what, count) in events.chain(ends) {
            println!("{count:>9} {what}");
            if count < 2 {
                missing.push(what);
            }
        }
        assert!(missing.is_empty(), "it never happens: {missing:?}");
    }
}
