//! A library that is slow, fails, or says what it should not: each token tells it what to do. Nobody
//! but the client whose token it was has anything of it.

use std::net::{IpAddr, Ipv4Addr};

use crate::client::{ABORT, CONTEXT, DATA, LEVEL, TOKEN_MAX, expect_aborted, frame, read_frame};
use crate::support::origin::Origin;
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::{connect_to, greeting, open_session};
use crate::support::stubs::{self, Stub};

/// Longer than anything of a test that does not sleep itself.
const ASLEEP: &[u8] = b"sleep=8000 ok";

const ANOTHER_CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

#[test]
fn a_session_is_granted() {
    let gateway = Gateway::start();
    let origin = Origin::start();
    for level in [1, 2] {
        let client = gateway.agreed(b"ok", level);
        client.send(&request(&origin, level == 2));
        let token = read_frame(&client, DATA);
        let (reply, is_encrypted, _) = stubs::open(&token);
        assert_eq!((&reply[..2], is_encrypted), (&[5, 0][..], level == 2));
        client.send(&frame(DATA, &stubs::seal(2, b"ping", level == 2)));
        origin.accept().expect(b"ping");
    }
}

#[test]
fn eight_legs_are_walked_and_no_ninth() {
    let gateway = Gateway::start();
    let last_of = |legs: usize| {
        let client = gateway.greeted();
        for _ in 1..legs {
            client.send(&frame(CONTEXT, b"continue"));
            client.expect(&frame(CONTEXT, b"reply"));
        }
        client.send(&frame(CONTEXT, b"ok"));
        client
    };
    last_of(8).expect(&frame(CONTEXT, b"reply"));
    expect_aborted(&last_of(9));
}

/// Once there is nothing left to say; before that a client could do nothing with it.
#[test]
fn an_answer_of_no_bytes_is_told_where_it_is_the_last() {
    let gateway = Gateway::start();
    let client = gateway.greeted();
    client.send(&frame(CONTEXT, b"ok answer=0"));
    client.expect(&frame(CONTEXT, b""));
    client.send(&frame(LEVEL, &stubs::seal(0, &[1], false)));
    assert_eq!(stubs::open(&read_frame(&client, LEVEL)).0, [1]);
    gateway.expect_refused(b"continue answer=0");
}

#[test]
fn an_answer_is_as_long_as_a_token_may_be() {
    let gateway = Gateway::start();
    let client = gateway.greeted();
    client.send(&frame(CONTEXT, b"ok answer=65535"));
    assert_eq!(read_frame(&client, CONTEXT).len(), TOKEN_MAX);
    gateway.expect_refused(b"ok answer=65536");
    gateway.expect_refused(b"continue answer=1000000");
}

#[test]
fn whatever_is_odd_about_a_context_it_is_refused() {
    let gateway = Gateway::start();
    let baseline = gateway.server.baseline();
    let tokens = [
        "major=851968",
        "major=589824 minor=7",
        "major=2",
        "major=16",
        "major=4294967295 minor=-1",
        "continue no-context",
        "ok no-context",
        "ok mech=other",
        "ok no-client",
        "ok nameless",
        "ok no-inquiry",
        "ok flags=0",
        "ok flags=60",
        "ok flags=58",
        "ok flags=30",
        "ok user=alice",
        "ok user=alice/admin@PROXY.TEST",
        "ok user=alice@OTHER.TEST",
        "unheard-of",
    ];
    for token in tokens {
        gateway.expect_refused(token.as_bytes());
    }
    baseline.assert_restored();
}

#[test]
fn a_level_that_cannot_be_opened_or_answered_is_refused() {
    let gateway = Gateway::start();
    for token in ["ok unwrap=fail", "ok unwrap=long", "ok wrap=fail", "ok wrap=empty"] {
        let client = gateway.established(token.as_bytes());
        client.send(&frame(LEVEL, &stubs::seal(0, &[2], false)));
        expect_aborted(&client);
    }
}

/// Rather than tell it to everybody.
#[test]
fn what_cannot_be_encrypted_is_not_told() {
    let gateway = Gateway::start();
    let baseline = gateway.server.baseline();
    let origin = Origin::start();
    let client = gateway.agreed(b"ok wrap=clear", 2);
    client.send(&request(&origin, true));
    let heard = client.read_to_end();
    assert!(heard.bytes.is_empty() || heard.bytes == ABORT, "{:02x?}", heard.bytes);
    drop(client);
    baseline.assert_restored();
}

#[test]
fn a_library_that_leaves_no_room_for_messages_ends_the_session() {
    let gateway = Gateway::start();
    let baseline = gateway.server.baseline();
    let origin = Origin::start();
    for limit in ["limit=0", "limit=fail"] {
        let client = gateway.agreed(format!("ok {limit}").as_bytes(), 1);
        client.send(&request(&origin, false));
        let heard = client.read_at_most(TOKEN_MAX);
        assert!(heard.len() < TOKEN_MAX, "messages without end");
        client.expect_silent_close();
        drop(client);
        baseline.assert_restored();
    }
}

/// Neither those who want no context, nor those who come from elsewhere.
#[test]
fn a_library_that_sleeps_keeps_nobody_else_waiting() {
    let gateway = Gateway::start_with(&[("RINGSOCKS_LISTEN_AUTH", "none+gssapi")]);
    let sleepers: Vec<Peer> = (0..10).map(|_| gateway.greeted()).collect();
    sleepers.iter().for_each(|client| client.send(&frame(CONTEXT, ASLEEP)));
    let origin = Origin::start();
    let client = open_session(gateway.server.address(), origin.address());
    client.send(b"ping");
    origin.accept().expect(b"ping");
    let other = gateway.greeted_from(ANOTHER_CLIENT);
    other.send(&frame(CONTEXT, b"ok"));
    other.expect(&frame(CONTEXT, b"reply"));
    assert!(sleepers.iter().all(|client| !client.has_input()), "they are served already");
}

