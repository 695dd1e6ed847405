use proptest::prelude::*;

use super::super::mechanism::{MockSeal, framed, framed_len, overhead};
use super::super::scripted::{READY, Scripted, endpoint};
use super::super::{Flow, Lane, Pumped, RING_BYTES, Work, pump};
use super::*;
use crate::config::RelayMode;

const KEY: u64 = 77;

fn buffers() -> Buffers {
    Buffers::new(2, RelayMode::Splice, 2)
}

/// Our end of a connection that is sealed, from which these segments come.
fn sealed(segments: impl IntoIterator<Item = Vec<u8>>, confidential: bool) -> Endpoint<Scripted> {
    sealed_by(
        MockSeal::acceptor(KEY),
        Scripted { incoming: incoming(segments), ..Scripted::default() },
        confidential,
    )
}

fn sealed_by(seal: MockSeal, socket: Scripted, confidential: bool) -> Endpoint<Scripted> {
    let mut endpoint = endpoint(socket, READY);
    endpoint.seal(Stage::new(Box::new(seal), confidential, Tokens::default()));
    endpoint
}

fn incoming(
    segments: impl IntoIterator<Item = Vec<u8>>,
) -> std::collections::VecDeque<Result<Vec<u8>, i32>> {
    segments.into_iter().map(Ok).collect()
}

/// The peer's tokens for these messages.
fn said(seal: &mut MockSeal, messages: &[&[u8]], confidential: bool) -> Vec<u8> {
    let framed = |message: &&[u8]| seal.framed(MessageType::Data, message, confidential);
    messages.iter().flat_map(framed).collect()
}

/// What is received until there is no more, and how that ends.
fn hear(
    endpoint: &mut Endpoint<Scripted>,
    buffers: &mut Buffers,
    at_once: usize,
) -> (Vec<u8>, Received) {
    let mut heard = Vec::new();
    let mut into = vec![0; at_once];
    loop {
        match endpoint.recv(&mut into, buffers) {
            Received::Bytes(n) => heard.extend_from_slice(&into[..n]),
            received => return (heard, received),
        }
    }
}

/// The same over all segments: a short receive says that there is no more, until there is news.
fn hear_all(endpoint: &mut Endpoint<Scripted>, buffers: &mut Buffers) -> (Vec<u8>, Received) {
    let mut heard = Vec::new();
    loop {
        let waiting = endpoint.scripted().incoming.len();
        let (more, received) = hear(endpoint, buffers, 1000);
        heard.extend(more);
        if received != Received::Blocked || waiting == 0 {
            return (heard, received);
        }
        endpoint.handle_readiness(READY);
    }
}

/// What the peer opens of what was sent to it, and what is left that is no whole token.
fn opened(sent: &[u8], confidential: bool) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut seal = MockSeal::initiator(KEY);
    let (mut rest, mut messages) = (sent, Vec::new());
    while let Some(len) = framed_len(rest).filter(|len| *len <= rest.len()) {
        assert_eq!(rest[..2], [1, 3]);
        let mut token = rest[HEADER_BYTES..len].to_vec();
        let opened = seal.unwrap(&mut token).unwrap();
        assert_eq!((opened.order, opened.confidential), (Order::Next, confidential));
        messages.push(token[opened.message].to_vec());
        rest = &rest[len..];
    }
    (messages, rest.to_vec())
}

fn assert_nothing_held(buffers: &Buffers) {
    assert_eq!((buffers.inboxes_lent(), buffers.rings_lent()), (0, 0));
}

#[test]
fn what_was_sealed_is_received_and_what_holds_it_is_given_back() {
    for confidential in [false, true] {
        let mut seal = MockSeal::initiator(KEY);
        let large = vec![5; 30_000];
        let messages = [&b"hello "[..], b"", &large, b"", b"bye"];
        let stream = said(&mut seal, &messages, confidential);
        for at_once in [1, 7, 4096, RING_BYTES] {
            let mut buffers = buffers();
            let mut endpoint = sealed([stream.clone()], confidential);
            endpoint.handle_readiness(READY);
            let mut heard = Vec::new();
            for _ in 0..3 {
                heard.extend(hear(&mut endpoint, &mut buffers, at_once).0);
                endpoint.handle_readiness(READY);
            }
            assert!(heard == messages.concat(), "{at_once} at once");
            assert_nothing_held(&buffers);
            assert!(!endpoint.is_forged());
        }
    }
}

