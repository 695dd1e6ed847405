//! Answers of a server that does as it should.

use std::net::Ipv6Addr;
use std::time::Duration;

use crate::support::dns::message::{A, FORMERR, NOTIMP, NXDOMAIN, REFUSED, SERVFAIL};
use crate::support::dns::{Nameserver, Response};
use crate::support::origin::{Origin, host_has_v6};
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::{connect_to_name, greeting, request_name};
use crate::{assert_reaches, assert_refused};

const NODATA: u8 = 0;
const UNHEARD_OF: u8 = 13;

#[test]
fn an_address_of_either_family_is_enough() {
    assert!(host_has_v6(), "this test needs an IPv6 loopback");
    let nameserver = Nameserver::start();
    nameserver.addresses("v4.example", &["127.0.0.1"]);
    nameserver.addresses("v6.example", &["::1"]);
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    assert_reaches(&server, "v4.example", &Origin::start());
    assert_reaches(&server, "v6.example", &Origin::start_on(Ipv6Addr::LOCALHOST.into()));
    for name in ["v4.example", "v6.example"] {
        assert_eq!(nameserver.counts_for(name), [1, 1], "{name}");
        // Apart, over one port.
        let asked = nameserver.questions_for(name);
        assert_eq!(asked[0].from, asked[1].from, "{name}");
        assert_ne!(asked[0].id, asked[1].id, "{name}");
    }
    baseline.assert_at_rest();
}

#[test]
fn each_failure_is_answered_04() {
    let nameserver = Nameserver::start();
    // If it waited until nobody has time left, no answer would come to this test.
    let server = nameserver.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "25s")]);
    let baseline = server.baseline();
    let mut refused = 0;
    for code in [NODATA, NXDOMAIN, SERVFAIL, REFUSED, FORMERR, NOTIMP, UNHEARD_OF] {
        let (bare, complete) = (format!("bare-{code}.example"), format!("soa-{code}.example"));
        nameserver.script(&bare, move |question| question.failure(code));
        nameserver.script(&complete, move |question| question.failure(code).soa(60, 60));
        for name in [bare, complete] {
            assert_refused(&server, &name, 4);
            refused += 1;
        }
    }
    server.wait_counter("refused_04", refused);
    baseline.assert_at_rest();
}

#[test]
fn one_family_that_fails_does_not_spoil_the_other() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    let server = nameserver.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "25s")]);
    let baseline = server.baseline();
    for code in [NODATA, NXDOMAIN, SERVFAIL, REFUSED, FORMERR] {
        let name = format!("half-{code}.example");
        nameserver.script(&name, move |question| match question.kind {
            A => question.addresses(&["127.0.0.1"]),
            _ => question.failure(code),
        });
        assert_reaches(&server, &name, &origin);
    }
    baseline.assert_at_rest();
}

#[test]
fn what_is_no_name_is_never_asked_for() {
    let nameserver = Nameserver::start();
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    let long_label = [&[b'a'; 64][..], b".example"].concat();
    let names: &[&[u8]] = &[
        b"",
        b".",
        b"..",
        b".example",
        b"a..example",
        b"a b.example",
        b"a\0.example",
        b"\xffx.example",
        b"127.1",
        b"0x7f.1",
        b"0177.0.0.1",
        b"a.example.123",
        b"2130706433",
        &long_label,
    ];
    for name in names {
        let client = Peer::connect(server.address());
        client.send(&greeting(&[0]));
        client.expect(&[5, 0]);
        client.send(&connect_to_name(name, 80));
        let rep = client.expect_reply().rep;
        assert!([1, 4].contains(&rep), "{}: {rep}", name.escape_ascii());
    }
    baseline.assert_at_rest();
    assert_refused(&server, "nobody.example", 4);
    let asked: Vec<String> = nameserver.questions().iter().map(|it| it.lower_name()).collect();
    assert!(asked.iter().all(|name| name == "nobody.example"), "{asked:?}");
    assert_eq!(asked.len(), 2);
}

