//! `auth_once`: an address that has logged in may come without, for a while.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::methods::{chosen, serve};
use crate::support::logins::{NO_METHOD, NONE, PASSWORD as BY_PASSWORD, local, log_in_from, offer};
use crate::support::origin::Origin;
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::{CONNECT, connect_to, socks4};
use crate::support::stubs::Stub;
use crate::support::wait_until;
use crate::world::{PASSWORD, World};

const USERS: &str = "alice:plain:canary-wonder\nbob:plain:canary-wonder\n";

/// As long as any test.
const LONG: (&str, &str) = ("RINGSOCKS_AUTH_ONCE", "1h");

#[track_caller]
fn log_in(server: &Server, host: u8, user: &[u8]) {
    assert!(log_in_from(local(host), server, user, PASSWORD));
}

fn socks4_client(server: &Server, host: u8, target: SocketAddr) -> Peer {
    let client = Peer::connect_from((local(host), 0).into(), server.address());
    let localhost = Ipv4Addr::LOCALHOST.octets();
    client.send(&socks4(CONNECT, localhost, target.port(), b"mallory", None));
    client
}

#[track_caller]
fn expect_out(server: &Server, host: u8) {
    offer(server, local(host), &[NONE], NO_METHOD).expect_eof();
    socks4_client(server, host, server.address()).expect_silent_close();
}

/// A session without a login, whose user is known; where its target is.
#[track_caller]
fn expect_in(server: &Server, host: u8) -> SocketAddr {
    let origin = Origin::start();
    let client = offer(server, local(host), &[NONE], NONE);
    client.send(&connect_to(origin.address()));
    client.expect_granted();
    origin.address()
}

#[test]
fn by_default_everybody_logs_in_each_time() {
    let world = World::start(USERS, &[]);
    log_in(&world.server, 1, b"alice");
    expect_out(&world.server, 1);
}

#[test]
fn an_address_that_has_logged_in_comes_without_as_its_user() {
    let world = World::start(USERS, &[LONG]);
    expect_out(&world.server, 1);
    log_in(&world.server, 1, b"alice");
    log_in(&world.server, 2, b"bob");
    let target = expect_in(&world.server, 1);
    let line = world.access_line(&format!("target={target}"));
    assert!(line.contains(" user=alice ") && line.contains(" client=127.0.0.1:"), "{line}");
    let target = expect_in(&world.server, 2);
    let line = world.access_line(&format!("target={target}"));
    assert!(line.contains(" user=bob ") && line.contains(" client=127.0.0.2:"), "{line}");
    expect_out(&world.server, 3);
}

/// SOCKS4 has a field for a name and nothing to prove it with: it is not who it says it is.
#[test]
fn socks4_is_spoken_with_an_address_that_has_logged_in() {
    let world = World::start(USERS, &[LONG]);
    log_in(&world.server, 1, b"alice");
    let origin = Origin::start();
    let client = socks4_client(&world.server, 1, origin.address());
    client.expect_socks4_granted();
    let field = format!("target={}", origin.address());
    drop((client, origin));
    let line = world.access_line(&field);
    assert!(line.contains(" user=alice ") && !line.contains("mallory"), "{line}");
}

/// A password is asked for where it can be told, and the last one who has logged in counts.
#[test]
fn who_can_log_in_does() {
    let world = World::start(USERS, &[LONG]);
    log_in(&world.server, 1, b"alice");
    offer(&world.server, local(1), &[NONE, BY_PASSWORD], BY_PASSWORD);
    log_in(&world.server, 1, b"bob");
    let target = expect_in(&world.server, 1);
    let line = world.access_line(&format!("target={target}"));
    assert!(line.contains(" user=bob "), "{line}");
}

#[test]
fn who_failed_has_not_logged_in() {
    let world = World::start(USERS, &[LONG]);
    assert!(!log_in_from(local(1), &world.server, b"alice", b"canary-guess"));
    expect_out(&world.server, 1);
}

#[test]
fn it_ends_in_time_and_coming_without_prolongs_nothing() {
    let world = World::start(USERS, &[("RINGSOCKS_AUTH_ONCE", "3s")]);
    let before = Instant::now();
    log_in(&world.server, 1, b"alice");
    expect_in(&world.server, 1);
    let is_in = || {
        let client = Peer::connect(world.server.address());
        client.send(&[5, 1, 0]);
        client.read_exact(2) == [5, 0]
    };
    while is_in() {
        assert!(before.elapsed() < Duration::from_secs(60), "it never ends");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(before.elapsed() >= Duration::from_secs(3));
    log_in(&world.server, 1, b"alice");
    expect_in(&world.server, 1);
}

#[test]
fn when_users_are_read_again_everybody_logs_in_again() {
    let world = World::start(USERS, &[LONG]);
    log_in(&world.server, 1, b"alice");
    expect_in(&world.server, 1);
    world.server.signal(Signal::HUP);
    world.server.wait_line("users and groups are read again");
    // It is said before every reactor has heard of it.
    wait_until("nobody is in without", || chosen(&world.server, 0, 1, &[NONE]) == NO_METHOD);
    log_in(&world.server, 1, b"alice");
    expect_in(&world.server, 1);
}

/// A password opens no door that it would not open if it were said there.
#[test]
fn it_helps_only_where_the_login_would() {
    let stub = Stub::build("gssapi");
    let more = format!(
        "auth_once = \"1h\"\ngroups = {{ staff = [\"bob\"] }}\n\
         [gssapi]\nlibrary = \"{}\"\nservice = \"rcmd\"",
        stub.library().display()
    );
    let server = serve(
        &[
            "{ methods = [\"password\"] }",
            "{ methods = [\"gssapi\"] }",
            "{ methods = [\"password\"], groups = [\"staff\"] }",
            "{ from = \"127.0.0.2\", methods = [\"password\"] }",
        ],
        &more,
    );
    log_in(&server, 1, b"alice");
    let doors = || [0, 1, 2, 3].map(|at| chosen(&server, at, 1, &[NONE]) == NONE);
    assert_eq!(doors(), [true, false, false, false]);
    log_in(&server, 1, b"bob");
    assert_eq!(doors(), [true, false, true, false]);
}
