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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_port_or_many_or_whichever_is_free() {
        let parse = |text| PortRange::parse(text).unwrap();
        let told = |text| (parse(text).first(), parse(text).count(), parse(text).is_any());
        assert_eq!(told("40000-40999"), (40000, 1000, false));
        assert_eq!(told("1-65535"), (1, 65535, false));
        assert_eq!(told("65535"), (65535, 1, false));
        assert_eq!(told("7-7"), (7, 1, false));
        assert_eq!(told("0"), (0, 1, true));
        for (text, shown) in [("40000 - 40999", "40000-40999"), ("7-7", "7"), ("0", "0")] {
            assert_eq!(parse(text).to_string(), shown);
            assert_eq!(parse(shown), parse(text));
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        let reversed = ["2-1", "40999-40000", "65535-1"];
        let with_zero = ["0-0", "0-1", "1-0", "0-65535"];
        let too_large = ["65536", "1-65536", "99999999999999999999", "65536-65537"];
        let shapeless = ["", "-", "1-", "-1", "1-2-3", "+1", "1,2", "1:2", "http", "0x1", "1 2"];
        let bad = [
            ("is empty", &reversed[..]),
            ("port 0 stands in no range", &with_zero),
            ("from 0 to 65535", &too_large),
            ("no range of ports", &shapeless),
        ];
        for (expected, texts) in bad {
            for text in texts {
                let problem = format!("{:?}", PortRange::parse(text).expect_err(text));
                assert!(problem.contains(expected), "{text:?}: {problem}");
            }
        }
    }
}
