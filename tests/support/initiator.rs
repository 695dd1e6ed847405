//! The client's end of security contexts, made by MIT's library in a process of Debian's
//! python3-gssapi; the sockets are the test's, and so is every byte on them.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::iter;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use super::PATIENCE;
use super::realm::{Realm, Tickets};

/// The interpreter that Debian's packages belong to, whatever else PATH has first.
const PYTHON: &str = "/usr/bin/python3";

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/initiator.py");

/// The server, as its clients name it: RFC 1961's name of the service, and the host they know.
pub const HOSTBASED_SERVICE: &str = "rcmd@localhost";

/// What a context is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    Mutual,
    Replay,
    Sequence,
    Integrity,
    Confidentiality,
    Delegate,
    /// One token more, by which the client acknowledges the answer.
    DceStyle,
}

impl Flag {
    /// What RFC 1961 (section 3.2) has clients ask for, and what their levels need; delegation is
    /// asked for where there is something to delegate.
    pub const USUAL: &[Flag] =
        &[Flag::Mutual, Flag::Replay, Flag::Sequence, Flag::Integrity, Flag::Confidentiality];

    /// [`USUAL`](Self::USUAL), but for one.
    pub fn usual_without(flag: Flag) -> Vec<Flag> {
        Flag::USUAL.iter().copied().filter(|it| *it != flag).collect()
    }

    /// [`USUAL`](Self::USUAL) and one more.
    pub fn usual_with(flag: Flag) -> Vec<Flag> {
        [Flag::USUAL, &[flag]].concat()
    }

    fn name(self) -> &'static str {
        match self {
            Flag::Mutual => "mutual_authentication",
            Flag::Replay => "replay_detection",
            Flag::Sequence => "out_of_sequence_detection",
            Flag::Integrity => "integrity",
            Flag::Confidentiality => "confidentiality",
            Flag::Delegate => "delegate_to_peer",
            Flag::DceStyle => "dce_style",
        }
    }
}

/// How a context is negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    Kerberos,
    Spnego,
}

impl Mechanism {
    fn name(self) -> &'static str {
        match self {
            Mechanism::Kerberos => "krb5",
            Mechanism::Spnego => "spnego",
        }
    }
}

/// One user's process; it ends when dropped.
pub struct Initiator {
    child: Child,
    pipes: Mutex<Pipes>,
    contexts: AtomicU64,
}

struct Pipes {
    commands: ChildStdin,
    answers: Receiver<Answer>,
}

/// A line, and the bytes behind it.
struct Answer {
    words: Vec<String>,
    bytes: Vec<u8>,
}

impl Answer {
    /// The next one, unless the process has ended.
    fn read(from: &mut impl BufRead) -> Option<Answer> {
        let mut line = String::new();
        from.read_line(&mut line).ok()?;
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let len = words.pop()?.parse().ok()?;
        let mut bytes = vec![0; len];
        from.read_exact(&mut bytes).ok()?;
        Some(Answer { words, bytes })
    }
}

impl Initiator {
    /// With a user's tickets.
    #[track_caller]
    pub fn start(realm: &Realm, tickets: &Tickets) -> Initiator {
        let mut child = Command::new(PYTHON)
            .arg(SCRIPT)
            .env_clear()
            .envs(realm.env())
            .env("KRB5CCNAME", tickets.cache())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Debian's Python starts");
        let commands = child.stdin.take().expect("stdin is piped");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (sender, answers) = mpsc::channel();
        // A process that has ended, or nobody who listens any more, ends it.
        thread::spawn(move || {
            iter::from_fn(|| Answer::read(&mut stdout)).try_for_each(|answer| sender.send(answer))
        });
        let pipes = Mutex::new(Pipes { commands, answers });
        Initiator { child, pipes, contexts: AtomicU64::new(0) }
    }

