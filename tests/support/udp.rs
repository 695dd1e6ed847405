//! Both ends of a UDP association: the client with its control connection, and who is asked.
//! Every wait has a deadline, and every failed expectation says what was sent, what was expected
//! and what came.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use super::peer::{Peer, hex};
use super::socks::{self, UDP_ASSOCIATE};
use super::{PATIENCE, assert_same_bytes, random_bytes};

/// More than any datagram has.
const DATAGRAM_MAX: usize = 64 * 1024;

/// What is asked of the kernel, which may give less.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Half of the ports may be taken for TCP when thousands of sessions are open.
const PORT_CHOICES: usize = 64;

/// How often an echo looks whether it is to end.
const ECHO_LOOKS_EVERY: Duration = Duration::from_millis(20);

/// Nobody says where datagrams will come from.
pub const UNSAID: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A UDP association as its client holds it; it ends with its control connection.
pub struct Association {
    control: Peer,
    client: UdpSocket,
    relay: SocketAddr,
    sent: Mutex<Vec<u8>>,
}

impl Association {
    /// Of a client without authentication that does not say where it will send from.
    #[track_caller]
    pub fn open(proxy: SocketAddr) -> Association {
        Association::granted(socks::send_request(proxy, &socks::request(UDP_ASSOCIATE, UNSAID)))
    }

    /// Once `control` has sent its request; the datagrams come from its address and any port.
    #[track_caller]
    pub fn granted(control: Peer) -> Association {
        let client = bind(control.local_address().ip());
        Association::granted_from(control, client)
    }

    /// As [`granted`](Self::granted), with the socket that the client sends from.
    #[track_caller]
    pub fn granted_from(control: Peer, client: UdpSocket) -> Association {
        let mut relay = control.expect_granted();
        // Some servers leave it to the client to know their address.
        let server = control.remote_address().ip();
        if relay.ip().is_unspecified() {
            relay.set_ip(server);
        }
        if relay.is_ipv4() != server.is_ipv4() {
            control.fail(&format!("BND of the family of {server}"), &format!("BND {relay}"));
        }
        Association { control, client, relay, sent: Mutex::default() }
    }

    pub fn control(&self) -> &Peer {
        &self.control
    }

    /// Ends the association as `end` ends a connection, and leaves the client's socket.
    pub fn hang_up(self, end: impl FnOnce(Peer)) -> UdpSocket {
        end(self.control);
        self.client
    }

    /// The socket that the client sends from.
    pub fn client(&self) -> &UdpSocket {
        &self.client
    }

    /// Where the client sends.
    pub fn relay(&self) -> SocketAddr {
        self.relay
    }

    #[track_caller]
    pub fn send_to(&self, target: SocketAddr, data: &[u8]) {
        self.send_raw(&socks::datagram(target, data));
    }

    #[track_caller]
    pub fn send_to_name(&self, name: &[u8], port: u16, data: &[u8]) {
        self.send_raw(&socks::datagram_by_name(name, port, data));
    }

    #[track_caller]
    pub fn send_fragment(&self, frag: u8, target: SocketAddr, data: &[u8]) {
        self.send_raw(&socks::fragment(frag, target, data));
    }

    /// Sends these bytes to the relay, whatever they are.
    #[track_caller]
    pub fn send_raw(&self, datagram: &[u8]) {
        *self.sent.lock().unwrap() = datagram.to_vec();
        send_from(&self.client, self.relay, datagram);
    }

    /// The next datagram comes from the relay, names this source and carries these data.
    #[track_caller]
    pub fn expect(&self, source: SocketAddr, data: &[u8]) {
        let (came_from, came) = self.receive();
        if came_from != source || came != data {
            let expected = format!("{} from {source}", hex(data));
            self.fail(&expected, &format!("{} from {came_from}", hex(&came)));
        }
    }

    /// The source and the data of the next datagram.
    #[track_caller]
    pub fn receive(&self) -> (SocketAddr, Vec<u8>) {
        match self.receive_within(PATIENCE) {
            Some(received) => received,
            None => self.fail("a datagram from the relay", "silence"),
        }
    }

    /// As [`receive`](Self::receive), or none where nothing comes for so long.
    #[track_caller]
    pub fn receive_within(&self, duration: Duration) -> Option<(SocketAddr, Vec<u8>)> {
        let (bytes, sender) = receive(&self.client, duration)?;
        if sender != self.relay {
            self.fail(&format!("datagrams from {}", self.relay), &format!("one from {sender}"));
        }
        match socks::parse_datagram(&bytes) {
            Some((source, data)) => Some((source, data.to_vec())),
            None => self.fail("00 00 00 01 .. or 00 00 00 04 ..", &hex(&bytes)),
        }
    }

