//! What the server says about itself, and how it shares the work.

use std::collections::BTreeMap;
use std::fs;

use ringsocks::outcome::Outcome;
use rustix::process::Signal;

use crate::support::origin::Service;
use crate::support::peer::Peer;
use crate::support::server::{Server, run};
use crate::support::socks::{credentials, greeting, open_session};
use crate::{file, workers_possible};

#[test]
fn sigusr1_writes_every_counter() {
    let server = Server::start(&[]);
    let counters = server.counters();
    for name in ["accepted", "open", "rings_in_use"].map(str::to_owned) {
        assert_eq!(counters.get(&name), Some(&0), "{name} in {counters:?}");
    }
    for name in Outcome::ALL.map(|outcome| outcome.to_string()) {
        assert_eq!(counters.get(&name), Some(&0), "{name} in {counters:?}");
    }
}

#[test]
fn a_password_of_the_environment_is_never_shown() {
    let server = Server::start_with_env(
        &["--log", "trace"],
        &[("RINGSOCKS_USERS_alice", "plain:canary-7f3a")],
    );
    assert_canary_is_not_shown(server);
}

#[test]
fn a_password_of_a_file_is_never_shown() {
    let file = file(
        "log = \"trace\"\nusers = { alice = \"plain:canary-7f3a\" }\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\n",
    );
    let path = file.path().to_str().expect("a temporary path is UTF-8");
    let checked = run(&["check", "-c", path], &[]);
    let shown = checked.stdout + &checked.stderr;
    assert!(!shown.contains("canary"), "{shown}");
    assert_canary_is_not_shown(Server::start(&["-c", path]));
}

#[test]
fn workers_share_the_sessions() {
    if workers_possible(2) < 2 {
        eprintln!("skipped: there is one processor, so there is one worker");
        return;
    }
    let server = Server::start(&["--workers", "2"]);
    let baseline = server.baseline();
    let echo = Service::echo();
    let before = wake_ups(&server);
    for _ in 0..400 {
        let client = open_session(server.address(), echo.address());
        client.send(b"ping");
        client.expect(b"ping");
    }
    let busy = wake_ups(&server)
        .into_iter()
        .filter(|(thread, count)| count - before.get(thread).unwrap_or(&0) >= 100)
        .count();
    assert!(busy >= 2, "{busy} busy threads");
    baseline.assert_restored();
}

/// Logs in well and badly, and looks for the passwords wherever the server shows itself.
fn assert_canary_is_not_shown(mut server: Server) {
    for (passwd, status) in [("canary-7f3a", 0), ("canary-wrong", 1)] {
        let client = Peer::connect(server.address());
        client.send(&greeting(&[2]));
        client.expect(&[5, 2]);
        client.send(&credentials(b"alice", passwd.as_bytes()));
        client.expect(&[1, status]);
    }
    server.counters();
    let command_line = fs::read_to_string(server.proc("cmdline")).expect("the server runs");
    assert!(!command_line.contains("canary"), "{command_line}");
    server.signal(Signal::TERM);
    server.wait_exit();
    let shown: Vec<String> = server.stderr();
    assert!(shown.iter().all(|line| !line.contains("canary")), "{shown:#?}");
}

/// How often each thread went to sleep and came back.
fn wake_ups(server: &Server) -> BTreeMap<String, u64> {
    let threads = fs::read_dir(server.proc("task")).expect("the server runs");
    threads
        .map(|thread| {
            let path = thread.expect("a thread").path();
            let status = fs::read_to_string(path.join("status")).expect("it still runs");
            let line =
                status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            let count = line.expect("the line is there").trim().parse().expect("a number");
            (path.display().to_string(), count)
        })
        .collect()
}
