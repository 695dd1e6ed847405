//! A resolver whose servers send anything at any time: it uses its channels by the rules, tells
//! everyone who waits the last answer once, and is done with everything in time.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringsocks::dns::{
    Action, Answer, Asked, CHANNELS_MAX, ChannelId, Resolver, Sources, Transport,
};
use ringsocks::proto::{Host, Name};
use ringsocks::token::{Role, Token};

use super::script::Script;

const NAMES: [&str; 5] = ["a.example", "b.example", "c.example", "d.d.example", "LOCALHOST."];

/// The servers asked in the file are no more (resolv.conf(5)).
const SERVERS_MAX: usize = 3;

/// What a lookup may take whose waiters have no deadline, and a little.
const PATIENCE: Duration = Duration::from_secs(31);

/// From one deadline to the next, with nothing arriving, it takes fewer steps than these.
const STEPS_MAX: usize = 20_000;

const STEP: Duration = Duration::from_millis(10);

/// `input` is a [`Script`] of what happens.
pub fn check(input: &[u8]) {
    let mut script = Script::new(input);
    let mut world = World::new();
    while let Some(what) = script.byte() {
        world.act(what, &mut script);
        world.settle();
    }
    world.wait_until_all_is_done();
}

struct World {
    resolver: Resolver,
    now: Instant,
    channels: HashMap<ChannelId, Channel>,
    /// Those that were ever open.
    known: Vec<ChannelId>,
    waiters: HashMap<Token, Heard>,
    tokens: Vec<Token>,
}

struct Channel {
    transport: Transport,
    /// What was sent there last, without the length before it.
    query: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq)]
enum Heard {
    Nothing,
    Part,
}

impl World {
    fn new() -> World {
        let now = Instant::now();
        let servers = ["192.0.2.1:53", "[2001:db8::1]:53"];
        let servers = servers.map(|server| server.parse().expect("an address")).into();
        let sources = Arc::new(Sources::new(servers, b"192.0.2.9 c.example", false));
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let entropy = move |bytes: &mut [u8]| {
            for byte in bytes {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *byte = (state >> 24) as u8;
            }
        };
        World {
            resolver: Resolver::new(sources, Box::new(entropy), CHANNELS_MAX, now),
            now,
            channels: HashMap::new(),
            known: Vec::new(),
            waiters: HashMap::new(),
            tokens: Vec::new(),
        }
    }

    fn act(&mut self, what: u8, script: &mut Script) {
        match what % 10 {
            0 => self.ask(script),
            1 => self.forget(script),
            2 => self.pass(STEP * script.number()),
            3 => self.pass_until_deadline(),
            4 => self.with_channel(script, |world, id, script| {
                let bytes = script.bytes().to_vec();
                world.resolver.handle_datagram(id, &bytes, world.now);
            }),
            5 => self.with_channel(script, |world, id, script| {
                let bytes = script.bytes().to_vec();
                world.resolver.handle_stream(id, &bytes, world.now);
            }),
            6 => self.with_channel(script, World::answer),
            7 => self.with_channel(script, |world, id, _| {
                world.resolver.handle_failure(id, world.now);
            }),
            8 => self.with_channel(script, |world, id, _| {
                world.resolver.handle_shortage(id, world.now);
            }),
            _ => self.use_sources(script),
        }
    }

    fn ask(&mut self, script: &mut Script) {
        let name = name(NAMES[script.number() as usize % NAMES.len()]);
        let token = Token::new(self.tokens.len() as u32, Role::Answer, 7);
        let deadline = match script.number() {
            0 => None,
            steps => Some(self.now + 10 * STEP * steps),
        };
        self.tokens.push(token);
        match self.resolver.ask(&name, token, deadline, self.now) {
            Asked::Pending => {
                self.waiters.insert(token, Heard::Nothing);
            }
            Asked::Known(answer) if !answer.is_last() => {
                check_answer(&answer, Heard::Nothing);
                self.waiters.insert(token, Heard::Part);
            }
            Asked::Known(answer) => check_answer(&answer, Heard::Nothing),
            Asked::Full => panic!("full at {} names", self.resolver.open()),
        }
    }

