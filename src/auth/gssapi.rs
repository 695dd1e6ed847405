use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::principals::{Principal, Principals};
use super::{Acceptor, FIELD_MAX, Failure, Mechanism, Stepped, sealed};
use crate::proto::gssapi::TOKEN_MAX;
use crate::sys::gssapi::{Accepting, Context, Credentials, Flags, Library, Status, Step};
use crate::sys::{self, LoadError};

/// A keytab of some thousands of keys.
const KEYTAB_MAX: u64 = 1 << 20;

/// Security contexts by Kerberos' own library.
pub struct Gssapi {
    terms: Arc<Terms>,
}

/// What contexts are accepted with, and whose.
pub struct GssapiSettings {
    /// The library's path, or its name.
    pub library: PathBuf,
    /// Where our keys are; otherwise where the library has them by default.
    pub keytab: Option<OsString>,
    /// Which of them count, as `rcmd`; otherwise any does.
    pub service: Option<String>,
    /// Whose principals may come; none means those of our service's own realm.
    pub realms: Vec<String>,
    /// Who they are here.
    pub principals: Principals,
    /// Whether a context must be able to encrypt.
    pub is_confidential: bool,
}

/// Why there is no GSSAPI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GssapiError {
    /// The library is not there.
    Library(LoadError),
    /// The keytab is none.
    Keytab {
        /// Its name.
        keytab: Option<OsString>,
        /// Why.
        problem: &'static str,
    },
    /// It finds no key of ours.
    Credentials {
        /// The keytab that was named.
        keytab: Option<OsString>,
        /// The service that was named.
        service: Option<String>,
        /// What the library says.
        status: Status,
    },
}

impl fmt::Display for GssapiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GssapiError::Library(error) => write!(f, "GSSAPI: {error}"),
            GssapiError::Keytab { keytab, problem } => {
                write!(f, "GSSAPI: keytab {:?}: {problem}", keytab.as_deref().unwrap_or_default())
            }
            GssapiError::Credentials { keytab, service, status } => {
                f.write_str("GSSAPI: no key")?;
                if let Some(service) = service {
                    write!(f, " of service {service:?}")?;
                }
                match keytab {
                    Some(keytab) => write!(f, " in keytab {keytab:?}")?,
                    None => f.write_str(" in the default keytab")?,
                }
                write!(f, ": {status}")
            }
        }
    }
}

impl Error for GssapiError {}

struct Terms {
    credentials: Arc<Credentials>,
    /// What the library reads our keys from.
    _keys: Option<File>,
    realms: Vec<String>,
    principals: Principals,
    flags: Flags,
}

impl Gssapi {
    /// Loads the library and looks for our keys.
    pub fn open(settings: GssapiSettings) -> Result<Arc<dyn Mechanism>, GssapiError> {
        let GssapiSettings { library, keytab, service, realms, principals, is_confidential } =
            settings;
        let library = Library::open(&library).map_err(GssapiError::Library)?;
        let keys = match keytab.as_deref().map(copy).transpose() {
            Ok(keys) => keys.flatten(),
            Err(problem) => return Err(GssapiError::Keytab { keytab, problem }),
        };
        let path = keys.as_ref().map(|keys| format!("/proc/self/fd/{}", keys.as_raw_fd()).into());
        let credentials = library
            .acquire(service.as_deref(), path.as_ref().or(keytab.as_ref()).map(OsString::as_os_str))
            .map_err(|status| GssapiError::Credentials { keytab, service, status })?;
        let protected = Flags::MUTUAL | Flags::INTEGRITY | Flags::REPLAY;
        let flags = if is_confidential { protected | Flags::CONFIDENTIALITY } else { protected };
        let credentials = Arc::new(credentials);
        let terms = Terms { credentials, _keys: keys, realms, principals, flags };
        Ok(Arc::new(Gssapi { terms: Arc::new(terms) }))
    }
}