#[test]
fn nothing_comes_after_a_token_that_is_not_as_it_should_be() {
    let clear = |bytes: &[u8]| bytes.to_vec();
    let peer = || MockSeal::initiator(KEY);
    let after_two = || {
        let mut seal = peer();
        said(&mut seal, &[b"one", b"two"], false);
        seal
    };
    let mut tampered = after_two().framed(MessageType::Data, b"three", false);
    let last = tampered.len() - 1;
    tampered[last] ^= 1;
    let mut skipping = after_two();
    skipping.skip();
    let others = [
        ("tampered with", tampered),
        ("repeated", said(&mut peer(), &[b"one"], false)),
        ("ahead of another", skipping.framed(MessageType::Data, b"three", false)),
        ("of another level", after_two().framed(MessageType::Data, b"three", true)),
        ("of another type", after_two().framed(MessageType::Level, b"three", false)),
        ("of another key", said(&mut MockSeal::initiator(KEY + 1), &[b"three"], false)),
        ("of our own", said(&mut MockSeal::acceptor(KEY), &[b"three"], false)),
        ("too short", framed(MessageType::Data, b"shrt")),
        ("empty", clear(b"\x01\x03\0\0")),
        ("clear", clear(b"GET / HTTP/1.0\r\n\r\n")),
        ("an abort", clear(b"\x01\xff")),
    ];
    for (what, other) in others {
        let first = said(&mut peer(), &[b"one", b"two"], false);
        let good = after_two().framed(MessageType::Data, b"three", false);
        let mut buffers = buffers();
        let mut endpoint = sealed([[first, other, good].concat()], false);
        let (heard, received) = hear(&mut endpoint, &mut buffers, 100);
        assert_eq!((&heard[..], received), (&b"onetwo"[..], Received::Reset), "{what}");
        assert!(endpoint.is_forged() && endpoint.is_reset() && endpoint.is_broken(), "{what}");
        assert!(endpoint.is_readable(), "there is that to tell");
        assert_eq!(hear(&mut endpoint, &mut buffers, 100), (Vec::new(), Received::Reset));
        assert_eq!(endpoint.send(b"x", &mut buffers), Sent::Broken, "{what}");
        assert_eq!(endpoint.discard(1, &mut buffers), Received::Reset);
        endpoint.release(&mut buffers);
        assert_nothing_held(&buffers);
        assert!(endpoint.scripted().sent.is_empty(), "{what}");
    }
}

#[test]
fn an_end_counts_between_two_tokens_only() {
    let token = said(&mut MockSeal::initiator(KEY), &[b"message"], false);
    for len in 0..=token.len() {
        let mut buffers = buffers();
        let segments = [token[..len].to_vec(), Vec::new()];
        let mut endpoint = sealed(segments.into_iter().skip(usize::from(len == 0)), false);
        let (heard, received) = hear_all(&mut endpoint, &mut buffers);
        let is_clean = len == 0 || len == token.len();
        assert_eq!(received, if is_clean { Received::End } else { Received::Reset }, "{len}");
        assert_eq!(heard.len(), if len == token.len() { 7 } else { 0 });
        assert_eq!(endpoint.is_forged(), !is_clean);
    }
}

#[test]
fn so_many_messages_of_no_bytes_are_too_many_however_they_come() {
    for (empties, is_good) in [(63, true), (64, false), (1000, false)] {
        for at_once in [1, 23, 1000] {
            let mut seal = MockSeal::initiator(KEY);
            let stream = said(&mut seal, &[&vec![&b""[..]; empties][..], &[b"x"]].concat(), false);
            let segments: Vec<Vec<u8>> = stream.chunks(at_once).map(<[u8]>::to_vec).collect();
            let mut endpoint = sealed(segments, false);
            let (heard, received) = hear_all(&mut endpoint, &mut buffers());
            let expected = if is_good { (1, Received::Blocked) } else { (0, Received::Reset) };
            assert_eq!((heard.len(), received), expected, "{empties}, {at_once} at once");
        }
    }
}

#[test]
fn what_is_peeked_at_is_still_there_until_it_is_discarded() {
    let stream = said(&mut MockSeal::initiator(KEY), &[b"hello", b"bye"], false);
    let (mut buffers, mut into) = (buffers(), [0; 16]);
    let mut endpoint = sealed([stream], false);
    for _ in 0..2 {
        assert_eq!(endpoint.peek(&mut into, &mut buffers), Received::Bytes(5));
        assert_eq!(&into[..5], b"hello");
    }
    assert_eq!(endpoint.discard(2, &mut buffers), Received::Bytes(2));
    assert_eq!(endpoint.peek(&mut into, &mut buffers), Received::Bytes(3));
    assert_eq!(&into[..3], b"llo");
    assert_eq!(endpoint.discard(3, &mut buffers), Received::Bytes(3));
    assert_eq!(endpoint.recv(&mut into, &mut buffers), Received::Bytes(3));
    assert_eq!(&into[..3], b"bye");
    assert_nothing_held(&buffers);
}

