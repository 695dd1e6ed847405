//! What is asked once, and what is asked again.

use std::mem;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::dns::message::{A, NXDOMAIN, SERVFAIL};
use crate::support::dns::{Nameserver, Response};
use crate::support::origin::{DeafTarget, Origin, Service};
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::{connect_to_name, greeting, request_name};
use crate::support::wait_until;
use crate::{assert_reaches, assert_refused};

/// Beyond a time to live of one second.
const OVER_A_SECOND: Duration = Duration::from_millis(1100);

/// An address here, which holds for so many seconds.
fn here_for(nameserver: &Nameserver, name: &str, ttl: u32) {
    nameserver.script(name, move |question| match question.kind {
        A => question.answer().address(&question.name, ttl, Ipv4Addr::LOCALHOST.into()),
        _ => question.answer().soa(ttl, ttl),
    });
}

#[test]
fn a_crowd_asks_once() {
    let echo = Service::echo();
    let nameserver = Nameserver::start();
    nameserver.script("crowd.example", |question| {
        Response::from(question.addresses(&["127.0.0.1"])).after(Duration::from_millis(700))
    });
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    let ask = |n: usize| {
        let name = if n.is_multiple_of(2) { "crowd.example" } else { "CROWD.Example." };
        request_name(server.address(), name, echo.address().port())
    };
    let crowd: Vec<Peer> = (0..100).map(ask).collect();
    for client in &crowd {
        client.expect_granted();
        client.send(b"ping");
        client.expect(b"ping");
    }
    assert_eq!(nameserver.counts_for("crowd.example"), [1, 1]);
    server.wait_counter("names_joined", 99);
    drop(crowd);
    baseline.assert_at_rest();
}

#[test]
fn what_is_known_is_not_asked_for() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    here_for(&nameserver, "known.example", 300);
    here_for(&nameserver, "for-ever.example", i32::MAX as u32);
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    for name in ["known.example", "KNOWN.example", "known.example.", "for-ever.example"] {
        assert_reaches(&server, name, &origin);
        assert_reaches(&server, name, &origin);
    }
    assert_eq!(nameserver.counts_for("known.example"), [1, 1]);
    assert_eq!(nameserver.counts_for("for-ever.example"), [1, 1]);
    baseline.assert_at_rest();
}

#[test]
fn what_holds_for_a_second_is_asked_for_after_it() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    here_for(&nameserver, "brief.example", 1);
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    assert_reaches(&server, "brief.example", &origin);
    thread::sleep(OVER_A_SECOND);
    assert_reaches(&server, "brief.example", &origin);
    assert_eq!(nameserver.counts_for("brief.example"), [2, 2]);
    baseline.assert_at_rest();
}

#[test]
fn what_holds_for_no_time_is_asked_for_each_time() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    here_for(&nameserver, "now.example", 0);
    // The highest bit makes it none (RFC 2181 section 8).
    here_for(&nameserver, "negative.example", u32::MAX);
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    for name in ["now.example", "negative.example"] {
        for asked in 1..=3 {
            assert_reaches(&server, name, &origin);
            assert_eq!(nameserver.counts_for(name), [asked; 2], "{name}");
        }
    }
    baseline.assert_at_rest();
}

#[test]
fn an_alias_holds_no_longer_than_the_least_of_its_chain() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    nameserver.script("alias.example", |question| {
        let alias = question.answer().cname(&question.name, 1, "target.example");
        match question.kind {
            A => alias.address("target.example", 300, Ipv4Addr::LOCALHOST.into()),
            _ => alias.soa(300, 300),
        }
    });
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    assert_reaches(&server, "alias.example", &origin);
    assert_reaches(&server, "alias.example", &origin);
    thread::sleep(OVER_A_SECOND);
    assert_reaches(&server, "alias.example", &origin);
    let asked = nameserver.counts_for("alias.example");
    assert!(asked[0] >= 2, "{asked:?}");
    baseline.assert_at_rest();
}

/// Where somebody always waits for the other family, they must see it all the same when a name
/// moves.
#[test]
fn a_family_that_never_answers_does_not_keep_the_others_addresses() {
    let nameserver = Nameserver::start();
    nameserver.script("half.example", |question| match question.kind {
        A => question.answer().address(&question.name, 1, Ipv4Addr::LOCALHOST.into()).into(),
        _ => Response::silence(),
    });
    let server = nameserver.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "2s")]);
    let baseline = server.baseline();
    let deaf = DeafTarget::start();
    let ask = || request_name(server.address(), "half.example", deaf.port());
    let mut waits = ask();
    wait_until("the address is asked for again", || {
        let next = ask();
        server.wait_counter("connecting", 2);
        drop(mem::replace(&mut waits, next));
        server.wait_counter("connecting", 1);
        nameserver.counts_for("half.example")[0] >= 3
    });
    drop(waits);
    baseline.assert_at_rest();
}

