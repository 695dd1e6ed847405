//! A socket for the tests of endpoints and lanes.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use super::{Endpoint, Readiness, Socket};
use crate::sys;

pub(super) const READY: Readiness =
    Readiness { readable: true, writable: true, read_closed: false, urgent: false, error: false };

/// An endpoint of which this was reported.
pub(super) fn endpoint(socket: Scripted, readiness: Readiness) -> Endpoint<Scripted> {
    let mut endpoint = Endpoint::new(socket);
    endpoint.handle_readiness(readiness);
    endpoint
}

/// A socket that does what it is told, call by call.
#[derive(Default)]
pub(super) struct Scripted {
    /// What receiving gives: the bytes of a segment, which may be taken in parts; or an `errno`.
    pub(super) incoming: VecDeque<Result<Vec<u8>, i32>>,
    /// How many bytes each send takes, or an `errno`; none left: all.
    pub(super) room: VecDeque<Result<usize, i32>>,
    pub(super) sent: Vec<u8>,
    /// Which `errno` each splice is refused with, if any; none left: none is.
    pub(super) refusals: VecDeque<Option<i32>>,
    pub(super) pending_error: Option<i32>,
    pub(super) finishes: usize,
    pub(super) unacknowledged: usize,
    pub(super) calls: usize,
}

impl Scripted {
    pub(super) fn receiving(
        incoming: impl IntoIterator<Item = Result<&'static [u8], i32>>,
    ) -> Scripted {
        let incoming = incoming.into_iter().map(|it| it.map(<[u8]>::to_vec)).collect();
        Scripted { incoming, ..Scripted::default() }
    }

    pub(super) fn sending(room: impl IntoIterator<Item = Result<usize, i32>>) -> Scripted {
        Scripted { room: room.into_iter().collect(), ..Scripted::default() }
    }

    fn take(&mut self, max: usize, mut see: impl FnMut(&[u8])) -> io::Result<usize> {
        self.calls += 1;
        match self.incoming.pop_front() {
            None => Err(error(libc::EAGAIN)),
            Some(Err(errno)) => Err(error(errno)),
            Some(Ok(mut segment)) => {
                let rest = segment.split_off(max.min(segment.len()));
                see(&segment);
                if !rest.is_empty() {
                    self.incoming.push_front(Ok(rest));
                }
                Ok(segment.len())
            }
        }
    }
}

pub(super) fn error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

impl Socket for Scripted {
    fn recv(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.take(into.len(), |bytes| into[..bytes.len()].copy_from_slice(bytes))
    }

    fn peek(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let before = self.incoming.clone();
        let n = self.recv(into)?;
        if n > 0 {
            self.incoming = before;
        }
        Ok(n)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.calls += 1;
        let n = match self.room.pop_front() {
            Some(Err(errno)) => return Err(error(errno)),
            Some(Ok(n)) => n.min(bytes.len()),
            None => bytes.len(),
        };
        self.sent.extend(&bytes[..n]);
        Ok(n)
    }

    fn discard(&mut self, max: usize) -> io::Result<usize> {
        self.take(max, |_| {})
    }

    fn splice_in(&mut self, pipe: &sys::Pipe, max: usize) -> io::Result<usize> {
        if let Some(errno) = self.refusals.pop_front().flatten() {
            return Err(error(errno));
        }
        // So few go into a pipe all at once or not at all.
        let mut bytes = vec![0; max.min(4096)];
        match self.peek(&mut bytes)? {
            0 => {
                // The end is still there for who receives.
                self.incoming.push_front(Ok(Vec::new()));
                Ok(0)
            }
            n => {
                pipe.write(&bytes[..n])?;
                self.take(n, |_| {})
            }
        }
    }

    fn splice_out(&mut self, pipe: &sys::Pipe, max: usize) -> io::Result<usize> {
        if let Some(errno) = self.refusals.pop_front().flatten() {
            return Err(error(errno));
        }
        let room = match self.room.pop_front() {
            Some(Err(errno)) => return Err(error(errno)),
            Some(Ok(n)) => n.min(max),
            None => max,
        };
        let mut bytes = vec![0; room];
        let n = pipe.read(&mut bytes)?;
        self.sent.extend(&bytes[..n]);
        Ok(n)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.finishes += 1;
        Ok(())
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        Ok(self.pending_error.take().map(error))
    }

    fn unacknowledged(&self) -> io::Result<usize> {
        Ok(self.unacknowledged)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(error(libc::ENOTCONN))
    }

    fn reset_on_close(&mut self) {}

    fn keep_alive(&mut self) {}
}