#[test]
fn what_nobody_takes_is_thrown_away_whole_tokens_too() {
    let stream = said(&mut MockSeal::initiator(KEY), &[b"hello", b"bye", b"more"], false);
    let mut buffers = buffers();
    let mut source = sealed([stream], false);
    let broken = Scripted::sending([Err(libc::EPIPE)]);
    let mut sink = endpoint(broken, READY);
    let mut lane = Lane::new(None);
    let mut work = Work::new();
    assert_eq!(pump(&mut source, &mut lane, &mut sink, &mut buffers, &mut work), Pumped::Blocked);
    assert_eq!(lane.flow(), Flow::Discarding);
    assert!(!source.is_readable(), "it would be looked at for ever");
    assert_nothing_held(&buffers);
}

#[test]
fn a_token_counts_when_all_of_it_was_sent() {
    let message = b"twelve bytes";
    let len = HEADER_BYTES + overhead(true) + message.len();
    let mut buffers = buffers();
    let socket = Scripted::sending([Ok(len - 3), Err(libc::EAGAIN), Ok(2), Ok(1)]);
    let mut endpoint = sealed_by(MockSeal::acceptor(KEY), socket, true);
    for _ in 0..3 {
        assert_eq!(endpoint.send(message, &mut buffers), Sent::Blocked);
        assert_eq!(opened(&endpoint.scripted().sent, true).0.len(), 0);
        endpoint.handle_readiness(READY);
    }
    // Those that were offered first are what it carries, and no more.
    let more = [&message[..], b" and more"].concat();
    assert_eq!(endpoint.send(&more, &mut buffers), Sent::Bytes(message.len()));
    assert_eq!(endpoint.send(&more[message.len()..], &mut buffers), Sent::Bytes(9));
    let (messages, rest) = opened(&endpoint.scripted().sent, true);
    assert_eq!((messages.concat(), rest.len()), (more, 0));
}

#[test]
fn a_message_is_as_long_as_a_token_lets_it_be_and_shorter_when_rings_are_out() {
    for confidential in [false, true] {
        let bytes = vec![3; RING_BYTES];
        let mut endpoint = sealed([], confidential);
        let longest = TOKEN_MAX - overhead(confidential);
        assert_eq!(endpoint.send(&bytes, &mut buffers()), Sent::Bytes(longest));
        assert_eq!(endpoint.scripted().sent.len(), HEADER_BYTES + TOKEN_MAX);
        let mut none = Buffers::new(0, RelayMode::Copy, 0);
        let short = INBOX_BYTES - HEADER_BYTES - overhead(confidential);
        assert_eq!(endpoint.send(&bytes, &mut none), Sent::Bytes(short));
        let (messages, _) = opened(&endpoint.scripted().sent, confidential);
        let lens: Vec<usize> = messages.iter().map(Vec::len).collect();
        assert_eq!(lens, [longest, short]);
    }
}

#[test]
fn what_is_half_sent_is_kept_in_what_is_left_of_the_rings() {
    let (rings, crowd) = (4, 20);
    let mut buffers = Buffers::new(rings, RelayMode::Copy, 0);
    let bytes: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
    let stalled = || Scripted::sending([Ok(500), Err(libc::EAGAIN)]);
    let mut readers: Vec<Endpoint<Scripted>> =
        (0..crowd).map(|_| sealed_by(MockSeal::acceptor(KEY), stalled(), true)).collect();
    for (number, reader) in readers.iter_mut().enumerate() {
        assert_eq!(reader.send(&bytes, &mut buffers), Sent::Blocked);
        // Two of them have a ring's worth, and with the half of a ring nobody begins.
        let lent = (number / 2 + 1).min(rings);
        let inboxes = (number + 1).saturating_sub(2 * rings - 1);
        assert_eq!((buffers.rings_lent(), buffers.inboxes_lent()), (lent, inboxes));
    }
    assert!(buffers.ring().is_none());
    for mut reader in readers.drain(1..) {
        let mut counted = 0;
        while counted < bytes.len() {
            reader.handle_readiness(READY);
            match reader.send(&bytes[counted..], &mut buffers) {
                Sent::Bytes(n) => counted += n,
                sent => assert_eq!(sent, Sent::Blocked),
            }
        }
        assert!(opened(&reader.scripted().sent, true).0.concat() == bytes);
    }
    assert_eq!(buffers.rings_lent(), 1);
    readers[0].release(&mut buffers);
    assert_nothing_held(&buffers);
}

