//! A name server of the tests' own, which answers as a test says it should, right or wrong. It
//! shares no line with the resolver it is asked by.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

pub(crate) const A: u16 = 1;
pub(crate) const AAAA: u16 = 28;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const OPT: u16 = 41;

const POLL: Duration = Duration::from_millis(20);

/// A name server, over UDP and TCP on the same port; it ends with its test.
pub(crate) struct Nameserver {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// The threads end when this does.
    _alive: Arc<()>,
}

/// A question as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// In the letters it came in.
    pub(crate) name: String,
    pub(crate) kind: u16,
    pub(crate) id: u16,
    pub(crate) from: SocketAddr,
    /// How long a datagram may be, if that is said.
    pub(crate) edns: Option<u16>,
    pub(crate) is_tcp: bool,
    question: Vec<u8>,
}

/// What the server does about a question, one after the other.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    /// This message, after so long.
    Message(Duration, Vec<u8>),
    /// Over TCP: these bytes as they are, one at a time, without a length before them.
    Bytewise(Vec<u8>),
    /// Over TCP: closes.
    Close,
}

type Script = Arc<dyn Fn(&Asked) -> Vec<Say> + Send + Sync>;

impl Nameserver {
    /// One that does what `script` says.
    pub(crate) fn start(script: impl Fn(&Asked) -> Vec<Say> + Send + Sync + 'static) -> Nameserver {
        Nameserver::start_on(Ipv4Addr::LOCALHOST.into(), script)
    }

    pub(crate) fn start_on(
        ip: IpAddr,
        script: impl Fn(&Asked) -> Vec<Say> + Send + Sync + 'static,
    ) -> Nameserver {
        let (udp, tcp) = (0..100)
            .find_map(|_| {
                let udp = UdpSocket::bind((ip, 0)).ok()?;
                let tcp = TcpListener::bind(udp.local_addr().ok()?).ok()?;
                Some((udp, tcp))
            })
            .expect("a port that is free for both");
        let address = udp.local_addr().expect("a socket has an address");
        let (asked, alive) = (Arc::default(), Arc::new(()));
        let script: Script = Arc::new(script);
        let served = Served { asked: Arc::clone(&asked), script };
        let (udp_served, watched) = (served.clone(), Arc::downgrade(&alive));
        udp.set_read_timeout(Some(POLL)).expect("a deadline above zero");
        thread::spawn(move || {
            while watched.strong_count() > 0 {
                udp_served.answer_datagram(&udp);
            }
        });
        let watched = Arc::downgrade(&alive);
        tcp.set_nonblocking(true).expect("a listener of ours");
        thread::spawn(move || {
            while watched.strong_count() > 0 {
                match tcp.accept() {
                    Ok((stream, _)) => served.clone().serve(stream),
                    Err(_) => thread::sleep(POLL),
                }
            }
        });
        Nameserver { address, asked, _alive: alive }
    }

    /// One that answers with these addresses, and tells of nothing for others.
    pub(crate) fn with(addresses: &[&str]) -> Nameserver {
        let addresses: Vec<IpAddr> = addresses.iter().map(|it| it.parse().unwrap()).collect();
        Nameserver::start(move |asked| vec![at_once(asked.addresses(&addresses, 60))])
    }

    /// As RINGSOCKS_RESOLVER has it.
    pub(crate) fn text(&self) -> String {
        self.address.to_string()
    }

    /// Every question so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How many questions there were for this name, whatever the letters.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.count_of(name, |_| true)
    }

    /// How many of them were of this kind.
    pub(crate) fn count_kind(&self, name: &str, kind: u16) -> usize {
        self.count_of(name, |asked| asked.kind == kind)
    }

    /// One that is sent again, because the answer is late on a busy machine, is the same question.
    fn count_of(&self, name: &str, counts: impl Fn(&Asked) -> bool) -> usize {
        let asked = self.asked();
        let counted = asked.iter().filter(|asked| asked.is(name) && counts(asked));
        counted.map(|asked| (asked.id, asked.from, &asked.name)).collect::<HashSet<_>>().len()
    }
}

#[derive(Clone)]
struct Served {
    asked: Arc<Mutex<Vec<Asked>>>,
    script: Script,
}

impl Served {
    fn answer_datagram(&self, socket: &UdpSocket) {
        let mut bytes = [0; 4096];
        let Ok((len, from)) = socket.recv_from(&mut bytes) else { return };
        let asked = Asked::read(&bytes[..len], from, false);
        self.asked.lock().unwrap().push(asked.clone());
        for say in (self.script)(&asked) {
            let Say::Message(after, message) = say else { continue };
            if after.is_zero() {
                let _ = socket.send_to(&message, from);
                continue;
            }
            let socket = socket.try_clone().expect("a descriptor more");
            thread::spawn(move || {
                thread::sleep(after);
                let _ = socket.send_to(&message, from);
            });
        }
    }

