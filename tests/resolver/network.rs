//! The name servers, and what is on its way to and from them.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ringsocks::dns::{Action, ChannelId, Resolver, Transport};

use crate::counts::{Counts, Event};
use crate::random::Random;
use crate::wire::{A, Data, Message, Question, Record};
use crate::zone::Zone;

/// The sockets of the resolver and the weather around them.
pub(crate) struct Network {
    pub(crate) zone: Zone,
    /// By the slot of their channels.
    wires: BTreeMap<usize, Wire>,
    /// Those for which there was no socket: what was to be done with them comes to nothing.
    stillborn: HashSet<ChannelId>,
    coming: BTreeMap<(Instant, u64), (ChannelId, Arrival)>,
    number: u64,
    /// What was answered in other letters: a forger does not guess an id twice.
    misspelt: HashSet<(String, u16)>,
    /// How each server behaves, by its place.
    moods: Vec<Mood>,
    /// One in so many calls for a socket fails, if any does.
    shortage: Option<usize>,
    pub(crate) verbose: bool,
}

struct Wire {
    channel: ChannelId,
    server: SocketAddr,
    transport: Transport,
}

/// What the resolver will see of a channel.
enum Arrival {
    Datagram(Vec<u8>),
    Stream(Vec<u8>),
    Failure,
}

/// How a server and the way to it are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Sound,
    Silent,
    Refusing,
    /// Any of what a server can do wrong, now and then.
    Fickle,
}

/// What one question comes to.
#[derive(Clone, Copy)]
enum Fate {
    Answered,
    Silence,
    Failed,
    NoEdns,
    NoEdnsWithoutQuestion,
    Truncated,
    OtherId,
    OtherName,
    OtherKind,
    OtherLetters,
    ForgedLetters,
    Cut,
    Garbage,
    Empty,
    Refused,
    Flood,
}

const FATES: [Fate; 18] = [
    Fate::Answered,
    Fate::Answered,
    Fate::Answered,
    Fate::Silence,
    Fate::Failed,
    Fate::NoEdns,
    Fate::NoEdnsWithoutQuestion,
    Fate::Truncated,
    Fate::OtherId,
    Fate::OtherName,
    Fate::OtherKind,
    Fate::OtherLetters,
    Fate::ForgedLetters,
    Fate::Cut,
    Fate::Garbage,
    Fate::Empty,
    Fate::Refused,
    Fate::Flood,
];

impl Network {
    pub(crate) fn throw(random: &mut Random, servers: usize, verbose: bool) -> Network {
        let mut network = Network {
            zone: Zone::throw(random),
            wires: BTreeMap::new(),
            stillborn: HashSet::new(),
            coming: BTreeMap::new(),
            number: 0,
            misspelt: HashSet::new(),
            moods: vec![Mood::Sound; servers],
            shortage: random.once_in(3).then(|| random.between(1, 10)),
            verbose,
        };
        (0..servers).for_each(|_| network.change_mood(random));
        network
    }

    pub(crate) fn change_mood(&mut self, random: &mut Random) {
        let place = random.below(self.moods.len());
        self.moods[place] =
            random.pick(&[Mood::Sound, Mood::Silent, Mood::Refusing, Mood::Fickle, Mood::Fickle]);
    }

    /// Nothing goes wrong from now on.
    pub(crate) fn calm_down(&mut self) {
        self.moods.fill(Mood::Sound);
        self.shortage = None;
    }

    /// Nobody answers from now on.
    pub(crate) fn fall_silent(&mut self) {
        self.moods.fill(Mood::Silent);
    }

