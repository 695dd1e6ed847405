//! How BIND waits for its connection.

use std::time::Duration;

use super::advertise::Advertise;
use super::ports::PortRange;

/// How BIND waits for its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Those it listens on.
    pub ports: PortRange,
    /// The addresses that clients are told it listens on.
    pub advertise: Advertise,
    /// How long it waits, in whole milliseconds and never zero; `None` is for as long as the client
    /// does.
    pub timeout: Option<Duration>,
}
