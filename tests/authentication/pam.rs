//! Passwords that the system's modules know: Debian's `pam_matrix` for tests, and a stub that says
//! the same to everybody (`tests/stubs/pam.c`).

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::contexts::{agreed, begun};
use crate::support::logins::{asked, is_let_in, local, log_in_from};
use crate::support::origin::Service;
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::{credentials, open_session};
use crate::support::stubs::Stub;
use crate::world::{GUESS, NO_PENALTIES, PASSWORD, failures, reasons, text, write_secret};

/// One failure locks a source for good.
const STRICT: [(&str, &str); 2] =
    [("RINGSOCKS_PENALTY_FAILURE", "1m"), ("RINGSOCKS_PENALTY_THRESHOLD", "1m")];

/// The folder of a module for tests, or of the system's.
fn modules(module: &str) -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("there is a folder for libraries");
    let mut found = folders.map(|it| it.expect("it can be read").path().join(module));
    found.find(|module| module.exists()).expect("the module is installed")
}

/// Services of PAM's in a folder of a test's own.
struct Services {
    folder: TempDir,
}

impl Services {
    /// `ringsocks`, whose users are alice, and bob, who may not use it; its account's rules are
    /// these, too.
    fn new(account: &str) -> Services {
        let services = Services { folder: tempfile::tempdir().expect("a temporary folder") };
        services.write_users("alice:canary-wonder:ringsocks\nbob:canary-wonder:sshd\n");
        let matrix = modules("pam_wrapper/pam_matrix.so");
        let rule = format!("required {} passdb={}", matrix.display(), services.users().display());
        let rules = format!("auth {rule}\naccount {rule}\n{account}");
        fs::write(services.folder.path().join("ringsocks"), rules).expect("room for two lines");
        services
    }

    fn users(&self) -> PathBuf {
        self.folder.path().join("users")
    }

    fn write_users(&self, users: &str) {
        write_secret(&self.users(), users);
    }

    #[track_caller]
    fn serve(&self, env: &[(&str, &str)]) -> Server {
        let mut all = vec![
            ("RINGSOCKS_PAM_SERVICE", "ringsocks"),
            ("RINGSOCKS_PAM_CONFDIR", text(self.folder.path())),
        ];
        all.extend(env);
        Server::start_with_env(&[], &all)
    }
}

/// A server that asks the stub; a service's name says what that does.
#[track_caller]
fn serve_stub(stub: &Stub, service: &str, env: &[(&str, &str)]) -> Server {
    let mut all =
        vec![("RINGSOCKS_PAM_SERVICE", service), ("RINGSOCKS_PAM_LIBRARY", path(stub.library()))];
    all.extend(env);
    Server::start_with_env(&[], &all)
}

fn path(path: &Path) -> &str {
    text(path)
}

#[test]
#[ignore = "needs libpam-wrapper: tests/run"]
fn users_of_modules_log_in_and_nobody_else() {
    let services = Services::new("");
    let server = services.serve(&[NO_PENALTIES]);
    let baseline = server.baseline();
    let lets_in = |user: &str, password| log_in_from(local(1), &server, user.as_bytes(), password);
    for _ in 0..2 {
        assert!(lets_in("alice", PASSWORD));
        assert!(!lets_in("alice", GUESS));
        assert!(!lets_in("alice", b""));
        assert!(!lets_in("carol", PASSWORD));
        assert!(!lets_in("root", PASSWORD));
        assert!(!lets_in("bob", PASSWORD), "he may not use this service");
    }
    let turn = ["wrong_password"; 4].into_iter().chain(["account"]);
    let expected: Vec<&str> = turn.clone().chain(turn).collect();
    assert_eq!(reasons(&server, expected.len()), expected);
    assert_eq!(server.counters()["hashes"], 0, "modules do that");
    baseline.assert_restored();
}

/// What is known of one address is not known of another: a module may look where a user comes from.
#[test]
#[ignore = "needs libpam-wrapper: tests/run"]
fn a_module_is_told_where_a_user_comes_from() {
    let succeed_if = modules("security/pam_succeed_if.so");
    let rule = format!("account required {} quiet rhost = 127.0.0.5\n", succeed_if.display());
    let services = Services::new(&rule);
    let server = services.serve(&[NO_PENALTIES]);
    for _ in 0..2 {
        assert!(log_in_from(local(5), &server, b"alice", PASSWORD));
        assert!(!log_in_from(local(1), &server, b"alice", PASSWORD));
        assert!(!log_in_from(local(55), &server, b"alice", PASSWORD));
    }
    assert!(failures(&server, 4).iter().all(|it| it["reason"] == "account"));
}

