//! A client's half of SOCKS5 (RFC 1928, RFC 1929), as bytes that are sent and bytes that are heard.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

use super::{Login, Target};

const VERSION: u8 = 5;
const LOGIN_VERSION: u8 = 1;
const METHOD_NONE: u8 = 0;
const METHOD_LOGIN: u8 = 2;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Connect = 1,
    Bind = 2,
    Associate = 3,
}

/// What every client of a run says.
pub(super) struct Script {
    greeting: Vec<u8>,
    login: Vec<u8>,
    request: Vec<u8>,
}

/// One of a client's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Say {
    Greeting,
    Login,
    Request,
}

impl Script {
    /// What a client says that wants this of `address`, or of a name and a port for it.
    pub(super) fn new(
        command: Command,
        login: Option<&Login>,
        target: &Target,
        address: SocketAddrV4,
    ) -> io::Result<Script> {
        let method = if login.is_some() { METHOD_LOGIN } else { METHOD_NONE };
        let mut request = vec![VERSION, command as u8, 0];
        match target {
            Target::Address => {
                request.push(1);
                request.extend(address.ip().octets());
            }
            Target::Name(name) => {
                request.push(3);
                put(&mut request, name)?;
            }
        }
        request.extend(address.port().to_be_bytes());
        let mut message = vec![LOGIN_VERSION];
        if let Some((user, password)) = login {
            put(&mut message, user)?;
            put(&mut message, password)?;
        }
        Ok(Script { greeting: vec![VERSION, 1, method], login: message, request })
    }

    /// The bytes of a message.
    pub(super) fn bytes(&self, say: Say) -> &[u8] {
        match say {
            Say::Greeting => &self.greeting,
            Say::Login => &self.login,
            Say::Request => &self.request,
        }
    }
}

/// A field with its length before it.
fn put(message: &mut Vec<u8>, field: &str) -> io::Result<()> {
    let length = u8::try_from(field.len()).ok().filter(|length| *length > 0);
    let length = length.ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{field:?} is not 1 to 255 bytes long"))
    })?;
    message.push(length);
    message.extend(field.as_bytes());
    Ok(())
}

/// How far a client is: which answer it waits for, and how much of that has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handshake {
    awaited: Awaited,
    heard: usize,
    /// As far as it is known by now.
    length: usize,
    /// The answer, as far as it has been heard and fits.
    answer: [u8; LONGEST_BOUND],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Method,
    Login,
    Reply,
}

/// What an answer, or a part of one, leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// There is more to come.
    Listen,
    /// The client's turn.
    Say(Say),
    /// The way to the target is open.
    Open,
}

/// Why a proxy's answer does not lead to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// This byte has no place there.
    Malformed(u8),
    /// No method that we offered, or one that we did not.
    Method(u8),
    /// The login is wrong.
    Login,
    /// The request is refused, with this REP.
    Reply(u8),
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Malformed(byte) => write!(out, "an answer that is not SOCKS5: {byte:#04x}"),
            Refusal::Method(method) => write!(out, "method {method:#04x}"),
            Refusal::Login => write!(out, "the login is refused"),
            Refusal::Reply(reply) => write!(out, "the request is refused: REP {reply:#04x}"),
        }
    }
}

impl Handshake {
    /// That of a client which has sent its greeting.
    pub(super) fn new() -> Handshake {
        Handshake::awaiting(Awaited::Method)
    }

    fn awaiting(awaited: Awaited) -> Handshake {
        let length = match awaited {
            Awaited::Method | Awaited::Login => 2,
            // Longer, once the type of address is known.
            Awaited::Reply => 5,
        };
        Handshake { awaited, heard: 0, length, answer: [0; LONGEST_BOUND] }
    }

    /// The bound address of a reply that has been heard, if it is no name.
    pub(super) fn bound(&self) -> Option<SocketAddr> {
        let heard = self.answer.get(..self.heard)?;
        let (_, bound) = heard.split_at_checked(3)?;
        match *bound {
            [1, a, b, c, d, high, low] => {
                let port = u16::from_be_bytes([high, low]);
                Some((Ipv4Addr::new(a, b, c, d), port).into())
            }
            [4, ref address @ .., high, low] => {
                let address: [u8; 16] = address.try_into().ok()?;
                Some((Ipv6Addr::from(address), u16::from_be_bytes([high, low])).into())
            }
            _ => None,
        }
    }

