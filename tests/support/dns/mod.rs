//! A name server that does what a test tells it to, right or wrong, and remembers what it was asked.

pub mod message;

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;

use self::message::{A, AAAA, Message, NXDOMAIN, Question};
use super::server::Server;
use super::{PATIENCE, wait_until};

/// How often a thread looks whether it is to end.
const GLANCE: Duration = Duration::from_millis(50);

/// What is done about a question.
pub struct Response {
    messages: Vec<Vec<u8>>,
    after: Duration,
    manner: Manner,
}

enum Manner {
    Plain,
    /// Over a stream, a byte at a time.
    Bytewise,
    /// Over a stream, so many bytes and nothing after them.
    Stalling(usize),
    /// Over a stream, so many bytes and then the end.
    Ending(usize),
}

impl Response {
    pub fn silence() -> Response {
        Response { messages: Vec::new(), after: Duration::ZERO, manner: Manner::Plain }
    }

    /// These bytes, whatever they are.
    pub fn bytes(bytes: Vec<u8>) -> Response {
        Response { messages: vec![bytes], ..Response::silence() }
    }

    /// Another message right behind.
    pub fn and(mut self, message: &Message) -> Response {
        self.messages.push(message.bytes());
        self
    }

    pub fn after(self, after: Duration) -> Response {
        Response { after, ..self }
    }

    pub fn bytewise(self) -> Response {
        Response { manner: Manner::Bytewise, ..self }
    }

    pub fn stalling_after(self, len: usize) -> Response {
        Response { manner: Manner::Stalling(len), ..self }
    }

    pub fn ending_after(self, len: usize) -> Response {
        Response { manner: Manner::Ending(len), ..self }
    }
}

impl From<Message> for Response {
    fn from(message: Message) -> Response {
        Response::bytes(message.bytes())
    }
}

type Script = Arc<dyn Fn(&Question) -> Response + Send + Sync>;

/// A name server on UDP and TCP, gone when dropped. A name nobody told it of does not exist.
pub struct Nameserver {
    address: SocketAddr,
    zone: Arc<Zone>,
    threads: Vec<JoinHandle<()>>,
}

struct Zone {
    scripts: Mutex<HashMap<String, Script>>,
    fallback: Mutex<Script>,
    questions: Mutex<Vec<Question>>,
    malformed: Mutex<Vec<String>>,
    over: AtomicBool,
}

impl Nameserver {
    /// On 127.0.0.1.
    #[track_caller]
    pub fn start() -> Nameserver {
        Nameserver::start_at((Ipv4Addr::LOCALHOST, 0).into())
    }

    /// On port 53, which a resolv.conf leads to: needs root.
    #[track_caller]
    pub fn start_on_port_53() -> Nameserver {
        let bound = (1..=250)
            .find_map(|host| Sockets::bind((Ipv4Addr::new(127, 9, 9, host), 53).into()).ok());
        Nameserver::serve(bound.expect("root has a port 53 on one of 250 addresses"))
    }

    /// At this address; port 0 is the kernel's choice.
    #[track_caller]
    pub fn start_at(address: SocketAddr) -> Nameserver {
        Nameserver::serve(Sockets::bind_somehow(address))
    }

    /// One that refuses every stream.
    #[track_caller]
    pub fn start_without_tcp() -> Nameserver {
        let mut bound = Sockets::bind_somehow((Ipv4Addr::LOCALHOST, 0).into());
        bound.streams = None;
        Nameserver::serve(bound)
    }

