//! The other end of a session: servers the tests start, on ports the kernel chooses.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::PATIENCE;
use super::peer::Peer;

/// A listener whose connections the test takes itself, one by one.
pub struct Origin {
    listener: TcpListener,
}

impl Origin {
    /// On 127.0.0.1.
    pub fn start() -> Origin {
        Origin::start_on(Ipv4Addr::LOCALHOST.into())
    }

    pub fn start_on(ip: IpAddr) -> Origin {
        let listener = TcpListener::bind((ip, 0)).expect("the kernel has a port for us");
        Origin { listener }
    }

    /// At this address, unless somebody has it.
    pub fn try_start_at(address: SocketAddr) -> Option<Origin> {
        TcpListener::bind(address).ok().map(|listener| Origin { listener })
    }

    /// On every address of this host, v6 and v4 alike where there is v6.
    pub fn start_everywhere() -> Origin {
        let socket = dual_stack_socket().unwrap_or_else(|_| {
            bound_socket(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, 0).into()).expect("a free v4 port")
        });
        socket.listen(1024).expect("a bound socket can listen");
        Origin { listener: socket.into() }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("a listener has an address")
    }

    pub fn port(&self) -> u16 {
        self.address().port()
    }

    /// The next connection.
    #[track_caller]
    pub fn accept(&self) -> Peer {
        match self.accept_within(PATIENCE) {
            Some(peer) => peer,
            None => panic!("no connection reached the origin within {PATIENCE:?}"),
        }
    }

    /// Nobody has connected, and nobody does for a moment.
    #[track_caller]
    pub fn expect_nobody(&self) {
        self.expect_nobody_for(Duration::from_millis(100));
    }

    #[track_caller]
    pub fn expect_nobody_for(&self, duration: Duration) {
        if let Some(peer) = self.accept_within(duration) {
            panic!("nobody was to reach the origin, {} did", peer.remote_address());
        }
    }

    fn accept_within(&self, duration: Duration) -> Option<Peer> {
        SockRef::from(&self.listener)
            .set_read_timeout(Some(duration))
            .expect("a deadline above zero");
        match self.listener.accept() {
            Ok((stream, _)) => Some(Peer::from(stream)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("accept: {error}"),
        }
    }
}

/// A server that treats every connection alike, each on a thread of its own, until dropped.
pub struct Service {
    listener: Arc<TcpListener>,
}

impl Service {
    /// Sends back what it gets.
    pub fn echo() -> Service {
        Service::echo_on(Ipv4Addr::LOCALHOST.into())
    }

    pub fn echo_on(ip: IpAddr) -> Service {
        Service::start(Origin::start_on(ip), |stream| {
            // A client that resets ends its echo, and that is all.
            let _ = io::copy(&mut &stream, &mut &stream);
            let _ = stream.shutdown(Shutdown::Write);
        })
    }

    /// Says `text` at once, and ends when its client does.
    pub fn banner(text: &'static str) -> Service {
        Service::start(Origin::start(), move |mut stream| {
            // A client that is gone already has heard enough.
            let _ = stream.write_all(text.as_bytes());
            let _ = io::copy(&mut stream, &mut io::sink());
        })
    }

    /// Sends without end, whether anyone reads or not, and adds up what the kernel took.
    pub fn flood() -> (Service, Arc<AtomicU64>) {
        let taken = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&taken);
        let service = Service::start(Origin::start(), move |mut stream| {
            let chunk = [0x5a; 16 * 1024];
            while let Ok(len) = stream.write(&chunk) {
                counter.fetch_add(len as u64, Ordering::Relaxed);
            }
        });
        (service, taken)
    }

    /// On 127.0.0.1, does this with each connection.
    pub fn serving(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Service {
        Service::start(Origin::start(), serve)
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("a listener has an address")
    }

    fn start(origin: Origin, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Service {
        let listener = Arc::new(origin.listener);
        let accepting = Arc::clone(&listener);
        let serve = Arc::new(serve);
        thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(stream));
            }
        });
        Service { listener }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Wakes the accepting thread, which ends on the error.
        let _ = SockRef::from(&*self.listener).shutdown(Shutdown::Both);
    }
}

/// A port that refuses: bound, so that nobody else gets it, and not listening.
pub struct ClosedPort {
    socket: Socket,
}

impl ClosedPort {
    pub fn everywhere() -> ClosedPort {
        let socket = dual_stack_socket().unwrap_or_else(|_| {
            bound_socket(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, 0).into()).expect("a free v4 port")
        });
        ClosedPort { socket }
    }

    pub fn port(&self) -> u16 {
        let address = self.socket.local_addr().expect("a bound socket has an address");
        address.as_socket().expect("an IP socket has an IP address").port()
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port()).into()
    }
}

/// A target that never answers: its queue is full, so the kernel drops every further SYN.
pub struct DeafTarget {
    origin: Origin,
    waiting: Vec<TcpStream>,
}

impl DeafTarget {
    /// On every address of this host.
    pub fn start() -> DeafTarget {
        let origin = Origin::start_everywhere();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, origin.port()));
        DeafTarget::instead_of(origin, address)
    }

    /// What was to answer at `address`.
    pub fn instead_of(origin: Origin, address: SocketAddr) -> DeafTarget {
        SockRef::from(&origin.listener).listen(0).expect("a listener may change its backlog");
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
            waiting.push(stream);
            assert!(waiting.len() < 100, "the queue of {address} does not fill");
        }
        DeafTarget { origin, waiting }
    }

    pub fn port(&self) -> u16 {
        self.origin.port()
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port()).into()
    }

    /// Makes room in the queue, so that whoever still retries gets in.
    pub fn listen_again(mut self) -> Origin {
        for _ in self.waiting.drain(..) {
            self.origin.accept();
        }
        self.origin
    }
}

/// Whether this host has an IPv6 loopback.
pub fn host_has_v6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

fn dual_stack_socket() -> io::Result<Socket> {
    bound_socket(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, 0).into())
}

fn bound_socket(domain: Domain, address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, None)?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}
