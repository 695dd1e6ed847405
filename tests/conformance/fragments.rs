//! FRAG: datagrams in pieces (RFC 1928 section 7).

use std::thread;
use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::support::socks::{datagram_by_name, fragment};
use crate::support::udp::{Association, UdpOrigin};
use crate::support::{assert_same_bytes, random_bytes};

crate::rows! {
    Udp:
        f01_q33_fragments_are_no_datagrams;
    Ours:
        f01_q33_dropped_where_switched_off
        f02_reassembled
        f02_first_and_last_in_one
        f02_127_fragments
        f02_empty_fragments
        f02_end_without_a_position
        f02_by_name
        f03_one_queue_per_association
        f04_f05_abandoned_after_five_seconds
        f06_lower_position_begins_anew
        f06_whole_datagram_abandons_the_queue
        f07_duplicates_are_dropped
        f07_gap_abandons_at_once
        f08_another_destination_abandons
        f09_longest_datagram
        f09_too_long_a_datagram
        f09_fragments_without_end;
}

/// How long nothing is to come, where something better has proven that nothing did.
const A_MOMENT: Duration = Duration::from_millis(100);

/// The bit that says that a fragment is the last.
const LAST: u8 = 0x80;

/// RFC 1928: "The reassembly timer MUST be no less than 5 seconds".
const KEPT: Duration = Duration::from_secs(5);

/// Reassembled or not, a piece is never relayed as if it were the whole. (81 is a whole in one piece.)
fn f01_q33_fragments_are_no_datagrams(bench: &Bench) {
    let (association, origin) = associated(bench);
    let target = bench.sees_udp(&origin);
    for frag in [1, 2, 3, 0x7f, LAST | 2, LAST | 0x7f, LAST] {
        association.send_fragment(frag, target, b"a piece");
        association.expect_exchange(&origin, target);
    }
    origin.expect_silence(A_MOMENT);
}

fn f01_q33_dropped_where_switched_off(_: &Bench) {
    Bench::with_own(&[("RINGSOCKS_UDP_FRAGMENTS", "drop")], |bench| {
        let (association, origin) = associated(bench);
        let target = bench.sees_udp(&origin);
        for frag in 1..=0xff {
            association.send_fragment(frag, target, b"a piece");
        }
        association.expect_exchange(&origin, target);
        origin.expect_silence(A_MOMENT);
    });
}

fn f02_reassembled(bench: &Bench) {
    let (association, origin) = associated(bench);
    for _ in 0..3 {
        expect_reassembled(
            bench,
            &association,
            &origin,
            &[(1, b"one "), (2, b"two "), (LAST | 3, b"three")],
        );
        association.expect_exchange(&origin, bench.sees_udp(&origin));
    }
}

fn f02_first_and_last_in_one(bench: &Bench) {
    let (association, origin) = associated(bench);
    expect_reassembled(bench, &association, &origin, &[(LAST | 1, b"all of it")]);
}

fn f02_127_fragments(bench: &Bench) {
    let (association, origin) = associated(bench);
    let data = random_bytes(127, 127 * 100);
    for (frag, piece) in (1..).zip(data.chunks(100)) {
        let last = if frag == 127 { LAST } else { 0 };
        association.send_fragment(last | frag, bench.sees_udp(&origin), piece);
    }
    assert_same_bytes(&origin.receive().0, &data);
}

fn f02_empty_fragments(bench: &Bench) {
    let (association, origin) = associated(bench);
    expect_reassembled(bench, &association, &origin, &[(1, b""), (2, b"middle"), (LAST | 3, b"")]);
    expect_reassembled(bench, &association, &origin, &[(1, b""), (LAST | 2, b"")]);
}

fn f02_end_without_a_position(bench: &Bench) {
    let (association, origin) = associated(bench);
    association.send_fragment(LAST, bench.sees_udp(&origin), b"nowhere");
    association.expect_exchange(&origin, bench.sees_udp(&origin));
    origin.expect_silence(A_MOMENT);
}

fn f02_by_name(bench: &Bench) {
    let (association, origin) = associated(bench);
    for (frag, piece) in [(1, b"by "), (LAST | 2, b"nam")] {
        let mut bytes = datagram_by_name(bench.host_name().as_bytes(), origin.port(), piece);
        bytes[2] = frag;
        association.send_raw(&bytes);
    }
    origin.expect(b"by nam");
}

fn f03_one_queue_per_association(bench: &Bench) {
    let (one, origin) = associated(bench);
    let other = bench.associated();
    let target = bench.sees_udp(&origin);
    one.send_fragment(1, target, b"one ");
    other.send_fragment(1, target, b"other ");
    one.send_fragment(LAST | 2, target, b"end");
    origin.expect(b"one end");
    other.send_fragment(LAST | 2, target, b"end");
    origin.expect(b"other end");
}

