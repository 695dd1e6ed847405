//! Which of a name's addresses is connected to (RFC 8305), and what is told if none is.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::dns::message::{A, AAAA};
use crate::support::dns::{Nameserver, Response};
use crate::support::finish;
use crate::support::origin::{DeafTarget, Origin};
use crate::support::peer::Peer;
use crate::support::socks::request_name;
use crate::support::wait_until;
use crate::wire::Begun;
use crate::world::{PORT, V6_INTERNET, World, ip, v4, v6};

/// "Resolution Delay" and "Connection Attempt Delay" (RFC 8305 section 8).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
const ATTEMPTS_MAX: usize = 8;

/// Deadlines that no test waits for.
const PATIENT: [(&str, &str); 2] =
    [("RINGSOCKS_TIMEOUT_RESOLVE", "25s"), ("RINGSOCKS_TIMEOUT_CONNECT", "25s")];

/// How late a family is that nobody waits for.
const LATE: Duration = Duration::from_secs(3);

/// The name has both of these addresses, and one family is told late.
fn one_late(nameserver: &Nameserver, name: &str, late: u16) {
    nameserver.script(name, move |question| {
        let both = question.addresses(&[&v4(1), &v6(1)]);
        let after = if question.kind == late { LATE } else { Duration::ZERO };
        Response::from(both).after(after)
    });
}

/// The client and `origin` are the two ends of one session, and there is no other.
#[track_caller]
fn assert_one_session(client: Peer, origin: &Origin) {
    let target = origin.accept();
    client.send(b"here");
    target.expect(b"here");
    origin.expect_nobody();
    finish(client, &target);
}

/// The addresses that were tried, in order.
fn tried(world: &World) -> Vec<Begun> {
    world.wire.begun_to(|to| to.port() == PORT)
}

fn addresses(begun: &[Begun]) -> Vec<String> {
    begun.iter().map(|it| it.to.ip().to_string()).collect()
}

