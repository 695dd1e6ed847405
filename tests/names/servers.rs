//! Several name servers, and what becomes of a question that one does not answer.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::dns::message::{A, AAAA, NXDOMAIN, REFUSED, SERVFAIL};
use crate::support::dns::{ClosedNameserver, Nameserver, Response, server_asking};
use crate::support::origin::Origin;
use crate::{assert_reaches, assert_refused};

/// How long a silent server is waited for before another is asked.
const PATIENCE_FOR_ONE: Duration = Duration::from_secs(1);

fn silent() -> Nameserver {
    let nameserver = Nameserver::start();
    nameserver.script_others(|_| Response::silence());
    nameserver
}

/// One at which every name is 127.0.0.1.
fn helpful() -> Nameserver {
    let nameserver = Nameserver::start();
    nameserver.script_others(|question| question.addresses(&["127.0.0.1"]));
    nameserver
}

#[test]
fn a_silent_server_is_given_up_when_the_time_is_over() {
    let nameserver = silent();
    let server = nameserver.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "2s")]);
    let baseline = server.baseline();
    let started = Instant::now();
    assert_refused(&server, "silent.example", 4);
    assert!(started.elapsed() >= Duration::from_secs(2), "refused too early");
    for kind in [A, AAAA] {
        let mut asked = nameserver.heard();
        asked.retain(|question| question.kind == kind);
        assert!((2..=4).contains(&asked.len()), "{asked:#?}");
        // In the same letters, under the same id, from the same port: guessing gets no easier.
        let ways: HashSet<_> = asked.iter().map(|it| (&it.name, it.id, it.from)).collect();
        assert_eq!(ways.len(), 1, "{asked:#?}");
    }
    baseline.assert_at_rest();
    server.wait_counter("refused_04", 1);
}

#[test]
fn a_question_that_is_lost_is_asked_again() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    let heard = AtomicUsize::new(0);
    nameserver.script("lost.example", move |question| {
        match heard.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => Response::silence(),
            _ => question.addresses(&["127.0.0.1"]).into(),
        }
    });
    let server = nameserver.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "10s")]);
    let baseline = server.baseline();
    assert_reaches(&server, "lost.example", &origin);
    baseline.assert_at_rest();
}

#[test]
fn the_next_server_is_asked_where_one_is_silent() {
    let (origin, first, second) = (Origin::start(), silent(), helpful());
    let env = [("RINGSOCKS_TIMEOUT_RESOLVE", "10s")];
    let server = server_asking(&[first.address(), second.address()], &env);
    let baseline = server.baseline();
    assert_reaches(&server, "a.example", &origin);
    assert_eq!(first.counts_for("a.example"), [1, 1]);
    assert_eq!(second.counts_for("a.example"), [1, 1]);
    // By now it is known which of them is of use.
    let started = Instant::now();
    assert_reaches(&server, "b.example", &origin);
    assert!(started.elapsed() < PATIENCE_FOR_ONE, "the silent one was asked first again");
    baseline.assert_at_rest();
}

#[test]
fn where_all_are_silent_each_is_asked() {
    let (first, second, third) = (silent(), silent(), silent());
    let all = [first.address(), second.address(), third.address()];
    let server = server_asking(&all, &[("RINGSOCKS_TIMEOUT_RESOLVE", "6s")]);
    let baseline = server.baseline();
    assert_refused(&server, "silent.example", 4);
    for nameserver in [&first, &second, &third] {
        let asked = nameserver.counts_for("silent.example");
        assert!(asked.iter().all(|asked| *asked > 0), "{:#?}", nameserver.heard());
    }
    baseline.assert_at_rest();
}

#[test]
fn a_server_that_refuses_is_passed_over_at_once() {
    let (origin, closed, helpful) = (Origin::start(), ClosedNameserver::reserve(), helpful());
    let server = server_asking(&[closed.address(), helpful.address()], &[]);
    let baseline = server.baseline();
    let started = Instant::now();
    assert_reaches(&server, "a.example", &origin);
    assert!(started.elapsed() < PATIENCE_FOR_ONE, "it was waited for");
    server.wait_counter("names_retries", 0);
    baseline.assert_at_rest();
}

#[test]
fn where_all_refuse_nobody_waits_for_the_deadline() {
    let (first, second) = (ClosedNameserver::reserve(), ClosedNameserver::reserve());
    let env = [("RINGSOCKS_TIMEOUT_RESOLVE", "25s")];
    let server = server_asking(&[first.address(), second.address()], &env);
    let baseline = server.baseline();
    assert_refused(&server, "a.example", 4);
    baseline.assert_at_rest();
}

#[test]
fn a_server_that_cannot_help_is_passed_over() {
    let origin = Origin::start();
    for code in [SERVFAIL, REFUSED] {
        let (first, second) = (Nameserver::start(), helpful());
        first.script_others(move |question| question.failure(code));
        let server = server_asking(&[first.address(), second.address()], &[]);
        let baseline = server.baseline();
        let started = Instant::now();
        assert_reaches(&server, "a.example", &origin);
        assert!(started.elapsed() < PATIENCE_FOR_ONE, "it was waited for");
        assert_eq!(first.counts_for("a.example"), [1, 1]);
        baseline.assert_at_rest();
    }
}

#[test]
fn a_server_that_knows_there_is_nothing_is_believed() {
    let (first, second) = (Nameserver::start(), helpful());
    first.script_others(|question| question.failure(NXDOMAIN).soa(60, 60));
    let server = server_asking(&[first.address(), second.address()], &[]);
    let baseline = server.baseline();
    assert_refused(&server, "a.example", 4);
    assert_eq!(second.questions().len(), 0);
    baseline.assert_at_rest();
}

#[test]
fn an_answer_to_an_earlier_try_is_as_good_as_any() {
    let (origin, first, second) = (Origin::start(), Nameserver::start(), silent());
    let late = PATIENCE_FOR_ONE + Duration::from_millis(500);
    first.script_others(move |question| {
        Response::from(question.addresses(&["127.0.0.1"])).after(late)
    });
    let env = [("RINGSOCKS_TIMEOUT_RESOLVE", "10s")];
    let server = server_asking(&[first.address(), second.address()], &env);
    let baseline = server.baseline();
    assert_reaches(&server, "late.example", &origin);
    assert_eq!(first.counts_for("late.example"), [1, 1]);
    assert!(!second.questions_for("late.example").is_empty());
    baseline.assert_at_rest();
}

#[test]
fn the_server_may_come_back() {
    let origin = Origin::start();
    let nameserver = silent();
    let server = nameserver.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "500ms")]);
    let baseline = server.baseline();
    assert_refused(&server, "a.example", 4);
    nameserver.script_others(|question| question.addresses(&["127.0.0.1"]));
    assert_reaches(&server, "b.example", &origin);
    baseline.assert_at_rest();
}
