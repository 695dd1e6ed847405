//! System calls that fail: `strace` makes the very calls fail that the reactors make.
//!
//! It takes hold of them when the server serves, and `when=FIRST+STEP` counts from there, each
//! reactor's calls apart.

use std::cell::Cell;
use std::net::TcpStream;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::support::origin::{ClosedPort, Origin, Service};
use crate::support::peer::{End, Peer};
use crate::support::server::Server;
use crate::support::socks::{connect_to, greeting, open_session, request_session};
use crate::support::strace::{Strace, reactors};
use crate::support::{assert_carries_whole, finish, session, wait_until};
use crate::workers_possible;

/// A server, and the `strace` that makes its calls fail.
pub(crate) struct Faulty {
    // First, for it has hold of the other.
    strace: Cell<Option<Strace>>,
    server: Server,
}

impl Faulty {
    /// One reactor, of which calls of `call` meet this `fault`.
    pub(crate) fn new(call: &str, fault: &str) -> Faulty {
        Faulty::start(1, &[], call, fault)
    }

    /// The same, and what it relays it receives and sends.
    fn copying(call: &str, fault: &str) -> Faulty {
        Faulty::start(1, &[("RINGSOCKS_RELAY", "copy")], call, fault)
    }

    /// As many reactors, with these variables.
    pub(crate) fn start(workers: usize, env: &[(&str, &str)], call: &str, fault: &str) -> Faulty {
        let server = Server::start_with_env(&["--workers", &workers.to_string()], env);
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{fault}"));
        let args = ["-o", "/dev/null", "-e", &trace, "-e", &inject];
        let strace = Strace::attach(&reactors(&server, workers), &args);
        Faulty { strace: Cell::new(Some(strace)), server }
    }

    /// From now on every call is what it was.
    pub(crate) fn heal(&self) {
        self.strace.take();
    }
}

