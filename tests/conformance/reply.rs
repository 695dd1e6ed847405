//! What the server answers, and how a refused connection ends (RFC 1928 section 6).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::support::origin::{ClosedPort, Origin};
use crate::support::peer::Peer;
use crate::support::socks::{connect_to, connect_to_name, refusal};

crate::rows! {
    Anything:
        p01_q36_failure_is_ten_bytes_then_fin
        p02_refused_port
        p02_refused_port_by_name
        p02_broadcast_is_unreachable
        p02_unknown_name
        p03_gone_within_ten_seconds_though_the_client_never_reads
        p03_gone_within_ten_seconds_though_the_client_never_stops_sending
        p05_no_second_reply_after_a_failure
        p06_q38_failure_reply_survives_early_data
        p06_q39_failure_reply_survives_data_sent_after_the_request;
    V6:
        p02_refused_v6_port
        q41_v6_literal_is_answered;
}

/// RFC 1928 section 6: "not more than 10 seconds after detecting the condition".
const GONE_WITHIN: Duration = Duration::from_secs(10);

fn p01_q36_failure_is_ten_bytes_then_fin(bench: &Bench) {
    let closed = ClosedPort::everywhere();
    let client = bench.requesting(&connect_to(bench.sees_closed(&closed)));
    client.expect(&refusal(5));
    client.expect_eof();
}

fn p02_refused_port(bench: &Bench) {
    let closed = ClosedPort::everywhere();
    refused_client(bench, &closed).expect_refused(5);
}

fn p02_refused_port_by_name(bench: &Bench) {
    let closed = ClosedPort::everywhere();
    let request = connect_to_name(bench.host_name().as_bytes(), closed.port());
    bench.requesting(&request).expect_refused(5);
}

fn p02_refused_v6_port(bench: &Bench) {
    let closed = ClosedPort::everywhere();
    let target = SocketAddr::from((Ipv6Addr::LOCALHOST, closed.port()));
    bench.requesting(&connect_to(target)).expect_refused(5);
}

fn p02_broadcast_is_unreachable(bench: &Bench) {
    let target = SocketAddr::from((Ipv4Addr::BROADCAST, 9));
    bench.requesting(&connect_to(target)).expect_refused(3);
}

fn p02_unknown_name(bench: &Bench) {
    bench.requesting(&connect_to_name(b"no-such-host.invalid", 80)).expect_refused(4);
}

fn p03_gone_within_ten_seconds_though_the_client_never_reads(bench: &Bench) {
    let closed = ClosedPort::everywhere();
    expect_gone_while_sending(&refused_client(bench, &closed), b"x");
}

fn p03_gone_within_ten_seconds_though_the_client_never_stops_sending(bench: &Bench) {
    let closed = ClosedPort::everywhere();
    expect_gone_while_sending(&refused_client(bench, &closed), &[b'x'; 4096]);
}

fn p05_no_second_reply_after_a_failure(bench: &Bench) {
    let origin = Origin::start_everywhere();
    let closed = ClosedPort::everywhere();
    let again = connect_to(bench.sees(&origin));
    let client =
        bench.requesting(&[connect_to(bench.sees_closed(&closed)), again.clone()].concat());
    assert_eq!(client.expect_reply().rep, 5);
    // The connection may have ended already, and that is as it should be.
    let _ = client.try_send(&again);
    client.expect_eof();
    origin.expect_nobody();
}

fn p06_q38_failure_reply_survives_early_data(bench: &Bench) {
    let closed = ClosedPort::everywhere();
    for early in [1, 100, 10_000, 32 * 1024] {
        let mut message = connect_to(bench.sees_closed(&closed));
        message.resize(message.len() + early, b'e');
        bench.requesting(&message).expect_refused(5);
    }
}

fn p06_q39_failure_reply_survives_data_sent_after_the_request(bench: &Bench) {
    let closed = ClosedPort::everywhere();
    for _ in 0..20 {
        let client = refused_client(bench, &closed);
        for _ in 0..8 {
            // What is sent after the server's own end may meet a closed socket.
            let _ = client.try_send(&[b'e'; 1000]);
        }
        client.expect_refused(5);
    }
}

fn q41_v6_literal_is_answered(bench: &Bench) {
    // No host has a stream connection to a multicast group.
    let target = SocketAddr::from((Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 9));
    let reply = bench.requesting(&connect_to(target)).expect_reply();
    assert!(matches!(reply.rep, 3 | 4 | 8), "REP 03, 04 or 08 for {target}, got {reply:x?}");
}

fn refused_client(bench: &Bench, closed: &ClosedPort) -> Peer {
    bench.requesting(&connect_to(bench.sees_closed(closed)))
}

/// The client never reads and never closes: what it sends meets a reset in time.
#[track_caller]
fn expect_gone_while_sending(client: &Peer, chunk: &[u8]) {
    let refused = Instant::now();
    while client.try_send(chunk).is_ok() {
        if refused.elapsed() > GONE_WITHIN {
            client.fail("the connection gone within 10 s", "still open");
        }
        thread::sleep(Duration::from_millis(50));
    }
}
