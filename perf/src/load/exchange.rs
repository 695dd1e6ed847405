use std::time::{Duration, Instant};

use super::work::Failure;
use crate::pattern::{Check, Pattern};

/// A connection's requests, one after the other, each echoed before the next.
///
/// They are pieces of the pattern that follow each other, and begin elsewhere on each connection.
pub(super) struct Exchange {
    pub(super) lane: usize,
    check: Check,
    received: usize,
    /// From when the latency of the one that is not answered counts.
    asked: Option<Instant>,
}

impl Exchange {
    pub(super) fn new(lane: usize) -> Exchange {
        Exchange { lane, check: Check::from(lane as u64 * 1021), received: 0, asked: None }
    }

    /// Whether there is nothing that is not answered.
    pub(super) fn is_idle(&self) -> bool {
        self.asked.is_none()
    }

    /// Since when there is something that is not answered.
    pub(super) fn asked(&self) -> Option<Instant> {
        self.asked
    }

    /// Begins a request; it is the pattern from this position on.
    pub(super) fn ask(&mut self, intended: Instant) -> u64 {
        self.asked = Some(intended);
        self.check.position()
    }

    /// Takes a part of the answer; how long it took if it is the last.
    pub(super) fn hear(
        &mut self,
        pattern: &Pattern,
        size: usize,
        bytes: &[u8],
    ) -> Result<Option<Duration>, Failure> {
        let asked = self.asked.ok_or(Failure::Unasked)?;
        if bytes.len() > size - self.received {
            return Err(Failure::Unasked);
        }
        self.check.take(pattern, bytes)?;
        self.received += bytes.len();
        if self.received < size {
            return Ok(None);
        }
        self.received = 0;
        self.asked = None;
        Ok(Some(asked.elapsed()))
    }
}
