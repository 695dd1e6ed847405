//! How bytes are relayed.

use super::choice::Choice;

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

impl Choice for RelayMode {
    const KIND: &'static str = "way to relay";
    const ALL: &'static [Self] = &[RelayMode::Auto, RelayMode::Copy, RelayMode::Splice];

    fn word(self) -> &'static str {
        match self {
            RelayMode::Copy => "copy",
            RelayMode::Splice => "splice",
            RelayMode::Auto => "auto",
        }
    }
}
