//! How the real binary starts, ends what must end, reports, and stops.

#[path = "../support/mod.rs"]
mod support;

mod banning;
mod calls;
mod deadlines;
mod hang_ups;
mod limits;
mod passwords;
mod polling;
mod reloading;
mod reporting;
mod starting;
mod stopping;
mod users;

use std::io::Write;
use std::num::NonZero;
use std::thread;

use tempfile::NamedTempFile;

use crate::support::logins::log_in_from;

/// A temporary file that says this.
fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("room for a few lines");
    file
}

/// At most `wanted`, and no more than there are processors for us.
fn workers_possible(wanted: usize) -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(wanted)
}
