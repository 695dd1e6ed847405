//! What a reactor has counted, and what the process says of it.

use std::fmt;

use crate::outcome::Outcome;

/// What a session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Waiting for the greeting.
    Greeting,
    /// Waiting for a name and a password.
    Authenticating,
    /// Waiting for the request.
    Requesting,
    /// Waiting for a name's addresses.
    Resolving,
    /// Waiting for the target.
    Connecting,
    /// Moving bytes.
    Relaying,
    /// Passing on a reset.
    Severing,
    /// Seeing the last bytes off.
    Closing,
}

impl Stage {
    /// Every stage, in the order of a session's life.
    pub const ALL: [Stage; 8] = [
        Stage::Greeting,
        Stage::Authenticating,
        Stage::Requesting,
        Stage::Resolving,
        Stage::Connecting,
        Stage::Relaying,
        Stage::Severing,
        Stage::Closing,
    ];
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Greeting => "greeting",
            Stage::Authenticating => "authenticating",
            Stage::Requesting => "requesting",
            Stage::Resolving => "resolving",
            Stage::Connecting => "connecting",
            Stage::Relaying => "relaying",
            Stage::Severing => "severing",
            Stage::Closing => "closing",
        })
    }
}

/// How many bytes a session carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the client to the target.
    pub up: u64,
    /// From the target to the client.
    pub down: u64,
}

/// Counters of one reactor since it started: plain numbers, nobody else's to touch.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Clients accepted and served.
    pub accepted: u64,
    /// Clients closed at once because the listener's `clients` does not name them.
    pub clients_denied: u64,
    /// Clients closed at once because they have as many sessions or handshakes as they may.
    pub clients_over_limit: u64,
    /// Failed accepts other than for want of descriptors or memory.
    pub accept_errors: u64,
    /// How often the listeners were parked, at the session limit or out of descriptors.
    pub parks: u64,
    /// Bytes relayed.
    pub bytes: Traffic,
    ended: [u64; Outcome::COUNT],
}

impl Counters {
    /// Counts a session that has ended.
    pub fn count_end(&mut self, outcome: Outcome, traffic: Traffic) {
        self.ended[outcome.index()] += 1;
        self.bytes.up += traffic.up;
        self.bytes.down += traffic.down;
    }

    /// How many sessions have ended in this way.
    pub fn ended(&self, outcome: Outcome) -> u64 {
        self.ended[outcome.index()]
    }
}

/// What a resolver has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameCounters {
    /// Names asked for.
    pub asked: u64,
    /// Those that were answered at once, from the cache or the hosts file.
    pub hits: u64,
    /// Those that others were waiting for already.
    pub joined: u64,
    /// Questions sent.
    pub sent: u64,
    /// Questions sent again because nobody answered.
    pub retries: u64,
    /// Answers that did not fit into a datagram.
    pub truncated: u64,
    /// Messages that were an answer to no question.
    pub strangers: u64,
    /// Names without an address, for whatever reason.
    pub failed: u64,
}

/// One reactor's counters and gauges at one moment.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What it has counted since it started.
    pub counters: Counters,
    /// Its sessions by [`Stage`], in the order of [`Stage::ALL`].
    pub stages: [u64; Stage::ALL.len()],
    /// What its resolver has counted.
    pub names: NameCounters,
    /// Rings that hold bytes.
    pub rings_in_use: u64,
    /// Rings that could be taken before `limit.buffers` is reached.
    pub rings_free: u64,
    /// Pipes that are open, two descriptors each, most of them for the next who needs one.
    pub pipes_open: u64,
    /// Pipes that hold bytes.
    pub pipes_in_use: u64,
    /// How often the kernel had no pipe to give: bulk was copied.
    pub pipes_denied: u64,
    /// Directions that could not be spliced: they were copied.
    pub lanes_unspliceable: u64,
    /// Inboxes that hold part of a message.
    pub inboxes_in_use: u64,
}

