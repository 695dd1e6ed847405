//! ringsocks: a SOCKS gateway for Linux.

pub mod auth;
pub mod config;
pub mod outcome;
pub mod proto;
pub mod reactor;
pub mod session;
