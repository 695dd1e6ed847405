//! Fragments of several associations in any order and at any time: each is delivered or dropped
//! once, as a list of all that has come would have it, and nothing is held for nothing.

use std::time::{Duration, Instant};

use ringsocks::proto::udp;
use ringsocks::session::associate::reassembly::{Budget, Handled, Reassembly, Whole};

use super::script::Script;

const ASSOCIATIONS: usize = 3;

/// Two associations can have all of it.
const BUDGET: usize = 100_000;
const DATA_MAX: usize = 65_507;
const PATIENCE: Duration = Duration::from_secs(5);
const MS: Duration = Duration::from_millis(1);

/// The header of a datagram, up to its FRAG and behind that.
const RSV: &[u8] = &[0, 0];
const DESTINATIONS: [&[u8]; 4] = [
    &[1, 192, 0, 2, 1, 0, 80],
    &[1, 192, 0, 2, 1, 0, 81],
    &[1, 192, 0, 2, 2, 0, 80],
    b"\x03\x09a.example\x00\x50",
];

/// `input` is a [`Script`] of what happens.
pub fn check(input: &[u8]) {
    let mut script = Script::new(input);
    let mut world = World::new();
    while let Some(what) = script.byte() {
        world.act(what, &mut script);
        world.compare();
    }
    world.end();
}

struct World {
    now: Instant,
    budget: Budget,
    real: [Reassembly; ASSOCIATIONS],
    naive: [Naive; ASSOCIATIONS],
    sent: u64,
    delivered: u64,
    dropped: u64,
}

impl World {
    fn new() -> World {
        World {
            now: Instant::now(),
            budget: Budget::new(BUDGET),
            real: Default::default(),
            naive: Default::default(),
            sent: 0,
            delivered: 0,
            dropped: 0,
        }
    }

    fn act(&mut self, what: u8, script: &mut Script) {
        let which = usize::from(what >> 4) % ASSOCIATIONS;
        let highest = self.naive[which].parts.len() as u8;
        match what & 0xf {
            0..5 => self.send(which, (highest + 1) & 0x7f, script),
            5 | 6 => self.send(which, (highest + 1) | 0x80, script),
            7 => self.send(which, highest, script),
            8 => self.send(which, what & 0x80 | 1, script),
            9 => self.send(which, script.number() as u8, script),
            10 => self.now += 20 * MS * script.number(),
            11 => self.pass_until_deadline(which, Duration::ZERO),
            12 => self.pass_until_deadline(which, MS),
            13 => self.expire(which),
            14 => self.abandon(which),
            _ => self.fill(which, script),
        }
    }

    /// One more fragment. Its data is told by three bits of where it goes and by its number.
    fn send(&mut self, which: usize, frag: u8, script: &mut Script) {
        let how = script.number();
        let destination = match how & 3 {
            // Mostly it is the same.
            3 => DESTINATIONS[(how >> 2 & 3) as usize],
            _ => DESTINATIONS[0],
        };
        let letter = if how & 0x10 == 0 { self.sent as u8 } else { b'x' };
        let len = match how >> 5 {
            0..4 => how >> 5,
            4 => 1000 * script.number(),
            5 => DATA_MAX as u32 - script.number(),
            _ => script.number(),
        };
        let len = (len as usize).min(DATA_MAX);
        let octets = [RSV, &[frag], destination, &vec![letter; len]].concat();
        self.hear(which, &octets, destination);
    }

    fn hear(&mut self, which: usize, octets: &[u8], destination: &'static [u8]) {
        let Ok(datagram) = udp::parse(octets) else {
            assert_eq!(octets[2], 0x80);
            return;
        };
        let others = self.held() - self.naive[which].len();
        let part = Part { frag: octets[2], destination, data: datagram.data.to_vec() };
        let (expected, dropped) = self.naive[which].hear(part, self.now, others);
        let handled = self.real[which].handle_part(datagram.clone(), self.now, &mut self.budget);
        self.sent += 1;
        self.delivered += expected.as_ref().map_or(0, |parts| parts.len() as u64);
        self.dropped += dropped;
        let whole = expected.map(|parts| Whole {
            host: datagram.host,
            port: datagram.port,
            data: parts.into_iter().flat_map(|part| part.data).collect(),
        });
        assert!(handled == Handled { whole, dropped }, "FRAG {:x}", octets[2]);
    }

