//! One measurement: a fresh contender, one load, and what both spent meanwhile.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::catalogue::{Beside, FLOOD_SETTER, FLOW_SETTER, Pace, RATE_SETTER, Task, Work};
use crate::contender::{Cmd, Contender};
use crate::gauge::{self, Group};
use crate::known;
use crate::load::{self, Held, Kind, Load};
use crate::origin::Ports;
use crate::record::{Memory, Outcome, Record, Spent};
use crate::running::Running;

/// How long idle sessions are watched for costing processor time.
const IDLE_WATCH: Duration = Duration::from_secs(1);
/// How long sessions are traced at least: each is slow, and the last may be traced in part.
const TRACED_TIME: Duration = Duration::from_secs(4);
/// How long strace may take to attach, and to write what it has counted.
const STRACE_PATIENCE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Where and how long measurements are made.
pub struct Bench {
    pub origin: Ports,
    pub origin_pid: u32,
    /// For the contenders' files.
    pub folder: PathBuf,
    pub duration: Duration,
    pub warm_up: Duration,
}

impl Bench {
    /// Measures once. What was measured before says how much load an open loop is.
    pub fn measure(
        &self,
        work: &Work,
        contender: &Contender,
        before: &[Record],
    ) -> io::Result<Outcome> {
        let running = Running::start(contender, work.manner, self.origin, &self.folder)?;
        match work.task {
            Task::Idle { sessions } => {
                let held = match work.manner.cmd {
                    Cmd::Connect => Held::Idle,
                    Cmd::Associate => Held::Associated,
                    Cmd::Bind => Held::Waiting,
                };
                self.hold(work, &running, sessions, held)
            }
            Task::Stalled { sessions } => self.hold(work, &running, sessions, Held::Stalled),
            Task::Calls => self.count_calls(work, &running),
            _ => self.move_bytes(work, &running, kind(work, contender, before)?),
        }
    }

    fn move_bytes(&self, work: &Work, running: &Running, kind: Kind) -> io::Result<Outcome> {
        let load = self.load(work, running, kind, self.duration, self.warm_up);
        let [start, end] = [RefCell::new(None), RefCell::new(None)];
        let read =
            |into: &RefCell<Option<_>>| *into.borrow_mut() = Some(self.spent_until_now(running));
        let measured = load::run(&load, || read(&start), || read(&end))?;
        let unread = || io::Error::other("the load neither started nor ended");
        let start = start.into_inner().ok_or_else(unread)??;
        let end = end.into_inner().ok_or_else(unread)??;
        let spent = Spent {
            contender: end.contender.zip(start.contender).map(|(end, start)| end - start),
            machine: end.machine - start.machine,
            load: end.load - start.load,
        };
        Ok(Outcome::Moved { measured, spent })
    }

    fn hold(
        &self,
        work: &Work,
        running: &Running,
        sessions: usize,
        held: Held,
    ) -> io::Result<Outcome> {
        let way = running.entrance.way(work.manner);
        let before = memory_now(running)?;
        let during = || -> io::Result<_> {
            let held = memory_now(running)?;
            let earlier = self.spent_until_now(running)?.contender;
            thread::sleep(IDLE_WATCH);
            let later = self.spent_until_now(running)?.contender;
            Ok((held, later.zip(earlier).map(|(later, earlier)| later - earlier)))
        };
        let (during, spent) = load::hold(&way, self.origin, sessions, held, during)??;
        let grown = |during: u64, before: u64| during as i64 - before as i64;
        Ok(Outcome::Held(Memory {
            sessions,
            user: during.user.zip(before.user).map(|(during, before)| grown(during, before)),
            kernel: grown(during.kernel, before.kernel),
            processor_share: spent.map(|it| it / IDLE_WATCH.as_secs_f64()),
        }))
    }

    /// One client, without a warm-up: every session that is traced is counted.
    fn count_calls(&self, work: &Work, running: &Running) -> io::Result<Outcome> {
        let Some(group) = &running.group else { return Err(io::Error::other("nobody to trace")) };
        let summary = self.folder.join("strace");
        let strace = Strace::attach(group, &summary)?;
        let kind = Kind::Sessions { concurrent: 1 };
        let load = self.load(work, running, kind, self.duration.max(TRACED_TIME), Duration::ZERO);
        let measured = load::run(&load, || (), || ())?;
        strace.finish()?;
        let calls: BTreeMap<_, _> =
            gauge::calls_in(&fs::read_to_string(summary)?).into_iter().collect();
        match measured.units {
            0 => Err(io::Error::other("not one session came through")),
            sessions => Ok(Outcome::Called { sessions, calls }),
        }
    }

