//! What a client makes of the sealed messages it is sent.

use ringsocks::proto::gssapi::{ABORT, HEADER_BYTES, MessageType, Order, Seal, VERSION};

use crate::mechanism::{MockSeal, framed_len};
use crate::script::Script;

/// A client's end of its context, and all that it was sent.
pub(crate) struct Opening {
    seal: MockSeal,
    confidential: bool,
    /// Every byte that the gateway said, and how many of them are of whole messages.
    pub(crate) raw: Vec<u8>,
    parsed: usize,
    /// What comes before anything is sealed.
    clear: usize,
    /// How many tokens the gateway has sealed, the level's included.
    pub(crate) tokens: u64,
    /// Whether it was told that there is no context any more.
    pub(crate) is_aborted: bool,
}

impl Opening {
    /// That of a client whose messages will be sealed.
    pub(crate) fn new(script: &Script) -> Option<Opening> {
        let stream = script.stream()?;
        let mut seal = script.sealed.as_ref()?.wish.seal();
        let (_, level) = script.answers.last()?;
        let opened = seal.unwrap(&mut level[HEADER_BYTES..].to_vec()).expect("our own token");
        assert_eq!(opened.order, Order::Next);
        let clear = script.answers.iter().map(|(_, answer)| answer.len()).sum();
        let (raw, parsed) = (Vec::new(), 0);
        let confidential = stream.confidential;
        Some(Opening { seal, confidential, raw, parsed, clear, tokens: 1, is_aborted: false })
    }

    /// Whether all that was said is of whole messages.
    pub(crate) fn is_whole(&self) -> bool {
        self.parsed == self.raw.len()
    }

    /// Whether a sealed message is half said.
    pub(crate) fn is_within_token(&self) -> bool {
        self.parsed >= self.clear && !self.is_whole()
    }

    /// How many bytes were said in whole messages.
    pub(crate) fn parsed(&self) -> usize {
        self.parsed
    }

    /// The next that was said, if it is whole: what is not sealed as it is, a message opened.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        assert!(!self.is_aborted || self.is_whole(), "words after the last");
        let rest = &self.raw[self.parsed..];
        if self.parsed < self.clear {
            let n = rest.len().min(self.clear - self.parsed);
            self.parsed += n;
            return (n > 0).then(|| rest[..n].to_vec());
        }
        if rest.starts_with(&ABORT) {
            self.is_aborted = true;
            self.parsed += ABORT.len();
            return None;
        }
        let len = framed_len(rest)?;
        assert_eq!(rest[..2], [VERSION, MessageType::Data as u8], "no token");
        let mut token = rest.get(HEADER_BYTES..len)?.to_vec();
        let opened = self.seal.unwrap(&mut token).expect("a token that the gateway has sealed");
        assert_eq!(opened.order, Order::Next, "a token too many or too few");
        assert_eq!(opened.confidential, self.confidential, "another level than was agreed");
        assert!(!opened.message.is_empty(), "a message of no bytes");
        self.parsed += len;
        self.tokens += 1;
        Some(token[opened.message].to_vec())
    }
}
