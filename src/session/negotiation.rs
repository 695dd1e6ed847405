//! A client's handshake, from its first byte to its request: no socket, no clock.
//!
//! The caller keeps what has arrived in an inbox of [`INBOX_BYTES`] and calls
//! [`step`](Negotiation::step) until it asks for more; what the inbox holds behind the request is
//! early data for the target.

use crate::outcome::Outcome;
use crate::proto::socks5::{self, Credentials, Method, NO_ACCEPTABLE};
use crate::proto::{Message, Parsed, Rejected, Request, socks4};
use crate::relay::INBOX_BYTES;

// Given a full inbox, a step never asks for more.
const _: () = {
    assert!(socks5::GREETING_MAX <= INBOX_BYTES);
    assert!(socks5::CREDENTIALS_MAX <= INBOX_BYTES);
    assert!(socks5::REQUEST_MAX <= INBOX_BYTES);
    assert!(socks4::REQUEST_MAX <= INBOX_BYTES);
};

const LOGIN_ACCEPTED: [u8; 2] = [socks5::CREDENTIALS_VERSION, 0];
const LOGIN_FAILED: [u8; 2] = [socks5::CREDENTIALS_VERSION, 1];

/// One client's handshake.
///
/// ```
/// use ringsocks::proto::socks5::Method;
/// use ringsocks::session::negotiation::{Negotiation, Step};
///
/// let mut negotiation = Negotiation::new();
/// let (mut inbox, accepted) = (&b"\x05\x01\x00\x05\x01"[..], [Method::None]);
/// let Step::Say { consumed, answer } = negotiation.step(inbox, &accepted) else { panic!() };
/// assert_eq!(answer, [5, 0]);
/// inbox = &inbox[consumed..];
/// assert_eq!(negotiation.step(inbox, &accepted), Step::More);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiation {
    phase: Phase,
}

/// What a client is expected to send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// A greeting, or a whole SOCKS4 request.
    Greeting,
    /// A name and a password (RFC 1929).
    Authenticating,
    /// A SOCKS5 request.
    Requesting,
}

/// What follows from the bytes at the front of the inbox. At most one message is consumed a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'i> {
    /// The message is incomplete: nothing is consumed.
    More,
    /// Consume, answer, step again.
    Say {
        /// How many bytes the message took.
        consumed: usize,
        /// What to send.
        answer: [u8; 2],
    },
    /// Consume, find out whether this login is good, and [tell](Negotiation::settle).
    Verify {
        /// How many bytes the message took.
        consumed: usize,
        /// Who the client says it is.
        credentials: Credentials<'i>,
    },
    /// Consume, answer, and establish a security context (RFC 1961): the handshake goes on under
    /// it, [as one](Negotiation::authenticated) whose client is known.
    Establish {
        /// How many bytes the message took.
        consumed: usize,
        /// What to send.
        answer: [u8; 2],
    },
    /// The handshake is over; the client waits for the reply to its request.
    Request {
        /// How many bytes the message took.
        consumed: usize,
        /// What the client wants.
        request: Request,
    },
    /// The session is over.
    Refuse {
        /// The last thing to send; empty where the client is not to hear anything.
        answer: Message,
        /// How the session ends.
        outcome: Outcome,
    },
}

impl Negotiation {
    /// A handshake of which nothing has arrived.
    pub fn new() -> Negotiation {
        Negotiation { phase: Phase::Greeting }
    }

    /// The rest of a handshake with a client that is known.
    pub fn authenticated() -> Negotiation {
        Negotiation { phase: Phase::Requesting }
    }

