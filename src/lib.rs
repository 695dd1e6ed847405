//! ringsocks: a SOCKS gateway for Linux.

pub mod outcome;
pub mod proto;
