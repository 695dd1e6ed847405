use std::mem;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::tokens::{Framed, Tokens, parse_datagram};
use super::{Buffers, Endpoint, INBOX_BYTES, Received, Ring, Sent, Socket};
use crate::proto::gssapi::{Broken, HEADER_BYTES, MessageType, Order, Seal, TOKEN_MAX, header};

/// What stands between a client's socket and everything that is said over it, once messages are
/// sealed (RFC 1961 section 5): a stream of tokens there, a stream of bytes here.
///
/// It opens a token only when the bytes of the one before it are gone, and takes bytes only when the
/// token of those before them has been sent: lanes keep what waits, as they do for any socket.
pub struct Stage {
    seal: Box<dyn Seal>,
    /// Whether nobody else may read what is said; of what comes, too.
    confidential: bool,
    message_max: usize,
    /// The longest message whose token fits an inbox.
    short_max: usize,
    tokens: Tokens,
    /// What is left of the message at the front of `tokens`, and what of its token is behind it.
    opened: usize,
    trailer: usize,
    /// What is left to be sent of a token.
    unsent: Option<Ring>,
    /// How many of the next bytes that come are in that token, or in one that is sent.
    carries: usize,
    /// How many messages of no bytes came last.
    empties: u8,
    forged: bool,
}

impl Stage {
    /// So many messages of no bytes in a row are nobody's stream.
    const EMPTY_MESSAGES_MAX: u8 = 64;
    /// A token may keep room so long while others wait for some: the largest, at little more than a
    /// kilobyte a second.
    const KEPT_MAX: Duration = Duration::from_secs(60);

    /// A stage for messages under `seal`. Its peer's tokens begin with what `tokens` holds.
    pub fn new(seal: Box<dyn Seal>, confidential: bool, mut tokens: Tokens) -> Stage {
        tokens.trust();
        let message_max = seal.message_max(TOKEN_MAX, confidential);
        let short_max = seal.message_max(INBOX_BYTES - HEADER_BYTES, confidential).max(1);
        Stage {
            seal,
            confidential,
            message_max,
            short_max,
            tokens,
            opened: 0,
            trailer: 0,
            unsent: None,
            carries: 0,
            empties: 0,
            // Where no byte has room nothing can be said.
            forged: message_max == 0,
        }
    }

    /// Seals a datagram; the token, behind its header, is added to `out`.
    pub fn seal_datagram(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        self.wrap(message, out)
    }

    /// Opens a datagram in place, and says where its message is: nowhere if it is no token, or has
    /// come before. Some may be missing or come late: that is what datagrams do.
    pub fn open_datagram(&mut self, datagram: &mut [u8]) -> Option<Range<usize>> {
        let place = parse_datagram(datagram)?;
        let opened = self.seal.unwrap(&mut datagram[place.clone()]).ok()?;
        let is_good = opened.confidential == self.confidential && opened.order != Order::Duplicate;
        let message = place.start + opened.message.start..place.start + opened.message.end;
        is_good.then_some(message)
    }

    /// The longest message that fits a datagram of `len` bytes.
    pub fn datagram_max(&self, len: usize) -> usize {
        let token = len.saturating_sub(HEADER_BYTES).min(TOKEN_MAX);
        self.seal.message_max(token, self.confidential)
    }

    /// Whether it has something to give, or to tell, that it need not receive.
    pub(super) fn is_readable(&self) -> bool {
        self.opened > 0 || self.forged || self.tokens.is_framed(MessageType::Data)
    }

    /// Throws away up to `max` bytes that it has opened. If there are none, nobody wants any: what
    /// it holds besides goes unopened. Nothing is said if it holds nothing.
    pub(super) fn discard(&mut self, max: usize, buffers: &mut Buffers) -> Option<Received> {
        if self.forged {
            return Some(Received::Reset);
        }
        let n = match self.opened.min(max) {
            0 => self.tokens.clear(),
            n => {
                self.consume(n);
                n
            }
        };
        self.tokens.release_empty(buffers);
        (n > 0).then_some(Received::Bytes(n))
    }

    fn copy_opened(&mut self, into: &mut [u8]) -> usize {
        let n = self.opened.min(into.len());
        into[..n].copy_from_slice(self.tokens.bytes_mut(0..n));
        n
    }

