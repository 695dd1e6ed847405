use std::fmt;
use std::path::Path;

use crate::config::Config;

/// Why users or groups cannot be taken as they stand. It never holds a password or a hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    place: Place,
    problem: String,
    hint: Option<&'static str>,
}

/// What an [`Error`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A key of the configuration.
    Key(String),
    /// A file as a whole.
    File(String),
    /// A line of a file, counted from one.
    Line(String, usize),
}

impl Place {
    pub(super) fn file(path: &Path) -> Place {
        Place::File(path.display().to_string())
    }

    pub(super) fn line(path: &Path, line: usize) -> Place {
        Place::Line(path.display().to_string(), line)
    }
}

impl Error {
    pub(super) fn new(place: Place, problem: impl fmt::Display) -> Error {
        Error { place, problem: problem.to_string(), hint: None }
    }

    /// Says where its key was said, if it is about one.
    pub(super) fn said_in(mut self, config: &Config) -> Error {
        if let Place::Key(key) = &self.place
            && let Some(place) = config.place(key)
        {
            self.place = Place::Key(format!("{place}: {key}"));
        }
        self
    }

    pub(super) fn hint(self, hint: &'static str) -> Error {
        Error { hint: Some(hint), ..self }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Key(key) => write!(f, "{}", key.escape_debug())?,
            Place::File(path) => write!(f, "{}", path.escape_debug())?,
            Place::Line(path, line) => write!(f, "{}:{line}", path.escape_debug())?,
        }
        write!(f, ": {}", self.problem)?;
        self.hint.map_or(Ok(()), |hint| write!(f, "\n  = {hint}"))
    }
}
