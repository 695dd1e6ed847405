//! A client's handshake is the same however its bytes are cut, takes a bounded inbox and few steps,
//! and nobody gets past a login without the password.

use std::collections::VecDeque;

use ringsocks::auth::Users;
use ringsocks::outcome::Outcome;
use ringsocks::proto::Request;
use ringsocks::relay::INBOX_BYTES;
use ringsocks::session::negotiation::{Negotiation, Phase, Step};

const LOGIN: (&str, &str) = ("alice", "wonder");

/// That login on the wire (RFC 1929).
const CREDENTIALS: &[u8] = b"\x01\x05alice\x06wonder";

/// A greeting, a login and a request: no handshake has more messages.
const MESSAGES_MAX: usize = 3;

/// The longest answers to one client: the methods, the login, a refusal of the request.
const HEARD_MAX: usize = 2 + 2 + 10;

/// `input` is a byte that says whether there are users, a number of segments, the length of each
/// but the last, and the client's bytes.
pub fn check(input: &[u8]) {
    let Some((&[with_users, cuts], rest)) = input.split_first_chunk() else { return };
    let Some((lengths, bytes)) = rest.split_at_checked(cuts.into()) else { return };
    let users = match with_users & 1 {
        0 => Users::none(),
        _ => Users::new([LOGIN]).expect("a user"),
    };
    let whole = play(&[bytes], &users);
    assert_eq!(play(&segments(bytes, lengths), &users), whole, "cut at {lengths:?}");
    let bytewise: Vec<_> = bytes.chunks(1).collect();
    assert_eq!(play(&bytewise, &users), whole, "byte by byte");
    whole.check_login(bytes, &users);
    whole.check_answers(bytes);
}

fn segments<'a>(mut bytes: &'a [u8], lengths: &[u8]) -> Vec<&'a [u8]> {
    let mut segments = Vec::new();
    for &length in lengths {
        let (segment, rest) = bytes.split_at(usize::from(length).min(bytes.len()));
        segments.push(segment);
        bytes = rest;
    }
    segments.push(bytes);
    segments
}

/// All that a client hears of its handshake, and where that ends.
#[derive(Debug, PartialEq)]
struct Transcript {
    heard: Vec<u8>,
    end: End,
}

#[derive(Debug, PartialEq)]
enum End {
    Waiting { phase: Phase, inbox: Vec<u8> },
    Requested { request: Request, early_data: Vec<u8> },
    Refused { outcome: Outcome, answer: Vec<u8> },
}

/// Plays a client that sends these segments, to a server that reads them into an inbox as it has
/// room and leaves the rest in the kernel.
fn play(segments: &[&[u8]], users: &Users) -> Transcript {
    let mut negotiation = Negotiation::new();
    let (mut inbox, mut heard, mut messages) = (Vec::new(), Vec::new(), 0);
    let mut kernel: VecDeque<u8> = VecDeque::new();
    for (number, segment) in segments.iter().enumerate() {
        kernel.extend(*segment);
        while receive(&mut kernel, &mut inbox) {
            loop {
                match negotiation.step(&inbox, users) {
                    Step::More => break,
                    Step::Say { consumed, answer } => {
                        heard.extend(answer);
                        assert!((1..=inbox.len()).contains(&consumed), "{consumed} consumed");
                        inbox.drain(..consumed);
                    }
                    Step::Request { consumed, request } => {
                        assert!((1..=inbox.len()).contains(&consumed), "{consumed} consumed");
                        let mut early_data = inbox.split_off(consumed);
                        early_data.extend(kernel);
                        early_data.extend(segments[number + 1..].concat());
                        return Transcript { heard, end: End::Requested { request, early_data } };
                    }
                    Step::Refuse { answer, outcome } => {
                        let answer = answer.as_slice().to_vec();
                        return Transcript { heard, end: End::Refused { outcome, answer } };
                    }
                }
                messages += 1;
                assert!(messages < MESSAGES_MAX, "a handshake without end");
            }
            assert!(inbox.len() < INBOX_BYTES, "a full inbox, and more is wanted");
        }
    }
    Transcript { heard, end: End::Waiting { phase: negotiation.phase(), inbox } }
}

/// Fills the inbox; whether anything came.
fn receive(kernel: &mut VecDeque<u8>, inbox: &mut Vec<u8>) -> bool {
    let room = INBOX_BYTES - inbox.len();
    let before = inbox.len();
    inbox.extend(kernel.drain(..room.min(kernel.len())));
    inbox.len() > before
}

impl Transcript {
    fn check_login(&self, bytes: &[u8], users: &Users) {
        let accepted = self.heard == [5, 2, 1, 0];
        let with_password = bytes.windows(CREDENTIALS.len()).any(|window| window == CREDENTIALS);
        assert!(!accepted || with_password, "logged in without the password: {self:?}");
        if let (End::Requested { .. }, false) = (&self.end, users.is_empty()) {
            assert!(accepted, "a request without a login: {self:?}");
        }
    }

    /// What is heard is a message of the client's own protocol, and no refusal sounds like a grant.
    fn check_answers(&self, bytes: &[u8]) {
        let End::Refused { outcome, answer } = &self.end else { return };
        let well_formed = match (outcome, &answer[..]) {
            (Outcome::Noise, []) => self.heard.is_empty(),
            (Outcome::NoMethod, [5, 0xff]) => self.heard.is_empty(),
            (Outcome::BadLogin, [1, status]) => self.heard == [5, 2] && *status != 0,
            (Outcome::Refused(_), [0, 0x5b, rest @ ..]) => bytes[0] == 4 && rest.len() == 6,
            (Outcome::Refused(refusal), [5, rep, 0, 1, rest @ ..]) => {
                bytes[0] == 5 && *rep == refusal.rep() && *rep != 0 && rest.len() == 6
            }
            _ => false,
        };
        assert!(well_formed, "{self:?}");
        assert!(self.heard.len() + answer.len() <= HEARD_MAX, "{self:?}");
    }
}
