//! What a reactor does while nothing happens.

use super::choice::Choice;

/// What a reactor does while nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polling {
    /// It sleeps until something does.
    Wait,
    /// It looks again at once: nobody waits for it to wake, and it takes a whole CPU.
    Spin,
}

impl Choice for Polling {
    const KIND: &'static str = "way to poll";
    const ALL: &'static [Self] = &[Polling::Wait, Polling::Spin];

    fn word(self) -> &'static str {
        match self {
            Polling::Wait => "wait",
            Polling::Spin => "spin",
        }
    }
}
