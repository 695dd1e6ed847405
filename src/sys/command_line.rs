#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::ops::Range;
use std::ptr;
use std::slice;

/// Overwrites what `secret` picks of each argument of this process, so that `/proc/PID/cmdline` and
/// `ps` show it no more. Fails once there is a second thread.
pub fn hide_in_arguments(secret: impl Fn(&[u8]) -> Range<usize>) -> io::Result<()> {
    hide(ARGUMENTS, secret)
}

/// Overwrites what `secret` picks of each `NAME=VALUE` that this process was started with, so that
/// `/proc/PID/environ` shows it no more, and `getenv(3)` neither. Fails once there is a second
/// thread.
pub fn hide_in_environment(secret: impl Fn(&[u8]) -> Range<usize>) -> io::Result<()> {
    hide(ENVIRONMENT, secret)
}

/// Where proc_pid_stat(5) says that the strings begin: `arg_start` and `env_start`, counted from the
/// field behind the name. Their end is the next field.
const ARGUMENTS: usize = 45;
const ENVIRONMENT: usize = 47;

fn hide(first_field: usize, secret: impl Fn(&[u8]) -> Range<usize>) -> io::Result<()> {
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("there is more than one thread"));
    }
    let strings = strings(first_field)?;
    // SAFETY: the kernel has put the strings there, writable and for as long as the process lives.
    // This is the only thread, and while the slice lives it calls nothing that reads them: std has
    // given out copies, the C library's pointers are followed by getenv(3) and its like alone.
    let bytes = unsafe {
        let start = ptr::with_exposed_provenance_mut::<u8>(strings.start);
        slice::from_raw_parts_mut(start, strings.len())
    };
    for string in bytes.split_mut(|&byte| byte == 0) {
        let secret = secret(string);
        string.get_mut(secret).unwrap_or_default().fill(b'*');
    }
    Ok(())
}

/// The addresses of this process's strings.
fn strings(first_field: usize) -> io::Result<Range<usize>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "/proc/self/stat is strange");
    let (_, fields) = stat.rsplit_once(") ").ok_or_else(strange)?;
    let mut fields = fields.split_ascii_whitespace().skip(first_field).map(str::parse);
    match (fields.next(), fields.next()) {
        (Some(Ok(start)), Some(Ok(end))) if 0 < start && start <= end => Ok(start..end),
        _ => Err(strange()),
    }
}
