//! What is wrong with a configuration, said the way a good compiler says it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::ops::Range;

/// Why a configuration was not accepted. `Display` is the whole message, several lines long and
/// without a final newline; it never holds a password.
#[derive(Debug)]
pub struct Error {
    origin: Origin,
    problem: Problem,
}

/// Where something was said.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    /// `FILE:LINE:COL`, a variable, a flag; empty if it is everything.
    place: String,
    excerpt: Option<Box<Excerpt>>,
}

impl Origin {
    pub(super) fn new(place: impl fmt::Display) -> Origin {
        Origin { place: printable(&place.to_string()), excerpt: None }
    }

    /// Shows the value there, unless it may be secret.
    pub(super) fn showing_value(mut self, value: &OsStr) -> Origin {
        let text = value.to_string_lossy();
        if !may_be_secret(&text) {
            let text = printable(&text);
            self.excerpt = Some(Box::new(Excerpt { number: String::new(), text, marked: 0..0 }));
        }
        self
    }

    /// Shows line `number` of a file with the characters `marked` underlined.
    pub(super) fn showing_line(
        mut self,
        number: usize,
        line: &str,
        marked: Range<usize>,
    ) -> Origin {
        let text = printable(line.trim_end());
        self.excerpt = Some(Box::new(Excerpt { number: number.to_string(), text, marked }));
        self
    }
}

/// Where keys were said, by their paths. `Debug` does not tell: it is no part of what was said.
#[derive(Clone, Default)]
pub(super) struct Origins(BTreeMap<String, Origin>);

impl Origins {
    pub(super) fn insert(&mut self, path: impl Into<String>, origin: Origin) {
        self.0.insert(path.into(), origin);
    }

    /// An error about the first of these keys that was said.
    pub(super) fn error(&self, paths: &[&str], problem: Problem) -> Error {
        let origin = paths.iter().find_map(|path| self.0.get(*path));
        Error::about(origin.cloned().unwrap_or_default(), problem)
    }

    pub(super) fn place(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(|origin| origin.place.as_str())
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

/// Whether a text may have a password in it, or the hash of one.
pub(super) fn may_be_secret(text: &str) -> bool {
    text.contains("plain:") || text.contains('$')
}

impl Error {
    /// What the process exits with when its configuration is wrong (`EX_CONFIG`, sysexits.h).
    pub const EXIT_STATUS: u8 = 78;

    pub(super) fn new(problem: Problem) -> Error {
        Error { origin: Origin::default(), problem }
    }

    pub(super) fn at(place: impl fmt::Display, problem: Problem) -> Error {
        Error { origin: Origin::new(place), problem }
    }

    /// An error about what was said there.
    pub(super) fn about(origin: Origin, problem: Problem) -> Error {
        Error { origin, problem }
    }

    /// Shows the value itself, or the word of it that is wrong, for places that are not in a file.
    pub(super) fn showing_value(mut self, value: &OsStr) -> Error {
        let text = value.to_string_lossy();
        let word = match self.problem.item {
            Some(index) => text.split(',').nth(index).unwrap_or_default().trim(),
            None => &text,
        };
        self.origin = self.origin.showing_value(OsStr::new(word));
        self
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.origin.place.is_empty() {
            write!(f, "{}: ", self.origin.place)?;
        }
        f.write_str(&self.problem.message)?;
        let indent = match &self.origin.excerpt {
            Some(excerpt) => {
                excerpt.fmt(f)?;
                excerpt.number.len().max(1)
            }
            None => 1,
        };
        match &self.problem.hint {
            Some(hint) => write!(f, "\n{:indent$} = {hint}", ""),
            None => Ok(()),
        }
    }
}

/// A message and what was meant instead, not yet tied to a place.
#[derive(Debug)]
pub(super) struct Problem {
    message: String,
    hint: Option<String>,
    /// Which item of a list it is about, if it is about one.
    item: Option<usize>,
}

impl Problem {
    /// What is wrong, in one line.
    pub(super) fn new(message: impl AsRef<str>) -> Problem {
        Problem { message: printable(message.as_ref()), hint: None, item: None }
    }

    /// What was meant, in one line or several.
    pub(super) fn hint(self, hint: impl AsRef<str>) -> Problem {
        let lines: Vec<_> = hint.as_ref().split('\n').map(printable).collect();
        Problem { hint: Some(lines.join("\n")), ..self }
    }

    pub(super) fn in_item(self, index: usize) -> Problem {
        Problem { item: Some(index), ..self }
    }

    pub(super) fn item(&self) -> Option<usize> {
        self.item
    }
}

#[derive(Clone, Debug)]
struct Excerpt {
    number: String,
    text: String,
    /// In characters of `text`; nothing is underlined if it is empty.
    marked: Range<usize>,
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.number.len().max(1);
        if !self.number.is_empty() {
            write!(f, "\n{:width$} |", "")?;
        }
        write!(f, "\n{:width$} | {}", self.number, self.text)?;
        if !self.marked.is_empty() {
            let before = self.marked.start;
            write!(f, "\n{:width$} | {:before$}{}", "", "", "^".repeat(self.marked.len()))?;
        }
        Ok(())
    }
}

/// The text with every control character blanked, so that no value can drive a terminal or break
/// the message into lines of its own, and every caret stays below its character.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
