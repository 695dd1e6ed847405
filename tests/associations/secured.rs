//! Clients that want a security context: what they say until their request, and what they are told.

use ringsocks::proto::gssapi::MessageType;
use ringsocks::session::Sealing;

use crate::mechanism::{MockSeal, Wish, framed};
use crate::random::Random;
use crate::sealer::Sealer;

/// A client's context, as far as it is known before the client comes.
pub(crate) struct Secured {
    wish: Wish,
    /// The level that is agreed on, as it goes over the wire.
    level: u8,
    /// Where its greeting ends, and the token that asks for a level.
    greeting_end: usize,
    level_end: usize,
    /// Where each token ends that comes behind that one.
    ends: Vec<usize>,
}

impl Secured {
    /// A client that establishes a context and asks for this under it. What it says, and what it
    /// seals with from then on.
    pub(crate) fn throw(
        random: &mut Random,
        sealing: Sealing,
        request: &[u8],
    ) -> (Secured, Vec<u8>, Option<Sealer>) {
        let wish = Wish {
            key: random.next(),
            legs: random.pick(&[1, 1, 2]),
            is_good: true,
            answer_len: random.pick(&[0, 30, 300]),
            // The level and the reply take two of them.
            lasts: random.pick(&[u64::MAX, u64::MAX, u64::MAX, 4, 40]),
            user: b"wonder".to_vec(),
        };
        let asked = match sealing.may_be_clear {
            true => random.pick(&[0, 1, 2, 3]),
            false => random.pick(&[1, 1, 2, 3]),
        };
        let level = match asked {
            0 => 0,
            1 if !sealing.confidential => 1,
            _ => 2,
        };
        let mut asks = vec![5, 1, 1];
        let greeting_end = asks.len();
        for leg in 1..=wish.legs {
            asks.extend(framed(MessageType::Context, &wish.token(leg, 0)));
        }
        let mut seal = wish.seal();
        asks.extend(seal.framed(MessageType::Level, &[asked], random.once_in(4)));
        let (level_end, mut ends) = (asks.len(), Vec::new());
        let sealer = match level {
            0 => {
                asks.extend_from_slice(request);
                None
            }
            level => {
                let mut sealer = Sealer::new(seal, level == 2);
                for piece in throw_pieces(random, request) {
                    asks.extend(sealer.seal(piece));
                    ends.push(asks.len());
                }
                Some(sealer)
            }
        };
        (Secured { wish, level, greeting_end, level_end, ends }, asks, sealer)
    }

    /// How many tokens its context takes.
    pub(crate) fn legs(&self) -> usize {
        self.wish.legs.into()
    }

    /// Our end of its context once it has its reply, and whether nobody else may read what is
    /// sealed; none: nothing is.
    pub(crate) fn our_end(&self) -> Option<(MockSeal, bool)> {
        let mut seal = self.level_told().1;
        seal.token(&[], false);
        (self.level != 0).then_some((seal, self.level == 2))
    }

    /// What it is told before its reply once so many of its bytes are heard, and so many tokens of
    /// its context looked at.
    pub(crate) fn answers(&self, heard: usize, steps: usize) -> Vec<u8> {
        let mut answers = Vec::new();
        if heard >= self.greeting_end {
            answers.extend([5, 1]);
        }
        for leg in 1..=steps as u8 {
            answers.extend(framed(MessageType::Context, &self.wish.answer(leg)));
        }
        if heard >= self.level_end && steps == self.legs() {
            answers.extend(self.level_told().0);
        }
        answers
    }

    /// A reply as it is told.
    pub(crate) fn reply(&self, reply: &[u8]) -> Vec<u8> {
        match self.level {
            0 => reply.to_vec(),
            level => self.level_told().1.framed(MessageType::Data, reply, level == 2),
        }
    }

    /// Whether it would be cut off amid a sealed token if it were heard no further.
    pub(crate) fn is_amid_token(&self, heard: usize) -> bool {
        self.level != 0 && heard > self.level_end && !self.ends.contains(&heard)
    }

    /// What it is told of its level, and what seals what it is told then.
    fn level_told(&self) -> (Vec<u8>, MockSeal) {
        let mut seal = MockSeal::acceptor(self.wish.key).lasting(self.wish.lasts);
        (seal.framed(MessageType::Level, &[self.level], false), seal)
    }
}

/// The messages that a request comes in.
fn throw_pieces<'r>(random: &mut Random, request: &'r [u8]) -> Vec<&'r [u8]> {
    let at = random.below(request.len());
    match random.below(6) {
        0 => vec![&request[..at], &request[at..]],
        1 => vec![&[], request],
        _ => vec![request],
    }
}
