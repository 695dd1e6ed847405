use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::error::Error;
use std::fmt;

use super::Failure;
use super::hashes::{Hash, Stored};

/// The longest name or password, in bytes: RFC 1929 has one octet for its length.
pub const FIELD_MAX: usize = 255;

/// Who may come, and what each one's password must match.
#[derive(Default)]
pub struct Users {
    places: HashMap<Box<[u8]>, usize>,
    /// In the order of the file, so that a stranger finds the same one whenever it is read.
    stored: Vec<Stored>,
}

/// There is a user of this name already.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken;

/// What a name's password is compared with; a stranger's with somebody's.
#[derive(Clone, Copy)]
pub(super) struct Entrant<'a> {
    stored: Option<&'a Stored>,
    is_known: bool,
}

impl Users {
    /// Whether there is no user.
    pub(super) fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }

    /// Whether there is this user.
    pub(super) fn contains(&self, name: &[u8]) -> bool {
        self.places.contains_key(name)
    }

    /// Adds a user, whose name is bytes: a NUL is one like any other.
    pub(super) fn add(&mut self, name: &[u8], stored: Stored) -> Result<(), Taken> {
        match self.places.entry(name.into()) {
            Entry::Vacant(vacant) => vacant.insert(self.stored.len()),
            Entry::Occupied(_) => return Err(Taken),
        };
        self.stored.push(stored);
        Ok(())
    }

    /// Whom a name means. `choose` picks, of this many, whom a stranger is to look like: one name
    /// always the same, or time would tell it from a user's.
    pub(super) fn entrant(&self, name: &[u8], choose: impl FnOnce(usize) -> usize) -> Entrant<'_> {
        if self.is_empty() {
            return Entrant { stored: None, is_known: false };
        }
        // For a user, too: choosing takes a time of its own.
        let chosen = choose(self.stored.len());
        let place = self.places.get(name);
        Entrant { stored: self.stored.get(*place.unwrap_or(&chosen)), is_known: place.is_some() }
    }
}

impl<'a> Entrant<'a> {
    /// What it takes a while to compare with.
    pub(super) fn hash(&self) -> Option<&'a Hash> {
        match self.stored {
            Some(Stored::Hash(hash)) => Some(hash),
            _ => None,
        }
    }

    /// Whether it is who it says. A stranger's password is compared all the same.
    pub(super) fn verify(&self, passwd: &[u8]) -> Result<(), Failure> {
        let is_right = self.stored.map_or(Ok(false), |stored| stored.matches(passwd));
        match (self.is_known, is_right) {
            (false, _) => Err(Failure::UnknownUser),
            (true, Ok(true)) => Ok(()),
            (true, Ok(false)) => Err(Failure::WrongPassword),
            (true, Err(failure)) => Err(failure),
        }
    }
}

/// Fails on a name that cannot be written into a file, or that nobody means: empty, with a colon, a
/// control character or spaces around it, or longer than a client can send.
pub fn check_name(name: &[u8]) -> Result<(), NameError> {
    match name {
        [] => Err(NameError::Empty),
        [b'#', ..] => Err(NameError::Comment),
        _ if name.len() > FIELD_MAX => Err(NameError::TooLong),
        _ if name.contains(&b':') => Err(NameError::Colon),
        _ if name.iter().any(u8::is_ascii_control) => Err(NameError::Control),
        _ if name.trim_ascii() != name => Err(NameError::Space),
        _ => Ok(()),
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users {{ {} users, passwords: [redacted] }}", self.stored.len())
    }
}

/// What is wrong with a user's name, which is not repeated: it may be a password that stands in
/// the wrong place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// There is none.
    Empty,
    /// Its line would be a comment.
    Comment,
    /// No client can send it.
    TooLong,
    /// A colon ends it.
    Colon,
    /// A control character is in it.
    Control,
    /// A space is before or behind it.
    Space,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::Empty => f.write_str("there is no user's name"),
            NameError::Comment => f.write_str("a user's name cannot begin with #"),
            NameError::TooLong => {
                write!(f, "a user's name may have {FIELD_MAX} bytes, no client can send more")
            }
            NameError::Colon => f.write_str("a user's name cannot have a colon in it"),
            NameError::Control => f.write_str("a user's name cannot have control characters in it"),
            NameError::Space => f.write_str("a user's name cannot begin or end with a space"),
        }
    }
}