    /// No datagram comes for this long.
    #[track_caller]
    pub fn expect_silence(&self, duration: Duration) {
        if let Some((source, data)) = self.receive_within(duration) {
            let expected = format!("silence for {duration:?}");
            self.fail(&expected, &format!("{} from {source}", hex(&data)));
        }
    }

    /// A datagram reaches `origin`, which the server knows as `target`, and nothing came before
    /// it; its answer comes back likewise. Returns where the origin was asked from.
    #[track_caller]
    pub fn expect_exchange(&self, origin: &UdpOrigin, target: SocketAddr) -> SocketAddr {
        self.send_to(target, b"ping");
        let asked_from = origin.expect(b"ping");
        origin.send_to(asked_from, b"pong");
        self.expect(target, b"pong");
        asked_from
    }

    /// `len` bytes there and back through an echo.
    #[track_caller]
    pub fn expect_echo(&self, echo: SocketAddr, len: usize) {
        let data = random_bytes(len as u64, len);
        self.send_to(echo, &data);
        let (source, came) = self.receive();
        assert_eq!(source, echo);
        assert_same_bytes(&came, &data);
    }

    /// Fails with the last that was sent.
    #[track_caller]
    pub fn fail(&self, expected: &str, got: &str) -> ! {
        let sent = self.sent.lock().unwrap();
        panic!("\n  sent     {}\n  expected {expected}\n  got      {got}\n", hex(&sent));
    }
}

/// Who is asked, where the test itself takes each datagram and answers it.
pub struct UdpOrigin {
    socket: UdpSocket,
    _same_number: SameNumber,
}

/// Keeps the port of a target from being the TCP port of a listener, too: datagrams to where a
/// server listens are denied.
pub struct SameNumber {
    _socket: Socket,
}

impl UdpOrigin {
    /// On 127.0.0.1.
    pub fn start() -> UdpOrigin {
        UdpOrigin::start_on(Ipv4Addr::LOCALHOST.into())
    }

    pub fn start_on(ip: IpAddr) -> UdpOrigin {
        let (socket, _same_number) = bind_target(ip);
        UdpOrigin { socket, _same_number }
    }

    /// At this address, unless somebody has it.
    pub fn try_start_at(address: SocketAddr) -> Option<UdpOrigin> {
        let socket = UdpSocket::bind(address).ok().map(with_room)?;
        let _same_number = SameNumber::as_of(&socket).ok()?;
        Some(UdpOrigin { socket, _same_number })
    }

    /// On every address of this host, v6 and v4 alike where there is v6.
    pub fn start_everywhere() -> UdpOrigin {
        let (socket, _same_number) = with_same_number(|| {
            dual_stack_socket().unwrap_or_else(|_| bind(Ipv4Addr::UNSPECIFIED.into()))
        });
        UdpOrigin { socket, _same_number }
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("a bound socket has an address")
    }

    pub fn port(&self) -> u16 {
        self.address().port()
    }

    /// The next datagram carries these data; returns who sent it.
    #[track_caller]
    pub fn expect(&self, data: &[u8]) -> SocketAddr {
        let (came, sender) = self.receive();
        if came != data {
            panic!("\n  expected {}\n  reached the origin {}\n", hex(data), hex(&came));
        }
        sender
    }

    /// The next datagram, and who sent it.
    #[track_caller]
    pub fn receive(&self) -> (Vec<u8>, SocketAddr) {
        match self.receive_within(PATIENCE) {
            Some(received) => received,
            None => panic!("no datagram reached the origin within {PATIENCE:?}"),
        }
    }

    /// As [`receive`](Self::receive), or none where nothing comes for so long.
    pub fn receive_within(&self, duration: Duration) -> Option<(Vec<u8>, SocketAddr)> {
        receive(&self.socket, duration)
    }

    #[track_caller]
    pub fn send_to(&self, address: SocketAddr, data: &[u8]) {
        send_from(&self.socket, address, data);
    }

    /// No datagram comes for this long.
    #[track_caller]
    pub fn expect_silence(&self, duration: Duration) {
        if let Some((data, sender)) = self.receive_within(duration) {
            panic!("\n  expected silence\n  reached the origin {} from {sender}\n", hex(&data));
        }
    }
}

