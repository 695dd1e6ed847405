//! The world around the gateway: clients, targets, names, and the weather between them.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ringsocks::auth::Done;
use ringsocks::config::Advertise;
use ringsocks::proto::gssapi::HEADER_BYTES;
use ringsocks::token::Token;

use crate::clients::Client;
use crate::counts::Event;
use crate::kernel::{DATAGRAM_MAX, Port};
use crate::mechanism::overhead;
use crate::naive::{Foreseen, Meaning, Naive, Rules, Surroundings};
use crate::names::Zone;
use crate::random::Random;
use crate::script::{
    Act, DENIED, Manner, STRANGER, Script, TARGETS, Target, addressed, numbered, v4, v6,
};
use crate::sealer::Genuine;

/// Our addresses: where clients find us, and where packets to others leave from.
pub(crate) const OWN: [IpAddr; 5] = [
    v4([192, 0, 2, 254]),
    v6(0x2001, 0xdb8, 0, 0x254),
    v6(0xfe80, 0, 0, 0x254),
    v4([198, 51, 100, 7]),
    v6(0x2001, 0xdb8, 0, 7),
];
/// What clients are told instead, where it is configured.
pub(crate) const ADVERTISED: [IpAddr; 2] = [v4([192, 0, 2, 77]), v6(0x2001, 0xdb8, 0x77, 0x77)];

/// What happens by itself at its time.
pub(crate) enum Happening {
    Arrival(usize),
    Act(usize, Act),
    /// A datagram arrives.
    Arrives {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    Answer {
        client: usize,
        token: Token,
        meaning: Meaning,
        more: bool,
    },
    /// A client's token was looked at.
    Done {
        client: usize,
        token: Token,
        done: Done,
    },
}

/// What is configured, as far as it is no rule for datagrams.
pub(crate) struct House {
    pub(crate) advertise: Advertise,
    /// How many ports clients of either family may have; none: as many as the kernel has.
    pub(crate) ports_max: Option<usize>,
    pub(crate) per_client: Option<usize>,
    pub(crate) handshake: Option<u64>,
    pub(crate) idle: Option<u64>,
}

/// How the network and the kernel are.
#[derive(Default)]
pub(crate) struct Weather {
    /// One in so many datagrams is lost, comes twice, or late; 0: none.
    pub(crate) loses: usize,
    pub(crate) doubles: usize,
    pub(crate) delays: usize,
    /// One in so many calls fails for no reason of ours.
    pub(crate) fails: usize,
    /// The longest segment that may be part of a run; none: no runs at all.
    pub(crate) segment_max: Option<usize>,
    pub(crate) queue_max: usize,
    /// Whether no packet over IPv6 leaves this host.
    pub(crate) no_v6: bool,
    /// Whether there is no descriptor for another socket.
    pub(crate) is_crowded: bool,
    /// Whether the kernel has no memory to receive with.
    pub(crate) is_starved: bool,
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(super) epoch: Instant,
    pub(crate) random: Random,
    pub(crate) house: House,
    pub(crate) rules: Rules,
    pub(crate) weather: Weather,
    pub(crate) clients: Vec<Client>,
    pub(crate) ports: Vec<Port>,
    pub(super) zone: Zone,
    /// Questions that are to be asked next, in this order.
    pub(super) foreseen: VecDeque<(String, Foreseen)>,
    pub(crate) owners: BTreeMap<usize, usize>,
    pub(crate) happenings: BTreeMap<(u64, usize), Happening>,
    happened: usize,
    pub(crate) counts: [u64; Event::ALL.len()],
    /// How much the gateway moved in any way.
    pub(crate) progress: u64,
    pub(crate) hash: u64,
    verbose: bool,
    /// How many calls were made since the last that moved anything, or a new turn.
    pub(crate) idle_calls: usize,
}

impl World {
    pub(crate) fn new(
        mut random: Random,
        (house, rules, weather): (House, Rules, Weather),
        epoch: Instant,
        verbose: bool,
    ) -> World {
        let zone = Zone::throw(&mut random);
        World {
            now: 0,
            epoch,
            random,
            house,
            rules,
            weather,
            clients: Vec::new(),
            ports: Vec::new(),
            zone,
            foreseen: VecDeque::new(),
            owners: BTreeMap::new(),
            happenings: BTreeMap::new(),
            happened: 0,
            counts: [0; Event::ALL.len()],
            progress: 0,
            hash: 0xcbf2_9ce4_8422_2325,
            verbose,
            idle_calls: 0,
        }
    }

