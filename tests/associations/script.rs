//! What the clients of a house do, thrown before they come.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use ringsocks::session::Sealing;

use crate::names::name;
use crate::random::Random;
use crate::sealer::Sealer;
use crate::secured::Secured;

/// One client, from its arrival to its end.
pub(crate) struct Script {
    pub(crate) arrives_at: u64,
    /// Where its control connection comes from, and where that finds us.
    pub(crate) client: SocketAddr,
    pub(crate) own: SocketAddr,
    /// What it says that it will send from.
    pub(crate) hint: SocketAddr,
    pub(crate) asks: Vec<u8>,
    /// Its security context, if it wants one, and what it seals with until it has come.
    pub(crate) secured: Option<Secured>,
    pub(crate) sealer: Option<Sealer>,
    /// One in so many datagrams is not sealed well.
    pub(crate) slips: usize,
    /// How many bytes they would be in full.
    pub(crate) request_end: usize,
    /// How it ends before it has been told anything, if it does.
    pub(crate) hangs_up: Option<Act>,
    pub(crate) queues: [usize; 2],
    pub(crate) chunk_max: usize,
    /// Whether it ever reads.
    pub(crate) reads: bool,
    /// What it does, so long after it has its reply.
    pub(crate) acts: Vec<(u64, Act)>,
    /// How long its UDP ports are open after that.
    pub(crate) hears_for: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// A datagram to its relay port from somewhere.
    Send {
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    /// One to some port of ours.
    SendToUs {
        from: SocketAddr,
        which: usize,
        data: Vec<u8>,
    },
    /// One that seems to come from a port of ours.
    SendAsUs {
        which: usize,
        bytes: Vec<u8>,
    },
    /// Bytes on its control connection, which say nothing.
    Stray(usize),
    Fin,
    Reset,
}

/// Somebody out there.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) manner: Manner,
}

/// What it does with what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It answers so many times.
    Answers(usize),
    /// It answers from another port.
    Elsewhere,
    /// Somebody else answers.
    Betrays,
    Silent,
}

/// An address that the rules deny.
pub(crate) const DENIED: IpAddr = v4([10, 9, 0, 1]);
/// One that packets cannot be sent to, and one that they must not.
pub(crate) const UNROUTABLE: IpAddr = v4([203, 0, 113, 66]);
pub(crate) const FIREWALLED: IpAddr = v4([203, 0, 113, 77]);
/// Who is never sent anything.
pub(crate) const STRANGER: SocketAddr = SocketAddr::new(v4([203, 0, 113, 200]), 9);
/// How many names there are.
pub(crate) const NAMES: usize = 48;

pub(crate) const fn v4([a, b, c, d]: [u8; 4]) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

pub(crate) const fn v6(a: u16, b: u16, c: u16, last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, last))
}

/// Who is out there.
pub(crate) const TARGETS: [Target; 14] = [
    target(v4([203, 0, 113, 1]), 53, Manner::Answers(1)),
    target(v4([203, 0, 113, 1]), 54, Manner::Answers(2)),
    target(v4([203, 0, 113, 2]), 53, Manner::Elsewhere),
    target(v4([203, 0, 113, 3]), 53, Manner::Betrays),
    target(v4([203, 0, 113, 4]), 53, Manner::Silent),
    target(v6(0x2001, 0xdb8, 1, 1), 53, Manner::Answers(1)),
    target(v6(0x2001, 0xdb8, 1, 2), 53, Manner::Elsewhere),
    target(UNROUTABLE, 53, Manner::Silent),
    target(FIREWALLED, 53, Manner::Silent),
    target(DENIED, 53, Manner::Silent),
    target(v4([224, 0, 0, 251]), 53, Manner::Silent),
    target(v4([255; 4]), 53, Manner::Silent),
    target(v6(0xff02, 0, 0, 0xfb), 53, Manner::Silent),
    target(v4([0; 4]), 53, Manner::Silent),
];

