use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use proptest::prelude::*;

use super::super::RING_BYTES;
use super::super::mechanism::framed;
use super::super::scripted::{READY, Scripted, endpoint};
use super::*;
use crate::config::RelayMode;
use crate::proto::gssapi::TOKEN_MAX;

fn buffers() -> Buffers {
    Buffers::new(1, RelayMode::Copy, 0)
}

/// Tokens of somebody known.
fn known() -> Tokens {
    Tokens { trusted: true, ..Tokens::default() }
}

/// No two places of it are alike that are near each other.
fn data(len: usize) -> Vec<u8> {
    let bytes: Vec<u8> = (0..len).map(|i| (i ^ (i >> 8) ^ len) as u8).collect();
    framed(MessageType::Data, &bytes)
}

fn speaker(segments: impl IntoIterator<Item = Vec<u8>>) -> Endpoint<Scripted> {
    let incoming = segments.into_iter().map(Ok).collect();
    endpoint(Scripted { incoming, ..Scripted::default() }, READY)
}

/// Everything that can be framed without news.
fn all(
    tokens: &mut Tokens,
    from: &mut Endpoint<Scripted>,
    buffers: &mut Buffers,
) -> (Vec<Vec<u8>>, Framed) {
    let mut whole = Vec::new();
    loop {
        match tokens.frame(MessageType::Data, from, buffers) {
            Framed::Whole(place) => {
                assert!(tokens.is_framed(MessageType::Data));
                whole.push(tokens.bytes_mut(place.clone()).to_vec());
                tokens.consume(place.end);
                tokens.release_empty(buffers);
            }
            other => return (whole, other),
        }
    }
}

/// The same of these bytes alone, which come at once.
fn hear(tokens: &mut Tokens, bytes: &[u8], buffers: &mut Buffers) -> Vec<Vec<u8>> {
    all(tokens, &mut speaker([bytes.to_vec()]), buffers).0
}

/// What is to be read of tokens that are not the expected ones.
fn described<'a>(
    tokens: impl IntoIterator<Item = &'a [u8]>,
    hasher: &RandomState,
) -> Vec<(usize, u64)> {
    tokens.into_iter().map(|token| (token.len(), hasher.hash_one(token))).collect()
}

#[track_caller]
fn assert_tokens(whole: &[Vec<u8>], framed: &[&[u8]]) {
    let expected = framed.iter().map(|framed| &framed[HEADER_BYTES..]);
    let hasher = RandomState::new();
    let whole = described(whole.iter().map(Vec::as_slice), &hasher);
    assert_eq!(whole, described(expected, &hasher));
}

fn held(buffers: &Buffers) -> (usize, usize) {
    (buffers.inboxes_lent(), buffers.rings_lent())
}

fn capacity(tokens: &Tokens) -> usize {
    tokens.ring.as_ref().map_or(0, Ring::capacity)
}

#[test]
fn five_bytes_hold_an_inbox_only() {
    for mut tokens in [Tokens::default(), known()] {
        let mut buffers = buffers();
        assert_tokens(&hear(&mut tokens, &data(60_000)[..5], &mut buffers), &[]);
        assert_eq!((held(&buffers), capacity(&tokens)), ((1, 0), INBOX_BYTES));
        tokens.release(&mut buffers);
        assert_eq!(held(&buffers), (0, 0));
    }
}

#[test]
fn a_strangers_room_grows_when_it_is_full() {
    let (mut tokens, mut buffers) = (Tokens::default(), buffers());
    let longest = data(TOKEN_MAX);
    let mut seen = 0;
    for (until, room) in [
        (1000, 1024),
        (1023, 1024),
        (1025, 4096),
        (4095, 4096),
        (16_383, 16_384),
        (16_385, 65_536),
        (65_535, 65_536),
        (65_537, RING_BYTES),
    ] {
        assert_tokens(&hear(&mut tokens, &longest[seen..until], &mut buffers), &[]);
        let expected = if room == INBOX_BYTES { (1, 0) } else { (0, 1) };
        assert_eq!((capacity(&tokens), held(&buffers)), (room, expected), "{until} bytes");
        seen = until;
    }
    assert_tokens(&hear(&mut tokens, &longest[seen..], &mut buffers), &[&longest]);
    assert_eq!(held(&buffers), (0, 0));
}