#[test]
fn the_longest_name_is_asked_for_as_it_is() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    assert_eq!(longest.len(), 253);
    nameserver.addresses(&longest, &["127.0.0.1"]);
    nameserver.addresses("with-a-dot.example", &["127.0.0.1"]);
    nameserver.addresses("_service.under_score.example", &["127.0.0.1"]);
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    assert_reaches(&server, &longest, &origin);
    assert_reaches(&server, "with-a-dot.example.", &origin);
    assert_reaches(&server, "_service.under_score.example", &origin);
    baseline.assert_at_rest();
}

#[test]
fn questions_say_what_fits_into_a_datagram() {
    let nameserver = Nameserver::start();
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    assert_refused(&server, "nobody.example", 4);
    let questions = nameserver.questions();
    assert_eq!(questions.len(), 2);
    for question in questions {
        assert!(question.edns.is_some_and(|size| (512..=1232).contains(&size)), "{question:?}");
    }
    baseline.assert_at_rest();
}

#[test]
fn a_server_that_knows_no_edns_is_asked_without() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    for code in [FORMERR, NOTIMP] {
        let name = format!("old-{code}.example");
        nameserver.script(&name, move |question| match question.edns {
            Some(_) => question.failure(code),
            None => question.addresses(&["127.0.0.1"]),
        });
        assert_reaches(&server, &name, &origin);
    }
    baseline.assert_at_rest();
}

#[test]
fn a_server_that_says_of_edns_only_that_it_failed_is_asked_without() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    nameserver.script("bare.example", |question| match question.edns {
        // The header alone: not even the question is repeated.
        Some(_) => {
            let mut bytes = question.failure(FORMERR).bytes();
            bytes.truncate(12);
            bytes[4..12].fill(0);
            Response::bytes(bytes)
        }
        None => question.addresses(&["127.0.0.1"]).into(),
    });
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    assert_reaches(&server, "bare.example", &origin);
    baseline.assert_at_rest();
}

#[test]
fn an_answer_that_comes_twice_is_heard_once() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    nameserver.script("twice.example", |question| {
        let message = question.addresses(&["127.0.0.1"]);
        Response::from(message.clone()).and(&message).and(&message)
    });
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    assert_reaches(&server, "twice.example", &origin);
    assert_reaches(&server, "twice.example", &origin);
    origin.expect_nobody();
    baseline.assert_at_rest();
}

#[test]
fn an_answer_that_takes_its_time_is_waited_for() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    // Beyond the time after which the question is asked again.
    nameserver.script("slow.example", |question| {
        Response::from(question.addresses(&["127.0.0.1"])).after(Duration::from_millis(1500))
    });
    let server = nameserver.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "10s")]);
    let baseline = server.baseline();
    assert_reaches(&server, "slow.example", &origin);
    baseline.assert_at_rest();
}

#[test]
fn a_client_that_pipelines_reaches_what_it_asked_for() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    nameserver.script("slow.example", |question| {
        Response::from(question.addresses(&["127.0.0.1"])).after(Duration::from_millis(200))
    });
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    let client = Peer::connect(server.address());
    let request = connect_to_name(b"slow.example", origin.port());
    client.send(&[greeting(&[0]), request, b"early".to_vec()].concat());
    client.fin();
    client.expect(&[5, 0]);
    client.expect_granted();
    let target = origin.accept();
    target.expect(b"early");
    target.expect_eof();
    drop((client, target));
    baseline.assert_at_rest();
}

#[test]
fn a_client_that_hangs_up_meanwhile_is_forgotten() {
    let nameserver = Nameserver::start();
    nameserver.script("slow.example", |question| {
        Response::from(question.addresses(&["127.0.0.1"])).after(Duration::from_millis(300))
    });
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    let hang_ups: [fn(Peer); 2] = [drop, Peer::reset];
    for hang_up in hang_ups {
        hang_up(asking(&server, &nameserver));
    }
    server.wait_counter("client_gone", 2);
    baseline.assert_at_rest();
}

/// A client whose name is being asked for.
fn asking(server: &Server, nameserver: &Nameserver) -> Peer {
    let client = request_name(server.address(), "slow.example", 80);
    nameserver.wait_for_question("slow.example");
    client
}
