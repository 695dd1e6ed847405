use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use super::client::{self, log_in};
use super::{user, welch};
use crate::contender::PASSWORD;

/// As long as [`PASSWORD`].
const WRONG_PASSWORD: &str = "guesses";
/// As long as a user's.
const UNKNOWN_USER: &str = "nobody00";

/// More failures than lock whoever makes them.
const LOCKING: usize = 5;
/// As many as make each as unfamiliar to the processor as one that comes for the first time.
const LOCKED_SOURCES: u32 = 512;
const FIRST_LOCKED_SOURCE: u32 = Ipv4Addr::new(127, 255, 0, 1).to_bits();
/// One source fails twice, which locks nobody yet.
const FIRST_SOURCE: u32 = Ipv4Addr::new(127, 1, 0, 1).to_bits();

/// What is compared leaves out this share of the slowest.
const SLOWEST: f64 = 0.05;
/// Beyond it a difference is no chance.
const T_MAX: f64 = 4.5;

/// A login that is refused, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    WrongPassword,
    UnknownUser,
    /// From a source with penalties, with the right password.
    Locked,
    LockedWithWrongPassword,
}

const REASONS: [(Reason, &str); 4] = [
    (Reason::WrongPassword, "wrong password"),
    (Reason::UnknownUser, "unknown user"),
    (Reason::LockedWithWrongPassword, "locked, wrong password"),
    (Reason::Locked, "locked, right password"),
];

/// Which of them a guesser would like to tell apart.
const COMPARED: [(usize, usize); 3] = [(1, 0), (2, 0), (3, 2)];

/// For each of [`REASONS`], microseconds until the answer.
pub(super) type Times = [Vec<f64>; REASONS.len()];

/// Lets each kind of login be refused so many times, one after the other in turn.
pub(super) fn ask(proxy: SocketAddr, samples: usize) -> io::Result<Times> {
    let wrong = client::login(&user(0), WRONG_PASSWORD);
    let unknown = client::login(UNKNOWN_USER, WRONG_PASSWORD);
    let right = client::login(&user(0), PASSWORD);
    let locked_sources =
        || (FIRST_LOCKED_SOURCE..FIRST_LOCKED_SOURCE + LOCKED_SOURCES).map(Ipv4Addr::from);
    for source in locked_sources() {
        for _ in 0..LOCKING {
            log_in(proxy, source, &wrong)?;
        }
    }
    let mut locked_sources = locked_sources().cycle();
    let mut locked = || locked_sources.next().unwrap_or(Ipv4Addr::LOCALHOST);
    let mut sources = (FIRST_SOURCE..).map(Ipv4Addr::from);
    let mut fresh = || sources.next().unwrap_or(Ipv4Addr::LOCALHOST);
    let mut times = Times::default();
    for sample in 0..samples {
        for turn in 0..REASONS.len() {
            // Nobody comes after the same one each time.
            let which = order(sample, turn);
            let (from, login) = match REASONS[which].0 {
                Reason::WrongPassword => (fresh(), &wrong),
                Reason::UnknownUser => (fresh(), &unknown),
                Reason::Locked => (locked(), &right),
                Reason::LockedWithWrongPassword => (locked(), &wrong),
            };
            // What is kept of a source is there, and in the caches, whoever it is.
            let before = log_in(proxy, from, &wrong)?;
            let answer = log_in(proxy, from, login)?;
            if before.is_good || answer.is_good {
                return Err(io::Error::other(format!("{}: let in", REASONS[which].1)));
            }
            times[which].push(answer.took.as_nanos() as f64 / 1e3);
        }
    }
    Ok(times)
}

/// Which reason has its turn: every sample is another permutation of all.
fn order(sample: usize, turn: usize) -> usize {
    const COUNT: usize = REASONS.len();
    let (rotation, mirrored) = (sample % COUNT, sample / COUNT % 2 == 1);
    let place = (turn + rotation) % COUNT;
    if mirrored { COUNT - 1 - place } else { place }
}

pub(super) fn heading(samples: usize) -> String {
    format!(
        "\n# refused logins, {samples} of each kind in turn, each after one that failed from the same \
         source: the median of the microseconds to the answer, and Welch's t of two kinds, of all and \
         without the slowest {:.0} % of both: beyond {T_MAX} it tells one from the other",
        SLOWEST * 100.0
    )
}

/// What the times tell.
pub(super) fn lines(scheme: &str, times: &Times) -> Vec<String> {
    let median = |which: usize| welch::quantile(times[which].iter().copied(), 0.5);
    let line = |(one, other): (usize, usize)| {
        let [of, against] = [&times[one], &times[other]];
        let bound = welch::quantile(of.iter().chain(against).copied(), 1.0 - SLOWEST);
        let t = welch::t(of, against);
        let cropped = welch::t(&welch::below(of, bound), &welch::below(against, bound));
        let told = if t.abs() > T_MAX || cropped.abs() > T_MAX { "told" } else { "not told" };
        format!(
            "{scheme:9} {:23} {:8.1}  {:23} {:8.1}  t {t:7.2}  {cropped:7.2}  {told}",
            REASONS[one].1,
            median(one),
            REASONS[other].1,
            median(other),
        )
    };
    COMPARED.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_has_each_reason_once_and_none_is_always_after_another() {
        let mut pairs = [[0; REASONS.len()]; REASONS.len()];
        let mut last: Option<usize> = None;
        for sample in 0..800 {
            let mut seen: Vec<usize> = (0..REASONS.len()).map(|turn| order(sample, turn)).collect();
            for &which in &seen {
                if let Some(last) = last.replace(which) {
                    let pair: &mut i32 = &mut pairs[last][which];
                    *pair += 1;
                }
            }
            seen.sort();
            assert_eq!(seen, [0, 1, 2, 3]);
        }
        let follows_most = pairs.iter().flatten().max();
        assert!(follows_most <= Some(&500), "{pairs:?}");
    }

    #[test]
    fn a_wrong_name_and_a_wrong_password_are_as_long_as_right_ones() {
        assert_eq!(WRONG_PASSWORD.len(), PASSWORD.len());
        assert_eq!(UNKNOWN_USER.len(), user(0).len());
    }

    #[test]
    fn a_difference_is_told() {
        let about = |mean: f64| (0..1000).map(|n| mean + f64::from(n % 10)).collect::<Vec<_>>();
        let lines = lines("plain", &[about(50.0), about(50.0), about(50.0), about(51.0)]);
        let told: Vec<bool> = lines.iter().map(|it| it.ends_with("  told")).collect();
        assert_eq!(told, [false, false, true], "{lines:?}");
    }
}
