//! Kerberos' GSSAPI (RFC 2744), as far as a server needs it, behind faces that cannot be misused.

#![allow(unsafe_code)]

mod abi;
mod context;
mod lucid;
mod status;

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::slice;
use std::sync::Arc;

use self::abi::{ACCEPT, Buffer, Cred, Functions, HOSTBASED_SERVICE, INDEFINITE, KRB5, Name};
use self::abi::{KeyValue, KeyValues, Oid, OidSet};
use self::status::ERRORS;
use super::library;
use super::library::LoadError;

pub use self::context::{Accepting, Context, Flags, Opened, Order, Peers, Step};
pub use self::lucid::{Key, Lucid};
pub use self::status::Status;

/// Debian's package of the library that is usual.
const PACKAGE: &str = "libgssapi-krb5-2";

/// The library's functions.
#[derive(Clone)]
pub struct Library {
    functions: Arc<Functions>,
}

impl Library {
    /// Loads it by its path, or by its name from where the system has libraries.
    pub fn open(name: &Path) -> Result<Library, LoadError> {
        let functions = Functions::of(&library::Library::open(name, PACKAGE)?)?;
        Ok(Library { functions: Arc::new(functions) })
    }

    /// What contexts are accepted with, Kerberos' alone: the keys of this service (`rcmd`, on any
    /// host) in this keytab. Without a service any key will do, without a keytab the library's
    /// default is read.
    ///
    /// The library reads the keytab again for each context.
    pub fn acquire(
        &self,
        service: Option<&str>,
        keytab: Option<&OsStr>,
    ) -> Result<Credentials, Status> {
        let name = service.map(|service| self.import(service)).transpose()?;
        let name = name.as_ref().map_or(ptr::null_mut(), |name| name.raw);
        let keytab = keytab.map(|keytab| CString::new(keytab.as_bytes())).transpose();
        let keytab = keytab.map_err(|_| Status::odd("a keytab's name cannot hold a NUL"))?;
        let element =
            keytab.as_ref().map(|it| KeyValue { key: c"keytab".as_ptr(), value: it.as_ptr() });
        let store = element.as_ref().map(|elements| KeyValues { count: 1, elements });
        let store: *const KeyValues = store.as_ref().map_or(ptr::null(), |store| store);
        let mech = Oid::of(KRB5);
        let mechs = OidSet { count: 1, elements: &mech };
        let (mut minor, mut raw, nowhere) = (0, ptr::null_mut(), ptr::null_mut());
        // SAFETY: the name is null or the library's, the store null or one pair of strings that live
        // till the end of this function, as the mechanism does.
        let major = unsafe {
            (self.functions.acquire_cred_from)(
                &mut minor,
                name,
                INDEFINITE,
                &mechs,
                ACCEPT,
                store,
                &mut raw,
                ptr::null_mut(),
                nowhere,
            )
        };
        let credentials = Credentials { library: self.clone(), raw };
        self.check(major, minor)?;
        Ok(credentials)
    }

    fn import(&self, service: &str) -> Result<OwnedName<'_>, Status> {
        let kind = Oid::of(HOSTBASED_SERVICE);
        let mut name = OwnedName { library: self, raw: ptr::null_mut() };
        let mut minor = 0;
        // SAFETY: the text and its kind are copied; `name.raw` is a live place to write to.
        let major = unsafe {
            let text = Buffer::of(service.as_bytes());
            (self.functions.import_name)(&mut minor, &text, &kind, &mut name.raw)
        };
        self.check(major, minor)?;
        Ok(name)
    }

    /// The supplementary bits of a call that has succeeded.
    fn check(&self, major: u32, minor: u32) -> Result<u32, Status> {
        match major & ERRORS {
            0 => Ok(major),
            _ => Err(Status::of(self, major, minor)),
        }
    }
}

/// What contexts are accepted with, by many threads at once.
pub struct Credentials {
    library: Library,
    raw: Cred,
}

// SAFETY: the library locks credentials while it uses them, and no thread owns them.
unsafe impl Send for Credentials {}
// SAFETY: as above.
unsafe impl Sync for Credentials {}

impl Drop for Credentials {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: they are the library's, or null, and nobody has them after this.
        unsafe { (self.library.functions.release_cred)(&mut minor, &mut self.raw) };
    }
}

/// A name that the library has made.
struct OwnedName<'a> {
    library: &'a Library,
    raw: Name,
}

impl OwnedName<'_> {
    /// Its text, unless it is nobody's.
    fn text(&self) -> Result<Box<[u8]>, Status> {
        if self.raw.is_null() {
            return Err(Status::odd("the library names nobody"));
        }
        let mut output = Output::new(self.library);
        let into: *mut Buffer = &mut output.buffer;
        let mut minor = 0;
        // SAFETY: the name is the library's; what it is written to is live; its kind is not asked.
        let major = unsafe {
            (self.library.functions.display_name)(&mut minor, self.raw, into, ptr::null_mut())
        };
        self.library.check(major, minor)?;
        match output.bytes() {
            [] => Err(Status::odd("the library names somebody without a name")),
            text => Ok(text.into()),
        }
    }
}

impl Drop for OwnedName<'_> {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: it is the library's, or null, and nobody has it after this.
        unsafe { (self.library.functions.release_name)(&mut minor, &mut self.raw) };
    }
}

/// Bytes that the library has allocated.
struct Output<'a> {
    library: &'a Library,
    buffer: Buffer,
}

impl<'a> Output<'a> {
    fn new(library: &'a Library) -> Output<'a> {
        Output { library, buffer: Buffer::EMPTY }
    }

    fn bytes(&self) -> &[u8] {
        match (self.buffer.value.is_null(), self.buffer.length) {
            (false, length @ 1..) if length <= isize::MAX as usize => {
                // SAFETY: the library says that so many bytes are there, until they are released.
                unsafe { slice::from_raw_parts(self.buffer.value.cast(), length) }
            }
            _ => &[],
        }
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: it is empty or the library's, and nothing borrows from it any more.
        unsafe { (self.library.functions.release_buffer)(&mut minor, &mut self.buffer) };
    }
}