#[test]
#[ignore = "needs libpam-wrapper: tests/run"]
fn what_modules_said_is_known_for_a_while_of_that_address() {
    let services = Services::new("");
    let server = services.serve(&[NO_PENALTIES]);
    assert!(log_in_from(local(1), &server, b"alice", PASSWORD));
    services.write_users("bob:canary-wonder:ringsocks\n");
    assert!(log_in_from(local(1), &server, b"alice", PASSWORD), "they are not asked again");
    assert!(!log_in_from(local(2), &server, b"alice", PASSWORD), "of another address they are");
    assert!(log_in_from(local(1), &server, b"bob", PASSWORD));
}

/// The password was right: nobody guesses, and nobody is locked for it.
#[test]
fn who_may_not_come_though_the_password_is_right_is_refused_and_not_locked() {
    let stub = Stub::build("pam");
    // Expired, to be changed, denied; and modules that do not work.
    for (service, reason) in [
        ("auth=0.acct=13", "account"),
        ("auth=0.acct=12", "account"),
        ("auth=0.acct=6", "account"),
        ("auth=4", "broken"),
        ("auth=0.acct=9", "broken"),
    ] {
        let server = serve_stub(&stub, service, &STRICT);
        for _ in 0..3 {
            assert!(!log_in_from(local(1), &server, b"alice", PASSWORD), "{service}");
        }
        assert!(reasons(&server, 3).iter().all(|it| it == reason), "{service}");
    }
    let server = serve_stub(&stub, "auth=7", &STRICT);
    assert!(!log_in_from(local(1), &server, b"alice", PASSWORD));
    assert!(!log_in_from(local(1), &server, b"alice", PASSWORD));
    assert_eq!(reasons(&server, 2), ["wrong_password", "locked"]);
}

#[test]
fn modules_that_take_for_ever_hold_up_nobody_else() {
    const SLEEPERS: usize = 100;
    let (pam, gssapi) = (Stub::build("pam"), Stub::build("gssapi"));
    let env = [
        ("RINGSOCKS_TIMEOUT_HANDSHAKE", "4s"),
        ("RINGSOCKS_LISTEN_AUTH", "none+gssapi+password"),
        ("RINGSOCKS_GSSAPI_LIBRARY", path(gssapi.library())),
        ("RINGSOCKS_GSSAPI_SERVICE", "rcmd"),
    ];
    let server = serve_stub(&pam, "sleep=600000.auth=0.acct=0", &env);
    let baseline = server.baseline();
    let echo = Service::echo();
    let sleepers: Vec<Peer> = (0..SLEEPERS)
        .map(|n| {
            let client = asked(&server, local(n as u8 % 4 + 2));
            client.send(&credentials(format!("user-{n}").as_bytes(), PASSWORD));
            client
        })
        .collect();
    for _ in 0..10 {
        let client = open_session(server.address(), echo.address());
        client.send(b"ping");
        client.expect(b"ping");
        agreed(&server, local(2));
        begun(&server, local(1), "nonsense").expect(&[1, 0xff]);
    }
    sleepers.iter().for_each(Peer::expect_silent_close);
    let counters = server.counters();
    assert_eq!(counters["handshake_timeout"], SLEEPERS as u64, "{counters:?}");
    assert_eq!((counters["logins"], counters["logins_failed"]), (10, 10), "{counters:?}");
    baseline.assert_restored();
}

/// Modules that sleep a little only: all are let in, though nobody's is answered at once.
#[test]
fn who_leaves_while_modules_are_asked_leaves_nothing() {
    let stub = Stub::build("pam");
    let server = serve_stub(&stub, "sleep=100.auth=0.acct=0", &[]);
    let baseline = server.baseline();
    let leaving: [fn(Peer); 3] = [Peer::reset, drop::<Peer>, |client| client.fin()];
    for leave in leaving {
        for n in 0..20 {
            let client = asked(&server, local(n % 4 + 1));
            client.send(&credentials(format!("user-{n}").as_bytes(), PASSWORD));
            leave(client);
        }
    }
    let staying = asked(&server, local(1));
    staying.send(&credentials(b"alice", PASSWORD));
    assert!(is_let_in(&staying));
    drop(staying);
    baseline.assert_restored();
}
