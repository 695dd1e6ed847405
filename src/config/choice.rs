//! Values that are one word of a few.

use super::error::Problem;
use super::schema;

/// One of a few things, each written as a word.
pub(super) trait Choice: Copy + 'static {
    /// What a word that is none of them is not: `this is no way to relay`.
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
    let problem = Problem::new(format!("this is no {}", T::KIND));
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

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::super::{
        AuthMethod, ClientCheck, Filter, Fragments, ListenCommand, Polling, Protection, RelayMode,
    };
    use super::*;

    fn assert_reads_back<T: Choice + Debug + PartialEq>(number: usize) {
        assert_eq!(T::ALL.len(), number, "{:?}", T::ALL);
        for (index, &choice) in T::ALL.iter().enumerate() {
            assert_eq!(T::parse(choice.word()).ok(), Some(choice), "no word is that of two");
            assert!(!T::ALL[..index].contains(&choice), "{choice:?} stands there twice");
        }
        for (name, choice) in T::ELSEWHERE {
            let problem = format!("{:?}", T::parse(name).unwrap_err());
            assert!(problem.contains(&format!("did you mean \\\"{}\\\"?", choice.word())));
        }
    }

    #[test]
    fn every_word_reads_back() {
        assert_reads_back::<RelayMode>(3);
        assert_reads_back::<Polling>(2);
        assert_reads_back::<ListenCommand>(3);
        assert_reads_back::<ClientCheck>(3);
        assert_reads_back::<Filter>(3);
        assert_reads_back::<Fragments>(2);
        assert_reads_back::<AuthMethod>(3);
        assert_reads_back::<Protection>(2);
    }

    #[test]
    fn all_words_are_told_as_in_a_sentence() {
        assert_eq!(words::<RelayMode>(), "\"auto\", \"copy\" or \"splice\"");
        assert_eq!(words::<Fragments>(), "\"reassemble\" or \"drop\"");
    }
}
