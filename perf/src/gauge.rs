//! What a contender spends: processor time and memory of all its processes, ended ones included.
//!
//! A cgroup of its own counts everything that was ever in it. Where none can be made, `/proc` is
//! added up: coarse ticks, and what an orphan spent is lost once it has ended.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Where a cgroup of our own may be made, the one with the finest meter first.
const V1_ROOT: &str = "/sys/fs/cgroup/cpuacct";
const V2_ROOT: &str = "/sys/fs/cgroup";

/// `/proc` counts in these, on every Linux that Rust runs on.
const TICKS_PER_SECOND: u64 = 100;
const PAGE_BYTES: u64 = 4096;

/// The processes of one contender, and the meter that counts them.
#[derive(Clone, Debug, PartialEq)]
pub enum Group {
    /// A directory of the `cpuacct` controller.
    V1(PathBuf),
    /// A directory of the unified hierarchy.
    V2(PathBuf),
    /// This process and those that it started.
    Tree(u32),
}

impl Group {
    /// A cgroup of this name, if one can be made here.
    pub fn cgroup(name: &str) -> Option<Group> {
        let v1 = Path::new(V1_ROOT).join(name);
        if Path::new(V1_ROOT).join("cpuacct.usage").exists() && fs::create_dir(&v1).is_ok() {
            return Some(Group::V1(v1));
        }
        let v2 = Path::new(V2_ROOT).join(name);
        let is_unified = Path::new(V2_ROOT).join("cgroup.controllers").exists();
        (is_unified && fs::create_dir(&v2).is_ok()).then_some(Group::V2(v2))
    }

    /// A command that becomes `program` on these CPUs, inside of the group from its first moment.
    pub fn command(&self, cpus: &str, program: &Path) -> Command {
        let mut command = Command::new("sh");
        let enter = match self.folder() {
            Some(_) => r#"echo $$ >"$0/cgroup.procs" && exec taskset -c "$@""#,
            None => r#"exec taskset -c "$@""#,
        };
        command.args(["-c", enter]).arg(self.folder().unwrap_or(Path::new("sh")));
        command.arg(cpus).arg(program);
        command
    }

    /// Processor time, user and system, of all that is or was in the group.
    pub fn processor_time(&self) -> io::Result<Duration> {
        match self {
            Group::V1(folder) => {
                let file = "cpuacct.usage";
                nanoseconds(file, &fs::read_to_string(folder.join(file))?)
            }
            Group::V2(folder) => usage_in(&fs::read_to_string(folder.join("cpu.stat"))?),
            Group::Tree(root) => {
                let stats = family(*root, &process_stats()?);
                Ok(ticks(stats.iter().map(|it| it.ticks_with_ended_children).sum()))
            }
        }
    }

    /// The processes that are in the group now.
    pub fn processes(&self) -> io::Result<Vec<u32>> {
        match self.folder() {
            Some(folder) => {
                let listed = fs::read_to_string(folder.join("cgroup.procs"))?;
                Ok(listed.lines().filter_map(|line| line.parse().ok()).collect())
            }
            None => {
                let Group::Tree(root) = self else { unreachable!("only a tree has no folder") };
                let family = family(*root, &process_stats()?);
                Ok(family.iter().filter(|it| !it.has_ended).map(|it| it.pid).collect())
            }
        }
    }

    /// Anonymous memory of the processes, in bytes. A page that forked processes still share is
    /// counted once: `RssAnon` would count it for each of them.
    pub fn user_memory(&self) -> io::Result<u64> {
        let processes = self.processes()?;
        Ok(processes.iter().filter_map(|&pid| anonymous_memory(pid)).sum())
    }

    /// Kills every process that is in the group now, children before those that started them: an
    /// orphan would be in the tree no more.
    pub fn kill(&self) -> io::Result<()> {
        for pid in self.processes()?.into_iter().rev() {
            signal(pid, Signal::KILL);
        }
        Ok(())
    }

    /// Whether it knows its processes even when who started them has ended.
    pub fn keeps_orphans(&self) -> bool {
        self.folder().is_some()
    }

    /// Gives the cgroup back, once nothing is in it.
    pub fn remove(&self) {
        if let Some(folder) = self.folder() {
            let _ = fs::remove_dir(folder);
        }
    }