    /// Adds a line to the trace.
    pub(crate) fn note(&mut self, what: &str, a: usize, b: usize) {
        for byte in what.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        for number in [self.now, a as u64, b as u64] {
            self.hash = (self.hash ^ number).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        }
        if self.verbose {
            println!("{:>9.3} {what} {a} {b}", self.now as f64 / 1000.0);
        }
    }

    pub(crate) fn count(&mut self, event: Event) {
        self.counts[event as usize] += 1;
    }

    pub(crate) fn at(&mut self, time: u64, happening: Happening) {
        self.happened += 1;
        self.happenings.insert((time, self.happened), happening);
    }

    pub(crate) fn next_happening(&mut self) -> Option<Happening> {
        let first = self.happenings.first_entry()?;
        (first.key().0 <= self.now).then(|| first.remove())
    }

    /// Now, as sessions see it.
    pub(crate) fn instant(&self) -> Instant {
        self.instant_at(self.now)
    }

    pub(crate) fn instant_at(&self, time: u64) -> Instant {
        self.epoch + Duration::from_micros(time)
    }

    pub(crate) fn time_of(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.epoch).as_micros() as u64
    }

    /// Whether something fails now for no reason.
    pub(super) fn fails(&mut self) -> bool {
        self.weather.fails > 0 && self.random.once_in(self.weather.fails)
    }

    pub(crate) fn add_client(&mut self, script: Script) {
        self.at(script.arrives_at, Happening::Arrival(self.clients.len()));
        self.clients.push(Client::new(script));
    }

    /// All ports of ours, at addresses of ours.
    pub(super) fn own_ports(&self) -> impl Iterator<Item = SocketAddr> {
        self.ports.iter().filter(|port| port.is_open).map(|port| match port.own.ip() {
            ip if !ip.is_unspecified() => SocketAddr::new(ip, port.own.port()),
            ip => SocketAddr::new(OWN[3 + usize::from(ip.is_ipv6())], port.own.port()),
        })
    }

    /// Whether there is a route to this address.
    pub(super) fn has_way(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() || !self.weather.no_v6 || OWN.contains(&ip)
    }

    /// Sends a datagram on its way.
    pub(crate) fn dispatch(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let Weather { loses, doubles, delays, .. } = self.weather;
        let mut happens = |once_in: usize| once_in > 0 && self.random.once_in(once_in);
        let (is_lost, is_doubled, is_late) = (happens(loses), happens(doubles), happens(delays));
        if is_lost {
            return self.count(Event::Lost);
        }
        let late = if is_late { self.random.below(60_000) as u64 } else { 0 };
        if is_late {
            self.count(Event::Late);
        }
        if is_doubled {
            self.count(Event::Doubled);
            let again = self.random.below(3000) as u64;
            self.at(self.now + 600 + again, Happening::Arrives { from, to, bytes: bytes.clone() });
        }
        self.at(self.now + 500 + late, Happening::Arrives { from, to, bytes });
    }

    /// A datagram has come to where it was sent.
    pub(crate) fn arrive(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        if let Some(port) = self.ports.iter().position(|port| port.is_open && port.is_at(to)) {
            return self.queue(port, from, bytes);
        }
        if let Some(target) = TARGETS.iter().find(|it| it.address == to).copied() {
            return self.react(target, from);
        }
        let is_at = |it: &Client| it.script.client.ip() == to.ip();
        let Some(index) = self.clients.iter().position(is_at) else { return };
        let open_until = self
            .clients
            .iter()
            .filter(|it| is_at(it))
            .filter_map(|it| Some(it.replied_at?.saturating_add(it.script.hears_for)));
        if open_until.max().is_some_and(|until| self.now < until) {
            self.count(Event::Answered);
            return self.note("client hears", index, bytes.len());
        }
        // Nobody is there any more: its host says so to who sent it.
        if let Some(port) = self.ports.iter_mut().find(|it| it.is_open && it.own == from)
            && port.peer.is_some_and(|peer| peer.port() == to.port())
        {
            port.error = Some(libc::ECONNREFUSED);
            port.edge = true;
        }
    }

