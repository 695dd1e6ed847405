//! What the peers of a life do, thrown before it begins.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ringsocks::dns::Failure;
use ringsocks::outcome::{Outcome, Refusal};
use ringsocks::session::Sealing;

use crate::random::Random;
use crate::sealed::{Sealed, Stream};

/// How clients may or must say who they are.
#[derive(Clone, Copy)]
pub(crate) struct House {
    pub(crate) with_users: bool,
    pub(crate) with_contexts: bool,
    pub(crate) sealing: Sealing,
}

/// All that is thrown for one client and its targets.
pub(crate) struct Script {
    pub(crate) arrives_at: u64,
    pub(crate) client: Plan,
    /// Where it finds us.
    pub(crate) own: SocketAddr,
    /// The client's bytes before its payload.
    pub(crate) asks: Vec<u8>,
    /// How many bytes its whole handshake takes, if it is not cut short.
    pub(crate) request_end: usize,
    /// What the client is told during its handshake, and by how many heard bytes it is due.
    pub(crate) answers: Vec<(usize, Vec<u8>)>,
    /// Its context and what it seals, if it wants one.
    pub(crate) sealed: Option<Sealed>,
    pub(crate) request: Asked,
    pub(crate) dialect: Dialect,
    pub(crate) resolution: Resolution,
    /// Where the request leads, each family in its order.
    pub(crate) targets: Vec<Target>,
}

/// Where we listen, and where clients of each come from.
const OWN: [&str; 2] = ["192.0.2.254:1080", "[2001:db8::254]:1080"];
pub(crate) const CLIENTS: [&str; 2] = ["192.0.2.9:5000", "[2001:db8:9::9]:5000"];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dialect {
    Socks4,
    Socks5,
}

pub(crate) enum Asked {
    /// A connection; the name goes to the resolver.
    Connect { named: bool },
    /// A port where these may connect.
    Bind { whom: Whom },
    /// Something that is answered at once, after so many bytes, and how the session ends.
    Refused { after: usize, answer: Vec<u8>, outcome: Outcome },
}

/// For whom a client waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// The address of the first target.
    Address,
    Anyone,
    /// Whoever has one of the addresses of the name.
    Name,
}

pub(crate) enum Resolution {
    /// The targets' addresses, after so many microseconds.
    Addresses(u64),
    /// Those of the first target's family, and the others so much later, if they ever come.
    Apart(u64, Option<u64>),
    Failure(u64, Failure),
    Never,
    /// It is known at once.
    Known,
    /// The resolvers take no more questions.
    Full,
}

pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// What the resolver calls it.
    pub(crate) answered_as: IpAddr,
    pub(crate) fate: Fate,
    pub(crate) plan: Plan,
    /// Whether nobody asked for it.
    pub(crate) is_stranger: bool,
}

/// What becomes of a connection attempt, after so many microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Accepts(u64),
    Fails(u64, i32),
    /// The call itself fails.
    Impossible(i32),
    Silent,
    /// The kernel connects the socket to itself.
    Itself,
    /// Not an address to connect to.
    Denied,
    /// It connects to us, so long after there is a port for it.
    Comes(u64),
    /// It was to connect to us and never does.
    StaysAway,
}