impl Error for NameError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::strategies;

    fn plain(passwd: &[u8]) -> Stored {
        match Stored::parse(&[b"plain:", passwd].concat()) {
            Ok(stored) => stored,
            Err(problem) => panic!("{}: {problem}", passwd.escape_ascii()),
        }
    }

    fn compiled<N: AsRef<[u8]>, P: AsRef<[u8]>>(list: impl IntoIterator<Item = (N, P)>) -> Users {
        let mut users = Users::default();
        for (name, passwd) in list {
            users.add(name.as_ref(), plain(passwd.as_ref())).expect("no name comes twice");
        }
        users
    }

    fn knows(users: &Users, uname: &[u8], passwd: &[u8]) -> bool {
        users.entrant(uname, |_| 0).verify(passwd).is_ok()
    }

    #[test]
    fn only_the_very_name_and_password_pass() {
        let users = compiled([("alice", "wonder"), ("bob", "builder")]);
        assert!(!users.is_empty());
        assert!(knows(&users, b"alice", b"wonder"));
        assert!(knows(&users, b"bob", b"builder"));
        for (uname, passwd) in [
            ("alice", "builder"),
            ("alice", "wonde"),
            ("alice", "wonder\0"),
            ("alice", "Wonder"),
            ("alice", ""),
            ("alice\0", "wonder"),
            ("Alice", "wonder"),
            ("carol", "wonder"),
            ("carol", ""),
            ("", ""),
            ("", "wonder"),
        ] {
            assert!(!knows(&users, uname.as_bytes(), passwd.as_bytes()), "{uname:?} {passwd:?}");
        }
    }

    #[test]
    fn empty_names_and_passwords_pass_where_they_are_configured() {
        let users = compiled([("guest", ""), ("", "")]);
        assert!(knows(&users, b"guest", b""));
        assert!(knows(&users, b"", b""));
        assert!(!knows(&users, b"guest", b"\0"));
        assert!(!knows(&users, b"other", b""));
    }

    #[test]
    fn nobody_passes_where_there_are_no_users() {
        let users = Users::default();
        assert!(users.is_empty());
        assert!(!knows(&users, b"", b""));
        assert!(!knows(&users, b"alice", b"wonder"));
    }

    #[test]
    fn the_longest_that_a_client_can_send_is_a_user() {
        let (longest, long) = ([b'x'; FIELD_MAX], [b'x'; FIELD_MAX + 1]);
        let users = compiled([(longest, longest)]);
        assert!(knows(&users, &longest, &longest));
        assert!(!knows(&users, &longest, &long));
        assert!(!knows(&users, &long, &longest));
        assert_eq!(check_name(&longest), Ok(()));
        assert_eq!(check_name(&long), Err(NameError::TooLong));
    }

    #[test]
    fn a_name_is_added_once() {
        let mut users = compiled([("alice", "wonder")]);
        for passwd in [&b"wonder"[..], b"other"] {
            assert_eq!(users.add(b"alice", plain(passwd)), Err(Taken));
        }
        assert!(knows(&users, b"alice", b"wonder"));
        assert!(!knows(&users, b"alice", b"other"));
    }

    #[test]
    fn debug_output_has_no_password() {
        let users = compiled([("alice", "wonder")]);
        assert_eq!(format!("{users:?}"), "Users { 1 users, passwords: [redacted] }");
    }

    proptest! {
        #[test]
        fn verifying_agrees_with_looking_up(
            list in prop::collection::hash_map(strategies::field(), strategies::field(), 0..5),
            stranger in strategies::field(),
            guess in strategies::field(),
        ) {
            let users = compiled(&list);
            prop_assert_eq!(users.is_empty(), list.is_empty());
            let names = list.keys().chain([&stranger]);
            let guesses: Vec<_> = list.values().chain([&guess]).collect();
            for name in names {
                for guess in &guesses {
                    prop_assert_eq!(knows(&users, name, guess), list.get(name) == Some(*guess));
                }
            }
        }
    }
}