impl Deref for Faulty {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Faulty {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

#[test]
#[ignore = "needs root: tests/run"]
fn an_accept_that_fails_now_and_then_loses_no_client() {
    let for_want = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"];
    let for_its_client = ["ECONNABORTED", "EINTR", "EPROTO", "EPERM", "ENETDOWN"];
    for errno in for_want.iter().chain(&for_its_client) {
        let server = Faulty::new("accept4", &format!("error={errno}:when=3+5"));
        let baseline = server.baseline();
        let clients: Vec<Peer> = (0..30).map(|_| Peer::connect(server.address())).collect();
        for client in &clients {
            client.send(&greeting(&[0]));
            client.expect(&[5, 0]);
        }
        drop(clients);
        baseline.assert_at_rest();
        let counters = server.counters();
        let counter = if for_want.contains(errno) { "parks" } else { "accept_errors" };
        assert!(counters[counter] > 0, "{errno} was not counted: {counters:?}");
    }
}

#[test]
#[ignore = "needs root: tests/run"]
fn accepts_that_fail_for_a_while_are_made_up_for() {
    let server = Faulty::new("accept4", "error=ENFILE:when=2..12");
    let baseline = server.baseline();
    let (client, target) = session(&server);
    let waiting = Peer::connect(server.address());
    waiting.send(&greeting(&[0]));
    server.wait_counters("the listener is parked again", |counters| counters["parks"] > 3);
    client.send(b"unharmed");
    target.expect(b"unharmed");
    waiting.expect(&[5, 0]);
    drop((client, target, waiting));
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_client_for_whom_there_is_no_socket_hears_01_and_the_next_is_served() {
    for (call, errno, when) in [
        ("socket", "EMFILE", "1+2"),
        ("socket", "ENFILE", "1+2"),
        ("socket", "ENOBUFS", "1+2"),
        ("socket", "ENOMEM", "1+2"),
        ("connect", "ENOBUFS", "1+2"),
        ("connect", "ENOMEM", "1+2"),
        ("connect", "EADDRNOTAVAIL", "1+2"),
        ("setsockopt", "ENOBUFS", "1+2"),
    ] {
        let server = Faulty::new(call, &format!("error={errno}:when={when}"));
        let baseline = server.baseline();
        let echo = Service::echo();
        let (mut served, mut refused) = (0, 0);
        while served < 3 || refused < 3 {
            let client = request_session(server.address(), echo.address());
            if client.expect_reply().rep == 1 {
                client.expect_eof();
                refused += 1;
            } else {
                client.send(b"ping");
                client.expect(b"ping");
                served += 1;
            }
            assert!(served + refused < 50, "{call} {errno}: {served} served, {refused} refused");
        }
        baseline.assert_at_rest();
        assert_eq!(server.counters()["refused_01"], refused, "{call} {errno}");
    }
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_client_whose_bnd_cannot_be_told_hears_01() {
    let server = Faulty::new("getsockname", "error=ENOBUFS:when=2");
    let baseline = server.quiet_baseline();
    let echo = Service::echo();
    let first = open_session(server.address(), echo.address());
    request_session(server.address(), echo.address()).expect_refused(1);
    let third = open_session(server.address(), echo.address());
    drop((first, third));
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn who_cannot_be_watched_is_closed_or_refused_and_the_next_is_served() {
    let (mut closed, mut refused, mut served) = (0, 0, 0);
    // Whether a client's or a target's socket is hit first decides what is hit ever after.
    for first in [7, 8] {
        let server = Faulty::new("epoll_ctl", &format!("error=ENOSPC:when={first}+3"));
        let baseline = server.baseline();
        let echo = Service::echo();
        for _ in 0..20 {
            let client = Peer::connect(server.address());
            if client.try_send(&greeting(&[0])).is_err() || client.read_at_most(2) != [5, 0] {
                closed += 1;
                continue;
            }
            client.send(&connect_to(echo.address()));
            match client.expect_reply().rep {
                0 => served += 1,
                1 => refused += 1,
                rep => panic!("REP {rep:02x}"),
            }
        }
        baseline.assert_at_rest();
    }
    assert!(closed > 5 && refused > 0 && served > 5, "{closed}, {refused}, {served}");
}

#[test]
#[ignore = "needs root: tests/run"]
fn interrupted_calls_change_no_byte() {
    for call in ["recvfrom", "sendto", "accept4", "/epoll_p?wait"] {
        assert_bytes_whole(call, "error=EINTR:when=2+3");
    }
}

#[test]
#[ignore = "needs root: tests/run"]
fn calls_that_fail_for_want_of_memory_change_no_byte() {
    for (call, errno) in [
        ("sendto", "EAGAIN"),
        ("sendto", "ENOBUFS"),
        ("sendto", "ENOMEM"),
        ("recvfrom", "ENOBUFS"),
        ("recvfrom", "ENOMEM"),
    ] {
        assert_bytes_whole(call, &format!("error={errno}:when=5+15"));
    }
}

/// 1 MiB in each direction at once, and every byte arrives.
#[track_caller]
fn assert_bytes_whole(call: &str, fault: &str) {
    let server = Faulty::new(call, fault);
    let baseline = server.baseline();
    assert_carries_whole(&server, 1 << 20, &format!("{call}:{fault}"));
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_receive_that_fails_for_good_is_a_reset_on_both_sides() {
    for errno in ["ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH"] {
        // Behind the greeting and the request.
        let server = Faulty::copying("recvfrom", &format!("error={errno}:when=3+"));
        let baseline = server.baseline();
        let (client, target) = session(&server);
        client.send(b"unreadable");
        assert_eq!(target.read_to_end().end, End::Reset, "{errno}");
        assert_eq!(client.read_to_end().end, End::Reset, "{errno}");
        baseline.assert_at_rest();
        assert_eq!(server.counters()["client_reset"], 1, "{errno}");
    }
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_write_to_who_is_gone_ends_the_session_and_nothing_else() {
    for errno in ["EPIPE", "ECONNRESET", "ETIMEDOUT"] {
        // Behind the method and the reply: the first bytes for the target.
        let server = Faulty::copying("sendto", &format!("error={errno}:when=3"));
        let baseline = server.quiet_baseline();
        let (client, target) = session(&server);
        client.send(b"unsendable");
        target.fin();
        assert!(target.read_to_end().bytes.is_empty(), "{errno}");
        drop((client, target));
        let (client, target) = session(&server);
        finish(client, &target);
        baseline.assert_at_rest();
    }
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_reply_that_cannot_be_written_is_given_up() {
    let env = [
        ("RINGSOCKS_TIMEOUT_HANDSHAKE", "1s"),
        ("RINGSOCKS_TIMEOUT_CLOSING", "300ms"),
        ("RINGSOCKS_TIMEOUT_IDLE", "1s"),
    ];
    let (origin, closed) = (Origin::start(), ClosedPort::everywhere());
    for target in [origin.address(), closed.address()] {
        // The method is the one thing that can be sent.
        let server = Faulty::start(1, &env, "sendto", "error=EAGAIN:when=2+");
        let baseline = server.quiet_baseline();
        request_session(server.address(), target).expect_silent_close();
        // The handler of a signal sends too.
        server.heal();
        baseline.assert_at_rest();
    }
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_reactor_that_cannot_go_on_ends_the_process() {
    let fault = "error=EBADF:when=20+";
    assert_dies(Faulty::start(workers_possible(2), &[], "/epoll_p?wait", fault));
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_reactor_that_crashes_takes_the_process_along() {
    // Rust's own handler takes the first SIGSEGV for an overflow of the stack.
    for signal in ["SEGV", "ABRT"] {
        let fault = format!("signal={signal}:when=5+");
        assert_dies(Faulty::start(workers_possible(2), &[], "recvfrom", &fault));
    }
}

/// With one reactor the whole process is gone: nobody waits for ever in the queue of a dead one.
#[track_caller]
fn assert_dies(mut server: Faulty) {
    let address = server.address();
    wait_until("new clients are refused", || {
        if let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_secs(5)) {
            let client = Peer::from(stream);
            // The server may be dying under it.
            let _ = client.try_send(&greeting(&[0]));
            client.read_at_most(2);
            return false;
        }
        true
    });
    assert!(!server.wait_exit().success(), "it said that all was well");
}
