//! The access log: a line for each session at its end.
//!
//! A reactor pushes a plain [`Record`] into a queue of its own, its [`Sink`], and goes on. The
//! writer's thread turns what has gathered into lines: a full disk or a stopped reader costs lines,
//! which are counted, and nothing else.

mod bell;
mod escape;
mod record;
mod writer;

pub use escape::{Escaped, escape};
pub use record::{GivenPort, Record, Span};
pub use writer::{AccessLog, Sink};
