//! A model of GSSAPI: contexts of as many legs as a client wants, and tokens that are numbered and
//! keyed as a real mechanism's are. It hides nothing from anybody, but a change it finds.

// Every test crate uses its own part of this module.
#![allow(dead_code, unreachable_pub)]

use ringsocks::auth::{Acceptor, Failure, Mechanism, Stepped};
use ringsocks::proto::gssapi::{
    Broken, HEADER_BYTES, MessageType, Opened, Order, Seal, TOKEN_MAX, header,
};

/// `magic flags number` before a message, and for one that nobody is to read some more.
const HEAD: usize = 11;
const CONFOUNDER: usize = 8;
/// The sum of all before it.
const TAIL: usize = 8;

const MAGIC: [u8; 2] = [0x60, 0x53];
const SENT_BY_ACCEPTOR: u8 = 1;
const CONFIDENTIAL: u8 = 2;

/// What a client's first token begins with, and each that follows.
const CONTEXT_MAGIC: &[u8; 4] = b"mock";

/// One so many before the last cannot be told from one that has come before.
pub const WINDOW: u64 = 64;

/// One end of an established context.
pub struct MockSeal {
    key: u64,
    is_acceptor: bool,
    sent: u64,
    expected: u64,
    /// Which of those before the expected one have come, that one's neighbour first.
    seen: u64,
    /// How many tokens it still seals.
    left: u64,
}

impl MockSeal {
    pub fn initiator(key: u64) -> MockSeal {
        MockSeal::new(key, false)
    }

    pub fn acceptor(key: u64) -> MockSeal {
        MockSeal::new(key, true)
    }

    fn new(key: u64, is_acceptor: bool) -> MockSeal {
        // Neither end counts from 0.
        let (ours, theirs) = if is_acceptor { (1 << 40, 7) } else { (7, 1 << 40) };
        MockSeal {
            key,
            is_acceptor,
            sent: ours + key % 100,
            expected: theirs + key % 100,
            seen: 0,
            left: u64::MAX,
        }
    }

    /// The same, that breaks after so many tokens of its own.
    pub fn lasting(self, tokens: u64) -> MockSeal {
        MockSeal { left: tokens, ..self }
    }

    /// Skips a number, as if a token had been sealed and lost.
    pub fn skip(&mut self) {
        self.sent += 1;
    }

    /// Takes the number of the last token for the next one, too.
    pub fn unskip(&mut self) {
        self.sent -= 1;
    }

    /// The token for a message, without header.
    pub fn token(&mut self, message: &[u8], confidential: bool) -> Vec<u8> {
        let mut token = Vec::new();
        self.wrap(message, confidential, &mut token).expect("a context that lasts");
        token
    }

    /// The same behind its header, as it goes over the wire.
    pub fn framed(&mut self, kind: MessageType, message: &[u8], confidential: bool) -> Vec<u8> {
        framed(kind, &self.token(message, confidential))
    }

    fn flags(&self, by_us: bool, confidential: bool) -> u8 {
        let by = if by_us == self.is_acceptor { SENT_BY_ACCEPTOR } else { 0 };
        by | if confidential { CONFIDENTIAL } else { 0 }
    }

    fn order(&mut self, number: u64) -> Order {
        if number >= self.expected {
            let ahead = number - self.expected;
            self.seen = if ahead + 1 < WINDOW { self.seen << (ahead + 1) | 1 } else { 1 };
            self.expected = number + 1;
            return if ahead == 0 { Order::Next } else { Order::Gap };
        }
        let behind = self.expected - 1 - number;
        if behind >= WINDOW || self.seen & 1 << behind != 0 {
            return Order::Duplicate;
        }
        self.seen |= 1 << behind;
        Order::Unsequenced
    }
}

impl Seal for MockSeal {
    fn message_max(&self, token_max: usize, confidential: bool) -> usize {
        token_max.saturating_sub(overhead(confidential))
    }

    fn wrap(
        &mut self,
        message: &[u8],
        confidential: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        self.left = self.left.checked_sub(1).ok_or(Broken)?;
        let start = out.len();
        out.extend(MAGIC);
        out.push(self.flags(true, confidential));
        out.extend(self.sent.to_be_bytes());
        if confidential {
            out.extend((!self.sent).to_be_bytes());
        }
        let content = out.len();
        out.extend_from_slice(message);
        if confidential {
            veil(self.key ^ self.sent, &mut out[content..]);
        }
        let sum = sum(self.key, &out[start..]);
        out.extend(sum.to_be_bytes());
        self.sent += 1;
        Ok(())
    }

    fn unwrap(&mut self, token: &mut [u8]) -> Result<Opened, Broken> {
        let (content, tail) = token.split_last_chunk_mut::<TAIL>().ok_or(Broken)?;
        if sum(self.key, content) != u64::from_be_bytes(*tail) {
            // What was not sealed is of no more use to anybody.
            content.fill(0xdb);
            return Err(Broken);
        }
        let (&[m, n, flags, ref number @ ..], _) =
            content.split_first_chunk::<HEAD>().ok_or(Broken)?;
        let confidential = flags & CONFIDENTIAL != 0;
        let number = u64::from_be_bytes(*number);
        let start = overhead(confidential) - TAIL;
        if [m, n] != MAGIC || flags != self.flags(false, confidential) || content.len() < start {
            return Err(Broken);
        }
        if confidential {
            veil(self.key ^ number, &mut content[start..]);
        }
        let message = start..content.len();
        // What is behind the message is not the reader's.
        tail.fill(0xdb);
        Ok(Opened { message, confidential, order: self.order(number) })
    }
}