    fn forget(&mut self, script: &mut Script) {
        let number = script.number() as usize;
        if let Some(token) = self.tokens.get(number % self.tokens.len().max(1)) {
            self.resolver.forget(*token);
            self.waiters.remove(token);
        }
    }

    /// Time goes by, and every deadline in it is kept.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..STEPS_MAX {
            match self.resolver.next_deadline().filter(|at| *at <= until) {
                Some(at) => self.handle_deadline(at),
                None => {
                    self.now = until;
                    return;
                }
            }
        }
        panic!("too many deadlines in {time:?}");
    }

    fn pass_until_deadline(&mut self) {
        if let Some(at) = self.resolver.next_deadline() {
            self.handle_deadline(at);
        }
    }

    fn handle_deadline(&mut self, at: Instant) {
        self.now = self.now.max(at);
        self.resolver.handle_deadline(self.now);
        self.settle();
    }

    /// Does something to a channel, which need not be open any more.
    fn with_channel(
        &mut self,
        script: &mut Script,
        act: impl FnOnce(&mut World, ChannelId, &mut Script),
    ) {
        let number = script.number() as usize;
        if let Some(id) = self.known.iter().rev().nth(number % self.known.len().max(1)) {
            act(self, *id, script);
        }
    }

    /// An answer to what was asked last on a channel.
    fn answer(&mut self, id: ChannelId, script: &mut Script) {
        let Some(channel) = self.channels.get(&id) else { return };
        let answer = answer_to(&channel.query, script);
        match channel.transport {
            Transport::Udp => self.resolver.handle_datagram(id, &answer, self.now),
            Transport::Tcp => {
                let stream = [&(answer.len() as u16).to_be_bytes()[..], &answer].concat();
                let (first, rest) = stream.split_at(script.number() as usize % stream.len());
                self.resolver.handle_stream(id, first, self.now);
                self.resolver.handle_stream(id, rest, self.now);
            }
        }
    }

    fn use_sources(&mut self, script: &mut Script) {
        let servers = Sources::servers_in(script.bytes(), |_| None);
        assert!((1..=SERVERS_MAX).contains(&servers.len()), "{servers:?}");
        let hosts = script.bytes();
        let sources = Sources::new(servers, hosts, hosts.len() % 2 == 1);
        self.resolver.use_sources(Arc::new(sources), self.now);
    }

    /// Does what the resolver wants done.
    fn settle(&mut self) {
        while let Some(action) = self.resolver.poll_action() {
            match action {
                Action::Open { channel, server, transport } => {
                    self.open(channel, server, transport);
                }
                Action::Send { channel, bytes } => self.send(channel, &bytes),
                Action::Close { channel } => {
                    assert!(self.channels.remove(&channel).is_some(), "{channel:?} is not open");
                }
            }
        }
        assert_eq!(self.channels.len(), self.resolver.channels());
        while let Some((token, answer)) = self.resolver.poll_answer() {
            let heard = self.waiters.remove(&token).expect("it waits for an answer");
            check_answer(&answer, heard);
            if !answer.is_last() {
                self.waiters.insert(token, Heard::Part);
            }
        }
    }

    fn open(&mut self, id: ChannelId, server: SocketAddr, transport: Transport) {
        assert!(id.slot < CHANNELS_MAX, "{id:?}");
        assert_ne!(server.port(), 0);
        assert!(!self.known.contains(&id), "{id:?} is used again");
        let slots: HashSet<usize> = self.channels.keys().map(|id| id.slot).collect();
        assert!(!slots.contains(&id.slot), "{id:?}: its slot is taken");
        self.known.push(id);
        self.channels.insert(id, Channel { transport, query: Vec::new() });
    }

    fn send(&mut self, id: ChannelId, bytes: &[u8]) {
        let channel = self.channels.get_mut(&id).expect("it sends on a channel that is open");
        channel.query = match channel.transport {
            Transport::Udp => bytes.to_vec(),
            Transport::Tcp => {
                let (len, query) = bytes.split_first_chunk().expect("a length");
                assert_eq!(usize::from(u16::from_be_bytes(*len)), query.len());
                query.to_vec()
            }
        };
        check_query(&channel.query);
    }

    /// When nothing arrives any more, every wait ends, and nothing is left.
    fn wait_until_all_is_done(&mut self) {
        self.pass(PATIENCE);
        assert!(self.waiters.is_empty(), "{} still wait", self.waiters.len());
        assert_eq!((self.resolver.open(), self.resolver.channels()), (0, 0));
        assert_eq!(self.resolver.next_deadline(), None);
    }
}

