//! Deadlines of 10,000 sessions.

use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion};
use ringsocks::timers::Timers;

const SLOTS: usize = 10_000;
const IDLE: Duration = Duration::from_secs(7200);
const HANDSHAKE: Duration = Duration::from_secs(10);

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("timers");
    let now = Instant::now();

    let mut timers = spread(now, IDLE);
    let mut slot = slots();
    group.bench_function("set as it is", |it| {
        it.iter(|| {
            let slot = slot();
            timers.set(slot, deadline(now, IDLE, slot));
        });
    });
    group.bench_function("set nearer, then farther", |it| {
        it.iter(|| {
            let slot = slot();
            timers.set(slot, now + HANDSHAKE);
            timers.set(slot, deadline(now, IDLE, slot));
        });
    });
    group.bench_function("clear and set", |it| {
        it.iter(|| {
            let slot = slot();
            timers.clear(slot);
            timers.set(slot, deadline(now, IDLE, slot));
        });
    });
    let mut due = Vec::new();
    group.bench_function("next", |it| it.iter(|| timers.next()));
    group.bench_function("expire none", |it| it.iter(|| timers.expire(now, &mut due)));
    assert!(due.is_empty(), "too early");

    for (name, within) in [("expire 10,000 of 10 s", HANDSHAKE), ("expire 10,000 of 2 h", IDLE)] {
        group.bench_function(name, |it| {
            it.iter_batched_ref(
                || (spread(now, within), Vec::new()),
                expire_all,
                BatchSize::LargeInput,
            );
        });
    }
}

/// Each slot with a deadline of its own in this time.
fn spread(now: Instant, within: Duration) -> Timers {
    let mut timers = Timers::new(now);
    for slot in 0..SLOTS {
        timers.set(slot, deadline(now, within, slot));
    }
    timers
}

fn deadline(now: Instant, within: Duration, slot: usize) -> Instant {
    now + within / SLOTS as u32 * (slot as u32 + 1)
}

/// All slots without end, neighbours far apart.
fn slots() -> impl FnMut() -> usize {
    let mut slot = 0;
    move || {
        slot = (slot + 6_151) % SLOTS;
        slot
    }
}

/// As the reactor does that wakes for each bucket.
fn expire_all((timers, due): &mut (Timers, Vec<usize>)) {
    while let Some(now) = timers.next() {
        timers.expire(now, due);
    }
    assert_eq!(due.len(), SLOTS);
}
