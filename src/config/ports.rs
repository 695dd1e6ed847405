//! The ports that sockets of ours may have.

use std::fmt;

use super::error::Problem;
use super::value;

/// Ports from one to another, both included, or whichever the kernel chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// 0 if the kernel chooses; `last` is then too.
    first: u16,
    last: u16,
}

impl PortRange {
    /// The first of them; 0 if the kernel chooses.
    pub fn first(self) -> u16 {
        self.first
    }

    /// How many there are, 1 or more; one if the kernel chooses.
    pub fn count(self) -> usize {
        usize::from(self.last - self.first) + 1
    }

    /// Whether the kernel chooses a port that is free.
    pub fn is_any(self) -> bool {
        self.first == 0
    }

    /// Those from `first` to `last`, which is no less.
    pub(super) const fn between(first: u16, last: u16) -> PortRange {
        assert!(first <= last);
        PortRange { first, last }
    }

    pub(super) fn parse(text: &str) -> Result<PortRange, Problem> {
        let Some((first, last)) = text.split_once('-') else {
            let port = parse_port(text)?;
            return Ok(PortRange::between(port, port));
        };
        match (parse_port(first)?, parse_port(last)?) {
            (0, _) | (_, 0) => Err(Problem::new("port 0 stands in no range").hint(value::PORTS)),
            (first, last) if first > last => {
                Err(Problem::new(format!("the range {first}-{last} is empty"))
                    .hint(format!("did you mean \"{last}-{first}\"?")))
            }
            (first, last) => Ok(PortRange::between(first, last)),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count() {
            1 => write!(f, "{}", self.first),
            _ => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

fn parse_port(text: &str) -> Result<u16, Problem> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Problem::new("this is no range of ports").hint(value::PORTS));
    }
    text.parse().map_err(|_| Problem::new("a port is a number from 0 to 65535").hint(value::PORTS))
}
