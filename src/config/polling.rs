//! What a reactor does while nothing happens.

use std::fmt;

use super::error::Problem;
use super::schema;
use super::value;

/// What a reactor does while nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polling {
    /// It sleeps until something does.
    Wait,
    /// It looks again at once: nobody waits for it to wake, and it takes a whole CPU.
    Spin,
}

impl Polling {
    const WORDS: [&str; 2] = ["wait", "spin"];

    pub(super) fn parse(text: &str) -> Result<Polling, Problem> {
        match text {
            "wait" => Ok(Polling::Wait),
            "spin" => Ok(Polling::Spin),
            _ => Err(Problem::new("this is no way to poll").hint(
                match schema::nearest(text, Self::WORDS) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => value::POLLING.to_owned(),
                },
            )),
        }
    }
}

impl fmt::Display for Polling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Polling::Wait => "\"wait\"",
            Polling::Spin => "\"spin\"",
        })
    }
}
