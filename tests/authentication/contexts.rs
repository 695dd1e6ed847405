//! Security contexts of a library that does what a token says (`tests/stubs/gssapi.c`).

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::logins::{GSSAPI, NO_METHOD, NONE, local, log_in_from, offer};
use crate::support::origin::{Origin, Service};
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::{connect_to, open_session};
use crate::support::stubs::{Stub, open, seal};
use crate::world::{PASSWORD, World, argon2id, text};

const CONTEXT: u8 = 1;
const LEVEL: u8 = 2;
const DATA: u8 = 3;

/// It sleeps as long as any test.
const FOR_EVER: &str = "sleep=600000";

/// What the stub says where it is told nothing else.
const REPLY: &[u8] = b"reply";

const MIB: u64 = 1024 * 1024;

/// A server whose clients may come in every way, unless `env` says otherwise, and a user.
fn serve(stub: &Stub, env: &[(&str, &str)]) -> World {
    let mut all = vec![
        ("RINGSOCKS_GSSAPI_LIBRARY", text(stub.library())),
        ("RINGSOCKS_GSSAPI_SERVICE", "rcmd"),
        ("RINGSOCKS_LISTEN_AUTH", "none+gssapi+password"),
    ];
    all.extend(env);
    World::start(&format!("alice:{}\n", argon2id()), &all)
}

fn frame(mtyp: u8, token: &[u8]) -> Vec<u8> {
    let len = u16::try_from(token.len()).expect("a token of 65,535 bytes at most");
    [&[1, mtyp], &len.to_be_bytes()[..], token].concat()
}

#[track_caller]
fn read_frame(client: &Peer, mtyp: u8) -> Vec<u8> {
    client.expect(&[1, mtyp]);
    let len = client.read_exact(2);
    client.read_exact(u16::from_be_bytes([len[0], len[1]]).into())
}

/// A client from there that has sent its first token.
#[track_caller]
pub(crate) fn begun(server: &Server, source: IpAddr, token: &str) -> Peer {
    let client = offer(server, source, &[GSSAPI], GSSAPI);
    client.send(&frame(CONTEXT, token.as_bytes()));
    client
}

/// A client whose context stands.
#[track_caller]
fn established(server: &Server, source: IpAddr) -> Peer {
    let client = begun(server, source, "ok");
    client.expect(&frame(CONTEXT, REPLY));
    client
}

/// A client whose context stands and protects, at level 1.
#[track_caller]
pub(crate) fn agreed(server: &Server, source: IpAddr) -> Peer {
    let client = established(server, source);
    client.send(&frame(LEVEL, &seal(0, &[1], false)));
    assert_eq!(open(&read_frame(&client, LEVEL)).0, [1]);
    client
}

/// A client that has agreed has itself connected.
#[track_caller]
fn expect_works(client: &Peer) {
    let origin = Origin::start();
    client.send(&frame(DATA, &seal(1, &connect_to(origin.address()), false)));
    assert_eq!(open(&read_frame(client, DATA)).0[..2], [5, 0]);
    origin.accept();
}

/// A sleeping library has as many threads as one source may, and the handshake its deadline.
#[test]
fn tokens_that_take_for_ever_hold_up_nobody_but_their_own_source() {
    const SLEEPERS: usize = 120;
    let stub = Stub::build("gssapi");
    let World { server, .. } = &serve(&stub, &[("RINGSOCKS_TIMEOUT_HANDSHAKE", "5s")]);
    let echo = Service::echo();
    let relaying = open_session(server.address(), echo.address());
    // What is made once is made now.
    assert!(log_in_from(local(1), server, b"alice", PASSWORD));
    established(server, local(1));
    let before = server.rss_anon();

    let sleepers: Vec<Peer> = (0..SLEEPERS).map(|_| begun(server, local(2), FOR_EVER)).collect();
    for _ in 0..10 {
        relaying.send(b"ping");
        relaying.expect(b"ping");
        expect_works(&agreed(server, local(1)));
        assert!(log_in_from(local(2), server, b"alice", PASSWORD));
        open_session(server.address(), echo.address());
    }
    let grown = server.rss_anon().saturating_sub(before);
    assert!(grown < 4 * MIB, "{grown} bytes");
    for sleeper in &sleepers {
        sleeper.expect_silent_close();
    }
    server.wait_counter("handshake_timeout", SLEEPERS as u64);
    assert_eq!(server.counters()["logins_failed"], 0);
    expect_works(&agreed(server, local(1)));
    relaying.send(b"ping");
    relaying.expect(b"ping");
}

/// Sources enough have every thread: nobody else gets a context then, and all the rest works.
#[test]
fn a_library_that_is_stuck_and_goes_on_is_there_again() {
    let stub = Stub::build("gssapi");
    let World { server, .. } = &serve(&stub, &[("RINGSOCKS_TIMEOUT_HANDSHAKE", "3s")]);
    let echo = Service::echo();
    let relaying = open_session(server.address(), echo.address());
    let threads = thread::available_parallelism().map_or(2, |it| it.get().max(2));
    let stuck: Vec<Peer> =
        (0..threads + 2).map(|n| begun(server, local(n as u8 + 2), "sleep=6000")).collect();
    let waiting = begun(server, local(1), "ok");
    for _ in 0..10 {
        relaying.send(b"ping");
        relaying.expect(b"ping");
        assert!(log_in_from(local(1), server, b"alice", PASSWORD));
        open_session(server.address(), echo.address());
    }
    stuck.iter().for_each(Peer::expect_silent_close);
    waiting.expect_silent_close();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let client = begun(server, local(1), "ok");
        if client.read_at_most(4) == frame(CONTEXT, REPLY)[..4] {
            break;
        }
        assert!(Instant::now() < deadline, "it never goes on");
    }
    relaying.send(b"ping");
    relaying.expect(b"ping");
}

/// Who has a context needs no way around it, and the next who comes from there may have none.
#[test]
fn a_context_lets_nobody_else_in_without() {
    let stub = Stub::build("gssapi");
    let env = [("RINGSOCKS_LISTEN_AUTH", "gssapi+password"), ("RINGSOCKS_AUTH_ONCE", "1h")];
    let World { server, .. } = &serve(&stub, &env);
    expect_works(&agreed(server, local(1)));
    offer(server, local(1), &[NONE], NO_METHOD);
    assert!(log_in_from(local(1), server, b"alice", PASSWORD));
    offer(server, local(1), &[NONE], NONE);
}
