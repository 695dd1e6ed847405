//! Which security contexts are accepted, and who their principals are here.

use std::path::PathBuf;

use super::choice::Choice;
use super::principals::PrincipalRule;

/// Which security contexts are accepted, and who their principals are here (RFC 1961).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gssapi {
    /// The library, by its path or by a name that the linker knows.
    pub library: PathBuf,
    /// The keys; the library's default if `None`.
    pub keytab: Option<String>,
    /// The service that clients ask for; any that there is a key of if `None`.
    pub service: Option<String>,
    /// The realms that principals may be of, never none; our service's own if `None`.
    pub realms: Option<Vec<String>>,
    /// Who principals are here; the first that fits counts, and nobody is who fits none.
    pub principals: Vec<PrincipalRule>,
    /// What every message must be protected by.
    pub require: Protection,
    /// Whether messages may go unprotected where a client asks for it (level 0).
    pub clear: bool,
}

/// What protects a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Nobody can change it.
    Integrity,
    /// Nobody can read it either.
    Confidentiality,
}

impl Choice for Protection {
    const KIND: &'static str = "protection";
    const ALL: &'static [Self] = &[Protection::Integrity, Protection::Confidentiality];
    const ELSEWHERE: &'static [(&'static str, Self)] = &[
        ("encryption", Protection::Confidentiality),
        ("conf", Protection::Confidentiality),
        ("privacy", Protection::Confidentiality),
    ];

    fn word(self) -> &'static str {
        match self {
            Protection::Integrity => "integrity",
            Protection::Confidentiality => "confidentiality",
        }
    }
}