    fn folder(&self) -> Option<&Path> {
        match self {
            Group::V1(folder) | Group::V2(folder) => Some(folder),
            Group::Tree(_) => None,
        }
    }
}

/// Signals a process; one that has ended meanwhile needs none.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        let _ = kill_process(pid, signal);
    }
}

/// Processor time of the whole machine since it started: softirqs and kernel threads, which are
/// charged to no process, too; not what a hypervisor gave to others.
pub fn machine_time() -> io::Result<Duration> {
    busy_in(&fs::read_to_string("/proc/stat")?)
}

/// Processor time of a process's threads, those that have ended excepted.
pub fn process_time(pid: u32) -> io::Result<Duration> {
    let mut time = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = match fs::read_to_string(thread?.path().join("schedstat")) {
            // It has ended meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            text => text?,
        };
        time += nanoseconds("schedstat", text.split(' ').next().unwrap_or_default())?;
    }
    Ok(time)
}

/// Memory of the kernel that grows with sessions, processes and threads, in bytes.
pub fn kernel_memory() -> io::Result<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let kept: u64 =
        ["Slab:", "KernelStack:", "PageTables:"].iter().filter_map(|it| kib(&meminfo, it)).sum();
    Ok(kept + socket_memory_in(&fs::read_to_string("/proc/net/sockstat")?))
}

/// How often each system call was made, from the table that `strace -c` writes.
pub fn calls_in(summary: &str) -> Vec<(String, u64)> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let name = *fields.last()?;
        let calls = fields.get(3)?.parse().ok()?;
        (name != "total").then(|| (name.to_owned(), calls))
    };
    summary.lines().filter_map(row).collect()
}

fn nanoseconds(what: &str, text: &str) -> io::Result<Duration> {
    text.trim().parse().map(Duration::from_nanos).map_err(|_| unreadable(what, text))
}

fn usage_in(cpu_stat: &str) -> io::Result<Duration> {
    let usage = cpu_stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
    let microseconds = usage.and_then(|it| it.trim().parse().ok());
    microseconds.map(Duration::from_micros).ok_or_else(|| unreadable("cpu.stat", cpu_stat))
}

/// Of `cpu user nice system idle iowait irq softirq steal …`: all but idle, iowait and steal, and
/// guests' time is in user's already.
fn busy_in(stat: &str) -> io::Result<Duration> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "));
    let fields: Option<Vec<u64>> =
        line.map(|it| it.split_whitespace().map_while(|it| it.parse().ok()).collect());
    match fields.as_deref() {
        Some([user, nice, system, _, _, irq, softirq, ..]) => {
            Ok(ticks(user + nice + system + irq + softirq))
        }
        _ => Err(unreadable("/proc/stat", stat)),
    }
}

fn socket_memory_in(sockstat: &str) -> u64 {
    let pages = |line: &str| -> Option<u64> {
        let mut words = line.split_whitespace().skip_while(|&it| it != "mem");
        words.nth(1)?.parse().ok()
    };
    sockstat.lines().filter_map(pages).sum::<u64>() * PAGE_BYTES
}

fn anonymous_memory(pid: u32) -> Option<u64> {
    let shared = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
    let shared = shared.and_then(|it| kib(&it, "Pss_Anon:"));
    shared.or_else(|| kib(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "RssAnon:"))
}

/// The bytes of a line such as `Slab:   123 kB`.
fn kib(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let number: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(number * 1024)
}

/// What `/proc/PID/stat` tells.
#[derive(Clone, Debug, PartialEq)]
struct ProcessStat {
    pid: u32,
    parent: u32,
    /// It is a zombie: its time counts until somebody has waited for it.
    has_ended: bool,
    ticks_with_ended_children: u64,
}

fn process_stats() -> io::Result<Vec<ProcessStat>> {
    let mut stats = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path().join("stat");
        // No process, or one that has just ended.
        stats.extend(fs::read_to_string(path).ok().and_then(|it| process_stat(&it)));
    }
    Ok(stats)
}

/// The name is in brackets and may hold anything: what counts starts behind the last of them.
fn process_stat(stat: &str) -> Option<ProcessStat> {
    let pid = stat.split_whitespace().next()?.parse().ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let times: Option<u64> = (11..15).map(field).sum();
    Some(ProcessStat {
        pid,
        parent: field(1)? as u32,
        has_ended: matches!(fields.first(), Some(&("Z" | "X"))),
        ticks_with_ended_children: times?,
    })
}

