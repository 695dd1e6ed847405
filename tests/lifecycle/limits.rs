//! Limits: what is too much waits its turn, and costs nothing while it waits.

use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support::origin::Service;
use crate::support::peer::Peer;
use crate::support::server::{Server, binary};
use crate::support::socks::{greeting, open_session};
use crate::workers_possible;

#[test]
fn at_the_session_limit_clients_wait_their_turn() {
    let workers = workers_possible(2).to_string();
    let env = [("RINGSOCKS_LIMIT_SESSIONS", "4")];
    let server = Server::start_with_env(&["--workers", &workers], &env);
    let baseline = server.baseline();
    let echo = Service::echo();
    let mut served: Vec<Peer> =
        (0..4).map(|_| open_session(server.address(), echo.address())).collect();
    for _ in 0..20 {
        let waiting = Peer::connect(server.address());
        waiting.send(&greeting(&[0]));
        waiting.expect_silence(Duration::from_millis(50));
        assert_eq!(server.counters()["open"], 4);
        served.remove(0);
        waiting.expect(&[5, 0]);
        served.push(waiting);
    }
    drop(served);
    baseline.assert_restored();
}

#[test]
fn with_few_descriptors_everyone_is_served_in_turn() {
    let server = server_with_descriptors(120);
    let baseline = server.baseline();
    let echo = Service::echo();
    let clients: Vec<Peer> = (0..100).map(|_| Peer::connect(server.address())).collect();
    for client in &clients {
        client.send(&greeting(&[0]));
    }
    for client in clients {
        client.expect(&[5, 0]);
    }
    let client = open_session(server.address(), echo.address());
    client.send(b"ping");
    client.expect(b"ping");
    drop(client);
    baseline.assert_restored();
}

#[test]
fn waiting_clients_cost_no_processor_time() {
    let server = server_with_descriptors(120);
    let baseline = server.baseline();
    let echo = Service::echo();
    let clients: Vec<Peer> = (0..100).map(|_| Peer::connect(server.address())).collect();
    server.wait_counters("clients wait", |counters| {
        let open = counters["open"];
        open > 0 && open < 100 && server.counters()["open"] == open
    });
    let before = server.cpu_time();
    thread::sleep(Duration::from_secs(1));
    let used = server.cpu_time() - before;
    assert!(used < Duration::from_millis(200), "{used:?} of one second for nothing");
    drop(clients);
    let client = open_session(server.address(), echo.address());
    client.send(b"ping");
    client.expect(b"ping");
    drop(client);
    baseline.assert_restored();
}

/// The real binary with a descriptor limit of its own.
fn server_with_descriptors(limit: usize) -> Server {
    let script = format!("ulimit -n {limit} && exec \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh", binary(), "--listen", "127.0.0.1:0", "--workers", "1"]);
    Server::spawn(command)
}
