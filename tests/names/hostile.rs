//! Answers that are wrong, forged, or no answers at all.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::support::dns::message::{
    A, AAAA, CNAME, Message, NXDOMAIN, Question, SERVFAIL, encoded, raw_record,
};
use crate::support::dns::{Nameserver, Response};
use crate::support::origin::Origin;
use crate::support::random_bytes;
use crate::{assert_all_refused, assert_reaches, assert_refused};

/// Where forged answers lead.
const TRAP: &str = "127.0.0.66";

/// A port with a trap: who believes a forged answer is seen there.
struct Trapped {
    origin: Origin,
    trap: Origin,
}

impl Trapped {
    fn new() -> Trapped {
        for _ in 0..20 {
            let origin = Origin::start();
            let address = SocketAddr::new(TRAP.parse().expect("an address"), origin.port());
            if let Some(trap) = Origin::try_start_at(address) {
                return Trapped { origin, trap };
            }
        }
        panic!("no port is free at both addresses");
    }
}

fn here(question: &Question) -> Message {
    question.addresses(&["127.0.0.1"])
}

fn forged(question: &Question) -> Message {
    question.addresses(&[TRAP])
}

/// A message with one of its bytes changed.
fn changed(message: &Message, place: usize, change: impl Fn(u8) -> u8) -> Vec<u8> {
    let mut bytes = message.bytes();
    bytes[place] = change(bytes[place]);
    bytes
}

type Forgery = fn(&Question) -> Vec<u8>;

/// Messages that answer nothing that was asked.
const NO_ANSWERS: &[(&str, Forgery)] = &[
    ("empty", |_| Vec::new()),
    ("a-byte", |_| vec![0]),
    ("eleven-bytes", |it| forged(it).bytes()[..11].to_vec()),
    ("header-only", |it| forged(it).bytes()[..12].to_vec()),
    ("other-id", |it| forged(it).id(it.id.wrapping_add(1)).bytes()),
    ("swapped-id", |it| forged(it).id(!it.id).bytes()),
    ("other-name", |it| forged(it).about("another.example", it.kind).bytes()),
    ("longer-name", |it| forged(it).about(&format!("a.{}", it.name), it.kind).bytes()),
    ("shorter-name", |it| forged(it).about("example", it.kind).bytes()),
    ("other-kind", |it| forged(it).about(&it.name, A + AAAA - it.kind).bytes()),
    ("no-question", |it| {
        let mut bytes = forged(it).bytes();
        bytes[5] = 0;
        bytes
    }),
    ("two-questions", |it| changed(&forged(it), 5, |_| 2)),
    ("other-class", |it| {
        let class = forged(it).question_end() - 1;
        changed(&forged(it), class, |_| 3)
    }),
    ("failure-of-another", |it| it.failure(SERVFAIL).id(!it.id).bytes()),
    ("cut-answer-to-another", |it| it.answer().truncated().id(!it.id).bytes()),
    ("a-question", |it| changed(&forged(it), 2, |flags| flags & 0x7f)),
    ("a-notification", |it| changed(&forged(it), 2, |flags| flags | 0x20)),
    ("noise", |it| random_bytes(it.id.into(), 512)),
    ("noise-with-its-id", |it| {
        [&it.id.to_be_bytes()[..], &random_bytes(it.id.into(), 512)].concat()
    }),
    ("zeros", |_| vec![0; 1232]),
    ("ones", |_| vec![0xff; 1232]),
];

#[test]
fn what_is_no_answer_is_passed_over() {
    let trapped = Trapped::new();
    let nameserver = Nameserver::start();
    for (name, forgery) in NO_ANSWERS {
        nameserver.script(&format!("{name}.example"), move |question| {
            Response::bytes(forgery(question)).and(&here(question))
        });
    }
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    for (name, _) in NO_ANSWERS {
        assert_reaches(&server, &format!("{name}.example"), &trapped.origin);
    }
    trapped.trap.expect_nobody();
    let counters = server.counters();
    assert!(counters["names_strangers"] >= NO_ANSWERS.len() as u64, "{counters:?}");
    // They were not asked again for it.
    assert_eq!(nameserver.questions().len(), 2 * NO_ANSWERS.len());
    baseline.assert_at_rest();
}

