use std::io::{self, ErrorKind, Write};
use std::thread;
use std::time::Duration;

use super::losses::Failure;

/// How often to try again where the descriptor is non-blocking and its reader slow.
const RETRY: Duration = Duration::from_millis(10);

/// Where lines are written, of which any write may fail or stop half-way: then the next line still
/// begins as a line.
pub(crate) struct Outlet<W> {
    destination: W,
    /// The last line written has no end.
    torn: bool,
}

impl<W: Write> Outlet<W> {
    /// A destination that may have been left in the middle of a line.
    pub(crate) fn new(destination: W, torn: bool) -> Outlet<W> {
        Outlet { destination, torn }
    }

    /// Writes whole lines, or says how many it did not. Waits for a slow reader.
    pub(crate) fn write_lines(&mut self, lines: &[u8]) -> Result<(), Failure> {
        if self.torn {
            self.write_up_to(b"\n").map_err(|(_, error)| failure(lines, error))?;
        }
        self.write_up_to(lines).map_err(|(written, error)| {
            // The end of line that will be written first ends a line that is whole but for that.
            let rest = &lines[written..];
            failure(rest.strip_prefix(b"\n").filter(|_| written > 0).unwrap_or(rest), error)
        })
    }

    /// On failure, how many bytes were written before it.
    fn write_up_to(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut written = 0;
        while written < bytes.len() {
            match self.destination.write(&bytes[written..]) {
                Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
                Ok(n) => {
                    written += n;
                    self.torn = bytes[written - 1] != b'\n';
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
                Err(error) => return Err((written, error)),
            }
        }
        Ok(())
    }
}

fn failure(unwritten: &[u8], error: io::Error) -> Failure {
    let lines = unwritten.iter().filter(|&&octet| octet == b'\n').count() as u64;
    Failure { lines, error }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Takes so many bytes a call or fails with an `errno`, as it is told; then takes all.
    #[derive(Default)]
    pub(crate) struct Scripted {
        pub(crate) calls: VecDeque<Result<usize, i32>>,
        pub(crate) taken: Vec<u8>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = match self.calls.pop_front() {
                Some(Err(errno)) => return Err(io::Error::from_raw_os_error(errno)),
                Some(Ok(n)) => n.min(bytes.len()),
                None => bytes.len(),
            };
            self.taken.extend(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn outlet(calls: impl IntoIterator<Item = Result<usize, i32>>) -> Outlet<Scripted> {
        let calls = calls.into_iter().collect();
        Outlet::new(Scripted { calls, ..Scripted::default() }, false)
    }

    fn lost(result: Result<(), Failure>) -> (u64, Option<i32>) {
        let failure = result.unwrap_err();
        (failure.lines, failure.error.raw_os_error())
    }

    #[test]
    fn short_writes_interruptions_and_slow_readers_lose_nothing() {
        let mut outlet = outlet([Ok(1), Err(libc::EINTR), Ok(2), Err(libc::EAGAIN), Ok(1)]);
        outlet.write_lines(b"one\ntwo\n").unwrap();
        assert_eq!(outlet.destination.taken, b"one\ntwo\n");
    }

    #[test]
    fn a_failed_write_counts_its_lines_and_the_next_one_works() {
        for errno in [libc::ENOSPC, libc::EFBIG, libc::EIO, libc::EPIPE] {
            let mut outlet = outlet([Err(errno)]);
            assert_eq!(lost(outlet.write_lines(b"one\ntwo\n")), (2, Some(errno)));
            outlet.write_lines(b"three\n").unwrap();
            assert_eq!(outlet.destination.taken, b"three\n");
        }
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next() {
        let mut outlet = outlet([Ok(6), Err(libc::ENOSPC), Err(libc::ENOSPC)]);
        assert_eq!(lost(outlet.write_lines(b"one\ntwo\nthree\n")), (2, Some(libc::ENOSPC)));
        assert_eq!(lost(outlet.write_lines(b"four\n")), (1, Some(libc::ENOSPC)));
        outlet.write_lines(b"five\n").unwrap();
        outlet.write_lines(b"six\n").unwrap();
        assert_eq!(outlet.destination.taken, b"one\ntw\nfive\nsix\n");
    }

    #[test]
    fn a_line_that_lacks_only_its_end_is_not_lost() {
        let mut outlet = outlet([Ok(3), Err(libc::ENOSPC)]);
        assert_eq!(lost(outlet.write_lines(b"one\ntwo\n")), (1, Some(libc::ENOSPC)));
        outlet.write_lines(b"three\n").unwrap();
        assert_eq!(outlet.destination.taken, b"one\nthree\n");
    }

    #[test]
    fn a_write_that_stops_between_lines_leaves_no_torn_one() {
        let mut outlet = outlet([Ok(4), Err(libc::ENOSPC)]);
        assert_eq!(lost(outlet.write_lines(b"one\ntwo\n")), (1, Some(libc::ENOSPC)));
        outlet.write_lines(b"three\n").unwrap();
        assert_eq!(outlet.destination.taken, b"one\nthree\n");
    }

    #[test]
    fn a_torn_line_that_was_found_is_ended_too() {
        let mut outlet = Outlet::new(Scripted::default(), true);
        outlet.write_lines(b"next\n").unwrap();
        assert_eq!(outlet.destination.taken, b"\nnext\n");
    }

    #[test]
    fn a_destination_that_takes_nothing_is_not_tried_for_ever() {
        let mut outlet = outlet([Ok(0)]);
        assert_eq!(lost(outlet.write_lines(b"one\n")), (1, None));
    }
}