#[test]
fn who_is_known_gets_room_for_all_of_a_token_once_an_inbox_is_full() {
    // As much as it takes where lanes have all rings.
    for (len, room) in [(1100, 2048), (5000, 8192), (60_000, 65_536), (TOKEN_MAX, RING_BYTES)] {
        for lanes in [0, 1] {
            let (mut tokens, mut buffers) = (known(), buffers());
            let lent: Vec<Ring> = (0..lanes).filter_map(|_| buffers.ring()).collect();
            let token = data(len);
            hear(&mut tokens, &token[..INBOX_BYTES - 1], &mut buffers);
            assert_eq!((capacity(&tokens), held(&buffers)), (INBOX_BYTES, (1, lanes)));
            hear(&mut tokens, &token[INBOX_BYTES - 1..INBOX_BYTES + 1], &mut buffers);
            let expected = if lanes == 0 { RING_BYTES } else { room };
            assert_eq!((capacity(&tokens), held(&buffers)), (expected, (0, lanes + 1)));
            let rest = &token[INBOX_BYTES + 1..];
            assert_tokens(&hear(&mut tokens, rest, &mut buffers), &[&token]);
            lent.into_iter().for_each(|ring| buffers.give(ring));
            assert_eq!(held(&buffers), (0, 0));
        }
    }
}