#[test]
fn what_is_half_sent_goes_on_when_nothing_more_is_received() {
    let mut buffers = buffers();
    let socket = Scripted { incoming: incoming([vec![1, 3]]), ..Scripted::sending([Ok(9)]) };
    let mut endpoint = sealed_by(MockSeal::acceptor(KEY), socket, false);
    hear(&mut endpoint, &mut buffers, 100);
    assert_eq!(endpoint.send(b"message", &mut buffers), Sent::Blocked);
    assert_eq!(buffers.inboxes_lent(), 2);
    endpoint.forget_received(&mut buffers);
    assert_eq!(buffers.inboxes_lent(), 1);
    endpoint.handle_readiness(READY);
    assert_eq!(endpoint.send(b"message", &mut buffers), Sent::Bytes(7));
    assert_eq!(opened(&endpoint.scripted().sent, false).0, [b"message"]);
    assert_nothing_held(&buffers);
}

#[test]
fn a_token_outstays_where_others_wait_and_only_there() {
    let begun = said(&mut MockSeal::initiator(KEY), &[&[5; 60_000]], true);
    let whole = said(&mut MockSeal::initiator(KEY), &[&[5; 60_000]], true);
    let now = Instant::now();
    let seconds = |n| now + Duration::from_secs(n);
    // Not yet whole, and not yet gone.
    for stream in [begun[..50_000].to_vec(), whole] {
        let mut buffers = buffers();
        let mut kept = sealed([stream], true);
        kept.recv(&mut [0; 10], &mut buffers);
        for second in 0..300 {
            assert!(!kept.outstays(seconds(second), &mut buffers), "nobody waits");
        }
        let mut crowd = Vec::new();
        while !buffers.are_short() {
            crowd.push(buffers.token_room(RING_BYTES, None, true).unwrap());
        }
        assert!(kept.outstays(seconds(300), &mut buffers));
        let mut plain = endpoint(Scripted::default(), READY);
        assert!(!plain.outstays(seconds(300), &mut buffers));
        // An hour is nothing to who has moved on.
        let mut moves_on = sealed([begun.clone(), begun[..50_000].to_vec()], true);
        buffers.give(crowd.pop().unwrap());
        moves_on.recv(&mut [0; 10], &mut buffers);
        assert!(!moves_on.outstays(seconds(300), &mut buffers));
        assert!(!moves_on.outstays(seconds(359), &mut buffers));
        assert!(moves_on.outstays(seconds(360), &mut buffers));
        kept.release(&mut buffers);
        assert!(!moves_on.outstays(seconds(361), &mut buffers), "there is room");
    }
}

#[test]
fn what_has_begun_behind_a_message_is_looked_at_again() {
    let messages = [&[5; 20_000][..], &[6; 10_000], &[7; 60_000]];
    let mut seal = MockSeal::initiator(KEY);
    let [large, next, last] = messages.map(|message| said(&mut seal, &[message], true));
    let mut buffers = buffers();
    let mut client = sealed([large, [&next[..], &last[..5]].concat()], true);
    let mut target = endpoint(Scripted::default(), READY);
    let mut lane = Lane::new(None);
    for _ in 0..2 {
        client.handle_readiness(READY);
        pump(&mut client, &mut lane, &mut target, &mut buffers, &mut Work::new());
    }
    assert_eq!((lane.bytes(), lane.is_pending()), (30_000, false));
    assert!(!client.is_readable() && client.is_starved());
    let now = Instant::now();
    for second in 0..2 {
        client.look_again();
        client.outstays(now + Duration::from_secs(second), &mut buffers);
    }
    assert_eq!((buffers.inboxes_lent(), buffers.rings_lent()), (1, 0));
    assert!(!client.is_starved(), "an inbox is everybody's");
    client.scripted().incoming.push_back(Ok(last[5..].to_vec()));
    client.handle_readiness(READY);
    pump(&mut client, &mut lane, &mut target, &mut buffers, &mut Work::new());
    assert!(target.scripted().sent == messages.concat());
    assert_nothing_held(&buffers);
}

