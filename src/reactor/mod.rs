//! One single-threaded event loop.

pub mod timers;