/// A process and all that descend from it.
fn family(root: u32, all: &[ProcessStat]) -> Vec<ProcessStat> {
    let mut children: HashMap<u32, Vec<&ProcessStat>> = HashMap::new();
    for stat in all {
        children.entry(stat.parent).or_default().push(stat);
    }
    let mut family: Vec<ProcessStat> = all.iter().filter(|it| it.pid == root).cloned().collect();
    let mut next = 0;
    while let Some(parent) = family.get(next).map(|it| it.pid) {
        family.extend(children.remove(&parent).into_iter().flatten().cloned());
        next += 1;
    }
    family
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 1000 / TICKS_PER_SECOND)
}

fn unreadable(what: &str, text: &str) -> io::Error {
    let start: String = text.chars().take(80).collect();
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} is not understood: {start:?}"))
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn the_machine_is_busy_with_all_but_idling_waiting_and_others() {
        let stat = "cpu  100 20 30 9999 888 4 5 777 0 0\ncpu0 1 2 3 4\n";
        assert_eq!(busy_in(stat).unwrap(), Duration::from_millis(1590));
        assert!(busy_in("cpu 1 2").is_err());
        assert!(busy_in("").is_err());
    }

    #[test]
    fn both_kinds_of_cgroup_are_read() {
        assert_eq!(nanoseconds("a file", "11281927925251\n").unwrap().as_secs(), 11281);
        assert!(nanoseconds("a file", "-").is_err());
        let stat = "usage_usec 2500000\nuser_usec 1\nsystem_usec 2\n";
        assert_eq!(usage_in(stat).unwrap(), Duration::from_millis(2500));
        assert!(usage_in("user_usec 1\n").is_err());
    }

    #[test]
    fn a_process_name_may_hold_brackets_and_blanks() {
        let stat = "42 (a ) S 7) R 7 42 42 0 -1 4194304 1 2 3 4 10 20 300 400 20 0 1 0 5 6 7";
        let expected =
            ProcessStat { pid: 42, parent: 7, has_ended: false, ticks_with_ended_children: 730 };
        assert_eq!(process_stat(stat), Some(expected));
        assert_eq!(process_stat("42 (short) S 1"), None);
    }

    #[test]
    fn a_family_is_a_process_and_all_below_it() {
        let stat = |pid, parent| ProcessStat {
            pid,
            parent,
            has_ended: false,
            ticks_with_ended_children: 0,
        };
        let all = [stat(4, 3), stat(1, 0), stat(3, 2), stat(2, 1), stat(9, 1)];
        let pids: Vec<u32> = family(2, &all).iter().map(|it| it.pid).collect();
        assert_eq!(pids, [2, 3, 4]);
        assert!(family(77, &all).is_empty());
    }

    #[test]
    fn socket_memory_is_every_protocol_s() {
        let sockstat = "sockets: used 16\nTCP: inuse 2 orphan 0 tw 0 alloc 2 mem 120\nUDP: inuse 0 mem 4\nFRAG: inuse 0 memory 0\n";
        assert_eq!(socket_memory_in(sockstat), 124 * 4096);
    }

    #[test]
    fn calls_are_counted_with_errors_and_without() {
        let summary = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000120           1       100           epoll_wait
 40.00    0.000080           2        40        10 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.000200                   140        10 total
";
        let expected = [("epoll_wait".to_owned(), 100), ("recvfrom".to_owned(), 40)];
        assert_eq!(calls_in(summary), expected);
    }

    #[test]
    fn a_running_tree_has_memory_and_time_that_only_grows() {
        let mut child = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap();
        let group = Group::Tree(child.id());
        assert_eq!(group.processes().unwrap(), [child.id()]);
        assert!(group.user_memory().unwrap() > 0);
        let before = group.processor_time().unwrap();
        assert!(group.processor_time().unwrap() >= before);
        group.kill().unwrap();
        child.wait().unwrap();
        assert!(group.processes().unwrap().is_empty());
        assert!(process_time(std::process::id()).unwrap() > Duration::ZERO);
        assert!(machine_time().unwrap() > Duration::ZERO);
        assert!(kernel_memory().unwrap() > 0);
    }
}
