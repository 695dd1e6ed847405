//! The order of measurements: one work after the other, its contenders A B B A.

use std::time::{Duration, Instant};

use crate::catalogue::Trial;
use crate::contender::Contender;
use crate::journal::Journal;
use crate::measure::Bench;
use crate::record::{Outcome, Record};

/// One measurement to make.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    pub trial: &'a Trial,
    pub contender: &'a Contender,
    pub round: usize,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    Complete,
    /// Time was up: so many measurements are missing.
    OutOfTime(usize),
}

/// Every measurement, in order. The contenders of a round are seconds apart, and whatever drifts
/// steadily hits each of them equally over two rounds.
pub fn steps(trials: &[Trial], rounds: usize) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    for trial in trials {
        for round in 0..trial.work.rounds(rounds) {
            let step = |contender| Step { trial, contender, round };
            match round % 2 {
                0 => steps.extend(trial.contenders.iter().map(step)),
                _ => steps.extend(trial.contenders.iter().rev().map(step)),
            }
        }
    }
    steps
}

/// What the journal does not have yet.
pub fn missing<'a>(steps: &[Step<'a>], journal: &Journal) -> Vec<Step<'a>> {
    let is_missing = |it: &&Step| !journal.has(&it.trial.work.id, &it.contender.name, it.round);
    steps.iter().filter(is_missing).copied().collect()
}

/// Measures what is missing until it is all there or time is up. A contender that fails is a
/// result; a wrong byte ends the run.
pub fn carry_out<'a>(
    steps: &[Step<'a>],
    journal: &mut Journal,
    bench: &Bench,
    limit: Option<Duration>,
    mut progress: impl FnMut(&Step<'a>, Progress, &[Record]),
) -> std::io::Result<End> {
    let started = Instant::now();
    let missing = missing(steps, journal);
    for (done, step) in missing.iter().enumerate() {
        let elapsed = started.elapsed();
        if limit.is_some_and(|limit| elapsed > limit) {
            return Ok(End::OutOfTime(missing.len() - done));
        }
        progress(step, Progress { done, of: missing.len(), elapsed }, journal.records());
        let outcome = match bench.measure(&step.trial.work, step.contender, journal.records()) {
            Ok(outcome) => outcome,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                let what = format!("{} in {}: {error}", step.contender, step.trial.work.id);
                return Err(std::io::Error::new(error.kind(), what));
            }
            Err(error) => Outcome::Failed { why: error.to_string() },
        };
        journal.append(Record {
            work: step.trial.work.id.clone(),
            contender: step.contender.name.clone(),
            round: step.round,
            outcome,
        })?;
    }
    Ok(End::Complete)
}

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub done: usize,
    pub of: usize,
    pub elapsed: Duration,
}

impl Progress {
    /// How long the rest takes if it goes on like this.
    pub fn left(&self) -> Option<Duration> {
        let each = self.elapsed.checked_div(self.done as u32)?;
        Some(each * (self.of - self.done) as u32)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::catalogue::{self, Extent};
    use crate::journal::Conditions;

    fn trials() -> Vec<Trial> {
        let all = catalogue::trials(Extent::Full, Path::new("ringsocks"), &[]);
        catalogue::only(all, &["up-1".to_owned(), "calls".to_owned()]).unwrap()
    }

    fn names<'a>(steps: &[Step<'a>], work: &str, round: usize) -> Vec<&'a str> {
        let of_round = |it: &&Step<'a>| it.trial.work.id == work && it.round == round;
        steps.iter().filter(of_round).map(|it| it.contender.name.as_str()).collect()
    }

    #[test]
    fn contenders_take_turns_forth_and_back() {
        let trials = trials();
        let steps = steps(&trials, 4);
        let forth = names(&steps, "up-1", 0);
        let back: Vec<&str> = forth.iter().rev().copied().collect();
        assert_eq!(forth.len(), 6);
        assert_eq!(names(&steps, "up-1", 1), back);
        assert_eq!(names(&steps, "up-1", 2), forth);
        assert_eq!(names(&steps, "up-1", 3), back);
        let rounds: Vec<usize> =
            steps.iter().filter(|it| it.trial.work.id == "up-1").map(|it| it.round).collect();
        assert!(rounds.is_sorted());
    }

    #[test]
    fn calls_are_counted_once() {
        let trials = trials();
        let steps = steps(&trials, 4);
        assert!(!names(&steps, "calls", 0).is_empty());
        assert!(names(&steps, "calls", 1).is_empty());
    }

    #[test]
    fn what_is_in_the_journal_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let conditions = Conditions {
            kind: "run".to_owned(),
            seconds: 1.0,
            warm_up: 1.0,
            settings: Vec::new(),
            builds: Vec::new(),
        };
        let mut journal = Journal::begin(&folder.path().join("journal"), &conditions).unwrap();
        let trials = trials();
        let steps = steps(&trials, 2);
        assert_eq!(missing(&steps, &journal).len(), steps.len());
        for step in &steps[..3] {
            let outcome = Outcome::Failed { why: "it is a result, too".to_owned() };
            let work = step.trial.work.id.clone();
            let contender = step.contender.name.clone();
            journal.append(Record { work, contender, round: step.round, outcome }).unwrap();
        }
        let left = missing(&steps, &journal);
        assert_eq!(left.len(), steps.len() - 3);
        assert_eq!(left[0].contender, steps[3].contender);
    }

    #[test]
    fn what_is_left_is_foretold_once_something_is_done() {
        let progress = |done| Progress { done, of: 10, elapsed: Duration::from_secs(8) };
        assert_eq!(progress(0).left(), None);
        assert_eq!(progress(4).left(), Some(Duration::from_secs(12)));
    }
}
