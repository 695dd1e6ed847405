//! What a reactor has counted, and what the process says of it.

use std::fmt;
use std::ops::AddAssign;

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
    /// Waiting for somebody to connect (BIND).
    Accepting,
    /// Moving bytes.
    Relaying,
    /// Moving datagrams (UDP ASSOCIATE).
    Associated,
    /// Passing on a reset.
    Severing,
    /// Seeing the last bytes off.
    Closing,
}

impl Stage {
    /// Every stage, in the order of a session's life.
    pub const ALL: [Stage; 10] = [
        Stage::Greeting,
        Stage::Authenticating,
        Stage::Requesting,
        Stage::Resolving,
        Stage::Connecting,
        Stage::Accepting,
        Stage::Relaying,
        Stage::Associated,
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
            Stage::Accepting => "accepting",
            Stage::Relaying => "relaying",
            Stage::Associated => "associated",
            Stage::Severing => "severing",
            Stage::Closing => "closing",
        })
    }
}

/// How much a session carried in either direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the client to the target.
    pub up: u64,
    /// From the target to the client.
    pub down: u64,
}

impl Traffic {
    /// So much from the client to the target.
    pub fn upwards(much: u64) -> Traffic {
        Traffic { up: much, down: 0 }
    }

    /// So much from the target to the client.
    pub fn downwards(much: u64) -> Traffic {
        Traffic { up: 0, down: much }
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Traffic) {
        self.up += other.up;
        self.down += other.down;
    }
}

/// Why a datagram went no further. RFC 1928 section 7 has it dropped without a word to anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// It came to a client's relay port from somebody else, before the kernel knew whom to keep out.
    Stranger,
    /// It is not sealed as its client seals, or has come before.
    Unsealed,
    /// It has no header that could be read.
    Malformed,
    /// The rules deny its target, or it is a port of ours, or a group of hosts.
    Denied,
    /// It is a fragment, and never became a whole datagram.
    Fragment,
    /// Its name has no address, or too many wait for theirs.
    Unresolved,
    /// It came from whom the client had sent nothing.
    Unsolicited,
    /// It is longer than what carries it.
    TooLarge,
    /// The kernel would not send it.
    Unsent,
    /// It came faster than it was received.
    Overflow,
}

impl DropReason {
    /// Every reason there is, in the order of their numbers.
    pub const ALL: [DropReason; 10] = [
        DropReason::Stranger,
        DropReason::Unsealed,
        DropReason::Malformed,
        DropReason::Denied,
        DropReason::Fragment,
        DropReason::Unresolved,
        DropReason::Unsolicited,
        DropReason::TooLarge,
        DropReason::Unsent,
        DropReason::Overflow,
    ];
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DropReason::Stranger => "stranger",
            DropReason::Unsealed => "unsealed",
            DropReason::Malformed => "malformed",
            DropReason::Denied => "denied",
            DropReason::Fragment => "fragment",
            DropReason::Unresolved => "unresolved",
            DropReason::Unsolicited => "unsolicited",
            DropReason::TooLarge => "too_large",
            DropReason::Unsent => "unsent",
            DropReason::Overflow => "overflow",
        })
    }
}

/// Datagrams that were relayed, and those that were not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Datagrams {
    /// How many went from clients to their targets, and back.
    pub relayed: Traffic,
    /// What was in them: headers of ours do not count.
    pub bytes: Traffic,
    dropped: [u64; DropReason::ALL.len()],
}

impl Datagrams {
    /// Counts so many that were dropped.
    pub fn count_drop(&mut self, reason: DropReason, count: u64) {
        self.dropped[reason as usize] += count;
    }

    /// How many were dropped for this.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }
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
        self.bytes += traffic;
    }

    /// How many sessions have ended in this way.
    pub fn ended(&self, outcome: Outcome) -> u64 {
        self.ended[outcome.index()]
    }
}

/// Names and passwords that were checked, and security contexts that were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Logins {
    /// Those that let a client in.
    pub accepted: u64,
    /// Those that did not: each has its line in the log.
    pub failed: u64,
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
    /// What its associations relayed and dropped.
    pub datagrams: Datagrams,
    /// Who connected to a port for somebody else, and was closed.
    pub bind_strangers: u64,
    /// Clients that have proved who they are, or tried to.
    pub logins: Logins,
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
    /// Hashes of passwords that were computed.
    pub hashes: u64,
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
        write!(f, " datagrams_up={}", sum(&|it| it.datagrams.relayed.up))?;
        write!(f, " datagrams_down={}", sum(&|it| it.datagrams.relayed.down))?;
        for reason in DropReason::ALL {
            write!(f, " drops_{reason}={}", sum(&|it| it.datagrams.dropped(reason)))?;
        }
        write!(f, " bind_strangers={}", sum(&|it| it.bind_strangers))?;
        write!(f, " logins={}", sum(&|it| it.logins.accepted))?;
        write!(f, " logins_failed={}", sum(&|it| it.logins.failed))?;
        write!(f, " hashes={}", self.hashes)?;
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
    fn reasons_and_stages_are_listed_in_their_order() {
        assert!(DropReason::ALL.into_iter().enumerate().all(|(at, it)| it as usize == at));
        assert!(Stage::ALL.into_iter().enumerate().all(|(at, it)| it as usize == at));
    }

    #[test]
    fn reactors_add_up_in_one_line() {
        let mut one = Report { rings_in_use: 2, ..Report::default() };
        one.stages[Stage::Relaying as usize] = 3;
        one.datagrams.count_drop(DropReason::Denied, 2);
        one.datagrams.relayed.up = 7;
        one.counters.accepted = 10;
        one.logins = Logins { accepted: 4, failed: 3 };
        one.counters.count_end(Outcome::Finished, Traffic { up: 1, down: 2 });
        let mut other = one.clone();
        other.counters.count_end(Outcome::Noise, Traffic::default());
        let reactors = &[one, other];
        let line = Summary { reactors, hashes: 9, log_dropped: 5, access_dropped: 0 }.to_string();
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
            "datagrams_up=14",
            "drops_denied=4",
            "drops_stranger=0",
            "logins=8",
            "logins_failed=6",
            "hashes=9",
            "log_dropped=5",
            "access_dropped=0",
            "load=3,3",
        ] {
            assert!(fields.contains(&expected), "{expected} is missing in: {line}");
        }
        assert!(!line.contains('\n'));
    }
}
