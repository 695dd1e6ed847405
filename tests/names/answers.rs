//! Answers of every kind, and what a client hears of them.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::nameserver::{A, Asked, Nameserver, Say, at_once, encode, framed};
use crate::support::origin::Origin;
use crate::{asking, rep, server_asking};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
/// Nobody answers there, and nobody must be asked.
const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 66, 66, 66));

const SHORT: (&str, &str) = ("RINGSOCKS_TIMEOUT_RESOLVE", "1500ms");

/// The right answer.
fn right(asked: &Asked) -> Vec<u8> {
    asked.addresses(&[HERE], 60)
}

#[test]
fn there_is_a_rep_for_every_bad_answer() {
    let nameserver = Nameserver::start(|asked| {
        let reply = asked.reply();
        let first = asked.name.split('.').next().unwrap().to_ascii_lowercase();
        vec![at_once(match first.as_str() {
            "nxdomain" => reply.rcode(3).soa(60).bytes(),
            "nxdomain-bare" => reply.rcode(3).bytes(),
            "nodata" => reply.soa(60).bytes(),
            "nodata-bare" => reply.bytes(),
            "servfail" => reply.rcode(2).bytes(),
            "refused" => reply.rcode(5).bytes(),
            "notimp" => reply.rcode(4).bytes(),
            "formerr" => reply.rcode(1).bytes(),
            // As some servers that do not know EDNS have it: without the question.
            "formerr-short" => [&asked.id.to_be_bytes()[..], &[0x81, 0x81], &[0; 8]].concat(),
            "weird" => reply.rcode(13).bytes(),
            // An address of another kind, or of somebody else.
            "other-kind" => reply.answer(&asked.name, 99, 60, &[127, 0, 0, 1]).bytes(),
            "other-name" => reply.address("evil.example", HERE, 60).bytes(),
            "short-data" => reply.answer(&asked.name, asked.kind, 60, &[127, 0]).bytes(),
            other => panic!("no script for {other}"),
        })]
    });
    let server = server_asking(&[&nameserver], &[SHORT]);
    let baseline = server.baseline();
    for first in [
        "nxdomain",
        "nxdomain-bare",
        "nodata",
        "nodata-bare",
        "servfail",
        "refused",
        "notimp",
        "formerr",
        "formerr-short",
        "weird",
        "other-kind",
        "other-name",
        "short-data",
    ] {
        assert_eq!(rep(&server, &format!("{first}.example"), 80), 4, "{first}");
    }
    baseline.assert_at_rest();
}

#[test]
fn a_server_without_edns_is_asked_without() {
    let nameserver = Nameserver::start(|asked| {
        vec![at_once(match asked.edns {
            Some(_) => asked.reply().rcode(1).bytes(),
            None => right(asked),
        })]
    });
    let server = server_asking(&[&nameserver], &[]);
    let baseline = server.baseline();
    let origin = Origin::start();
    asking(&server, "old.example", origin.port()).expect_granted();
    let sizes: Vec<_> = nameserver.asked().iter().filter_map(|it| it.edns).collect();
    assert!(!sizes.is_empty() && sizes.iter().all(|size| *size == 1232), "{sizes:?}");
    drop(origin);
    baseline.assert_restored();
}

#[test]
fn what_answers_nothing_is_ignored_and_the_true_answer_counts() {
    let nameserver = Nameserver::start(|asked| {
        let wrong = asked.reply().address(&asked.name, ELSEWHERE, 60);
        let mut says = vec![
            at_once(Vec::new()),
            at_once(vec![0; 5]),
            at_once(vec![0xff; 700]),
            // Another id, another name, another kind, no answer but a question.
            at_once(wrong.clone().id(asked.id ^ 0x0100).bytes()),
            at_once(wrong.clone().about("other.example", A).bytes()),
            at_once(wrong.clone().about(&asked.name, 99).bytes()),
            at_once({
                let mut question = wrong.clone();
                question.flags &= 0x7fff;
                question.bytes()
            }),
            // A name that is a pointer to itself, and one that points forward.
            at_once({
                let mut bytes = asked.reply().bytes();
                bytes[7] = 1;
                let itself = bytes.len() as u8;
                bytes.extend([0xc0, itself, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 66, 66, 66]);
                bytes
            }),
            at_once({
                let mut looped = wrong.clone();
                looped.question = vec![0xc0, 12, 0, 1, 0, 1];
                looped.bytes()
            }),
            at_once({
                let bytes = wrong.bytes();
                bytes[..bytes.len() - 3].to_vec()
            }),
        ];
        says.push(Say::Message(Duration::from_millis(100), right(asked)));
        says.push(Say::Message(Duration::from_millis(100), right(asked)));
        says
    });
    let server = server_asking(&[&nameserver], &[]);
    let baseline = server.baseline();
    let origin = Origin::start();
    for number in 0..10 {
        let client = asking(&server, &format!("busy{number}.example"), origin.port());
        client.expect_granted();
        drop(origin.accept());
    }
    assert!(server.counters()["names_strangers"] >= 50);
    baseline.assert_at_rest();
}

