//! GSSAPI for SOCKS5 (RFC 1961): frames, protection levels, and what protects a message.

use std::ops::Range;

/// VER of every message of the sub-negotiation and behind it.
pub const VERSION: u8 = 1;

/// What says that there will be no context: `VER MTYP`, and nothing behind it (section 3.8).
pub const ABORT: [u8; 2] = [VERSION, 0xff];

/// `VER MTYP LEN` before each token (sections 3.4, 4.3, 5).
pub const HEADER_BYTES: usize = 4;

/// The longest token.
pub const TOKEN_MAX: usize = u16::MAX as usize;

/// What a token is for: the MTYP octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MessageType {
    /// To establish a context.
    Context = 1,
    /// To agree on a [`Level`].
    Level = 2,
    /// To carry data under the context.
    Data = 3,
}

/// A header that is not of the message that is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unexpected;

/// How much of a message of this type the front of `input` is: the whole token's place, or how many
/// bytes there must be to know more. Of a token of no bytes nothing can be made.
pub fn parse_frame(
    input: &[u8],
    expected: MessageType,
) -> Result<Result<Range<usize>, usize>, Unexpected> {
    let header = &input[..input.len().min(HEADER_BYTES)];
    if header.iter().zip([VERSION, expected as u8]).any(|(&octet, wanted)| octet != wanted) {
        return Err(Unexpected);
    }
    let &[_, _, high, low] = header else { return Ok(Err(HEADER_BYTES)) };
    let len = usize::from(u16::from_be_bytes([high, low]));
    if len == 0 {
        return Err(Unexpected);
    }
    let end = HEADER_BYTES + len;
    Ok(if input.len() < end { Err(end) } else { Ok(HEADER_BYTES..end) })
}

/// The header of a token of `len` bytes, [`TOKEN_MAX`] at most.
pub fn header(message: MessageType, len: usize) -> [u8; HEADER_BYTES] {
    debug_assert!(len <= TOKEN_MAX);
    let [high, low] = (len as u16).to_be_bytes();
    [VERSION, message as u8, high, low]
}

/// How messages are protected (section 4.3), as a client asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Not at all: no RFC's, but some clients'.
    Clear = 0,
    /// Against changes.
    Integrity = 1,
    /// Against changes and readers.
    Confidentiality = 2,
    /// Each message as its sender likes.
    Selective = 3,
}

impl Level {
    /// The level a plain message of this content names.
    pub fn parse(message: &[u8]) -> Option<Level> {
        match message {
            [0] => Some(Level::Clear),
            [1] => Some(Level::Integrity),
            [2] => Some(Level::Confidentiality),
            [3] => Some(Level::Selective),
            _ => None,
        }
    }
}

/// One end of an established security context: it protects what is sent, and opens what came.
pub trait Seal: Send {
    /// The longest message whose token has at most `token_max` bytes.
    fn message_max(&self, token_max: usize, confidential: bool) -> usize;

    /// Adds the token that carries `message` to `out`.
    fn wrap(&mut self, message: &[u8], confidential: bool, out: &mut Vec<u8>)
    -> Result<(), Broken>;

    /// Opens `token` in place, which is gone whatever comes of it.
    fn unwrap(&mut self, token: &mut [u8]) -> Result<Opened, Broken>;
}

/// A token that is nobody's, or a context that has no more to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// A message that has come under a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Where in the token's room it is now.
    pub message: Range<usize>,
    /// Whether nobody else could read it.
    pub confidential: bool,
    /// Whether it is the one that comes next.
    pub order: Order,
}

/// What a token's sequence number tells (RFC 2743 section 1.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// It is the next one.
    Next,
    /// It has come before, or is too old to tell.
    Duplicate,
    /// A later one has come before it.
    Unsequenced,
    /// One before it has not come.
    Gap,
}
