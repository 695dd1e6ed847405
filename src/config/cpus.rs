//! Which CPUs to run on, and how many reactors that makes.

use std::collections::BTreeSet;
use std::fmt;

use super::Config;
use super::error::{Error, Problem};

/// A set of CPU numbers, never empty, written like `2-5,8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus(BTreeSet<usize>);

impl Cpus {
    /// More than any kernel is built for (NR_CPUS is at most 8192).
    const MAX: usize = 8191;

    /// The numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().copied()
    }

    pub(super) fn parse(text: &str) -> Result<Cpus, Problem> {
        let mut cpus = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (Cpus::parse_number(first)?, Cpus::parse_number(last)?);
            if first > last {
                return Err(Problem::new(format!("the range {first}-{last} is empty"))
                    .hint(format!("did you mean {last}-{first}?")));
            }
            cpus.extend(first..=last);
        }
        Ok(Cpus(cpus))
    }

    fn parse_number(text: &str) -> Result<usize, Problem> {
        let text = text.trim();
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits {
            return Err(Problem::new("this is not a list of CPUs").hint(super::value::CPUS));
        }
        text.parse().ok().filter(|&cpu| cpu <= Cpus::MAX).ok_or_else(|| {
            Problem::new(format!("no machine has a CPU {text}")).hint(super::value::CPUS)
        })
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&ranges(self.iter()))
    }
}

/// Ascending numbers as `2-5,8`.
fn ranges(numbers: impl IntoIterator<Item = usize>) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let written: Vec<_> = runs
        .into_iter()
        .map(|(first, last)| match last - first {
            0 => first.to_string(),
            _ => format!("{first}-{last}"),
        })
        .collect();
    written.join(",")
}

impl Config {
    /// The CPU of every reactor to run, given the CPUs this process may use (its affinity mask).
    ///
    /// All of them, or those of `cpus`; the first `workers` of that. Fails if `cpus` names one that
    /// is not in `allowed`, or if there are more workers than CPUs.
    pub fn reactor_cpus(&self, allowed: &[usize]) -> Result<Vec<usize>, Error> {
        let allowed: BTreeSet<usize> = allowed.iter().copied().collect();
        let mut chosen: Vec<usize> = match &self.cpus {
            None => allowed.iter().copied().collect(),
            Some(cpus) => {
                let missing = ranges(cpus.iter().filter(|cpu| !allowed.contains(cpu)));
                if !missing.is_empty() {
                    let problem = format!("this process may not run on the CPUs {missing}");
                    return Err(Error::at(
                        format!("cpus = \"{cpus}\""),
                        Problem::new(problem)
                            .hint(format!("its affinity mask allows {}", ranges(allowed))),
                    ));
                }
                cpus.iter().collect()
            }
        };
        if let Some(workers) = self.workers {
            if workers > chosen.len() {
                let problem = format!("more workers than CPUs ({})", ranges(chosen));
                return Err(Error::at(
                    format!("workers = {workers}"),
                    Problem::new(problem).hint(
                        "every worker has a CPU of its own; leave `workers` out for one per CPU",
                    ),
                ));
            }
            chosen.truncate(workers);
        }
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(workers: Option<usize>, cpus: Option<&str>) -> Config {
        let cpus = cpus.map(|text| Cpus::parse(text).unwrap());
        Config { workers, cpus, ..Config::default() }
    }

    #[test]
    fn lists_and_ranges() {
        let parse = |text| Cpus::parse(text).unwrap();
        assert_eq!(parse("2-5,8").iter().collect::<Vec<_>>(), [2, 3, 4, 5, 8]);
        assert_eq!(parse("8, 2 - 3,3").to_string(), "2-3,8");
        assert_eq!(parse("0").to_string(), "0");
        for bad in ["", ",", "1,", "a", "-1", "1-", "3-2", "1-2-3", "+1", "0-4294967295", "1;2"] {
            assert!(Cpus::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn one_reactor_per_cpu_unless_told_otherwise() {
        assert_eq!(config(None, None).reactor_cpus(&[1, 3, 4]).unwrap(), [1, 3, 4]);
        assert_eq!(config(Some(2), None).reactor_cpus(&[1, 3, 4]).unwrap(), [1, 3]);
        assert_eq!(config(None, Some("3-4")).reactor_cpus(&[1, 3, 4]).unwrap(), [3, 4]);
        assert_eq!(config(Some(1), Some("3-4")).reactor_cpus(&[1, 3, 4]).unwrap(), [3]);
    }

    #[test]
    fn what_cannot_be_given_is_named() {
        let error = config(None, Some("2-4,9")).reactor_cpus(&[1, 3, 4]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cpus = \"2-4,9\": this process may not run on the CPUs 2,9\n  \
             = its affinity mask allows 1,3-4"
        );
        let error = config(Some(3), Some("3-4")).reactor_cpus(&[1, 3, 4]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "workers = 3: more workers than CPUs (3-4)\n  \
             = every worker has a CPU of its own; leave `workers` out for one per CPU"
        );
    }
}
