use std::io;

use crate::sys;

/// The size of a lane's pipe, in bytes, where the user may have so much.
pub const PIPE_BYTES: usize = 256 * 1024;

/// A kernel pipe, and how many bytes are in it, which only who puts them in knows.
pub struct Pipe {
    kernel: sys::Pipe,
    len: usize,
    full: bool,
}

impl Pipe {
    /// An empty pipe.
    pub(super) fn new() -> io::Result<Pipe> {
        Ok(Pipe { kernel: sys::Pipe::new(PIPE_BYTES)?, len: 0, full: false })
    }

    /// What the kernel knows it by.
    pub(super) fn kernel(&self) -> &sys::Pipe {
        &self.kernel
    }

    /// How many bytes it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes may be put in; it may turn out to take fewer.
    pub(super) fn room(&self) -> usize {
        if self.full { 0 } else { self.kernel.capacity().saturating_sub(self.len) }
    }

    pub(super) fn fill(&mut self, n: usize) {
        self.len += n;
    }

    /// It took nothing, though it may not have been asked to take anything.
    pub(super) fn handle_blocked(&mut self) {
        self.full = !self.is_empty();
    }

    pub(super) fn consume(&mut self, n: usize) {
        assert!(n <= self.len);
        self.len -= n;
        self.full = false;
    }

    /// Takes some of its bytes out, of which there are any.
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let wanted = into.len().min(self.len);
        let n = self.kernel.read(&mut into[..wanted])?;
        self.consume(n);
        Ok(n)
    }
}

/// One reactor's pipes: bounded, and each empty one is lent again.
pub(super) struct Pipes {
    // Boxed, for most lanes never have one.
    #[allow(clippy::vec_box)]
    free: Vec<Box<Pipe>>,
    lent: usize,
    max: usize,
    /// How many requests there are before the kernel is asked for another one.
    refrain: u32,
    denied: u64,
}

impl Pipes {
    /// After the kernel has refused one.
    const REFRAIN: u32 = 1000;

    pub(super) fn new(max: usize) -> Pipes {
        Pipes { free: Vec::new(), lent: 0, max, refrain: 0, denied: 0 }
    }

    /// An empty pipe, or `None` if there is none to be had.
    pub(super) fn take(&mut self) -> Option<Box<Pipe>> {
        let pipe = self.free.pop().or_else(|| self.open())?;
        self.lent += 1;
        Some(pipe)
    }

    fn open(&mut self) -> Option<Box<Pipe>> {
        if self.lent >= self.max {
            return None;
        }
        if self.refrain > 0 {
            self.refrain -= 1;
            return None;
        }
        match Pipe::new() {
            Ok(pipe) => Some(Box::new(pipe)),
            Err(error) => {
                log::debug!("no pipe to splice through: {error}");
                self.refrain = Self::REFRAIN;
                self.denied += 1;
                None
            }
        }
    }

    /// Takes one back. One that holds bytes is closed, and they with it.
    pub(super) fn give(&mut self, pipe: Box<Pipe>) {
        self.lent -= 1;
        if pipe.is_empty() {
            self.free.push(pipe);
        }
    }

    pub(super) fn lent(&self) -> usize {
        self.lent
    }

    /// How many there are, lent or not.
    pub(super) fn opened(&self) -> usize {
        self.lent + self.free.len()
    }

    /// How often the kernel had none to give.
    pub(super) fn denied(&self) -> u64 {
        self.denied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_bounded_and_come_back_empty() {
        let mut pipes = Pipes::new(2);
        let (first, mut second) = (pipes.take().unwrap(), pipes.take().unwrap());
        assert!(pipes.take().is_none());
        second.kernel().write(b"secret").unwrap();
        second.fill(6);
        pipes.give(second);
        pipes.give(first);
        assert_eq!(pipes.lent(), 0);
        for pipe in [pipes.take(), pipes.take()] {
            let error = pipe.unwrap().kernel().read(&mut [0; 6]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn a_pipe_that_took_nothing_has_room_once_something_has_left() {
        let mut pipe = Pipe::new().unwrap();
        pipe.handle_blocked();
        assert_eq!(pipe.room(), pipe.kernel().capacity());
        pipe.kernel().write(b"abc").unwrap();
        pipe.fill(3);
        pipe.handle_blocked();
        assert_eq!(pipe.room(), 0);
        assert_eq!(pipe.read(&mut [0; 2]).unwrap(), 2);
        assert_eq!(pipe.room(), pipe.kernel().capacity() - 1);
        assert_eq!(pipe.read(&mut [0; 2]).unwrap(), 1);
        assert!(pipe.is_empty());
    }
}
