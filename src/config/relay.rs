//! How bytes are relayed.

use std::fmt;

use super::error::Problem;
use super::schema;
use super::value;

/// How a session's bytes go from socket to socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayMode {
    /// Through rings of ours.
    Copy,
    /// Through kernel pipes wherever there are any.
    Splice,
    /// Through rings, and through pipes while a direction carries bulk.
    Auto,
}

impl RelayMode {
    const ALL: [RelayMode; 3] = [RelayMode::Auto, RelayMode::Copy, RelayMode::Splice];

    fn word(self) -> &'static str {
        match self {
            RelayMode::Copy => "copy",
            RelayMode::Splice => "splice",
            RelayMode::Auto => "auto",
        }
    }

    pub(super) fn parse(text: &str) -> Result<RelayMode, Problem> {
        let known = Self::ALL.into_iter().find(|mode| mode.word() == text);
        known.ok_or_else(|| {
            let problem = Problem::new(format!("{text:?} is no way to relay"));
            match schema::nearest(text, Self::ALL.map(RelayMode::word)) {
                Some(near) => problem.hint(format!("did you mean \"{near}\"?")),
                None => problem.hint(value::RELAY),
            }
        })
    }
}

impl fmt::Display for RelayMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.word())
    }
}
