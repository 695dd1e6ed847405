//! Who may log in is read again on SIGHUP: whole, or not at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::log_in_from;
use crate::support::PATIENCE;
use crate::support::origin::Service;
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::{connect_to, credentials, greeting};

/// What the server says when it has read its users again, and when it could not.
const DONE: &str = "users and groups are read again";
const FAILED: &str = "users and groups stay as they were: ";

/// The password is `canary-7f3a`; of the least cost there is.
const BCRYPT: &str = "$2y$04$TtG7lKE2p0bOvWIQ5NnZRuk7AgONX5T99mwD.54GZ2v8FmJp0m8Ha";

/// A users file, and a server that has read it.
struct Gate {
    server: Server,
    folder: TempDir,
}

impl Gate {
    fn start(users: &str) -> Gate {
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().join("users");
        fs::write(&path, users).expect("room for a few lines");
        let path = path.to_str().expect("a temporary folder has a plain name");
        let env = [("RINGSOCKS_USERS_FILE", path), ("RINGSOCKS_PENALTY_FAILURE", "0")];
        Gate { server: Server::start_with_env(&[], &env), folder }
    }

    fn users(&self) -> PathBuf {
        self.folder.path().join("users")
    }

    fn write(&self, users: &str) {
        fs::write(self.users(), users).expect("room for a few lines");
    }

    /// As an editor does it: whoever reads has the old file or the new one.
    fn replace(&self, users: &str) {
        let new = self.folder.path().join("new");
        fs::write(&new, users).expect("room for a few lines");
        fs::rename(new, self.users()).expect("a file can be renamed");
    }

    #[track_caller]
    fn lets_in(&self, user: &str) -> bool {
        log_in_from([127, 0, 0, 1], &self.server, user.as_bytes(), b"canary-7f3a")
    }

    fn count(&self, text: &str) -> usize {
        self.server.stderr().iter().filter(|line| line.contains(text)).count()
    }

