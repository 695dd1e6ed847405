use std::ops::Range;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::proto::gssapi::Order;

const ENCTYPES: Range<u32> = 17..21;
const KEY: [u8; 32] = *b"0123456789abcdef0123456789ABCDEF";
const SEED: [u8; SEED_BYTES] = [0xc0; SEED_BYTES];

pub(super) fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    let octets = (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16));
    octets.collect::<Result<_, _>>().unwrap()
}

/// Both ends of a context: of the initiator's messages `first` is the first one's number, of the
/// acceptor's the one behind it.
fn ends(enctype: u32, key: &[u8], first: u64, is_acceptors: bool) -> (Cfx, Cfx) {
    let key_bytes = Enctype::from_number(enctype).unwrap().key_bytes();
    let (sends, receives) = (first, first.wrapping_add(1));
    let key = &key[..key_bytes];
    let initiator = Exported { is_initiator: true, sends, receives, key, enctype, is_acceptors };
    let acceptor = Exported { is_initiator: false, sends: receives, receives: sends, ..initiator };
    (Cfx::new(&initiator, &SEED).unwrap(), Cfx::new(&acceptor, &SEED).unwrap())
}

fn wrapped(end: &mut Cfx, message: &[u8], confidential: bool) -> Vec<u8> {
    let mut token = Vec::new();
    end.wrap(message, confidential, &mut token).unwrap();
    token
}

/// What `end` makes of a token, and the message in it.
fn opened(end: &mut Cfx, token: &[u8]) -> Result<(Vec<u8>, bool, Order), Broken> {
    let mut room = token.to_vec();
    let Opened { message, confidential, order } = end.unwrap(&mut room)?;
    Ok((room[message].to_vec(), confidential, order))
}

/// The same token with its body rotated by `turns` more.
fn rotated(token: &[u8], turns: u16) -> Vec<u8> {
    let mut token = token.to_vec();
    let (header, body) = token.split_at_mut(HEADER_BYTES);
    body.rotate_right(usize::from(turns) % body.len());
    header[6..8].copy_from_slice(&turns.to_be_bytes());
    token
}

/// A line of the file of MIT's tokens.
struct Line {
    is_initiators: bool,
    confidential: bool,
    message: Vec<u8>,
    token: Vec<u8>,
}

/// MIT's tokens by context: both ends of it in our hands, before there was a message.
fn of_mits(mut with: impl FnMut((Cfx, Cfx), Vec<Line>)) {
    let number = |text| u64::from_str_radix(text, 16).unwrap();
    let mut contexts = 0;
    for context in include_str!("tests/mit.txt").split("\ncontext ").skip(1) {
        let mut lines = context.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let [enctype, key, from_initiator, from_acceptor] = lines.next().unwrap()[..] else {
            panic!("no context")
        };
        let key = &hex(key);
        let (sends, receives) = (number(from_initiator), number(from_acceptor));
        let (enctype, is_acceptors) = (enctype.parse().unwrap(), true);
        let of_initiator =
            Exported { is_initiator: true, sends, receives, key, enctype, is_acceptors };
        let of_acceptor =
            Exported { is_initiator: false, sends: receives, receives: sends, ..of_initiator };
        let lines = lines.map(|line| Line {
            is_initiators: line[0] == "initiator",
            confidential: line[1] == "sealed",
            message: hex(line[2]),
            token: hex(line[3]),
        });
        let ends = [of_initiator, of_acceptor].map(|end| Cfx::new(&end, &SEED).unwrap());
        with(ends.into(), lines.collect());
        contexts += 1;
    }
    assert_eq!(contexts, ENCTYPES.len());
}

#[test]
fn the_tokens_of_mits_are_opened() {
    of_mits(|(mut initiator, mut acceptor), lines| {
        assert_eq!(lines.len(), 8);
        for line in lines {
            let end = if line.is_initiators { &mut acceptor } else { &mut initiator };
            let expected = (line.message, line.confidential, Order::Next);
            assert_eq!(opened(end, &line.token).as_ref(), Ok(&expected));
            let again = (expected.0, expected.1, Order::Duplicate);
            for turns in [1, 12, 28, 40, u16::MAX] {
                assert_eq!(opened(end, &rotated(&line.token, turns)).as_ref(), Ok(&again));
            }
        }
    });
}

