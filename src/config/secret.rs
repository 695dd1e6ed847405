//! A password, kept out of every message.

use std::fmt;

use zeroize::Zeroizing;

/// A password as configured. `Debug` shows `***`; the bytes are wiped when it is dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// The most bytes PASSWD can carry (RFC 1929 section 2); UNAME likewise.
    pub const MAX_LEN: usize = 255;

    /// Keeps a copy of `bytes`.
    pub(super) fn new(bytes: &[u8]) -> Secret {
        Secret(Zeroizing::new(bytes.to_vec()))
    }

    /// The password itself, for comparison only.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