/// What a peer does with its end of the connection.
pub(crate) struct Plan {
    pub(crate) payload: usize,
    /// Where its payload begins in the pattern all payloads are cut from.
    pub(crate) phase: usize,
    pub(crate) chunk_max: usize,
    pub(crate) reading: Reading,
    pub(crate) ending: Ending,
    /// When it drops everything, and whether with a RST.
    pub(crate) abort: Option<(u64, bool)>,
    pub(crate) urgent_at: Option<usize>,
    /// A client that speaks before it is spoken to.
    pub(crate) is_eager: bool,
    pub(crate) queues: [usize; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Everything,
    Nothing,
    UpTo(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// FIN behind the payload, and reads on.
    HalfClose,
    /// FIN once the other side's has come.
    AfterTheOther,
    /// Close behind the payload, whatever is unread.
    Close,
    /// RST behind the payload.
    Reset,
    /// Neither says nor does anything more.
    Silence,
}

impl Plan {
    fn throw(random: &mut Random, bulk: bool) -> Plan {
        let sizes = if bulk { [4096, 20_000, 120_000, 700_000] } else { [48, 700, 4096, 120_000] };
        let queues = [(); 2].map(|()| random.pick(&sizes));
        let roomiest = if bulk { 1_000_000 } else { random.pick(&[0, 1, 300, 3000, 20_000]) };
        let most = roomiest.min(queues[0].min(queues[1]) * 60);
        let reading = match random.below(14) {
            0 => Reading::Nothing,
            1 => Reading::UpTo(random.below(most + 200)),
            _ => Reading::Everything,
        };
        let ending = match random.below(20) {
            0..8 => Ending::HalfClose,
            8..13 => Ending::AfterTheOther,
            13..16 => Ending::Close,
            16..18 => Ending::Reset,
            _ => Ending::Silence,
        };
        let abort = random.once_in(10).then(|| (random.below(400_000) as u64, random.once_in(2)));
        let payload = if bulk { most } else { random.between(0, most) };
        Plan {
            payload,
            phase: random.below(1 << 16),
            chunk_max: random.pick(&[1, 40, 1000, 30_000, 400_000]).max(payload / 60),
            reading,
            ending,
            abort,
            urgent_at: random.once_in(12).then(|| random.below(payload + 1)),
            is_eager: random.once_in(3),
            queues,
        }
    }

    /// Whether it says all and hears all.
    pub(crate) fn is_faithful(&self) -> bool {
        self.abort.is_none()
            && self.reading == Reading::Everything
            && matches!(self.ending, Ending::HalfClose | Ending::AfterTheOther)
    }
}

impl Script {
    /// A client's life in this house.
    pub(crate) fn throw(random: &mut Random, life: u8, house: House) -> Script {
        let with_users = house.with_users;
        let bulk = random.once_in(9);
        let mut script = Script {
            arrives_at: random.pick(&[0, 60_000, 6_000_000]) + random.below(60_000) as u64,
            client: Plan::throw(random, bulk),
            own: random.pick(&[OWN[0], OWN[0], OWN[1]]).parse().unwrap(),
            asks: Vec::new(),
            request_end: 0,
            answers: Vec::new(),
            sealed: None,
            request: Asked::Connect { named: false },
            dialect: Dialect::Socks5,
            resolution: throw_resolution(random),
            targets: Vec::new(),
        };
        let targets = if random.once_in(3) { random.between(1, 4) } else { 1 };
        for index in 0..targets {
            let target_bulk = bulk && random.once_in(2) || random.once_in(12);
            script.targets.push(throw_target(random, [life, 1 + index as u8], target_bulk));
        }
        match random.below(24) {
            0 => script.speak_noise(random, with_users),
            1..8 if !with_users && !house.with_contexts => script.speak_socks4(random),
            1..3 if !with_users => script.speak_socks4(random),
            _ => script.speak_socks5(random, house),
        }
        let asks = script.asks.len();
        script.request_end = script.stream().and_then(Stream::request_end).unwrap_or(asks);
        if let Asked::Bind { whom } = script.request {
            script.throw_visits(random, life, whom);
        }
        if random.once_in(25) {
            // It stops, or hangs up, in the middle of what it asks.
            let end = random.below(script.asks.len());
            script.client.payload = 0;
            script.asks.truncate(end);
            script.hang_up_at(0);
        } else if random.once_in(6) {
            let len = script.stream().map_or(0, |stream| stream.rest().len());
            script.hang_up_at(random.below(len + 1));
        }
        script
    }

    /// How its messages are sealed, if they are.
    pub(crate) fn stream(&self) -> Option<&Stream> {
        self.sealed.as_ref()?.stream.as_ref()
    }

    /// It sends only so many of its sealed bytes behind its request.
    fn hang_up_at(&mut self, len: usize) {
        if let Some(stream) = self.sealed.as_mut().and_then(|it| it.stream.as_mut()) {
            stream.truncate(len);
        }
    }

    pub(crate) fn refuse(&mut self, after: usize, answer: impl Into<Vec<u8>>, outcome: Outcome) {
        self.request = Asked::Refused { after, answer: answer.into(), outcome };
    }

    fn speak_noise(&mut self, random: &mut Random, with_users: bool) {
        let noise: &[&[u8]] = &[b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"\x00"];
        self.asks = random.pick(noise).to_vec();
        if with_users && random.once_in(2) {
            self.asks = b"\x04\x01\x00\x50\xc0\x00\x02\x01\x00".to_vec();
        }
        self.client.is_eager = true;
        self.refuse(1, [], Outcome::Noise);
    }

    fn speak_socks4(&mut self, random: &mut Random) {
        self.dialect = Dialect::Socks4;
        let refused = [[0, 0x5b].as_slice(), &[0; 6]].concat();
        let address = self.targets[0].address;
        let [p, q] = address.port().to_be_bytes();
        let userid = vec![b'u'; random.below(256)];
        let head = |ip: [u8; 4]| [[4, 1, p, q].as_slice(), &ip, &userid, &[0]].concat();
        match (random.below(8), address.ip()) {
            (0, _) => {
                self.asks = vec![4, random.pick(&[0, 3, 9, 255]), p, q];
                let outcome = Outcome::Refused(Refusal::CommandUnsupported);
                self.refuse(2, refused, outcome);
            }
            (1, _) => {
                self.asks = head([0; 4]);
                self.request = Asked::Bind { whom: Whom::Anyone };
            }
            (2..5, IpAddr::V4(ip)) => {
                self.targets.truncate(1);
                self.asks = head(ip.octets());
                if !ip.is_unspecified() && random.once_in(3) {
                    self.request = Asked::Bind { whom: Whom::Address };
                }
            }
            _ => {
                self.asks = head([0, 0, 0, 7]);
                self.asks.extend(b"host.example\0");
                self.request = match random.once_in(3) {
                    true => Asked::Bind { whom: Whom::Name },
                    false => Asked::Connect { named: true },
                };
            }
        }
        if self.is_bind() {
            self.asks[1] = 2;
        }
    }

    fn speak_socks5(&mut self, random: &mut Random, house: House) {
        let with_context = house.with_contexts && !random.once_in(4);
        let method = match with_context {
            true => 1,
            false if house.with_users => 2,
            false => 0,
        };
        if random.once_in(16) {
            self.asks = vec![5, 2, 4, 3];
            return self.refuse(4, [5, 0xff], Outcome::NoMethod);
        }
        let mut methods = vec![0x80; random.pick(&[0, 1, 1, 250])];
        methods.insert(random.below(methods.len() + 1), method);
        self.asks = [&[5, methods.len() as u8], &methods[..]].concat();
        self.answers.push((self.asks.len(), vec![5, method]));
        if with_context {
            return self.speak_sealed(random, house);
        }
        if house.with_users {
            let good = !random.once_in(8);
            self.asks.extend(b"\x01\x05alice\x06");
            self.asks.extend(if good { b"wonder" } else { b"wander" });
            if !good {
                return self.refuse(self.asks.len(), [1, 1], Outcome::BadLogin);
            }
            self.answers.push((self.asks.len(), vec![1, 0]));
        }
        self.ask_socks5(random);
    }

    fn speak_sealed(&mut self, random: &mut Random, house: House) {
        // All of it is sealed beforehand.
        self.client.payload = self.client.payload.min(200_000);
        let Some(agreed) = self.secure(random, house.sealing) else { return };
        let request = self.asks.len();
        self.ask_socks5(random);
        if let Some(confidential) = agreed {
            self.seal(random, request, confidential);
        }
    }

    fn ask_socks5(&mut self, random: &mut Random) {
        let refused = |rep: u8| [&[5, rep, 0, 1][..], &[0; 6]].concat();
        let begin = self.asks.len();
        let address = self.targets[0].address;
        let port = address.port().to_be_bytes();
        match random.below(24) {
            0 => {
                self.asks.extend([5, 9, 0, 1, 1, 1]);
                let outcome = Outcome::Refused(Refusal::CommandUnsupported);
                self.refuse(begin + 2, refused(7), outcome);
            }
            1 => {
                self.asks.extend([5, 3, 0, 1, 0, 0, 0, 0, 0, 0]);
                let outcome = Outcome::Refused(Refusal::CommandUnsupported);
                self.refuse(begin + 10, refused(7), outcome);
            }
            2 => {
                self.asks.extend([5, 1, 0, 2, 1, 1]);
                let outcome = Outcome::Refused(Refusal::AddressUnsupported);
                self.refuse(begin + 4, refused(8), outcome);
            }
            3 => {
                self.asks.extend([5, 1, 0, 1, 127, 0, 0, 1, 0, 0]);
                let outcome = Outcome::Refused(Refusal::General);
                self.refuse(begin + 10, refused(1), outcome);
            }
            4..12 => {
                self.asks.extend(b"\x05\x01\x00\x03\x0chost.example");
                self.asks.extend(port);
                self.request = match random.once_in(3) {
                    true => Asked::Bind { whom: Whom::Name },
                    false => Asked::Connect { named: true },
                };
            }
            12 | 13 => {
                let (atyp, len) = random.pick(&[(1, 4), (4, 16)]);
                self.asks.extend([5, 2, 0, atyp]);
                self.asks.extend(vec![0; len]);
                self.asks.extend(random.pick(&[[0, 0], port]));
                self.request = Asked::Bind { whom: Whom::Anyone };
            }
            _ => {
                self.targets.truncate(1);
                if !address.ip().is_unspecified() && random.once_in(3) {
                    self.request = Asked::Bind { whom: Whom::Address };
                    if random.once_in(10) {
                        self.targets[0].address.set_ip(Ipv4Addr::new(10, 9, 0, 1).into());
                    }
                }
                match self.targets[0].address.ip() {
                    IpAddr::V4(ip) => {
                        self.asks.extend([5, 1, 0, 1]);
                        self.asks.extend(ip.octets());
                    }
                    IpAddr::V6(ip) => {
                        self.asks.extend([5, 1, 0, 4]);
                        self.asks.extend(ip.octets());
                    }
                }
                self.asks.extend(port);
            }
        }
        if self.is_bind() {
            self.asks[begin + 1] = 2;
        }
    }

    /// Where its client comes from.
    pub(crate) fn client_address(&self) -> SocketAddr {
        CLIENTS[usize::from(self.own.is_ipv6())].parse().unwrap()
    }

    pub(crate) fn is_bind(&self) -> bool {
        matches!(self.request, Asked::Bind { .. })
    }

    /// Who comes to the port that was asked for, and who else.
    fn throw_visits(&mut self, random: &mut Random, life: u8, whom: Whom) {
        for target in &mut self.targets {
            let is_denied = target.fate == Fate::Denied || random.once_in(8);
            if whom != Whom::Address && is_denied {
                let ip = Ipv4Addr::new(10, 9, life, 1).into();
                (target.address, target.answered_as) = (SocketAddr::new(ip, 80), ip);
            }
            target.fate = match random.below(8) {
                0 => Fate::StaysAway,
                1 => Fate::Comes(random.pick(&[3_000_000, 19_900_000])),
                _ => Fate::Comes(random.below(300_000) as u64),
            };
        }
        let strangers = random.pick(&[0, 0, 1, 2, 40]);
        let (at_once, first) = (random.below(300_000) as u64, self.targets[0].address.ip());
        for number in 0..strangers {
            let ip: IpAddr = match random.below(8) {
                0 => first,
                1 => Ipv4Addr::new(10, 9, life, 2).into(),
                _ => Ipv4Addr::new(198, 18, life, number).into(),
            };
            let late = if random.once_in(3) { random.below(300_000) as u64 } else { 0 };
            self.targets.push(Target {
                address: SocketAddr::new(ip, 2000 + u16::from(number)),
                answered_as: ip,
                fate: Fate::Comes(at_once + late),
                plan: Plan::throw(random, false),
                is_stranger: true,
            });
        }
    }
}

/// Whether the rules of the house deny this address.
pub(crate) fn is_denied(ip: IpAddr) -> bool {
    ip.is_unspecified() || matches!(ip, IpAddr::V4(ip) if ip.octets()[0] == 10)
}

fn throw_resolution(random: &mut Random) -> Resolution {
    let soon = random.below(50_000) as u64;
    match random.below(24) {
        0 => Resolution::Failure(soon, Failure::NotFound),
        1 => Resolution::Known,
        2 => Resolution::Never,
        3 => Resolution::Full,
        4 => Resolution::Addresses(4_900_000 + random.below(300_000) as u64),
        5 => Resolution::Apart(soon, None),
        6..12 => Resolution::Apart(soon, Some(random.pick(&[30_000, 400_000, 12_000_000]))),
        _ => Resolution::Addresses(soon),
    }
}

fn throw_target(random: &mut Random, [life, index]: [u8; 2], bulk: bool) -> Target {
    let soon = random.below(30_000) as u64;
    let fate = match random.below(20) {
        0 => Fate::Fails(soon, libc::ECONNREFUSED),
        1 => Fate::Fails(soon, random.pick(&[libc::EHOSTUNREACH, libc::ENETUNREACH])),
        2 => Fate::Fails(soon, random.pick(&[libc::ETIMEDOUT, libc::ECONNRESET])),
        3 => Fate::Impossible(random.pick(&[libc::ENETUNREACH, libc::EACCES])),
        8 => Fate::Impossible(libc::EMFILE),
        4 => Fate::Silent,
        5 => Fate::Denied,
        6 if index > 1 => Fate::Accepts(9_800_000 + random.below(400_000) as u64),
        7 => Fate::Itself,
        _ => Fate::Accepts(soon),
    };
    let v4 = Ipv4Addr::new(203, 0, life, index);
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, life.into(), index.into());
    let (ip, answered_as) = match random.below(3) {
        _ if fate == Fate::Denied => {
            (IpAddr::V4(Ipv4Addr::UNSPECIFIED), "0.0.0.0".parse().unwrap())
        }
        0 => (v4.into(), v4.to_ipv6_mapped().into()),
        1 => (v4.into(), v4.into()),
        _ => (v6.into(), v6.into()),
    };
    let plan = Plan::throw(random, bulk);
    Target { address: SocketAddr::new(ip, 80), answered_as, fate, plan, is_stranger: false }
}