#[test]
fn the_tokens_of_mits_are_made() {
    of_mits(|(mut initiator, mut acceptor), lines| {
        for line in lines {
            let end = if line.is_initiators { &mut initiator } else { &mut acceptor };
            let max = end.message_max(line.token.len(), line.confidential);
            assert_eq!(max, line.message.len());
            let token = wrapped(end, &line.message, line.confidential);
            assert_eq!(token.len(), line.token.len());
            // What is sealed begins with something that is another each time.
            if !line.confidential {
                assert_eq!(token, line.token);
            }
            assert_eq!(token[..HEADER_BYTES], line.token[..HEADER_BYTES]);
        }
    });
}

#[test]
fn what_one_end_sends_is_not_for_itself() {
    for enctype in ENCTYPES {
        let (mut initiator, mut acceptor) = ends(enctype, &KEY, 7, true);
        for confidential in [false, true] {
            for end in [&mut initiator, &mut acceptor] {
                let token = wrapped(end, b"hello", confidential);
                assert_eq!(opened(end, &token), Err(Broken));
            }
        }
    }
}

#[test]
fn the_acceptors_subkey_is_asked_for_where_there_is_one() {
    let (mut with, mut acceptor_with) = ends(18, &KEY, 7, true);
    let (mut without, mut acceptor_without) = ends(18, &KEY, 7, false);
    let (flagged, plain) = (wrapped(&mut with, b"a", true), wrapped(&mut without, b"a", true));
    assert_eq!(opened(&mut acceptor_with, &plain), Err(Broken));
    let expected = Ok((b"a".to_vec(), true, Order::Next));
    assert_eq!(opened(&mut acceptor_with, &flagged), expected);
    assert_eq!(opened(&mut acceptor_without, &flagged), expected);
    let again = Ok((b"a".to_vec(), true, Order::Duplicate));
    assert_eq!(opened(&mut acceptor_without, &plain), again);
}

#[test]
fn filler_is_no_part_of_a_message() {
    for enctype in ENCTYPES {
        let (initiator, mut acceptor) = ends(enctype, &KEY, 7, true);
        for (filler, message) in [
            (0, Some(&b"message"[..])),
            (3, Some(b"mess")),
            (7, Some(b"")),
            (8, None),
            (9999, None),
        ] {
            let flags = initiator.our_flags | SEALED;
            let header = Header { flags, extra: filler, rotated: 0, number: 7 }.bytes();
            let mut text = [&[0; BLOCK_BYTES], &b"message"[..], &header].concat();
            let tag = initiator.ours.encrypt(&mut text);
            let token = [&header[..], &text, &tag].concat();
            let got = opened(&mut acceptor, &token).ok().map(|(message, ..)| message);
            assert_eq!(got.as_deref(), message);
        }
    }
}

#[test]
fn a_sealed_header_that_is_another_is_refused() {
    let (initiator, mut acceptor) = ends(20, &KEY, 7, true);
    let flags = initiator.our_flags | SEALED;
    let outer = Header { flags, extra: 0, rotated: 0, number: 7 };
    for (inner, is_same) in [
        (outer, true),
        (Header { number: 8, ..outer }, false),
        (Header { extra: 1, ..outer }, false),
        (Header { rotated: 1, ..outer }, false),
        (Header { flags: flags & !SEALED, ..outer }, false),
    ] {
        let mut text = [&[0; BLOCK_BYTES], &b"message"[..], &inner.bytes()].concat();
        let tag = initiator.ours.encrypt(&mut text);
        let token = [&outer.bytes()[..], &text, &tag].concat();
        assert_eq!(opened(&mut acceptor, &token).is_ok(), is_same);
    }
}

#[test]
fn the_same_message_is_sealed_otherwise_each_time() {
    let (mut initiator, _) = ends(18, &KEY, 7, true);
    let one = wrapped(&mut initiator, &[0; 64], true);
    initiator.number = 8;
    let same_number = wrapped(&mut initiator, &[0; 64], true);
    let other = wrapped(&mut initiator, &[0; 64], true);
    assert_ne!(one[HEADER_BYTES..], same_number[HEADER_BYTES..]);
    assert!(one.chunks(BLOCK_BYTES).zip(other.chunks(BLOCK_BYTES)).skip(1).all(|(a, b)| a != b));
}