    fn pass_until_deadline(&mut self, which: usize, before: Duration) {
        if let Some(at) = self.real[which].expires_at() {
            self.now = self.now.max(at - before);
        }
    }

    fn expire(&mut self, which: usize) {
        let dropped = self.naive[which].expire(self.now);
        assert_eq!(self.real[which].expire(self.now, &mut self.budget), dropped);
        self.dropped += dropped;
    }

    fn abandon(&mut self, which: usize) {
        let dropped = self.naive[which].clear();
        assert_eq!(self.real[which].abandon(&mut self.budget), dropped);
        self.dropped += dropped;
    }

    /// As many fragments in order as there may be.
    fn fill(&mut self, which: usize, script: &mut Script) {
        let last = script.number() as u8;
        for frag in (1..127).chain([last | 0x7f]) {
            let octets = [RSV, &[frag], DESTINATIONS[0], &[frag]].concat();
            self.hear(which, &octets, DESTINATIONS[0]);
        }
    }

    fn held(&self) -> usize {
        self.naive.iter().map(Naive::len).sum()
    }

    fn compare(&self) {
        assert_eq!(self.budget.used(), self.held());
        for (real, naive) in self.real.iter().zip(&self.naive) {
            assert_eq!(real.expires_at(), naive.expires_at());
        }
        let waiting: usize = self.naive.iter().map(|naive| naive.parts.len()).sum();
        assert_eq!(self.sent, self.delivered + self.dropped + waiting as u64);
    }

    fn end(&mut self) {
        (0..ASSOCIATIONS).for_each(|which| self.abandon(which));
        self.compare();
        assert_eq!((self.budget.used(), self.sent), (0, self.delivered + self.dropped));
    }
}

/// The fragments from the first on that may still become a datagram.
#[derive(Default)]
struct Naive {
    parts: Vec<Part>,
    began: Option<Instant>,
}

struct Part {
    frag: u8,
    destination: &'static [u8],
    data: Vec<u8>,
}

impl Naive {
    /// The parts of the datagram that is complete with this one, and how many are dropped, while
    /// other associations hold so much.
    fn hear(&mut self, part: Part, now: Instant, others: usize) -> (Option<Vec<Part>>, u64) {
        let mut dropped = self.expire(now);
        let is_last = part.frag >= 0x80 || part.frag == 0;
        let position = (part.frag & 0x7f).max(1);
        if let Some(before) = self.parts.last() {
            let is_again = part.destination == before.destination
                && position == before.frag
                && (position != 1 || !is_last && part.data == before.data);
            if is_again {
                return (None, dropped + 1);
            }
            if part.destination != before.destination || position != before.frag + 1 {
                dropped += self.clear();
            }
        }
        let follows = position == self.parts.len() as u8 + 1;
        let is_endless = position == 127 && !is_last;
        let len = self.len() + part.data.len();
        let is_too_long = len > DATA_MAX;
        let has_no_room = !is_last && others + len > BUDGET;
        if !follows || is_endless || is_too_long || has_no_room {
            return (None, dropped + 1 + self.clear());
        }
        self.began = self.began.or(Some(now));
        self.parts.push(part);
        if is_last {
            self.began = None;
            return (Some(std::mem::take(&mut self.parts)), dropped);
        }
        (None, dropped)
    }

    fn expires_at(&self) -> Option<Instant> {
        self.began.map(|began| began + PATIENCE)
    }

    fn expire(&mut self, now: Instant) -> u64 {
        match self.began {
            Some(began) if now - began >= PATIENCE => self.clear(),
            _ => 0,
        }
    }

    fn clear(&mut self) -> u64 {
        self.began = None;
        let dropped = self.parts.len();
        self.parts.clear();
        dropped as u64
    }

    fn len(&self) -> usize {
        self.parts.iter().map(|part| part.data.len()).sum()
    }
}