/// Answers to the question that was asked whose records are none.
const BROKEN: &[(&str, Forgery)] = &[
    ("owner-is-itself", |it| {
        let place = it.answer().bytes().len() as u16 | 0xc000;
        it.answer().raw_answer(raw_record(&place.to_be_bytes(), A, 60, &[127, 0, 0, 1])).bytes()
    }),
    ("owner-in-a-circle", |it| {
        let place = it.answer().bytes().len() as u16 | 0xc000;
        let owner = [&[1, b'a'][..], &place.to_be_bytes()].concat();
        it.answer().raw_answer(raw_record(&owner, A, 60, &[127, 0, 0, 1])).bytes()
    }),
    ("owner-ahead", |it| {
        let ahead = (it.answer().bytes().len() as u16 + 16) | 0xc000;
        it.answer().raw_answer(raw_record(&ahead.to_be_bytes(), A, 60, &[127, 0, 0, 1])).bytes()
    }),
    ("owner-outside", |it| {
        it.answer().raw_answer(raw_record(&[0xff, 0xff], A, 60, &[127, 0, 0, 1])).bytes()
    }),
    ("owner-of-an-unknown-sort", |it| {
        it.answer().raw_answer(raw_record(&[0x80, 12], A, 60, &[127, 0, 0, 1])).bytes()
    }),
    ("alias-in-a-circle", |it| {
        let place = (it.answer().bytes().len() as u16 + 12) | 0xc000;
        it.answer().raw_answer(raw_record(&[0xc0, 12], CNAME, 60, &place.to_be_bytes())).bytes()
    }),
    ("alias-too-long", |it| {
        let long = encoded(&["a".repeat(63).as_str(); 5].join("."));
        it.answer().raw_answer(raw_record(&[0xc0, 12], CNAME, 60, &long)).bytes()
    }),
    ("address-too-short", |it| {
        it.answer().raw_answer(raw_record(&[0xc0, 12], it.kind, 60, &[127, 0, 0])).bytes()
    }),
    ("address-too-long", |it| {
        it.answer().raw_answer(raw_record(&[0xc0, 12], it.kind, 60, &[1; 17])).bytes()
    }),
    ("breaks-off", |it| {
        let whole = here(it).bytes();
        whole[..whole.len() - 1].to_vec()
    }),
    ("promises-more", |it| changed(&here(it), 6, |_| 0xff)),
    ("record-of-another-class", |it| {
        let mut record = raw_record(&[0xc0, 12], it.kind, 60, &[127, 0, 0, 1]);
        record[5] = 3;
        it.answer().raw_answer(record).bytes()
    }),
    ("other-kind-of-record", |it| {
        it.answer().raw_answer(raw_record(&[0xc0, 12], 99, 60, &[127, 0, 0, 1])).bytes()
    }),
    ("other-owner", |it| it.answer().address("another.example", 60, [127, 0, 0, 1].into()).bytes()),
];

#[test]
fn answers_that_break_the_rules_end_in_04() {
    let nameserver = Nameserver::start();
    for (name, forgery) in BROKEN {
        let forgery = *forgery;
        nameserver
            .script(&format!("{name}.example"), move |question| Response::bytes(forgery(question)));
    }
    let server = nameserver.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "1500ms")]);
    let baseline = server.baseline();
    assert_all_refused(&server, BROKEN.iter().map(|(name, _)| format!("{name}.example")), 4);
    baseline.assert_at_rest();
}

#[test]
fn thousands_of_records_are_no_burden() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    nameserver.script("crowded.example", |question| match question.over_tcp {
        false => question.answer().truncated(),
        true => {
            // 11 bytes each, the least that a record takes.
            let crowd = (0..5_900).fold(here(question), |message, _| {
                message.raw_answer(raw_record(&[0], 99, 60, &[]))
            });
            assert!(crowd.bytes().len() > 64_000);
            crowd
        }
    });
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    for _ in 0..3 {
        assert_reaches(&server, "crowded.example", &origin);
    }
    baseline.assert_at_rest();
}