#[test]
fn a_server_that_changes_letters_is_believed_when_it_insists() {
    let nameserver = Nameserver::start(|asked| {
        let low = asked.name.to_ascii_lowercase();
        let reply = asked.reply().about(&low, asked.kind);
        vec![at_once(match asked.kind {
            A => reply.address(&low, HERE, 60).bytes(),
            _ => reply.soa(60).bytes(),
        })]
    });
    let server = server_asking(&[&nameserver], &[]);
    let baseline = server.baseline();
    let origin = Origin::start();
    asking(&server, "a-rather-long-name-for-mixing.example", origin.port()).expect_granted();
    drop(origin);
    baseline.assert_restored();
}

#[test]
fn what_does_not_fit_comes_over_tcp() {
    let many: Vec<IpAddr> = (0..4000).map(|_| HERE).collect();
    let nameserver = Nameserver::start(move |asked| {
        if !asked.is_tcp {
            return vec![at_once(asked.reply().truncated().bytes())];
        }
        let name = asked.name.to_ascii_lowercase();
        match name.as_str() {
            "bytewise.example" => vec![Say::Bytewise(framed(&right(asked)))],
            "large.example" if asked.kind == A => {
                // As much as a message can be: 4,000 records, with the owner as a pointer.
                let mut message = asked.reply();
                message.flags |= 0;
                let mut bytes = message.bytes();
                bytes[6..8].copy_from_slice(&(many.len() as u16).to_be_bytes());
                for _ in &many {
                    bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
                }
                assert!(bytes.len() > 64_000);
                vec![at_once(bytes)]
            }
            _ => vec![at_once(right(asked))],
        }
    });
    let server = server_asking(&[&nameserver], &[]);
    let baseline = server.baseline();
    let origin = Origin::start();
    for name in ["plain.example", "bytewise.example", "large.example"] {
        let client = asking(&server, name, origin.port());
        client.expect_granted();
        drop(origin.accept());
    }
    assert!(server.counters()["names_truncated"] >= 3);
    baseline.assert_at_rest();
}

#[test]
fn a_stream_that_breaks_off_or_stalls_is_a_failure() {
    let nameserver = Nameserver::start(|asked| {
        if !asked.is_tcp {
            return vec![at_once(asked.reply().truncated().bytes())];
        }
        let half = framed(&right(asked));
        let half = half[..half.len() / 2].to_vec();
        match asked.name.to_ascii_lowercase().as_str() {
            "closed.example" => vec![Say::Close],
            "cut.example" => vec![Say::Bytewise(half), Say::Close],
            "stalled.example" => vec![Say::Bytewise(half)],
            "empty.example" => vec![at_once(Vec::new())],
            "stranger.example" => vec![at_once(asked.reply().id(asked.id ^ 1).bytes())],
            _ => vec![at_once(asked.reply().truncated().bytes())],
        }
    });
    let server = server_asking(&[&nameserver], &[SHORT]);
    let baseline = server.baseline();
    for name in ["closed", "cut", "stalled", "empty", "stranger", "truncated"] {
        assert_eq!(rep(&server, &format!("{name}.example"), 80), 4, "{name}");
    }
    baseline.assert_at_rest();
}

