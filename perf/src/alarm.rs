//! A timer that an event loop waits for along with its sockets, finer than a poll's milliseconds.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// Wakes its loop once, at the time it was last set to.
pub struct Alarm {
    timer: OwnedFd,
    set: Option<Instant>,
}

impl Alarm {
    /// An alarm that is an event with this token when it goes off.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Alarm> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // Never read: each time it goes off is an edge of its own.
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Alarm { timer, set: None })
    }

    /// Sets it, unless it is set to `time` already.
    pub fn set(&mut self, time: Instant) -> io::Result<()> {
        if self.set == Some(time) {
            return Ok(());
        }
        let from_now = time.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: i64::try_from(from_now.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(from_now.subsec_nanos()),
            },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        self.set = Some(time);
        Ok(())
    }
}
