//! What a datagram of an association costs beside the system calls.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};

use criterion::Criterion;
use ringsocks::proto::udp::{Header, parse};
use ringsocks::session::associate::contacts::{Contacts, Identity};

/// How many addresses an association may have, and how many have been sent to before.
const PEERS: u32 = 4096;

pub(super) fn bench(criterion: &mut Criterion) {
    bench_headers(criterion);
    bench_contacts(criterion);
}

fn bench_headers(criterion: &mut Criterion) {
    let payload = [7; 1200];
    let (v4, v6) = (address(1), SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 9], 443)));
    let mut group = criterion.benchmark_group("datagrams");
    for (name, header) in [
        ("parse, IPv4", Header::new(v4).as_slice()),
        ("parse, IPv6", Header::new(v6).as_slice()),
        ("parse, name", b"\x00\x00\x00\x03\x0fwww.example.com\x01\xbb"),
    ] {
        let datagram = [header, &payload].concat();
        group.bench_function(name, |it| {
            it.iter(|| parse(black_box(&datagram)).expect("a header").data.len());
        });
    }
    for (name, source) in [("header, IPv4", v4), ("header, IPv6", v6)] {
        group.bench_function(name, |it| it.iter(|| Header::new(black_box(source))));
    }
}

fn bench_contacts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("contacts");
    let mut contacts = Contacts::new(Identity::Address, PEERS as usize, 1 << 20);
    let circle = contacts.open();
    (0..PEERS).for_each(|number| contacts.touch(&circle, address(number)));
    let last = address(PEERS - 1);
    group.bench_function("touch, the same again", |it| {
        it.iter(|| contacts.touch(&circle, black_box(last)));
    });
    let mut turns = (0..16).cycle();
    group.bench_function("touch, one of 16", |it| {
        it.iter(|| contacts.touch(&circle, address(PEERS - 1 - turns.next().expect("a turn"))));
    });
    let mut others = (PEERS..).map(address);
    group.bench_function("touch, another each time", |it| {
        it.iter(|| contacts.touch(&circle, others.next().expect("another")));
    });
    let (known, stranger) =
        (others.next().expect("another"), SocketAddr::from(([192, 0, 2, 1], 443)));
    contacts.touch(&circle, known);
    assert!(contacts.contains(&circle, known) && !contacts.contains(&circle, stranger));
    for (name, source) in [("contains, the last", known), ("contains, a stranger", stranger)] {
        group.bench_function(name, |it| {
            it.iter(|| contacts.contains(&circle, black_box(source)));
        });
    }
    contacts.forget(circle);
}

fn address(number: u32) -> SocketAddr {
    let ip = Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() + number);
    SocketAddr::from((ip, 443))
}
