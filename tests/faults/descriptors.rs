//! Descriptors, threads and addresses that the system does not give.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::{NamedTempFile, TempDir};

use crate::support::origin::Service;
use crate::support::peer::Peer;
use crate::support::server::{Server, binary, run, run_under};
use crate::support::socks::{connect_to, connect_to_name, greeting, open_session};
use crate::support::{finish, session, wait_until};
use crate::workers_possible;

/// Leaves a running server only `free` more descriptors, behind its back.
#[track_caller]
fn leave_descriptors(server: &Server, free: usize) {
    let open: BTreeSet<usize> = fs::read_dir(server.proc("fd"))
        .expect("the server runs")
        .filter_map(|fd| fd.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    // New descriptors get the lowest free numbers, and the limit is one on numbers.
    let limit = (0..).filter(|fd| !open.contains(fd)).nth(free).expect("numbers have no end");
    let (pid, nofile) = (server.pid().to_string(), format!("--nofile={limit}:"));
    let status = Command::new("prlimit").args(["--pid", &pid, &nofile]).status();
    assert!(status.expect("prlimit runs").success());
}

#[test]
#[ignore = "needs root: tests/run"]
fn out_of_descriptors_everyone_is_served_in_the_end_and_nobody_spins() {
    let server = Server::start(&["--workers", &workers_possible(2).to_string()]);
    let baseline = server.baseline();
    let (established, target) = session(&server);
    leave_descriptors(&server, 20);
    let clients: Vec<Peer> = (0..200).map(|_| Peer::connect(server.address())).collect();
    for client in &clients {
        client.send(&greeting(&[0]));
    }
    server.wait_counters("listeners are parked", |counters| counters["parks"] > 0);
    assert_rests_for(&server, Duration::from_secs(3));
    assert!(server.counters()["open"] < 30, "{:?}", server.counters());
    established.send(b"unharmed");
    target.expect(b"unharmed");
    assert_all_served(clients);
    finish(established, &target);
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn out_of_descriptors_a_request_is_refused_with_01() {
    let server = Server::start(&["--workers", "1"]);
    let baseline = server.baseline();
    let echo = Service::echo();
    let client = Peer::connect(server.address());
    client.send(&greeting(&[0]));
    client.expect(&[5, 0]);
    leave_descriptors(&server, 0);
    client.send(&connect_to(echo.address()));
    client.expect_refused(1);
    leave_descriptors(&server, 10);
    let client = open_session(server.address(), echo.address());
    client.send(b"ping");
    client.expect(b"ping");
    drop(client);
    baseline.assert_at_rest();
}

#[test]
fn a_release_on_any_reactor_wakes_who_is_parked() {
    let workers = workers_possible(2).to_string();
    let server =
        Server::start_with_env(&["--workers", &workers], &[("RINGSOCKS_LIMIT_SESSIONS", "2")]);
    let baseline = server.baseline();
    let hold = || {
        let client = Peer::connect(server.address());
        client.send(&greeting(&[0]));
        client
    };
    let mut served = [hold(), hold()];
    served.iter().for_each(|client| client.expect(&[5, 0]));
    let mut waits: Vec<Duration> = (0..60)
        .map(|round| {
            let waiting = hold();
            waiting.expect_silence(Duration::from_millis(10));
            let released = Instant::now();
            served[round % 2] = waiting;
            served[round % 2].expect(&[5, 0]);
            released.elapsed()
        })
        .collect();
    // Half of the releases are the other reactor's. A look every 100 ms alone would find half of
    // them after 50 ms and more.
    waits.sort();
    assert!(waits[50] < Duration::from_millis(50), "{waits:?}");
    drop(served);
    baseline.assert_at_rest();
}

/// Each client is served once others have left; which, is up to the kernel's queues.
#[track_caller]
fn assert_all_served(mut clients: Vec<Peer>) {
    wait_until("every client is served", || {
        clients.retain(|client| {
            let waits = !client.has_input();
            if !waits {
                client.expect(&[5, 0]);
            }
            waits
        });
        clients.is_empty()
    });
}

/// Hundreds of clients wait: it costs next to nothing, and the log is not flooded with it.
#[track_caller]
fn assert_rests_for(server: &Server, duration: Duration) {
    let (cpu, lines) = (server.cpu_time(), server.stderr().len());
    thread::sleep(duration);
    let used = server.cpu_time() - cpu;
    assert!(used < duration / 100, "{used:?} of {duration:?} for waiting");
    let said = server.stderr().split_off(lines);
    let of_waiting = said.iter().filter(|line| line.contains("new clients wait")).count();
    assert!((1..=duration.as_secs() as usize + 1).contains(&of_waiting), "{said:#?}");
    assert!(said.len() <= 3 * of_waiting, "{said:#?}");
}

#[test]
#[ignore = "needs root: tests/run"]
fn without_descriptors_nothing_around_seems_to_have_changed() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    leave_descriptors(&server, 0);
    // The server looks around now and then, and in vain.
    server.wait_line("cannot list the addresses");
    leave_descriptors(&server, 100);
    let (client, target) = session(&server);
    finish(client, &target);
    let said = server.stderr();
    assert!(!said.iter().any(|line| line.contains("have changed")), "{said:#?}");
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn names_that_changed_while_descriptors_were_out_are_read_later() {
    let mut hosts = NamedTempFile::new().expect("a temporary file");
    let path = hosts.path().to_str().expect("a temporary path is UTF-8").to_owned();
    let with_hosts = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    let wrapper = ["unshare", "--mount", "sh", "-c", with_hosts, &path];
    let server = Server::start_under(&wrapper, &[], &[("RINGSOCKS_RESOLVER", "127.0.0.1:1")]);
    let baseline = server.baseline();
    let echo = Service::echo();
    leave_descriptors(&server, 0);
    server.wait_line("cannot list the addresses");
    writeln!(hosts, "127.0.0.1 late.example").expect("room for a line");
    server.wait_line("cannot read /etc/hosts");
    leave_descriptors(&server, 100);
    wait_until("the name is known", || {
        let client = Peer::connect(server.address());
        client.send(&greeting(&[0]));
        client.expect(&[5, 0]);
        client.send(&connect_to_name(b"late.example", echo.address().port()));
        client.expect_reply().rep == 0
    });
    baseline.assert_at_rest();
}

#[test]
fn twice_as_many_clients_as_sessions_are_served_in_turn_and_nobody_spins() {
    let env = [("RINGSOCKS_LIMIT_SESSIONS", "100"), ("RINGSOCKS_TIMEOUT_HANDSHAKE", "1h")];
    let server = Server::start_with_env(&[], &env);
    let baseline = server.baseline();
    let (established, target) = session(&server);
    let clients: Vec<Peer> = (0..200).map(|_| Peer::connect(server.address())).collect();
    for client in &clients {
        client.send(&greeting(&[0]));
    }
    server.wait_counter("open", 100);
    assert_rests_for(&server, Duration::from_secs(2));
    established.send(b"unharmed");
    target.expect(b"unharmed");
    assert_all_served(clients);
    finish(established, &target);
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn fewer_descriptors_than_sessions_lower_the_limit_and_say_so() {
    let server = Server::start_under(
        &["prlimit", "--nofile=200"],
        &["--workers", "1"],
        &[("RINGSOCKS_LIMIT_SESSIONS", "1000")],
    );
    let said = server.wait_line("1000");
    assert!(said.contains("200"), "{said}");
    let none = run_under(&["prlimit", "--nofile=40"], &["--workers", "1"], &[]);
    assert_eq!(none.code, Some(1), "{}", none.stderr);
    for what in ["40", "open files", "hint"] {
        assert!(none.stderr.contains(what), "no {what:?} in {}", none.stderr);
    }
}

#[test]
#[ignore = "needs root: tests/run"]
fn the_soft_limit_is_raised_to_the_hard_one() {
    let server = Server::start_under(&["prlimit", "--nofile=100:1000"], &["--workers", "1"], &[]);
    let limits = fs::read_to_string(server.proc("limits")).expect("the server runs");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("the line");
    let numbers: Vec<&str> =
        line.split_whitespace().filter(|it| it.parse::<u64>().is_ok()).collect();
    assert_eq!(numbers, ["1000", "1000"]);
    server.wait_line("sessions at most");
}

#[test]
fn an_address_of_nobody_is_named_and_nothing_runs() {
    let refused = run(&["--listen", "192.0.2.77:1080", "--open"], &[]);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("192.0.2.77:1080"), "{}", refused.stderr);
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_port_that_needs_a_privilege_is_named_and_nothing_runs() {
    let drop_it = ["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"];
    let refused = run_under(&drop_it, &["--listen", "127.0.0.1:81"], &[]);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("127.0.0.1:81"), "{}", refused.stderr);
}

#[test]
#[ignore = "needs root: tests/run"]
fn without_threads_it_says_so_and_ends() {
    let (_folder, copy) = binary_for_everyone();
    let status_of_timeout = Some(124);
    for threads in 1..40 {
        let nproc = format!("--nproc={threads}");
        let wrapper = [
            &["setpriv", "--reuid=64321", "--regid=64321", "--clear-groups"][..],
            // Some kernels want it for a filter on a socket.
            &["--inh-caps=+net_admin", "--ambient-caps=+net_admin"],
            &["timeout", "2", "prlimit", &nproc, "sh", "-c", INSTEAD, &copy],
        ]
        .concat();
        let ended = run_under(&wrapper, &["--workers", "1"], &[]);
        if ended.code == status_of_timeout {
            assert!(threads > 3, "it has more threads than that");
            return;
        }
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains("cannot"), "{}", ended.stderr);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    }
    panic!("it never started");
}

#[test]
#[ignore = "needs root: tests/run"]
fn without_any_privilege_it_serves() {
    let (_folder, copy) = binary_for_everyone();
    let wrapper = ["setpriv", "--reuid=64321", "--regid=64321", "--clear-groups"];
    let wrapper = [&wrapper[..], &["sh", "-c", INSTEAD, &copy]].concat();
    let server = Server::start_under(&wrapper, &[], &[]);
    let (client, target) = session(&server);
    finish(client, &target);
}

/// Runs its first argument with the others but the second, which it stands in for.
pub(crate) const INSTEAD: &str = "shift && exec \"$0\" \"$@\"";

/// A copy of the binary that other users may run, too.
pub(crate) fn binary_for_everyone() -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = folder.path().join("ringsocks");
    fs::copy(binary(), &copy).expect("room for the binary");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("our own folder");
    let copy = copy.to_str().expect("a temporary path is UTF-8").to_owned();
    (folder, copy)
}

#[test]
fn killed_a_hundred_times_under_load_it_is_back_at_once() {
    let mut server = Server::start(&["--workers", "1"]);
    let address = server.address();
    let echo = Service::echo();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    die_with_it(address, &echo);
                }
            });
        }
        for _ in 0..100 {
            let client = open_session(address, echo.address());
            client.send(b"ping");
            client.expect(b"ping");
            server.signal(Signal::KILL);
            server.wait_exit();
            server = Server::start(&["--workers", "1", "--listen", &address.to_string()]);
        }
        over.store(true, Ordering::Relaxed);
    });
    server.wait_counter("open", 0);
    let baseline = server.baseline();
    let (client, target) = session(&server);
    finish(client, &target);
    baseline.assert_at_rest();
}

/// A client whose server may go away at any time.
fn die_with_it(address: SocketAddr, echo: &Service) {
    let Ok(stream) = TcpStream::connect(address) else { return };
    let client = Peer::from(stream);
    let messages = [greeting(&[0]), connect_to(echo.address())].concat();
    if client.try_send(&messages).is_ok() {
        client.read_at_most(12);
    }
}
