//! Answers that do not fit into a datagram.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::support::dns::message::{Message, NXDOMAIN, Question};
use crate::support::dns::{Nameserver, Response, server_asking};
use crate::support::origin::{Origin, Service};
use crate::support::peer::Peer;
use crate::support::socks::request_name;
use crate::{assert_all_refused, assert_reaches, assert_refused};

/// Truncated as a datagram, and over a stream whatever `whole` makes of it.
fn truncated(
    nameserver: &Nameserver,
    name: &str,
    whole: impl Fn(&Question) -> Response + Send + Sync + 'static,
) {
    nameserver.script(name, move |question| match question.over_tcp {
        false => question.answer().truncated().into(),
        true => whole(question),
    });
}

fn here(question: &Question) -> Message {
    question.addresses(&["127.0.0.1"])
}

#[test]
fn a_truncated_answer_is_fetched_over_a_stream() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    truncated(&nameserver, "long.example", |question| here(question).into());
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    assert_reaches(&server, "long.example", &origin);
    let questions = nameserver.questions_for("long.example");
    assert_eq!(questions.iter().filter(|it| it.over_tcp).count(), 2);
    assert_eq!(questions.len(), 4);
    server.wait_counter("names_truncated", 2);
    baseline.assert_at_rest();
}

#[test]
fn addresses_of_a_truncated_answer_are_not_believed() {
    let (origin, trap) = (Origin::start(), "127.0.0.66");
    let nameserver = Nameserver::start();
    nameserver.script("long.example", move |question| match question.over_tcp {
        false => question.addresses(&[trap]).truncated(),
        true => here(question),
    });
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    assert_reaches(&server, "long.example", &origin);
    baseline.assert_at_rest();
}

#[test]
fn a_stream_may_come_a_byte_at_a_time() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    truncated(&nameserver, "slow.example", |question| Response::from(here(question)).bytewise());
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    assert_reaches(&server, "slow.example", &origin);
    baseline.assert_at_rest();
}

#[test]
fn the_longest_answer_is_read() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    truncated(&nameserver, "longest.example", |question| {
        let mut message = here(question);
        while message.bytes().len() + 16 * 256 <= 65_535 {
            for last in 0..=255 {
                let ip = Ipv4Addr::new(127, 0, 1, last);
                message = message.address(&question.name, 300, ip.into());
            }
        }
        assert!(message.bytes().len() > 60_000);
        message.into()
    });
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    assert_reaches(&server, "longest.example", &origin);
    baseline.assert_at_rest();
}

#[test]
fn a_stream_that_is_refused_is_answered_04() {
    let nameserver = Nameserver::start_without_tcp();
    nameserver.script_others(|question| question.answer().truncated());
    let server = nameserver.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "25s")]);
    let baseline = server.baseline();
    assert_refused(&server, "long.example", 4);
    let asked = nameserver.heard().len();
    assert!(asked <= 16, "{asked} questions");
    baseline.assert_at_rest();
}

#[test]
fn streams_that_end_early_are_answered_04() {
    let nameserver = Nameserver::start();
    for len in [0, 1, 2, 3, 14, 40] {
        truncated(&nameserver, &format!("ends-{len}.example"), move |question| {
            Response::from(here(question)).ending_after(len)
        });
    }
    let server = nameserver.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "25s")]);
    let baseline = server.baseline();
    for len in [0, 1, 2, 3, 14, 40] {
        assert_refused(&server, &format!("ends-{len}.example"), 4);
    }
    let asked = nameserver.heard().len();
    assert!(asked <= 6 * 16, "{asked} questions");
    baseline.assert_at_rest();
}

#[test]
fn streams_that_stall_are_given_up_when_the_time_is_over() {
    let nameserver = Nameserver::start();
    for len in [0, 1, 2, 14, 40] {
        truncated(&nameserver, &format!("stalls-{len}.example"), move |question| {
            Response::from(here(question)).stalling_after(len)
        });
    }
    let server = nameserver.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "1500ms")]);
    let baseline = server.baseline();
    assert_all_refused(&server, [0, 1, 2, 14, 40].map(|len| format!("stalls-{len}.example")), 4);
    baseline.assert_at_rest();
}

