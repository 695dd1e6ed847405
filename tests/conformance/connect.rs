//! CONNECT: a session from its request to its end.

use std::net::Ipv6Addr;
use std::thread;
use std::time::Duration;

use crate::bench::Bench;
use crate::support::origin::{DeafTarget, Origin};
use crate::support::peer::{End, Peer};
use crate::support::socks::{connect_to, connect_to_name};
use crate::support::{assert_same_bytes, random_bytes};

crate::rows! {
    Anything:
        n10_q09_everything_in_one_segment_cut_everywhere
        n10_q09_everything_in_one_segment_by_name
        r13_a_megabyte_of_early_data
        p04_data_flows_both_ways
        c01_p01_bnd_is_where_we_come_from
        c01_p01_bnd_by_name
        c04_client_ends_first
        c04_target_ends_first
        c04_both_end_at_once
        c05_client_resets
        c05_target_resets
        c05_client_resets_after_data
        c05_target_resets_after_data
        n11_h02_reset_after_every_prefix
        q08_one_byte_at_a_time
        q40_half_close_right_behind_early_data;
    V6:
        n10_q09_everything_in_one_segment_to_v6
        c01_p01_bnd_of_v6;
    Loopback:
        c02_no_success_before_the_target_answered
        n11_fin_behind_a_bare_request_is_a_hang_up
        q46_close_while_connecting_cancels
        q46_reset_while_connecting_cancels;
}

const EARLY: &[u8] = b"EARLY";
const LATE: &[u8] = b"LATE";

fn n10_q09_everything_in_one_segment_cut_everywhere(bench: &Bench) {
    expect_exactly_once(bench, |origin| connect_to(bench.sees(origin)));
}

fn n10_q09_everything_in_one_segment_by_name(bench: &Bench) {
    expect_exactly_once(bench, |origin| {
        connect_to_name(bench.host_name().as_bytes(), origin.port())
    });
}

fn n10_q09_everything_in_one_segment_to_v6(bench: &Bench) {
    expect_exactly_once(bench, |origin| connect_to((Ipv6Addr::LOCALHOST, origin.port()).into()));
}

fn r13_a_megabyte_of_early_data(bench: &Bench) {
    let origin = Origin::start_everywhere();
    let early = random_bytes(13, 1 << 20);
    let client = bench.requesting(&connect_to(bench.sees(&origin)));
    thread::scope(|scope| {
        let target = scope.spawn(|| origin.accept().exchange(b"done"));
        scope.spawn(|| {
            client.send(&early);
            client.fin();
        });
        client.expect_granted();
        client.expect(b"done");
        client.expect_eof();
        assert_same_bytes(&target.join().expect("the origin was reached").bytes, &early);
    });
}

fn p04_data_flows_both_ways(bench: &Bench) {
    let origin = Origin::start_everywhere();
    expect_session(&origin, &bench.requesting(&connect_to(bench.sees(&origin))));
}

fn c01_p01_bnd_is_where_we_come_from(bench: &Bench) {
    expect_true_bnd(bench, |origin| connect_to(bench.sees(origin)));
}

fn c01_p01_bnd_by_name(bench: &Bench) {
    expect_true_bnd(bench, |origin| connect_to_name(bench.host_name().as_bytes(), origin.port()));
}

fn c01_p01_bnd_of_v6(bench: &Bench) {
    expect_true_bnd(bench, |origin| connect_to((Ipv6Addr::LOCALHOST, origin.port()).into()));
}

fn c02_no_success_before_the_target_answered(bench: &Bench) {
    let deaf = DeafTarget::start();
    let client = bench.requesting(&connect_to((bench.host(), deaf.port()).into()));
    client.expect_silence(Duration::from_millis(300));
    let origin = deaf.listen_again();
    expect_session(&origin, &client);
}

fn c04_client_ends_first(bench: &Bench) {
    let (client, target) = session(bench);
    expect_whole_answer_after_fin(&client, &target);
}

fn c04_target_ends_first(bench: &Bench) {
    let (client, target) = session(bench);
    expect_whole_answer_after_fin(&target, &client);
}

fn c04_both_end_at_once(bench: &Bench) {
    let (client, target) = session(bench);
    client.send(b"from the client");
    target.send(b"from the target");
    client.fin();
    target.fin();
    client.expect(b"from the target");
    target.expect(b"from the client");
    client.expect_eof();
    target.expect_eof();
}

fn c05_client_resets(bench: &Bench) {
    let (client, target) = session(bench);
    client.reset();
    target.expect_reset();
}

fn c05_target_resets(bench: &Bench) {
    let (client, target) = session(bench);
    target.reset();
    client.expect_reset();
}

fn c05_client_resets_after_data(bench: &Bench) {
    let (client, target) = session(bench);
    expect_reset_after_data(client, &target);
}

fn c05_target_resets_after_data(bench: &Bench) {
    let (client, target) = session(bench);
    expect_reset_after_data(target, &client);
}

fn q08_one_byte_at_a_time(bench: &Bench) {
    let origin = Origin::start_everywhere();
    let client = bench.client();
    for (message, answer) in bench.prologue() {
        client.send_byte_by_byte(&message);
        client.expect(&answer);
    }
    client.send_byte_by_byte(&connect_to(bench.sees(&origin)));
    client.expect_granted();
    let target = origin.accept();
    client.send_byte_by_byte(b"one at a time");
    target.expect(b"one at a time");
    target.send_byte_by_byte(b"and back");
    client.expect(b"and back");
    expect_clean_end(&client, &target);
}

