//! Libraries that do what they are told, in the place of real ones (`tests/stubs`).

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A library in a folder of its own, so that what it counts is one test's.
pub struct Stub {
    folder: TempDir,
    library: PathBuf,
}

impl Stub {
    /// Builds `tests/stubs/NAME.c`.
    pub fn build(name: &str) -> Stub {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let source = root.join("tests/stubs").join(name).with_extension("c");
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join(name).with_extension("so");
        let built = Command::new("cc")
            .args(["-Wall", "-Wextra", "-Werror", "-O1", "-fPIC", "-shared", "-o"])
            .args([&library, &source])
            .output()
            .expect("cc");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Stub { folder, library }
    }

    /// Where it is.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// A folder that is gone with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// What the GSSAPI stub's client sends for its message of this number.
pub fn seal(number: u64, message: &[u8], is_encrypted: bool) -> Vec<u8> {
    let mut token = vec![b'S', b'T', is_encrypted.into(), 0];
    token.extend(number.to_be_bytes());
    let sum = sum_of(token.iter().chain(message));
    token.extend(sum.to_be_bytes());
    token.extend(message);
    token
}

/// The message of a token of the GSSAPI stub's, whether it is encrypted, and its number.
#[track_caller]
pub fn open(token: &[u8]) -> (&[u8], bool, u64) {
    let (header, message) = token.split_at_checked(16).expect("a token has 16 bytes");
    assert_eq!((&header[..2], header[3]), (&b"ST"[..], 1), "the token is not the stub's");
    assert_eq!(header[12..], sum_of(header[..12].iter().chain(message)).to_be_bytes());
    (message, header[2] != 0, u64::from_be_bytes(header[4..12].try_into().unwrap()))
}

fn sum_of<'a>(octets: impl Iterator<Item = &'a u8>) -> u32 {
    octets.fold(0, |sum: u32, &octet| sum.wrapping_mul(31).wrapping_add(octet.into()))
}