#[test]
fn other_keys_are_for_others() {
    for (enctype, len, is_ours) in [
        (16, 24, false),
        (17, 16, true),
        (17, 32, false),
        (18, 16, false),
        (18, 32, true),
        (18, 0, false),
        (19, 16, true),
        (20, 32, true),
        (23, 16, false),
        (26, 32, false),
    ] {
        let key = &KEY[..len];
        let exported = Exported {
            is_initiator: false,
            sends: 0,
            receives: 0,
            key,
            enctype,
            is_acceptors: true,
        };
        assert_eq!(Cfx::new(&exported, &SEED).is_some(), is_ours, "{enctype}, {len} bytes");
        // A context that was given away cannot be given back: what is taken can be used.
        assert!(ENCTYPES.contains(&enctype) || !Cfx::knows(enctype));
    }
}

/// A bit of a token, unless it only says that it is rotated by whole turns.
fn flip(token: &[u8], bit: Index) -> Vec<u8> {
    let bit = bit.index(token.len() * 8);
    let mut changed = token.to_vec();
    changed[bit / 8] ^= 1 << (bit % 8);
    changed
}

proptest! {
    #[test]
    fn messages_go_both_ways(
        enctype in ENCTYPES,
        key in any::<[u8; 32]>(),
        first in prop_oneof![any::<u64>(), Just(u64::MAX)],
        is_acceptors in any::<bool>(),
        messages in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..300), any::<bool>(), any::<bool>(), any::<u16>()),
            1..8,
        ),
    ) {
        let (mut initiator, mut acceptor) = ends(enctype, &key, first, is_acceptors);
        for (message, is_initiators, confidential, turns) in messages {
            let (from, to) = if is_initiators {
                (&mut initiator, &mut acceptor)
            } else {
                (&mut acceptor, &mut initiator)
            };
            let mut out = b"before".to_vec();
            from.wrap(&message, confidential, &mut out).unwrap();
            let token = out.strip_prefix(b"before").unwrap();
            prop_assert_eq!(from.message_max(token.len(), confidential), message.len());
            prop_assert_eq!(
                opened(to, &rotated(token, turns)),
                Ok((message, confidential, Order::Next))
            );
        }
    }

    #[test]
    fn a_bit_that_was_changed_is_found(
        enctype in ENCTYPES,
        message in prop::collection::vec(any::<u8>(), 0..100),
        confidential in any::<bool>(),
        turns in any::<u16>(),
        bit in any::<Index>(),
    ) {
        let (mut initiator, mut acceptor) = ends(enctype, &KEY, 7, true);
        let token = rotated(&wrapped(&mut initiator, &message, confidential), turns);
        let changed = flip(&token, bit);
        let body = token.len() - HEADER_BYTES;
        let turned = u16::from_be_bytes([changed[6], changed[7]]);
        match opened(&mut acceptor, &changed) {
            Err(Broken) => {}
            // By how much it is rotated is nobody's secret, and whole turns change nothing.
            Ok(opened) => {
                prop_assert_eq!(usize::from(turned) % body, usize::from(turns) % body);
                prop_assert_eq!(opened, (message.clone(), confidential, Order::Next));
            }
        }
        // A token that was refused has left no trace.
        let order = if turned == turns || usize::from(turned) % body != usize::from(turns) % body {
            Order::Next
        } else {
            Order::Duplicate
        };
        prop_assert_eq!(opened(&mut acceptor, &token), Ok((message, confidential, order)));
    }

    #[test]
    fn a_token_that_was_cut_or_is_longer_is_found(
        enctype in ENCTYPES,
        message in prop::collection::vec(any::<u8>(), 0..100),
        confidential in any::<bool>(),
        len in 0_usize..300,
    ) {
        let (mut initiator, mut acceptor) = ends(enctype, &KEY, 7, true);
        let mut token = wrapped(&mut initiator, &message, confidential);
        prop_assume!(len != token.len());
        token.resize(len, 0);
        prop_assert_eq!(opened(&mut acceptor, &token), Err(Broken));
    }

    #[test]
    fn no_bytes_are_a_token(
        enctype in ENCTYPES,
        mut token in prop::collection::vec(any::<u8>(), 0..200),
        is_headed in any::<bool>(),
        flags in any::<u8>(),
        extra in prop_oneof![0_u16..40, any::<u16>()],
    ) {
        if let (true, Some(header)) = (is_headed, token.first_chunk_mut()) {
            *header = Header { flags, extra, rotated: u16::from(flags), number: 7 }.bytes();
        }
        let (mut initiator, mut acceptor) = ends(enctype, &KEY, 7, true);
        prop_assert_eq!(opened(&mut acceptor, &token), Err(Broken));
        prop_assert_eq!(opened(&mut initiator, &token), Err(Broken));
    }
}