#[test]
#[ignore = "needs root: tests/run"]
fn v4_waits_a_moment_for_v6_and_no_longer() {
    let world = World::new();
    let origin = world.origin(&v4(1));
    one_late(&world.nameserver, "late.example", AAAA);
    let server = world.server(&PATIENT);
    let baseline = server.baseline();
    let started = Instant::now();
    let client = world.ask(&server, "late.example");
    assert!(client.expect_granted().is_ipv4());
    let took = started.elapsed();
    assert!(took >= RESOLUTION_DELAY, "granted after {took:?}");
    assert!(took < LATE, "it waited for the other family: {took:?}");
    assert_one_session(client, &origin);
    assert_eq!(addresses(&tried(&world)), [v4(1)]);
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn v6_that_comes_within_the_moment_is_first() {
    let world = World::new();
    let (v4_origin, v6_origin) = (world.origin(&v4(1)), world.origin(&v6(1)));
    world.nameserver.script("both.example", |question| {
        let both = question.addresses(&[&v4(1), &v6(1)]);
        let late = if question.kind == A { 0 } else { 10 };
        Response::from(both).after(Duration::from_millis(late))
    });
    let server = world.server(&PATIENT);
    let baseline = server.baseline();
    let client = world.ask(&server, "both.example");
    assert!(client.expect_granted().is_ipv6());
    assert_one_session(client, &v6_origin);
    v4_origin.expect_nobody();
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn v6_waits_for_nobody() {
    let world = World::new();
    let origin = world.origin(&v6(1));
    one_late(&world.nameserver, "late.example", A);
    let server = world.server(&PATIENT);
    let baseline = server.baseline();
    let started = Instant::now();
    let client = world.ask(&server, "late.example");
    assert!(client.expect_granted().is_ipv6());
    assert!(started.elapsed() < LATE, "it waited for the other family");
    assert_one_session(client, &origin);
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_host_without_v6_waits_for_nobody() {
    let world = World::without_v6();
    let origin = world.origin(&v4(1));
    world.nameserver.script_others(|question| match question.kind {
        A => question.addresses(&[&v4(1)]).into(),
        _ => Response::from(question.addresses(&[])).after(LATE),
    });
    let server = world.server(&PATIENT);
    let baseline = server.baseline();
    let times = (0..20).map(|n| {
        let started = Instant::now();
        let client = world.ask(&server, &format!("{n}.example"));
        client.expect_granted();
        let took = started.elapsed();
        assert_one_session(client, &origin);
        took
    });
    // Any of them may be late, but not all.
    let least = times.min().expect("twenty times");
    assert!(least < RESOLUTION_DELAY, "at least {least:?}");
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_host_without_v6_tries_v4_first() {
    let world = World::without_v6();
    let origin = world.origin(&v4(1));
    world.nameserver.script("both.example", |question| {
        let late = if question.kind == A { 20 } else { 0 };
        let both = question.addresses(&[&v6(1), &v4(1)]);
        Response::from(both).after(Duration::from_millis(late))
    });
    let server = world.server(&PATIENT);
    let baseline = server.baseline();
    let client = world.ask(&server, "both.example");
    assert!(client.expect_granted().is_ipv4());
    assert_one_session(client, &origin);
    assert_eq!(addresses(&tried(&world)), [v4(1)]);
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn the_route_to_v6_may_come_and_go() {
    let world = World::without_v6();
    let origins = [world.origin(&v4(1)), world.origin(&v6(1))];
    world.nameserver.script_others(|question| question.addresses(&[&v4(1), &v6(1)]));
    let server = world.server(&PATIENT);
    let baseline = server.baseline();
    let mut n = 0;
    let mut family_is_v6 = || {
        n += 1;
        let is_v6 = world.ask(&server, &format!("{n}.example")).expect_granted().is_ipv6();
        drop(origins[usize::from(is_v6)].accept());
        is_v6
    };
    assert!(!family_is_v6());
    world.lan.gateway.run(&format!("ip route add {V6_INTERNET}"));
    wait_until("v6 comes first", &mut family_is_v6);
    world.lan.gateway.run(&format!("ip route delete {V6_INTERNET}"));
    wait_until("v4 comes first", || !family_is_v6());
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_blackholed_v6_costs_a_quarter_of_a_second() {
    let world = World::new();
    let origin = world.origin(&v4(1));
    world.nameserver.addresses("both.example", &[&v4(1), &v6(1)]);
    let server = world.server(&PATIENT);
    let baseline = server.baseline();
    let started = Instant::now();
    let client = world.ask(&server, "both.example");
    assert!(client.expect_granted().is_ipv4());
    let took = started.elapsed();
    assert!(took >= ATTEMPT_DELAY, "granted after {took:?}");
    assert!(took < Duration::from_millis(2500), "granted after {took:?}");
    assert_eq!(addresses(&tried(&world)), [v6(1), v4(1)]);
    // The loser is closed: were it not, it would get through now with its next SYN.
    wait_until("the loser is closed", || server.fds() == baseline.fds() + 2);
    let loser = world.origin(&v6(1));
    loser.expect_nobody_for(Duration::from_millis(1500));
    assert_one_session(client, &origin);
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn of_many_dead_addresses_eight_are_tried_in_turn() {
    let world = World::new();
    let dead: Vec<String> = (1..=6).flat_map(|n| [v6(n), v4(n)]).collect();
    let all: Vec<&str> = dead.iter().map(String::as_str).collect();
    world.nameserver.addresses("dead.example", &all);
    let server = world.server(&[("RINGSOCKS_TIMEOUT_CONNECT", "5s")]);
    let baseline = server.baseline();
    let started = Instant::now();
    let client = world.ask(&server, "dead.example");
    client.expect_refused(6);
    assert!(started.elapsed() >= Duration::from_secs(5), "refused too early");
    let tried = tried(&world);
    assert_eq!(addresses(&tried), dead[..ATTEMPTS_MAX]);
    for (n, attempt) in tried.iter().enumerate() {
        let after = attempt.at - started;
        assert!(after >= ATTEMPT_DELAY * n as u32, "attempt {n} after {after:?}");
    }
    drop(client);
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn of_many_refusing_addresses_eight_are_tried_without_a_pause() {
    let world = World::new();
    let refusing: Vec<String> = (1..=6).flat_map(|n| [v6(n), v4(n)]).collect();
    world.has(&refusing);
    let all: Vec<&str> = refusing.iter().map(String::as_str).collect();
    world.nameserver.addresses("refusing.example", &all);
    let server = world.server(&PATIENT);
    let baseline = server.baseline();
    let started = Instant::now();
    world.ask(&server, "refusing.example").expect_refused(5);
    let took = started.elapsed();
    assert!(took < ATTEMPT_DELAY * (ATTEMPTS_MAX as u32 - 1), "refused after {took:?}");
    assert_eq!(addresses(&tried(&world)), refusing[..ATTEMPTS_MAX]);
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn each_family_keeps_the_order_of_its_answer() {
    let world = World::new();
    let origin = world.origin(&v4(9));
    world.has(&[v4(3), v4(7), v6(5), v6(2)]);
    let answer = [v4(7), v4(3), v4(9), v6(5), v6(2)];
    let all: Vec<&str> = answer.iter().map(String::as_str).collect();
    world.nameserver.addresses("ordered.example", &all);
    let server = world.server(&PATIENT);
    let baseline = server.baseline();
    let client = world.ask(&server, "ordered.example");
    client.expect_granted();
    assert_one_session(client, &origin);
    assert_eq!(addresses(&tried(&world)), [v6(5), v4(7), v6(2), v4(3), v4(9)]);
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn the_client_hears_what_tells_it_most() {
    let world = World::new();
    let (refusing, dead, private) = (v4(1), v4(2), "192.168.9.9".to_owned());
    let private_too = "10.9.9.9".to_owned();
    let (unreachable, no_route, forbidden) = (v4(3), v4(4), v4(5));
    world.has(std::slice::from_ref(&refusing));
    world.lan.gateway.run(&format!(
        "ip route add unreachable {unreachable}
         ip route add throw {no_route}
         ip route add prohibit {forbidden}"
    ));
    let server = world
        .server(&[("RINGSOCKS_LISTEN_TARGETS", "public"), ("RINGSOCKS_TIMEOUT_CONNECT", "1500ms")]);
    let baseline = server.baseline();
    let by_information =
        [(&refusing, 5), (&dead, 6), (&unreachable, 4), (&no_route, 3), (&private, 2)];
    let mut cases: Vec<(Vec<&String>, u8)> = vec![
        (by_information.iter().rev().map(|(address, _)| *address).collect(), 5),
        (vec![&private, &private_too], 2),
        (vec![&forbidden], 2),
        (vec![&forbidden, &no_route], 3),
    ];
    for (n, (more, rep)) in by_information.iter().enumerate() {
        cases.push((vec![more], *rep));
        for (less, _) in &by_information[n + 1..] {
            cases.push((vec![more, less], *rep));
            cases.push((vec![less, more], *rep));
        }
    }
    // Most of them take as long as they may: they do so beside each other.
    let ask = |(n, (addresses, rep)): (usize, &(Vec<&String>, u8))| {
        let all: Vec<&str> = addresses.iter().map(|it| it.as_str()).collect();
        let name = format!("case-{n}.example");
        world.nameserver.addresses(&name, &all);
        (world.ask(&server, &name), all.join(" "), *rep)
    };
    let asked: Vec<(Peer, String, u8)> = cases.iter().enumerate().map(ask).collect();
    for (client, addresses, rep) in &asked {
        assert_eq!(client.expect_reply().rep, *rep, "{addresses}");
    }
    drop(asked);
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn an_address_that_comes_late_is_tried_when_all_others_have_failed() {
    let world = World::new();
    let origin = world.origin(&v6(1));
    world.has(&[v4(1)]);
    for (name, first) in [("refused.example", v4(1)), ("dead.example", v4(2))] {
        world.nameserver.script(name, move |question| match question.kind {
            AAAA => {
                let late = question.addresses(&[&v6(1)]);
                Response::from(late).after(Duration::from_millis(600))
            }
            _ => question.addresses(&[&first]).into(),
        });
    }
    let server = world.server(&PATIENT);
    let baseline = server.baseline();
    for name in ["refused.example", "dead.example"] {
        let started = Instant::now();
        let client = world.ask(&server, name);
        assert!(client.expect_granted().is_ipv6(), "{name}");
        assert!(started.elapsed() >= Duration::from_millis(600), "{name}");
        assert_one_session(client, &origin);
    }
    assert_eq!(addresses(&tried(&world)), [v4(1), v6(1), v4(2), v6(1)]);
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_family_that_comes_late_with_nothing_ends_it() {
    let world = World::new();
    world.has(&[v4(1)]);
    world.nameserver.script("refused.example", |question| match question.kind {
        AAAA => Response::from(question.answer().soa(60, 60)).after(Duration::from_millis(600)),
        _ => question.addresses(&[&v4(1)]).into(),
    });
    let server = world.server(&PATIENT);
    let baseline = server.baseline();
    world.ask(&server, "refused.example").expect_refused(5);
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_client_that_hangs_up_ends_every_attempt() {
    let world = World::new();
    let dead: Vec<String> = (1..=4).flat_map(|n| [v6(n), v4(n)]).collect();
    let all: Vec<&str> = dead.iter().map(String::as_str).collect();
    world.nameserver.addresses("dead.example", &all);
    let server = world.server(&PATIENT);
    let baseline = server.baseline();
    let client = world.ask(&server, "dead.example");
    wait_until("several are tried", || tried(&world).len() >= 3);
    drop(client);
    server.wait_counter("client_gone", 1);
    baseline.assert_at_rest();
    let before = tried(&world).len();
    assert!(before < ATTEMPTS_MAX, "{before} were tried");
}

#[test]
#[ignore = "needs root: tests/run"]
fn many_sessions_race_without_leaving_anything() {
    let world = World::new();
    let origin = world.origin(&v4(1));
    world.nameserver.addresses("both.example", &[&v4(1), &v6(1)]);
    let server = world.server(&PATIENT);
    let baseline = server.baseline();
    let clients: Vec<Peer> = world
        .lan
        .gateway
        .enter(|| (0..100).map(|_| request_name(server.address(), "both.example", PORT)).collect());
    for client in &clients {
        client.expect_granted();
    }
    let targets: Vec<Peer> = (0..clients.len()).map(|_| origin.accept()).collect();
    origin.expect_nobody();
    drop((clients, targets));
    baseline.assert_at_rest();
}

/// With as many sessions as that, none has two attempts at a time; yet no dead address costs one
/// its target.
#[test]
fn where_there_is_no_room_beside_it_a_deaf_address_gives_way() {
    const DEAF: &str = "127.77.0.8";
    let origin = Origin::start();
    let address = SocketAddr::new(ip(DEAF), origin.port());
    let deaf = Origin::try_start_at(address).expect("a port of ours");
    let _deaf = DeafTarget::instead_of(deaf, address);
    let nameserver = Nameserver::start();
    nameserver.addresses("deaf-first.example", &[DEAF, "127.0.0.1"]);
    let env = [("RINGSOCKS_LIMIT_SESSIONS", "2"), ("RINGSOCKS_TIMEOUT_CONNECT", "1h")];
    let server = nameserver.server(&env);
    let baseline = server.baseline();
    let started = Instant::now();
    let client = request_name(server.address(), "deaf-first.example", origin.port());
    client.expect_granted();
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(server.fds(), baseline.fds() + 2);
    assert_one_session(client, &origin);
    baseline.assert_at_rest();
}
