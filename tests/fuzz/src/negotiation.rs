//! A client's handshake is the same however its bytes are cut, takes a bounded inbox and few steps,
//! and nobody gets past a login whose password is not found to be good.

use std::collections::VecDeque;

use ringsocks::outcome::Outcome;
use ringsocks::proto::Request;
use ringsocks::proto::socks5::Method;
use ringsocks::relay::INBOX_BYTES;
use ringsocks::session::negotiation::{Negotiation, Phase, Step};

/// The password that is good.
const PASSWD: &[u8] = b"wonder";

/// A greeting, a login and a request: no handshake has more messages.
const MESSAGES_MAX: usize = 3;

/// The longest answers to one client: the methods, the login, a refusal of the request.
const HEARD_MAX: usize = 2 + 2 + 10;

/// `input` is a byte that says which [methods](accepted) there are, a number of segments, the
/// length of each but the last, and the client's bytes.
pub fn check(input: &[u8]) {
    let Some((&[methods, cuts], rest)) = input.split_first_chunk() else { return };
    let Some((lengths, bytes)) = rest.split_at_checked(cuts.into()) else { return };
    let accepted = accepted(methods);
    let whole = play(&[bytes], accepted);
    assert_eq!(play(&segments(bytes, lengths), accepted), whole, "cut at {lengths:?}");
    let bytewise: Vec<_> = bytes.chunks(1).collect();
    assert_eq!(play(&bytewise, accepted), whole, "byte by byte");
    whole.check_method(bytes, accepted);
    whole.check_login(bytes, accepted);
    whole.check_answers(bytes);
}

/// The methods that are accepted, the best first.
fn accepted(selector: u8) -> &'static [Method] {
    match selector % 6 {
        0 => &[Method::None],
        1 => &[Method::Password],
        2 => &[Method::Gssapi, Method::Password],
        3 => &[Method::Password, Method::None],
        4 => &[Method::Gssapi],
        _ => &[],
    }
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
    Waiting {
        phase: Phase,
        inbox: Vec<u8>,
    },
    Requested {
        request: Request,
        early_data: Vec<u8>,
    },
    /// What comes next are the tokens of a security context.
    Establishing {
        tokens: Vec<u8>,
    },
    Refused {
        outcome: Outcome,
        answer: Vec<u8>,
    },
}

/// Plays a client that sends these segments, to a server that reads them into an inbox as it has
/// room and leaves the rest in the kernel.
fn play(segments: &[&[u8]], accepted: &[Method]) -> Transcript {
    let mut negotiation = Negotiation::new();
    let (mut inbox, mut heard, mut messages) = (Vec::new(), Vec::new(), 0);
    let mut kernel: VecDeque<u8> = VecDeque::new();
    for (number, segment) in segments.iter().enumerate() {
        kernel.extend(*segment);
        while receive(&mut kernel, &mut inbox) {
            loop {
                match negotiation.step(&inbox, accepted) {
                    Step::More => break,
                    Step::Say { consumed, answer } => {
                        heard.extend(answer);
                        assert!((1..=inbox.len()).contains(&consumed), "{consumed} consumed");
                        inbox.drain(..consumed);
                    }
                    Step::Verify { consumed, credentials } => {
                        let is_good = credentials.passwd == PASSWD;
                        assert!((1..=inbox.len()).contains(&consumed), "{consumed} consumed");
                        let status = negotiation.settle(is_good);
                        if !is_good {
                            let (outcome, answer) = (Outcome::BadLogin, status.to_vec());
                            return Transcript { heard, end: End::Refused { outcome, answer } };
                        }
                        heard.extend(status);
                        inbox.drain(..consumed);
                    }
                    Step::Establish { consumed, answer } => {
                        heard.extend(answer);
                        let tokens = rest(inbox, consumed, kernel, &segments[number + 1..]);
                        return Transcript { heard, end: End::Establishing { tokens } };
                    }
                    Step::Request { consumed, request } => {
                        let early_data = rest(inbox, consumed, kernel, &segments[number + 1..]);
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

/// All that comes behind the message that took so much of the inbox.
fn rest(inbox: Vec<u8>, consumed: usize, kernel: VecDeque<u8>, to_come: &[&[u8]]) -> Vec<u8> {
    assert!((1..=inbox.len()).contains(&consumed), "{consumed} consumed");
    let kept = inbox.into_iter().skip(consumed).chain(kernel);
    kept.chain(to_come.concat()).collect()
}

/// Fills the inbox; whether anything came.
fn receive(kernel: &mut VecDeque<u8>, inbox: &mut Vec<u8>) -> bool {
    let room = INBOX_BYTES - inbox.len();
    let before = inbox.len();
    inbox.extend(kernel.drain(..room.min(kernel.len())));
    inbox.len() > before
}

impl Transcript {
    /// The client has got a method that it offered and that is accepted, and none that is better
    /// was offered.
    fn check_method(&self, bytes: &[u8], accepted: &[Method]) {
        let &[5, method, ..] = &self.heard[..] else { return };
        let offered = &bytes[2..2 + usize::from(bytes[1])];
        let best = accepted.iter().find(|it| offered.contains(&(**it as u8)));
        assert_eq!(best.map(|it| *it as u8), Some(method), "{self:?}");
        let is_establishing = matches!(self.end, End::Establishing { .. });
        assert_eq!(is_establishing, method == Method::Gssapi as u8, "{self:?}");
    }

    /// A request that is heard comes with a good password, or from who needs none.
    fn check_login(&self, bytes: &[u8], accepted: &[Method]) {
        let is_good = self.heard == [5, 2, 1, 0];
        let with_password = bytes.windows(PASSWD.len()).any(|window| window == PASSWD);
        assert!(!is_good || with_password, "logged in without the password: {self:?}");
        if let End::Requested { .. } = &self.end {
            let needs_none = accepted.contains(&Method::None) && self.heard.get(1) != Some(&2);
            assert!(is_good || needs_none, "a request without a login: {self:?}");
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
