use std::io;
use std::net::SocketAddr;

/// A connected, non-blocking stream socket, as far as a session needs one.
///
/// The reactor's is a TCP socket; the simulator's is a model of one.
pub trait Socket {
    /// Receives into `into`, which is not empty; 0 is the end of the stream.
    fn recv(&mut self, into: &mut [u8]) -> io::Result<usize>;
    /// Receives into `into`, which is not empty, and leaves it all to be received again.
    fn peek(&mut self, into: &mut [u8]) -> io::Result<usize>;
    /// Sends some of `bytes`, which is not empty.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Throws away up to `max` received bytes; 0 is the end of the stream.
    fn discard(&mut self, max: usize) -> io::Result<usize>;
    /// Sends a FIN after what was sent.
    fn shutdown_write(&mut self) -> io::Result<()>;
    /// Takes the pending error, which no later call will return (`SO_ERROR`).
    fn take_error(&mut self) -> io::Result<Option<io::Error>>;
    /// How many sent bytes the peer has not acknowledged.
    fn unacknowledged(&self) -> io::Result<usize>;
    /// Our end's address.
    fn local_addr(&self) -> io::Result<SocketAddr>;
    /// Makes closing it send a RST and forget what was not yet sent.
    fn reset_on_close(&mut self);
}

/// What the poll reported of a socket, as edges: each once, until the next change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// There is something to receive, or an end or an error to find.
    pub readable: bool,
    /// There is room to send.
    pub writable: bool,
    /// The peer's FIN or a RST has arrived, perhaps behind bytes not yet received.
    pub read_closed: bool,
    /// Urgent data has arrived: a short receive may have stopped at its mark.
    pub urgent: bool,
    /// An error is pending.
    pub error: bool,
}

/// What [`Endpoint::recv`], [`Endpoint::peek`] and [`Endpoint::discard`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// This many bytes, at least one.
    Bytes(usize),
    /// Nothing now; readiness will tell.
    Blocked,
    /// The peer's FIN: everything it sent has been received.
    End,
    /// The connection was reset; bytes it sent before may be missing.
    Reset,
}

/// What [`Endpoint::send`] achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// This many bytes were taken, at least one.
    Bytes(usize),
    /// No room now; readiness will tell.
    Blocked,
    /// The socket takes no more for ever.
    Broken,
}

/// A [`Socket`] with what is remembered of it: readiness, since edges come once, and the first
/// error, since the kernel hands that out once and then reports a clean end.
pub struct Endpoint<S> {
    socket: S,
    readable: bool,
    writable: bool,
    end_reported: bool,
    urgent: bool,
    ended: bool,
    finished: bool,
    starved: bool,
    fault: Fault,
}

/// What is known to have gone wrong with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Sound,
    /// It was reset after its FIN: what it sent is whole, what we send is lost.
    Unwritable,
    /// It was reset, or timed out, before its FIN: this `errno`.
    Reset(i32),
}

impl<S: Socket> Endpoint<S> {
    /// An endpoint of which nothing has been reported yet.
    pub fn new(socket: S) -> Endpoint<S> {
        Endpoint {
            socket,
            readable: false,
            writable: false,
            end_reported: false,
            urgent: false,
            ended: false,
            finished: false,
            starved: false,
            fault: Fault::Sound,
        }
    }

    /// Remembers what the poll reported.
    pub fn handle_readiness(&mut self, readiness: Readiness) {
        self.end_reported |= readiness.read_closed | readiness.error;
        self.urgent |= readiness.urgent;
        self.readable |= readiness.readable | self.end_reported | self.urgent;
        self.writable |= readiness.writable | readiness.error;
        if readiness.error {
            self.latch_pending_error();
        }
    }

    /// Receives into `into`, which is not empty.
    pub fn recv(&mut self, into: &mut [u8]) -> Received {
        let wanted = into.len();
        self.receive(wanted, |socket| socket.recv(into))
    }

    /// Receives into `into`, which is not empty, and leaves it all to be received again.
    pub fn peek(&mut self, into: &mut [u8]) -> Received {
        let wanted = into.len();
        let peeked = self.receive(wanted, |socket| socket.peek(into));
        if let Received::Bytes(_) = peeked {
            self.readable = true;
        }
        peeked
    }

    /// Throws away up to `max` received bytes.
    pub fn discard(&mut self, max: usize) -> Received {
        self.receive(max, |socket| socket.discard(max))
    }

