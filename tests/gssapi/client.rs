//! A SOCKS client that speaks GSSAPI (RFC 1961), written from the RFC and independent of the crate's
//! own code: every byte that it sends is the test's to choose.

use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::thread;

use crate::support::initiator::Context;
use crate::support::peer::{Peer, Received, hex};
use crate::support::socks::{Reply, connect_to};

/// MTYP: what a token is for.
pub(crate) const CONTEXT: u8 = 1;
pub(crate) const LEVEL: u8 = 2;
pub(crate) const DATA: u8 = 3;

/// What says that there will be no context (section 3.8).
pub(crate) const ABORT: [u8; 2] = [1, 0xff];

/// The longest token.
pub(crate) const TOKEN_MAX: usize = 65_535;

/// How messages are protected (section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Integrity = 1,
    Confidentiality = 2,
}

pub(crate) const BOTH_LEVELS: [Level; 2] = [Level::Integrity, Level::Confidentiality];

/// `01 MTYP LEN TOKEN`
pub(crate) fn frame(mtyp: u8, token: &[u8]) -> Vec<u8> {
    let len = u16::try_from(token.len()).expect("a token of at most 65,535 bytes");
    [&[1, mtyp], &len.to_be_bytes()[..], token].concat()
}

/// The token of a frame that is there whole.
#[track_caller]
pub(crate) fn token_of(framed: &[u8]) -> &[u8] {
    &framed[4..]
}

/// The server says `01 FF` and ends its direction; a reset would have cost the two bytes.
#[track_caller]
pub(crate) fn expect_aborted(peer: &Peer) {
    peer.expect(&ABORT);
    peer.expect_eof();
}

/// The token of the next message, which is of this type.
#[track_caller]
pub(crate) fn read_frame(peer: &Peer, mtyp: u8) -> Vec<u8> {
    peer.expect(&[1, mtyp]);
    let len = peer.read_exact(2);
    peer.read_exact(usize::from(u16::from_be_bytes([len[0], len[1]])))
}

/// A client with a context.
pub(crate) struct Client<'a> {
    pub(crate) peer: Peer,
    pub(crate) context: Context<'a>,
    is_confidential: bool,
    /// What has been opened and nobody has read.
    opened: Mutex<Vec<u8>>,
}

