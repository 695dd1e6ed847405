//! How names are asked for: whom, how often, and how hard that is to guess.

use std::collections::HashSet;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::nameserver::{A, AAAA, Nameserver, Say, at_once};
use crate::support::origin::{DeafTarget, Origin};
use crate::support::server::Server;
use crate::support::wait_until;
use crate::{asking, rep, server_asking};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
fn both_families_are_asked_for_apart_over_one_port() {
    let nameserver = Nameserver::with(&["127.0.0.1"]);
    let server = server_asking(&[&nameserver], &[]);
    let baseline = server.baseline();
    let origin = Origin::start();
    asking(&server, "both.example", origin.port()).expect_granted();
    let asked = nameserver.asked();
    let kinds: HashSet<u16> = asked.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [A, AAAA].into());
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].from, asked[1].from);
    assert_ne!(asked[0].id, asked[1].id);
    drop(origin);
    baseline.assert_restored();
}

#[test]
fn ports_ids_and_letters_cannot_be_guessed() {
    const NAMES: usize = 200;
    let nameserver = Nameserver::with(&["127.0.0.1"]);
    let server = server_asking(&[&nameserver], &[]);
    let baseline = server.baseline();
    let origin = Origin::start();
    for number in 0..NAMES {
        let name = format!("name{number}.with.letters.enough.example");
        let client = asking(&server, &name, origin.port());
        client.expect_granted();
        drop(origin.accept());
    }
    let asked = nameserver.asked();
    assert_eq!(asked.len(), 2 * NAMES);
    let ports: Vec<u16> = asked.iter().step_by(2).map(|it| it.from.port()).collect();
    let ids: Vec<u16> = asked.iter().map(|it| it.id).collect();
    // Of 200 numbers out of 28,000 one is there twice now and then; of 400 ids out of 65,536, too.
    let distinct = |numbers: &[u16]| numbers.iter().collect::<HashSet<_>>().len();
    assert!(distinct(&ports) > NAMES * 9 / 10, "{ports:?}");
    assert!(distinct(&ids) > NAMES * 2 * 9 / 10, "{ids:?}");
    for numbers in [&ports, &ids] {
        let steps = numbers.windows(2).filter(|it| it[1].wrapping_sub(it[0]) < 16).count();
        assert!(steps < NAMES / 10, "numbers in sequence: {numbers:?}");
        let high = numbers.iter().map(|it| it >> 8).collect::<HashSet<_>>().len();
        assert!(high > 40, "numbers from a corner: {numbers:?}");
    }
    let mixed = asked.iter().map(|it| &it.name);
    let capitals = mixed.flat_map(|it| it.chars()).filter(char::is_ascii_uppercase).count();
    let letters: usize = asked.iter().map(|it| it.name.matches(char::is_alphabetic).count()).sum();
    assert!((letters * 4 / 10..letters * 6 / 10).contains(&capitals), "{capitals} of {letters}");
    baseline.assert_restored();
}

#[test]
fn a_name_is_asked_for_once_however_many_wait_for_it() {
    let nameserver = Nameserver::start(|asked| {
        vec![Say::Message(Duration::from_millis(500), asked.addresses(&[HERE], 60))]
    });
    // Each reactor knows what it knows.
    let server = server_asking(&[&nameserver], &[("RINGSOCKS_WORKERS", "1")]);
    let baseline = server.baseline();
    let origin = Origin::start();
    let clients: Vec<_> =
        (0..100).map(|_| asking(&server, "shared.example", origin.port())).collect();
    for client in clients {
        client.expect_granted();
        drop(origin.accept());
    }
    assert_eq!(nameserver.count("shared.example"), 2);
    assert_eq!(server.counters()["names_joined"], 99);
    baseline.assert_at_rest();
}