    /// A target has been sent something.
    fn react(&mut self, target: Target, from: SocketAddr) {
        let address = target.address;
        let elsewhere = SocketAddr::new(address.ip(), address.port() + 1000);
        let (source, times) = match target.manner {
            Manner::Answers(times) => (address, times),
            Manner::Elsewhere => (elsewhere, 1),
            Manner::Betrays => (STRANGER, 1),
            Manner::Silent => return,
        };
        let len = match self.random.below(40) {
            0 => 0,
            1 => 65_507,
            2 => throw_border(&mut self.random, address),
            3..10 => self.random.below(1400),
            _ => 100,
        };
        for _ in 0..times {
            self.happened += 1;
            let bytes = numbered(self.happened as u64, len, 0xee);
            self.dispatch(source, from, bytes);
        }
    }

    /// A port of ours was opened for targets: somebody may try it.
    pub(crate) fn attract(&mut self, at: SocketAddr) {
        if self.random.once_in(3) && at.is_ipv4() {
            let after = self.random.below(3_000_000) as u64;
            let from = self.random.pick(&[STRANGER, SocketAddr::new(v4([203, 0, 113, 4]), 53)]);
            self.at(self.now + after, Happening::Arrives { from, to: at, bytes: b"who?".to_vec() });
        }
    }

    /// Sees to it that a question is answered as was foreseen.
    pub(super) fn schedule_answer(&mut self, client: usize, name: &str, token: Token) {
        let Some(after) = self.zone.begin(name) else { return };
        let (meaning, more) = (self.zone.said(name), self.zone.has_more(name));
        self.at(self.now + after, Happening::Answer { client, token, meaning, more });
        self.schedule_rest(client, name, token, after);
    }

    /// The same of what is said so long after the question, where the first answer is not all.
    pub(super) fn schedule_rest(&mut self, client: usize, name: &str, token: Token, after: u64) {
        let Some((later, meaning)) = self.zone.said_later(name) else { return };
        let more = false;
        self.at(self.now + after + later, Happening::Answer { client, token, meaning, more });
    }

    /// Calls the association's model of a client, in these surroundings.
    pub(crate) fn with_naive<T>(
        &mut self,
        client: usize,
        act: impl FnOnce(&mut Naive, &mut Around<'_>) -> T,
    ) -> Option<T> {
        let mut naive = self.clients[client].naive.take()?;
        let result = act(&mut naive, &mut Around { world: self, client });
        self.clients[client].naive = Some(naive);
        Some(result)
    }
}

/// As much as just fits a sealed datagram for some client, or one byte more.
fn throw_border(random: &mut Random, source: SocketAddr) -> usize {
    let carried = random.pick(&DATAGRAM_MAX);
    let wrapping = HEADER_BYTES + overhead(random.once_in(2)) + addressed(0, source).len();
    carried - wrapping + random.below(2)
}

/// The world as an association finds it.
pub(crate) struct Around<'w> {
    world: &'w mut World,
    client: usize,
}

impl Surroundings for Around<'_> {
    fn now(&self) -> u64 {
        self.world.now
    }

    fn permits(&self, to: SocketAddr) -> bool {
        let is_many = match to.ip() {
            IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
            IpAddr::V6(ip) => ip.is_multicast(),
        };
        let is_denied = to.ip().is_unspecified() || to.ip() == DENIED;
        !is_many && !is_denied && !self.is_own_port(to)
    }

    fn has_way(&self, ip: IpAddr) -> bool {
        self.world.has_way(ip)
    }

    fn is_own_port(&self, address: SocketAddr) -> bool {
        let is_there = |port: &Port| {
            let (own, is_v4) = (port.own, address.is_ipv4());
            port.is_open && own.port() == address.port() && own.is_ipv4() == is_v4
        };
        OWN.contains(&address.ip()) && self.world.ports.iter().any(is_there)
    }

    fn has_outside(&mut self, is_v4: bool) -> bool {
        let is_crowded = self.world.weather.is_crowded;
        let has = &mut self.world.clients[self.client].has_outside;
        // Room for one of them comes with the association.
        has[usize::from(!is_v4)] |= !is_crowded || *has == [false; 2];
        has[usize::from(!is_v4)]
    }

    fn count(&mut self, event: Event) {
        self.world.count(event);
    }

    fn known(&self, name: &str) -> Option<Meaning> {
        self.world.zone.known(name)
    }

    fn opened(&self, bytes: &[u8]) -> Option<Genuine> {
        self.world.clients[self.client].sealer.as_ref()?.opened(bytes)
    }

    fn foresee(&mut self, name: &str) -> Foreseen {
        let world = &mut *self.world;
        let is_full = world.fails();
        let foreseen = if is_full { Foreseen::Full } else { world.zone.foresee(name) };
        world.foreseen.push_back((name.to_owned(), foreseen.clone()));
        foreseen
    }
}
