//! How often a reactor allocates: never for a message, sealed or not, or a datagram, and hardly ever
//! for a session.
//!
//! It runs in this process, below an allocator that counts, so there is this one test: another
//! would be counted, too.

#[path = "support/mechanism.rs"]
mod mechanism;

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ringsocks::access::AccessLog;
use ringsocks::auth::{Auth, Groups, Passwords};
use ringsocks::config::{self, AuthMethod, AuthRule, Config, Polling, RelayMode};
use ringsocks::dns::{CHANNELS_MAX, Sources};
use ringsocks::offload::Pool;
use ringsocks::policy::{
    Admitted, ClientLimits, Commands, Host, Methods, Penalties, Ports, SessionLimit, Targets,
};
use ringsocks::proto::gssapi::{HEADER_BYTES, MessageType, Seal, header};
use ringsocks::reactor::{Group, Lookups, Mail, Mailbox, Reactor, Setup, TaskPools};
use ringsocks::session::{Sealing, Terms};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use crate::mechanism::{MockMechanism, MockSeal, Wish, framed, framed_len};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const PATIENCE: Duration = Duration::from_secs(10);

/// The list of a session's attempts to connect.
const ALLOCATIONS_PER_SESSION: usize = 1;

#[test]
fn messages_and_datagrams_allocate_nothing_and_a_session_next_to_nothing() {
    let (proxy, mailbox, reactor) = start();
    let origin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();

    // What is kept for good is made by whoever needs it first.
    for _ in 0..20 {
        whole_session(proxy, &origin);
    }
    let (mut client, mut target) = session(proxy, &origin);
    let mut buffer = vec![0; 64 * 1024];
    exchange(&mut client, &mut target, &mut buffer);

    let messages = allocations(|| {
        for len in (0..2000).map(|round| 1 + round * 31) {
            exchange(&mut client, &mut target, &mut buffer[..len]);
        }
    });
    assert_eq!(messages, 0, "allocations for 4000 messages");

    let (mut sealed, mut sealed_target) = Sealed::open(proxy, &origin);
    for len in [buffer.len() - 1000, 7] {
        sealed.exchange(&mut sealed_target, &mut buffer[..len]);
    }
    let tokens = allocations(|| {
        for len in (0..1000).map(|round| 1 + round * 31) {
            sealed.exchange(&mut sealed_target, &mut buffer[..len]);
        }
    });
    assert_eq!(tokens, 0, "allocations for 2000 sealed messages");

    const SESSIONS: usize = 500;
    let whole = allocations(|| (0..SESSIONS).for_each(|_| whole_session(proxy, &origin)));
    println!("{whole} allocations for {SESSIONS} sessions");
    let (least, most) = (SESSIONS / 2, SESSIONS * ALLOCATIONS_PER_SESSION + SESSIONS / 100);
    assert!((least..=most).contains(&whole), "{whole} allocations for {SESSIONS} sessions");

    let mut association = Association::open(proxy);
    association.exchange(4);
    let datagrams = allocations(|| (0..500).for_each(|round| association.exchange(1 + round % 8)));
    assert_eq!(datagrams, 0, "allocations for 4500 datagrams");

    drop((client, target, sealed, sealed_target, association));
    mailbox.post(Mail::Stop { until: Instant::now() + PATIENCE });
    let report = reactor.join().unwrap();
    assert_eq!(report.counters.accepted, 20 + 1 + 1 + SESSIONS as u64 + 1);
}

fn allocations(act: impl FnOnce()) -> usize {
    let region = Region::new(COUNTED);
    act();
    let change = region.change();
    change.allocations + change.reallocations
}

type Running = thread::JoinHandle<ringsocks::metrics::Report>;

