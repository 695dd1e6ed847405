//! What a client sends that wants a security context: tokens, thrown and sealed before it begins.

use std::ops::Range;

use ringsocks::outcome::Outcome;
use ringsocks::proto::gssapi::{ABORT, HEADER_BYTES, MessageType, TOKEN_MAX};
use ringsocks::session::Sealing;

use crate::mechanism::{MockSeal, Wish, framed, overhead};
use crate::payload::with_payload;
use crate::random::Random;
use crate::script::{Asked, Plan, Script};

/// More tokens establish no context.
const LEGS_MAX: u8 = 8;
/// So many messages of no bytes in a row are nobody's stream.
const EMPTY_MESSAGES_MAX: usize = 64;

/// What is known of a client's tokens before it sends any.
pub(crate) struct Sealed {
    pub(crate) wish: Wish,
    /// Where its greeting ends, each token of its context, and the one that asks for a level.
    ends: Vec<usize>,
    /// What is sealed from then on, if all goes well.
    pub(crate) stream: Option<Stream>,
}

/// A stream of sealed messages.
pub(crate) struct Stream {
    pub(crate) confidential: bool,
    /// Where it begins.
    begins: usize,
    /// The tokens that are as they should be, up to the first that is not.
    marks: Vec<Mark>,
    /// Where the first stands that is not, as far as that is seen.
    bad: Option<Range<usize>>,
    /// How many bytes the request is.
    request: usize,
    /// The tokens behind the one in which the request ends.
    rest: Vec<u8>,
}

/// A token ends here, and with it so much of what is sealed.
struct Mark {
    end: usize,
    opened: usize,
}

/// What somebody does to a stream of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mischief {
    Tamper,
    Replay,
    Reorder,
    Drop,
    OtherLevel,
    OtherType,
    NoToken,
    Clear,
    Abort,
    Empties,
}

const MISCHIEF: [Mischief; 10] = [
    Mischief::Tamper,
    Mischief::Replay,
    Mischief::Reorder,
    Mischief::Drop,
    Mischief::OtherLevel,
    Mischief::OtherType,
    Mischief::NoToken,
    Mischief::Clear,
    Mischief::Abort,
    Mischief::Empties,
];

impl Sealed {
    /// How many tokens its context takes.
    pub(crate) fn legs(&self) -> usize {
        self.wish.legs.into()
    }

    /// Where the last token ends of which `asked` for the context, and the one for a level once it
    /// was `heard`.
    pub(crate) fn taken(&self, asked: usize, is_established: bool, heard: usize) -> usize {
        let level = self.ends.get(self.legs() + 1).copied();
        match level {
            Some(level) if is_established && heard >= level => level,
            _ => self.ends.get(asked).copied().unwrap_or(usize::MAX),
        }
    }
}

impl Stream {
    /// How many bytes of its payload are sealed in the first so many of its bytes.
    pub(crate) fn opened(&self, raw: usize) -> usize {
        let whole = self.marks.partition_point(|mark| mark.end <= raw);
        let opened = whole.checked_sub(1).map_or(0, |last| self.marks[last].opened);
        opened.saturating_sub(self.request)
    }

    /// Up to where its tokens are gone at the least, and at the most, once so much of what
    /// it carries is of no more use: messages may be empty.
    pub(crate) fn gone(&self, passed: usize) -> (usize, usize) {
        let first = self.marks.iter().find(|mark| mark.opened >= passed && passed > 0);
        let last = self.marks.iter().rfind(|mark| mark.opened <= passed);
        let end = |mark: Option<&Mark>| mark.map_or(self.begins, |mark| mark.end);
        // Of a message that is only partly gone the token is still there.
        let first = first.filter(|mark| mark.opened == passed);
        let least = if passed == 0 { self.begins } else { end(first.or(last)) };
        (least, end(last))
    }

    /// Whether something that is not as it should be was heard.
    pub(crate) fn is_bad(&self, heard: usize) -> bool {
        self.bad.as_ref().is_some_and(|bad| heard >= bad.end)
    }

    /// Whether it ends as it should if it ends here.
    pub(crate) fn may_end(&self, at: usize) -> bool {
        at <= self.begins || self.marks.iter().any(|mark| mark.end == at)
    }

    pub(crate) fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// Where the token ends in which the request does, if that is as it should be.
    pub(crate) fn request_end(&self) -> Option<usize> {
        self.marks.iter().find(|mark| mark.opened >= self.request).map(|mark| mark.end)
    }

    /// How long the request is.
    pub(crate) fn request(&self) -> usize {
        self.request
    }

