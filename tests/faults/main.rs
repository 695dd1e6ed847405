//! What becomes of the real binary when the machine, the network or the operator fails it.

#[path = "../support/mod.rs"]
mod support;

mod crowds;
mod descriptors;
mod handshakes;
mod injected;
mod lan;
mod logs;
mod loops;
mod ports;
mod relaying;
mod signals;
mod strangers;
mod unreachable;
mod vanishing;

use std::num::NonZero;
use std::thread;

/// At most `wanted`, and no more than there are processors for us.
fn workers_possible(wanted: usize) -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(wanted)
}