fn start() -> (SocketAddr, Arc<Mailbox>, Running) {
    let group = Group::take((Ipv4Addr::LOCALHOST, 0).into(), 1, false).unwrap();
    let proxy = group.address;
    let (_, mut sinks) = AccessLog::start(&config::AccessLog::Off, 1).unwrap();
    let config = Config::default();
    let terms = Terms {
        methods: vec![Methods::new(vec![AuthRule::for_everyone(vec![
            AuthMethod::Gssapi,
            AuthMethod::None,
        ])])],
        penalties: Penalties::new(config.penalty).into(),
        admitted: Admitted::new(None).into(),
        sealing: Sealing::default(),
        timeout: config.timeout,
        commands: vec![Commands::default()],
        targets: vec![Targets::new(None)],
        udp_ports: Ports::new(config.udp.ports, 0).into(),
        udp: config.udp,
        bind_ports: Ports::new(config.bind.ports, 0).into(),
        bind: config.bind,
        limit: Arc::new(SessionLimit::new(100, 200)),
        clients: Arc::new(ClientLimits::new(None, config.limit.handshakes_per_client, None)),
    };
    let sources = Arc::new(Sources::new(Vec::new(), b"", false));
    let pool = || Pool::new("task", 1, 8, 8).unwrap();
    let reactor = Reactor::new(Setup {
        index: 0,
        listeners: group.listen(0, &Arc::from([])).unwrap(),
        terms: Arc::new(terms),
        host: Arc::new(Host::default()),
        poll: Polling::Wait,
        rings_max: 16,
        relay: RelayMode::Auto,
        pipes_max: 8,
        resolver: Lookups::Own(sources, CHANNELS_MAX),
        auth: Auth::new(Passwords::Nobody, Groups::default(), Some(Arc::new(MockMechanism))).into(),
        tasks: TaskPools { hashes: pool(), pam: pool(), gssapi: pool() },
        sink: sinks.remove(0),
    })
    .unwrap();
    let mailbox = reactor.mailbox();
    (proxy, mailbox, thread::spawn(move || reactor.run().unwrap()))
}

/// A granted session: its client and its target.
fn session(proxy: SocketAddr, origin: &TcpListener) -> (TcpStream, TcpStream) {
    let mut client = TcpStream::connect(proxy).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    granted(&mut client, 1, origin.local_addr().unwrap().port());
    let (target, _) = origin.accept().unwrap();
    target.set_read_timeout(Some(PATIENCE)).unwrap();
    (client, target)
}

/// The port that a request for one of this host is granted.
fn granted(client: &mut TcpStream, command: u8, port: u16) -> u16 {
    client.write_all(&[5, 1, 0]).unwrap();
    let mut reply = [0; 10];
    client.read_exact(&mut reply[..2]).unwrap();
    let [high, low] = port.to_be_bytes();
    client.write_all(&[5, command, 0, 1, 127, 0, 0, 1, high, low]).unwrap();
    client.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..2], [5, 0]);
    u16::from_be_bytes([reply[8], reply[9]])
}

/// A client that sends datagrams, and whom it sends them to.
struct Association {
    _control: TcpStream,
    client: UdpSocket,
    target: UdpSocket,
    header: [u8; 10],
}