impl SameNumber {
    fn as_of(socket: &UdpSocket) -> io::Result<SameNumber> {
        let address = socket.local_addr()?;
        let same = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        same.bind(&address.into())?;
        Ok(SameNumber { _socket: same })
    }
}

/// Sends back to everyone what it gets, until dropped.
pub struct UdpEcho {
    address: SocketAddr,
    is_ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpEcho {
    /// On 127.0.0.1.
    pub fn start() -> UdpEcho {
        UdpEcho::start_on(Ipv4Addr::LOCALHOST.into())
    }

    pub fn start_on(ip: IpAddr) -> UdpEcho {
        UdpEcho::serve(UdpOrigin::start_on(ip))
    }

    /// On every address of this host.
    pub fn start_everywhere() -> UdpEcho {
        UdpEcho::serve(UdpOrigin::start_everywhere())
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    fn serve(origin: UdpOrigin) -> UdpEcho {
        let address = origin.address();
        let is_ending = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&is_ending);
        let thread = thread::spawn(move || {
            while !ending.load(Ordering::Relaxed) {
                if let Some((data, sender)) = origin.receive_within(ECHO_LOOKS_EVERY) {
                    origin.send_to(sender, &data);
                }
            }
        });
        UdpEcho { address, is_ending, thread: Some(thread) }
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What its thread had to say it has said.
            let _ = thread.join();
        }
    }
}

/// A socket at this address and a port of the kernel's choice.
pub fn bind(ip: IpAddr) -> UdpSocket {
    with_room(UdpSocket::bind((ip, 0)).expect("the kernel has a port for us"))
}

/// A socket at this address for clients to send to.
pub fn bind_target(ip: IpAddr) -> (UdpSocket, SameNumber) {
    with_same_number(|| bind(ip))
}

fn with_same_number(bind: impl Fn() -> UdpSocket) -> (UdpSocket, SameNumber) {
    for _ in 0..PORT_CHOICES {
        let socket = bind();
        if let Ok(same_number) = SameNumber::as_of(&socket) {
            return (socket, same_number);
        }
    }
    panic!("{PORT_CHOICES} ports of the kernel's choice have been other sockets' for TCP");
}

/// An address of this host at which nobody receives datagrams.
pub fn closed_address() -> SocketAddr {
    UdpOrigin::start().address()
}

#[track_caller]
pub fn send_from(socket: &UdpSocket, to: SocketAddr, datagram: &[u8]) {
    let is_mapped = socket.local_addr().is_ok_and(|own| own.is_ipv6()) && to.is_ipv4();
    let to_in_family = match to.ip() {
        IpAddr::V4(ip) if is_mapped => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
        _ => to,
    };
    match socket.send_to(datagram, to_in_family) {
        Ok(len) => assert_eq!(len, datagram.len(), "a datagram is sent whole"),
        Err(error) => panic!("send {} to {to}: {error}", hex(datagram)),
    }
}

/// Whether datagrams from `ip` to `address` are refused: nobody receives there.
pub fn is_refused(ip: IpAddr, address: SocketAddr) -> bool {
    let socket = bind(ip);
    socket.connect(address).expect("any address can be connected to");
    // A datagram without a header, in case somebody receives it after all.
    let _ = socket.send(b"");
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a deadline above zero");
    matches!(socket.recv(&mut [0]), Err(error) if error.kind() == ErrorKind::ConnectionRefused)
}

/// The next datagram and its sender, unmapped.
#[track_caller]
fn receive(socket: &UdpSocket, duration: Duration) -> Option<(Vec<u8>, SocketAddr)> {
    let deadline = Instant::now() + duration;
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = left.max(Duration::from_millis(1));
        socket.set_read_timeout(Some(timeout)).expect("a deadline above zero");
        match socket.recv_from(&mut buffer) {
            Ok((len, sender)) => {
                buffer.truncate(len);
                let sender = SocketAddr::new(sender.ip().to_canonical(), sender.port());
                return Some((buffer, sender));
            }
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => {}
                ErrorKind::WouldBlock | ErrorKind::TimedOut if left.is_zero() => return None,
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {}
                _ => panic!("receive: {error}"),
            },
        }
    }
}

fn dual_stack_socket() -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
    socket.set_only_v6(false)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into())?;
    Ok(with_room(socket.into()))
}

/// Room for a burst, as far as the kernel allows.
fn with_room(socket: UdpSocket) -> UdpSocket {
    SockRef::from(&socket)
        .set_recv_buffer_size(RECEIVE_BUFFER)
        .expect("a size is cut to the limit");
    socket
}