    /// Hangs up, or stops, before so many of the tokens behind the request.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.rest.truncate(len);
    }

    pub(crate) fn has_empties(&self) -> bool {
        self.marks.windows(2).any(|two| two[0].opened == two[1].opened)
    }

    pub(crate) fn has_large_tokens(&self) -> bool {
        self.marks.windows(2).any(|two| two[1].end - two[0].end == TOKEN_MAX + 4)
    }

    pub(crate) fn is_request_split(&self) -> bool {
        self.marks.first().is_some_and(|mark| mark.opened < self.request)
    }

    pub(crate) fn is_request_shared(&self) -> bool {
        let last = self.marks.iter().find(|mark| mark.opened >= self.request);
        last.is_some_and(|mark| mark.opened > self.request)
    }
}

impl Script {
    /// Establishes a context and agrees on a level. Whether the client may go on, and how its
    /// messages are then sealed.
    pub(crate) fn secure(&mut self, random: &mut Random, sealing: Sealing) -> Option<Option<bool>> {
        let [own, ours] = self.client.queues;
        // Who takes that long is never done.
        let longest = (own.min(ours) * 20).min(TOKEN_MAX);
        let wish = throw_wish(random, longest);
        let ends = vec![self.asks.len()];
        self.sealed = Some(Sealed { wish: wish.clone(), ends, stream: None });
        for leg in 1..=wish.legs {
            if random.once_in(80) {
                let (bytes, seen) = throw_no_token(random, MessageType::Context);
                let begins = self.asks.len();
                self.asks.extend(bytes);
                self.refuse(begins + seen, ABORT, Outcome::BadLogin);
                return None;
            }
            let len =
                random.pick(&[0, 0, 0, 0, 0, 900, 1500, 4000, 20_000, TOKEN_MAX]).min(longest);
            let mut token = wish.token(leg, len);
            let is_garbled = random.once_in(60);
            if is_garbled {
                token[random.below(4)] ^= 1 << random.below(8);
            }
            self.add_token(framed(MessageType::Context, &token));
            let is_over = leg == wish.legs && !wish.is_good;
            if is_garbled || is_over || leg > LEGS_MAX {
                self.refuse(self.asks.len(), ABORT, Outcome::BadLogin);
                return None;
            }
            let answer = framed(MessageType::Context, &wish.answer(leg));
            self.answers.push((self.asks.len(), answer));
        }
        self.ask_for_level(random, sealing, &wish)
    }

    fn add_token(&mut self, framed: Vec<u8>) {
        self.asks.extend(framed);
        let end = self.asks.len();
        self.sealed.as_mut().expect("it wants a context").ends.push(end);
    }

    fn ask_for_level(
        &mut self,
        random: &mut Random,
        sealing: Sealing,
        wish: &Wish,
    ) -> Option<Option<bool>> {
        let mut seal = wish.seal();
        let level: &[u8] = match random.below(40) {
            0 => &[4],
            1 => &[],
            2 => &[1, 1],
            3 => &[0],
            4..8 if sealing.may_be_clear => &[0],
            8..14 => &[3],
            14..26 => &[2],
            _ => &[1],
        };
        let mut mischief = random.once_in(20).then(|| random.below(4));
        if mischief == Some(0) {
            seal.skip();
        }
        let mut token = seal.framed(MessageType::Level, level, random.once_in(4));
        let begins = self.asks.len();
        let mut seen = token.len();
        match mischief {
            Some(1) => {
                let at = random.between(4, token.len() - 1);
                token[at] ^= 0x10;
            }
            Some(2) => (token, seen) = throw_no_token(random, MessageType::Level),
            Some(3) => (token[1], seen) = (MessageType::Data as u8, 2),
            _ => {}
        }
        let agreed = match level {
            [0] if sealing.may_be_clear => Some(0),
            [1] if sealing.confidential => Some(2),
            [1] => Some(1),
            [2 | 3] => Some(2),
            _ => None,
        };
        if mischief.is_none() && wish.lasts == 0 {
            mischief = Some(0);
        }
        self.add_token(token);
        let (None, Some(agreed)) = (mischief, agreed) else {
            self.refuse(begins + seen, ABORT, Outcome::BadLogin);
            return None;
        };
        let answer = MockSeal::acceptor(wish.key).framed(MessageType::Level, &[agreed], false);
        self.answers.push((self.asks.len(), answer));
        Some((agreed != 0).then_some(agreed == 2))
    }