impl Report {
    /// How many sessions are open.
    pub fn open(&self) -> u64 {
        self.stages.iter().sum()
    }
}

/// The whole process in one line of `key=value`.
pub struct Summary<'a> {
    /// What its reactors have counted.
    pub reactors: &'a [Report],
    /// Lines of the log that were not written.
    pub log_dropped: u64,
    /// Lines of the access log that were not written.
    pub access_dropped: u64,
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |of: &dyn Fn(&Report) -> u64| self.reactors.iter().map(of).sum::<u64>();
        write!(f, "counters accepted={}", sum(&|it| it.counters.accepted))?;
        write!(f, " open={}", sum(&Report::open))?;
        for (place, stage) in Stage::ALL.into_iter().enumerate() {
            write!(f, " {stage}={}", sum(&|it| it.stages[place]))?;
        }
        for outcome in Outcome::ALL {
            write!(f, " {outcome}={}", sum(&|it| it.counters.ended(outcome)))?;
        }
        write!(f, " bytes_up={}", sum(&|it| it.counters.bytes.up))?;
        write!(f, " bytes_down={}", sum(&|it| it.counters.bytes.down))?;
        write!(f, " clients_denied={}", sum(&|it| it.counters.clients_denied))?;
        let over_limit = sum(&|it| it.counters.clients_over_limit);
        write!(f, " clients_over_limit={over_limit}")?;
        write!(f, " accept_errors={}", sum(&|it| it.counters.accept_errors))?;
        write!(f, " parks={}", sum(&|it| it.counters.parks))?;
        write!(f, " rings_in_use={}", sum(&|it| it.rings_in_use))?;
        write!(f, " rings_free={}", sum(&|it| it.rings_free))?;
        write!(f, " pipes_open={}", sum(&|it| it.pipes_open))?;
        write!(f, " pipes_in_use={}", sum(&|it| it.pipes_in_use))?;
        write!(f, " pipes_denied={}", sum(&|it| it.pipes_denied))?;
        write!(f, " lanes_unspliceable={}", sum(&|it| it.lanes_unspliceable))?;
        write!(f, " inboxes_in_use={}", sum(&|it| it.inboxes_in_use))?;
        let names = |of: fn(&NameCounters) -> u64| sum(&|it| of(&it.names));
        write!(f, " names_asked={} names_hits={}", names(|it| it.asked), names(|it| it.hits))?;
        write!(f, " names_joined={} names_sent={}", names(|it| it.joined), names(|it| it.sent))?;
        write!(f, " names_retries={}", names(|it| it.retries))?;
        write!(f, " names_truncated={}", names(|it| it.truncated))?;
        write!(f, " names_strangers={}", names(|it| it.strangers))?;
        write!(f, " names_failed={}", names(|it| it.failed))?;
        write!(f, " log_dropped={} access_dropped={}", self.log_dropped, self.access_dropped)?;
        f.write_str(" load=")?;
        for (place, report) in self.reactors.iter().enumerate() {
            write!(f, "{}{}", if place == 0 { "" } else { "," }, report.open())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reactors_add_up_in_one_line() {
        let mut one = Report { rings_in_use: 2, ..Report::default() };
        one.stages[5] = 3;
        one.counters.accepted = 10;
        one.counters.count_end(Outcome::Finished, Traffic { up: 1, down: 2 });
        let mut other = one.clone();
        other.counters.count_end(Outcome::Noise, Traffic::default());
        let line =
            Summary { reactors: &[one, other], log_dropped: 5, access_dropped: 0 }.to_string();
        let fields: Vec<_> = line.split(' ').collect();
        for expected in [
            "accepted=20",
            "open=6",
            "relaying=6",
            "finished=2",
            "noise=1",
            "bytes_up=2",
            "bytes_down=4",
            "rings_in_use=4",
            "log_dropped=5",
            "access_dropped=0",
            "load=3,3",
        ] {
            assert!(fields.contains(&expected), "{expected} is missing in: {line}");
        }
        assert!(!line.contains('\n'));
    }
}