    fn consume(&mut self, n: usize) {
        self.tokens.consume(n);
        self.opened -= n;
        if self.opened == 0 {
            self.tokens.end(mem::take(&mut self.trailer));
        }
    }

    /// Opens the next token unless there are bytes of one left.
    fn open<S: Socket>(
        &mut self,
        from: &mut Endpoint<S>,
        buffers: &mut Buffers,
    ) -> Result<(), Received> {
        loop {
            if self.forged {
                return Err(Received::Reset);
            }
            if self.opened > 0 {
                return Ok(());
            }
            match self.tokens.frame(MessageType::Data, from, buffers) {
                Framed::Whole(place) => self.forged = self.unwrap(place).is_err(),
                // The end may be somebody else's if it is not between two tokens.
                Framed::Not(Received::End) => {
                    self.forged = !self.tokens.is_empty();
                    return Err(if self.forged { Received::Reset } else { Received::End });
                }
                Framed::Not(received) => return Err(received),
                Framed::Unexpected => self.forged = true,
            }
        }
    }

    /// The token at this place is opened if it is the next one, and protected as was agreed.
    fn unwrap(&mut self, place: Range<usize>) -> Result<(), Broken> {
        let opened = self.seal.unwrap(self.tokens.bytes_mut(place.clone()))?;
        let is_padding = opened.message.is_empty() && place.len() > INBOX_BYTES;
        if opened.confidential != self.confidential || opened.order != Order::Next || is_padding {
            return Err(Broken);
        }
        self.tokens.consume(place.start + opened.message.start);
        self.trailer = place.len() - opened.message.end;
        self.opened = opened.message.len();
        self.consume(0);
        self.empties = if self.opened > 0 { 0 } else { self.empties + 1 };
        if self.empties < Self::EMPTY_MESSAGES_MAX { Ok(()) } else { Err(Broken) }
    }

    fn wrap(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        let start = out.len();
        out.extend([0; HEADER_BYTES]);
        self.seal.wrap(message, self.confidential, out)?;
        let len = out.len() - start - HEADER_BYTES;
        if len > TOKEN_MAX {
            return Err(Broken);
        }
        out[start..start + HEADER_BYTES].copy_from_slice(&header(MessageType::Data, len));
        Ok(())
    }

    /// Sends what is left of a token. Returns what keeps it from that.
    fn send_rest<S: Socket>(
        &mut self,
        to: &mut Endpoint<S>,
        buffers: &mut Buffers,
    ) -> Option<Sent> {
        let unsent = self.unsent.as_mut()?;
        while !unsent.is_empty() {
            match to.send_raw(unsent.bytes()) {
                Sent::Bytes(n) => unsent.consume(n),
                sent => return Some(sent),
            }
        }
        self.forget_unsent(buffers);
        None
    }

    fn forget_received(&mut self, buffers: &mut Buffers) {
        self.tokens.release(buffers);
        (self.opened, self.trailer) = (0, 0);
    }

    fn forget_unsent(&mut self, buffers: &mut Buffers) {
        if let Some(unsent) = self.unsent.take() {
            buffers.give(unsent);
        }
    }

    fn send<S: Socket>(
        &mut self,
        to: &mut Endpoint<S>,
        bytes: &[u8],
        buffers: &mut Buffers,
    ) -> Sent {
        if self.forged {
            return Sent::Broken;
        }
        if let Some(sent) = self.send_rest(to, buffers) {
            return sent;
        }
        if self.carries > 0 {
            let n = self.carries.min(bytes.len());
            self.carries -= n;
            return Sent::Bytes(n);
        }
        if !to.is_writable() {
            return Sent::Blocked;
        }
        // What the socket does not take of a token has to be kept: where all rings are lent, let that
        // be an inbox.
        let max = if buffers.rings_left() == 0 { self.short_max } else { self.message_max };
        let n = bytes.len().min(max).min(self.message_max);
        let mut token = buffers.take_token();
        let sent = match self.wrap(&bytes[..n], &mut token) {
            Ok(()) if n > 0 => self.send_token(to, &token, n, buffers),
            Ok(()) | Err(Broken) => {
                self.forged = true;
                Sent::Broken
            }
        };
        buffers.give_token(token);
        sent
    }

