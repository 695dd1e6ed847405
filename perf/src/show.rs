//! What is on the terminal while it runs: how far it is, and each work's table once that is whole.

use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use crate::catalogue::Trial;
use crate::record::Record;
use crate::results;
use crate::schedule::{Progress, Step};
use crate::table;

pub struct Show<'a> {
    /// Works whose tables have not been shown, in order.
    waiting: Vec<&'a Trial>,
    steps: &'a [Step<'a>],
    current: Option<&'a str>,
    is_terminal: bool,
}

impl<'a> Show<'a> {
    pub fn new(trials: &'a [Trial], steps: &'a [Step<'a>]) -> Show<'a> {
        let is_terminal = stderr().is_terminal();
        Show { waiting: trials.iter().collect(), steps, current: None, is_terminal }
    }

    /// A measurement begins.
    pub fn step(&mut self, step: &Step<'a>, progress: Progress, records: &[Record]) {
        self.tables(records, false);
        let id = step.trial.work.id.as_str();
        if self.is_terminal {
            let name = &step.contender.name;
            let position = position(progress);
            eprint!("\r\x1b[K{position} {id}, round {}: {name}", step.round + 1);
            let _ = stderr().flush();
        } else if self.current != Some(id) {
            eprintln!("{} {id}", position(progress));
        }
        self.current = Some(id);
    }

    /// There is no more.
    pub fn end(&mut self, records: &[Record]) {
        self.tables(records, true);
    }

    fn tables(&mut self, records: &[Record], is_end: bool) {
        let steps = self.steps;
        let is_whole = |trial: &Trial| {
            let id = trial.work.id.as_str();
            let measured = |it: &&Step| {
                records.iter().any(|record| record.is(id, &it.contender.name, it.round))
            };
            steps.iter().filter(|it| it.trial.work.id == id).all(|it| measured(&it))
        };
        while let Some(trial) = self.waiting.first() {
            if !is_end && !is_whole(trial) {
                return;
            }
            self.clear_line();
            let section = results::sections(std::slice::from_ref(*trial), records);
            section.iter().for_each(|it| print!("{}", table::text(it)));
            self.waiting.remove(0);
        }
        self.clear_line();
    }

    fn clear_line(&self) {
        if self.is_terminal {
            eprint!("\r\x1b[K");
        }
    }
}

fn position(progress: Progress) -> String {
    let left = progress.left().map_or(String::new(), |it| format!(", {} left", minutes(it)));
    format!("[{}/{}{left}]", progress.done + 1, progress.of)
}

fn minutes(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_tells_what_is_left() {
        let progress = |done| Progress { done, of: 300, elapsed: Duration::from_secs(100) };
        assert_eq!(position(progress(0)), "[1/300]");
        assert_eq!(position(progress(100)), "[101/300, 3:20 left]");
    }
}
