//! Running a client program: found or the test fails, never inheriting our environment, ended
//! when its time is over.

use std::env;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a client may take: far more than any of them needs on a slow machine.
const CLIENT_PATIENCE: Duration = Duration::from_secs(180);

/// Where programs are, beside PATH: an ordinary user's PATH may lack the last two.
const USUAL_FOLDERS: [&str; 4] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];

/// How a client ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// None: it was ended by a signal.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ended {
    /// The exit status was 0.
    #[track_caller]
    pub(crate) fn expect_success(self) -> Ended {
        self.expect_code(0)
    }

    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Ended {
        assert_eq!(self.code, Some(code), "the client's exit status; it said: {}", self.story());
        self
    }

    /// What the client wrote to stdout, as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    fn story(&self) -> String {
        let text = self.text();
        let shown: String = text.chars().take(1000).collect();
        format!("stdout: {shown}\nstderr: {}", self.stderr)
    }
}

/// A command of a program that has to be installed.
#[track_caller]
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(path_of(name));
    // No proxy settings, no agents, no locale of whoever runs the tests.
    command.env_clear().env("PATH", search_path().join(":")).env("LC_ALL", "C");
    command
}

/// Where a program is, which has to be installed.
#[track_caller]
pub(crate) fn path_of(name: &str) -> PathBuf {
    let found = search_path().into_iter().map(|folder| PathBuf::from(folder).join(name));
    match found.into_iter().find(|path| path.is_file()) {
        Some(path) => path,
        None => panic!("{name} is not installed; tests/run installs what the tests need"),
    }
}

/// Runs a client to its end with nothing on stdin.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Ended {
    run_with_input(command, Vec::new())
}

/// Runs a client to its end with `input` on stdin, and an end of file behind it.
#[track_caller]
pub(crate) fn run_with_input(command: &mut Command, input: Vec<u8>) -> Ended {
    let (ended, stdout) = run_reading(command, input, |mut stdout| {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).expect("a pipe from a client can be read");
        bytes
    });
    Ended { stdout, ..ended }
}

/// As [`run_with_input`], for a client with so much output that `read` has to follow it.
#[track_caller]
pub(crate) fn run_reading<T: Send + 'static>(
    command: &mut Command,
    input: Vec<u8>,
    read: impl FnOnce(std::process::ChildStdout) -> T + Send + 'static,
) -> (Ended, T) {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("an installed program starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let stdout = child.stdout.take().expect("stdout is piped");
    let mut stderr = child.stderr.take().expect("stderr is piped");
    // A client that fails early does not read its input: then its exit status tells.
    thread::spawn(move || stdin.write_all(&input));
    let reader = thread::spawn(move || read(stdout));
    let complaints = thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).expect("a pipe from a client can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let code = wait(&mut child, command);
    let read = reader.join().expect("reading a client's output does not panic");
    let stderr = complaints.join().expect("reading a client's complaints does not panic");
    (Ended { code, stdout: Vec::new(), stderr }, read)
}

#[track_caller]
fn wait(child: &mut Child, command: &Command) -> Option<i32> {
    let deadline = Instant::now() + CLIENT_PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("our own child can be waited for") {
            return status.code();
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} did not end within {CLIENT_PATIENCE:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn search_path() -> Vec<String> {
    let path = env::var("PATH").unwrap_or_default();
    let usual = USUAL_FOLDERS.iter().copied();
    path.split(':').filter(|folder| !folder.is_empty()).chain(usual).map(str::to_owned).collect()
}