#[test]
fn behind_a_large_token_another_is_expected_until_a_small_one_comes() {
    let rooms = [INBOX_BYTES, INBOX_BYTES, RING_BYTES, INBOX_BYTES];
    for (mut tokens, rooms) in [(known(), rooms), (Tokens::default(), [INBOX_BYTES; 4])] {
        let mut buffers = buffers();
        for (len, room) in [5, 30_000, 5, 5].into_iter().zip(rooms) {
            let token = data(len);
            hear(&mut tokens, &token[..3], &mut buffers);
            assert_eq!(capacity(&tokens), room, "the beginning of {len} bytes");
            assert_tokens(&hear(&mut tokens, &token[3..], &mut buffers), &[&token]);
            assert_eq!(held(&buffers), (0, 0));
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_stalled_token_of_who_is_known_keeps_what_is_there() {
    for (len, room) in [
        (5, INBOX_BYTES),
        (INBOX_BYTES, INBOX_BYTES),
        (1025, 2048),
        (9000, 16 * 1024),
        (32 * 1024, 32 * 1024),
        (32 * 1024 + 1, RING_BYTES),
        (TOKEN_MAX, RING_BYTES),
    ] {
        let (mut tokens, mut buffers, now) = (known(), buffers(), Instant::now());
        tokens.large = true;
        let token = data(TOKEN_MAX);
        let mut from = speaker([token[..len].to_vec()]);
        assert_tokens(&all(&mut tokens, &mut from, &mut buffers).0, &[]);
        assert!(tokens.keeps_room(), "it is to be looked at again");
        assert_eq!(tokens.shrink(now, &mut buffers), Some(now));
        assert_eq!(capacity(&tokens), RING_BYTES, "it may just be under way");
        assert_eq!(tokens.shrink(now + SECOND, &mut buffers), Some(now));
        assert_eq!(capacity(&tokens), room, "{len} bytes");
        let expected = if room == INBOX_BYTES { (1, 0) } else { (0, 1) };
        assert_eq!(held(&buffers), expected);
        assert_tokens(&hear(&mut tokens, &token[len..], &mut buffers), &[&token]);
        assert_eq!(held(&buffers), (0, 0));
        assert_eq!(tokens.shrink(now + 2 * SECOND, &mut buffers), None);
    }
}

#[test]
fn a_slow_token_keeps_its_room() {
    let (mut tokens, mut buffers, mut now) = (known(), buffers(), Instant::now());
    tokens.large = true;
    let token = data(TOKEN_MAX);
    let mut whole = Vec::new();
    for part in token.chunks(2000) {
        assert!(whole.is_empty());
        whole = hear(&mut tokens, part, &mut buffers);
        tokens.shrink(now, &mut buffers);
        now += SECOND;
        assert_eq!(capacity(&tokens), if whole.is_empty() { RING_BYTES } else { 0 });
    }
    assert_tokens(&whole, &[&token]);
}

#[test]
fn room_is_given_back_where_there_is_none_left() {
    let (mut buffers, now, large) = (buffers(), Instant::now(), data(60_000));
    let mut crowd = Vec::new();
    while !buffers.are_short() {
        let mut tokens = Tokens { large: true, ..known() };
        hear(&mut tokens, &large[..5], &mut buffers);
        assert_eq!(capacity(&tokens), RING_BYTES);
        crowd.push(tokens);
    }
    let mut from = speaker([large.clone()]);
    let mut another = known();
    assert_tokens(&all(&mut another, &mut from, &mut buffers).0, &[]);
    for tokens in &mut crowd {
        tokens.shrink(now, &mut buffers);
        tokens.shrink(now + SECOND, &mut buffers);
    }
    assert_eq!(held(&buffers), (crowd.len() + 1, 0));
    from.look_again();
    assert_tokens(&all(&mut another, &mut from, &mut buffers).0, &[&large]);
}

#[test]
fn of_a_large_token_the_rest_is_received_alone() {
    let (mut tokens, mut buffers) = (known(), buffers());
    let large = data(TOKEN_MAX);
    let mut from = speaker([large[..HEADER_BYTES].to_vec(), [&large[4..], &data(900)].concat()]);
    all(&mut tokens, &mut from, &mut buffers);
    from.handle_readiness(READY);
    let framed = tokens.frame(MessageType::Data, &mut from, &mut buffers);
    assert_eq!(framed, Framed::Whole(HEADER_BYTES..large.len()));
    let there = tokens.ring.as_ref().map(Ring::len);
    assert_eq!(there, Some(large.len() + HEADER_BYTES));
}

#[test]
fn what_comes_behind_a_strangers_large_token_is_left_to_an_inbox() {
    for len in [1100, 5000, TOKEN_MAX] {
        let (mut tokens, mut buffers) = (Tokens::default(), buffers());
        let (large, next) = (data(len), data(2000));
        let mut from = speaker([[&large[..], &next[..9]].concat()]);
        assert_tokens(&all(&mut tokens, &mut from, &mut buffers).0, &[&large]);
        let received = tokens.into_received().unwrap();
        assert_eq!((received.capacity(), received.bytes()), (INBOX_BYTES, &next[..9]));
        buffers.give(received);
        assert_eq!(held(&buffers), (0, 0));
    }
}

#[test]
fn without_a_ring_a_large_token_waits_to_be_looked_at_again() {
    let (mut tokens, mut buffers) = (known(), buffers());
    let large = data(5000);
    let mut from = speaker([large[..100].to_vec(), large[100..].to_vec(), data(7)]);
    let mut others: Vec<Ring> =
        std::iter::from_fn(|| buffers.token_room(RING_BYTES, None, true)).take(1000).collect();
    assert!(others.len() < 1000, "there is no end of rings");
    for _ in 0..3 {
        let (whole, framed) = all(&mut tokens, &mut from, &mut buffers);
        assert_eq!((whole.len(), framed), (0, Framed::Not(Received::Blocked)));
        from.handle_readiness(READY);
    }
    all(&mut tokens, &mut from, &mut buffers);
    assert!(from.is_starved());
    buffers.give(others.pop().unwrap());
    from.look_again();
    let mut whole = Vec::new();
    for _ in 0..4 {
        whole.extend(all(&mut tokens, &mut from, &mut buffers).0);
        from.handle_readiness(READY);
    }
    assert_tokens(&whole, &[&large, &data(7)]);
}

#[test]
fn strangers_have_half_of_the_rings_at_most() {
    let mut buffers = Buffers::new(4, RelayMode::Copy, 0);
    let large = data(60_000);
    let mut strangers: Vec<Tokens> = (0..4).map(|_| Tokens::default()).collect();
    for tokens in &mut strangers {
        hear(tokens, &large[..20_000], &mut buffers);
        assert_eq!(capacity(tokens), 65_536);
    }
    assert_eq!(held(&buffers), (0, 2));
    let mut from = speaker([large.clone()]);
    let mut another = Tokens::default();
    assert_tokens(&all(&mut another, &mut from, &mut buffers).0, &[]);
    assert!(from.is_starved());
    assert_eq!((held(&buffers), capacity(&another)), ((1, 2), INBOX_BYTES));
    // The other half is for lanes, and for who is known.
    assert_eq!(buffers.rings_left(), 2);
    assert_tokens(&hear(&mut known(), &large, &mut buffers), &[&large]);
    // What one of them gives back is the next one's.
    strangers.pop().unwrap().release(&mut buffers);
    from.look_again();
    assert_tokens(&all(&mut another, &mut from, &mut buffers).0, &[&large]);
    strangers.iter_mut().for_each(|tokens| tokens.release(&mut buffers));
    assert_eq!(held(&buffers), (0, 0));
}

#[test]
fn small_tokens_do_without_rings() {
    let (mut tokens, mut buffers) = (known(), buffers());
    let others: Vec<Ring> =
        std::iter::from_fn(|| buffers.token_room(RING_BYTES, None, true)).take(1000).collect();
    // It would like a ring, but needs none.
    tokens.large = true;
    let mut from = speaker([data(1000)]);
    assert_eq!(all(&mut tokens, &mut from, &mut buffers).0.len(), 1);
    assert!(!from.is_starved());
    others.into_iter().for_each(|ring| buffers.give(ring));
}

#[test]
fn an_end_is_told_wherever_it_is() {
    for end in [Ok(Vec::new()), Err(libc::ECONNRESET)] {
        for len in [0, 1, 4, 9] {
            let (mut tokens, mut buffers) = (Tokens::default(), buffers());
            let mut from = speaker([data(20)[..len].to_vec()].into_iter().filter(|_| len > 0));
            if len > 0 {
                all(&mut tokens, &mut from, &mut buffers);
            }
            let incoming = [end.clone()].into();
            let mut from = endpoint(Scripted { incoming, ..Scripted::default() }, READY);
            let (_, framed) = all(&mut tokens, &mut from, &mut buffers);
            let told = if end.is_ok() { Received::End } else { Received::Reset };
            assert_eq!(framed, Framed::Not(told));
            assert_eq!(tokens.is_empty(), len == 0);
            tokens.release(&mut buffers);
            assert_eq!(held(&buffers), (0, 0));
        }
    }
}

#[test]
fn another_type_is_seen_at_its_first_wrong_octet() {
    for (bytes, at) in [(&b"\x05\x03\0\x01x"[..], 1), (b"\x01\xff", 2), (b"\x01\x02\0\x01x", 2)] {
        let (mut tokens, mut buffers) = (Tokens::default(), buffers());
        for seen in 1..=at {
            let mut from = speaker([bytes[seen - 1..seen].to_vec()]);
            let (_, framed) = all(&mut tokens, &mut from, &mut buffers);
            assert_eq!(framed == Framed::Unexpected, seen == at, "{bytes:?} up to {seen}");
        }
        assert!(tokens.is_framed(MessageType::Data), "there is something to tell");
    }
    let mut from = speaker([vec![1, 3, 0, 0]]);
    let (_, framed) = all(&mut Tokens::default(), &mut from, &mut buffers());
    assert_eq!(framed, Framed::Unexpected, "a token of no bytes");
}

#[test]
fn a_datagram_is_one_token() {
    let token = data(9);
    assert_eq!(parse_datagram(&token), Some(4..13));
    for end in 0..token.len() {
        assert_eq!(parse_datagram(&token[..end]), None);
    }
    assert_eq!(parse_datagram(&[&token[..], b"!"].concat()), None);
    assert_eq!(parse_datagram(&framed(MessageType::Level, b"level")), None);
}

proptest! {
    #[test]
    fn tokens_are_the_same_however_they_are_cut(
        lens in prop::collection::vec(
            prop_oneof![1usize..60, 900usize..1300, 15_000usize..17_000, Just(TOKEN_MAX)], 1..7
        ),
        cuts in prop::collection::vec(prop_oneof![1usize..9, 1usize..3000, 1usize..70_000], 1..40),
        begins_with in 0usize..=INBOX_BYTES,
        trusted in any::<bool>(),
        looks in prop::collection::vec(0usize..3, 1..9),
    ) {
        let (mut tokens, mut buffers) = (Tokens::default(), buffers());
        let stream: Vec<u8> = lens.iter().flat_map(|len| data(*len)).collect();
        // Some of it was received with what came before.
        let (first, mut rest) = stream.split_at(begins_with.min(stream.len()));
        if !first.is_empty() {
            let mut inbox = buffers.inbox();
            inbox.extend(first);
            tokens = Tokens::new(Some(inbox));
        }
        tokens.trusted = trusted;
        let mut segments = Vec::new();
        for cut in cuts.iter().cycle() {
            let (segment, left) = rest.split_at(rest.len().min(*cut));
            segments.push(segment.to_vec());
            rest = left;
            if rest.is_empty() {
                break;
            }
        }
        let count = segments.len();
        let mut from = speaker(segments.into_iter().filter(|segment| !segment.is_empty()));
        let mut whole = Vec::new();
        // A short receive says that there is no more, until there is news.
        for looks in looks.into_iter().cycle().take(count + 1) {
            whole.extend(all(&mut tokens, &mut from, &mut buffers).0);
            from.handle_readiness(READY);
            for _ in 0..looks {
                tokens.shrink(Instant::now(), &mut buffers);
            }
        }
        let framed: Vec<Vec<u8>> = lens.into_iter().map(data).collect();
        let hasher = RandomState::new();
        prop_assert_eq!(
            described(whole.iter().map(Vec::as_slice), &hasher),
            described(framed.iter().map(|framed| &framed[HEADER_BYTES..]), &hasher)
        );
        prop_assert_eq!(held(&buffers), (0, 0));
    }

    #[test]
    fn a_stranger_holds_four_times_what_waits_at_most(
        lens in prop::collection::vec(
            prop_oneof![1usize..60, 900usize..1300, 15_000usize..17_000, Just(TOKEN_MAX)], 1..7
        ),
        cuts in prop::collection::vec(prop_oneof![1usize..9, 1usize..3000, 1usize..70_000], 1..40),
    ) {
        let (mut tokens, mut buffers) = (Tokens::default(), buffers());
        let stream: Vec<u8> = lens.iter().flat_map(|len| data(*len)).collect();
        let mut rest = &stream[..];
        // It may stop anywhere.
        for cut in cuts {
            let (segment, left) = rest.split_at(rest.len().min(cut));
            let mut from = speaker(Some(segment.to_vec()).filter(|it| !it.is_empty()));
            all(&mut tokens, &mut from, &mut buffers);
            prop_assert!(from.scripted().incoming.is_empty() && !from.is_starved());
            let there = tokens.ring.as_ref().map_or(0, Ring::len);
            let most = if there == 0 { 0 } else { INBOX_BYTES.max(4 * there) };
            prop_assert!(capacity(&tokens) <= most, "{} for {there}", capacity(&tokens));
            rest = left;
        }
        tokens.release(&mut buffers);
        prop_assert_eq!(held(&buffers), (0, 0));
    }
}

#[test]
fn strangers_are_heard_while_lanes_have_all_rings() {
    let mut buffers = Buffers::new(4, RelayMode::Copy, 0);
    let lanes: Vec<Ring> = std::iter::from_fn(|| buffers.ring()).collect();
    assert_eq!(lanes.len(), 4);
    let (mut tokens, token) = (Tokens::default(), data(30_000));
    assert_tokens(&hear(&mut tokens, &token, &mut buffers), &[&token]);
    lanes.into_iter().for_each(|ring| buffers.give(ring));
    assert_eq!(held(&buffers), (0, 0));
}
