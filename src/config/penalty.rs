//! What failed logins cost.

use std::time::Duration;

use ipnet::IpNet;

/// What failed logins cost whoever they come from: an IPv4 address or an IPv6 /64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Penalty {
    /// What each failure adds; if it is zero, there are no penalties.
    pub failure: Duration,
    /// How much locks, once it has gathered, until it has run off.
    pub threshold: Duration,
    /// The most that gathers, at least the threshold and never zero.
    pub max: Duration,
    /// Who has no penalties.
    pub exempt: Vec<IpNet>,
}
