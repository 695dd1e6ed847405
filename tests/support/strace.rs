//! The reactors' system calls, as `strace` sees or changes them: needs root.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use super::server::Server;
use super::wait_until;

/// An `strace` that has hold of some threads until it is dropped.
pub struct Strace(Child);

impl Strace {
    /// Takes hold of these threads.
    #[track_caller]
    pub fn attach(threads: &[String], args: &[&str]) -> Strace {
        assert!(!threads.is_empty(), "no thread is called a reactor");
        let mut command = Command::new("strace");
        command.args(args);
        for thread in threads {
            command.args(["-p", thread]);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().expect("strace runs");
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let strace = Strace(child);
        let mut lines = stderr.lines();
        let attached = lines.by_ref().take(threads.len()).map_while(Result::ok);
        let attached: Vec<String> = attached.filter(|line| line.contains("attached")).collect();
        // What it has to say later it must get rid of, or it dies of a broken pipe.
        thread::spawn(move || lines.for_each(drop));
        assert_eq!(attached.len(), threads.len(), "{attached:?}");
        strace
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // Told to end it lets go of the threads; killed it would take them along.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

/// The threads of a server's reactors, so many of them.
#[track_caller]
pub fn reactors(server: &Server, workers: usize) -> Vec<String> {
    // A thread gives itself its name.
    wait_until("the reactors run", || named_reactors(server).len() == workers);
    named_reactors(server)
}

fn named_reactors(server: &Server) -> Vec<String> {
    let threads = fs::read_dir(server.proc("task")).expect("the server runs");
    threads
        .map(|thread| thread.expect("a thread").path())
        .filter(|thread| {
            let name = fs::read_to_string(thread.join("comm")).unwrap_or_default();
            name.starts_with("reactor-")
        })
        .map(|thread| thread.file_name().expect("a number").to_str().expect("a number").to_owned())
        .collect()
}

/// How often the reactors make each call while this is done.
#[track_caller]
pub fn count_calls(server: &Server, workers: usize, act: impl FnOnce()) -> BTreeMap<String, u64> {
    let summary = NamedTempFile::new().expect("a temporary file");
    let path = summary.path().to_str().expect("a path of ours");
    let strace = Strace::attach(&reactors(server, workers), &["-c", "-o", path]);
    act();
    drop(strace);
    read_summary(summary.path())
}

/// Lines of `% time  seconds  usecs/call  calls  errors  syscall`, errors only where there are some.
fn read_summary(path: &Path) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(path).expect("strace has written its summary");
    let calls = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let count = fields.get(3)?.parse().ok()?;
        Some((fields.last()?.to_string(), count))
    });
    calls.filter(|(name, _)| name != "total").collect()
}
