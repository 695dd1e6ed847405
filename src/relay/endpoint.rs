use std::io;
use std::mem;
use std::net::SocketAddr;

use super::sealing::Stage;
use super::{Buffers, Pipe};
use crate::sys;

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
    /// Moves up to `max` received bytes into `pipe`; 0 is the end of the stream, `EAGAIN` says
    /// that there are none or that the pipe takes no more.
    fn splice_in(&mut self, pipe: &sys::Pipe, max: usize) -> io::Result<usize>;
    /// Sends some of the first `max` bytes in `pipe`, which are there.
    fn splice_out(&mut self, pipe: &sys::Pipe, max: usize) -> io::Result<usize>;
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
    /// Has the kernel look after a peer that says nothing: one that is gone is found by that.
    fn keep_alive(&mut self);
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

/// A socket that cannot be spliced, or not now: nothing has moved, and copying may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unspliceable;

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
    pub(super) starved: bool,
    fault: Fault,
    /// What opens and seals the messages of a client that has asked for that.
    pub(super) stage: Option<Box<Stage>>,
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
            stage: None,
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

    #[cfg(test)]
    pub(super) fn scripted(&mut self) -> &mut S {
        &mut self.socket
    }

    /// Receives into `into`, which is not empty.
    #[inline]
    pub fn recv(&mut self, into: &mut [u8], buffers: &mut Buffers) -> Received {
        match self.stage {
            None => self.recv_raw(into),
            Some(_) => self.recv_opened(into, buffers),
        }
    }

    pub(super) fn recv_raw(&mut self, into: &mut [u8]) -> Received {
        let wanted = into.len();
        self.receive(Some(wanted), |socket| socket.recv(into))
    }

    /// Receives into `into`, which is not empty, and leaves it all to be received again.
    pub fn peek(&mut self, into: &mut [u8], buffers: &mut Buffers) -> Received {
        if self.stage.is_some() {
            return self.peek_opened(into, buffers);
        }
        let wanted = into.len();
        let peeked = self.receive(Some(wanted), |socket| socket.peek(into));
        if let Received::Bytes(_) = peeked {
            self.readable = true;
        }
        peeked
    }

    /// Throws away up to `max` received bytes.
    pub fn discard(&mut self, max: usize, buffers: &mut Buffers) -> Received {
        let discarded = self.stage.as_mut().and_then(|stage| stage.discard(max, buffers));
        if let Some(received) = discarded {
            return received;
        }
        self.receive(Some(max), |socket| socket.discard(max))
    }

    /// Moves up to `max` received bytes into `pipe`. Blocked with bytes in the pipe says only that
    /// the pipe is full, or that there is no more to receive. It never finds an end, but that it
    /// [can be spliced](Self::can_splice) no more: receiving tells.
    pub fn splice_in(&mut self, pipe: &mut Pipe, max: usize) -> Result<Received, Unspliceable> {
        let (mut refused, mut stopped) = (false, false);
        // A pipe may be full of a few bytes, so a short splice proves nothing.
        let received = self.receive(None, |socket| {
            match tell_refusal(socket.splice_in(pipe.kernel(), max), &mut refused) {
                // Once a FIN has arrived, a splice that stops at an urgent mark before it says the
                // same as one at the end.
                Ok(0) => {
                    stopped = true;
                    Err(io::ErrorKind::WouldBlock.into())
                }
                moved => moved,
            }
        });
        self.urgent |= stopped;
        match received {
            Received::Bytes(n) => pipe.fill(n),
            Received::Blocked => self.readable |= refused || stopped || !pipe.is_empty(),
            Received::End | Received::Reset => {}
        }
        if refused { Err(Unspliceable) } else { Ok(received) }
    }

    /// Sends some of `bytes`, which is not empty.
    #[inline]
    pub fn send(&mut self, bytes: &[u8], buffers: &mut Buffers) -> Sent {
        match self.stage {
            None => self.send_raw(bytes),
            Some(_) => self.send_sealed(bytes, buffers),
        }
    }

    pub(super) fn send_raw(&mut self, bytes: &[u8]) -> Sent {
        self.deliver(Some(bytes.len()), |socket| socket.send(bytes))
    }

    /// Sends some of what is in `pipe`, which is not empty.
    pub fn splice_out(&mut self, pipe: &mut Pipe) -> Result<Sent, Unspliceable> {
        let mut refused = false;
        let offered = pipe.len();
        let sent = self.deliver(None, |socket| {
            tell_refusal(socket.splice_out(pipe.kernel(), offered), &mut refused)
        });
        if let Sent::Bytes(n) = sent {
            pipe.consume(n);
        }
        self.writable |= refused;
        if refused { Err(Unspliceable) } else { Ok(sent) }
    }

    /// Sends a FIN after what was sent, once. On a connection that is already reset it does nothing:
    /// the fault is found by the next call that matters.
    pub fn finish(&mut self) {
        if self.is_broken() || mem::replace(&mut self.finished, true) {
            return;
        }
        // The only failure is ENOTCONN, after a reset.
        let _ = self.socket.shutdown_write();
    }

    /// Whether something may be there to receive.
    pub fn is_readable(&self) -> bool {
        self.readable || self.stage.as_ref().is_some_and(|stage| stage.is_readable())
    }

    /// Whether it may be spliced from: an urgent byte stops a splice for ever.
    pub fn can_splice(&self) -> bool {
        !self.urgent && !self.is_sealed()
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
        matches!(self.fault, Fault::Reset(_)) || self.is_forged()
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
        self.fault != Fault::Sound || self.is_forged()
    }

    /// Whether it is to be looked at again: there was no memory when we tried, the kernel's or ours,
    /// and no edge will tell when there is; or what has come keeps much of it.
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

    /// Nothing can be received before it is looked at again: there is no room for it.
    pub(super) fn starve(&mut self) {
        (self.readable, self.starved) = (false, true);
    }

    /// Our end's address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Makes closing it send a RST.
    pub fn reset_on_close(&mut self) {
        self.socket.reset_on_close();
    }

    /// Has the kernel find out by itself if the peer is gone.
    pub fn keep_alive(&mut self) {
        self.socket.keep_alive();
    }

    /// `wanted` is what a call would have received had there been as much.
    fn receive(
        &mut self,
        wanted: Option<usize>,
        mut call: impl FnMut(&mut S) -> io::Result<usize>,
    ) -> Received {
        while self.readable {
            match call(&mut self.socket) {
                Ok(0) if matches!(self.fault, Fault::Reset(_)) => return Received::Reset,
                Ok(0) => {
                    self.ended = true;
                    return Received::End;
                }
                Ok(n) => {
                    // A short receive has emptied the socket, unless it stopped at an urgent mark
                    // or before an end that was reported already.
                    let short = wanted.is_some_and(|wanted| n < wanted);
                    self.readable = !short || self.end_reported || self.urgent;
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

    /// `offered` is what a call would have sent had there been room.
    fn deliver(
        &mut self,
        offered: Option<usize>,
        mut call: impl FnMut(&mut S) -> io::Result<usize>,
    ) -> Sent {
        if self.fault != Fault::Sound {
            return Sent::Broken;
        }
        while self.writable {
            match call(&mut self.socket) {
                Ok(n) => {
                    self.writable = offered.is_none_or(|offered| n == offered);
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

/// Takes a refusal to splice for a socket that is blocked, and tells.
fn tell_refusal(spliced: io::Result<usize>, refused: &mut bool) -> io::Result<usize> {
    spliced.map_err(|error| match error.raw_os_error() {
        // Out of memory, a socket or a kernel that cannot, or a filter of calls or of packets. If
        // it was not about splicing, the call that copies will say so.
        Some(
            libc::ENOMEM
            | libc::ENOBUFS
            | libc::EINVAL
            | libc::ENOSYS
            | libc::EOPNOTSUPP
            | libc::EPERM
            | libc::EACCES,
        ) => {
            *refused = true;
            io::ErrorKind::WouldBlock.into()
        }
        _ => error,
    })
}

/// Whether a call failed only for now.
fn is_shortage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RelayMode;
    use crate::relay::scripted::{READY, Scripted, endpoint};

    fn recv(endpoint: &mut Endpoint<Scripted>) -> Received {
        endpoint.recv_raw(&mut [0; 8])
    }

    #[test]
    fn nothing_is_tried_before_the_poll_reports_it() {
        let mut endpoint = Endpoint::new(Scripted::receiving([Ok(&b"early"[..])]));
        assert_eq!(recv(&mut endpoint), Received::Blocked);
        assert_eq!(endpoint.send_raw(b"x"), Sent::Blocked);
        assert_eq!(endpoint.scripted().calls, 0);
    }

    #[test]
    fn a_short_receive_saves_the_call_that_would_block() {
        let mut endpoint = endpoint(Scripted::receiving([Ok(&b"12345678abc"[..])]), READY);
        assert_eq!(recv(&mut endpoint), Received::Bytes(8));
        assert!(endpoint.is_readable());
        assert_eq!(recv(&mut endpoint), Received::Bytes(3));
        assert!(!endpoint.is_readable());
        assert_eq!(endpoint.scripted().calls, 2);
    }

    #[test]
    fn a_short_receive_says_nothing_behind_an_end_or_an_urgent_mark() {
        let end = Readiness { read_closed: true, ..READY };
        let urgent = Readiness { urgent: true, ..READY };
        for readiness in [end, urgent] {
            let script = [Ok(&b"abc"[..]), Ok(&b"d"[..]), Ok(&b""[..])];
            let mut endpoint = endpoint(Scripted::receiving(script), readiness);
            assert_eq!(recv(&mut endpoint), Received::Bytes(3));
            assert_eq!(recv(&mut endpoint), Received::Bytes(1));
            assert_eq!(recv(&mut endpoint), Received::End);
        }
    }

    #[test]
    fn a_peek_leaves_the_bytes_and_the_readiness() {
        let mut endpoint = endpoint(Scripted::receiving([Ok(&b"abc"[..])]), READY);
        assert_eq!(
            endpoint.peek(&mut [0; 8], &mut Buffers::new(0, RelayMode::Copy, 0)),
            Received::Bytes(3)
        );
        assert!(endpoint.is_readable());
        assert_eq!(
            endpoint.discard(3, &mut Buffers::new(0, RelayMode::Copy, 0)),
            Received::Bytes(3)
        );
        assert_eq!(recv(&mut endpoint), Received::Blocked);
    }

    #[test]
    fn an_interrupted_call_is_made_again() {
        let script = [Err(libc::EINTR), Err(libc::EINTR), Ok(&b"abc"[..])];
        let mut endpoint = endpoint(Scripted::receiving(script), READY);
        assert_eq!(recv(&mut endpoint), Received::Bytes(3));
        endpoint.scripted().room = [Err(libc::EINTR), Ok(1)].into();
        assert_eq!(endpoint.send_raw(b"x"), Sent::Bytes(1));
    }

    #[test]
    fn a_reset_is_never_an_end() {
        let script = [Ok(&b"abc"[..]), Err(libc::ECONNRESET), Ok(&b""[..]), Ok(&b""[..])];
        let mut endpoint = endpoint(Scripted::receiving(script), READY);
        assert_eq!(recv(&mut endpoint), Received::Bytes(3));
        endpoint.handle_readiness(READY);
        for _ in 0..3 {
            assert_eq!(recv(&mut endpoint), Received::Reset);
        }
        assert!(endpoint.is_reset() && endpoint.is_broken());
        assert_eq!(endpoint.send_raw(b"x"), Sent::Broken);
    }

    #[test]
    fn an_error_taken_by_another_call_is_remembered() {
        let queued = || Scripted::receiving([Ok(&b"abc"[..]), Ok(&b""[..])]);
        let mut told = Endpoint::new(Scripted { pending_error: Some(libc::ETIMEDOUT), ..queued() });
        told.handle_readiness(Readiness { error: true, ..READY });
        let refused = Scripted { room: [Err(libc::ECONNRESET)].into(), ..queued() };
        let mut sending = endpoint(refused, READY);
        assert_eq!(sending.send_raw(b"x"), Sent::Broken);
        for (endpoint, errno) in [(&mut told, libc::ETIMEDOUT), (&mut sending, libc::ECONNRESET)] {
            assert_eq!(recv(endpoint), Received::Bytes(3));
            endpoint.handle_readiness(READY);
            assert_eq!(recv(endpoint), Received::Reset);
            assert_eq!(endpoint.error().unwrap().raw_os_error(), Some(errno));
        }
    }

    #[test]
    fn the_first_error_is_the_one_that_counts() {
        let script = [Err(libc::EHOSTUNREACH), Err(libc::ECONNRESET)];
        let mut endpoint = endpoint(Scripted::receiving(script), READY);
        assert_eq!(recv(&mut endpoint), Received::Reset);
        assert_eq!(recv(&mut endpoint), Received::Reset);
        assert_eq!(endpoint.error().unwrap().raw_os_error(), Some(libc::EHOSTUNREACH));
    }

    #[test]
    fn epipe_keeps_what_the_peer_sent() {
        let script = || Scripted::receiving([Ok(&b"abc"[..]), Ok(&b""[..])]);
        let mut told = Endpoint::new(Scripted { pending_error: Some(libc::EPIPE), ..script() });
        told.handle_readiness(Readiness { error: true, ..READY });
        let mut sending = endpoint(Scripted { room: [Err(libc::EPIPE)].into(), ..script() }, READY);
        assert_eq!(sending.send_raw(b"x"), Sent::Broken);
        for endpoint in [&mut told, &mut sending] {
            assert_eq!(recv(endpoint), Received::Bytes(3));
            endpoint.handle_readiness(READY);
            assert_eq!(recv(endpoint), Received::End);
            assert!(endpoint.is_broken() && !endpoint.is_reset());
            assert!(endpoint.error().is_none());
        }
    }

    #[test]
    fn an_error_after_the_end_spoils_nothing_that_was_sent() {
        let mut endpoint = endpoint(Scripted::receiving([Ok(&b""[..])]), READY);
        assert_eq!(recv(&mut endpoint), Received::End);
        endpoint.scripted().pending_error = Some(libc::ETIMEDOUT);
        endpoint.handle_readiness(Readiness { error: true, ..READY });
        assert!(endpoint.is_broken() && !endpoint.is_reset());
    }

    #[test]
    fn a_fin_is_sent_once_and_not_to_who_is_gone() {
        let mut endpoint = endpoint(Scripted::receiving([Err(libc::ECONNRESET)]), READY);
        endpoint.finish();
        endpoint.finish();
        assert_eq!(endpoint.scripted().finishes, 1);
        let mut reset = Endpoint::new(Scripted::default());
        reset.scripted().pending_error = Some(libc::EPIPE);
        reset.handle_readiness(Readiness { error: true, ..READY });
        reset.finish();
        assert_eq!(reset.scripted().finishes, 0);
    }

    #[test]
    fn after_our_fin_the_error_is_left_for_receiving() {
        let mut endpoint = endpoint(Scripted::receiving([Err(libc::ECONNRESET)]), READY);
        endpoint.finish();
        endpoint.scripted().pending_error = Some(libc::ECONNRESET);
        endpoint.handle_readiness(Readiness { error: true, ..READY });
        assert!(!endpoint.is_reset());
        assert_eq!(recv(&mut endpoint), Received::Reset);
        assert!(endpoint.is_reset());
    }

    #[test]
    fn a_blocked_or_short_send_waits_for_an_edge() {
        let mut endpoint = endpoint(Scripted::sending([Ok(2), Err(libc::EAGAIN)]), READY);
        assert_eq!(endpoint.send_raw(b"abc"), Sent::Bytes(2));
        assert_eq!(endpoint.send_raw(b"c"), Sent::Blocked);
        assert_eq!(endpoint.scripted().calls, 1);
        endpoint.handle_readiness(READY);
        assert_eq!(endpoint.send_raw(b"c"), Sent::Blocked);
        assert!(!endpoint.is_writable());
        assert!(!endpoint.is_starved());
    }

    #[test]
    fn for_want_of_memory_it_looks_again_without_an_edge() {
        for errno in [libc::ENOBUFS, libc::ENOMEM] {
            let script = Scripted {
                room: [Err(errno)].into(),
                ..Scripted::receiving([Err(errno), Ok(&b"abc"[..])])
            };
            let mut endpoint = endpoint(script, READY);
            assert_eq!(recv(&mut endpoint), Received::Blocked);
            assert_eq!(endpoint.send_raw(b"x"), Sent::Blocked);
            assert!(endpoint.is_starved());
            endpoint.look_again();
            assert!(!endpoint.is_starved());
            assert_eq!(recv(&mut endpoint), Received::Bytes(3));
            assert_eq!(endpoint.send_raw(b"x"), Sent::Bytes(1));
        }
    }

    #[test]
    fn a_broken_socket_has_nothing_left_to_acknowledge() {
        let mut endpoint = endpoint(Scripted::receiving([Err(libc::ECONNRESET)]), READY);
        endpoint.scripted().unacknowledged = 5;
        assert!(!endpoint.is_acknowledged());
        assert_eq!(recv(&mut endpoint), Received::Reset);
        assert!(endpoint.is_acknowledged());
    }
}
