//! One client's life.

pub mod negotiation;