const fn target(ip: IpAddr, port: u16, manner: Manner) -> Target {
    Target { address: SocketAddr::new(ip, port), manner }
}

impl Script {
    pub(crate) fn throw(random: &mut Random, number: u16, sealing: Sealing) -> Script {
        let host = 10 + number / random.pick(&[1, 2]);
        let (client, own) = match random.below(6) {
            0 | 1 => (format!("[2001:db8:c::{host}]:5000"), "[2001:db8::254]:1080"),
            2 => (format!("[fe80::{host}%3]:5000"), "[fe80::254%3]:1080"),
            _ => (format!("192.0.2.{host}:5000"), "192.0.2.254:1080"),
        };
        let (client, own): (SocketAddr, SocketAddr) =
            (client.parse().unwrap(), own.parse().unwrap());
        let at = |port: u16| with_port(client, port);
        let hint = match random.below(5) {
            0 => at(6000),
            1 => at(6001),
            2 => "203.0.113.1:53".parse().unwrap(),
            3 => "0.0.0.0:6000".parse().unwrap(),
            _ => "0.0.0.0:0".parse().unwrap(),
        };
        let mut script = Script {
            arrives_at: random.pick(&[0, 60_000, 6_000_000]) + random.below(60_000) as u64,
            client,
            own,
            hint,
            request_end: 0,
            asks: [&[5, 1, 0][..], &request(hint)].concat(),
            secured: None,
            sealer: None,
            slips: random.pick(&[4, 12, 60]),
            hangs_up: None,
            queues: [(); 2].map(|()| random.pick(&[3, 40, 4096, 100_000])),
            chunk_max: random.pick(&[1, 5, 100]),
            reads: !random.once_in(20),
            acts: Vec::new(),
            hears_for: random.pick(&[u64::MAX, u64::MAX, 200_000, 3_000_000]),
        };
        if random.once_in(2) {
            let (secured, asks, sealer) = Secured::throw(random, sealing, &request(hint));
            (script.secured, script.asks, script.sealer) = (Some(secured), asks, sealer);
            // It has more to say than others, and is told more.
            script.queues = script.queues.map(|len| len.max(40));
            script.chunk_max = script.chunk_max.max(script.asks.len() / 20);
        }
        script.request_end = script.asks.len();
        if random.once_in(15) {
            let end = random.below(script.asks.len() + 1);
            script.asks.truncate(end);
            script.hangs_up = random
                .pick(&[Some(true), Some(false), None])
                .map(|resets| if resets { Act::Reset } else { Act::Fin });
        }
        script.throw_acts(random, number);
        script
    }

    fn throw_acts(&mut self, random: &mut Random, number: u16) {
        let mut thrower = Thrower { client: self.client, last: u64::from(number) << 32 };
        let mut at = 0;
        for _ in 0..random.pick(&[1, 5, 20, 40]) {
            at += random.pick(&[0, 2_000, 200_000, 1_400_000]) + random.below(2000) as u64;
            if random.once_in(60) {
                at += random.pick(&[5_000_000, 30_000_000, 70_000_000]);
            }
            let acts = thrower.throw(random);
            for act in acts {
                self.acts.push((at, act));
                at += random.pick(&[0, 0, 0, 30, 3000]);
                if random.once_in(150) {
                    // As long as fragments are waited for, or about that.
                    at += random.pick(&[4_900_000, 4_999_000, 5_000_000, 5_100_000]);
                }
            }
        }
        match random.below(5) {
            0 => self.acts.push((at, Act::Reset)),
            1..4 => self.acts.push((at, Act::Fin)),
            _ => {}
        }
        if random.once_in(8) {
            let early = random.below(at as usize + 1) as u64;
            let end = if random.once_in(2) { Act::Fin } else { Act::Reset };
            self.acts.push((early, end));
        }
    }
}

struct Thrower {
    client: SocketAddr,
    /// Every datagram carries another number.
    last: u64,
}