    /// Seals the request, which begins there, and the payload behind it.
    pub(crate) fn seal(&mut self, random: &mut Random, request: usize, confidential: bool) {
        let request = self.asks.split_off(request);
        let mut plain = request.clone();
        with_payload(&self.client, 0, self.client.payload, |_, piece| {
            plain.extend_from_slice(piece);
        });
        let begins = self.asks.len();
        let mut seal = self.sealed.as_ref().expect("it has a context").wish.seal();
        seal.skip();
        let pieces = throw_pieces(random, &self.client, request.len(), plain.len(), confidential);
        let mut sealer = Sealer {
            seal,
            confidential,
            raw: Vec::new(),
            begins,
            marks: Vec::new(),
            bad: None,
            ends: Vec::new(),
        };
        let bad_at = random.once_in(4).then(|| random.below(pieces.len()));
        sealer.seal_all(random, &plain, &pieces, bad_at);
        // What it says before it must wait for a reply: up to the message in which the request ends.
        let asked = pieces.iter().position(|piece| piece.end >= request.len()).unwrap_or(0);
        let mut raw = sealer.raw;
        let rest = raw.split_off(sealer.ends[asked]);
        self.asks.extend(raw);
        self.client.chunk_max = self.client.chunk_max.max((self.asks.len() + rest.len()) / 40);
        let Sealer { marks, bad, .. } = sealer;
        let end_of = |plain: usize| marks.iter().find(|it| it.opened >= plain).map(|it| it.end);
        let is_cut_off = end_of(request.len()).is_none();
        match &mut self.request {
            Asked::Refused { after, .. } if end_of(*after - begins).is_some() => {
                *after = end_of(*after - begins).unwrap_or_default();
            }
            _ if is_cut_off => {
                let seen = bad.as_ref().map_or(usize::MAX, |bad| bad.end);
                self.refuse(seen, [], Outcome::BadToken);
            }
            _ => {}
        }
        let request = request.len();
        let stream = Stream { confidential, begins, marks, bad, request, rest };
        self.sealed.as_mut().expect("it has a context").stream = Some(stream);
    }
}

fn throw_wish(random: &mut Random, longest: usize) -> Wish {
    let answer_len = random.pick(&[0, 0, 30, 30, 30, 30, 700, 5000, 5000, TOKEN_MAX]);
    Wish {
        key: random.next(),
        legs: random.pick(&[1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 8, 9]),
        is_good: !random.once_in(15),
        answer_len: answer_len.min(longest) as u16,
        lasts: if random.once_in(25) { random.below(12) as u64 } else { u64::MAX },
        user: vec![b'p'; random.pick(&[1, 20, 255])],
    }
}

/// What is no token of this type, and how much of it must be heard to see that.
fn throw_no_token(random: &mut Random, kind: MessageType) -> (Vec<u8>, usize) {
    match random.below(4) {
        0 => (vec![random.pick(&[0, 2, 5, 0xff]), kind as u8, 0, 1, 9], 1),
        1 => (vec![1, random.pick(&[0, 4, 0x13, 0xfe]), 0, 1, 9], 2),
        2 => (vec![1, kind as u8, 0, 0, 1, 3], 4),
        _ => (ABORT.to_vec(), 2),
    }
}

/// Where messages begin and end in what a client says.
fn throw_pieces(
    random: &mut Random,
    plan: &Plan,
    request: usize,
    end: usize,
    confidential: bool,
) -> Vec<Range<usize>> {
    let most = TOKEN_MAX - overhead(confidential);
    let usual = random.pick(&[1, 40, 1000, 1000, 20_000, most]).max(plan.payload / 100);
    let (splits_request, shares) = (random.once_in(4), plan.is_eager && random.once_in(2));
    let sends_empties = random.once_in(5);
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < end {
        if sends_empties && random.once_in(3) {
            let empties = random.pick(&[1, 1, 2, 63]);
            pieces.extend(std::iter::repeat_n(at..at, empties));
        }
        let until = match at < request {
            true if splits_request => request,
            true if shares => end,
            true => request,
            false => end,
        };
        let len = match at < request {
            true if splits_request => random.between(1, request.min(4)),
            true => usize::MAX,
            false if random.once_in(10) => most,
            false => random.between(1, usual),
        };
        let len = len.min(until - at).min(most);
        // What is shared is not all there is.
        let len = if at < request && shares && !splits_request {
            len.min(request - at + random.below(3000))
        } else {
            len
        };
        pieces.push(at..at + len);
        at += len;
    }
    if sends_empties {
        pieces.push(end..end);
    }
    pieces
}

struct Sealer {
    seal: MockSeal,
    confidential: bool,
    raw: Vec<u8>,
    begins: usize,
    marks: Vec<Mark>,
    bad: Option<Range<usize>>,
    /// Where what each piece has become ends.
    ends: Vec<usize>,
}