fn q40_half_close_right_behind_early_data(bench: &Bench) {
    let origin = Origin::start_everywhere();
    let (prologue, answers) = bench.pipelined_prologue();
    let client = bench.client();
    client.send(&[&prologue, &connect_to(bench.sees(&origin)), EARLY].concat());
    client.fin();
    client.expect(&answers);
    client.expect_granted();
    let target = origin.accept();
    target.expect(EARLY);
    target.expect_eof();
    target.send(b"the whole answer");
    target.fin();
    client.expect(b"the whole answer");
    client.expect_eof();
}

fn n11_fin_behind_a_bare_request_is_a_hang_up(bench: &Bench) {
    let deaf = DeafTarget::start();
    let client = bench.requesting(&connect_to((bench.host(), deaf.port()).into()));
    client.fin();
    client.expect_silent_close();
}

fn n11_h02_reset_after_every_prefix(bench: &Bench) {
    let origin = Origin::start_everywhere();
    let (prologue, _) = bench.pipelined_prologue();
    let whole = [prologue, connect_to(bench.sees(&origin)), EARLY.to_vec()].concat();
    for end in 0..=whole.len() {
        let client = bench.client();
        client.send(&whole[..end]);
        client.reset();
    }
    bench.negotiated();
}

fn q46_close_while_connecting_cancels(bench: &Bench) {
    expect_cancelled_by(bench, drop);
}

fn q46_reset_while_connecting_cancels(bench: &Bench) {
    expect_cancelled_by(bench, Peer::reset);
}

/// Once the client has hung up, nobody knocks at the target any more.
fn expect_cancelled_by(bench: &Bench, hang_up: impl FnOnce(Peer)) {
    let deaf = DeafTarget::start();
    let client = bench.requesting(&connect_to((bench.host(), deaf.port()).into()));
    client.expect_silence(Duration::from_millis(100));
    hang_up(client);
    // The kernel repeats a SYN after one second and after three.
    deaf.listen_again().expect_nobody_for(Duration::from_millis(3500));
}

/// Prologue, request and early data in one segment, in two cut everywhere, and byte by byte:
/// always the same answers, and the early data once.
#[track_caller]
pub(crate) fn expect_exactly_once(bench: &Bench, request: impl Fn(&Origin) -> Vec<u8>) {
    let origin = Origin::start_everywhere();
    let (prologue, answers) = bench.pipelined_prologue();
    let whole = [prologue, request(&origin), EARLY.to_vec()].concat();
    let every_byte: Vec<usize> = (1..whole.len()).collect();
    let cuts = every_byte.iter().map(std::slice::from_ref).chain([&[][..], &every_byte]);
    for cuts in cuts {
        let client = bench.client();
        client.send_split(&whole, cuts);
        client.expect(&answers);
        client.expect_granted();
        client.send(LATE);
        let target = origin.accept();
        target.expect(EARLY);
        target.expect(LATE);
        expect_clean_end(&client, &target);
    }
    origin.expect_nobody();
}

/// The client's request is granted, data flows both ways, and both ends are clean.
#[track_caller]
pub(crate) fn expect_session(origin: &Origin, client: &Peer) {
    client.expect_granted();
    let target = origin.accept();
    expect_flow(client, &target);
    expect_clean_end(client, &target);
}

#[track_caller]
pub(crate) fn expect_flow(client: &Peer, target: &Peer) {
    client.send(b"ping");
    target.expect(b"ping");
    target.send(b"pong");
    client.expect(b"pong");
}

#[track_caller]
pub(crate) fn expect_clean_end(client: &Peer, target: &Peer) {
    client.fin();
    target.expect_eof();
    target.fin();
    client.expect_eof();
}

/// A granted session: the client, and the target's end.
#[track_caller]
fn session(bench: &Bench) -> (Peer, Peer) {
    let origin = Origin::start_everywhere();
    let client = bench.requesting(&connect_to(bench.sees(&origin)));
    client.expect_granted();
    let target = origin.accept();
    expect_flow(&client, &target);
    (client, target)
}

#[track_caller]
fn expect_true_bnd(bench: &Bench, request: impl Fn(&Origin) -> Vec<u8>) {
    let origin = Origin::start_everywhere();
    let client = bench.requesting(&request(&origin));
    let bnd = client.expect_granted();
    let seen = origin.accept().remote_address();
    if bnd.port() != seen.port() || (bench.host().is_loopback() && bnd.ip() != seen.ip()) {
        client.fail(&format!("BND {seen}"), &format!("BND {bnd}"));
    }
}

/// `first` ends its direction; the other one still carries a whole answer.
#[track_caller]
fn expect_whole_answer_after_fin(first: &Peer, second: &Peer) {
    let question = random_bytes(4, 100_000);
    let answer = random_bytes(5, 100_000);
    thread::scope(|scope| {
        scope.spawn(|| {
            first.send(&question);
            first.fin();
        });
        let heard = second.read_to_end();
        assert_same_bytes(&heard.bytes, &question);
        assert_eq!(heard.end, End::Fin);
        let replied = scope.spawn(|| first.read_to_end());
        assert_same_bytes(&second.exchange(&answer).bytes, &[]);
        let replied = replied.join().expect("reading does not panic");
        assert_same_bytes(&replied.bytes, &answer);
        assert_eq!(replied.end, End::Fin);
    });
}

/// What came before a reset arrives as far as it does, and then the reset: never a clean end.
#[track_caller]
fn expect_reset_after_data(resets: Peer, other: &Peer) {
    let data = random_bytes(6, 50_000);
    resets.send(&data);
    resets.reset();
    let heard = other.read_to_end();
    assert!(data.starts_with(&heard.bytes), "what arrived is no prefix of what was sent");
    assert_eq!(heard.end, End::Reset);
}