    /// What the client is expected to send next.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Takes the message at the front of `input`, if it is whole. The first of the methods in
    /// `accepted` that the client offers is chosen; a client of SOCKS4 offers none but
    /// [`Method::None`], for it proves nobody's identity.
    ///
    /// `input` is all that has arrived and was not consumed. Not to be called again after
    /// [`Step::Verify`] before that is settled, nor after [`Step::Establish`], [`Step::Request`] or
    /// [`Step::Refuse`].
    pub fn step<'i>(&mut self, input: &'i [u8], accepted: &[Method]) -> Step<'i> {
        match self.phase {
            Phase::Greeting if input.first() == Some(&socks4::VERSION) => {
                match accepted.contains(&Method::None) {
                    true => handle_request(socks4::parse_request(input)),
                    false => Step::noise(),
                }
            }
            Phase::Greeting => self.handle_greeting(input, accepted),
            Phase::Authenticating => handle_credentials(input),
            Phase::Requesting => handle_request(socks5::parse_request(input)),
        }
    }

    /// Whether the login was good. Returns what to send; if it was not, that is the last.
    pub fn settle(&mut self, is_good: bool) -> [u8; 2] {
        match is_good {
            true => {
                self.phase = Phase::Requesting;
                LOGIN_ACCEPTED
            }
            false => LOGIN_FAILED,
        }
    }

    fn handle_greeting(&mut self, input: &[u8], accepted: &[Method]) -> Step<'static> {
        let (offered, consumed) = match socks5::parse_greeting(input) {
            Ok(Some(greeting)) => greeting,
            Ok(None) => return Step::More,
            Err(_) => return Step::noise(),
        };
        let Some(&method) = accepted.iter().find(|method| offered.offers(**method)) else {
            let answer = Message::new([socks5::VERSION, NO_ACCEPTABLE]);
            return Step::Refuse { answer, outcome: Outcome::NoMethod };
        };
        let answer = [socks5::VERSION, method as u8];
        match method {
            Method::None => self.phase = Phase::Requesting,
            Method::Password => self.phase = Phase::Authenticating,
            Method::Gssapi => return Step::Establish { consumed, answer },
        }
        Step::Say { consumed, answer }
    }
}

impl Default for Negotiation {
    fn default() -> Negotiation {
        Negotiation::new()
    }
}

impl Step<'_> {
    /// The end of a session that is not SOCKS, or not the SOCKS spoken here.
    fn noise() -> Step<'static> {
        Step::Refuse { answer: Message::EMPTY, outcome: Outcome::Noise }
    }
}

fn handle_credentials(input: &[u8]) -> Step<'_> {
    match socks5::parse_credentials(input) {
        Ok(None) => Step::More,
        Ok(Some((credentials, consumed))) => Step::Verify { consumed, credentials },
        Err(_) => Step::Refuse { answer: Message::new(LOGIN_FAILED), outcome: Outcome::BadLogin },
    }
}

