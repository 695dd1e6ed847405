#![allow(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::ptr;

use super::abi::{Buffer, KRB5, Oid};
use super::{Library, Output};

/// Where a major status holds what went wrong.
pub(super) const ERRORS: u32 = 0xffff_0000;
const BAD_MECH: u32 = 1 << 16;
const BAD_BINDINGS: u32 = 4 << 16;
const BAD_MIC: u32 = 6 << 16;
const NO_CRED: u32 = 7 << 16;
const DEFECTIVE_TOKEN: u32 = 9 << 16;
const DEFECTIVE_CREDENTIAL: u32 = 10 << 16;
const CREDENTIALS_EXPIRED: u32 = 11 << 16;
const CONTEXT_EXPIRED: u32 = 12 << 16;
const FAILURE: u32 = 13 << 16;
/// Of what the library has not told: none of its codes.
const NONE: u32 = u32::MAX;

/// Supplementary bits (RFC 2744 section 3.9.1).
pub(super) const CONTINUE_NEEDED: u32 = 1;
pub(super) const DUPLICATE_TOKEN: u32 = 1 << 1;
pub(super) const OLD_TOKEN: u32 = 1 << 2;
pub(super) const UNSEQ_TOKEN: u32 = 1 << 3;
pub(super) const GAP_TOKEN: u32 = 1 << 4;

/// Which of the two codes a text is for.
const MAJOR_CODE: i32 = 1;
const MINOR_CODE: i32 = 2;

/// How many messages of a code are asked for, and how many bytes are kept of all.
const MESSAGES_MAX: usize = 4;
const TEXT_MAX: usize = 500;

/// The library did not do what it was asked, and what it says of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    major: u32,
    minor: u32,
    text: String,
}

impl Status {
    /// The library has failed; the calling thread must be the one that called it.
    pub(super) fn of(library: &Library, major: u32, minor: u32) -> Status {
        let mut text = String::new();
        library.describe(MAJOR_CODE, major, &mut text);
        if minor != 0 {
            library.describe(MINOR_CODE, minor, &mut text);
        }
        Status { major, minor, text }
    }

    /// The library has succeeded in what cannot be.
    pub(super) fn odd(text: &str) -> Status {
        Status { major: NONE, minor: 0, text: text.into() }
    }

    /// Whether a token was refused because of what is in it: it is who sent it that is wrong.
    pub fn is_peers(&self) -> bool {
        match self.major & ERRORS {
            0 | BAD_MECH | BAD_BINDINGS | BAD_MIC | DEFECTIVE_TOKEN | DEFECTIVE_CREDENTIAL
            | CREDENTIALS_EXPIRED | CONTEXT_EXPIRED => true,
            // There are credentials, so there are none for its mechanism.
            NO_CRED => true,
            FAILURE => !is_ours(self.minor),
            _ => false,
        }
    }
}

/// Whether a minor status is about our keytab, replay cache, configuration or system. All others are
/// what comes of a token, among them such as have no number of their own.
fn is_ours(minor: u32) -> bool {
    const ERRNO_MAX: u32 = 4095;
    /// Where the numbers of krb5.h begin.
    const FIRST: u32 = -1_765_328_384_i32 as u32;
    match minor.wrapping_sub(FIRST) {
        // KRB5KRB_AP_ERR_NOKEY, KRB5_CONFIG_, KRB5_RC_ without KRB5_RC_REPLAY.
        45 | 135..=137 | 159..=162 | 164..=172 => true,
        // KRB5_CRYPTO_INTERNAL, KRB5_KT_, versions of files, KRB5_RC_REQUIRED, KRB5_KT_ again.
        178..=184 | 211..=213 | 215 | 229 | 235 => true,
        _ => (1..=ERRNO_MAX).contains(&minor),
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Status {}

impl Library {
    /// Adds what the library says of a code to `text`, without anything that moves a cursor.
    fn describe(&self, kind: i32, code: u32, text: &mut String) {
        let mech = Oid::of(KRB5);
        let mech = if kind == MINOR_CODE { &raw const mech } else { ptr::null() };
        let mut more = 0;
        for _ in 0..MESSAGES_MAX {
            let mut output = Output::new(self);
            let into: *mut Buffer = &mut output.buffer;
            let mut minor = 0;
            // SAFETY: `mech` is null or the identifier above, the rest are live places to write to.
            let major = unsafe {
                (self.functions.display_status)(&mut minor, code, kind, mech, &mut more, into)
            };
            if major & ERRORS != 0 {
                break;
            }
            if !text.is_empty() {
                text.push_str(": ");
            }
            let said = String::from_utf8_lossy(output.bytes());
            let room = TEXT_MAX.saturating_sub(text.len());
            text.extend(said.chars().take(room).map(|it| if it.is_control() { '?' } else { it }));
            if more == 0 {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_fault_it_is() {
        let of = |major, minor| Status { major, minor, text: String::new() };
        let peers = [DUPLICATE_TOKEN, OLD_TOKEN, BAD_MECH, NO_CRED, DEFECTIVE_TOKEN];
        assert!(peers.iter().all(|&major| of(major, 0).is_peers()));
        // KRB5KRB_AP_ERR_SKEW, KRB5KRB_AP_ERR_REPEAT, KRB5_BAD_ENCTYPE, KRB5_RC_REPLAY,
        // KRB5_NOPERM_ETYPE, ASN1_BAD_ID, none, and one that the library has made up for none.
        let theirs = [-1_765_328_347, -1_765_328_350, -1_765_328_196, -1_765_328_221];
        for minor in theirs.into_iter().chain([-1_765_328_148, 1_859_794_438, 0, 100_001]) {
            assert!(of(FAILURE, minor as u32).is_peers(), "{minor}");
        }
        // ENOENT, EMFILE, KRB5_KT_IOERR, KRB5_RC_IO_PERM, KRB5_CONFIG_BADFORMAT, KRB5KRB_AP_ERR_NOKEY.
        let ours = [2, 24, -1_765_328_200_i32, -1_765_328_215, -1_765_328_248, -1_765_328_339];
        for minor in ours {
            assert!(!of(FAILURE, minor as u32).is_peers(), "{minor}");
        }
        assert!(!of(1 << 24, 0).is_peers());
        assert!(!Status::odd("it names nobody").is_peers());
    }
}
