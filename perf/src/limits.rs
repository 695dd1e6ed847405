//! What the system lets us have.

use std::io;

use rustix::process::{Resource, getrlimit, setrlimit};

/// Lets this process open as many files as it may be allowed.
pub fn raise_open_files() -> io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}