fn check_answer(answer: &Answer, heard: Heard) {
    match answer {
        Answer::Addresses { addresses, more } => {
            assert!(!more || heard == Heard::Nothing, "two parts, and more to come");
            assert!(!addresses.is_empty() || heard == Heard::Part, "no address, and no failure");
        }
        Answer::Failed(failure) => {
            assert!(heard == Heard::Nothing, "{failure:?} behind addresses");
        }
    }
}

/// One question about a name, recursion desired (RFC 1035).
fn check_query(query: &[u8]) {
    assert!((12 + 5..=12 + 255 + 4 + 11).contains(&query.len()), "{query:x?}");
    assert_eq!(query[2..11], [1, 0, 0, 1, 0, 0, 0, 0, 0], "{query:x?}");
    assert!(query[11] <= 1, "{query:x?}");
}

fn answer_to(query: &[u8], script: &mut Script) -> Vec<u8> {
    const HEADER: usize = 12;
    let question_len = query[HEADER..].iter().position(|byte| *byte == 0).expect("a root") + 5;
    let mut message = query[..HEADER + question_len].to_vec();
    if script.number() % 4 == 1 {
        message[HEADER..].make_ascii_lowercase();
    }
    // Mostly it is an answer, and one without an error.
    let flags = script.number() as u8;
    (message[2], message[3]) = (0x81 | flags & 2, flags >> 4);
    message[11] = 0;
    // Where the owner of the next record is.
    let mut owner = HEADER as u16;
    while let Some(kind @ 1..=5) = script.byte() {
        let section = if kind == 4 { 9 } else { 7 };
        message[section] = message[section].saturating_add(1);
        message.extend((0xc000 | owner).to_be_bytes());
        let (rtype, data): (u16, Vec<u8>) = match kind {
            1 => (1, vec![192, 0, 2, script.number() as u8]),
            2 => (28, [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[script.number() as u8]].concat()),
            3 => (5, wire(NAMES[script.number() as usize % NAMES.len()])),
            4 => (6, [&[0, 0][..], &[0; 16], &script.number().to_be_bytes()].concat()),
            _ => (script.number() as u16, script.bytes().to_vec()),
        };
        message.extend(rtype.to_be_bytes());
        message.extend([0, 1]);
        message.extend(script.number().to_be_bytes());
        message.extend((data.len() as u16).to_be_bytes());
        if kind == 3 && message.len() < 0x3fff {
            owner = message.len() as u16;
        }
        message.extend(data);
    }
    message
}

fn wire(name: &str) -> Vec<u8> {
    let labels = name.trim_end_matches('.').split('.');
    let label = |label: &str| [&[label.len() as u8], label.as_bytes()].concat();
    labels.flat_map(label).chain([0]).collect()
}

fn name(text: &str) -> Name {
    match Host::parse_name(text.as_bytes()) {
        Ok(Host::Name(name)) => name,
        other => panic!("{text} is no name but {other:?}"),
    }
}