#[test]
fn an_answer_from_elsewhere_is_never_believed() {
    let trapped = Trapped::new();
    let nameserver = Nameserver::start();
    let port = nameserver.address().port();
    let another_port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let another_address =
        UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), port)).expect("that port is free there");
    nameserver.script("forged.example", move |question| {
        // Everything is right but where it comes from.
        for socket in [&another_port, &another_address] {
            for _ in 0..200 {
                let sent = socket.send_to(&forged(question).bytes(), question.from);
                sent.expect("a datagram can be sent");
            }
        }
        Response::from(here(question)).after(Duration::from_millis(300))
    });
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    assert_reaches(&server, "forged.example", &trapped.origin);
    trapped.trap.expect_nobody();
    assert_eq!(nameserver.counts_for("forged.example"), [1, 1]);
    baseline.assert_at_rest();
}

#[test]
fn a_forger_who_knows_the_port_is_not_believed() {
    let trapped = Trapped::new();
    let nameserver = Nameserver::start();
    nameserver.script("forged.example", |question| {
        if question.over_tcp {
            return here(question).into();
        }
        // As many guesses as a second holds, from the very address that was asked.
        let guesses = (1..=5_000).map(|n| question.id.wrapping_add(n));
        let response = guesses
            .fold(Response::silence(), |response, id| response.and(&forged(question).id(id)));
        response.and(&here(question))
    });
    let server = nameserver.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "10s")]);
    let baseline = server.baseline();
    assert_reaches(&server, "forged.example", &trapped.origin);
    trapped.trap.expect_nobody();
    let counters = server.counters();
    assert!(counters["names_strangers"] >= 100, "{counters:?}");
    baseline.assert_at_rest();
}

#[test]
fn an_answer_in_other_letters_is_asked_for_again() {
    let trapped = Trapped::new();
    let nameserver = Nameserver::start();
    let forged_once = Mutex::new(HashSet::new());
    nameserver.script("letters-of-a-forger.example", move |question| {
        if forged_once.lock().unwrap().insert(question.kind) {
            return forged(question).about(&question.lower_name(), question.kind);
        }
        here(question)
    });
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    assert_reaches(&server, "letters-of-a-forger.example", &trapped.origin);
    trapped.trap.expect_nobody();
    let questions = nameserver.questions();
    let of_v4: Vec<&Question> = questions.iter().filter(|it| it.kind == A).collect();
    assert_eq!(of_v4.len(), 2);
    assert_ne!(of_v4[0].id, of_v4[1].id, "the second question is as new as the first");
    baseline.assert_at_rest();
}

#[test]
fn a_server_that_does_not_keep_letters_still_works() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    nameserver
        .script_others(|question| here(question).about(&question.lower_name(), question.kind));
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    for n in 0..20 {
        assert_reaches(&server, &format!("some-longer-name-{n}.example"), &origin);
    }
    baseline.assert_at_rest();
}

#[test]
fn what_an_answer_says_of_other_names_is_not_kept() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    nameserver.script("mine.example", |question| {
        here(question).address("bank.example", 60, [127, 0, 0, 1].into()).cname(
            "shop.example",
            60,
            &question.name,
        )
    });
    for name in ["bank.example", "shop.example"] {
        nameserver.script(name, |question| question.failure(NXDOMAIN).soa(60, 60));
    }
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    assert_reaches(&server, "mine.example", &origin);
    for name in ["bank.example", "shop.example"] {
        assert_refused(&server, name, 4);
        assert_eq!(nameserver.counts_for(name), [1, 1], "{name}");
    }
    baseline.assert_at_rest();
}