/// A keytab as it is now, for the library reads its file for each context anew, and half of one that
/// is being written would be no keytab. What is not there, or no file, the library is to judge by
/// itself.
fn copy(keytab: &OsStr) -> Result<Option<File>, &'static str> {
    let name = keytab.as_bytes();
    let path = name.strip_prefix(b"FILE:").unwrap_or(name);
    // A FIFO would have us wait for its writer.
    let file =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(OsStr::from_bytes(path));
    let Ok(file) = file else { return Ok(None) };
    if !file.metadata().is_ok_and(|it| it.is_file()) {
        return Err("it is not a regular file");
    }
    // Room enough at once: a vector that moves would leave keys behind.
    let mut keys = Zeroizing::new(Vec::with_capacity(KEYTAB_MAX as usize + 1));
    if file.take(KEYTAB_MAX + 1).read_to_end(&mut keys).is_err() {
        return Ok(None);
    }
    if keys.len() as u64 > KEYTAB_MAX {
        return Err("it is larger than 1 MiB");
    }
    let copied =
        sys::memory_file(c"keytab").and_then(|mut copy| copy.write_all(&keys).map(|()| copy));
    copied.map(Some).map_err(|_| "there is no memory for a copy of it")
}

impl Mechanism for Gssapi {
    fn begin(&self) -> Box<dyn Acceptor> {
        let accepting = Accepting::new(&self.terms.credentials);
        Box::new(Beginning { accepting, terms: Arc::clone(&self.terms) })
    }
}

/// A context that is not established yet.
struct Beginning {
    accepting: Accepting,
    terms: Arc<Terms>,
}

impl Acceptor for Beginning {
    fn step(self: Box<Self>, token: &[u8]) -> Stepped {
        let Beginning { accepting, terms } = *self;
        if token.is_empty() {
            return Stepped::Failed { user: None, failure: Failure::Token };
        }
        match accepting.accept(token) {
            Ok(Step::Continue { answer, .. } | Step::Complete { answer, .. })
                if answer.len() > TOKEN_MAX =>
            {
                log::debug!("GSSAPI: a token of {} bytes cannot be sent", answer.len());
                Stepped::Failed { user: None, failure: Failure::Broken }
            }
            // A token that was changed can make the library wait for another, though it has nothing
            // to say: without an answer there will be none.
            Ok(Step::Continue { answer, .. }) if answer.is_empty() => {
                log::debug!("GSSAPI: the library waits without a token");
                Stepped::Failed { user: None, failure: Failure::Token }
            }
            Ok(Step::Continue { accepting, answer }) => {
                Stepped::Continue { acceptor: Box::new(Beginning { accepting, terms }), answer }
            }
            Ok(Step::Complete { context, answer }) => terms.admit(context, answer),
            Err(status) => {
                log::debug!("GSSAPI: no context: {status}");
                let failure = if status.is_peers() { Failure::Token } else { Failure::Broken };
                Stepped::Failed { user: None, failure }
            }
        }
    }
}

impl Terms {
    /// Looks whose context it is.
    fn admit(&self, context: Context, answer: Vec<u8>) -> Stepped {
        let peers = match context.peers() {
            Ok(peers) => peers,
            Err(status) => {
                log::debug!("GSSAPI: a context is nobody's: {status}");
                return Stepped::Failed { user: None, failure: Failure::Broken };
            }
        };
        let client = &peers.client[..peers.client.len().min(FIELD_MAX)];
        let failed = |failure| Stepped::Failed { user: Some(client.into()), failure };
        if !peers.is_kerberos || !peers.flags.contain(self.flags) {
            return failed(Failure::Protection);
        }
        let Some(service) = Principal::parse(&peers.service) else {
            return failed(Failure::Broken);
        };
        let user = Principal::parse(&peers.client)
            .filter(|_| !peers.flags.contain(Flags::ANONYMOUS))
            .filter(|client| self.is_realm_ours(client.realm(), service.realm()))
            .and_then(|client| self.principals.user(&client));
        let Some(user) = user else { return failed(Failure::Principal) };
        match sealed::seal(context, peers.flags) {
            Ok(seal) => Stepped::Established { seal, user, answer },
            Err(failure) => failed(failure),
        }
    }

    fn is_realm_ours(&self, realm: &[u8], own: &[u8]) -> bool {
        match &self.realms[..] {
            [] => realm == own,
            realms => realms.iter().any(|ours| ours.as_bytes() == realm),
        }
    }
}
