use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::{Auth, Error};
use crate::config::Config;

/// Between two readings lies as much time as one takes, and this at least, however often somebody
/// wants it: each forgets what is known of passwords.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Who clients may be: what was last read of it, and when it is read again.
pub(super) struct Roster<'a> {
    config: &'a Config,
    auth: Arc<Auth>,
    /// What others may still hold. Giving back many users takes a while, which no reactor has.
    retired: Vec<Arc<Auth>>,
    is_wanted: bool,
    not_before: Instant,
}

impl<'a> Roster<'a> {
    /// One that was just read.
    pub(super) fn new(config: &'a Config, auth: Arc<Auth>, now: Instant) -> Roster<'a> {
        Roster { config, auth, retired: Vec::new(), is_wanted: false, not_before: now }
    }

    /// It is to be read again, soon. Whoever wants that meanwhile wants the same.
    pub(super) fn want(&mut self) {
        self.is_wanted = true;
    }

    /// When to read it, if somebody wants that.
    pub(super) fn due(&self) -> Option<Instant> {
        self.is_wanted.then_some(self.not_before)
    }

    /// Reads it, whole; or it stays as it was.
    pub(super) fn read(&mut self) -> Result<&Arc<Auth>, Error> {
        let start = Instant::now();
        let read = self.auth.reload(self.config);
        self.is_wanted = false;
        let end = Instant::now();
        self.not_before = end + (end - start).max(PAUSE_MIN);
        let before = std::mem::replace(&mut self.auth, read?.into());
        self.retired.push(before);
        Ok(&self.auth)
    }

    /// How many hashes of passwords were computed, however often it was read meanwhile.
    pub(super) fn hashes(&self) -> u64 {
        self.auth.hashes()
    }

    /// Gives back what nobody else holds any more.
    pub(super) fn tidy(&mut self) {
        self.retired.retain(|auth| Arc::strong_count(auth) > 1);
    }
}
