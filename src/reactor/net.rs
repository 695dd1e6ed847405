use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream, UdpSocket};
use mio::{Interest, Registry};
use socket2::{Domain, Protocol, SockRef, TcpKeepalive, Type};

use crate::auth::{Task, TaskKind};
use crate::dns::{Answer, Asked};
use crate::offload;
use crate::proto::Name;
use crate::reactor::mailbox::{Mail, Mailbox};
use crate::reactor::names::Names;
use crate::reactor::{SystemPools, TaskPools};
use crate::relay::{DatagramSocket, Socket};
use crate::session::Net;
use crate::sys::{self, Batch, Outgoing};
use crate::token::{Role, Token};

/// Everything a socket can report: registered once with all of it, edge-triggered, for life.
pub(super) const INTERESTS: Interest =
    Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);

/// Who connects to a port of ours is one peer, and perhaps a few strangers.
const PEERS_WAITING: i32 = 16;
/// What a socket's queue may hold: datagrams come in bursts. Most are small, and each costs the
/// kernel some 800 bytes.
const DATAGRAM_BUFFER: usize = 2 << 20;

/// The real world: kernel sockets and names.
pub(super) struct Outside {
    pub(super) registry: Registry,
    pub(super) resolver: Resolver,
    pub(super) tasks: TaskPools,
    pub(super) mailbox: Arc<Mailbox>,
}

/// Who knows what names mean.
pub(super) enum Resolver {
    /// We do.
    Own(Box<Names>),
    /// The system's resolver, on the offload threads.
    System(SystemPools),
}

impl Net for Outside {
    type Socket = TcpStream;
    type Listener = TcpListener;
    type Datagrams = UdpSocket;

    fn connect(&mut self, target: SocketAddr, token: Token) -> io::Result<TcpStream> {
        let socket = open(target, Type::STREAM, Protocol::TCP)?;
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

    fn source_towards(&mut self, ip: IpAddr) -> io::Result<SocketAddr> {
        // Connecting a datagram socket asks the routes and sends nothing.
        const ANY_PORT: u16 = 9;
        let towards = SocketAddr::new(ip, ANY_PORT);
        let socket = open(towards, Type::DGRAM, Protocol::UDP)?;
        socket.connect(&towards.into())?;
        local_addr(&socket)
    }

    fn listen(&mut self, address: SocketAddr, token: Token) -> io::Result<(TcpListener, u16)> {
        let socket = open_for_binding(address, Type::STREAM, Protocol::TCP)?;
        socket.set_reuse_address(true)?;
        // Inherited by who is accepted.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&address.into())?;
        socket.listen(PEERS_WAITING)?;
        let port = local_addr(&socket)?.port();
        let mut listener = TcpListener::from_std(socket.into());
        self.registry.register(&mut listener, token.into(), Interest::READABLE)?;
        Ok((listener, port))
    }

    fn accept(&mut self, listener: &mut TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        listener.accept()
    }

    fn watch(&mut self, socket: &mut TcpStream, token: Token) -> io::Result<()> {
        self.registry.register(socket, token.into(), INTERESTS)
    }

    fn bind_datagrams(
        &mut self,
        address: SocketAddr,
        token: Token,
    ) -> io::Result<(UdpSocket, u16)> {
        let socket = open_for_binding(address, Type::DGRAM, Protocol::UDP)?;
        socket.bind(&address.into())?;
        sys::prepare_datagram_socket(socket.as_fd(), DATAGRAM_BUFFER);
        let port = local_addr(&socket)?.port();
        let mut socket = UdpSocket::from_std(socket.into());
        // One that cannot be sent at once is lost, as on any link that is full.
        self.registry.register(&mut socket, token.into(), Interest::READABLE)?;
        Ok((socket, port))
    }

    fn resolve(
        &mut self,
        name: &Name,
        client: IpAddr,
        token: Token,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Asked {
        match &mut self.resolver {
            Resolver::Own(names) => names.ask(name, token, deadline, now),
            Resolver::System(pools) => {
                let pool = match token.role() {
                    Some(Role::DatagramAnswer) => &pools.datagrams,
                    _ => &pools.requests,
                };
                let (name, mailbox) = (name.as_str().to_owned(), Arc::clone(&self.mailbox));
                let job = move || mailbox.post(Mail::Answer(token, offload::resolve(&name)));
                match pool.submit(Some(client), deadline, Box::new(job)) {
                    Ok(()) => Asked::Pending,
                    Err(offload::Full) => Asked::Full,
                }
            }
        }
    }

    fn known(&mut self, name: &Name, now: Instant) -> Option<Answer> {
        match &mut self.resolver {
            Resolver::Own(names) => names.known(name, now),
            // It does not tell what it knows.
            Resolver::System(_) => None,
        }
    }

    fn forget(&mut self, token: Token) {
        match &mut self.resolver {
            Resolver::Own(names) => names.forget(token),
            // Its answer comes all the same, and finds nobody.
            Resolver::System(_) => {}
        }
    }

    fn offload(
        &mut self,
        task: Task,
        client: IpAddr,
        token: Token,
        deadline: Option<Instant>,
    ) -> Result<(), Task> {
        let pool = match task.kind() {
            TaskKind::Hash => &self.tasks.hashes,
            TaskKind::Pam => &self.tasks.pam,
            TaskKind::Gssapi => &self.tasks.gssapi,
        };
        let mailbox = Arc::clone(&self.mailbox);
        let report = Box::new(move |done| mailbox.post(Mail::Done(token, client, done)));
        pool.submit_with(Some(client), deadline, task, |task| task.run(report))
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

impl DatagramSocket for UdpSocket {
    fn connect(&mut self, peer: SocketAddr) -> io::Result<()> {
        UdpSocket::connect(self, peer)
    }

    fn receive(&mut self, batch: &mut Batch, max: usize) -> io::Result<usize> {
        batch.receive(self.as_fd(), max)
    }

    fn send(&mut self, messages: &[Outgoing<'_>]) -> io::Result<usize> {
        sys::send_datagrams(self.as_fd(), messages)
    }
}

/// A socket of the family of `address`, not yet bound or connected to anything.
pub(super) fn open(
    address: SocketAddr,
    kind: Type,
    protocol: Protocol,
) -> io::Result<socket2::Socket> {
    let kind = kind.nonblocking().cloexec();
    socket2::Socket::new(Domain::for_address(address), kind, Some(protocol))
}

/// One that is to be bound to `address`: at an IPv6 address it takes IPv6 only.
pub(super) fn open_for_binding(
    address: SocketAddr,
    kind: Type,
    protocol: Protocol,
) -> io::Result<socket2::Socket> {
    let socket = open(address, kind, protocol)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn local_addr(socket: &socket2::Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
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
    use crate::offload::Pool;

    #[test]
    fn a_target_is_sent_everything_at_once_and_looked_after_when_asked() {
        let poll = Poll::new().unwrap();
        let mailbox = Arc::new(Mailbox::new(poll.registry()).unwrap());
        let pool = || Pool::new("test", 1, 1, 1).unwrap();
        let resolver = Resolver::System(SystemPools { requests: pool(), datagrams: pool() });
        let tasks = TaskPools { hashes: pool(), pam: pool(), gssapi: pool() };
        let registry = poll.registry().try_clone().unwrap();
        let mut outside = Outside { registry, resolver, tasks, mailbox };
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