impl Thrower {
    /// What is done at one time, or a little apart.
    fn throw(&mut self, random: &mut Random) -> Vec<Act> {
        let from = self.source(random);
        match random.below(20) {
            0 | 1 => {
                let bytes = self.throw_malformed(random);
                vec![Act::Send { from, bytes }]
            }
            2..6 => self.throw_fragments(random, from),
            6 => vec![Act::Stray(random.pick(&[1, 700, 70_000]))],
            7 => {
                let (which, data) = (random.below(20), self.data(random, 20));
                vec![Act::SendToUs { from, which, data }]
            }
            8 if random.once_in(3) => {
                let (which, head) = (random.below(20), throw_head(random, 0));
                let bytes = [head, self.throw_data(random)].concat();
                vec![Act::SendAsUs { which, bytes }]
            }
            8 | 9 => self.throw_burst(random, from),
            10 => self.throw_names(random, from),
            _ => {
                let head = throw_head(random, 0);
                let data = self.throw_data(random);
                vec![Act::Send { from, bytes: [head, data].concat() }]
            }
        }
    }

    /// Mostly one port of the client's.
    fn source(&self, random: &mut Random) -> SocketAddr {
        match random.below(16) {
            0 if self.client.is_ipv4() => "192.0.2.200:6000".parse().unwrap(),
            0 => "[2001:db8:c::ffff]:6000".parse().unwrap(),
            2 | 3 => with_port(self.client, 6001),
            _ => with_port(self.client, 6000),
        }
    }

    fn throw_data(&mut self, random: &mut Random) -> Vec<u8> {
        let len = match random.below(30) {
            0 => 0,
            1 => random.between(1500, 9000),
            2 => random.between(40_000, 65_485),
            _ => random.between(8, 1400),
        };
        self.data(random, len)
    }

    fn data(&mut self, random: &mut Random, len: usize) -> Vec<u8> {
        self.last += 1;
        numbered(self.last, len, random.next() as u8)
    }

    /// Many at once, to one or to several: of one length, or not.
    fn throw_burst(&mut self, random: &mut Random, from: SocketAddr) -> Vec<Act> {
        let (len, one) = (random.between(8, 1400), throw_head(random, 0));
        let (is_even, is_for_one) = (!random.once_in(3), !random.once_in(3));
        let count = random.pick(&[3, 10, 70, 150]);
        let sends = (0..count).map(|_| {
            let head = if is_for_one { one.clone() } else { throw_head(random, 0) };
            let len = if is_even { len } else { random.between(8, 1400) };
            Act::Send { from, bytes: [head, self.data(random, len)].concat() }
        });
        sends.collect()
    }

    /// To more names at once than are asked for, or more to one than wait for it.
    fn throw_names(&mut self, random: &mut Random, from: SocketAddr) -> Vec<Act> {
        let one = random.once_in(2).then(|| random.below(NAMES));
        let sends = (0..80).map(|number| {
            let head = named(0, &name(one.unwrap_or(number % NAMES)), 53);
            Act::Send { from, bytes: [head, self.data(random, 9)].concat() }
        });
        sends.collect()
    }

    fn throw_fragments(&mut self, random: &mut Random, from: SocketAddr) -> Vec<Act> {
        let len = random.pick(&[1, 2, 3, 3, 5, 127, 128]);
        let place = |at: u8| if at == len { at | 0x80 } else { at };
        let mut frags: Vec<u8> = (1..=len).map(place).collect();
        match random.below(8) {
            0 => random.shuffle(&mut frags),
            1 => frags.insert(random.below(frags.len()), 1),
            2 => frags.insert(random.below(frags.len()), 0x80),
            3 => frags.insert(random.below(frags.len()), 0),
            4 => frags.truncate(random.below(frags.len())),
            _ => {}
        }
        if random.once_in(4) && !frags.is_empty() {
            let again = random.below(frags.len());
            frags.insert(again, frags[again]);
        }
        let head = throw_head(random, 0);
        let bytes = random.pick(&[0, 20, 1000, 20_000]) / usize::from(len);
        let mut last = Vec::new();
        let mut acts = Vec::new();
        for frag in frags {
            let mut head = if random.once_in(40) { throw_head(random, 0) } else { head.clone() };
            head[2] = frag;
            let len = random.pick(&[bytes, bytes, 0, 8]);
            let is_again = random.once_in(6);
            let data = if is_again { last.clone() } else { self.data(random, len) };
            last.clone_from(&data);
            acts.push(Act::Send { from, bytes: [head, data].concat() });
        }
        acts
    }

