//! ringsocks: a SOCKS gateway for Linux.

pub mod config;
pub mod outcome;