impl<'a> Client<'a> {
    /// Once the server has chosen the method.
    #[track_caller]
    pub(crate) fn establish(peer: Peer, context: Context<'a>) -> Client<'a> {
        let mut answer = Vec::new();
        loop {
            let step = context.step(&answer);
            let Some(token) = step.token else { break };
            peer.send(&frame(CONTEXT, &token));
            answer = read_frame(&peer, CONTEXT);
            // Nothing is left to be said by either (section 3.6).
            if step.is_complete && answer.is_empty() {
                break;
            }
        }
        Client::established(peer, context)
    }

    /// With a context that stands.
    pub(crate) fn established(peer: Peer, context: Context<'a>) -> Client<'a> {
        Client { peer, context, is_confidential: false, opened: Mutex::default() }
    }

    /// Asks for a level, whatever it is, and returns what the server answers: that is how messages
    /// are protected from now on.
    #[track_caller]
    pub(crate) fn ask_level(&mut self, level: u8) -> u8 {
        self.peer.send(&self.level_frame(&[level]));
        self.read_level()
    }

    /// Asks for this level, and has it.
    #[track_caller]
    pub(crate) fn agree(&mut self, level: Level) {
        assert_eq!(self.ask_level(level as u8), level as u8);
    }

    /// The message that asks for a level.
    #[track_caller]
    pub(crate) fn level_frame(&self, level: &[u8]) -> Vec<u8> {
        frame(LEVEL, &self.context.wrap(level, false))
    }

    /// The level that the server answers, which holds from now on.
    #[track_caller]
    pub(crate) fn read_level(&mut self) -> u8 {
        let opened = self.context.unwrap(&read_frame(&self.peer, LEVEL));
        assert!(!opened.is_confidential, "the level is told without confidentiality");
        let [level] = opened.message[..] else { panic!("a level of {}", hex(&opened.message)) };
        self.is_confidential = level == Level::Confidentiality as u8;
        level
    }

    /// From now on messages are protected so.
    pub(crate) fn assume(&mut self, level: Level) {
        self.is_confidential = level == Level::Confidentiality;
    }

    /// The message that carries these bytes, of which there are not too many for a token.
    #[track_caller]
    pub(crate) fn data_frame(&self, bytes: &[u8]) -> Vec<u8> {
        frame(DATA, &self.context.wrap(bytes, self.is_confidential))
    }

    /// As [`data_frame`](Self::data_frame), protected as it should not be.
    #[track_caller]
    pub(crate) fn misprotected_frame(&self, bytes: &[u8]) -> Vec<u8> {
        frame(DATA, &self.context.wrap(bytes, !self.is_confidential))
    }

    /// Sends these bytes in one message.
    #[track_caller]
    pub(crate) fn send(&self, bytes: &[u8]) {
        self.peer.send(&self.data_frame(bytes));
    }

    /// The longest message that goes in one token.
    #[track_caller]
    pub(crate) fn message_max(&self) -> usize {
        self.context.limit(TOKEN_MAX, self.is_confidential)
    }

    /// These bytes come next, in however many messages.
    #[track_caller]
    pub(crate) fn expect(&self, expected: &[u8]) {
        let got = self.read_exact(expected.len());
        if got != expected {
            self.peer.fail(&hex(expected), &hex(&got));
        }
    }

    #[track_caller]
    pub(crate) fn read_exact(&self, len: usize) -> Vec<u8> {
        let mut opened = self.opened.lock().unwrap();
        while opened.len() < len {
            let token = read_frame(&self.peer, DATA);
            opened.extend(self.open(&token));
        }
        opened.drain(..len).collect()
    }

    /// The server ends its direction, and nothing comes before.
    #[track_caller]
    pub(crate) fn expect_eof(&self) {
        self.expect_nothing_left();
        self.peer.expect_eof();
    }

    #[track_caller]
    pub(crate) fn expect_reset(&self) {
        self.expect_nothing_left();
        self.peer.expect_reset();
    }

    /// A whole, well-formed reply, in messages of its own.
    #[track_caller]
    pub(crate) fn expect_reply(&self) -> Reply {
        let head = self.read_exact(4);
        let ip: IpAddr = match head[..] {
            [5, _, 0, 1] => self.read_array::<4>().into(),
            [5, _, 0, 4] => self.read_array::<16>().into(),
            _ => self.peer.fail("05 REP 00 01 .. or 05 REP 00 04 ..", &hex(&head)),
        };
        let port = u16::from_be_bytes(self.read_array());
        Reply { rep: head[1], bnd: SocketAddr::new(ip, port) }
    }

    /// A reply that grants the request; returns BND.
    #[track_caller]
    pub(crate) fn expect_granted(&self) -> SocketAddr {
        let reply = self.expect_reply();
        assert_eq!(reply.rep, 0, "granted: {reply:?}");
        reply.bnd
    }

    /// Has itself connected.
    #[track_caller]
    pub(crate) fn connect(&self, target: SocketAddr) {
        self.send(&connect_to(target));
        self.expect_granted();
    }

    /// What either says reaches the other.
    #[track_caller]
    pub(crate) fn expect_flow(&self, target: &Peer) {
        self.send(b"ping");
        target.expect(b"ping");
        target.send(b"pong");
        self.expect(b"pong");
    }

    /// Both end, one after the other.
    #[track_caller]
    pub(crate) fn expect_clean_end(&self, target: &Peer) {
        self.peer.fin();
        target.expect_eof();
        target.fin();
        self.expect_eof();
    }

    /// Sends all of it in messages as long as these (again and again) and a FIN, while reading
    /// everything that comes.
    #[track_caller]
    pub(crate) fn exchange(&self, bytes: &[u8], sizes: &[usize]) -> Received {
        thread::scope(|scope| {
            let sending = scope.spawn(|| {
                let mut left = bytes;
                for &size in sizes.iter().cycle() {
                    if left.is_empty() {
                        break;
                    }
                    let (message, rest) = left.split_at(size.min(left.len()));
                    left = rest;
                    self.send(message);
                }
                self.peer.fin();
            });
            let received = self.read_to_end();
            sending.join().expect("everything can be sent");
            received
        })
    }

    /// What comes until the end, opened.
    #[track_caller]
    pub(crate) fn read_to_end(&self) -> Received {
        let Received { bytes, end } = self.peer.read_to_end();
        let mut messages = std::mem::take(&mut *self.opened.lock().unwrap());
        let mut left = &bytes[..];
        while !left.is_empty() {
            let (&[version, mtyp, high, low], rest) =
                left.split_first_chunk().expect("a whole header");
            assert_eq!([version, mtyp], [1, DATA], "the header of a message");
            let len = usize::from(u16::from_be_bytes([high, low]));
            let (token, rest) = rest.split_at_checked(len).expect("a whole token");
            messages.extend(self.open(token));
            left = rest;
        }
        Received { bytes: messages, end }
    }

    /// What a token of the server's holds, which is protected as it should be.
    #[track_caller]
    pub(crate) fn open(&self, token: &[u8]) -> Vec<u8> {
        let opened = self.context.unwrap(token);
        assert_eq!(opened.is_confidential, self.is_confidential, "confidential");
        opened.message
    }

    #[track_caller]
    fn expect_nothing_left(&self) {
        let opened = self.opened.lock().unwrap();
        assert!(opened.is_empty(), "nobody has asked for {}", hex(&opened));
    }

    #[track_caller]
    fn read_array<const LEN: usize>(&self) -> [u8; LEN] {
        self.read_exact(LEN).try_into().expect("read_exact returns what it was asked for")
    }
}
