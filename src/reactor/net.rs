use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry};
use socket2::{Domain, Protocol, SockRef, TcpKeepalive, Type};

use crate::dns::Asked;
use crate::offload::{self, Pool};
use crate::proto::Name;
use crate::reactor::mailbox::{Mail, Mailbox};
use crate::reactor::names::Names;
use crate::relay::Socket;
use crate::session::Net;
use crate::sys;
use crate::token::Token;

/// Everything a socket can report: registered once with all of it, edge-triggered, for life.
pub(super) const INTERESTS: Interest =
    Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);

/// The real world: kernel sockets and names.
pub(super) struct Outside {
    pub(super) registry: Registry,
    pub(super) resolver: Resolver,
}

/// Who knows what names mean.
pub(super) enum Resolver {
    /// We do.
    Own(Box<Names>),
    /// The system's resolver, on the offload threads.
    System(Pool, Arc<Mailbox>),
}

impl Net for Outside {
    type Socket = TcpStream;

    fn connect(&mut self, target: SocketAddr, token: Token) -> io::Result<TcpStream> {
        let socket = socket2::Socket::new(
            Domain::for_address(target),
            Type::STREAM.nonblocking().cloexec(),
            Some(Protocol::TCP),
        )?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&target.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        // Registered after connect: an unconnected socket would report a hang-up.
        let mut stream = TcpStream::from_std(socket.into());
        self.registry.register(&mut stream, token.into(), INTERESTS)?;
        Ok(stream)
    }

    fn resolve(
        &mut self,
        name: &Name,
        token: Token,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Asked {
        match &mut self.resolver {
            Resolver::Own(names) => names.ask(name, token, deadline, now),
            Resolver::System(pool, mailbox) => {
                let (name, mailbox) = (name.as_str().to_owned(), Arc::clone(mailbox));
                let job = move || mailbox.post(Mail::Answer(token, offload::resolve(&name)));
                match pool.submit(deadline, Box::new(job)) {
                    Ok(()) => Asked::Pending,
                    Err(offload::Full) => Asked::Full,
                }
            }
        }
    }

    fn forget(&mut self, token: Token) {
        match &mut self.resolver {
            Resolver::Own(names) => names.forget(token),
            // Its answer comes all the same, and finds nobody.
            Resolver::System(..) => {}
        }
    }
}

impl Socket for TcpStream {
    fn recv(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.read(into)
    }

    fn peek(&mut self, into: &mut [u8]) -> io::Result<usize> {
        TcpStream::peek(self, into)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }

    fn discard(&mut self, max: usize) -> io::Result<usize> {
        sys::discard(self.as_fd(), max)
    }

    fn splice_in(&mut self, pipe: &sys::Pipe, max: usize) -> io::Result<usize> {
        pipe.splice_from(self.as_fd(), max)
    }

    fn splice_out(&mut self, pipe: &sys::Pipe, max: usize) -> io::Result<usize> {
        pipe.splice_to(self.as_fd(), max)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        TcpStream::take_error(self)
    }

    fn unacknowledged(&self) -> io::Result<usize> {
        sys::unacknowledged(self.as_fd())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpStream::local_addr(self)
    }

    fn reset_on_close(&mut self) {
        if let Err(error) = SockRef::from(&*self).set_linger(Some(Duration::ZERO)) {
            log::debug!("cannot make a close a reset: {error}");
        }
    }

    fn keep_alive(&mut self) {
        if let Err(error) = SockRef::from(&*self).set_tcp_keepalive(&keepalive()) {
            log::debug!("cannot look after a target: {error}");
        }
    }
}

/// A peer that is gone without a word is found within two minutes of its last word, also if these
/// are set only after a part of the first.
pub(super) fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10))
        .with_retries(6)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use mio::Poll;

    use super::*;
    use crate::token::Role;

    #[test]
    fn a_target_is_sent_everything_at_once_and_looked_after_when_asked() {
        let poll = Poll::new().unwrap();
        let mailbox = Arc::new(Mailbox::new(poll.registry()).unwrap());
        let resolver = Resolver::System(Pool::new("test", 1, 1).unwrap(), mailbox);
        let mut outside = Outside { registry: poll.registry().try_clone().unwrap(), resolver };
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let token = Token::new(1, Role::Target, 0);
        let mut stream = outside.connect(target.local_addr().unwrap(), token).unwrap();
        assert!(SockRef::from(&stream).tcp_nodelay().unwrap());
        assert!(!SockRef::from(&stream).keepalive().unwrap());
        Socket::keep_alive(&mut stream);
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 6);
    }
}
