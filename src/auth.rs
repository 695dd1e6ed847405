//! Who a client is: names and passwords (RFC 1929).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::error::Error;
use std::fmt;

use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::proto::socks5::Credentials;

/// The longest name or password, in bytes: more cannot be said on the wire.
pub const FIELD_MAX: usize = 255;

/// The users of a listener. Without any, no client is asked who it is.
pub struct Users {
    passwords: HashMap<Box<[u8]>, Padded>,
    /// What an unknown user's password is compared with.
    dummy: Padded,
}

/// A length octet and a password padded to [`FIELD_MAX`], so that comparing takes the same time
/// whatever the password is. Boxed, because moving it would leave copies that nobody wipes.
type Padded = Box<Zeroizing<[u8; 1 + FIELD_MAX]>>;

impl Users {
    /// Users by name and password; both are bytes, and a NUL is one like any other.
    ///
    /// Fails on a name or password that no client can send, and on a name that comes twice.
    pub fn new<N, P>(users: impl IntoIterator<Item = (N, P)>) -> Result<Users, UsersError>
    where
        N: AsRef<[u8]>,
        P: AsRef<[u8]>,
    {
        let mut passwords = HashMap::new();
        for (name, passwd) in users {
            let name = name.as_ref();
            let Some(passwd) = pad(passwd.as_ref()).filter(|_| name.len() <= FIELD_MAX) else {
                return Err(UsersError::TooLong { name: name.into() });
            };
            match passwords.entry(name.into()) {
                Entry::Vacant(vacant) => vacant.insert(passwd),
                Entry::Occupied(_) => return Err(UsersError::Twice { name: name.into() }),
            };
        }
        Ok(Users { passwords, dummy: zeros() })
    }

    /// No users at all.
    pub fn none() -> Users {
        Users { passwords: HashMap::new(), dummy: zeros() }
    }

    /// Whether there is no user.
    pub fn is_empty(&self) -> bool {
        self.passwords.is_empty()
    }

    /// Whether there is this user with this password. A wrong password takes as long to refuse as
    /// an unknown user.
    pub fn verify(&self, credentials: &Credentials<'_>) -> bool {
        let Some(passwd) = pad(credentials.passwd) else { return false };
        let (expected, known) = match self.passwords.get(credentials.uname) {
            Some(expected) => (expected, Choice::from(1)),
            None => (&self.dummy, Choice::from(0)),
        };
        (expected.ct_eq(passwd.as_slice()) & known).into()
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users {{ {} users, passwords: [redacted] }}", self.passwords.len())
    }
}

/// What is wrong with a list of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsersError {
    /// The name or its password is longer than [`FIELD_MAX`].
    TooLong {
        /// The user's name.
        name: Box<[u8]>,
    },
    /// The name comes more than once.
    Twice {
        /// The user's name.
        name: Box<[u8]>,
    },
}

impl fmt::Display for UsersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UsersError::TooLong { name } => write!(
                f,
                "user \"{}\": name and password may have {FIELD_MAX} bytes each, no client can send more",
                name.escape_ascii()
            ),
            UsersError::Twice { name } => {
                write!(f, "user \"{}\" is there more than once", name.escape_ascii())
            }
        }
    }
}

impl Error for UsersError {}

fn zeros() -> Padded {
    Box::new(Zeroizing::new([0; 1 + FIELD_MAX]))
}

fn pad(passwd: &[u8]) -> Option<Padded> {
    let len = u8::try_from(passwd.len()).ok()?;
    let mut padded = zeros();
    padded[0] = len;
    padded[1..=passwd.len()].copy_from_slice(passwd);
    Some(padded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::strategies;

    fn knows(users: &Users, uname: &[u8], passwd: &[u8]) -> bool {
        users.verify(&Credentials { uname, passwd })
    }

    #[test]
    fn only_the_very_name_and_password_pass() {
        let users = Users::new([("alice", "wonder"), ("bob", "builder")]).unwrap();
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
        let users = Users::new([("guest", ""), ("", "")]).unwrap();
        assert!(knows(&users, b"guest", b""));
        assert!(knows(&users, b"", b""));
        assert!(!knows(&users, b"guest", b"\0"));
        assert!(!knows(&users, b"other", b""));
    }

    #[test]
    fn nobody_passes_where_there_are_no_users() {
        let users = Users::none();
        assert!(users.is_empty());
        assert!(!knows(&users, b"", b""));
        assert!(!knows(&users, b"alice", b"wonder"));
    }

    #[test]
    fn what_no_client_can_send_is_an_error() {
        let (longest, long) = ([b'x'; FIELD_MAX], [b'x'; FIELD_MAX + 1]);
        let users = Users::new([(longest, longest)]).unwrap();
        assert!(knows(&users, &longest, &longest));
        assert!(!knows(&users, &longest, &long));

        let error = Users::new([(&b"alice"[..], &long[..])]).unwrap_err();
        assert_eq!(error, UsersError::TooLong { name: b"alice"[..].into() });
        let error = Users::new([(&long[..], &b"wonder"[..])]).unwrap_err();
        assert_eq!(error, UsersError::TooLong { name: long[..].into() });
        let error = Users::new([("alice", "a"), ("alice", "a")]).unwrap_err();
        assert_eq!(error.to_string(), "user \"alice\" is there more than once");
    }

    #[test]
    fn debug_output_has_no_password() {
        let users = Users::new([("alice", "wonder")]).unwrap();
        assert_eq!(format!("{users:?}"), "Users { 1 users, passwords: [redacted] }");
    }

    proptest! {
        #[test]
        fn verifying_agrees_with_looking_up(
            users in prop::collection::hash_map(strategies::field(), strategies::field(), 0..5),
            stranger in strategies::field(),
            guess in strategies::field(),
        ) {
            let compiled = Users::new(&users).unwrap();
            prop_assert_eq!(compiled.is_empty(), users.is_empty());
            let names = users.keys().chain([&stranger]);
            let guesses: Vec<_> = users.values().chain([&guess]).collect();
            for name in names {
                for guess in &guesses {
                    prop_assert_eq!(knows(&compiled, name, guess), users.get(name) == Some(*guess));
                }
            }
        }
    }
}
