//! Users that are the system's.

use std::path::PathBuf;

/// How PAM is asked for users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pam {
    /// The service to be; PAM is not asked if `None`.
    pub service: Option<String>,
    /// The library, by its path or by a name that the linker knows.
    pub library: PathBuf,
    /// The folder of services; the system's if `None`.
    pub confdir: Option<PathBuf>,
}