fn handle_request(parsed: Parsed<Request, Rejected>) -> Step<'static> {
    match parsed {
        Ok(None) => Step::More,
        Ok(Some((request, consumed))) => Step::Request { consumed, request },
        Err(rejected) => Step::Refuse {
            answer: rejected.reply().encode(),
            outcome: Outcome::Refused(rejected.refusal),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::outcome::Refusal;
    use crate::proto::socks5::Methods;
    use crate::proto::{Command, Dialect, strategies};

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
        Refused { outcome: Outcome },
    }

    fn accepted(user: Option<Credentials<'_>>) -> &'static [Method] {
        if user.is_none() { &[Method::None] } else { &[Method::Password] }
    }

    /// Plays a client that sends these segments, to a server that reads all that has come and lets
    /// in this user alone, or anybody.
    fn play<'a>(
        segments: impl IntoIterator<Item = &'a [u8]>,
        user: Option<Credentials<'_>>,
    ) -> Transcript {
        let mut negotiation = Negotiation::new();
        let mut inbox = Vec::new();
        let mut heard = Vec::new();
        let mut segments = segments.into_iter();
        while let Some(segment) = segments.next() {
            inbox.extend_from_slice(segment);
            loop {
                match negotiation.step(&inbox, accepted(user)) {
                    Step::More => break,
                    Step::Say { consumed, answer } => {
                        heard.extend(answer);
                        inbox.drain(..consumed);
                    }
                    Step::Verify { consumed, credentials } => {
                        let is_good = user == Some(credentials);
                        heard.extend(negotiation.settle(is_good));
                        inbox.drain(..consumed);
                        if !is_good {
                            let outcome = Outcome::BadLogin;
                            return Transcript { heard, end: End::Refused { outcome } };
                        }
                    }
                    Step::Establish { .. } => unreachable!("no method is accepted that does"),
                    Step::Request { consumed, request } => {
                        let mut early_data = inbox.split_off(consumed);
                        segments.for_each(|segment| early_data.extend_from_slice(segment));
                        return Transcript { heard, end: End::Requested { request, early_data } };
                    }
                    Step::Refuse { answer, outcome } => {
                        heard.extend(answer.as_slice());
                        return Transcript { heard, end: End::Refused { outcome } };
                    }
                }
            }
        }
        Transcript { heard, end: End::Waiting { phase: negotiation.phase(), inbox } }
    }

    fn play_cut(bytes: &[u8], cuts: &[Index], user: Option<Credentials<'_>>) -> Transcript {
        let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        ends.extend([0, bytes.len()]);
        ends.sort_unstable();
        play(ends.windows(2).map(|ends| &bytes[ends[0]..ends[1]]), user)
    }

    fn play_bytewise(bytes: &[u8], user: Option<Credentials<'_>>) -> Transcript {
        play(bytes.chunks(1), user)
    }

    const USER: Option<Credentials<'_>> = Some(Credentials { uname: b"alice", passwd: b"wonder" });
    const ALICE: &[u8] = b"\x01\x05alice\x06wonder";
    const CONNECT: &[u8] = b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50";

    fn refused(heard: &[u8], outcome: Outcome) -> Transcript {
        Transcript { heard: heard.to_vec(), end: End::Refused { outcome } }
    }

    #[track_caller]
    fn assert_plays(bytes: &[u8], user: Option<Credentials<'_>>, expected: &Transcript) {
        assert_eq!(&play([bytes], user), expected);
        assert_eq!(&play_bytewise(bytes, user), expected);
    }

    #[test]
    fn without_users_none_is_the_method() {
        for greeting in [&[5, 1, 0][..], &[5, 2, 0, 2], &[5, 3, 2, 1, 0]] {
            let bytes = [greeting, CONNECT, b"GET /"].concat();
            let Transcript { heard, end } = play([&bytes[..]], None);
            assert_eq!(heard, [5, 0]);
            let End::Requested { request, early_data } = end else { panic!("{end:?}") };
            assert_eq!(request.target.to_string(), "192.0.2.1:80");
            assert_eq!(early_data, b"GET /");
        }
    }

    #[test]
    fn with_users_password_is_the_method() {
        for greeting in [&[5, 1, 2][..], &[5, 2, 0, 2], &[5, 3, 0, 1, 2]] {
            let bytes = [greeting, ALICE, CONNECT, b"GET /"].concat();
            let Transcript { heard, end } = play([&bytes[..]], USER);
            assert_eq!(heard, [5, 2, 1, 0]);
            let End::Requested { early_data, .. } = end else { panic!("{end:?}") };
            assert_eq!(early_data, b"GET /");
        }
    }

    #[test]
    fn a_method_that_is_not_offered_is_never_chosen() {
        let no_method = refused(&[5, 0xff], Outcome::NoMethod);
        for greeting in [&[5, 0][..], &[5, 1, 2], &[5, 2, 0x80, 0x81], &[5, 1, 0xff]] {
            assert_plays(greeting, None, &no_method);
        }
        for greeting in [&[5, 0][..], &[5, 1, 0], &[5, 2, 1, 0]] {
            assert_plays(greeting, USER, &no_method);
        }
    }

    #[test]
    fn the_first_method_of_ours_that_is_offered_is_chosen() {
        let ours = [Method::Gssapi, Method::Password, Method::None];
        for (greeting, chosen) in
            [(&[5, 3, 0, 1, 2][..], 1), (&[5, 2, 2, 1], 1), (&[5, 2, 0, 2], 2), (&[5, 1, 0], 0)]
        {
            let answer = [5, chosen];
            let consumed = greeting.len();
            let expected = match chosen {
                1 => Step::Establish { consumed, answer },
                _ => Step::Say { consumed, answer },
            };
            assert_eq!(Negotiation::new().step(greeting, &ours), expected);
        }
        let Step::Refuse { outcome, .. } = Negotiation::new().step(&[5, 1, 3], &ours) else {
            panic!("3 is none of ours");
        };
        assert_eq!(outcome, Outcome::NoMethod);
    }

    #[test]
    fn socks4_is_spoken_where_nobody_need_prove_anything() {
        let request = [4, 1, 0, 80, 192, 0, 2, 1, 0];
        let step =
            |accepted: &[Method]| format!("{:?}", Negotiation::new().step(&request, accepted));
        assert!(step(&[Method::Password, Method::None]).starts_with("Request"));
        assert!(step(&[Method::Gssapi, Method::Password]).contains("Noise"));
    }

    #[test]
    fn a_bad_login_ends_the_session() {
        let bad_login = refused(&[5, 2, 1, 1], Outcome::BadLogin);
        for login in [
            &b"\x01\x05alice\x05wrong"[..],
            b"\x01\x05carol\x06wonder",
            b"\x01\x00\x00",
            b"\x01\x05alice\x00",
            b"\x05",
            b"\x00",
        ] {
            assert_plays(&[&[5, 1, 2], login].concat(), USER, &bad_login);
            let pipelined = [&[5, 1, 2], login, CONNECT, b"GET /"].concat();
            assert_plays(&pipelined, USER, &bad_login);
        }
    }

    #[test]
    fn noise_is_left_unanswered_at_its_first_byte() {
        let noise = refused(&[], Outcome::Noise);
        for first in (0..=u8::MAX).filter(|first| ![4, 5].contains(first)) {
            assert_plays(&[first], None, &noise);
            assert_plays(&[first], USER, &noise);
        }
        assert_plays(&[4], USER, &noise);
        assert_plays(b"GET / HTTP/1.1\r\n\r\n", None, &noise);
    }

    #[test]
    fn malformed_requests_hear_why() {
        for (request, refusal) in [
            (&b"\x04"[..], Refusal::General),
            (b"\x05\x09", Refusal::CommandUnsupported),
            (b"\x05\x01\x00\x02", Refusal::AddressUnsupported),
            (b"\x05\x01\x00\x03\x00\x00\x50", Refusal::General),
            (b"\x05\x01\x00\x03\x05127.1\x00\x50", Refusal::HostUnreachable),
            (b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x00", Refusal::General),
        ] {
            let heard = [5, 0, 5, refusal.rep(), 0, 1, 0, 0, 0, 0, 0, 0];
            let expected = refused(&heard, Outcome::Refused(refusal));
            assert_plays(&[&[5, 1, 0], request].concat(), None, &expected);
        }
        let expected =
            refused(&[0, 0x5b, 0, 0, 0, 0, 0, 0], Outcome::Refused(Refusal::CommandUnsupported));
        assert_plays(&[4, 9], None, &expected);
    }

    #[test]
    fn the_phase_is_what_comes_next() {
        for (bytes, phase) in [
            (&[][..], Phase::Greeting),
            (&[5, 1][..], Phase::Greeting),
            (&[5, 1, 2][..], Phase::Authenticating),
            (&[&[5, 1, 2], ALICE].concat()[..], Phase::Requesting),
        ] {
            let Transcript { end, .. } = play([bytes], USER);
            let End::Waiting { phase: reached, .. } = end else { panic!("{end:?}") };
            assert_eq!(reached, phase);
        }
    }

    #[test]
    fn commands_other_than_connect_are_left_to_the_session() {
        for command in [Command::Bind, Command::UdpAssociate] {
            let bytes = [5, 1, 0, 5, command as u8, 0, 1, 0, 0, 0, 0, 0, 0];
            let Transcript { end, .. } = play_bytewise(&bytes, None);
            let End::Requested { request, .. } = end else { panic!("{end:?}") };
            assert_eq!(request.command, command);
        }
    }

    /// A name and a password.
    type Login = (Vec<u8>, Vec<u8>);

    fn credentials((uname, passwd): &Login) -> Credentials<'_> {
        Credentials { uname, passwd }
    }

    /// A whole exchange that ends in a request: the messages, who may log in, and what is heard.
    fn exchange() -> impl Strategy<Value = (Vec<Vec<u8>>, Option<Login>, Vec<u8>, Request)> {
        let login = prop::option::of((strategies::field(), strategies::field()));
        let socks5 = (login, strategies::request(Dialect::Socks5)).prop_map(|(login, request)| {
            let methods = Methods::from_iter([Method::None, Method::Password]);
            let greeting = socks5::encode_greeting(&methods);
            let asked = socks5::encode_request(&request);
            match login {
                None => (vec![greeting, asked], None, vec![5, 0], request),
                Some(login) => {
                    let message = socks5::encode_credentials(&credentials(&login)).unwrap();
                    (vec![greeting, message, asked], Some(login), vec![5, 2, 1, 0], request)
                }
            }
        });
        let userid = prop::collection::vec(1u8.., 0..=255);
        let socks4 =
            (userid, strategies::request(Dialect::Socks4)).prop_map(|(userid, request)| {
                let message = socks4::encode_request(&request, &userid).unwrap();
                (vec![message], None, vec![], request)
            });
        prop_oneof![2 => socks5, 1 => socks4]
    }

    /// Bytes that often begin like a handshake.
    fn noise(len: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
        let head = prop::sample::select(vec![
            vec![],
            vec![4, 1],
            vec![4, 1, 0, 80, 0, 0, 0, 1],
            vec![5],
            vec![5, 1, 0],
            vec![5, 1, 0, 5, 1, 0, 3],
            vec![5, 1, 2],
            vec![5, 1, 2, 1, 255],
            [&[5, 1, 2], ALICE].concat(),
            [&[5, 1, 2], ALICE, &[5, 1, 0, 3, 255]].concat(),
        ]);
        (head, prop::collection::vec(any::<u8>(), len))
            .prop_map(|parts| [parts.0, parts.1].concat())
    }

    proptest! {
        #[test]
        fn a_prefix_of_a_message_consumes_nothing((messages, login, ..) in exchange()) {
            let user = login.as_ref().map(credentials);
            let mut negotiation = Negotiation::new();
            for message in messages {
                let before = negotiation.clone();
                for end in 0..message.len() {
                    let step = negotiation.step(&message[..end], accepted(user));
                    prop_assert_eq!(step, Step::More);
                    prop_assert_eq!(&negotiation, &before);
                }
                match negotiation.step(&message, accepted(user)) {
                    Step::Say { consumed, .. } | Step::Request { consumed, .. } => {
                        prop_assert_eq!(consumed, message.len());
                    }
                    Step::Verify { consumed, .. } => {
                        prop_assert_eq!(consumed, message.len());
                        negotiation.settle(true);
                    }
                    step => prop_assert!(false, "{:?}", step),
                }
            }
        }

        #[test]
        fn an_exchange_is_the_same_however_it_is_cut(
            (messages, login, heard, request) in exchange(),
            early_data in prop::collection::vec(any::<u8>(), 0..2000),
            cuts in prop::collection::vec(any::<Index>(), 0..12),
        ) {
            let user = login.as_ref().map(credentials);
            let bytes = [messages.concat(), early_data.clone()].concat();
            let expected = Transcript { heard, end: End::Requested { request, early_data } };
            prop_assert_eq!(&play_cut(&bytes, &cuts, user), &expected);
            prop_assert_eq!(&play_bytewise(&bytes, user), &expected);
            prop_assert_eq!(&play([&bytes[..]], user), &expected);
        }

        #[test]
        fn noise_is_the_same_however_it_is_cut(
            bytes in noise(0..600),
            open: bool,
            cuts in prop::collection::vec(any::<Index>(), 0..12),
        ) {
            let user = if open { None } else { USER };
            let whole = play([&bytes[..]], user);
            prop_assert_eq!(&play_cut(&bytes, &cuts, user), &whole);
            prop_assert_eq!(&play_bytewise(&bytes, user), &whole);
        }

        #[test]
        fn a_full_inbox_never_needs_more(bytes in noise(3 * INBOX_BYTES), open: bool) {
            let user = if open { None } else { USER };
            let mut negotiation = Negotiation::new();
            let mut rest = &bytes[..];
            loop {
                match negotiation.step(&rest[..INBOX_BYTES], accepted(user)) {
                    Step::Verify { consumed, .. } => {
                        prop_assert!((1..=INBOX_BYTES).contains(&consumed));
                        negotiation.settle(true);
                        rest = &rest[consumed..];
                    }
                    Step::Say { consumed, .. } => {
                        prop_assert!((1..=INBOX_BYTES).contains(&consumed));
                        rest = &rest[consumed..];
                    }
                    Step::Request { consumed, .. } => {
                        prop_assert!((1..=INBOX_BYTES).contains(&consumed));
                        break;
                    }
                    Step::Refuse { .. } | Step::Establish { .. } => break,
                    Step::More => prop_assert!(false, "more in {:?}", negotiation.phase()),
                }
            }
        }
    }
}