    /// Sends a token that carries `n` bytes; what the socket does not take is kept.
    fn send_token<S: Socket>(
        &mut self,
        to: &mut Endpoint<S>,
        token: &[u8],
        n: usize,
        buffers: &mut Buffers,
    ) -> Sent {
        let mut sent = 0;
        while sent < token.len() {
            match to.send_raw(&token[sent..]) {
                Sent::Bytes(n) => sent += n,
                Sent::Blocked => {
                    let rest = &token[sent..];
                    let mut unsent = buffers.room_for(rest.len());
                    unsent.extend(rest);
                    (self.unsent, self.carries) = (Some(unsent), n);
                    return Sent::Blocked;
                }
                Sent::Broken => return Sent::Broken,
            }
        }
        Sent::Bytes(n)
    }
}

/// The face of a sealed connection is that of any other.
impl<S: Socket> Endpoint<S> {
    /// From now on everything goes through `stage`.
    pub fn seal(&mut self, stage: Stage) {
        self.stage = Some(stage.into());
    }

    /// Whether everything goes through a stage.
    pub fn is_sealed(&self) -> bool {
        self.stage.is_some()
    }

    /// What seals its datagrams too.
    pub fn stage(&mut self) -> Option<&mut Stage> {
        self.stage.as_deref_mut()
    }

    /// Whether what came is not what its peer had sealed: it was changed, came before, is missing
    /// something before it, or is not sealed as agreed. Nothing more is received or sent.
    pub fn is_forged(&self) -> bool {
        self.stage.as_ref().is_some_and(|stage| stage.forged)
    }

    /// Goes on without its stage.
    pub fn unseal(&mut self, buffers: &mut Buffers) {
        self.release(buffers);
        self.stage = None;
    }

    /// Gives back what it holds: nothing more is received or sent through its stage.
    pub fn release(&mut self, buffers: &mut Buffers) {
        if let Some(stage) = &mut self.stage {
            stage.forget_received(buffers);
            stage.forget_unsent(buffers);
        }
    }

    /// Gives back what it holds for what it receives, which is of no more interest.
    pub fn forget_received(&mut self, buffers: &mut Buffers) {
        if let Some(stage) = &mut self.stage {
            stage.forget_received(buffers);
        }
    }

    /// Sees to it that what it holds for a token that has stalled is no more than that needs. Returns
    /// whether others wait for room, and the token has kept its own for longer than it may: then there
    /// is no other way to get it back. To be called as often as it is [looked at](Self::look_again).
    pub fn outstays(&mut self, now: Instant, buffers: &mut Buffers) -> bool {
        let since = self.stage.as_mut().and_then(|stage| stage.tokens.shrink(now, buffers));
        self.note_room();
        let is_long = |since| now.saturating_duration_since(since) >= Stage::KEPT_MAX;
        since.is_some_and(is_long) && buffers.are_short()
    }

    /// What keeps more room than an inbox is looked at again, whether or not more of it is asked for.
    fn note_room(&mut self) {
        self.starved |= self.stage.as_ref().is_some_and(|stage| stage.tokens.keeps_room());
    }

    // A function of its own: what goes through no stage is not to make room for one.
    #[inline(never)]
    pub(super) fn recv_opened(&mut self, into: &mut [u8], buffers: &mut Buffers) -> Received {
        self.with_opened(buffers, |stage, buffers| {
            let n = stage.copy_opened(into);
            stage.consume(n);
            stage.tokens.release_empty(buffers);
            n
        })
    }

    #[inline(never)]
    pub(super) fn peek_opened(&mut self, into: &mut [u8], buffers: &mut Buffers) -> Received {
        self.with_opened(buffers, |stage, _| stage.copy_opened(into))
    }

    #[inline(never)]
    pub(super) fn send_sealed(&mut self, bytes: &[u8], buffers: &mut Buffers) -> Sent {
        let Some(mut stage) = self.stage.take() else { return Sent::Broken };
        let sent = stage.send(self, bytes, buffers);
        self.stage = Some(stage);
        sent
    }

    fn with_opened(
        &mut self,
        buffers: &mut Buffers,
        take: impl FnOnce(&mut Stage, &mut Buffers) -> usize,
    ) -> Received {
        let Some(mut stage) = self.stage.take() else { return Received::Reset };
        let received = match stage.open(self, buffers) {
            Ok(()) => Received::Bytes(take(&mut stage, buffers)),
            Err(received) => received,
        };
        self.stage = Some(stage);
        self.note_room();
        received
    }
}

#[cfg(test)]
mod tests;
