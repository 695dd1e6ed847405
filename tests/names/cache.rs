//! What is asked once, and what is asked again.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::dns::message::{A, NXDOMAIN, Question, SERVFAIL};
use crate::support::dns::{Nameserver, Response};
use crate::support::origin::{Origin, Service};
use crate::support::peer::Peer;
use crate::support::socks::request_name;
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
    assert_reaches(&server, "alias.example", &origin);
    assert_reaches(&server, "alias.example", &origin);
    thread::sleep(OVER_A_SECOND);
    assert_reaches(&server, "alias.example", &origin);
    let asked = nameserver.counts_for("alias.example");
    assert!(asked[0] >= 2, "{asked:?}");
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
}

#[test]
fn thousands_of_names_and_long_answers_cost_bounded_memory() {
    const NAMES: usize = 4_000;
    // As many addresses as fit into a datagram.
    let crowded = |question: &Question| {
        let addresses = (0..70).map(|last| Ipv4Addr::new(127, 0, 2, last));
        let message = addresses.fold(question.answer(), |message, ip| {
            message.address(&question.name, 3600, ip.into())
        });
        match question.kind {
            A => message,
            _ => question.answer().soa(3600, 3600),
        }
    };
    let nameserver = Nameserver::start();
    nameserver.script_others(crowded);
    // No address of theirs is to be connected to.
    let server = nameserver.server(&[("RINGSOCKS_LISTEN_TARGETS", "public")]);
    let baseline = server.baseline();
    let next = AtomicUsize::new(0);
    let ask_until = |last: usize| loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= last {
            break;
        }
        assert_refused(&server, &long_name(n), 2);
    };
    let ask_many = |last: usize| {
        next.store(last - NAMES, Ordering::Relaxed);
        thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(|| ask_until(last)))));
        server.rss_anon()
    };
    let full = ask_many(NAMES);
    let grown = ask_many(2 * NAMES).saturating_sub(full);
    // Kept, their addresses alone would take as much.
    let addresses = NAMES * 64 * size_of::<IpAddr>();
    println!("{NAMES} names more: {grown} bytes, with addresses of {addresses}");
    assert!(grown < addresses as u64 / 2, "{grown} bytes for {NAMES} names more");
    assert_eq!(nameserver.questions().len(), 4 * NAMES);
    assert_refused(&server, &long_name(0), 2);
    assert_eq!(nameserver.counts_for(&long_name(0)), [2, 2], "nothing was forgotten");
    baseline.assert_at_rest();
}

fn long_name(n: usize) -> String {
    format!("{n}.a-rather-long-name-to-be-remembered.example")
}