#[test]
fn a_token_is_not_held_to_what_the_one_before_it_has_kept() {
    let mut seal = MockSeal::initiator(KEY);
    let stream = said(&mut seal, &[&[5; 60_000], &[6; 60_000]], true);
    let now = Instant::now();
    let seconds = |n| now + Duration::from_secs(n);
    let mut buffers = Buffers::new(0, RelayMode::Copy, 0);
    let mut client = sealed([stream[..110_000].to_vec(), vec![0]], true);
    client.recv(&mut [0; 10], &mut buffers);
    // Its reader takes its time.
    assert!(!client.outstays(now, &mut buffers));
    while buffers.token_room(RING_BYTES, None, true).is_some() {}
    client.handle_readiness(READY);
    assert_eq!(hear(&mut client, &mut buffers, 59_990).0.len(), 59_990);
    assert!(!client.outstays(seconds(60), &mut buffers));
    assert!(client.outstays(seconds(120), &mut buffers));
}

#[test]
fn a_context_that_has_no_more_to_give_and_a_broken_socket_send_nothing() {
    let mut buffers = buffers();
    let mut spent = sealed_by(MockSeal::acceptor(KEY).lasting(1), Scripted::default(), false);
    assert_eq!(spent.send(b"a", &mut buffers), Sent::Bytes(1));
    let sent = spent.scripted().sent.len();
    assert_eq!(spent.send(b"b", &mut buffers), Sent::Broken);
    assert!(spent.is_forged());
    assert_eq!(spent.scripted().sent.len(), sent);
    for room in [vec![Err(libc::EPIPE)], vec![Ok(5), Err(libc::ECONNRESET)]] {
        let mut broken = sealed_by(MockSeal::acceptor(KEY), Scripted::sending(room), false);
        let mut sent = broken.send(b"x", &mut buffers);
        if sent == Sent::Blocked {
            broken.handle_readiness(READY);
            sent = broken.send(b"x", &mut buffers);
        }
        assert_eq!(sent, Sent::Broken);
        assert!(!broken.is_forged());
    }
}

#[test]
fn lanes_carry_without_rings_and_never_splice() {
    for rings in [0, 1] {
        for mode in [RelayMode::Splice, RelayMode::Auto] {
            let mut buffers = Buffers::new(rings, mode, 4);
            let bytes = vec![9; 100_000];
            let stream =
                said(&mut MockSeal::initiator(KEY), &[&bytes[..50_000], &bytes[50_000..]], true);
            let (mut up, mut down) = (Lane::new(None), Lane::new(None));
            let mut client = sealed([stream], true);
            let plain = Scripted { incoming: incoming([bytes.clone()]), ..Scripted::default() };
            let mut target = endpoint(plain, READY);
            for _ in 0..40 {
                let (mut one, mut other) = (Work::new(), Work::new());
                pump(&mut client, &mut up, &mut target, &mut buffers, &mut one);
                pump(&mut target, &mut down, &mut client, &mut buffers, &mut other);
                client.handle_readiness(READY);
                target.handle_readiness(READY);
            }
            assert_eq!((up.bytes(), down.bytes()), (100_000, 100_000));
            assert!(target.scripted().sent == bytes);
            assert!(opened(&client.scripted().sent, true).0.concat() == bytes);
            assert_eq!(buffers.pipes_open(), 0);
            assert_nothing_held(&buffers);
        }
    }
}

#[test]
fn datagrams_may_be_late_or_missing_but_come_once() {
    for confidential in [false, true] {
        let seal = Box::new(MockSeal::acceptor(KEY));
        let mut stage = Stage::new(seal, confidential, Tokens::default());
        let mut peer = MockSeal::initiator(KEY);
        let sent: Vec<Vec<u8>> =
            (0..4u8).map(|i| peer.framed(MessageType::Data, &[i; 9], confidential)).collect();
        let mut open = |datagram: &[u8]| {
            let mut datagram = datagram.to_vec();
            let place = stage.open_datagram(&mut datagram)?;
            Some(datagram[place].to_vec())
        };
        for index in [1, 0, 3] {
            assert_eq!(open(&sent[index]), Some(vec![index as u8; 9]));
            assert_eq!(open(&sent[index]), None, "it has come before");
        }
        let mut others = vec![
            sent[2][..sent[2].len() - 1].to_vec(),
            [&sent[2][..], b"x"].concat(),
            [sent[2].clone(), sent[2].clone()].concat(),
            peer.framed(MessageType::Level, b"x", confidential),
            peer.framed(MessageType::Data, b"x", !confidential),
            Vec::new(),
            b"\0\0\0\x01\x7f\0\0\x01\0\x35clear".to_vec(),
        ];
        let mut tampered = sent[2].clone();
        tampered[HEADER_BYTES] ^= 0x40;
        others.push(tampered);
        for other in others {
            assert_eq!(open(&other), None, "{other:02x?}");
        }
        assert_eq!(open(&sent[2]), Some(vec![2; 9]), "none of those counts for it");
    }
}

