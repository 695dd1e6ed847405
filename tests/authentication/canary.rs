//! Passwords are shown to nobody, wherever somebody could look. Each server of each test is looked
//! at for the mark that all passwords of these tests have; this one shows all it can.

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::contexts::begun;
use crate::support::logins::{GSSAPI, asked, local, log_in_from, offer};
use crate::support::origin::Service;
use crate::support::peer::Peer;
use crate::support::server::{CANARY, Server, assert_no_canary, run};
use crate::support::socks::{connect_to, credentials, greeting};
use crate::support::stubs::Stub;
use crate::world::{GUESS, PASSWORD, argon2id, text, write_secret};

/// Everything that a server could tell, asked of it.
#[test]
fn no_password_is_shown_anywhere() {
    let stub = Stub::build("gssapi");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (users, config) = (folder.path().join("users"), folder.path().join("ringsocks.toml"));
    write_secret(&users, &format!("alice:{}\nbob:plain:canary-wonder\n", argon2id()));
    write_secret(
        &config,
        &format!(
            "log = \"trace\"\nworkers = 1\nusers_file = \"users\"\naccess_log = \"access.log\"\n\
             auth_once = \"1h\"\nusers = {{ carol = \"plain:canary-inline\" }}\n\
             groups = {{ staff = [\"alice\", \"bob\"] }}\n\
             [gssapi]\nlibrary = \"{}\"\nservice = \"rcmd\"\n\
             [[listen]]\naddress = \"127.0.0.1:0\"\n\
             auth = [{{ methods = [\"password\", \"gssapi\"], groups = [\"staff\"] }}]\n",
            stub.library().display()
        ),
    );
    let inputs = [users.clone(), config.clone()];
    let below = ["env", "-C", text(folder.path())];
    let arguments = ["-c", "ringsocks.toml", "-u", "dave:canary-dave"];
    let env = [("RINGSOCKS_USERS_erin", "plain:canary-erin")];
    let mut server = Server::start_under(&below, &arguments, &env);

    tour(&server);
    server.counters();
    for content in [
        "alice:plain:canary-new\n",
        "alice:canary-without-a-scheme\n",
        "alice:plain:canary-new\ncanary-without-a-colon\n",
        "alice:$6$canary-that-is-cut\n",
        "alice:plain:canary-one\nalice:plain:canary-two\n",
        "\0canary",
    ] {
        write_secret(&users, content);
        let said = server.stderr().len();
        server.signal(Signal::HUP);
        server.wait_counters("it is read", |_| {
            server.stderr()[said..].iter().any(|line| line.contains("users and groups "))
        });
        tour(&server);
    }
    for shown in ["cmdline", "environ"] {
        let shown = fs::read(server.proc(shown)).expect("the server runs");
        assert_no_canary("/proc", &String::from_utf8_lossy(&shown));
    }
    server.signal(Signal::TERM);
    server.wait_exit();
    let stderr = server.stderr();
    assert!(
        stderr.iter().any(|line| line.contains("TRACE") || line.contains("DEBUG")),
        "{stderr:?}"
    );
    assert!(stderr.iter().filter(|line| line.contains("auth_failed")).count() > 20, "{stderr:?}");
    assert_no_canary("stderr", &stderr.join("\n"));
    let written = files_below(folder.path());
    assert!(written.iter().any(|(path, _)| path.ends_with("access.log")), "{written:?}");
    for (path, content) in written {
        if !inputs.iter().any(|input| text(input) == path) {
            assert_no_canary(&path, &content);
        }
    }
}

/// Clients of every kind, good and bad.
fn tour(server: &Server) {
    let echo = Service::echo();
    let users: [(&[u8], &[u8]); 7] = [
        (b"alice", PASSWORD),
        (b"alice", GUESS),
        (b"bob", PASSWORD),
        (b"carol", b"canary-inline"),
        (b"mallory", b"canary-of-nobody"),
        (b"", GUESS),
        (b"dave", b"canary-dave"),
    ];
    for (host, (user, password)) in (1..).zip(users) {
        log_in_from(local(host), server, user, password);
        let client = asked(server, local(host));
        client.send(&[credentials(user, password), connect_to(echo.address())].concat());
        client.fin();
        client.read_to_end();
    }
    // Cut off, of another version, twice, in the place of a request, and before it is asked for.
    let whole = credentials(b"alice", PASSWORD);
    for messages in [
        [&greeting(&[2]), &whole[..whole.len() - 1]].concat(),
        [&greeting(&[2]), &[5][..], &whole[1..]].concat(),
        [&greeting(&[2]), &whole[..], &whole].concat(),
        [&greeting(&[0]), &whole[..]].concat(),
        [&whole[..], &whole].concat(),
    ] {
        let client = Peer::connect_from((local(20), 0).into(), server.address());
        client.exchange(&messages);
    }
    begun(server, local(21), "ok").reset();
    begun(server, local(21), "canary-as-a-token").read_to_end();
    let client = offer(server, local(21), &[GSSAPI], GSSAPI);
    client.exchange(&credentials(b"alice", PASSWORD));
}