#[test]
fn where_a_stream_is_no_use_the_next_server_is_asked() {
    let origin = Origin::start();
    let second = Nameserver::start();
    second.script_others(here);
    let broken = [Nameserver::start_without_tcp(), Nameserver::start(), Nameserver::start()];
    broken[0].script_others(|question| question.answer().truncated());
    broken[1].script_others(|question| match question.over_tcp {
        false => question.answer().truncated().into(),
        true => Response::from(here(question)).ending_after(20),
    });
    broken[2].script_others(|question| match question.over_tcp {
        false => question.answer().truncated().into(),
        true => Response::from(here(question)).stalling_after(20),
    });
    for first in broken {
        let env = [("RINGSOCKS_TIMEOUT_RESOLVE", "10s")];
        let server = server_asking(&[first.address(), second.address()], &env);
        let baseline = server.baseline();
        assert_reaches(&server, "long.example", &origin);
        baseline.assert_at_rest();
    }
}

#[test]
fn what_a_stream_says_is_checked_too() {
    let nameserver = Nameserver::start();
    truncated(&nameserver, "other-id.example", |question| {
        here(question).id(question.id ^ 1).into()
    });
    truncated(&nameserver, "other-name.example", |question| {
        here(question).about("another.example", question.kind).into()
    });
    truncated(&nameserver, "empty.example", |_| Response::bytes(Vec::new()));
    truncated(&nameserver, "garbage.example", |_| Response::bytes(vec![0xa5; 65_535]));
    truncated(&nameserver, "again.example", |question| question.answer().truncated().into());
    let server = nameserver.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "25s")]);
    let baseline = server.baseline();
    for name in ["other-id", "other-name", "empty", "garbage", "again"] {
        assert_refused(&server, &format!("{name}.example"), 4);
    }
    baseline.assert_at_rest();
}

#[test]
fn a_hundred_long_answers_at_once_arrive() {
    let echo = Service::echo();
    let nameserver = Nameserver::start();
    nameserver.script_others(|question| match question.over_tcp {
        false => question.answer().truncated().into(),
        true => Response::from(here(question)).after(Duration::from_millis(20)),
    });
    let server = nameserver.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "25s")]);
    let baseline = server.baseline();
    let port = echo.address().port();
    let clients: Vec<Peer> = (0..100)
        .map(|n| request_name(server.address(), &format!("long-{n}.example"), port))
        .collect();
    for client in &clients {
        client.expect_granted();
    }
    drop(clients);
    baseline.assert_at_rest();
}

#[test]
fn streams_that_stall_make_room_for_others() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    nameserver.script_others(|question| match question.over_tcp {
        false => question.answer().truncated().into(),
        true => Response::from(here(question)).stalling_after(1),
    });
    truncated(&nameserver, "quick.example", |question| here(question).into());
    let server = nameserver.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "25s")]);
    let baseline = server.baseline();
    // More than there may be streams.
    let slow: Vec<Peer> =
        (0..10).map(|n| request_name(server.address(), &format!("slow-{n}.example"), 80)).collect();
    nameserver.wait_for_question("slow-9.example");
    assert_reaches(&server, "quick.example", &origin);
    assert_eq!(server.counters()["resolving"], 10, "it waited with the slow ones");
    truncated_no_more(&nameserver);
    for client in &slow {
        client.expect_refused(4);
    }
    drop(slow);
    baseline.assert_at_rest();
}

/// What is asked from now on has a short answer: there is nothing.
fn truncated_no_more(nameserver: &Nameserver) {
    nameserver.script_others(|question| question.failure(NXDOMAIN).soa(60, 60));
}

#[test]
fn many_streams_at_once_leave_other_names_alone() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    nameserver.script_others(|question| match question.over_tcp {
        false => question.answer().truncated().into(),
        true => Response::silence(),
    });
    nameserver.script("short.example", here);
    let server = nameserver.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "3s")]);
    let baseline = server.baseline();
    let waiting: Vec<_> = (0..200)
        .map(|n| {
            let name = format!("long-{n}.example");
            request_name(server.address(), &name, 80)
        })
        .collect();
    assert_reaches(&server, "short.example", &origin);
    assert!(server.fds() < baseline.fds() + 200 + 100, "streams without number");
    for client in &waiting {
        let rep = client.expect_reply().rep;
        assert_eq!(rep, 4);
    }
    drop(waiting);
    baseline.assert_at_rest();
    assert!(nameserver.heard().len() < 200 * 2 * 20, "questions without number");
}
