//! What the binary needs to hear before it serves, and what it refuses.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::support::origin::{ClosedPort, Service};
use crate::support::peer::Peer;
use crate::support::server::{Server, binary, run};
use crate::support::socks::{greeting, open_session};
use crate::support::{finish, session, wait_until};
use crate::{file, workers_possible};

/// The exit status of a configuration that cannot run (sysexits.h).
const EX_CONFIG: Option<i32> = Some(78);

#[test]
fn a_second_instance_on_the_port_is_refused() {
    let server = Server::start(&[]);
    let address = server.address().to_string();
    let second = run(&["--listen", &address], &[]);
    assert_ne!(second.code, Some(0));
    assert!(second.stderr.contains(&address), "{}", second.stderr);
    let (client, target) = session(&server);
    finish(client, &target);
}

#[test]
fn each_reactor_is_pinned_to_a_cpu_of_its_own() {
    let workers = workers_possible(2);
    let server = Server::start(&["--workers", &workers.to_string()]);
    // A thread names itself, and pins itself, a moment after it has started.
    wait_until("each is on a CPU of its own", || pinned_reactors(&server).len() == workers);
}

/// The CPUs that the reactors are named after, if they may run there and nowhere else.
fn pinned_reactors(server: &Server) -> BTreeSet<String> {
    let tasks = fs::read_dir(server.proc("task")).expect("the server runs");
    let pinned = tasks.filter_map(|task| {
        let task = task.ok()?.path();
        let name = fs::read_to_string(task.join("comm")).ok()?;
        let cpu = name.trim().strip_prefix("reactor-")?.to_owned();
        let status = fs::read_to_string(task.join("status")).ok()?;
        let allowed = status.lines().find_map(|it| it.strip_prefix("Cpus_allowed_list:"))?;
        (allowed.trim() == cpu).then_some(cpu)
    });
    pinned.collect()
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_host_without_ipv6_has_just_no_listener_for_it() {
    let script =
        "ip link set lo up && echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 && exec \"$0\"";
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", script, binary()]);
    let server = Server::spawn(command);
    assert_eq!(server.addresses(), ["127.0.0.1:1080".parse::<SocketAddr>().unwrap()]);
    server.wait_line("no listener at [::1]:1080");
}

#[test]
fn of_instances_started_at_once_one_serves() {
    for _ in 0..10 {
        let address = ClosedPort::everywhere().address().to_string();
        let mut rivals: Vec<Child> = (0..3).map(|_| spawn_on(&address)).collect();
        let mut lost = 0;
        wait_until("all but one have given up", || {
            rivals.retain_mut(|rival| rival.try_wait().expect("our own child").is_none());
            lost = 3 - rivals.len();
            lost >= 2
        });
        Peer::connect(address.parse().unwrap()).send(&greeting(&[0]));
        assert_eq!(lost, 2, "nobody serves");
        for mut winner in rivals {
            winner.kill().unwrap();
            winner.wait().unwrap();
        }
    }
}

fn spawn_on(address: &str) -> Child {
    let mut command = Command::new(binary());
    command.args(["--listen", address]).stderr(Stdio::null()).spawn().expect("the binary starts")
}

#[test]
fn a_wildcard_and_one_of_its_addresses_are_served() {
    let port = ClosedPort::everywhere().port();
    let (every, one) = (format!("0.0.0.0:{port}"), format!("127.0.0.1:{port}"));
    let server = Server::start(&["--open", "--listen", &one, "--listen", &every]);
    let echo = Service::echo();
    for host in [1, 2] {
        let client = open_session(([127, 0, 0, host], port).into(), echo.address());
        client.send(b"ping");
        client.expect(b"ping");
    }
    drop(server);
}

#[test]
fn a_killed_server_is_back_on_its_port_at_once() {
    let mut server = Server::start(&[]);
    let address = server.address().to_string();
    for _ in 0..5 {
        let (client, target) = session(&server);
        server.signal(Signal::KILL);
        server.wait_exit();
        server = Server::start(&["--listen", &address]);
        // Both ends of the old session are still around, in the kernel's care.
        drop((client, target));
    }
    let (client, target) = session(&server);
    finish(client, &target);
}

#[test]
fn several_addresses_are_served() {
    let listen = ["--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0"];
    let server = Server::start(&listen);
    let baseline = server.baseline();
    let echo = Service::echo();
    assert_eq!(server.addresses().len(), 2);
    for address in server.addresses() {
        let client = open_session(*address, echo.address());
        client.send(b"ping");
        client.expect(b"ping");
    }
    baseline.assert_restored();
}

#[test]
fn an_open_proxy_is_refused() {
    for address in ["0.0.0.0:0", ":0"] {
        let refused = run(&["--listen", address], &[]);
        assert_eq!(refused.code, EX_CONFIG, "{}", refused.stderr);
        for what in ["open proxy", "users", "clients", "--open"] {
            assert!(refused.stderr.contains(what), "no {what:?} in {}", refused.stderr);
        }
    }
}

#[test]
fn an_open_proxy_on_purpose_is_served() {
    let server = Server::start(&["--listen", "0.0.0.0:0", "--open"]);
    let address = SocketAddr::from(([127, 0, 0, 1], server.address().port()));
    let echo = Service::echo();
    open_session(address, echo.address());
}

#[test]
fn a_wildcard_with_users_is_served() {
    let server = Server::start(&["--listen", "0.0.0.0:0", "-u", "alice:canary-7f3a"]);
    let client = Peer::connect(([127, 0, 0, 1], server.address().port()).into());
    client.send(&greeting(&[0]));
    client.expect(&[5, 0xff]);
}

#[test]
fn a_bad_file_is_shown_where_it_is_bad() {
    let file = file("workers = 1\n[timeout]\nidel = \"1s\"\n");
    let path = file.path().to_str().expect("a temporary path is UTF-8");
    for args in [&["-c", path][..], &["check", "-c", path]] {
        let refused = run(args, &[]);
        assert_eq!(refused.code, EX_CONFIG, "{}", refused.stderr);
        for what in [path, ":3", "idel", "idle", "^"] {
            assert!(refused.stderr.contains(what), "no {what:?} in {}", refused.stderr);
        }
    }
}

#[test]
fn more_workers_than_processors_are_refused() {
    let refused = run(&["--workers", "4000"], &[]);
    assert_eq!(refused.code, EX_CONFIG, "{}", refused.stderr);
    assert!(refused.stderr.contains("4000"), "{}", refused.stderr);
}

#[test]
fn check_says_what_would_run_and_runs_nothing() {
    let file = file("drain = \"7s\"\n[[listen]]\naddress = \"127.0.0.1:1\"\n");
    let path = file.path().to_str().expect("a temporary path is UTF-8");
    let checked = run(&["check", "-c", path], &[("RINGSOCKS_TIMEOUT_IDLE", "45s")]);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    for what in ["127.0.0.1:1", "7s", "45s"] {
        assert!(checked.stdout.contains(what), "no {what:?} in {}", checked.stdout);
    }
}

#[test]
fn flags_count_over_the_environment_and_that_over_the_file() {
    let file = file("[[listen]]\naddress = \"127.0.0.3:0\"\n[timeout]\nidle = \"1h\"\n");
    let path = file.path().to_str().expect("a temporary path is UTF-8");
    let env = [("RINGSOCKS_TIMEOUT_IDLE", "300ms"), ("RINGSOCKS_LISTEN", "127.0.0.4:0")];
    let server = Server::start_with_env(&["-c", path, "--listen", "127.0.0.5:0"], &env);
    assert_eq!(server.address().ip().to_string(), "127.0.0.5");
    let (client, _target) = session(&server);
    client.expect_reset();
}
