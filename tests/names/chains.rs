//! Names that are aliases of others.

use crate::support::dns::Nameserver;
use crate::support::dns::message::{A, Message, NXDOMAIN, Question};
use crate::support::origin::Origin;
use crate::support::server::Server;
use crate::{assert_reaches, assert_refused};

/// How many aliases are followed.
const LINKS_MAX: usize = 8;

/// A server that would rather wait than refuse: a refusal says that the chain was given up.
fn patient(nameserver: &Nameserver) -> Server {
    nameserver.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "25s")])
}

/// An answer of `links` aliases that lead from one to the next.
fn chained(question: &Question, links: usize) -> Message {
    let mut message = question.answer();
    let mut owner = question.name.clone();
    for link in 1..=links {
        let target = format!("link-{link}.example");
        message = message.cname(&owner, 300, &target);
        owner = target;
    }
    match question.kind {
        A => message.address(&owner, 300, [127, 0, 0, 1].into()),
        _ => message,
    }
}

#[test]
fn eight_aliases_are_followed_and_nine_are_not() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    for links in [1, 2, LINKS_MAX, LINKS_MAX + 1, 100] {
        nameserver
            .script(&format!("chain-{links}.example"), move |question| chained(question, links));
    }
    let server = patient(&nameserver);
    let baseline = server.baseline();
    assert_reaches(&server, "chain-1.example", &origin);
    assert_reaches(&server, "chain-2.example", &origin);
    assert_reaches(&server, "chain-8.example", &origin);
    assert_refused(&server, "chain-9.example", 4);
    assert_refused(&server, "chain-100.example", 4);
    baseline.assert_at_rest();
}

#[test]
fn records_in_any_order_are_followed() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    nameserver.script("shuffled.example", |question| match question.kind {
        A => question
            .answer()
            .address("elsewhere.example", 300, [127, 0, 0, 66].into())
            .address("end.example", 300, [127, 0, 0, 1].into())
            .cname("middle.example", 300, "END.example")
            .cname(&question.name, 300, "Middle.Example"),
        _ => question.answer(),
    });
    let server = patient(&nameserver);
    let baseline = server.baseline();
    assert_reaches(&server, "shuffled.example", &origin);
    baseline.assert_at_rest();
}

#[test]
fn eight_aliases_are_asked_for_one_by_one_and_nine_are_not() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    nameserver.script_others(|question| {
        let name = question.lower_name();
        let left = name.trim_start_matches("step-").trim_end_matches(".example");
        match left.parse::<usize>().expect("only these names are asked for") {
            0 => question.addresses(&["127.0.0.1"]),
            left => {
                let target = format!("step-{}.example", left - 1);
                question.answer().cname(&question.name, 300, &target)
            }
        }
    });
    let server = patient(&nameserver);
    let baseline = server.baseline();
    assert_reaches(&server, "step-1.example", &origin);
    assert_reaches(&server, "step-8.example", &origin);
    assert_refused(&server, "step-9.example", 4);
    baseline.assert_at_rest();
}

#[test]
fn aliases_in_a_circle_are_given_up() {
    let nameserver = Nameserver::start();
    nameserver.script("itself.example", |question| {
        question.answer().cname(&question.name, 300, &question.name)
    });
    nameserver.script("circle.example", |question| {
        let there = question.answer().cname(&question.name, 300, "back.example");
        there.cname("back.example", 300, "circle.example")
    });
    nameserver.script("ping.example", |question| {
        question.answer().cname(&question.name, 300, "pong.example")
    });
    nameserver.script("pong.example", |question| {
        question.answer().cname(&question.name, 300, "ping.example")
    });
    let server = patient(&nameserver);
    let baseline = server.baseline();
    for name in ["itself.example", "circle.example", "ping.example"] {
        assert_refused(&server, name, 4);
    }
    let asked = nameserver.heard().len();
    assert!(asked <= 3 * 2 * 2 * (LINKS_MAX + 1), "{asked} questions");
    baseline.assert_at_rest();
}

#[test]
fn an_alias_of_nothing_is_answered_04() {
    let nameserver = Nameserver::start();
    nameserver.script("to-nothing.example", |question| {
        question.answer().cname(&question.name, 300, "nothing.example").code(NXDOMAIN).soa(60, 60)
    });
    nameserver.script("to-asked-nothing.example", |question| {
        question.answer().cname(&question.name, 300, "nothing.example")
    });
    nameserver.script("to-no-address.example", |question| {
        question.answer().cname(&question.name, 300, "empty.example").soa(60, 60)
    });
    nameserver.script("to-what-is-no-name.example", |question| {
        question.answer().cname(&question.name, 300, "not a name.example")
    });
    nameserver
        .script("to-the-root.example", |question| question.answer().cname(&question.name, 300, ""));
    let server = patient(&nameserver);
    let baseline = server.baseline();
    let names =
        ["to-nothing", "to-asked-nothing", "to-no-address", "to-what-is-no-name", "to-the-root"];
    for name in names {
        assert_refused(&server, &format!("{name}.example"), 4);
    }
    baseline.assert_at_rest();
}