#[test]
fn a_crowd_that_is_slow_to_prove_itself_is_served_in_turn() {
    let gateway = Gateway::start();
    let baseline = gateway.server.baseline();
    let clients: Vec<Peer> = (0..200).map(|_| gateway.greeted()).collect();
    clients.iter().for_each(|client| client.send(&frame(CONTEXT, b"sleep=20 ok")));
    clients.iter().for_each(|client| client.expect(&frame(CONTEXT, b"reply")));
    drop(clients);
    baseline.assert_restored();
}

#[test]
fn a_client_that_leaves_while_its_token_is_looked_at_leaves_nothing() {
    let gateway = Gateway::start();
    let baseline = gateway.server.baseline();
    for end in [Peer::reset, drop::<Peer>] {
        for _ in 0..10 {
            let client = gateway.greeted();
            client.send(&frame(CONTEXT, b"sleep=100 ok"));
            end(client);
        }
    }
    baseline.assert_restored();
}

/// The library is not interrupted: what it says later is for nobody.
#[test]
fn a_library_that_sleeps_too_long_does_not_move_the_deadline() {
    let gateway = Gateway::start_with(&[("RINGSOCKS_TIMEOUT_HANDSHAKE", "500ms")]);
    let baseline = gateway.server.baseline();
    let client = gateway.greeted();
    client.send(&frame(CONTEXT, b"sleep=3000 ok"));
    client.expect_silent_close();
    drop(client);
    let other = gateway.greeted_from(ANOTHER_CLIENT);
    other.send(&frame(CONTEXT, b"ok"));
    other.expect(&frame(CONTEXT, b"reply"));
    drop(other);
    baseline.assert_restored();
}

/// What comes behind a token waits until that has been looked at.
#[test]
fn what_is_pipelined_behind_a_slow_token_is_heard() {
    let gateway = Gateway::start();
    let origin = Origin::start();
    let messages = [
        greeting(&[1]),
        frame(CONTEXT, b"sleep=300 continue"),
        frame(CONTEXT, b"sleep=300 ok"),
        frame(LEVEL, &stubs::seal(0, &[1], false)),
        request(&origin, false),
        frame(DATA, &stubs::seal(2, b"early", false)),
    ];
    let client = Peer::connect(gateway.server.address());
    client.send(&messages.concat());
    client.fin();
    let target = origin.accept();
    target.expect(b"early");
    target.expect_eof();
}

#[test]
fn the_user_of_a_context_is_in_the_access_log() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("access.log");
    let file = path.to_str().expect("a path of ours");
    let rules = "*@PROXY.TEST=proxy-*";
    let env = [("RINGSOCKS_ACCESS_LOG", file), ("RINGSOCKS_GSSAPI_PRINCIPALS", rules)];
    let gateway = Gateway::start_with(&env);
    let origin = Origin::start();
    let client = gateway.agreed(b"user=alice@PROXY.TEST", 1);
    client.send(&request(&origin, false));
    read_frame(&client, DATA);
    drop((client, origin));
    crate::support::wait_until("the session is in the log", || {
        let lines = std::fs::read_to_string(&path).unwrap_or_default();
        lines.lines().any(|line| line.contains("user=proxy-alice"))
    });
}

/// The message of a client that has agreed on a level: number 1.
fn request(origin: &Origin, is_encrypted: bool) -> Vec<u8> {
    frame(DATA, &stubs::seal(1, &connect_to(origin.address()), is_encrypted))
}

/// A server with a library of its own.
struct Gateway {
    server: Server,
    _stub: Stub,
}

impl Gateway {
    #[track_caller]
    fn start() -> Gateway {
        Gateway::start_with(&[])
    }

    #[track_caller]
    fn start_with(env: &[(&str, &str)]) -> Gateway {
        let stub = Stub::build("gssapi");
        let library = stub.library().to_str().expect("a path of ours");
        let ours = [("RINGSOCKS_GSSAPI_LIBRARY", library), ("RINGSOCKS_GSSAPI_SERVICE", "rcmd")];
        let server = Server::start_with_env(&[], &[&ours[..], env].concat());
        Gateway { server, _stub: stub }
    }

    #[track_caller]
    fn greeted(&self) -> Peer {
        self.greeted_from(Ipv4Addr::LOCALHOST.into())
    }

    #[track_caller]
    fn greeted_from(&self, ip: IpAddr) -> Peer {
        let client = Peer::connect_from((ip, 0).into(), self.server.address());
        client.send(&greeting(&[1]));
        client.expect(&[5, 1]);
        client
    }

    #[track_caller]
    fn established(&self, token: &[u8]) -> Peer {
        let client = self.greeted();
        client.send(&frame(CONTEXT, token));
        client.expect(&frame(CONTEXT, b"reply"));
        client
    }

    /// A client whose next message is the request, number 1.
    #[track_caller]
    fn agreed(&self, token: &[u8], level: u8) -> Peer {
        let client = self.established(token);
        client.send(&frame(LEVEL, &stubs::seal(0, &[level], false)));
        let answer = read_frame(&client, LEVEL);
        let (agreed, is_encrypted, _) = stubs::open(&answer);
        assert_eq!((agreed, is_encrypted), (&[level][..], false));
        client
    }

    #[track_caller]
    fn expect_refused(&self, token: &[u8]) {
        let client = self.greeted();
        client.send(&frame(CONTEXT, token));
        expect_aborted(&client);
    }
}
