//! The real binary as a child process: what it says, what it holds, and that it gives it back.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::PATIENCE;

/// Every password of these tests has it, and no server shows it to anybody.
pub const CANARY: &str = "canary";

/// Descriptors of a kernel pipe.
const DESCRIPTORS_PER_PIPE: usize = 2;

/// How long a server may take until everything of a test is given back.
const RESTORE_PATIENCE: Duration = Duration::from_secs(30);

/// How long a server is watched for being idle.
const IDLE_WINDOW: Duration = Duration::from_millis(300);

/// A running server, killed when dropped: then nothing that it wrote has a password in it.
pub struct Server {
    child: Child,
    /// The server itself, where `child` is only what started it.
    pid: u32,
    addresses: Vec<SocketAddr>,
    stderr: Arc<Lines>,
    access_log: Option<PathBuf>,
}

impl Server {
    /// Starts the binary and waits until it listens; on 127.0.0.1 and a port of the kernel's
    /// choice unless `args` name an address or a file.
    #[track_caller]
    pub fn start(args: &[&str]) -> Server {
        Server::start_with_env(args, &[])
    }

    /// As [`start`](Self::start), with environment variables such as `RINGSOCKS_TIMEOUT_IDLE`.
    #[track_caller]
    pub fn start_with_env(args: &[&str], env: &[(&str, &str)]) -> Server {
        Server::spawn(command(args, env))
    }

    /// As [`start_with_env`](Self::start_with_env), below a program that becomes the server or
    /// starts it as its only child.
    #[track_caller]
    pub fn start_under(wrapper: &[&str], args: &[&str], env: &[(&str, &str)]) -> Server {
        Server::spawn(command_under(wrapper, args, env))
    }

    /// As [`start`](Self::start), with so many listeners, of a file.
    #[track_caller]
    pub fn start_listening(listeners: usize, args: &[&str]) -> Server {
        Server::spawn_listening(listeners, command(args, &[]), Stdio::null())
    }

    /// Starts any command that becomes the server or starts it as its only child.
    #[track_caller]
    pub fn spawn(command: Command) -> Server {
        Server::spawn_writing_to(command, Stdio::null())
    }

    /// As [`spawn`](Self::spawn), with its standard output.
    #[track_caller]
    pub fn spawn_writing_to(command: Command, stdout: Stdio) -> Server {
        let listeners = command.get_args().filter(|arg| *arg == "--listen").count().max(1);
        Server::spawn_listening(listeners, command, stdout)
    }

    #[track_caller]
    fn spawn_listening(listeners: usize, mut command: Command, stdout: Stdio) -> Server {
        let access_log = access_log_of(&command);
        let mut child =
            command.stdout(stdout).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let stderr = Lines::read_from(child.stderr.take().expect("stderr is piped"));
        let (pid, addresses) = (child.id(), Vec::new());
        let mut server = Server { pid, child, addresses, stderr, access_log };
        let mut next = 0;
        while server.addresses.len() < listeners {
            let (at, line) = server.wait_line_from(next, "listening on ");
            server.addresses.push(address_in(&line));
            next = at + 1;
        }
        server.pid = only_child_of(server.pid).unwrap_or(server.pid);
        server.assert_process_shows_no_password();
        server
    }