    /// Hears `bytes`, and says how many of them belong to the answer that is awaited.
    pub(super) fn hear(&mut self, bytes: &[u8], logs_in: bool) -> Result<(usize, Next), Refusal> {
        for (at, byte) in bytes.iter().enumerate() {
            self.hear_byte(*byte, logs_in)?;
            if self.heard == self.length {
                return Ok((at + 1, self.finish(logs_in)));
            }
        }
        Ok((bytes.len(), Next::Listen))
    }

    fn hear_byte(&mut self, byte: u8, logs_in: bool) -> Result<(), Refusal> {
        let method = if logs_in { METHOD_LOGIN } else { METHOD_NONE };
        match (self.awaited, self.heard) {
            (Awaited::Method | Awaited::Reply, 0) => expect(byte, VERSION)?,
            (Awaited::Login, 0) => expect(byte, LOGIN_VERSION)?,
            (Awaited::Method, _) if byte != method => return Err(Refusal::Method(byte)),
            (Awaited::Login, _) if byte != 0 => return Err(Refusal::Login),
            (Awaited::Reply, 1) if byte != 0 => return Err(Refusal::Reply(byte)),
            (Awaited::Reply, 3) => self.length = reply_length(byte)?,
            (Awaited::Reply, 4) if self.length == NAMED => self.length += usize::from(byte),
            _ => {}
        }
        if let Some(place) = self.answer.get_mut(self.heard) {
            *place = byte;
        }
        self.heard += 1;
        Ok(())
    }

    fn finish(&mut self, logs_in: bool) -> Next {
        let (awaited, next) = match self.awaited {
            Awaited::Method if logs_in => (Awaited::Login, Next::Say(Say::Login)),
            Awaited::Method | Awaited::Login => (Awaited::Reply, Next::Say(Say::Request)),
            Awaited::Reply => return Next::Open,
        };
        *self = Handshake::awaiting(awaited);
        next
    }
}

fn expect(byte: u8, expected: u8) -> Result<(), Refusal> {
    if byte == expected { Ok(()) } else { Err(Refusal::Malformed(byte)) }
}

/// The length of a reply that names the bound address, without the name.
const NAMED: usize = 7;
/// The longest reply that does not.
const LONGEST_BOUND: usize = 22;

