use std::fmt;
use std::io;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// Lines that were not written: how many in all, and how many nobody has been told of.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    total: AtomicU64,
    untold: AtomicU64,
    /// The last reason: an `errno`, or [`QUEUE_FULL`].
    why: AtomicI32,
}

const QUEUE_FULL: i32 = 0;

impl Losses {
    /// A line found the queue full.
    pub(crate) fn count_full_queue(&self) {
        self.count(1, QUEUE_FULL);
    }

    /// Lines could not be written.
    pub(crate) fn count_failure(&self, failure: &Failure) {
        self.count(failure.lines, failure.error.raw_os_error().unwrap_or(libc::EIO));
    }

    fn count(&self, lines: u64, why: i32) {
        self.total.fetch_add(lines, Ordering::Relaxed);
        self.untold.fetch_add(lines, Ordering::Relaxed);
        self.why.store(why, Ordering::Relaxed);
    }

    /// All since the start.
    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Whether there is something to tell.
    pub(crate) fn is_untold(&self) -> bool {
        self.untold.load(Ordering::Relaxed) > 0
    }

    /// What is to be told now, if anything.
    pub(crate) fn tell(&self) -> Option<Loss> {
        let lines = self.untold.swap(0, Ordering::Relaxed);
        (lines > 0).then(|| Loss { lines, why: self.why.load(Ordering::Relaxed) })
    }

    /// Telling it has failed: it is to be told later.
    pub(crate) fn take_back(&self, loss: &Loss) {
        self.untold.fetch_add(loss.lines, Ordering::Relaxed);
    }
}

/// Lines that a write left behind.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) lines: u64,
    pub(crate) error: io::Error,
}

/// How many lines are missing, and the last reason.
#[derive(Debug)]
pub(crate) struct Loss {
    lines: u64,
    why: i32,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let are = if self.lines == 1 { "line is" } else { "lines are" };
        write!(f, "{} {are} lost: ", self.lines)?;
        match self.why {
            QUEUE_FULL => f.write_str("whoever reads them is too slow, or stopped"),
            errno => io::Error::from_raw_os_error(errno).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_not_told_again_but_stays_in_the_total() {
        let losses = Losses::default();
        assert!(losses.tell().is_none());
        losses.count_full_queue();
        losses.count_full_queue();
        let loss = losses.tell().unwrap();
        assert_eq!(
            loss.to_string(),
            "2 lines are lost: whoever reads them is too slow, or stopped"
        );
        assert!(losses.tell().is_none());
        losses.take_back(&loss);
        losses.count_failure(&Failure {
            lines: 5,
            error: io::Error::from_raw_os_error(libc::ENOSPC),
        });
        assert!(losses.is_untold());
        let told = losses.tell().unwrap().to_string();
        assert!(told.starts_with("7 lines are lost: No space left"), "{told}");
        assert_eq!(losses.total(), 7);
    }
}