    fn throw_malformed(&mut self, random: &mut Random) -> Vec<u8> {
        let whole = [throw_head(random, 0), vec![0; 3]].concat();
        match random.below(8) {
            0 => Vec::new(),
            1 => whole[..random.below(9)].to_vec(),
            2 => [&[0, 0, 0, random.pick(&[0, 2, 5, 255])][..], &[7; 40]].concat(),
            3 => [&[0, 0, 0, 1, 203, 0, 113, 1, 0, 0][..], b"nobody"].concat(),
            4 => [&[0, 0, 0x80, 1, 203, 0, 113, 1, 0, 53][..], b"nothing"].concat(),
            5 => named(0, "no name", 53),
            6 => named(0, "", 53),
            _ => [&[0, 0, 0, 3, 200][..], b"short.example\0\x35"].concat(),
        }
    }
}

/// Bytes that begin with a number, as far as there is room for it.
pub(crate) fn numbered(number: u64, len: usize, rest: u8) -> Vec<u8> {
    let mut bytes = vec![rest; len.max(8)];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes.truncate(len);
    bytes
}

/// A header that leads somewhere.
fn throw_head(random: &mut Random, frag: u8) -> Vec<u8> {
    let rsv = random.pick(&[0, 0, 0, 255]);
    let mut head = match random.below(12) {
        0..3 => named(frag, &name(random.below(NAMES)), random.pick(&[53, 54])),
        3 => named(frag, &name(0), 53),
        4 => named(frag, "203.0.113.1", 53),
        5 => {
            let mapped = Ipv4Addr::new(203, 0, 113, 2).to_ipv6_mapped();
            addressed(frag, SocketAddr::new(mapped.into(), 53))
        }
        6 => addressed(frag, TARGETS[random.below(TARGETS.len())].address),
        7 | 8 => addressed(frag, TARGETS[0].address),
        9 => addressed(frag, TARGETS[random.between(5, 6)].address),
        _ => addressed(frag, TARGETS[random.below(5)].address),
    };
    head[..2].fill(rsv);
    head
}

pub(crate) fn addressed(frag: u8, to: SocketAddr) -> Vec<u8> {
    [&[0, 0, frag][..], &encoded(to)].concat()
}

fn named(frag: u8, name: &str, port: u16) -> Vec<u8> {
    let len = name.len() as u8;
    [&[0, 0, frag, 3, len][..], name.as_bytes(), &port.to_be_bytes()].concat()
}

/// UDP ASSOCIATE.
fn request(hint: SocketAddr) -> Vec<u8> {
    [&[5, 3, 0][..], &encoded(hint)].concat()
}

/// ATYP, the address and the port (RFC 1928 section 4).
pub(crate) fn encoded(address: SocketAddr) -> Vec<u8> {
    let ip = match address.ip() {
        IpAddr::V4(ip) => [&[1][..], &ip.octets()].concat(),
        IpAddr::V6(ip) => [&[4][..], &ip.octets()].concat(),
    };
    [&ip[..], &address.port().to_be_bytes()].concat()
}

/// Another port of a host, on the same link.
pub(crate) fn with_port(address: SocketAddr, port: u16) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => SocketAddr::new(address.ip(), port),
        SocketAddr::V6(it) => SocketAddrV6::new(*it.ip(), port, 0, it.scope_id()).into(),
    }
}
