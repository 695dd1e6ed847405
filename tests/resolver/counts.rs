/// What happened, and how often: a simulation in which nothing happens proves nothing.
#[derive(Default)]
pub(crate) struct Counts([u64; Event::ALL.len()]);

macro_rules! events {
    ($($event:ident,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Event { $($event,)* }

        impl Event {
            pub(crate) const ALL: [Event; [$(stringify!($event)),*].len()] = [$(Event::$event,)*];
        }
    };
}

events! {
    Answered,
    Silence,
    Failed,
    NoEdns,
    WithoutEdns,
    Truncated,
    Forged,
    OtherLetters,
    Cut,
    Garbage,
    Flood,
    Lost,
    TooLate,
    Stream,
    ClosedEarly,
    Shortage,
    Unreachable,
    ClockJump,
    NewSources,
    Known,
    KnownInPart,
    Pending,
    FirstPart,
    LastPart,
    Whole,
    NotFound,
    NoAddress,
    ServerFailed,
    TimedOut,
    Forgotten,
}

impl Counts {
    pub(crate) fn count(&mut self, event: Event) {
        self.0[event as usize] += 1;
    }

    pub(crate) fn of(&self, event: Event) -> u64 {
        self.0[event as usize]
    }

    pub(crate) fn add(&mut self, other: &Counts) {
        self.0.iter_mut().zip(other.0).for_each(|(all, one)| *all += one);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.0.iter().fold(0, |hash: u64, count| hash.rotate_left(7) ^ count)
    }
}