fn f04_f05_abandoned_after_five_seconds(bench: &Bench) {
    let (early, origin) = associated(bench);
    let late = bench.associated();
    let target = bench.sees_udp(&origin);
    let begun = Instant::now();
    early.send_fragment(1, target, b"kept ");
    late.send_fragment(1, target, b"abandoned ");
    thread::sleep(KEPT - Duration::from_millis(700));
    early.send_fragment(LAST | 2, target, b"so long");
    // The first fragment's arrival counts, not the latest's.
    late.send_fragment(2, target, b"and again ");
    if begun.elapsed() > KEPT - Duration::from_millis(300) {
        // We overslept: whether it was kept says nothing.
        return f04_f05_abandoned_after_five_seconds(bench);
    }
    origin.expect(b"kept so long");
    thread::sleep(Duration::from_millis(1700));
    late.send_fragment(LAST | 3, target, b"too late");
    late.expect_exchange(&origin, target);
    origin.expect_silence(A_MOMENT);
}

fn f06_lower_position_begins_anew(bench: &Bench) {
    let (association, origin) = associated(bench);
    for (frag, piece) in [(1, b"old"), (2, b"old"), (1, b"new")] {
        association.send_fragment(frag, bench.sees_udp(&origin), piece);
    }
    association.send_fragment(LAST | 2, bench.sees_udp(&origin), b"end");
    origin.expect(b"newend");
    association.expect_exchange(&origin, bench.sees_udp(&origin));
    origin.expect_silence(A_MOMENT);
}

fn f06_whole_datagram_abandons_the_queue(bench: &Bench) {
    let (association, origin) = associated(bench);
    let target = bench.sees_udp(&origin);
    association.send_fragment(1, target, b"abandoned");
    association.expect_exchange(&origin, target);
    association.send_fragment(LAST | 2, target, b"end of nothing");
    association.expect_exchange(&origin, target);
    origin.expect_silence(A_MOMENT);
}

fn f07_duplicates_are_dropped(bench: &Bench) {
    let (association, origin) = associated(bench);
    let pieces: [(u8, &[u8]); 5] = [(1, b"a"), (1, b"a"), (2, b"b"), (2, b"b"), (LAST | 3, b"c")];
    for (frag, piece) in pieces {
        association.send_fragment(frag, bench.sees_udp(&origin), piece);
    }
    origin.expect(b"abc");
    association.expect_exchange(&origin, bench.sees_udp(&origin));
}

fn f07_gap_abandons_at_once(bench: &Bench) {
    let (association, origin) = associated(bench);
    let target = bench.sees_udp(&origin);
    for frag in [1, 3, LAST | 4] {
        association.send_fragment(frag, target, b"abandoned");
    }
    for frag in [1, 3, 2, LAST | 3] {
        association.send_fragment(frag, target, b"abandoned");
    }
    expect_reassembled(bench, &association, &origin, &[(1, b"next "), (LAST | 2, b"one")]);
    origin.expect_silence(A_MOMENT);
}

fn f08_another_destination_abandons(bench: &Bench) {
    let (association, origin) = associated(bench);
    let other = UdpOrigin::start_everywhere();
    association.send_fragment(1, bench.sees_udp(&origin), b"for one");
    association.send_fragment(LAST | 2, bench.sees_udp(&other), b"for another");
    association.expect_exchange(&origin, bench.sees_udp(&origin));
    association.expect_exchange(&other, bench.sees_udp(&other));
    origin.expect_silence(A_MOMENT);
    other.expect_silence(A_MOMENT);
}

fn f09_longest_datagram(bench: &Bench) {
    let (association, origin) = associated(bench);
    let data = random_bytes(9, 65_507);
    let (first, second) = data.split_at(40_000);
    association.send_fragment(1, bench.sees_udp(&origin), first);
    association.send_fragment(LAST | 2, bench.sees_udp(&origin), second);
    assert_same_bytes(&origin.receive().0, &data);
}

fn f09_too_long_a_datagram(bench: &Bench) {
    let (association, origin) = associated(bench);
    let piece = random_bytes(10, 32_754);
    for frag in [1, LAST | 2] {
        association.send_fragment(frag, bench.sees_udp(&origin), &piece);
    }
    expect_reassembled(bench, &association, &origin, &[(1, b"next "), (LAST | 2, b"one")]);
    origin.expect_silence(A_MOMENT);
}

fn f09_fragments_without_end(bench: &Bench) {
    let (association, origin) = associated(bench);
    let target = bench.sees_udp(&origin);
    let piece = [0x5a; 500];
    for _ in 0..20 {
        for frag in 1..=0x7f {
            association.send_raw(&fragment(frag, target, &piece));
        }
        association.expect_exchange(&origin, target);
    }
    origin.expect_silence(A_MOMENT);
}

fn associated(bench: &Bench) -> (Association, UdpOrigin) {
    (bench.associated(), UdpOrigin::start_everywhere())
}

/// These fragments arrive as one datagram, and nothing came before it.
#[track_caller]
fn expect_reassembled(
    bench: &Bench,
    association: &Association,
    origin: &UdpOrigin,
    fragments: &[(u8, &[u8])],
) {
    for (frag, piece) in fragments {
        association.send_fragment(*frag, bench.sees_udp(origin), piece);
    }
    let whole: Vec<u8> = fragments.iter().flat_map(|(_, piece)| piece.iter().copied()).collect();
    origin.expect(&whole);
}