#[test]
fn the_longest_datagram_is_just_long_enough() {
    for (room, confidential) in [(1500, false), (1500, true), (65_507, true), (3, false)] {
        let seal = Box::new(MockSeal::acceptor(KEY));
        let mut stage = Stage::new(seal, confidential, Tokens::default());
        let longest = stage.datagram_max(room);
        let mut out = b"before".to_vec();
        stage.seal_datagram(&vec![4; longest], &mut out).unwrap();
        let sealed = &out[6..];
        assert_eq!(sealed.len(), if longest > 0 { room } else { sealed.len() });
        let (messages, rest) = opened(sealed, confidential);
        assert_eq!((messages, rest.len()), (vec![vec![4; longest]], 0));
    }
}

/// How many bytes a send takes; none: it would block.
fn rooms() -> impl Strategy<Value = Vec<Result<usize, i32>>> {
    let room = prop_oneof![
        (1usize..40).prop_map(Ok),
        (1usize..5000).prop_map(Ok),
        Just(Err(libc::EAGAIN))
    ];
    prop::collection::vec(room, 0..60)
}

proptest! {
    #[test]
    fn a_stream_is_opened_however_it_is_cut(
        lens in prop::collection::vec(prop_oneof![0usize..40, 900usize..1100, 0usize..9000], 1..6),
        cuts in prop::collection::vec(prop_oneof![1usize..30, 1usize..4000, 1usize..70_000], 1..30),
        confidential in any::<bool>(),
        end in any::<bool>(),
    ) {
        let messages: Vec<Vec<u8>> = lens.iter().enumerate().map(|(i, len)| vec![i as u8; *len]).collect();
        let slices: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let stream = said(&mut MockSeal::initiator(KEY), &slices, confidential);
        let mut segments = Vec::new();
        let mut rest = &stream[..];
        for cut in cuts.iter().cycle() {
            let (segment, left) = rest.split_at(rest.len().min(*cut));
            segments.push(segment.to_vec());
            rest = left;
            if rest.is_empty() {
                break;
            }
        }
        segments.extend(end.then(Vec::new));
        let mut buffers = buffers();
        let mut endpoint = sealed(segments, confidential);
        let (heard, received) = hear_all(&mut endpoint, &mut buffers);
        prop_assert!(heard == messages.concat());
        prop_assert_eq!(received, if end { Received::End } else { Received::Blocked });
        prop_assert_eq!((buffers.inboxes_lent(), buffers.rings_lent()), (0, 0));
    }

    #[test]
    fn a_peer_opens_what_was_counted_and_no_more_than_was_offered(
        rooms in rooms(),
        offers in prop::collection::vec(1usize..4000, 1..30),
        confidential in any::<bool>(),
        rings in 0usize..2,
    ) {
        // More than all offers together: what is sent is never nothing.
        let bytes: Vec<u8> = (0..120_000u32).map(|i| (i % 251) as u8).collect();
        let mut buffers = Buffers::new(rings, RelayMode::Copy, 0);
        let mut endpoint = sealed_by(MockSeal::acceptor(KEY), Scripted::sending(rooms), confidential);
        let (mut counted, mut offered) = (0, 0);
        for offer in offers {
            // What was offered and not taken is offered again, with more behind it.
            offered = (counted + offer).max(offered).min(bytes.len());
            match endpoint.send(&bytes[counted..offered], &mut buffers) {
                Sent::Bytes(n) => {
                    prop_assert!((1..=offered - counted).contains(&n));
                    counted += n;
                }
                Sent::Blocked => endpoint.handle_readiness(READY),
                Sent::Broken => prop_assert!(false),
            }
        }
        let (messages, rest) = opened(&endpoint.scripted().sent, confidential);
        prop_assert!(messages.concat() == bytes[..counted]);
        prop_assert!(rest.len() < HEADER_BYTES + TOKEN_MAX);
    }
}