#[test]
fn that_there_is_nothing_is_kept_for_its_time() {
    let nameserver = Nameserver::start();
    nameserver.script("long.example", |question| question.failure(NXDOMAIN).soa(300, 300));
    nameserver.script("no-data.example", |question| question.answer().soa(300, 300));
    // The lesser of the record's time and the one that it names (RFC 2308 section 5).
    nameserver.script("brief.example", |question| question.failure(NXDOMAIN).soa(300, 1));
    nameserver.script("brief-record.example", |question| question.failure(NXDOMAIN).soa(1, 300));
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    let names = ["long.example", "no-data.example", "brief.example", "brief-record.example"];
    for name in names {
        assert_refused(&server, name, 4);
        assert_eq!(nameserver.counts_for(name), [1, 1], "{name}");
    }
    for name in &names[..2] {
        assert_refused(&server, name, 4);
    }
    thread::sleep(OVER_A_SECOND);
    for name in names {
        assert_refused(&server, name, 4);
    }
    let counts = names.map(|name| nameserver.counts_for(name));
    assert_eq!(counts, [[1, 1], [1, 1], [2, 2], [2, 2]]);
    baseline.assert_at_rest();
}

#[test]
fn a_failure_is_kept_for_a_moment() {
    let nameserver = Nameserver::start();
    nameserver.script_others(|question| question.failure(SERVFAIL));
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    assert_refused(&server, "failing.example", 4);
    let asked = nameserver.heard().len();
    // A crowd behind it asks hardly more often.
    for _ in 0..50 {
        assert_refused(&server, "failing.example", 4);
    }
    let crowd = nameserver.heard().len() - asked;
    assert!(crowd <= 5 * asked, "{crowd} questions for fifty");
    thread::sleep(OVER_A_SECOND);
    let asked = nameserver.heard().len();
    assert_refused(&server, "failing.example", 4);
    assert!(nameserver.heard().len() > asked, "the failure was kept too long");
    baseline.assert_at_rest();
}

#[test]
fn thousands_of_names_and_long_answers_cost_bounded_memory() {
    const NAMES: usize = 4_000;
    const ADDRESSES: usize = 60;
    let nameserver = Nameserver::start();
    nameserver.script_others(|question| match question.kind {
        A => (0..ADDRESSES as u8).fold(question.answer(), |message, last| {
            message.address(&question.name, 3600, [127, 0, 2, last].into())
        }),
        _ => question.answer().soa(3600, 3600),
    });
    // No address of theirs is to be connected to.
    let server = nameserver.server(&[("RINGSOCKS_LISTEN_TARGETS", "public")]);
    let grown = growth_by_more_names(&server, NAMES, 2);
    // Kept, their addresses alone would take as much.
    let addresses = NAMES * ADDRESSES * size_of::<IpAddr>();
    assert!(grown < addresses as u64 / 2, "{grown} bytes for {NAMES} names more");
    assert_eq!(nameserver.questions().len(), 4 * NAMES);
    assert_refused(&server, &long_name(0), 2);
    assert_eq!(nameserver.counts_for(&long_name(0)), [2, 2], "nothing was forgotten");
}

#[test]
fn thousands_of_names_that_do_not_exist_cost_bounded_memory() {
    const NAMES: usize = 11_000;
    let nameserver = Nameserver::start();
    let server = nameserver.server(&[]);
    let grown = growth_by_more_names(&server, NAMES, 4);
    // Kept, their letters alone would take as much.
    let letters = NAMES * long_name(0).len();
    assert!(grown < letters as u64, "{grown} bytes for {NAMES} names more");
    assert_eq!(nameserver.questions().len(), 4 * NAMES);
}

/// What so many names more cost when as many are known: each is answered with this REP.
#[track_caller]
fn growth_by_more_names(server: &Server, names: usize, rep: u8) -> u64 {
    let baseline = server.baseline();
    ask_for_names(server, 0..names, rep);
    let full = server.rss_anon();
    ask_for_names(server, names..2 * names, rep);
    let grown = server.rss_anon().saturating_sub(full);
    baseline.assert_at_rest();
    grown
}

fn ask_for_names(server: &Server, names: Range<usize>, rep: u8) {
    let next = AtomicUsize::new(names.start);
    let ask = || loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= names.end {
            break;
        }
        // From many addresses: one has too few ports for them all.
        let source = Ipv4Addr::new(127, 4, (n / 256) as u8, (n % 256) as u8);
        let client = Peer::connect_from((source, 0).into(), server.address());
        let request = connect_to_name(long_name(n).as_bytes(), 80);
        client.send(&[greeting(&[0]), request].concat());
        client.expect(&[5, 0, 5, rep]);
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(ask);
        }
    });
}

fn long_name(n: usize) -> String {
    let label = "long".repeat(15);
    format!("{n}.{label}.{label}.{label}.example")
}