    pub(crate) fn server(place: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, place as u8 + 1], 53))
    }

    pub(crate) fn wires(&self) -> usize {
        self.wires.len()
    }

    /// When something will arrive next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.coming.keys().next().map(|(at, _)| *at)
    }

    /// Does what the resolver wants done, as its owner would.
    pub(crate) fn act(
        &mut self,
        resolver: &mut Resolver,
        random: &mut Random,
        counts: &mut Counts,
        now: Instant,
    ) {
        let mut actions = 0;
        while let Some(action) = resolver.poll_action() {
            actions += 1;
            assert!(actions < 10_000, "it is busy with nothing");
            if self.verbose {
                println!("  {action:?}");
            }
            match action {
                Action::Open { channel, server, transport } => {
                    assert!(channel.slot < 64, "too many channels");
                    assert!(!self.wires.contains_key(&channel.slot), "it is open already");
                    if self.shortage.is_some_and(|times| random.once_in(times)) {
                        counts.count(Event::Shortage);
                        self.stillborn.insert(channel);
                        resolver.handle_shortage(channel, now);
                    } else if random.once_in(50) && self.mood(server) == Mood::Fickle {
                        counts.count(Event::Unreachable);
                        self.stillborn.insert(channel);
                        resolver.handle_failure(channel, now);
                    } else {
                        self.wires.insert(channel.slot, Wire { channel, server, transport });
                    }
                }
                Action::Send { channel, bytes } => {
                    if !self.stillborn.contains(&channel) {
                        self.carry(channel, &bytes, random, counts, now);
                    }
                }
                Action::Close { channel } => {
                    if !self.stillborn.contains(&channel) {
                        let wire = self.wires.remove(&channel.slot);
                        assert_eq!(wire.map(|it| it.channel), Some(channel), "closed twice");
                    }
                }
            }
        }
    }

    /// Lets arrive what has come by now. Says whether there was anything.
    pub(crate) fn deliver(
        &mut self,
        resolver: &mut Resolver,
        counts: &mut Counts,
        now: Instant,
    ) -> bool {
        let Some(next) = self.coming.first_entry().filter(|it| it.key().0 <= now) else {
            return false;
        };
        let (channel, arrival) = next.remove();
        let is_open = self.wires.get(&channel.slot).is_some_and(|it| it.channel == channel);
        if !is_open {
            counts.count(Event::TooLate);
            // An event that was reported before the socket was closed.
            if counts.of(Event::TooLate).is_multiple_of(2) {
                return true;
            }
        }
        match arrival {
            Arrival::Datagram(bytes) => resolver.handle_datagram(channel, &bytes, now),
            Arrival::Stream(bytes) => resolver.handle_stream(channel, &bytes, now),
            Arrival::Failure => resolver.handle_failure(channel, now),
        }
        true
    }

    fn mood(&self, server: SocketAddr) -> Mood {
        let IpAddr::V4(ip) = server.ip() else { panic!("none of ours: {server}") };
        self.moods[usize::from(ip.octets()[3]) - 1]
    }

    fn arrive(&mut self, channel: ChannelId, at: Instant, arrival: Arrival) {
        self.number += 1;
        self.coming.insert((at, self.number), (channel, arrival));
    }

    /// Takes a question to a server, and what that says back.
    fn carry(
        &mut self,
        channel: ChannelId,
        bytes: &[u8],
        random: &mut Random,
        counts: &mut Counts,
        now: Instant,
    ) {
        let wire = self.wires.get(&channel.slot).filter(|it| it.channel == channel);
        let wire = wire.expect("it sends to a channel that is open");
        let (server, transport) = (wire.server, wire.transport);
        let query = match transport {
            Transport::Udp => bytes,
            Transport::Tcp => {
                counts.count(Event::Stream);
                assert_eq!(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])), bytes.len() - 2);
                &bytes[2..]
            }
        };
        let question = Question::read(query);
        let fate = match self.mood(server) {
            Mood::Sound => Fate::Answered,
            Mood::Silent => Fate::Silence,
            Mood::Refusing => Fate::Refused,
            Mood::Fickle => random.pick(&FATES),
        };
        let misspells = matches!(fate, Fate::OtherLetters | Fate::ForgedLetters);
        let key = (question.name.to_ascii_lowercase(), question.kind);
        let is_first = !misspells || self.misspelt.insert(key);
        let fate = match fate {
            Fate::ForgedLetters if !is_first => Fate::Silence,
            fate => fate,
        };
        let messages = self.answers(&question, fate, transport, random, counts);
        let is_fickle = self.mood(server) == Mood::Fickle;
        let soon = |random: &mut Random| now + Duration::from_micros(random.below(40_000) as u64);
        match transport {
            Transport::Udp if matches!(fate, Fate::Refused) => {
                self.arrive(channel, soon(random), Arrival::Failure);
            }
            Transport::Udp => {
                for message in messages {
                    self.send_back(channel, message, is_fickle, random, counts, now);
                }
            }
            Transport::Tcp => {
                let mut at = soon(random);
                for piece in pieces(&messages, is_fickle, random, counts) {
                    self.arrive(channel, at, Arrival::Stream(piece));
                    at += Duration::from_micros(random.below(300_000) as u64);
                }
                if !matches!(fate, Fate::Silence) {
                    self.arrive(channel, at, Arrival::Failure);
                }
            }
        }
    }

    /// A datagram, which may be lost, late, or there twice.
    fn send_back(
        &mut self,
        channel: ChannelId,
        message: Vec<u8>,
        is_fickle: bool,
        random: &mut Random,
        counts: &mut Counts,
        now: Instant,
    ) {
        if is_fickle && random.once_in(8) {
            counts.count(Event::Lost);
            return;
        }
        let copies = if is_fickle && random.once_in(6) { 2 } else { 1 };
        for _ in 0..copies {
            let longest = match is_fickle {
                true => random.pick(&[1_000, 30_000, 200_000, 1_500_000, 9_000_000]),
                false => 40_000,
            };
            let delay = Duration::from_micros(random.below(longest) as u64);
            self.arrive(channel, now + delay, Arrival::Datagram(message.clone()));
        }
    }

    fn answers(
        &self,
        question: &Question,
        fate: Fate,
        transport: Transport,
        random: &mut Random,
        counts: &mut Counts,
    ) -> Vec<Vec<u8>> {
        let mut message = self.zone.answer(question, random);
        let lie = |message: &mut Message| {
            let ip = if question.kind == A { "192.0.2.66" } else { "2001:db8::66" };
            let data = Data::Address(ip.parse().unwrap());
            (message.rcode, message.soa) = (0, None);
            message.answers = vec![Record { owner: question.name.clone(), ttl: 60, data }];
        };
        let event = match fate {
            Fate::Answered => Event::Answered,
            Fate::Silence | Fate::Refused => {
                counts.count(Event::Silence);
                return Vec::new();
            }
            Fate::Failed => {
                message = question.answer();
                message.rcode = random.pick(&[2, 5, 9]);
                Event::Failed
            }
            Fate::NoEdns | Fate::NoEdnsWithoutQuestion if question.edns => {
                message = question.answer();
                message.rcode = random.pick(&[1, 4]);
                if matches!(fate, Fate::NoEdnsWithoutQuestion) {
                    message.question = None;
                }
                Event::NoEdns
            }
            Fate::NoEdns | Fate::NoEdnsWithoutQuestion => Event::WithoutEdns,
            Fate::Truncated if transport == Transport::Udp => {
                lie(&mut message);
                message.truncated = true;
                Event::Truncated
            }
            Fate::Truncated => Event::Answered,
            Fate::OtherId => {
                lie(&mut message);
                message.id = message.id.wrapping_add(random.between(1, 65_535) as u16);
                Event::Forged
            }
            Fate::OtherName => {
                lie(&mut message);
                message.question = Some(("n.example".into(), question.kind));
                Event::Forged
            }
            Fate::OtherKind => {
                lie(&mut message);
                message.question = Some((question.name.clone(), question.kind ^ 29));
                Event::Forged
            }
            Fate::OtherLetters => {
                message.question = Some((question.name.to_ascii_lowercase(), question.kind));
                Event::OtherLetters
            }
            Fate::ForgedLetters => {
                // All letters the other way round: no question of ours has these.
                let turn = |letter: char| match letter.is_ascii_lowercase() {
                    true => letter.to_ascii_uppercase(),
                    false => letter.to_ascii_lowercase(),
                };
                lie(&mut message);
                message.question = Some((question.name.chars().map(turn).collect(), question.kind));
                Event::Forged
            }
            Fate::Cut => {
                counts.count(Event::Cut);
                let mut bytes = message.bytes();
                bytes.truncate(random.below(bytes.len()));
                return vec![bytes];
            }
            Fate::Garbage => {
                counts.count(Event::Garbage);
                let len = random.below(200);
                let id = question.id.to_be_bytes();
                let noise = (0..len).map(|_| random.next() as u8);
                return vec![id.into_iter().chain(noise).collect()];
            }
            Fate::Empty => {
                counts.count(Event::Garbage);
                return vec![Vec::new()];
            }
            Fate::Flood => {
                counts.count(Event::Flood);
                lie(&mut message);
                let forged = (1..=110).map(|step| {
                    message.id = question.id.wrapping_add(step);
                    message.bytes()
                });
                return forged.collect();
            }
        };
        counts.count(event);
        vec![message.bytes()]
    }
}

/// A stream with a message's length before it, in pieces or whole, sometimes not to its end.
fn pieces(
    messages: &[Vec<u8>],
    is_fickle: bool,
    random: &mut Random,
    counts: &mut Counts,
) -> Vec<Vec<u8>> {
    let Some(message) = messages.first() else { return Vec::new() };
    let mut bytes = (message.len() as u16).to_be_bytes().to_vec();
    bytes.extend(message);
    if is_fickle && random.once_in(4) {
        counts.count(Event::ClosedEarly);
        bytes.truncate(random.below(bytes.len()));
    }
    let longest = random.pick(&[1, 5, 100, 1000]);
    bytes.chunks(longest).map(<[u8]>::to_vec).collect()
}
