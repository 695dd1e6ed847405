//! Signals at bad times.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::origin::Service;
use crate::support::server::Server;
use crate::support::socks::open_session;
use crate::support::{finish, random_bytes, session, wait_until};

/// None of them means to stop.
const HARMLESS: [Signal; 7] = [
    Signal::HUP,
    Signal::USR1,
    Signal::PIPE,
    Signal::CHILD,
    Signal::WINCH,
    Signal::URG,
    Signal::CONT,
];

#[test]
fn a_storm_of_signals_during_the_drain_confuses_nobody() {
    let mut server = Server::start(&["--drain", "1h"]);
    let (client, target) = session(&server);
    server.signal(Signal::TERM);
    wait_until("new clients are refused", || TcpStream::connect(server.address()).is_err());
    storm(&server, || {
        client.send(b"ping");
        target.expect(b"ping");
    });
    finish(client, &target);
    assert_eq!(server.wait_exit().code(), Some(0));
    assert_eq!(server.last_counters()["finished"], 1);
}

#[test]
fn a_storm_of_signals_under_load_confuses_nobody() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let echo = Service::echo();
    storm(&server, || {
        let client = open_session(server.address(), echo.address());
        client.send(b"ping");
        client.expect(b"ping");
    });
    baseline.assert_at_rest();
}

#[test]
fn a_second_signal_ends_the_drain_in_the_middle_of_a_storm() {
    let mut server = Server::start(&["--drain", "1h"]);
    let (client, target) = session(&server);
    server.signal(Signal::TERM);
    wait_until("new clients are refused", || TcpStream::connect(server.address()).is_err());
    storm(&server, || {});
    server.signal(Signal::INT);
    assert_eq!(server.wait_exit().code(), Some(0));
    client.expect_reset();
    target.expect_reset();
}

/// Hundreds of signals in no order, and something done between them.
fn storm(server: &Server, mut between: impl FnMut()) {
    for byte in random_bytes(8, 500) {
        server.signal(HARMLESS[usize::from(byte) % HARMLESS.len()]);
        if byte % 8 == 0 {
            between();
            thread::sleep(Duration::from_millis(1));
        }
    }
}