    fn serve(bound: Sockets) -> Nameserver {
        let Sockets { datagrams, streams } = bound;
        let address = datagrams.local_addr().expect("a bound socket has an address");
        let zone = Arc::new(Zone {
            scripts: Mutex::default(),
            fallback: Mutex::new(Arc::new(|question| {
                question.failure(NXDOMAIN).soa(message::TTL, message::TTL).into()
            })),
            questions: Mutex::default(),
            malformed: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let mut threads = Vec::new();
        let for_datagrams = Arc::clone(&zone);
        threads.push(thread::spawn(move || for_datagrams.serve_datagrams(datagrams)));
        if let Some(listener) = streams {
            let for_streams = Arc::clone(&zone);
            threads.push(thread::spawn(move || for_streams.accept(&listener)));
        }
        Nameserver { address, zone, threads }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The real binary with one reactor, which knows no other name server.
    #[track_caller]
    pub fn server(&self, env: &[(&str, &str)]) -> Server {
        server_asking(&[self.address], env)
    }

    /// From now on this is done about questions for `name`.
    pub fn script<R: Into<Response>>(
        &self,
        name: &str,
        script: impl Fn(&Question) -> R + Send + Sync + 'static,
    ) {
        let script: Script = Arc::new(move |question| script(question).into());
        self.zone.scripts.lock().unwrap().insert(name.to_ascii_lowercase(), script);
    }

    /// From now on this is done about names without a script of their own.
    pub fn script_others<R: Into<Response>>(
        &self,
        script: impl Fn(&Question) -> R + Send + Sync + 'static,
    ) {
        *self.zone.fallback.lock().unwrap() = Arc::new(move |question| script(question).into());
    }

    /// The name has these addresses, and no others.
    pub fn addresses(&self, name: &str, addresses: &[&str]) {
        let addresses: Vec<String> = addresses.iter().map(|it| (*it).to_owned()).collect();
        self.script(name, move |question| {
            question.addresses(&addresses.iter().map(String::as_str).collect::<Vec<_>>())
        });
    }

    /// Every question it heard so far, repetitions included; each was well-formed.
    #[track_caller]
    pub fn heard(&self) -> Vec<Question> {
        let malformed = self.zone.malformed.lock().unwrap();
        assert!(malformed.is_empty(), "malformed questions: {malformed:#?}");
        self.zone.questions.lock().unwrap().clone()
    }

    /// Every question it was asked so far, once however often it was repeated: on a busy machine
    /// an answer may take so long that it is.
    #[track_caller]
    pub fn questions(&self) -> Vec<Question> {
        let mut known = HashSet::new();
        let mut questions = self.heard();
        questions.retain(|it| known.insert((it.name.clone(), it.kind, it.id, it.from)));
        questions
    }

    #[track_caller]
    pub fn questions_for(&self, name: &str) -> Vec<Question> {
        let mut questions = self.questions();
        questions.retain(|question| question.name.eq_ignore_ascii_case(name));
        questions
    }

    /// How often it was asked for the addresses of each family of `name`, v4 first.
    #[track_caller]
    pub fn counts_for(&self, name: &str) -> [usize; 2] {
        let questions = self.questions_for(name);
        [A, AAAA].map(|kind| questions.iter().filter(|it| it.kind == kind).count())
    }

    /// Waits until it was asked for `name`.
    #[track_caller]
    pub fn wait_for_question(&self, name: &str) -> Question {
        wait_until(&format!("a question for {name}"), || !self.questions_for(name).is_empty());
        self.questions_for(name).remove(0)
    }
}

impl Drop for Nameserver {
    fn drop(&mut self) {
        self.zone.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It has said itself why it failed, if it did.
            let _ = thread.join();
        }
    }
}

/// The real binary with one reactor, which asks these name servers.
#[track_caller]
pub fn server_asking(nameservers: &[SocketAddr], env: &[(&str, &str)]) -> Server {
    let nameservers: Vec<String> = nameservers.iter().map(SocketAddr::to_string).collect();
    let nameservers = nameservers.join(",");
    let ours = [("RINGSOCKS_RESOLVER", &*nameservers), ("RINGSOCKS_WORKERS", "1")];
    Server::start_with_env(&[], &[&ours[..], env].concat())
}

/// A port for datagrams that refuses them, held so that nobody else gets it: what is connected
/// elsewhere hears only from there.
pub struct ClosedNameserver(UdpSocket);

impl ClosedNameserver {
    pub fn reserve() -> ClosedNameserver {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        socket.connect((Ipv4Addr::LOCALHOST, 1)).expect("any address will do");
        ClosedNameserver(socket)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("a bound socket has an address")
    }
}

struct Sockets {
    datagrams: UdpSocket,
    streams: Option<TcpListener>,
}

impl Sockets {
    /// A port that is free for datagrams may be taken for streams: another is tried.
    #[track_caller]
    fn bind_somehow(address: SocketAddr) -> Sockets {
        let bound = (0..50).find_map(|_| Sockets::bind(address).ok());
        bound.unwrap_or_else(|| panic!("{address} is not free for both protocols"))
    }

    fn bind(address: SocketAddr) -> io::Result<Sockets> {
        let datagrams = UdpSocket::bind(address)?;
        // As much as the kernel gives: thousands may ask at once.
        SockRef::from(&datagrams).set_recv_buffer_size(4 << 20)?;
        datagrams.set_read_timeout(Some(GLANCE))?;
        let streams = TcpListener::bind(datagrams.local_addr()?)?;
        SockRef::from(&streams).set_read_timeout(Some(GLANCE))?;
        Ok(Sockets { datagrams, streams: Some(streams) })
    }
}

impl Zone {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// What to do about a message, if it is a question.
    fn hear(&self, message: &[u8], from: SocketAddr, over_tcp: bool) -> Option<Response> {
        match Question::read(message, from, over_tcp) {
            Ok(question) => {
                self.questions.lock().unwrap().push(question.clone());
                let script = self.scripts.lock().unwrap().get(&question.lower_name()).cloned();
                let script = script.unwrap_or_else(|| self.fallback.lock().unwrap().clone());
                Some(script(&question))
            }
            Err(what) => {
                self.malformed.lock().unwrap().push(format!("{what}: {}", message.escape_ascii()));
                None
            }
        }
    }

    fn serve_datagrams(&self, socket: UdpSocket) {
        let socket = Arc::new(socket);
        let mut buffer = [0; 4096];
        while !self.is_over() {
            // A time-out, or what became of an answer that nobody waited for.
            let Ok((len, from)) = socket.recv_from(&mut buffer) else { continue };
            let Some(response) = self.hear(&buffer[..len], from, false) else { continue };
            if response.after.is_zero() {
                send_datagrams(&socket, &response, from);
            } else {
                let socket = Arc::clone(&socket);
                thread::spawn(move || {
                    thread::sleep(response.after);
                    send_datagrams(&socket, &response, from);
                });
            }
        }
    }

    fn accept(self: &Arc<Zone>, listener: &TcpListener) {
        while !self.is_over() {
            let Ok((stream, from)) = listener.accept() else { continue };
            let zone = Arc::clone(self);
            thread::spawn(move || zone.serve_stream(stream, from));
        }
    }

    /// Answers one question after the other, until the other side ends.
    fn serve_stream(&self, mut stream: TcpStream, from: SocketAddr) {
        stream.set_nodelay(true).expect("NODELAY can be set on a socket");
        stream.set_read_timeout(Some(3 * PATIENCE)).expect("a deadline above zero");
        let mut len = [0; 2];
        while stream.read_exact(&mut len).is_ok() {
            let mut message = vec![0; u16::from_be_bytes(len).into()];
            if stream.read_exact(&mut message).is_err() {
                return;
            }
            let Some(response) = self.hear(&message, from, true) else { return };
            thread::sleep(response.after);
            if !send_over(&mut stream, &response) {
                return;
            }
        }
    }
}

fn send_datagrams(socket: &UdpSocket, response: &Response, to: SocketAddr) {
    for message in &response.messages {
        // The other side may be gone, or the message longer than a datagram can be.
        let _ = socket.send_to(message, to);
    }
}

/// Whether the stream goes on.
fn send_over(stream: &mut TcpStream, response: &Response) -> bool {
    for message in &response.messages {
        let len = u16::try_from(message.len()).expect("at most 65,535 bytes");
        let framed = [&len.to_be_bytes()[..], message].concat();
        let sent = match response.manner {
            Manner::Bytewise => framed.chunks(1).try_for_each(|byte| {
                thread::sleep(Duration::from_millis(1));
                stream.write_all(byte)
            }),
            Manner::Stalling(len) | Manner::Ending(len) => stream.write_all(&framed[..len]),
            Manner::Plain => stream.write_all(&framed),
        };
        if sent.is_err() {
            return false;
        }
    }
    !matches!(response.manner, Manner::Ending(_))
}