#[test]
fn aliases_are_followed_eight_links_far() {
    // a8.example is eight links away from its address, a9.example nine; in one message or many.
    let links = |name: &str| name.strip_prefix('a')?.split('.').next()?.parse::<u32>().ok();
    let nameserver = Nameserver::start(move |asked| {
        let name = asked.name.to_ascii_lowercase();
        let reply = asked.reply();
        let in_one = name.ends_with("one.example");
        let domain = if in_one { "one.example" } else { "many.example" };
        let node = |n: u32| format!("a{n}.{domain}");
        if name.starts_with("loop") {
            let reply = reply.alias(&name, "loop2.example", 60);
            return vec![at_once(reply.alias("loop2.example", &name, 60).bytes())];
        }
        let Some(far) = links(&name) else { return vec![at_once(reply.rcode(3).bytes())] };
        let shown = if in_one { far } else { far.min(1) };
        let reply = (far - shown..far)
            .rev()
            .fold(reply, |reply, n| reply.alias(&node(n + 1), &node(n), 60));
        let reply = match asked.kind {
            A if in_one || far == 0 => reply.address(&node(0), HERE, 60),
            _ => reply,
        };
        vec![at_once(reply.bytes())]
    });
    let server = server_asking(&[&nameserver], &[SHORT]);
    let baseline = server.baseline();
    let origin = Origin::start();
    for domain in ["one.example", "many.example"] {
        for far in [0, 1, 8] {
            let client = asking(&server, &format!("a{far}.{domain}"), origin.port());
            client.expect_granted();
            drop(origin.accept());
        }
        assert_eq!(rep(&server, &format!("a9.{domain}"), origin.port()), 4, "{domain}");
    }
    assert_eq!(rep(&server, "loop.example", origin.port()), 4);
    baseline.assert_at_rest();
}

#[test]
fn nobody_else_can_answer() {
    let nameserver =
        Nameserver::start(|asked| vec![Say::Message(Duration::from_millis(600), right(asked))]);
    let server = server_asking(&[&nameserver], &[]);
    let baseline = server.baseline();
    let origin = Origin::start();
    let clients: Vec<_> = (0..4)
        .map(|number| asking(&server, &format!("wanted{number}.example"), origin.port()))
        .collect();
    let questions = loop {
        let asked: Vec<Asked> = nameserver.asked().into_iter().filter(|it| it.kind == A).collect();
        if asked.len() >= clients.len() {
            break asked;
        }
        thread::sleep(Duration::from_millis(5));
    };
    // A forger who knows everything but is not the server, and one who is taken for it but has to
    // guess the rest.
    let until = Instant::now() + Duration::from_millis(300);
    let forger = UdpSocket::bind("127.0.0.1:0").unwrap();
    while Instant::now() < until {
        for asked in &questions {
            let wrong = asked.reply().address(&asked.name, ELSEWHERE, 60).bytes();
            let _ = forger.send_to(&wrong, asked.from);
        }
    }
    for client in clients {
        client.expect_granted();
        drop(origin.accept());
    }
    baseline.assert_restored();
}

#[test]
fn guessing_at_one_port_leads_nowhere() {
    let guessing = Arc::new(AtomicBool::new(true));
    let goes_on = Arc::clone(&guessing);
    // It sends what a forger behind the server's address would: all but the id is right.
    let nameserver = Nameserver::start(move |asked| {
        if asked.is_tcp {
            return vec![at_once(right(asked))];
        }
        let wrong = asked.reply().address(&asked.name, ELSEWHERE, 60);
        let guesses = if goes_on.load(Ordering::Relaxed) { 2000 } else { 0 };
        let guesses = (1..=guesses).map(|n| at_once(wrong.clone().id(asked.id ^ n).bytes()));
        guesses.collect()
    });
    let server = server_asking(&[&nameserver], &[]);
    let baseline = server.baseline();
    let origin = Origin::start();
    let client = asking(&server, "guessed.example", origin.port());
    client.expect_granted();
    drop((client, origin.accept()));
    guessing.store(false, Ordering::Relaxed);
    assert!(nameserver.asked().iter().any(|asked| asked.is_tcp), "a stream cannot be guessed into");
    baseline.assert_at_rest();
}

#[test]
fn a_name_of_the_server_is_written_as_it_is_asked() {
    // What these tests send and read is what the RFC has, as far as they need it.
    assert_eq!(encode("a.example"), b"\x01a\x07example\x00");
}