    fn serve(self, mut stream: TcpStream) {
        thread::spawn(move || -> std::io::Result<()> {
            let from = stream.peer_addr()?;
            let mut len = [0; 2];
            stream.read_exact(&mut len)?;
            let mut bytes = vec![0; u16::from_be_bytes(len).into()];
            stream.read_exact(&mut bytes)?;
            let asked = Asked::read(&bytes, from, true);
            self.asked.lock().unwrap().push(asked.clone());
            for say in (self.script)(&asked) {
                match say {
                    Say::Message(after, message) => {
                        thread::sleep(after);
                        stream.write_all(&framed(&message))?;
                    }
                    Say::Bytewise(bytes) => {
                        stream.set_nodelay(true)?;
                        for byte in bytes {
                            stream.write_all(&[byte])?;
                        }
                    }
                    Say::Close => return Ok(()),
                }
            }
            // It holds the line until the other end has enough of it.
            stream.read_to_end(&mut bytes).map(drop)
        });
    }
}

impl Asked {
    pub(crate) fn read(bytes: &[u8], from: SocketAddr, is_tcp: bool) -> Asked {
        let mut labels = Vec::new();
        let mut at = 12;
        while bytes[at] > 0 {
            let end = at + 1 + usize::from(bytes[at]);
            labels.push(String::from_utf8(bytes[at + 1..end].to_vec()).expect("a host name"));
            at = end;
        }
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let end = at + 5;
        let has_opt = word(10) == 1 && bytes[end] == 0 && word(end + 1) == OPT;
        Asked {
            name: labels.join("."),
            kind: word(at + 1),
            id: word(0),
            from,
            edns: has_opt.then(|| word(end + 3)),
            is_tcp,
            question: bytes[12..end].to_vec(),
        }
    }

    /// Whether it is for this name, whatever the letters.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// An answer that says nothing yet.
    pub(crate) fn reply(&self) -> Message {
        Message {
            id: self.id,
            flags: 0x8180,
            question: self.question.clone(),
            answers: Vec::new(),
            authority: Vec::new(),
        }
    }

    /// Those of `addresses` that were asked for.
    pub(crate) fn addresses(&self, addresses: &[IpAddr], ttl: u32) -> Vec<u8> {
        let wanted = addresses.iter().filter(|ip| ip.is_ipv6() == (self.kind == AAAA));
        let reply = wanted.fold(self.reply(), |reply, ip| reply.address(&self.name, *ip, ttl));
        reply.bytes()
    }
}

/// A message, made by hand.
#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    pub(crate) question: Vec<u8>,
    answers: Vec<Vec<u8>>,
    authority: Vec<Vec<u8>>,
}

impl Message {
    pub(crate) fn id(self, id: u16) -> Message {
        Message { id, ..self }
    }

    pub(crate) fn rcode(self, rcode: u16) -> Message {
        Message { flags: self.flags & !15 | rcode, ..self }
    }

    pub(crate) fn truncated(self) -> Message {
        Message { flags: self.flags | 0x0200, ..self }
    }

    /// To another question.
    pub(crate) fn about(self, name: &str, kind: u16) -> Message {
        let question = [&encode(name)[..], &kind.to_be_bytes(), &[0, 1]].concat();
        Message { question, ..self }
    }

    pub(crate) fn address(self, owner: &str, ip: IpAddr, ttl: u32) -> Message {
        match ip {
            IpAddr::V4(ip) => self.answer(owner, A, ttl, &ip.octets()),
            IpAddr::V6(ip) => self.answer(owner, AAAA, ttl, &ip.octets()),
        }
    }

    pub(crate) fn alias(self, owner: &str, of: &str, ttl: u32) -> Message {
        self.answer(owner, CNAME, ttl, &encode(of))
    }

    pub(crate) fn answer(mut self, owner: &str, kind: u16, ttl: u32, data: &[u8]) -> Message {
        self.answers.push(record(&encode(owner), kind, ttl, data));
        self
    }

    /// That there is nothing, for so many seconds.
    pub(crate) fn soa(mut self, ttl: u32) -> Message {
        let numbers = [1, 2, 3, 4, ttl].map(u32::to_be_bytes).concat();
        let data = [&encode("ns.example")[..], &encode("who.example"), &numbers].concat();
        self.authority.push(record(&encode("example"), SOA, ttl, &data));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let counts = [1, self.answers.len() as u16, self.authority.len() as u16, 0];
        [
            [self.id, self.flags].map(u16::to_be_bytes).concat(),
            counts.map(u16::to_be_bytes).concat(),
            self.question.clone(),
            self.answers.concat(),
            self.authority.concat(),
        ]
        .concat()
    }
}

pub(crate) fn at_once(message: Vec<u8>) -> Say {
    Say::Message(Duration::ZERO, message)
}

/// With its length before it, as over TCP.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

pub(crate) fn encode(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> =
        labels.flat_map(|it| [&[it.len() as u8], it.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}

fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let len = data.len() as u16;
    [owner, &kind.to_be_bytes(), &[0, 1], &ttl.to_be_bytes(), &len.to_be_bytes(), data].concat()
}
