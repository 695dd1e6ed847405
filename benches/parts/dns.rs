//! Questions, answers, and names that are known.

use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use criterion::Criterion;
use ringsocks::dns::message::{Family, Question, Reply, mix_letters, read};
use ringsocks::dns::{Action, Asked, CHANNELS_MAX, Resolver, Sources};
use ringsocks::proto::{Host, Name};
use ringsocks::token::{Role, Token};

const NAME: &str = "www.example.com";

/// The octets of a header, and of the OPT record that ends each query.
const HEADER: usize = 12;
const OPT: usize = 11;

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("dns");
    let question = Question { id: 0x1234, name: NAME.into(), family: Family::V4, is_exact: false };
    let mut query = Vec::new();
    question.encode(true, &mut query);
    let answer = answer_to(&query);
    assert!(matches!(read(&answer, &question), Ok(Reply::Addresses { .. })));
    group.bench_function("encode a question", |it| {
        it.iter(|| {
            query.clear();
            black_box(&question).encode(true, &mut query);
        });
    });
    group.bench_function("mix letters", |it| {
        it.iter(|| mix_letters(black_box(NAME), || 0x5a5a_5a5a_5a5a_5a5a));
    });
    group.bench_function("read an answer", |it| it.iter(|| read(black_box(&answer), &question)));

    let (name, now) = (name(), Instant::now());
    let waiter = Token::new(1, Role::Answer, 0);
    let mut resolver = informed_resolver(&name, waiter, now);
    group.bench_function("ask, cached", |it| {
        it.iter(|| resolver.ask(black_box(&name), waiter, None, now));
    });
}

fn name() -> Name {
    match Host::parse_name(NAME.as_bytes()) {
        Ok(Host::Name(name)) => name,
        other => panic!("{NAME} is no name: {other:?}"),
    }
}

/// A resolver that was told of both families' addresses.
fn informed_resolver(name: &Name, waiter: Token, now: Instant) -> Resolver {
    let sources = Sources::new(vec!["192.0.2.53:53".parse().expect("an address")], b"", false);
    let entropy = Box::new(|bytes: &mut [u8]| bytes.fill(0x5a));
    let mut resolver = Resolver::new(Arc::new(sources), entropy, CHANNELS_MAX, now);
    assert_eq!(resolver.ask(name, waiter, None, now), Asked::Pending);
    while let Some(action) = resolver.poll_action() {
        if let Action::Send { channel, bytes } = action {
            resolver.handle_datagram(channel, &answer_to(&bytes), now);
        }
    }
    let asked = resolver.ask(name, waiter, None, now);
    assert!(matches!(asked, Asked::Known(_)), "{asked:?}");
    resolver
}

/// An answer with two addresses of the family that is asked for, and a minute to live.
fn answer_to(query: &[u8]) -> Vec<u8> {
    const HEAD: [u8; HEADER - 2] = [0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0];
    let question = &query[HEADER..query.len() - OPT];
    let kind = question[question.len() - 3];
    let mut answer = [&query[..2], &HEAD, question].concat();
    for host in 1..=2 {
        let address = match kind {
            1 => Ipv4Addr::new(192, 0, 2, host).octets().to_vec(),
            _ => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host.into()).octets().to_vec(),
        };
        answer.extend([0xc0, HEADER as u8, 0, kind, 0, 1, 0, 0, 0, 60, 0, address.len() as u8]);
        answer.extend(address);
    }
    answer
}
