//! `ringsocks passwd`, and what others on this host can see of a password.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use argon2::{Argon2, PasswordHash, PasswordVerifier};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use crate::support::peer::Peer;
use crate::support::server::{Ended, Server, binary, run};
use crate::support::socks::{credentials, greeting};
use crate::support::wait_until;

const PASSWORD: &str = "canary 7f3a";

/// What `ringsocks passwd` says to a line of its standard input.
fn passwd(name: &str, input: &[u8]) -> Ended {
    let mut command = Command::new(binary());
    command.args(["passwd", name]).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It need not read all of it.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[track_caller]
fn assert_is_line(line: &str, name: &str) {
    let hash = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(':')).expect("a name");
    let hash = hash.strip_suffix('\n').expect("a line");
    assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    let hash = PasswordHash::new(hash).unwrap();
    Argon2::default().verify_password(PASSWORD.as_bytes(), &hash).unwrap();
}

#[test]
fn a_line_of_standard_input_becomes_a_line_of_a_users_file() {
    for end in ["", "\n", "\r\n"] {
        let said = passwd("alice", format!("{PASSWORD}{end}").as_bytes());
        assert_eq!((said.code, &*said.stderr), (Some(0), ""));
        assert_is_line(&said.stdout, "alice");
    }
}

#[test]
fn what_cannot_be_a_user_or_a_password_is_refused() {
    let (long, line) = ("x".repeat(256), format!("{PASSWORD}\n"));
    for (name, input, problem) in [
        ("", &*line, "there is no user's name"),
        ("#alice", &line, "cannot begin with #"),
        ("al:ice", &line, "cannot have a colon"),
        ("al\nice", &line, "control characters"),
        (" alice", &line, "begin or end with a space"),
        (&long, &line, "255 bytes"),
        ("alice", "", "no password"),
        ("alice", "\n", "no password"),
        ("alice", "canary\0", "one line of text"),
        ("alice", "canary\ncanary\n", "one line of text"),
        ("alice", &long, "255 bytes"),
    ] {
        let said = passwd(name, input.as_bytes());
        assert_eq!((said.code, &*said.stdout), (Some(1), ""), "{name:?} {input:?}");
        assert!(said.stderr.contains(problem), "{name:?} {input:?}: {}", said.stderr);
        assert!(!said.stderr.contains("canary"), "{}", said.stderr);
    }
}

/// A terminal with `ringsocks passwd alice` in front of it.
struct Terminal {
    keyboard: File,
    shown: Arc<Mutex<Vec<u8>>>,
    child: Child,
}

impl Terminal {
    fn start() -> Terminal {
        let keyboard =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        unlockpt(&keyboard).unwrap();
        let path = ptsname(&keyboard, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let screen: OwnedFd = rustix::fs::open(path, flags, Mode::empty()).unwrap();
        // It asks its controlling terminal, whatever stdin is.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(binary()).args(["passwd", "alice"]);
        command.stdin(screen.try_clone().unwrap()).stdout(Stdio::piped()).stderr(screen);
        let child = command.spawn().expect("setsid is there");
        drop(command);
        let keyboard = File::from(keyboard);
        let (mut output, shown) = (keyboard.try_clone().unwrap(), Arc::<Mutex<Vec<u8>>>::default());
        let all = Arc::clone(&shown);
        // It ends with an error once nobody has the terminal open.
        thread::spawn(move || {
            let mut some = [0; 1024];
            while let Ok(n @ 1..) = output.read(&mut some) {
                all.lock().unwrap().extend(&some[..n]);
            }
        });
        Terminal { keyboard, shown, child }
    }

    fn shown(&self) -> String {
        String::from_utf8(self.shown.lock().unwrap().clone()).unwrap()
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.keyboard).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    /// Types a line when it is asked for.
    #[track_caller]
    fn answer(&mut self, prompt: &str, line: &str) {
        wait_until(&format!("it asks {prompt:?}"), || self.shown().contains(prompt));
        wait_until("nothing is shown of what is typed", || !self.echoes());
        self.keyboard.write_all(line.as_bytes()).unwrap();
        self.keyboard.write_all(b"\r").unwrap();
    }

    /// Waits for its end: what it has written, and whether it went well.
    fn finish(mut self) -> (String, bool, String) {
        let mut written = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut written).unwrap();
        let is_well = self.child.wait().unwrap().success();
        assert!(self.echoes(), "the terminal is as it was");
        (written, is_well, self.shown())
    }
}

#[test]
fn a_terminal_shows_nothing_of_a_password() {
    let mut terminal = Terminal::start();
    terminal.answer("Password: ", PASSWORD);
    terminal.answer("The same again: ", PASSWORD);
    let (written, is_well, shown) = terminal.finish();
    assert!(is_well, "{shown}");
    assert_is_line(&written, "alice");
    assert!(!shown.contains("canary") && !shown.contains('*'), "{shown}");
}

#[test]
fn a_slip_of_the_second_time_is_noticed() {
    let mut terminal = Terminal::start();
    terminal.answer("Password: ", PASSWORD);
    terminal.answer("The same again: ", "canary 7f3b");
    wait_until_refused(terminal, "two different passwords");
    let mut terminal = Terminal::start();
    terminal.answer("Password: ", "");
    wait_until_refused(terminal, "there is no password");
}

