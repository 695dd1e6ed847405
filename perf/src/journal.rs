//! Every finished measurement, a line each, so that a run can go on where it was interrupted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::record::Record;

/// What measurements have to agree in to stand in one table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    pub kind: String,
    pub seconds: f64,
    pub warm_up: f64,
    /// Of the environment, which ringsocks takes as its configuration.
    pub settings: Vec<String>,
    /// What was measured, by name and fingerprint.
    pub builds: Vec<(String, String)>,
}

/// The file, and what is in it.
pub struct Journal {
    file: File,
    records: Vec<Record>,
}

impl Journal {
    /// An empty one.
    pub fn begin(path: &Path, conditions: &Conditions) -> io::Result<Journal> {
        let mut journal = Journal { file: File::create(path)?, records: Vec::new() };
        journal.write(conditions)?;
        Ok(journal)
    }

    /// The one that is there, if it was begun under the same conditions; else a new one if there
    /// is none.
    pub fn resume(path: &Path, conditions: &Conditions) -> io::Result<Journal> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Journal::begin(path, conditions);
            }
            Err(error) => return Err(error),
        };
        // A line that was being written when the run was interrupted counts for nothing.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let records = parse(&text[..whole], conditions)?;
        let file = OpenOptions::new().append(true).open(path)?;
        file.set_len(whole as u64)?;
        Ok(Journal { file, records })
    }

    pub fn records(&self) -> &[Record] {
        &self.records
    }

    pub fn has(&self, work: &str, contender: &str, round: usize) -> bool {
        self.records.iter().any(|it| it.is(work, contender, round))
    }

    pub fn append(&mut self, record: Record) -> io::Result<()> {
        self.write(&record)?;
        self.records.push(record);
        Ok(())
    }

    /// One write a line, so that an interrupt cuts at most the last.
    fn write(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.file.write_all(&text)
    }
}

fn parse(text: &str, conditions: &Conditions) -> io::Result<Vec<Record>> {
    let mut lines = text.lines();
    let begun: Conditions = match lines.next().map(serde_json::from_str) {
        Some(Ok(begun)) => begun,
        _ => return Err(refused("the journal does not say what was measured".to_owned())),
    };
    if begun != *conditions {
        let differing = format!("it was begun with {begun:?}, this is {conditions:?}");
        return Err(refused(differing));
    }
    let record = |(index, line)| {
        serde_json::from_str(line).map_err(|it| refused(format!("line {}: {it}", index + 2)))
    };
    lines.enumerate().map(record).collect()
}

fn refused(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{why}; start anew without --resume"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Outcome;

    fn conditions(seconds: f64) -> Conditions {
        Conditions {
            kind: "run".to_owned(),
            seconds,
            warm_up: 0.5,
            settings: Vec::new(),
            builds: Vec::new(),
        }
    }

    fn record(round: usize) -> Record {
        let outcome = Outcome::Failed { why: "a line\nand another".to_owned() };
        Record { work: "w".to_owned(), contender: "c".to_owned(), round, outcome }
    }

    #[test]
    fn what_was_finished_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::begin(&path, &conditions(1.0)).unwrap();
        journal.append(record(0)).unwrap();
        drop(journal);
        let mut journal = Journal::resume(&path, &conditions(1.0)).unwrap();
        assert!(journal.has("w", "c", 0) && !journal.has("w", "c", 1));
        journal.append(record(1)).unwrap();
        drop(journal);
        assert_eq!(Journal::resume(&path, &conditions(1.0)).unwrap().records().len(), 2);
    }

    #[test]
    fn a_line_cut_off_is_measured_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::begin(&path, &conditions(1.0)).unwrap();
        journal.append(record(0)).unwrap();
        journal.append(record(1)).unwrap();
        drop(journal);
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 5]).unwrap();
        let mut journal = Journal::resume(&path, &conditions(1.0)).unwrap();
        assert!(journal.has("w", "c", 0) && !journal.has("w", "c", 1));
        journal.append(record(1)).unwrap();
        drop(journal);
        assert_eq!(std::fs::read(&path).unwrap(), text);
    }

    #[test]
    fn other_conditions_and_other_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        drop(Journal::begin(&path, &conditions(1.0)).unwrap());
        let error = Journal::resume(&path, &conditions(2.0)).err().unwrap().to_string();
        assert!(error.contains("--resume"), "{error}");
        std::fs::write(&path, "something else\n").unwrap();
        assert!(Journal::resume(&path, &conditions(1.0)).is_err());
    }

    #[test]
    fn there_is_nothing_to_resume_the_first_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        assert!(Journal::resume(&path, &conditions(1.0)).unwrap().records().is_empty());
    }
}