#[test]
fn what_is_known_is_not_asked_for_again_until_its_time_is_over() {
    let nameserver = Nameserver::start(|asked| {
        let ttl = if asked.is("short.example") { 1 } else { 3600 };
        let ttl = if asked.is("never.example") { 0 } else { ttl };
        vec![at_once(match asked.kind {
            A => asked.addresses(&[HERE], ttl),
            _ => asked.reply().soa(3600).bytes(),
        })]
    });
    let server = server_asking(&[&nameserver], &[("RINGSOCKS_WORKERS", "1")]);
    let baseline = server.baseline();
    let origin = Origin::start();
    let ask = |name: &str| {
        asking(&server, name, origin.port()).expect_granted();
        drop(origin.accept());
    };
    let count = |name: &str, kind| nameserver.count_kind(name, kind);
    for name in ["long.example", "LONG.example.", "never.example", "short.example"] {
        ask(name);
        ask(name);
    }
    assert_eq!((count("long.example", A), count("long.example", AAAA)), (1, 1));
    assert_eq!((count("never.example", A), count("never.example", AAAA)), (2, 1));
    let asked = Instant::now();
    wait_until("a second is over", || asked.elapsed() > Duration::from_millis(1100));
    let before = count("short.example", A);
    ask("short.example");
    assert_eq!((count("short.example", A), count("short.example", AAAA)), (before + 1, 1));
    baseline.assert_restored();
}

#[test]
fn what_is_not_there_is_kept_as_long_as_it_says() {
    let nameserver = Nameserver::start(|asked| {
        let ttl = if asked.is("short.example") { 1 } else { 60 };
        vec![at_once(asked.reply().rcode(3).soa(ttl).bytes())]
    });
    let server = server_asking(&[&nameserver], &[("RINGSOCKS_WORKERS", "1")]);
    let baseline = server.baseline();
    for _ in 0..3 {
        assert_eq!(rep(&server, "long.example", 80), 4);
    }
    assert_eq!(nameserver.count("long.example"), 2);
    assert_eq!(rep(&server, "short.example", 80), 4);
    let asked = Instant::now();
    wait_until("a second is over", || asked.elapsed() > Duration::from_millis(1100));
    assert_eq!(rep(&server, "short.example", 80), 4);
    assert_eq!(nameserver.count("short.example"), 4);
    baseline.assert_restored();
}

#[test]
fn a_silent_server_is_given_up_and_the_next_is_asked() {
    let silent = Nameserver::start(|_| Vec::new());
    let sound = Nameserver::with(&["127.0.0.1"]);
    let server = server_asking(&[&silent, &sound], &[("RINGSOCKS_WORKERS", "1")]);
    let baseline = server.baseline();
    let origin = Origin::start();
    let start = Instant::now();
    asking(&server, "first.example", origin.port()).expect_granted();
    drop(origin.accept());
    assert!(start.elapsed() >= Duration::from_secs(1), "it was given a second");
    let asked_before = silent.asked().len();
    assert!(asked_before > 0);
    // From now on it is asked last.
    for number in 0..5 {
        asking(&server, &format!("later{number}.example"), origin.port()).expect_granted();
        drop(origin.accept());
    }
    assert_eq!(silent.asked().len(), asked_before);
    baseline.assert_at_rest();
}

#[test]
fn only_silent_servers_are_answered_04_at_the_deadline() {
    let silent = Nameserver::start(|_| Vec::new());
    let env = [("RINGSOCKS_TIMEOUT_RESOLVE", "2500ms")];
    let server = server_asking(&[&silent], &env);
    let baseline = server.baseline();
    let start = Instant::now();
    assert_eq!(rep(&server, "silent.example", 80), 4);
    assert!(start.elapsed() >= Duration::from_millis(2500));
    let asked: Vec<_> = silent.asked().into_iter().filter(|it| it.kind == A).collect();
    // At once and after a second, in the same letters, from the same port: guessing gets no easier.
    assert_eq!(asked.len(), 2);
    assert_eq!((&asked[0].name, asked[0].id), (&asked[1].name, asked[1].id));
    assert_eq!(asked[0].from, asked[1].from);
    baseline.assert_at_rest();
}

