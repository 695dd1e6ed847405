//! What has to hold of ringsocks whatever bytes it is given: one property a module, each a function
//! that panics where its property does not hold.
//!
//! The fuzzers in `targets/` call them with what libFuzzer thinks up, `tests/replay.rs` of
//! ringsocks with all that was thought up before.

pub mod access_line;
pub mod configuration;
pub mod datagram;
pub mod dns_answer;
pub mod framing;
#[path = "../../support/mechanism.rs"]
mod mechanism;
pub mod negotiation;
pub mod reassembly;
pub mod resolver;
mod script;
