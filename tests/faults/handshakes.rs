//! Clients that misuse the handshake.

use std::thread;

use crate::support::origin::{ClosedPort, DeafTarget};
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::{connect_to, connect_to_name, credentials, greeting, socks4};
use crate::support::wait_until;

const MIB: usize = 1 << 20;

#[test]
fn whatever_follows_a_prefix_of_a_handshake_the_session_ends() {
    let env = [("RINGSOCKS_TIMEOUT_HANDSHAKE", "500ms"), ("RINGSOCKS_TIMEOUT_IDLE", "1s")];
    let open = Server::start_with_env(&[], &env);
    let login = Server::start_with_env(&["-u", "alice:canary-7f3a"], &env);
    let closed = ClosedPort::everywhere().address();
    let request = connect_to(closed);
    assert_every_prefix_ends(&open, &[greeting(&[0]), request.clone()]);
    assert_every_prefix_ends(
        &open,
        &[greeting(&[0, 2]), connect_to_name(b"127.0.0.1", closed.port())],
    );
    assert_every_prefix_ends(
        &open,
        &[socks4(1, [0, 0, 0, 1], closed.port(), b"user", Some(b"127.0.0.1"))],
    );
    assert_every_prefix_ends(
        &login,
        &[greeting(&[2]), credentials(b"alice", b"canary-7f3a"), request],
    );
}

/// Behind each prefix of the messages: a FIN, a reset, or nothing more.
#[track_caller]
fn assert_every_prefix_ends(server: &Server, messages: &[Vec<u8>]) {
    let baseline = server.baseline();
    let whole = messages.concat();
    let mut silent = Vec::new();
    for len in 0..=whole.len() {
        let begun = || {
            let client = Peer::connect(server.address());
            client.send(&whole[..len]);
            client
        };
        silent.push(begun());
        begun().reset();
        let client = begun();
        client.fin();
        // Every message that came is answered, and no more than that: 05 05, 01 00, a reply.
        assert!(client.read_to_end().bytes.len() <= 2 * (messages.len() - 1) + 10);
    }
    for client in silent {
        assert!(client.read_to_end().bytes.len() <= 2 * (messages.len() - 1) + 10);
    }
    baseline.assert_at_rest();
}

#[test]
fn a_hundred_mebibytes_nobody_asked_for_cost_no_memory() {
    let env = [("RINGSOCKS_TIMEOUT_HANDSHAKE", "2s"), ("RINGSOCKS_TIMEOUT_CONNECT", "2s")];
    let server = Server::start_with_env(&["--workers", "1"], &env);
    let baseline = server.baseline();
    let deaf = DeafTarget::start();
    let before = server.rss_anon();
    let prefixes = [
        vec![],
        greeting(&[0]),
        [greeting(&[0]), vec![5, 1, 0, 3, 255]].concat(),
        [greeting(&[0]), connect_to(deaf.address())].concat(),
        vec![4, 1, 0, 80, 127, 0, 0, 1],
    ];
    thread::scope(|scope| {
        for prefix in &prefixes {
            let client = Peer::connect(server.address());
            scope.spawn(move || {
                let chunk = vec![b'x'; MIB];
                // The server does not wait for all of it.
                let sent = client.try_send(prefix).is_ok()
                    && (0..100).all(|_| client.try_send(&chunk).is_ok());
                assert!(!sent, "somebody took a hundred MiB");
            });
        }
        wait_until("the last of them waits", || server.counters()["connecting"] == 1);
        let grown = server.rss_anon().saturating_sub(before);
        assert!(grown < MIB as u64, "{grown} bytes");
    });
    let grown = server.rss_anon().saturating_sub(before);
    assert!(grown < MIB as u64, "{grown} bytes");
    baseline.assert_at_rest();
}

#[test]
fn garbage_is_counted_and_floods_no_log() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let lines = server.stderr().len();
    let garbage: [&[u8]; 10] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:443 HTTP/1.1\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"EHLO x\r\n",
        b"\x00\x00\x00\x00",
        b"\xff\xff\xff\xff\xff",
        b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n",
        b"\x03\x00\x00\x13\x0e\xe0",
        b"*1\r\n$4\r\nPING\r\n",
    ];
    for noise in garbage.iter().cycle().take(500) {
        let client = Peer::connect(server.address());
        client.send(noise);
        client.expect_silent_close();
    }
    baseline.assert_at_rest();
    assert_eq!(server.counters()["noise"], 500);
    let said: Vec<String> = server.stderr().split_off(lines);
    assert!(said.iter().all(|line| line.contains("counters ")), "{said:#?}");
}

#[test]
fn a_client_that_logs_in_and_vanishes_is_freed_at_the_deadline() {
    let env = [("RINGSOCKS_TIMEOUT_HANDSHAKE", "500ms")];
    let server = Server::start_with_env(&["-u", "alice:canary-7f3a"], &env);
    let baseline = server.baseline();
    let clients: Vec<Peer> = (0..50)
        .map(|_| {
            let client = Peer::connect(server.address());
            client.send(&greeting(&[2]));
            client.expect(&[5, 2]);
            client.send(&credentials(b"alice", b"canary-7f3a"));
            client.expect(&[1, 0]);
            client
        })
        .collect();
    baseline.assert_at_rest();
    server.wait_counter("handshake_timeout", 50);
    clients.iter().for_each(Peer::expect_silent_close);
}