#[test]
fn a_server_that_fails_or_is_not_there_costs_no_waiting() {
    let closed = {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap()
    };
    let failing = Nameserver::start(|asked| vec![at_once(asked.reply().rcode(2).bytes())]);
    let sound = Nameserver::with(&["127.0.0.1"]);
    let list = format!("{closed},{},{}", failing.text(), sound.text());
    let server = Server::start_with_env(&[], &[("RINGSOCKS_RESOLVER", list.as_str())]);
    let baseline = server.baseline();
    let origin = Origin::start();
    for number in 0..5 {
        asking(&server, &format!("name{number}.example"), origin.port()).expect_granted();
        drop(origin.accept());
    }
    // Nothing was sent a second time for want of an answer.
    assert_eq!(server.counters()["names_retries"], 0);
    baseline.assert_at_rest();
}

#[test]
fn a_late_answer_counts_as_well() {
    let nameserver = Nameserver::start(|asked| {
        vec![Say::Message(Duration::from_millis(1500), asked.addresses(&[HERE], 60))]
    });
    let server = server_asking(&[&nameserver], &[]);
    let baseline = server.baseline();
    let origin = Origin::start();
    let client = asking(&server, "late.example", origin.port());
    client.expect_granted();
    // The question was sent twice by then, and the answer to the first was good enough.
    assert!(server.counters()["names_retries"] >= 1);
    drop((client, origin));
    baseline.assert_restored();
}

#[test]
fn a_client_that_leaves_is_nobody_to_answer() {
    let nameserver = Nameserver::start(|asked| {
        vec![Say::Message(Duration::from_millis(300), asked.addresses(&[HERE], 60))]
    });
    let server = server_asking(&[&nameserver], &[]);
    let baseline = server.baseline();
    for round in 0..20 {
        let clients: Vec<_> =
            (0..20).map(|_| asking(&server, &format!("gone{round}.example"), 80)).collect();
        drop(clients);
    }
    thread::sleep(Duration::from_millis(400));
    baseline.assert_at_rest();
    let origin = Origin::start();
    asking(&server, "here.example", origin.port()).expect_granted();
}

#[test]
fn the_system_resolver_is_there_for_who_wants_it() {
    let server = Server::start_with_env(&[], &[("RINGSOCKS_RESOLVER", "system")]);
    let origin = Origin::start_everywhere();
    let client = asking(&server, "localhost", origin.port());
    client.expect_granted();
    drop((client, origin.accept()));
    assert_eq!(rep(&server, "no-such-name.invalid", 80), 4);
    let counters = server.counters();
    assert_eq!(counters["names_asked"], 0, "our own is not asked");
    // Its threads keep what the C library opened.
    server.wait_counter("open", 0);
}

/// Where somebody always waits for the other family, they must see it all the same when a name
/// moves.
#[test]
fn a_family_that_never_answers_does_not_keep_the_others_addresses() {
    let nameserver = Nameserver::start(|asked| match asked.kind {
        A => vec![at_once(asked.addresses(&[HERE], 1))],
        _ => Vec::new(),
    });
    let env = [("RINGSOCKS_WORKERS", "1"), ("RINGSOCKS_TIMEOUT_RESOLVE", "2s")];
    let server = server_asking(&[&nameserver], &env);
    let deaf = DeafTarget::start();
    let mut waits = asking(&server, "half.example", deaf.port());
    let questions = || nameserver.asked().iter().filter(|it| it.kind == A).count();
    wait_until("the address is asked for again", || {
        let next = asking(&server, "half.example", deaf.port());
        server.wait_counters("it waits", |counters| counters["connecting"] == 2);
        drop(mem::replace(&mut waits, next));
        server.wait_counters("it is alone", |counters| counters["connecting"] == 1);
        questions() >= 3
    });
}
