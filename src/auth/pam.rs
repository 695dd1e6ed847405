use std::error::Error;
use std::ffi::{CStr, CString};
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::{fmt, fs, io};

use zeroize::Zeroizing;

use super::Failure;
use crate::sys::LoadError;
use crate::sys::pam::{self, Library, Question, Refused, Refusing, Service};

/// Users whom the system's modules know (PAM).
pub struct Pam {
    library: Library,
    service: CString,
    confdir: Option<CString>,
}

/// Why nobody can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PamError {
    /// The library is not there.
    Library(LoadError),
    /// The service cannot be one's name.
    Name {
        /// What it is.
        service: String,
    },
    /// The folder of its configuration is none: PAM would not say more than that it gives up.
    Folder(String),
    /// The service's modules cannot be used.
    Service {
        /// Its name.
        service: String,
        /// What the library says.
        refused: Refused,
    },
}

impl fmt::Display for PamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PamError::Library(error) => write!(f, "PAM: {error}"),
            PamError::Name { service } => {
                write!(f, "PAM: service {service:?} cannot be the name of a file")
            }
            PamError::Folder(problem) => write!(f, "PAM: this is no folder: {problem}"),
            PamError::Service { service, refused } => {
                write!(f, "PAM: service {service:?}: {refused}")
            }
        }
    }
}

impl Error for PamError {}

impl Pam {
    /// Loads the library and looks for the service's modules, in `confdir` if that is given.
    pub fn open(service: &str, library: &Path, confdir: Option<&Path>) -> Result<Pam, PamError> {
        let named = || PamError::Name { service: service.into() };
        if service.is_empty() || service.contains('/') {
            return Err(named());
        }
        let confdir = confdir
            .map(path_of_folder)
            .transpose()
            .map_err(|problem| PamError::Folder(problem.to_string()))?;
        let pam = Pam {
            library: Library::open(library).map_err(PamError::Library)?,
            service: CString::new(service).map_err(|_| named())?,
            confdir,
        };
        let probed = pam.library.probe(pam.service());
        probed.map_err(|refused| PamError::Service { service: service.into(), refused })?;
        Ok(pam)
    }

    /// Whether there is this user, with this password, and may come from there. It blocks for as
    /// long as the modules like: never to be called on a reactor.
    ///
    /// An empty password is wrong: there are directories that take it for no question at all.
    pub fn check(&self, user: &[u8], password: &[u8], from: IpAddr) -> Result<(), Failure> {
        if user.is_empty() || password.is_empty() {
            return Err(Failure::WrongPassword);
        }
        let host = from.to_canonical().to_string();
        let [user, password, host] = [user, password, host.as_bytes()].map(terminated);
        let [user, password, host] = [text(&user)?, text(&password)?, text(&host)?];
        let question = Question { user, password, host };
        self.library.check(self.service(), question).map_err(|refused| {
            log::debug!("PAM: {refused}");
            failure(&refused)
        })
    }

    fn service(&self) -> Service<'_> {
        Service { name: &self.service, confdir: self.confdir.as_deref() }
    }
}

fn path_of_folder(path: &Path) -> io::Result<CString> {
    if !fs::metadata(path)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn terminated(field: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([field, &[0]].concat())
}

/// Fails on a NUL within: what PAM would see is another field than the client's.
fn text(terminated: &[u8]) -> Result<&CStr, Failure> {
    CStr::from_bytes_with_nul(terminated).map_err(|_| Failure::WrongPassword)
}

/// Whose fault it is. Who cannot say that a user is unknown or a password wrong is in trouble.
fn failure(refused: &Refused) -> Failure {
    match (refused.step, refused.code) {
        (Refusing::Authentication, pam::AUTH_ERR | pam::USER_UNKNOWN | pam::MAXTRIES) => {
            Failure::WrongPassword
        }
        (
            Refusing::Authentication | Refusing::Account,
            pam::PERM_DENIED
            | pam::ACCT_EXPIRED
            | pam::NEW_AUTHTOK_REQD
            | pam::AUTHTOK_EXPIRED
            | pam::CRED_EXPIRED,
        )
        | (Refusing::Account, pam::AUTH_ERR | pam::USER_UNKNOWN | pam::MAXTRIES) => {
            Failure::Account
        }
        _ => Failure::Broken,
    }
}
