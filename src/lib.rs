//! ringsocks: a SOCKS gateway for Linux.

pub mod auth;
pub mod config;
pub mod metrics;
pub mod offload;
pub mod outcome;
pub mod policy;
pub mod process;
pub mod proto;
pub mod reactor;
pub mod relay;
pub mod session;
pub mod sys;
pub mod token;
