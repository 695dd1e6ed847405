//! From a client's first byte to its request.

use std::hint::black_box;

use criterion::Criterion;
use ringsocks::auth::Users;
use ringsocks::proto::Request;
use ringsocks::proto::socks5::Method;
use ringsocks::session::negotiation::{Negotiation, Step};

const SOCKS5: &[u8] = b"\x05\x01\x00\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50";
const SOCKS5_BY_NAME: &[u8] = b"\x05\x01\x00\x05\x01\x00\x03\x0fwww.example.com\x00\x50";
const SOCKS5_WITH_PASSWORD: &[u8] =
    b"\x05\x02\x00\x02\x01\x05alice\x06wonder\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50";
const SOCKS4: &[u8] = b"\x04\x01\x00\x50\xc0\x00\x02\x01alice\x00";
const SOCKS4A: &[u8] = b"\x04\x01\x00\x50\x00\x00\x00\x01alice\x00www.example.com\x00";

pub(super) fn bench(criterion: &mut Criterion) {
    let (open, alice) = (Users::none(), Users::new([("alice", "wonder")]).expect("a user"));
    let transcripts = [
        ("socks5", SOCKS5, &open),
        ("socks5 by name", SOCKS5_BY_NAME, &open),
        ("socks5 with password", SOCKS5_WITH_PASSWORD, &alice),
        ("socks4", SOCKS4, &open),
        ("socks4a", SOCKS4A, &open),
    ];
    let mut group = criterion.benchmark_group("handshake");
    for (name, transcript, users) in transcripts {
        group.bench_function(name, |it| it.iter(|| negotiate(black_box(transcript), users)));
    }
}

/// A handshake whose messages are all there.
fn negotiate(mut inbox: &[u8], users: &Users) -> Request {
    let mut negotiation = Negotiation::new();
    loop {
        let method = if users.is_empty() { Method::None } else { Method::Password };
        match negotiation.step(inbox, &[method]) {
            Step::Say { consumed, answer } => {
                black_box(answer);
                inbox = &inbox[consumed..];
            }
            Step::Verify { consumed, credentials } => {
                black_box(negotiation.settle(users.verify(&credentials)));
                inbox = &inbox[consumed..];
            }
            Step::Request { request, .. } => return request,
            step => panic!("no request, but {step:?}"),
        }
    }
}
