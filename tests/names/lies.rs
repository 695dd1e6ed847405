//! Answers that are nearly right: each alone changes nothing, costs no second question, and leaves
//! nothing behind.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::nameserver::{A, AAAA, Asked, Message, Nameserver, Say, at_once};
use crate::support::origin::Origin;
use crate::{asking, rep, server_asking};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Nobody answers there, and nobody must be asked.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 66, 66, 66));
const CNAME: u16 = 5;

const ONE_WORKER: (&str, &str) = ("RINGSOCKS_WORKERS", "1");

fn wrong(asked: &Asked) -> Message {
    asked.reply().address(&asked.name, ELSEWHERE, 60)
}

/// The lie comes first, and the true answer is still awaited.
#[track_caller]
fn assert_ignored(what: &str, lie: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) {
    let nameserver = Nameserver::start(move |asked| {
        let truth = asked.addresses(&[HERE], 60);
        vec![at_once(lie(asked)), Say::Message(Duration::from_millis(30), truth)]
    });
    let server = server_asking(&[&nameserver], &[]);
    let baseline = server.baseline();
    let origin = Origin::start();
    let client = asking(&server, "told.example", origin.port());
    let reply = client.expect_reply();
    assert_eq!(reply.rep, 0, "{what}");
    drop((client, origin.accept()));
    assert_eq!(nameserver.count("told.example"), 2, "{what}: asked again");
    assert_eq!(server.counters()["names_strangers"], 2, "{what}: not counted");
    baseline.assert_restored();
}

#[test]
fn an_answer_to_another_question_is_none() {
    assert_ignored("another id", |it| wrong(it).id(it.id ^ 1).bytes());
    assert_ignored("another name", |it| wrong(it).about("else.example", it.kind).bytes());
    assert_ignored("a longer name", |it| {
        wrong(it).about(&format!("{}.more", it.name), it.kind).bytes()
    });
    assert_ignored("a shorter name", |it| wrong(it).about("told", it.kind).bytes());
    assert_ignored("the other family", |it| wrong(it).about(&it.name, it.kind ^ A ^ AAAA).bytes());
    assert_ignored("another class", |it| {
        let mut message = wrong(it);
        *message.question.last_mut().expect("a question") = 3;
        message.bytes()
    });
    assert_ignored("another operation", |it| {
        let mut message = wrong(it);
        message.flags |= 0x2000;
        message.bytes()
    });
    assert_ignored("a failure of another", |it| wrong(it).id(it.id ^ 1).rcode(2).bytes());
    assert_ignored("a cut answer to another", |it| wrong(it).id(it.id ^ 1).truncated().bytes());
}

#[test]
fn a_pointer_that_leads_nowhere_is_garbage() {
    for kind in [A, AAAA, CNAME] {
        let with_owner = move |it: &Asked, owner: &[u8]| {
            let data = if kind == CNAME { owner.to_vec() } else { vec![127; 4] };
            let fixed = [&kind.to_be_bytes()[..], &[0, 1, 0, 0, 0, 60, 0, data.len() as u8]];
            let mut bytes = it.reply().bytes();
            bytes[7] = 1;
            [&bytes[..], owner, &fixed.concat(), &data].concat()
        };
        let end = |it: &Asked| it.reply().bytes().len() as u8;
        assert_ignored("to itself", move |it| with_owner(it, &[0xc0, end(it)]));
        assert_ignored("around", move |it| with_owner(it, &[1, b'a', 0xc0, end(it)]));
        assert_ignored("forward", move |it| with_owner(it, &[0xc0, end(it) + 12]));
        assert_ignored("out of the message", move |it| with_owner(it, &[0xff, 0xff]));
        assert_ignored("of no kind", move |it| with_owner(it, &[0x80, 0]));
    }
}

#[test]
fn whoever_guesses_the_id_must_guess_the_letters_as_well() {
    let questions = AtomicUsize::new(0);
    let nameserver = Nameserver::start(move |asked| {
        let is_first = questions.fetch_add(1, Ordering::Relaxed) < 2;
        let letters: String = asked.name.chars().map(flipped).collect();
        vec![at_once(match is_first {
            true => wrong(asked).about(&letters, asked.kind).bytes(),
            false => asked.addresses(&[HERE], 60),
        })]
    });
    let server = server_asking(&[&nameserver], &[]);
    let baseline = server.baseline();
    let origin = Origin::start();
    asking(&server, "guessed.example", origin.port()).expect_granted();
    drop(origin.accept());
    // Each family was asked for once more, and whoever has guessed an id has to guess another.
    let ids: Vec<u16> = nameserver.asked().iter().map(|it| it.id).collect();
    assert_eq!(ids.len(), 4);
    assert!(ids[..2].iter().all(|id| !ids[2..].contains(id)), "{ids:?}");
    baseline.assert_restored();
}

fn flipped(letter: char) -> char {
    match letter.is_ascii_uppercase() {
        true => letter.to_ascii_lowercase(),
        false => letter.to_ascii_uppercase(),
    }
}

#[test]
fn what_an_answer_says_of_other_names_is_not_kept() {
    let nameserver = Nameserver::start(|asked| {
        let reply = asked.reply();
        vec![at_once(match asked.is("mine.example") {
            true => reply
                .address(&asked.name, HERE, 60)
                .address("bank.example", HERE, 60)
                .alias("shop.example", &asked.name, 60)
                .bytes(),
            false => reply.rcode(3).soa(60).bytes(),
        })]
    });
    let server = server_asking(&[&nameserver], &[ONE_WORKER]);
    let baseline = server.baseline();
    let origin = Origin::start();
    asking(&server, "mine.example", origin.port()).expect_granted();
    drop(origin.accept());
    for name in ["bank.example", "shop.example"] {
        assert_eq!(rep(&server, name, origin.port()), 4, "{name}");
        assert_eq!(nameserver.count(name), 2, "{name}");
    }
    baseline.assert_restored();
}

#[test]
fn records_may_stand_in_any_order() {
    let nameserver = Nameserver::start(|asked| {
        let reply = asked.reply();
        vec![at_once(match asked.kind {
            A => reply
                .address("c.example", HERE, 60)
                .alias("b.example", "C.Example", 60)
                .alias(&asked.name, "b.example", 60)
                .bytes(),
            _ => reply.soa(60).bytes(),
        })]
    });
    let server = server_asking(&[&nameserver], &[]);
    let baseline = server.baseline();
    let origin = Origin::start();
    asking(&server, "a.example", origin.port()).expect_granted();
    drop(origin.accept());
    assert_eq!(nameserver.count("a.example"), 2);
    baseline.assert_restored();
}

#[test]
fn who_answers_late_and_wrongly_meets_nobody() {
    let nameserver = Nameserver::start(|asked| {
        let late = Say::Message(Duration::from_millis(100), wrong(asked).bytes());
        vec![at_once(asked.addresses(&[HERE], 60)), late]
    });
    let server = server_asking(&[&nameserver], &[ONE_WORKER]);
    let baseline = server.baseline();
    let origin = Origin::start();
    for _ in 0..30 {
        asking(&server, "known.example", origin.port()).expect_granted();
        drop(origin.accept());
        thread::sleep(Duration::from_millis(10));
    }
    // On a busy machine an answer may come when nobody waits for it any more, and is asked for again.
    assert!(nameserver.count("known.example") < 10, "what was known was forgotten");
    baseline.assert_at_rest();
}
