//! What reactors do while nothing happens.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::server::Server;
use crate::support::{finish, session, wait_until};

const WINDOW: Duration = Duration::from_secs(1);

#[test]
fn a_spinning_reactor_never_sleeps_and_serves_and_stops() {
    let mut server = Server::start(&["--workers", "1", "--poll", "spin"]);
    let (client, target) = session(&server);
    let (before, start) = (awake(&server), Instant::now());
    thread::sleep(WINDOW);
    let (awake, elapsed) = (awake(&server) - before, start.elapsed());
    assert!(awake >= elapsed * 9 / 10, "awake for {awake:?} of {elapsed:?}");
    client.send(b"ping");
    target.expect(b"ping");
    finish(client, &target);
    server.wait_counter("finished", 1);
    server.signal(Signal::TERM);
    assert!(server.wait_exit().success());
}

#[test]
fn a_reactor_waits_unless_it_is_told_to_spin() {
    for env in [&[][..], &[("RINGSOCKS_POLL", "wait")]] {
        let server = Server::start_with_env(&["--workers", "1"], env);
        let (client, target) = session(&server);
        server.baseline().assert_idle();
        client.send(b"ping");
        target.expect(b"ping");
    }
}

/// How long the reactor has been on its CPU so far, or ready to be.
fn awake(server: &Server) -> Duration {
    let mut times = None;
    wait_until("a thread is called a reactor", || {
        times = schedstat_of_reactor(server);
        times.is_some()
    });
    let times = times.expect("waited for");
    let nanos = times.split_whitespace().take(2).map(|it| it.parse::<u64>().expect("a number"));
    Duration::from_nanos(nanos.sum())
}

fn schedstat_of_reactor(server: &Server) -> Option<String> {
    let mut threads = fs::read_dir(server.proc("task")).expect("the server runs");
    let reactor = threads.find_map(|thread| {
        let path = thread.ok()?.path();
        let name = fs::read_to_string(path.join("comm")).ok()?;
        name.starts_with("reactor-").then_some(path)
    })?;
    fs::read_to_string(reactor.join("schedstat")).ok()
}