    fn spent_until_now(&self, running: &Running) -> io::Result<Spent> {
        let contender = running.group.as_ref().map(Group::processor_time).transpose()?;
        let load = gauge::process_time(std::process::id())? + gauge::process_time(self.origin_pid)?;
        Ok(Spent {
            contender: contender.map(|it| it.as_secs_f64()),
            machine: gauge::machine_time()?.as_secs_f64(),
            load: load.as_secs_f64(),
        })
    }

    fn load(
        &self,
        work: &Work,
        running: &Running,
        kind: Kind,
        duration: Duration,
        warm_up: Duration,
    ) -> Load {
        let way = running.entrance.way(work.manner);
        Load { way, origin: self.origin, kind, duration, warm_up }
    }
}

fn kind(work: &Work, contender: &Contender, before: &[Record]) -> io::Result<Kind> {
    let missing = |what: &str| io::Error::other(format!("{what} has not been measured"));
    let weakest = |setter| known::weakest_rate(before, setter).ok_or_else(|| missing(setter));
    Ok(match work.task {
        Task::Down { flows } => Kind::Down { flows },
        Task::Up { flows } => Kind::Up { flows },
        Task::Sessions { at_once } => Kind::Sessions { concurrent: at_once },
        Task::Requests { size, connections, pace, beside } => {
            let rate = match pace {
                Pace::Closed => None,
                Pace::Open { share } => Some(share * weakest(RATE_SETTER)?),
            };
            let beside = match beside {
                Beside::Nothing => None,
                Beside::Unpaced => Some(u64::MAX),
                Beside::HalfItsMaximum => Some(
                    (known::rate(before, FLOW_SETTER, &contender.name)
                        .ok_or_else(|| missing(FLOW_SETTER))?
                        / 2.0) as u64,
                ),
            };
            Kind::Requests { size, connections, rate, beside }
        }
        Task::Echoes { size, associations, window, run } => {
            Kind::Echoes { size, associations, window, run }
        }
        Task::Flood { is_down, size, times } => {
            Kind::Flood { is_down, size, rate: f64::from(times) * weakest(FLOOD_SETTER)? }
        }
        Task::Idle { .. } | Task::Stalled { .. } | Task::Calls => {
            unreachable!("held and traced works are no streams")
        }
    })
}

struct MemoryNow {
    user: Option<u64>,
    kernel: u64,
}

fn memory_now(running: &Running) -> io::Result<MemoryNow> {
    let user = running.group.as_ref().map(Group::user_memory).transpose()?;
    Ok(MemoryNow { user, kernel: gauge::kernel_memory()? })
}

/// A strace that counts, detached when dropped.
struct Strace(Child);

impl Strace {
    fn attach(group: &Group, summary: &Path) -> io::Result<Strace> {
        let processes = group.processes()?;
        let mut command = Command::new("strace");
        command.args(["-c", "-f", "-qq", "-o"]).arg(summary);
        for pid in &processes {
            command.args(["-p", &pid.to_string()]);
        }
        let null = Stdio::null;
        let strace = command.stdin(null()).stdout(null()).stderr(null()).spawn()?;
        let mut strace = Strace(strace);
        let deadline = Instant::now() + STRACE_PATIENCE;
        while !processes.iter().all(|&pid| is_traced(pid)) {
            if let Some(status) = strace.0.try_wait()? {
                return Err(io::Error::other(format!("strace ended: {status}")));
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("strace does not attach"));
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(strace)
    }

    fn finish(mut self) -> io::Result<()> {
        gauge::signal(self.0.id(), Signal::INT);
        let deadline = Instant::now() + STRACE_PATIENCE;
        while self.0.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err(io::Error::other("strace does not end"));
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Every thread of it: one that is not yet traced would be missing from the count.
fn is_traced(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        !status.lines().any(|line| line == "TracerPid:\t0")
    })
}