impl Association {
    fn open(proxy: SocketAddr) -> Association {
        let socket = || {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let (client, target) = (socket(), socket());
        let mut control = TcpStream::connect(proxy).unwrap();
        control.set_read_timeout(Some(PATIENCE)).unwrap();
        let relay = granted(&mut control, 3, client.local_addr().unwrap().port());
        client.connect((Ipv4Addr::LOCALHOST, relay)).unwrap();
        let [high, low] = target.local_addr().unwrap().port().to_be_bytes();
        let header = [0, 0, 0, 1, 127, 0, 0, 1, high, low];
        Association { _control: control, client, target, header }
    }

    /// So many datagrams at once, and as many back.
    fn exchange(&mut self, count: usize) {
        let mut buffer = [7; 100];
        buffer[..self.header.len()].copy_from_slice(&self.header);
        for _ in 0..count {
            self.client.send(&buffer).unwrap();
        }
        for _ in 0..count {
            let (len, source) = self.target.recv_from(&mut buffer).unwrap();
            assert_eq!(len, buffer.len() - self.header.len());
            self.target.send_to(&buffer[..len], source).unwrap();
        }
        for _ in 0..count {
            assert_eq!(self.client.recv(&mut buffer).unwrap(), buffer.len());
            assert_eq!(buffer[..self.header.len()], self.header);
        }
    }
}

/// A client whose messages are sealed; it keeps all it needs.
struct Sealed {
    client: TcpStream,
    seal: MockSeal,
    token: Vec<u8>,
    opened: Vec<u8>,
}

impl Sealed {
    /// A granted session of one, and its target.
    fn open(proxy: SocketAddr, origin: &TcpListener) -> (Sealed, TcpStream) {
        let user = b"alice".to_vec();
        let wish = Wish { key: 1, legs: 1, is_good: true, answer_len: 5, lasts: u64::MAX, user };
        let mut client = TcpStream::connect(proxy).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(&[5, 1, 1]).unwrap();
        client.write_all(&framed(MessageType::Context, &wish.token(1, 0))).unwrap();
        let mut answers = [0; 2 + HEADER_BYTES + 5];
        client.read_exact(&mut answers).unwrap();
        assert_eq!(answers[..3], [5, 1, 1]);
        let room = || Vec::with_capacity(256 * 1024);
        let mut sealed = Sealed { client, seal: wish.seal(), token: room(), opened: room() };
        sealed.send(MessageType::Level, &[2]);
        sealed.receive(1);
        assert_eq!(sealed.opened, [2]);
        let [high, low] = origin.local_addr().unwrap().port().to_be_bytes();
        sealed.send(MessageType::Data, &[5, 1, 0, 1, 127, 0, 0, 1, high, low]);
        sealed.receive(10);
        assert_eq!(sealed.opened[..2], [5, 0]);
        let (target, _) = origin.accept().unwrap();
        target.set_read_timeout(Some(PATIENCE)).unwrap();
        (sealed, target)
    }

    /// A message each way.
    fn exchange(&mut self, target: &mut TcpStream, buffer: &mut [u8]) {
        self.send(MessageType::Data, buffer);
        target.read_exact(buffer).unwrap();
        target.write_all(buffer).unwrap();
        self.receive(buffer.len());
        assert!(self.opened == buffer);
    }

    fn send(&mut self, kind: MessageType, message: &[u8]) {
        self.token.clear();
        self.token.extend([0; HEADER_BYTES]);
        self.seal.wrap(message, kind == MessageType::Data, &mut self.token).unwrap();
        let len = self.token.len() - HEADER_BYTES;
        self.token[..HEADER_BYTES].copy_from_slice(&header(kind, len));
        self.client.write_all(&self.token).unwrap();
    }

    /// Opens so many bytes, in however many tokens they come.
    fn receive(&mut self, len: usize) {
        self.opened.clear();
        while self.opened.len() < len {
            self.token.resize(HEADER_BYTES, 0);
            self.client.read_exact(&mut self.token).unwrap();
            let all = framed_len(&self.token).unwrap();
            self.token.resize(all, 0);
            self.client.read_exact(&mut self.token[HEADER_BYTES..]).unwrap();
            let token = &mut self.token[HEADER_BYTES..];
            let message = self.seal.unwrap(token).unwrap().message;
            self.opened.extend_from_slice(&token[message]);
        }
    }
}

/// A message each way.
fn exchange(client: &mut TcpStream, target: &mut TcpStream, buffer: &mut [u8]) {
    client.write_all(buffer).unwrap();
    target.read_exact(buffer).unwrap();
    target.write_all(buffer).unwrap();
    client.read_exact(buffer).unwrap();
}

fn whole_session(proxy: SocketAddr, origin: &TcpListener) {
    let (mut client, mut target) = session(proxy, origin);
    exchange(&mut client, &mut target, &mut [7]);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(target.read(&mut [0]).unwrap(), 0);
    target.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}