/// How much longer a token is than what it carries.
pub fn overhead(confidential: bool) -> usize {
    HEAD + TAIL + if confidential { CONFOUNDER } else { 0 }
}

/// A token behind its header.
pub fn framed(kind: MessageType, token: &[u8]) -> Vec<u8> {
    [&header(kind, token.len()), token].concat()
}

/// The length that the header at the front of `bytes` tells.
pub fn framed_len(bytes: &[u8]) -> Option<usize> {
    let &[_, _, high, low] = bytes.first_chunk::<HEADER_BYTES>()?;
    Some(HEADER_BYTES + usize::from(u16::from_be_bytes([high, low])))
}

fn veil(key: u64, bytes: &mut [u8]) {
    let pad = key.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    for chunk in bytes.chunks_mut(pad.len()) {
        chunk.iter_mut().zip(pad).for_each(|(byte, pad)| *byte ^= pad);
    }
}

fn sum(key: u64, bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(8);
    let mut sum = key ^ bytes.len() as u64;
    let mut mix = |word: u64| sum = (sum ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(29);
    for chunk in &mut chunks {
        mix(u64::from_be_bytes(chunk.try_into().unwrap_or_default()));
    }
    let mut last = [0; 8];
    last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    mix(u64::from_be_bytes(last));
    mix(key);
    sum
}

/// Makes contexts with whoever begins one.
pub struct MockMechanism;

/// What a client wants of its context; each of its tokens says all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub key: u64,
    /// How many tokens it sends until there is one.
    pub legs: u8,
    /// Whether there is one then.
    pub is_good: bool,
    /// How long each answer is.
    pub answer_len: u16,
    /// How many of our tokens the context seals.
    pub lasts: u64,
    /// Who it is.
    pub user: Vec<u8>,
}

impl Wish {
    /// Its token for this leg, the first being 1, `len` bytes long if it can be so short.
    pub fn token(&self, leg: u8, len: usize) -> Vec<u8> {
        let mut token = CONTEXT_MAGIC.to_vec();
        token.extend([leg, self.legs, u8::from(self.is_good)]);
        token.extend(self.answer_len.to_be_bytes());
        token.extend(self.key.to_be_bytes());
        token.extend(self.lasts.to_be_bytes());
        token.push(self.user.len() as u8);
        token.extend(&self.user);
        token.resize(len.max(token.len()).min(TOKEN_MAX), 0xfe);
        token
    }

    fn parse(token: &[u8]) -> Option<(Wish, u8)> {
        let rest = token.strip_prefix(CONTEXT_MAGIC)?;
        let (&[leg, legs, is_good], rest) = rest.split_first_chunk()?;
        let (answer_len, rest) = rest.split_first_chunk()?;
        let (key, rest) = rest.split_first_chunk()?;
        let (lasts, rest) = rest.split_first_chunk()?;
        let (&user_len, rest) = rest.split_first()?;
        let wish = Wish {
            key: u64::from_be_bytes(*key),
            legs,
            is_good: is_good == 1,
            answer_len: u16::from_be_bytes(*answer_len),
            lasts: u64::from_be_bytes(*lasts),
            user: rest.get(..user_len.into())?.to_vec(),
        };
        Some((wish, leg))
    }

    /// What it hears after this leg.
    pub fn answer(&self, leg: u8) -> Vec<u8> {
        vec![leg; self.answer_len.into()]
    }

    /// The client's end.
    pub fn seal(&self) -> MockSeal {
        MockSeal::initiator(self.key)
    }
}

/// Our end of a context, which has had so many legs.
struct MockAcceptor {
    wish: Option<Wish>,
    legs: u8,
}

impl Mechanism for MockMechanism {
    fn begin(&self) -> Box<dyn Acceptor> {
        Box::new(MockAcceptor { wish: None, legs: 0 })
    }
}

impl Acceptor for MockAcceptor {
    fn step(self: Box<Self>, token: &[u8]) -> Stepped {
        let Some((wish, leg)) = Wish::parse(token) else {
            return Stepped::Failed { user: None, failure: Failure::Token };
        };
        let is_next = leg == self.legs + 1 && self.wish.is_none_or(|before| before == wish);
        if !is_next {
            return Stepped::Failed { user: None, failure: Failure::Token };
        }
        let answer = wish.answer(leg);
        if leg < wish.legs {
            let acceptor = Box::new(MockAcceptor { wish: Some(wish), legs: leg });
            return Stepped::Continue { acceptor, answer };
        }
        let user = wish.user.clone().into_boxed_slice();
        match wish.is_good {
            true => {
                let seal = Box::new(MockSeal::acceptor(wish.key).lasting(wish.lasts));
                Stepped::Established { seal, user, answer }
            }
            false => Stepped::Failed { user: Some(user), failure: Failure::Principal },
        }
    }
}
