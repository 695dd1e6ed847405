//! From a client's first byte to its request.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Instant;

use criterion::Criterion;
use ringsocks::auth::{Auth, LogIn};
use ringsocks::config::Config;
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
    let config = Config::parse("bench", "users.alice = \"plain:wonder\"");
    let auth = Auth::load(&config.expect("a configuration")).expect("a user");
    let transcripts = [
        ("socks5", SOCKS5, Method::None),
        ("socks5 by name", SOCKS5_BY_NAME, Method::None),
        ("socks5 with password", SOCKS5_WITH_PASSWORD, Method::Password),
        ("socks4", SOCKS4, Method::None),
        ("socks4a", SOCKS4A, Method::None),
    ];
    let mut group = criterion.benchmark_group("handshake");
    for (name, transcript, method) in transcripts {
        let now = Instant::now();
        group.bench_function(name, |it| {
            it.iter(|| negotiate(black_box(transcript), method, &auth, now));
        });
    }
}

/// A handshake whose messages are all there.
fn negotiate(mut inbox: &[u8], method: Method, auth: &Auth, now: Instant) -> Request {
    let mut negotiation = Negotiation::new();
    loop {
        match negotiation.step(inbox, &[method]) {
            Step::Say { consumed, answer } => {
                black_box(answer);
                inbox = &inbox[consumed..];
            }
            Step::Verify { consumed, credentials } => {
                let LogIn::Known(checked) =
                    auth.log_in(&credentials, Ipv4Addr::LOCALHOST.into(), false, now)
                else {
                    panic!("a plain password is known at once");
                };
                black_box(negotiation.settle(checked.result.is_ok()));
                inbox = &inbox[consumed..];
            }
            Step::Request { request, .. } => return request,
            step => panic!("no request, but {step:?}"),
        }
    }
}
