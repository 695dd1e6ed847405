//! Values that are one word of a few.

use super::error::Problem;
use super::schema;

/// One of a few things, each written as a word.
pub(super) trait Choice: Copy + 'static {
    /// What a word that is none of them is not: `"x" is no way to relay`.
    const KIND: &'static str;
    /// All there are, in the order they are told.
    const ALL: &'static [Self];
    /// What they are called elsewhere, letters only.
    const ELSEWHERE: &'static [(&'static str, Self)] = &[];

    fn word(self) -> &'static str;

    fn parse(text: &str) -> Result<Self, Problem> {
        match Self::ALL.iter().find(|known| known.word() == text) {
            Some(&known) => Ok(known),
            None => Err(unknown::<Self>(text)),
        }
    }

    /// As a file would have it.
    fn show(self) -> String {
        format!("\"{}\"", self.word())
    }
}

fn unknown<T: Choice>(text: &str) -> Problem {
    let elsewhere = || {
        let letters: String = text.chars().filter(|c| c.is_alphanumeric()).collect();
        let mut known = T::ELSEWHERE.iter();
        known.find(|(name, _)| letters.eq_ignore_ascii_case(name)).map(|(_, choice)| choice.word())
    };
    let near = schema::nearest(text, T::ALL.iter().map(|choice| choice.word()));
    let problem = Problem::new(format!("{text:?} is no {}", T::KIND));
    match near.or_else(elsewhere) {
        Some(near) => problem.hint(format!("did you mean \"{near}\"?")),
        None => problem.hint(words::<T>()),
    }
}

/// All of them: `"auto", "copy" or "splice"`.
pub(super) fn words<T: Choice>() -> String {
    let mut words: Vec<_> = T::ALL.iter().map(|choice| choice.show()).collect();
    let last = words.pop().unwrap_or_default();
    match words.is_empty() {
        true => last,
        false => format!("{} or {last}", words.join(", ")),
    }
}