fn files_below(folder: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("it can be read").path());
    let read = |path: std::path::PathBuf| match path.is_dir() {
        true => files_below(&path),
        false => {
            let content = fs::read(&path).expect("it can be read");
            vec![(text(&path).to_owned(), String::from_utf8_lossy(&content).into_owned())]
        }
    };
    paths.flat_map(read).collect()
}

/// Whoever says a password where it is not taken does not get it back, nor does who looks on.
#[test]
fn no_error_repeats_a_password() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("ringsocks.toml");
    for said in [
        "users = { alice = \"canary\" }",
        "users = { alice = \"plain:canary }",
        "users = { alice = 'plain:canary\" }",
        "users = { alice = \"plain:canary\", alice = \"plain:canary\" }",
        "users = { alice = \"plain:canary\" bob = \"plain:canary\" }",
        "users = { alice = { password = \"plain:canary\" } }",
        "users = { alice = [\"plain:canary\"] }",
        "users = { alice = \"$6$canary\" }",
        "users = { alice = \"$1$canary$hqvCbNwzGGtJDzHd8m2pC1\" }",
        "users = \"alice:canary\"",
        "users = [\"alice:canary\"]",
        "user = \"alice:canary\"",
        "usres = { alice = \"plain:canary\" }",
        "users_file = \"plain:canary\"",
        "users.alice = \"plain:canary\"\nusers.alice = \"plain:canary\"",
        "[users]\nalice = \"plain:canary\"\n[users]\nbob = \"plain:canary\"",
        "[users]\nalice = plain:canary",
        "[users]\nalice = \"plain:canary\"\npenalty = 1",
        "[penalty]\nfailure = \"soon\"\n[users]\nalice = \"plain:canary\"",
    ] {
        write_secret(&config, &format!("{said}\n"));
        let ended = run(&["check", "-c", text(&config)], &[]);
        assert_eq!(ended.code, Some(78), "{said}: {}", ended.stderr);
    }
    for arguments in [
        &["-u", "canary"][..],
        &["-u", "alice:canary", "-u", "alice:canary"],
        &["-u", "alice:canary", "--none-such"],
        &["--user=alice:canary", "--workers", "none"],
        &["--users", "alice:canary"],
    ] {
        let ended = run(&[arguments, &["--listen", "127.0.0.1:0"]].concat(), &[]);
        assert_ne!(ended.code, Some(0), "{arguments:?}");
    }
    for variable in [
        ("RINGSOCKS_USERS_alice", "canary"),
        ("RINGSOCKS_USER", "canary"),
        ("RINGSOCKS_USERS", "alice:canary"),
        ("RINGSOCKS_USERS", "alice=plain:canary"),
        ("RINGSOCKS_USERS_FILE", "plain:canary"),
    ] {
        let ended = run(&["--listen", "127.0.0.1:0"], &[variable]);
        assert_eq!(ended.code, Some(78), "{variable:?}: {}", ended.stderr);
    }
}

/// A server that showed one would not pass any test.
#[test]
fn what_shows_a_password_is_found() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (shown, log) = (folder.path().join("shown"), folder.path().join("access.log"));
    let fake_called = |name: &str, script: &str| {
        let mut command = Command::new("bash");
        let serve = "echo 'listening on 127.0.0.1:1' >&2; read nothing";
        command.args(["-c", &format!("{script}; exec -a {name} sh -c \"{serve}\"")]);
        command.env("RINGSOCKS_ACCESS_LOG", &log).stdin(Stdio::piped());
        command
    };
    let fake = |script| fake_called("ringsocks", script);
    let shows = |command: Command| {
        let life = || drop(Server::spawn(command));
        panic::catch_unwind(AssertUnwindSafe(life)).is_err()
    };
    fs::write(&shown, "a line\nuser=alice password=canary-wonder\n").expect("room for a line");
    let said = format!("cat {} >&2", text(&shown));
    assert!(!shows(fake("true")), "nothing is shown");
    assert!(shows(fake(&said)), "stderr");
    let mut command = fake("true");
    command.env("PASSWORD", CANARY);
    assert!(shows(command), "the environment");
    assert!(shows(fake_called(CANARY, "true")), "the command line");
    fs::copy(&shown, &log).expect("room for a line");
    assert!(shows(fake("true")), "the access log");
}