impl Sealer {
    fn seal_all(
        &mut self,
        random: &mut Random,
        plain: &[u8],
        pieces: &[Range<usize>],
        bad_at: Option<usize>,
    ) {
        let mut number = 0;
        while number < pieces.len() {
            let piece = &pieces[number];
            let sealed = self.framed(&plain[piece.clone()]);
            let next = pieces.get(number + 1).map(|next| &plain[next.clone()]);
            if bad_at == Some(number) {
                number += self.spoil(random, &plain[piece.clone()], sealed, next);
            } else {
                self.raw.extend(sealed);
                if self.bad.is_none() {
                    self.mark(piece.len());
                }
            }
            number += 1;
            self.ends.resize(number.min(pieces.len()), self.raw.len());
        }
    }

    /// The last token was as it should be, and carries so much. Where it ends.
    fn mark(&mut self, len: usize) -> usize {
        let end = self.begins + self.raw.len();
        let opened = self.marks.last().map_or(0, |mark| mark.opened) + len;
        self.marks.push(Mark { end, opened });
        end
    }

    /// How many messages of no bytes came last.
    fn empties(&self) -> usize {
        let opened = self.marks.iter().map(|mark| mark.opened);
        let last = opened.clone().next_back().unwrap_or(0);
        let run = opened.rev().take_while(|opened| *opened == last).count();
        // The first of them is what brought it there.
        if last == 0 { run } else { run - 1 }
    }

    fn framed(&mut self, message: &[u8]) -> Vec<u8> {
        self.seal.framed(MessageType::Data, message, self.confidential)
    }

    /// Does something to a token; says how many more of the messages have gone into that.
    fn spoil(
        &mut self,
        random: &mut Random,
        message: &[u8],
        mut token: Vec<u8>,
        next: Option<&[u8]>,
    ) -> usize {
        let start = self.raw.len();
        let mut seen = None;
        let mut used = 0;
        let mischief = match random.pick(&MISCHIEF) {
            Mischief::Reorder | Mischief::Drop if next.is_none() => Mischief::Tamper,
            Mischief::OtherLevel if message.len() > TOKEN_MAX - overhead(true) => Mischief::Tamper,
            mischief => mischief,
        };
        match mischief {
            Mischief::Tamper => {
                let at = random.between(4, token.len() - 1);
                token[at] ^= 1 << random.below(8);
                self.raw.extend(token);
            }
            Mischief::Replay => {
                // The first of the two is as it should be.
                self.raw.extend(&token);
                let end = self.mark(message.len());
                self.raw.extend(&token);
                self.bad = Some(end..end + token.len());
                return 0;
            }
            Mischief::Reorder | Mischief::Drop => {
                let later = self.framed(next.unwrap_or_default());
                used = 1;
                seen = Some(later.len());
                self.raw.extend(later);
                if mischief == Mischief::Reorder {
                    self.raw.extend(token);
                }
            }
            Mischief::OtherLevel => {
                let mut seal = std::mem::replace(&mut self.seal, MockSeal::initiator(0));
                seal.unskip();
                self.raw.extend(seal.framed(MessageType::Data, message, !self.confidential));
                self.seal = seal;
            }
            Mischief::OtherType => {
                (token[1], seen) = (random.pick(&[1, 2, 0x83]), Some(2));
                self.raw.extend(token);
            }
            Mischief::NoToken => {
                let (bytes, at) = throw_no_token(random, MessageType::Data);
                self.raw.extend(bytes);
                seen = Some(at);
            }
            Mischief::Clear => {
                self.raw.extend(b"\x05\x01\x00\x01\xcb\x00\x71\x01\x00\x50GET / HTTP/1.0\r\n\r\n");
                seen = Some(1);
            }
            Mischief::Abort => {
                self.raw.extend(ABORT);
                seen = Some(2);
            }
            Mischief::Empties => {
                // What was sealed already comes first.
                self.raw.extend(&token);
                let mut end = self.mark(message.len());
                let more = EMPTY_MESSAGES_MAX - self.empties() + random.below(3);
                for _ in 0..more {
                    let empty = self.framed(&[]);
                    self.raw.extend(empty);
                    if self.empties() + 1 < EMPTY_MESSAGES_MAX {
                        end = self.mark(0);
                    }
                }
                self.bad = Some(end..end + HEADER_BYTES + overhead(self.confidential));
                return 0;
            }
        }
        let end = seen.map_or(self.raw.len(), |seen| start + seen);
        self.bad = Some(self.begins + start..self.begins + end);
        used
    }
}
