macro_rules! events {
    ($($event:ident),+ $(,)?) => {
        /// What is counted over a seed, so that the simulation cannot quietly stop to be interesting.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Event {
            $($event),+
        }

        impl Event {
            pub(crate) const ALL: &[Event] = &[$(Event::$event),+];
        }
    };
}

events!(
    Lost,
    Late,
    Doubled,
    Answered,
    ToOurselves,
    AsOurselves,
    Stray,
    FilteredByKernel,
    QueueOverflow,
    ShortageReceiving,
    ErrorFromReceive,
    ErrorAmidBatch,
    ErrorFromSend,
    FullBatch,
    MergedRun,
    RunSent,
    NoRuns,
    RunTooLong,
    PartSent,
    NoRoomToSend,
    ConnectFailed,
    PortInUse,
    Crowded,
    OverCap,
    NoPort,
    ReplyBlocked,
    NameKnown,
    NamePending,
    ResolverFull,
    NoWay,
    Forgotten,
    LateAnswer,
    NameTimedOut,
    FragmentsTimedOut,
    Reassembled,
    ManyNames,
    ManyLetters,
    Evicted,
    Yield,
    LateEdge,
    ClockJump,
    DrainWhileBusy,
    TaskDone,
    Cleared,
    Opened,
    Forged,
    CameTwice,
    TooOld,
    CameLate,
    CameEarly,
    OtherLevel,
    Foreign,
    Reflected,
    StraySealed,
    SealedDown,
    SealedFull,
    NoRoomToSeal,
    TooLong,
    ContextOver,
);
