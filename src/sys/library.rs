#![allow(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::path::Path;

use libloading::os::unix;

/// A library that is loaded while we run (`dlopen(3)`), so that nobody needs it who does not use it.
///
/// It stays loaded when this is dropped: its functions, and what it keeps for each thread, are good
/// for as long as the process is.
pub(super) struct Library {
    handle: unix::Library,
    name: Box<Path>,
    package: &'static str,
}

impl Library {
    /// The library of this path, or of this name where the system looks for libraries; `package`
    /// usually has it.
    pub(super) fn open(name: &Path, package: &'static str) -> Result<Library, LoadError> {
        let flags = unix::RTLD_NOW | unix::RTLD_LOCAL | libc::RTLD_NODELETE;
        // SAFETY: what the operator names is run, as any library of this program is.
        let opened = unsafe { unix::Library::open(Some(name), flags) };
        match opened {
            Ok(handle) => Ok(Library { handle, name: name.into(), package }),
            Err(error) => Err(LoadError { name: name.into(), reason: said(&error), package }),
        }
    }

    /// One of its functions.
    ///
    /// # Safety
    ///
    /// `F` must be the type of a pointer to the function that has this name.
    pub(super) unsafe fn function<F: Copy>(&self, name: &'static str) -> Result<F, LoadError> {
        // SAFETY: the caller knows its type, and the library is never unloaded.
        let found = unsafe { self.handle.get::<F>(name) };
        match found {
            Ok(function) => Ok(*function),
            Err(_) => Err(self.lacks(name)),
        }
    }

    fn lacks(&self, function: &str) -> LoadError {
        let reason = format!("it has no function {function}");
        LoadError { name: self.name.clone(), reason, package: self.package }
    }
}

/// What the loader says of it.
fn said(error: &libloading::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// A library that is not there, or not the one that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    name: Box<Path>,
    reason: String,
    package: &'static str,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LoadError { name, reason, package } = self;
        write!(f, "library {name:?} cannot be used: {reason} (Debian has it in {package})")
    }
}

impl Error for LoadError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named_with_its_package() {
        let Err(error) = Library::open(Path::new("libnone-such.so.7"), "libnone-such7") else {
            panic!("there is no such library");
        };
        let text = error.to_string();
        assert!(text.starts_with("library \"libnone-such.so.7\" cannot be used: "), "{text}");
        assert!(text.contains("No such file"), "{text}");
        assert!(text.ends_with("(Debian has it in libnone-such7)"), "{text}");
    }

    #[test]
    fn a_function_that_is_missing_is_named() {
        let libc = Library::open(Path::new("libc.so.6"), "libc6").unwrap();
        // SAFETY: it is getpid(2)'s type.
        let getpid = unsafe { libc.function::<unsafe extern "C" fn() -> i32>("getpid") }.unwrap();
        // SAFETY: it takes nothing and always succeeds.
        assert_eq!(unsafe { getpid() }, std::process::id() as i32);
        // SAFETY: nothing is called.
        let none = unsafe { libc.function::<unsafe extern "C" fn()>("none_such") }.unwrap_err();
        assert_eq!(
            none.to_string(),
            "library \"libc.so.6\" cannot be used: it has no function none_such (Debian has it in libc6)"
        );
    }
}