    /// Sends some of `bytes`, which is not empty.
    pub fn send(&mut self, bytes: &[u8]) -> Sent {
        if self.fault != Fault::Sound {
            return Sent::Broken;
        }
        while self.writable {
            match self.socket.send(bytes) {
                Ok(n) => {
                    self.writable = n == bytes.len();
                    return Sent::Bytes(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_shortage(&error) => {
                    self.writable = false;
                    self.starved |= error.kind() != io::ErrorKind::WouldBlock;
                }
                Err(error) => {
                    self.latch(&error);
                    return Sent::Broken;
                }
            }
        }
        Sent::Blocked
    }

    /// Sends a FIN after what was sent. On a connection that is already reset it does nothing: the
    /// fault is found by the next call that matters.
    pub fn finish(&mut self) {
        self.finished = true;
        // The only failure is ENOTCONN, after a reset.
        let _ = self.socket.shutdown_write();
    }

    /// Whether something may be there to receive.
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    /// Whether there may be room to send. A broken socket is writable: trying tells.
    pub fn is_writable(&self) -> bool {
        self.writable || self.fault != Fault::Sound
    }

    /// Whether the peer's FIN or a RST has arrived, perhaps behind bytes not yet received.
    pub fn end_reported(&self) -> bool {
        self.end_reported
    }

    /// Whether the connection was reset before its FIN.
    pub fn is_reset(&self) -> bool {
        matches!(self.fault, Fault::Reset(_))
    }

    /// Why it was reset before its FIN; of a connection attempt: why it failed.
    pub fn error(&self) -> Option<io::Error> {
        match self.fault {
            Fault::Reset(errno) => Some(io::Error::from_raw_os_error(errno)),
            Fault::Sound | Fault::Unwritable => None,
        }
    }

    /// Whether nothing sent will arrive any more.
    pub fn is_broken(&self) -> bool {
        self.fault != Fault::Sound
    }

    /// Whether the kernel was out of memory when we tried: no edge will tell when it is not.
    pub fn is_starved(&self) -> bool {
        self.starved
    }

    /// Finds out what no edge may ever tell: the kernel may have memory again; and a send that was
    /// refused with nothing under way was refused for want of memory too.
    pub fn look_again(&mut self) {
        self.readable |= self.starved;
        self.writable |= self.starved || self.is_acknowledged();
        self.starved = false;
    }

    /// Whether the peer has acknowledged all that was sent, or never will.
    pub fn is_acknowledged(&self) -> bool {
        self.fault != Fault::Sound || !matches!(self.socket.unacknowledged(), Ok(1..))
    }

    /// Our end's address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Makes closing it send a RST.
    pub fn reset_on_close(&mut self) {
        self.socket.reset_on_close();
    }

    fn receive(
        &mut self,
        wanted: usize,
        mut call: impl FnMut(&mut S) -> io::Result<usize>,
    ) -> Received {
        while self.readable {
            match call(&mut self.socket) {
                Ok(0) if self.is_reset() => return Received::Reset,
                Ok(0) => {
                    self.ended = true;
                    return Received::End;
                }
                Ok(n) => {
                    // A short receive has emptied the socket, unless it stopped at an urgent mark
                    // or before an end that was reported already.
                    self.readable = n == wanted || self.end_reported || self.urgent;
                    return Received::Bytes(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_shortage(&error) => {
                    self.readable = false;
                    self.starved |= error.kind() != io::ErrorKind::WouldBlock;
                }
                Err(error) => {
                    self.latch(&error);
                    return Received::Reset;
                }
            }
        }
        Received::Blocked
    }

    /// Learns whether a reported error is a reset before or after the peer's FIN.
    ///
    /// After our own FIN the kernel no longer tells these apart by the error, only `recv` does: it
    /// returns the error if no FIN came first, else 0. So the error is left for it.
    fn latch_pending_error(&mut self) {
        if self.fault == Fault::Sound
            && !self.finished
            && let Ok(Some(error)) = self.socket.take_error()
        {
            self.latch(&error);
        }
    }

    /// Remembers the first error. The kernel sets EPIPE for a reset that found the peer's FIN
    /// already there, and ECONNRESET, ETIMEDOUT or a network error for any other.
    fn latch(&mut self, error: &io::Error) {
        if self.fault == Fault::Sound {
            self.fault = match error.raw_os_error() {
                Some(libc::EPIPE) => Fault::Unwritable,
                _ if self.ended => Fault::Unwritable,
                errno => Fault::Reset(errno.unwrap_or(libc::ECONNRESET)),
            };
        }
        self.readable = true;
    }
}

/// Whether a call failed only for now.
fn is_shortage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}
