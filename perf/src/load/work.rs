use std::fmt;
use std::io;
use std::time::Instant;

use super::context::Context;
use super::exchange::Exchange;
use super::handshake::{Refusal, Say};
use crate::origin::FAREWELL;
use crate::pattern::{Check, WrongByte};

/// What a lane's connections do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    Session,
    Requests,
    Down { pace: u64 },
    Beside { pace: u64 },
    Up,
    Idle,
    Stalled,
}

/// A job, and how far a connection is with it.
pub(super) enum Work {
    /// This byte is to come back, or has.
    Session {
        byte: u8,
        answered: bool,
    },
    Requests(Exchange),
    Down {
        check: Check,
        pace: u64,
        beside: bool,
    },
    Up(Upload),
    Idle,
    Stalled,
}

/// What is sent, and what the origin says of it.
#[derive(Default)]
pub(super) struct Upload {
    pub(super) sent: u64,
    pub(super) ended: bool,
    verdict: [u8; 8],
    heard: usize,
}

/// What a connection sends besides an upload.
#[derive(Clone, Copy)]
pub(super) enum Message {
    Say(Say),
    Byte([u8; 1]),
    Pace([u8; 8]),
    Request(u64),
}

/// Why a connection is given up.
#[derive(Debug)]
pub(super) enum Failure {
    Socket(io::Error),
    Refused(Refusal),
    /// It has ended too early.
    Ended,
    /// More came than was asked for.
    Unasked,
    /// An answer, or the end, does not come.
    TooLate,
    /// The origin has received less, or more, than it was sent.
    Length,
    WrongByte,
    /// A datagram has come back without the header that it was sent with.
    Header,
    /// A datagram has come back longer or shorter.
    Cut,
}

impl Work {
    pub(super) fn new(job: Job, lane: usize, nth: u64) -> Work {
        match job {
            Job::Session => Work::Session { byte: FAREWELL | nth as u8, answered: false },
            Job::Requests => Work::Requests(Exchange::new(lane)),
            Job::Down { pace } => Work::Down { check: Check::default(), pace, beside: false },
            Job::Beside { pace } => Work::Down { check: Check::default(), pace, beside: true },
            Job::Up => Work::Up(Upload::default()),
            Job::Idle => Work::Idle,
            Job::Stalled => Work::Stalled,
        }
    }

    /// What is sent first once the way is open, if that is not an upload.
    pub(super) fn first_message(&mut self, cx: &mut Context) -> Option<Message> {
        match self {
            Work::Session { byte, .. } => Some(Message::Byte([*byte])),
            Work::Requests(exchange) => {
                let intended = cx.requests.take(exchange.lane, false).unwrap_or_else(Instant::now);
                Some(Message::Request(exchange.ask(intended)))
            }
            Work::Down { pace, .. } => Some(Message::Pace(pace.to_le_bytes())),
            Work::Up(_) => None,
            Work::Idle => Some(Message::Byte([0])),
            Work::Stalled => Some(Message::Pace(u64::MAX.to_le_bytes())),
        }
    }
}

impl Upload {
    /// Hears a part of the verdict; true once it is good.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> Result<bool, Failure> {
        let end = self.heard + bytes.len();
        self.verdict.get_mut(self.heard..end).ok_or(Failure::Unasked)?.copy_from_slice(bytes);
        self.heard = end;
        match u64::from_le_bytes(self.verdict) {
            _ if self.heard < self.verdict.len() => Ok(false),
            crate::origin::SPOILT => Err(Failure::WrongByte),
            length if length == self.sent && self.ended => Ok(true),
            _ => Err(Failure::Length),
        }
    }
}

impl Message {
    pub(super) fn bytes<'a>(&'a self, cx: &'a Context, beside: bool) -> &'a [u8] {
        match self {
            Message::Say(say) => {
                cx.route(beside).script.as_ref().map_or(&[], |script| script.bytes(*say))
            }
            Message::Byte(byte) => byte,
            Message::Pace(pace) => pace,
            Message::Request(position) => cx.pattern.at(*position, cx.requests.size),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Socket(error)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::Refused(refusal)
    }
}

impl From<WrongByte> for Failure {
    fn from(WrongByte: WrongByte) -> Failure {
        Failure::WrongByte
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Socket(error) => error.fmt(out),
            Failure::Refused(refusal) => refusal.fmt(out),
            Failure::Ended => out.write_str("a connection has ended too early"),
            Failure::Unasked => out.write_str("more came than was asked for"),
            Failure::TooLate => out.write_str("no answer came"),
            Failure::Length => out.write_str("the origin has not received what it was sent"),
            Failure::Header => out.write_str("a datagram came that names another sender, or none"),
            Failure::Cut => out.write_str("a datagram came that has another length"),
            Failure::WrongByte => out.write_str("a wrong byte came"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended() -> Upload {
        Upload { sent: 77, ended: true, ..Upload::default() }
    }

    #[test]
    fn a_verdict_may_come_in_pieces() {
        let mut upload = ended();
        let verdict = 77_u64.to_le_bytes();
        assert!(matches!(upload.hear(&verdict[..3]), Ok(false)));
        assert!(matches!(upload.hear(&verdict[3..]), Ok(true)));
        assert!(matches!(upload.hear(&[0]), Err(Failure::Unasked)));
    }

    #[test]
    fn a_bad_verdict_is_a_failure() {
        assert!(matches!(ended().hear(&76_u64.to_le_bytes()), Err(Failure::Length)));
        assert!(matches!(ended().hear(&[0xff; 8]), Err(Failure::WrongByte)));
        assert!(matches!(ended().hear(&[77; 9]), Err(Failure::Unasked)));
        let mut early = Upload { ended: false, ..ended() };
        assert!(matches!(early.hear(&77_u64.to_le_bytes()), Err(Failure::Length)));
    }
}
