//! What the server says about itself, and how it shares the work.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use ringsocks::outcome::Outcome;
use rustix::process::Signal;

use crate::support::origin::Service;
use crate::support::peer::Peer;
use crate::support::server::{Server, run};
use crate::support::socks::{
    BIND, UDP_ASSOCIATE, credentials, datagram, fragment, greeting, open_session, refusal, request,
    send_request,
};
use crate::support::udp::{UNSAID, UdpOrigin, bind, send_from};
use crate::support::{finish, wait_until};
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

/// Each session's line says what the client was told, what was relayed, and what was not and why.
#[test]
fn access_lines_tell_of_datagrams_and_of_who_was_waited_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("access.log");
    let file = path.to_str().expect("a UTF-8 path");
    let env = [
        ("RINGSOCKS_ACCESS_LOG", file),
        ("RINGSOCKS_UDP_ADVERTISE", "127.0.0.0/8=203.0.113.7"),
        ("RINGSOCKS_BIND_ADVERTISE", "0.0.0.0/0=203.0.113.8"),
        ("RINGSOCKS_BIND_TIMEOUT", "300ms"),
    ];
    let server = Server::start_with_env(&["--workers", "1"], &env);
    let origin = UdpOrigin::start();
    let control = send_request(server.address(), &request(UDP_ASSOCIATE, UNSAID));
    let told = control.expect_granted();
    assert_eq!(told.ip().to_string(), "203.0.113.7");
    let socket = bind(Ipv4Addr::LOCALHOST.into());
    let relay = (Ipv4Addr::LOCALHOST, told.port()).into();
    for data in [&b"one"[..], b"three", b""] {
        send_from(&socket, relay, &datagram(origin.address(), data));
    }
    origin.expect(b"one");
    origin.expect(b"three");
    let asked_from = origin.expect(b"");
    origin.send_to(asked_from, b"an answer");
    send_from(&socket, relay, b"garbage");
    send_from(&socket, relay, b"garbage");
    send_from(&socket, relay, &datagram(([224, 0, 0, 1], 5353).into(), b"to many"));
    send_from(&socket, relay, &fragment(1, origin.address(), b"a part"));
    server.wait_counters("all have come", |counters| {
        (counters["drops_malformed"], counters["drops_denied"]) == (2, 1)
            && counters["datagrams_down"] == 1
    });
    drop(control);
    let line = wait_line(&path, "command=udp");
    for field in [
        format!("bnd={told}"),
        "rep=00".to_owned(),
        "bytes_up=8".to_owned(),
        "bytes_down=9".to_owned(),
        "datagrams_up=3".to_owned(),
        "datagrams_down=1".to_owned(),
        "drops=malformed:2,denied:1,fragment:1".to_owned(),
        "end=finished".to_owned(),
    ] {
        assert!(line.split(' ').any(|it| it == field), "no {field} in {line}");
    }
    let counters = server.counters();
    assert_eq!((counters["datagrams_up"], counters["datagrams_down"]), (3, 1), "{counters:?}");
    assert_eq!((counters["bytes_up"], counters["bytes_down"]), (8, 9), "{counters:?}");

    let client = send_request(server.address(), &request(BIND, UNSAID));
    let told = client.expect_granted();
    let peer = Peer::connect((Ipv4Addr::LOCALHOST, told.port()).into());
    let (connected, outgoing) = (peer.local_address(), peer.remote_address());
    assert_eq!(client.expect_granted(), connected);
    peer.send(b"hello");
    client.expect(b"hello");
    finish(client, &peer);
    let line = wait_line(&path, "command=bind");
    for field in [
        format!("connected={connected}"),
        format!("outgoing={outgoing}"),
        format!("bnd={told}"),
        "rep=00".to_owned(),
        "bytes_up=0".to_owned(),
        "bytes_down=5".to_owned(),
        "datagrams_up=-".to_owned(),
        "drops=-".to_owned(),
        "end=finished".to_owned(),
    ] {
        assert!(line.split(' ').any(|it| it == field), "no {field} in {line}");
    }

    let client = send_request(server.address(), &request(BIND, ([127, 0, 0, 7], 0).into()));
    let told = client.expect_granted();
    client.expect(&refusal(6));
    drop(client);
    let line = wait_line(&path, "end=refused_06");
    for field in [format!("bnd={told}"), "rep=06".to_owned(), "connected=-".to_owned()] {
        assert!(line.split(' ').any(|it| it == field), "no {field} in {line}");
    }
}

/// The line with this field, once it is whole.
#[track_caller]
fn wait_line(path: &Path, field: &str) -> String {
    let find = || {
        let text = fs::read_to_string(path).unwrap_or_default();
        let is_it = |line: &&str| line.contains(field) && line.contains(" fault=");
        text.lines().find(is_it).map(str::to_owned)
    };
    wait_until("the line is written", || find().is_some());
    find().expect("it was there")
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