fn reply_length(address_type: u8) -> Result<usize, Refusal> {
    match address_type {
        1 => Ok(10),
        3 => Ok(NAMED),
        4 => Ok(LONGEST_BOUND),
        other => Err(Refusal::Malformed(other)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const TO: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0x1234);

    /// What is said to these answers, which come in pieces of `piece` bytes, and what is left.
    fn talk(
        answers: &[u8],
        piece: usize,
        logs_in: bool,
    ) -> Result<(Vec<Say>, Option<usize>), Refusal> {
        let (mut handshake, mut said, mut at) = (Handshake::new(), Vec::new(), 0);
        while at < answers.len() {
            let end = answers.len().min(at + piece);
            let (used, next) = handshake.hear(&answers[at..end], logs_in)?;
            at += used;
            match next {
                Next::Listen => {}
                Next::Say(say) => said.push(say),
                Next::Open => return Ok((said, Some(answers.len() - at))),
            }
        }
        Ok((said, None))
    }

    fn reply(address: &[u8]) -> Vec<u8> {
        [&[5, 0, 5, 0, 0], address, &[0x12, 0x34]].concat()
    }

    #[test]
    fn every_type_of_address_has_its_length() {
        let name = [&[3, 200][..], &[b'x'; 200]].concat();
        let shortest = [3, 0];
        let longest = [&[3, 255][..], &[5; 255]].concat();
        for address in
            [&[1, 127, 0, 0, 1][..], &[&[4][..], &[0; 16]].concat(), &name, &shortest, &longest]
        {
            let whole = reply(address);
            for piece in [1, 2, 3, 7, whole.len()] {
                assert_eq!(talk(&whole, piece, false), Ok((vec![Say::Request], Some(0))));
                let short = &whole[..whole.len() - 1];
                assert_eq!(talk(short, piece, false), Ok((vec![Say::Request], None)));
                let behind = [&whole[..], b"data"].concat();
                let (_, left) = talk(&behind, behind.len(), false).unwrap();
                assert_eq!(left, Some(4));
            }
        }
    }

    #[test]
    fn a_login_is_said_when_it_is_asked_for() {
        let answers = [5, 2, 1, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let said = vec![Say::Login, Say::Request];
        assert_eq!(talk(&answers, 1, true), Ok((said, Some(0))));
    }

    #[test]
    fn a_reply_says_what_is_bound() {
        let bound = |address: &[u8]| {
            let mut handshake = Handshake::awaiting(Awaited::Reply);
            assert_eq!(handshake.bound(), None);
            let whole = [&[5, 0, 0], address, &[0x12, 0x34]].concat();
            assert_eq!(handshake.hear(&whole, false), Ok((whole.len(), Next::Open)));
            handshake.bound().map(|it| it.to_string())
        };
        assert_eq!(bound(&[1, 127, 0, 0, 1]).as_deref(), Some("127.0.0.1:4660"));
        let mut six = [0; 17];
        (six[0], six[16]) = (4, 1);
        assert_eq!(bound(&six).as_deref(), Some("[::1]:4660"));
        assert_eq!(bound(b"\x03\x04name"), None);
        assert_eq!(bound(&[&[3, 255][..], &[1; 255]].concat()), None);
    }

    #[test]
    fn what_is_refused_is_told_apart() {
        assert_eq!(talk(&[5, 0xff], 1, false), Err(Refusal::Method(0xff)));
        assert_eq!(talk(&[5, 2], 2, false), Err(Refusal::Method(2)));
        assert_eq!(talk(&[5, 0], 2, true), Err(Refusal::Method(0)));
        assert_eq!(talk(&[5, 2, 1, 1], 4, true), Err(Refusal::Login));
        assert_eq!(talk(&[5, 0, 5, 4, 0, 1], 8, false), Err(Refusal::Reply(4)));
        assert_eq!(talk(&[5, 0, 5, 0, 0, 2], 8, false), Err(Refusal::Malformed(2)));
        assert_eq!(talk(b"HTTP/1.1 400", 12, false), Err(Refusal::Malformed(b'H')));
    }

    #[test]
    fn no_bytes_do_harm() {
        for seed in 0..=u16::MAX {
            let [a, b] = seed.to_le_bytes();
            let _heard = talk(&[5, 0, 5, 0, 0, a, b, 1, 2, 3], 10, false);
            let _heard = talk(&[a, b, a, b, a, b, a], 7, seed % 3 == 0);
        }
    }

    #[test]
    fn a_client_says_what_the_rfcs_say() {
        let login = ("alice".to_owned(), "secret".to_owned());
        let script = Script::new(Command::Connect, Some(&login), &Target::Address, TO).unwrap();
        assert_eq!(script.bytes(Say::Greeting), [5, 1, 2]);
        assert_eq!(script.bytes(Say::Login), b"\x01\x05alice\x06secret");
        assert_eq!(script.bytes(Say::Request), [5, 1, 0, 1, 127, 0, 0, 1, 0x12, 0x34]);
        let named = Target::Name("origin.test".into());
        let script = Script::new(Command::Connect, None, &named, TO).unwrap();
        assert_eq!(script.bytes(Say::Greeting), [5, 1, 0]);
        assert_eq!(script.bytes(Say::Request), b"\x05\x01\x00\x03\x0borigin.test\x12\x34");
        for (command, byte) in [(Command::Bind, 2), (Command::Associate, 3)] {
            let script = Script::new(command, None, &Target::Address, TO).unwrap();
            assert_eq!(script.bytes(Say::Request)[..4], [5, byte, 0, 1]);
        }
    }

    #[test]
    fn a_field_that_fits_no_message_is_an_error() {
        let nobody = (String::new(), "secret".to_owned());
        assert!(Script::new(Command::Connect, Some(&nobody), &Target::Address, TO).is_err());
        assert!(Script::new(Command::Connect, None, &Target::Name("x".repeat(256)), TO).is_err());
    }
}