    /// A context of Kerberos with the server, as RFC 1961 asks for it.
    #[track_caller]
    pub fn begin(&self) -> Context<'_> {
        self.begin_with(Mechanism::Kerberos, Flag::USUAL)
    }

    #[track_caller]
    pub fn begin_with(&self, mechanism: Mechanism, flags: &[Flag]) -> Context<'_> {
        self.begin_for(HOSTBASED_SERVICE, mechanism, flags)
    }

    /// A context with some service of the realm, `SERVICE@HOST`.
    #[track_caller]
    pub fn begin_for(&self, service: &str, mechanism: Mechanism, flags: &[Flag]) -> Context<'_> {
        let flags: Vec<&str> = flags.iter().map(|flag| flag.name()).collect();
        let flags = if flags.is_empty() { "-".to_owned() } else { flags.join(",") };
        let id = self.contexts.fetch_add(1, Ordering::Relaxed);
        let context = Context { initiator: self, id };
        context.command(&format!("begin {service} {} {flags}", mechanism.name()), &[]);
        context
    }

    /// What it answers, or the error that it names.
    #[track_caller]
    fn ask(&self, command: &str, bytes: &[u8]) -> Result<Answer, Refused> {
        // Another test that has failed leaves nothing half done that matters to this one.
        let mut pipes = self.pipes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let line = format!("{command} {}\n", bytes.len());
        pipes.commands.write_all(&[line.as_bytes(), bytes].concat()).expect("the initiator runs");
        match pipes.answers.recv_timeout(3 * PATIENCE) {
            Ok(answer) if answer.words[0] == "ok" => Ok(answer),
            Ok(answer) => Err(Refused(answer.words)),
            Err(error) => panic!("no answer of the initiator's to {command}: {error}"),
        }
    }
}

impl Drop for Initiator {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the library did not want to do.
#[derive(Debug)]
pub struct Refused(Vec<String>);

impl Refused {
    /// Whether it is this error of the Python package's.
    pub fn is(&self, kind: &str) -> bool {
        self.0.get(1).is_some_and(|word| word == kind)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

/// What came of a step.
#[derive(Debug)]
pub struct Step {
    /// What the server is to be told; none if it is of no bytes.
    pub token: Option<Vec<u8>>,
    /// Whether the context stands, as far as this end is concerned.
    pub is_complete: bool,
}

/// What a token held.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    pub message: Vec<u8>,
    pub is_confidential: bool,
}

/// One context, until it is dropped.
pub struct Context<'a> {
    initiator: &'a Initiator,
    id: u64,
}

impl Context<'_> {
    /// The first token.
    #[track_caller]
    pub fn first(&self) -> Vec<u8> {
        self.step(&[]).token.expect("a context begins with a token")
    }

    /// Takes what the server has said, which is nothing at first.
    #[track_caller]
    pub fn step(&self, token: &[u8]) -> Step {
        match self.try_step(token) {
            Ok(step) => step,
            Err(error) => panic!("the server's token is refused: {error}"),
        }
    }

    pub fn try_step(&self, token: &[u8]) -> Result<Step, Refused> {
        let Answer { words, bytes } = self.ask("step", token)?;
        let token = if bytes.is_empty() { None } else { Some(bytes) };
        Ok(Step { token, is_complete: words[1] == "complete" })
    }

    /// Whether the server has granted this.
    #[track_caller]
    pub fn has(&self, flag: Flag) -> bool {
        let answer = self.command("flags", &[]);
        answer.words[1].split(',').any(|name| name == flag.name())
    }

    #[track_caller]
    pub fn wrap(&self, message: &[u8], is_confidential: bool) -> Vec<u8> {
        self.command(&format!("wrap {}", protection(is_confidential)), message).bytes
    }

    #[track_caller]
    pub fn unwrap(&self, token: &[u8]) -> Opened {
        match self.try_unwrap(token) {
            Ok(opened) => opened,
            Err(error) => panic!("a token of {} bytes is refused: {error}", token.len()),
        }
    }

    pub fn try_unwrap(&self, token: &[u8]) -> Result<Opened, Refused> {
        let Answer { words, bytes } = self.ask("unwrap", token)?;
        Ok(Opened { message: bytes, is_confidential: words[1] == protection(true) })
    }

    /// The longest message whose token has at most `size` bytes.
    #[track_caller]
    pub fn limit(&self, size: usize, is_confidential: bool) -> usize {
        let answer = self.command(&format!("limit {} {size}", protection(is_confidential)), &[]);
        answer.words[1].parse().expect("a number")
    }

    #[track_caller]
    fn command(&self, command: &str, bytes: &[u8]) -> Answer {
        match self.ask(command, bytes) {
            Ok(answer) => answer,
            Err(error) => panic!("{command}: {error}"),
        }
    }

    /// A command's first word, and what is to come behind the context's number.
    #[track_caller]
    fn ask(&self, command: &str, bytes: &[u8]) -> Result<Answer, Refused> {
        let (verb, arguments) = command.split_once(' ').unwrap_or((command, ""));
        self.initiator.ask(&format!("{verb} {} {arguments}", self.id), bytes)
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        // One that is told nothing more ends with its process.
        if !thread::panicking() {
            let _ = self.ask("end", &[]);
        }
    }
}

fn protection(is_confidential: bool) -> &'static str {
    if is_confidential { "confidential" } else { "clear" }
}