#[track_caller]
fn wait_until_refused(terminal: Terminal, problem: &str) {
    wait_until("it says what is wrong", || terminal.shown().contains(problem));
    let (written, is_well, shown) = terminal.finish();
    assert!(!is_well && written.is_empty(), "{written}");
    assert!(!shown.contains("canary"), "{shown}");
}

#[test]
fn a_password_in_the_wrong_place_is_not_repeated() {
    for (arguments, said) in [
        (&["canary"][..], "unrecognized subcommand '***'"),
        (&["--", "canary"], "unrecognized subcommand '***'"),
        (&["--", "-canary"], "unrecognized subcommand '***'"),
        (&["-u", "alice", "canary"], "unrecognized subcommand '***'"),
        (&["--user=alice:wonder", "canary"], "unrecognized subcommand '***'"),
        (&["--open", "-u", "alice", "canary", "--log=off"], "unrecognized subcommand '***'"),
        (&["check", "canary"], "unexpected argument '***'"),
        (&["check", "-u", "alice", "canary"], "unexpected argument '***'"),
        (&["check", "-u", "alice", "--", "canary"], "unexpected argument '***'"),
        (&["passwd", "alice", "canary"], "unexpected argument '***'"),
        (&["passwd", "alice", "--", "-canary"], "unexpected argument '***'"),
        (&["passwd", "alice", "--password=canary"], "unexpected argument '--password'"),
        (&["--pasword=canary"], "unexpected argument '--pasword'"),
        (&["--pasword", "canary"], "unexpected argument '--pasword'"),
        (&["-pcanary"], "unexpected argument '-p'"),
        (&["--useralice:canary"], "unexpected argument '***'"),
        (&["--user:alice:canary"], "unexpected argument '***'"),
        (&["check", "--alice:canary"], "unexpected argument '***'"),
        (&["-u", "--canary-1"], "unexpected argument '***'"),
        (&["-u"], "a value is required for '--user <NAME:PASSWORD>'"),
        (&["--log=off", "--log=off"], "the argument '--log <LEVEL>' cannot be used"),
        (&["--open=canary"], "unexpected value '***' for '--open'"),
        (&["help", "canary"], "unrecognized subcommand '***'"),
        (&["help", "passwd", "canary"], "unrecognized subcommand '***'"),
        (&["-u", "alice:canary", "check"], "the subcommand 'check' cannot be used with '--user"),
        (&["passwd", "-u", "alice:canary"], "unexpected argument '-u'"),
    ] {
        let refused = run(arguments, &[]);
        assert_eq!((refused.code, &*refused.stdout), (Some(2), ""), "{arguments:?}");
        assert!(refused.stderr.contains(said), "{arguments:?}: {}", refused.stderr);
        assert!(!refused.stderr.contains("canary"), "{arguments:?}: {}", refused.stderr);
    }
}

#[test]
fn what_ps_shows_has_no_password() {
    let arguments = ["-u", "alice:canary-1", "--user=bob:canary-2", "-ucarol:canary-3:4"];
    let arguments = [&arguments[..], &["--listen", "127.0.0.1:0"]].concat();
    let environment = [("RINGSOCKS_TIMEOUT_IDLE", "1h")];
    let server = Server::start_with_env(&arguments, &environment);
    let shown = fs::read(server.proc("cmdline")).unwrap();
    let shown = String::from_utf8(shown).unwrap();
    assert!(!shown.contains("canary"), "{shown}");
    assert!(shown.contains("--user=bob:***") && shown.contains("127.0.0.1:0"), "{shown}");
    log_in(&server, "carol", "canary-3:4");
    let environment = fs::read_to_string(server.proc("environ")).unwrap();
    assert!(environment.contains("RINGSOCKS_TIMEOUT_IDLE=1h\0"), "the rest stays: {environment}");
}

#[test]
fn what_proc_shows_of_the_environment_has_no_password() {
    let environment = [("RINGSOCKS_USERS_alice", "plain:canary-1"), ("RINGSOCKS_LOG", "info")];
    let server = Server::start_with_env(&[], &environment);
    let shown = fs::read(server.proc("environ")).unwrap();
    let shown = String::from_utf8_lossy(&shown);
    assert!(!shown.contains("canary"), "{shown}");
    assert!(shown.contains("RINGSOCKS_USERS_alice=***") && shown.contains("RINGSOCKS_LOG=info\0"));
    log_in(&server, "alice", "canary-1");

    let server = Server::start_with_env(&[], &[("RINGSOCKS_USER", "alice:canary-1")]);
    let shown = fs::read(server.proc("environ")).unwrap();
    assert!(!String::from_utf8_lossy(&shown).contains("canary"));
}

#[track_caller]
fn log_in(server: &Server, uname: &str, passwd: &str) {
    let client = Peer::connect(server.address());
    client.send(&greeting(&[2]));
    client.expect(&[5, 2]);
    client.send(&credentials(uname.as_bytes(), passwd.as_bytes()));
    client.expect(&[1, 0]);
}
