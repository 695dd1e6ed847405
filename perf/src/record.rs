//! What one measurement yields, as it is kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::load::Measured;

/// A finished measurement: a line of the journal.
#[derive(Clone, Serialize, Deserialize)]
pub struct Record {
    pub work: String,
    pub contender: String,
    pub round: usize,
    pub outcome: Outcome,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Bytes, sessions, requests or datagrams went through it.
    Moved { measured: Measured, spent: Spent },
    /// It held sessions open.
    Held(Memory),
    /// Its system calls were counted.
    Called { sessions: u64, calls: BTreeMap<String, u64> },
    /// It could not do the work.
    Failed { why: String },
}

/// Processor time while the load was measured, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// By all processes of the contender; none where nothing stands between.
    pub contender: Option<f64>,
    /// By the whole machine: load, origin, contender and what is charged to nobody.
    pub machine: f64,
    /// By generator and origin.
    pub load: f64,
}

/// What sessions held open cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    pub sessions: usize,
    /// More bytes than without them: the contender's own, and the kernel's on the whole machine.
    pub user: Option<i64>,
    pub kernel: i64,
    /// Processor time of the contender a second while nothing changes.
    pub processor_share: Option<f64>,
}

impl Record {
    pub fn is(&self, work: &str, contender: &str, round: usize) -> bool {
        self.work == work && self.contender == contender && self.round == round
    }
}
