//! Passwords, kept out of every message.

use std::fmt;

use zeroize::Zeroizing;

/// Something nobody else may know. `Debug` shows `***`; the bytes are wiped when it is dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// The most bytes PASSWD can carry (RFC 1929 section 2); UNAME likewise.
    pub const MAX_LEN: usize = 255;

    /// Keeps a copy of `bytes`.
    pub(super) fn new(bytes: &[u8]) -> Secret {
        Secret(Zeroizing::new(bytes.to_vec()))
    }

    /// The bytes themselves, for comparison only.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A user's password as configured. `Debug` does not even tell which of them it is.
#[derive(Clone)]
pub enum Password {
    /// Itself, no longer than [`Secret::MAX_LEN`].
    Plain(Secret),
    /// A hash of it, with the scheme that it begins with: `$argon2id$...`. Whether it is one is not
    /// known yet.
    Hash(Secret),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Password::Plain(secret) | Password::Hash(secret)) = self;
        secret.fmt(f)
    }
}
