#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

/// A kernel pipe that nothing blocks on: bytes go from a socket through it to another socket without
/// being copied (`splice(2)`).
pub struct Pipe {
    reader: File,
    writer: File,
    capacity: usize,
}

impl Pipe {
    /// What the kernel gives everyone who has not used up their share of pages (pipe(7)).
    const CAPACITY_MIN: usize = 64 * 1024;
    /// The longest splice: beyond it the kernel's own arithmetic has overflowed.
    const SPLICE_MAX: usize = 1 << 30;

    /// A pipe of `capacity` bytes, or fewer where the user may not have so many; never of less than
    /// what is usual.
    pub fn new(capacity: usize) -> io::Result<Pipe> {
        let mut ends = [0; 2];
        syscall!(pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC))?;
        // SAFETY: the kernel has just opened both, and nobody else knows of them.
        let [reader, writer] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        let capacity = match syscall!(fcntl(
            writer.as_raw_fd(),
            libc::F_SETPIPE_SZ,
            capacity as libc::c_int
        )) {
            Ok(capacity) => capacity,
            Err(_) => syscall!(fcntl(writer.as_raw_fd(), libc::F_GETPIPE_SZ))?,
        } as usize;
        if capacity < Pipe::CAPACITY_MIN {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        Ok(Pipe { reader: reader.into(), writer: writer.into(), capacity })
    }

    /// About how many bytes it holds: it is filled by pages, which need not be full, and a page
    /// may be larger than usual.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Moves up to `max` received bytes of a socket into it; 0 is the end of the stream. `EAGAIN`
    /// says that the socket is empty or the pipe is full.
    pub fn splice_from(&self, socket: BorrowedFd<'_>, max: usize) -> io::Result<usize> {
        splice(socket, self.writer.as_fd(), max)
    }

    /// Sends up to `max` of its bytes.
    pub fn splice_to(&self, socket: BorrowedFd<'_>, max: usize) -> io::Result<usize> {
        splice(self.reader.as_fd(), socket, max)
    }

    /// Takes some of its bytes out.
    pub fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        (&self.reader).read(into)
    }

    /// Puts some of these bytes in.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        (&self.writer).write(bytes)
    }
}

/// Never with SPLICE_F_MORE: it holds the last segment back for 200 ms.
fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, max: usize) -> io::Result<usize> {
    let max = max.min(Pipe::SPLICE_MAX);
    let moved = syscall!(splice(
        from.as_raw_fd(),
        ptr::null_mut(),
        to.as_raw_fd(),
        ptr::null_mut(),
        max,
        libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE,
    ))?;
    Ok(moved as usize)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn bytes_go_from_socket_to_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let far = listener.accept().unwrap().0;
        let pipe = Pipe::new(256 * 1024).unwrap();
        assert!(pipe.capacity() >= Pipe::CAPACITY_MIN);

        near.write_all(b"through").unwrap();
        far.set_nonblocking(true).unwrap();
        assert_eq!(pipe.splice_from(far.as_fd(), 100).unwrap(), 7);
        let empty = pipe.splice_from(far.as_fd(), 100).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(pipe.splice_to(far.as_fd(), 4).unwrap(), 4);
        let mut rest = [0; 8];
        assert_eq!(pipe.read(&mut rest).unwrap(), 3);
        assert_eq!(&rest[..3], b"ugh");
        let mut back = [0; 4];
        near.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"thro");

        drop(near);
        assert_eq!(pipe.splice_from(far.as_fd(), 100).unwrap(), 0);
    }
}