    /// Has the users read again; what the server says of it.
    #[track_caller]
    fn reload(&self) -> String {
        let before = self.server.stderr().len();
        self.server.signal(Signal::HUP);
        let is_about = |line: &String| line.contains(DONE) || line.contains(FAILED);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.server.stderr().into_iter().skip(before).find(is_about) {
                return line;
            }
            assert!(Instant::now() < deadline, "nothing is said: {:#?}", self.server.stderr());
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[track_caller]
    fn wait_until_let_in(&self, user: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.lets_in(user) {
            assert!(Instant::now() < deadline, "{user} stays out");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn who_is_new_is_let_in_and_who_is_gone_is_not() {
    let echo = Service::echo();
    let gate = Gate::start("alice:plain:canary-7f3a\nbob:plain:canary-7f3a\n");
    let baseline = gate.server.baseline();
    assert!(gate.lets_in("alice") && gate.lets_in("bob") && !gate.lets_in("carol"));
    let bob = Peer::connect(gate.server.address());
    bob.send(&[greeting(&[2]), credentials(b"bob", b"canary-7f3a")].concat());
    bob.expect(&[5, 2, 1, 0]);

    gate.write(&format!("alice:plain:canary-7f3a\ncarol:{BCRYPT}\n"));
    assert!(!gate.lets_in("carol"), "nobody said that it is to be read");
    let said = gate.reload();
    assert!(said.contains(DONE) && said.contains("INFO"), "{said}");
    assert!(gate.lets_in("alice") && !gate.lets_in("bob") && gate.lets_in("carol"));

    // Who is in stays in.
    bob.send(&connect_to(echo.address()));
    assert_eq!(bob.read_exact(10)[..2], [5, 0]);
    bob.send(b"ping");
    bob.expect(b"ping");
    drop(bob);
    baseline.assert_restored();
}

/// What was known of a password is forgotten: a hash that has changed is asked for again.
#[test]
fn a_password_that_has_changed_is_not_the_old_one() {
    let gate = Gate::start(&format!("alice:{BCRYPT}\n"));
    assert!(gate.lets_in("alice") && gate.lets_in("alice"));
    gate.write("alice:plain:canary-other\n");
    gate.reload();
    assert!(!gate.lets_in("alice"));
    gate.write(&format!("alice:{BCRYPT}\n"));
    gate.reload();
    assert!(gate.lets_in("alice"));
}

#[test]
fn what_cannot_be_read_changes_nothing_and_is_named() {
    let gate = Gate::start("alice:plain:canary-7f3a\n");
    let path = gate.users();
    let path = path.to_str().expect("a temporary folder has a plain name");
    for (users, place) in [
        ("", path.to_owned()),
        ("# nobody yet\n\n", path.to_owned()),
        ("bob:plain:canary-7f3a\ncarol\n", format!("{path}:2: ")),
        (
            &format!("bob:plain:canary-7f3a\n\n{}:plain:canary-7f3a\n", "x".repeat(256)),
            format!("{path}:3: "),
        ),
        ("bob:plain:canary-7f3a\nbob:plain:canary-other\n", format!("{path}:2: ")),
        ("bob:$apr1$salt$hashhashhashhashhash\n", format!("{path}:1: ")),
        ("bob:plain:canary-7f3a\ncarol:$2b$04$short\n", format!("{path}:2: ")),
        ("bob:canary-7f3a\n", format!("{path}:1: ")),
        ("bob:plain:canary-7f3a\nca\x1brol:plain:canary-7f3a\n", format!("{path}:2: ")),
    ] {
        gate.replace(users);
        refuses(&gate, users, &place);
    }
    fs::remove_file(gate.users()).unwrap();
    refuses(&gate, "no file", path);
    fs::create_dir(gate.users()).unwrap();
    refuses(&gate, "a folder", path);
    fs::remove_dir(gate.users()).unwrap();
    mkfifo(&gate.users());
    refuses(&gate, "a pipe that nobody writes to", path);
    fs::remove_file(gate.users()).unwrap();

    gate.write("bob:plain:canary-7f3a\n");
    let said = gate.reload();
    assert!(said.contains(DONE), "{said}");
    assert!(gate.lets_in("bob") && !gate.lets_in("alice"));
}

#[track_caller]
fn refuses(gate: &Gate, what: &str, place: &str) {
    let before = gate.count(FAILED);
    let said = gate.reload();
    assert!(said.contains(FAILED) && said.contains("ERROR"), "{what:?}: {said}");
    assert!(said.contains(place), "{what:?} of {place}: {said}");
    assert!(!said.contains("canary"), "{said}");
    assert!(gate.lets_in("alice") && !gate.lets_in("bob"), "{what:?}");
    assert_eq!(gate.count(FAILED), before + 1, "{what:?}: {:#?}", gate.server.stderr());
}

fn mkfifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).expect("a pipe can be made");
}

/// Those that come while one is at work are one.
#[test]
fn a_thousand_signals_are_a_few_and_the_last_one_counts() {
    const STORM: usize = 1000;
    let gate = Gate::start("alice:plain:canary-7f3a\n");
    let baseline = gate.server.baseline();
    // Stopped, it has them all at once.
    gate.server.signal(Signal::STOP);
    gate.write("bob:plain:canary-7f3a\n");
    for _ in 0..STORM {
        gate.server.signal(Signal::HUP);
    }
    gate.server.signal(Signal::CONT);
    gate.wait_until_let_in("bob");
    baseline.assert_restored();
    assert!((1..=2).contains(&gate.count(DONE)), "{} times", gate.count(DONE));

    let crowd: String = (0..5000).map(|n| format!("user{n}:plain:canary-7f3a\n")).collect();
    gate.replace(&crowd);
    let start = Instant::now();
    let before = gate.count(DONE);
    for _ in 0..STORM {
        gate.server.signal(Signal::HUP);
    }
    gate.replace(&format!("{crowd}carol:plain:canary-7f3a\n"));
    gate.server.signal(Signal::HUP);
    gate.wait_until_let_in("carol");
    baseline.assert_at_rest();
    let (times, most) = (gate.count(DONE) - before, start.elapsed().as_millis() / 100 + 2);
    assert!(times as u128 <= most, "{times} times in {most} tenths of a second");
    assert_eq!(gate.count(FAILED), 0, "{:#?}", gate.server.stderr());
}

#[test]
fn what_was_read_before_is_given_back() {
    const TIMES: usize = 12;
    let crowd: String = (0..5000).map(|n| format!("user{n}:plain:canary-7f3a\n")).collect();
    let gate = Gate::start(&crowd);
    let few = gate.server.rss_anon();
    gate.reload();
    gate.reload();
    let full = gate.server.rss_anon();
    for _ in 0..TIMES {
        gate.reload();
    }
    let now = gate.server.rss_anon();
    // Three may be there for a moment; all of them would be far more.
    assert!(now < full + 3 * few, "{few} bytes at first, then {full}, then {now}");
}

#[test]
fn who_is_in_both_files_is_let_in_whichever_is_read() {
    const LOGINS: usize = 200;
    const RELOADS: usize = 5;
    // Longer than one read, and those who stay are at both ends.
    let version = |who: &str| {
        let others: String = (0..2000).map(|n| format!("{who}{n}:plain:canary-7f3a\n")).collect();
        format!("alice:{BCRYPT}\n{others}dave:plain:canary-7f3a\n")
    };
    let [one, other] = ["one", "other"].map(version);
    let gate = Gate::start(&one);
    let baseline = gate.server.baseline();
    let (is_over, logins) = (AtomicBool::new(false), AtomicUsize::new(0));
    let log_in = &|user: &str| {
        while !is_over.load(Ordering::Relaxed) {
            assert!(gate.lets_in(user), "{user}");
            logins.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let clients = ["alice", "dave", "alice"].map(|user| scope.spawn(move || log_in(user)));
        let is_enough = || logins.load(Ordering::Relaxed) >= LOGINS && gate.count(DONE) >= RELOADS;
        let deadline = Instant::now() + 6 * PATIENCE;
        while !is_enough() && Instant::now() < deadline {
            for version in [&other, &one] {
                gate.replace(version);
                gate.server.signal(Signal::HUP);
                thread::sleep(Duration::from_millis(1));
            }
            if clients.iter().any(|client| client.is_finished()) {
                break;
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    gate.reload();
    assert!(gate.lets_in("one7") && !gate.lets_in("other7"));
    assert_eq!(gate.count(FAILED), 0, "{:#?}", gate.server.stderr());
    let (logins, reloads) = (logins.into_inner(), gate.count(DONE));
    assert!(logins >= LOGINS && reloads >= RELOADS, "{logins} logins, {reloads} times read");
    baseline.assert_restored();
}