#[test]
fn who_answers_late_and_wrongly_meets_nobody() {
    let trapped = Trapped::new();
    let nameserver = Nameserver::start();
    let sockets = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    nameserver.script("late-lie.example", move |question| {
        let (socket, lie, to) =
            (sockets.try_clone().expect("a descriptor more"), forged(question), question.from);
        thread::spawn(move || {
            for _ in 0..20 {
                thread::sleep(Duration::from_millis(10));
                // The port may be closed by now.
                let _ = socket.send_to(&lie.bytes(), to);
            }
        });
        Response::from(here(question)).and(&forged(question))
    });
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    for _ in 0..20 {
        assert_reaches(&server, "late-lie.example", &trapped.origin);
        thread::sleep(Duration::from_millis(10));
    }
    trapped.trap.expect_nobody();
    // On a busy machine an answer may come when nobody waits for it any more, and is asked for again.
    let asked = nameserver.questions().len();
    assert!(asked < 10, "what was known was forgotten: {asked} questions");
    baseline.assert_at_rest();
}

#[test]
fn letters_are_mixed() {
    let nameserver = Nameserver::start();
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    for n in 0..50 {
        assert_refused(&server, &format!("a-name-of-many-letters-{n}.example"), 4);
    }
    let questions = nameserver.questions();
    assert_eq!(questions.len(), 100);
    let letters: String = questions.iter().map(|it| it.name.as_str()).collect();
    let (upper, all) =
        letters.chars().filter(char::is_ascii_alphabetic).fold((0, 0), |(upper, all), letter| {
            (upper + usize::from(letter.is_ascii_uppercase()), all + 1)
        });
    assert!((all * 4 / 10..all * 6 / 10).contains(&upper), "{upper} of {all} are capitals");
    let patterns: HashSet<Vec<bool>> = questions
        .iter()
        .map(|it| it.name.chars().take(20).map(|letter| letter.is_ascii_uppercase()).collect())
        .collect();
    assert!(patterns.len() > 95, "{} patterns of 100", patterns.len());
    baseline.assert_at_rest();
}

#[test]
fn ids_and_ports_follow_no_pattern() {
    let nameserver = Nameserver::start();
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    for n in 0..200 {
        assert_refused(&server, &format!("{n}.example"), 4);
    }
    let questions = nameserver.questions();
    assert_eq!(questions.len(), 400);
    let ids: Vec<u16> = questions.iter().map(|it| it.id).collect();
    let of_v4 = questions.iter().filter(|it| it.kind == A);
    let ports: Vec<u16> = of_v4.map(|it| it.from.port()).collect();
    assert_without_pattern("ids", &ids);
    assert_without_pattern("ports", &ports);
    baseline.assert_at_rest();
}

/// Few come twice, few follow each other, and they lie far apart.
#[track_caller]
fn assert_without_pattern(what: &str, numbers: &[u16]) {
    let different: HashSet<u16> = numbers.iter().copied().collect();
    assert!(different.len() >= numbers.len() * 95 / 100, "{what}: {numbers:?}");
    let close = numbers.windows(2).filter(|it| it[0].abs_diff(it[1]) <= 4).count();
    assert!(close <= numbers.len() / 20, "{what}: {close} neighbours in {numbers:?}");
    let rising = numbers.windows(2).filter(|it| it[0] < it[1]).count();
    let share = rising * 100 / numbers.len();
    assert!((30..70).contains(&share), "{what}: {share} of 100 are above the one before");
    let (low, high) = (different.iter().min(), different.iter().max());
    let span = high.zip(low).map_or(0, |(high, low)| high - low);
    assert!(span > 10_000, "{what}: only {span} apart");
}

#[test]
fn whoever_sends_without_being_asked_costs_nothing_lasting() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    nameserver.script("flooded.example", |question| {
        let to = question.from;
        thread::spawn(move || {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            for _ in 0..20_000 {
                // The port may be closed by now.
                let _ = socket.send_to(&[0xa5; 512], to);
            }
        });
        Response::from(here(question)).after(Duration::from_millis(200))
    });
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    assert_reaches(&server, "flooded.example", &origin);
    baseline.assert_at_rest();
}