    /// The first address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.state.lock().unwrap().lines.clone()
    }

    /// The last counters of a server that has ended.
    #[track_caller]
    pub fn last_counters(&self) -> BTreeMap<String, u64> {
        let said = self.stderr.all();
        let last = said.lines().rfind(|line| line.contains("counters accepted="));
        counters_in(last.unwrap_or_else(|| panic!("no counters in {said}")))
    }

    /// Waits for a line of stderr that contains `text`.
    #[track_caller]
    pub fn wait_line(&self, text: &str) -> String {
        self.wait_line_from(0, text).1
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid as i32).expect("a process has an id");
        kill_process(pid, signal).expect("our own child can be signalled");
    }

    /// Every counter, as SIGUSR1 makes the server write them.
    #[track_caller]
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let deadline = Instant::now() + RESTORE_PATIENCE;
        loop {
            let before = self.stderr().len();
            self.signal(Signal::USR1);
            let (at, line) = self.wait_line_from(before, "counters accepted=");
            // On a busy machine a reactor may not have its turn in time: its counters are missing.
            let is_whole = !self.stderr()[before..at].iter().any(|it| it.contains("do not answer"));
            if is_whole {
                return counters_in(&line);
            }
            assert!(Instant::now() < deadline, "a reactor does not answer: {:#?}", self.stderr());
        }
    }

    /// Waits until the counters are as `condition` wants them.
    #[track_caller]
    pub fn wait_counters(&self, what: &str, condition: impl Fn(&BTreeMap<String, u64>) -> bool) {
        let deadline = Instant::now() + RESTORE_PATIENCE;
        loop {
            let counters = self.counters();
            if condition(&counters) {
                return;
            }
            assert!(Instant::now() < deadline, "never came true: {what}; last: {counters:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until one counter has this value.
    #[track_caller]
    pub fn wait_counter(&self, name: &str, value: u64) {
        self.wait_counters(&format!("{name}={value}"), |counters| counters[name] == value);
    }

    /// Open descriptors.
    pub fn fds(&self) -> usize {
        fs::read_dir(self.proc("fd")).expect("the server runs").count()
    }

    /// Processor time of every thread so far, user and system, to the microsecond. Threads that
    /// have ended are not counted.
    pub fn cpu_time(&self) -> Duration {
        let threads = fs::read_dir(self.proc("task")).expect("the server runs");
        let used = threads.filter_map(|thread| {
            // A thread may end while we look.
            let stat = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            stat.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(used.sum())
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// Resident memory that is no file's, in bytes: what the server made itself.
    pub fn rss_anon(&self) -> u64 {
        self.memory("RssAnon:")
    }

    #[track_caller]
    fn assert_process_shows_no_password(&self) {
        for file in ["cmdline", "environ"] {
            let shown = fs::read(self.proc(file)).expect("the server runs");
            assert_no_canary(file, &String::from_utf8_lossy(&shown).replace('\0', "\n"));
        }
    }

    #[track_caller]
    fn assert_said_no_password(&self) {
        assert_no_canary("stderr", &self.stderr.all());
        // A test may have removed it, or written to a device.
        let log = self.access_log.as_ref().filter(|path| path.is_file());
        if let Some(written) = log.and_then(|path| fs::read(path).ok()) {
            assert_no_canary("the access log", &String::from_utf8_lossy(&written));
        }
    }

    fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(self.proc("status")).expect("the server runs");
        let line = status.lines().find(|line| line.starts_with(field)).expect("the field is there");
        let kib = line.split_whitespace().nth(1).expect("a size").parse::<u64>();
        kib.expect("a number of KiB") * 1024
    }

    /// A file below /proc of the server.
    pub fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.pid)
    }

    /// What the server holds now, to be compared with when a test is done.
    #[track_caller]
    pub fn baseline(&self) -> Baseline<'_> {
        // The first look may open something for good (a log stream, a time zone file).
        let pipes = self.counters()["pipes_open"] as usize;
        Baseline { server: self, fds: self.fds() - DESCRIPTORS_PER_PIPE * pipes }
    }

    /// As [`baseline`](Self::baseline), without a signal: its handler makes calls of its own, on
    /// any thread.
    pub fn quiet_baseline(&self) -> Baseline<'_> {
        Baseline { server: self, fds: self.fds() }
    }

    /// Waits for the process to end by itself.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        match wait_exit(&mut self.child, RESTORE_PATIENCE) {
            Some(status) => status,
            None => {
                panic!("still running after {RESTORE_PATIENCE:?}; stderr: {:#?}", self.stderr())
            }
        }
    }

    #[track_caller]
    fn wait_line_from(&self, from: usize, text: &str) -> (usize, String) {
        match self.stderr.wait(from, text) {
            Some(found) => found,
            None => panic!("no line with {text:?} in stderr: {:#?}", self.stderr()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Either may have ended already.
        if let (true, Some(pid)) = (self.pid != self.child.id(), Pid::from_raw(self.pid as i32)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !thread::panicking() {
            self.assert_said_no_password();
        }
    }
}

/// What a server held before a test.
pub struct Baseline<'a> {
    server: &'a Server,
    fds: usize,
}

impl Baseline<'_> {
    /// Descriptors when the baseline was taken.
    pub fn fds(&self) -> usize {
        self.fds
    }

    /// Every descriptor, session, ring and pipe comes back, sooner or later. Empty pipes are kept, and
    /// as many as are counted may be there.
    #[track_caller]
    pub fn assert_restored(&self) {
        let deadline = Instant::now() + RESTORE_PATIENCE;
        loop {
            let counters = self.server.counters();
            let fds = self.server.fds();
            let (open, rings) = (counters["open"], counters["rings_in_use"]);
            let (kept, pipes) = (counters["pipes_open"] as usize, counters["pipes_in_use"]);
            let expected = self.fds + DESCRIPTORS_PER_PIPE * kept;
            if (fds, open, rings, pipes) == (expected, 0, 0, 0) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "not back at the baseline after {RESTORE_PATIENCE:?}: {fds} descriptors of \
                 {expected}, {open} sessions, {rings} rings, {pipes} pipes; {counters:?}",
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Everything has come back, and nothing is left to do: less than a hundredth of the
    /// processor's time is used.
    #[track_caller]
    pub fn assert_at_rest(&self) {
        self.assert_restored();
        self.assert_idle();
    }

    /// Sooner or later the server has nothing to do.
    #[track_caller]
    pub fn assert_idle(&self) {
        let deadline = Instant::now() + RESTORE_PATIENCE;
        loop {
            let before = self.server.cpu_time();
            thread::sleep(IDLE_WINDOW);
            let used = self.server.cpu_time() - before;
            if used < IDLE_WINDOW / 100 {
                return;
            }
            assert!(Instant::now() < deadline, "{used:?} of {IDLE_WINDOW:?} used for nothing");
        }
    }
}

/// How a run of the binary that is not meant to serve ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the binary until it ends by itself.
#[track_caller]
pub fn run(args: &[&str], env: &[(&str, &str)]) -> Ended {
    run_command(command(args, env))
}

/// As [`run`], below a program that becomes the binary.
#[track_caller]
pub fn run_under(wrapper: &[&str], args: &[&str], env: &[(&str, &str)]) -> Ended {
    run_command(command_under(wrapper, args, env))
}

#[track_caller]
fn run_command(mut command: Command) -> Ended {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let stdout = Lines::read_from(child.stdout.take().expect("stdout is piped"));
    let stderr = Lines::read_from(child.stderr.take().expect("stderr is piped"));
    let status = wait_exit(&mut child, PATIENCE);
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let (stdout, stderr) = (stdout.all(), stderr.all());
    match status {
        Some(status) => {
            assert_no_canary("stdout", &stdout);
            assert_no_canary("stderr", &stderr);
            Ended { code: status.code(), stdout, stderr }
        }
        None => panic!("{command:?} did not end by itself\nstdout: {stdout}\nstderr: {stderr}"),
    }
}

/// The binary's path.
pub fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_ringsocks")
}

/// The counters of a line `... counters open=1 accepted=2 ...`.
pub fn counters_in(line: &str) -> BTreeMap<String, u64> {
    let (_, pairs) = line.split_once("counters ").expect("a line of counters");
    pairs
        .split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

/// Fails where a password is shown.
#[track_caller]
pub fn assert_no_canary(place: &str, text: &str) {
    let line = text.lines().find(|line| line.contains(CANARY));
    assert_eq!(line, None, "{place} shows a password");
}

fn access_log_of(command: &Command) -> Option<PathBuf> {
    let path = command.get_envs().find(|(name, _)| *name == "RINGSOCKS_ACCESS_LOG")?.1?;
    Some(PathBuf::from(path))
}

fn command(args: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary());
    command.args(args);
    let names_address = args.iter().any(|arg| matches!(*arg, "--listen" | "-c" | "check"));
    if !names_address {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    for name in own_variables() {
        command.env_remove(name);
    }
    command.envs(relay_mode()).envs(env.iter().copied()).stdin(Stdio::null());
    command
}

fn command_under(wrapper: &[&str], args: &[&str], env: &[(&str, &str)]) -> Command {
    let inner = command(args, env);
    let mut outer = Command::new(wrapper[0]);
    outer.args(&wrapper[1..]).arg(inner.get_program()).args(inner.get_args());
    for name in own_variables() {
        outer.env_remove(name);
    }
    outer.envs(relay_mode()).envs(env.iter().copied()).stdin(Stdio::null());
    outer
}

/// How the servers relay whose tests do not care: `tests/run` has every way tried.
fn relay_mode() -> Option<(&'static str, OsString)> {
    std::env::var_os("RELAY_UNDER_TEST").map(|mode| ("RINGSOCKS_RELAY", mode))
}

/// The server's variables in our own environment, which no test wants to inherit.
fn own_variables() -> impl Iterator<Item = OsString> {
    std::env::vars_os()
        .map(|(name, _)| name)
        .filter(|name| name.to_string_lossy().starts_with("RINGSOCKS_"))
}

fn address_in(line: &str) -> SocketAddr {
    let (_, rest) = line.split_once("listening on ").expect("a line about listening");
    let text = rest.split_whitespace().next().unwrap_or_default().trim_end_matches([',', '.']);
    text.parse().unwrap_or_else(|_| panic!("no address in {line:?}"))
}

fn only_child_of(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn wait_exit(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("our own child can be waited for") {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(5));
    }
    None
}

/// Lines of a pipe, kept as they come.
#[derive(Default)]
struct Lines {
    state: Mutex<LinesState>,
    grown: Condvar,
}

#[derive(Default)]
struct LinesState {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn read_from(pipe: impl Read + Send + 'static) -> Arc<Lines> {
        let lines = Arc::new(Lines::default());
        let kept = Arc::clone(&lines);
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                kept.update(|state| state.lines.push(String::from_utf8_lossy(&line).into_owned()));
            }
            kept.update(|state| state.ended = true);
        });
        lines
    }

    /// The first line from number `from` on that contains `text`; none if the pipe ends first.
    fn wait(&self, from: usize, text: &str) -> Option<(usize, String)> {
        let found = |state: &LinesState| {
            state
                .lines
                .iter()
                .enumerate()
                .skip(from)
                .find(|(_, line)| line.contains(text))
                .map(|(at, line)| (at, line.clone()))
        };
        let state = self.state.lock().unwrap();
        let (state, _) = self
            .grown
            .wait_timeout_while(state, PATIENCE, |state| !state.ended && found(state).is_none())
            .unwrap();
        found(&state)
    }

    /// Everything, once the pipe has ended.
    fn all(&self) -> String {
        let state = self.state.lock().unwrap();
        let (state, _) =
            self.grown.wait_timeout_while(state, PATIENCE, |state| !state.ended).unwrap();
        state.lines.join("\n")
    }

    fn update(&self, change: impl FnOnce(&mut LinesState)) {
        change(&mut self.state.lock().unwrap());
        self.grown.notify_all();
    }
}
