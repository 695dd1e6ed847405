//! What is true of the names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ringsocks::dns::{Answer, Failure};

use crate::random::Random;
use crate::wire::{A, AAAA, Data, Message, Question, Record};

/// More links than this are not followed.
const LINKS_MAX: usize = 8;

pub(crate) struct Zone {
    pub(crate) names: Vec<Truth>,
    ttl: u32,
}

#[derive(Clone, Debug)]
pub(crate) enum Truth {
    /// So many addresses of each family.
    Host(usize, usize),
    Missing,
    /// An alias of that name.
    Alias(usize),
}

/// Where the aliases of a name lead.
struct Chain {
    /// All names on the way, the last one too, as far as a message goes.
    names: Vec<usize>,
    /// The last name, if there is one within reach.
    end: Option<usize>,
}

impl Zone {
    /// Half of the names are what they are; the rest are aliases of any of them.
    pub(crate) fn throw(random: &mut Random) -> Zone {
        let count = random.between(4, 24);
        let truth = |place: usize| match place {
            _ if place > count / 3 && !random.once_in(3) => {
                // Mostly of the one before it, so that there are long chains; sometimes in a ring.
                let before = if random.once_in(3) { random.below(count) } else { place - 1 };
                Truth::Alias(before)
            }
            _ if random.once_in(5) => Truth::Missing,
            _ => Truth::Host(random.pick(&[0, 1, 1, 3]), random.pick(&[0, 1, 1, 3])),
        };
        let names = (0..count).map(truth).collect();
        Zone { names, ttl: random.pick(&[0, 1, 5, 60, 100_000]) }
    }

    pub(crate) fn name(place: usize) -> String {
        format!("n{place}.example")
    }

    fn place(&self, name: &str) -> usize {
        let name = name.to_ascii_lowercase();
        let number = name.strip_prefix('n').and_then(|it| it.strip_suffix(".example"));
        let place = number.and_then(|it| it.parse().ok()).expect("a name of ours");
        assert!(place < self.names.len(), "nobody asked for {name}");
        place
    }

    fn chain(&self, first: usize) -> Chain {
        let mut names = vec![first];
        while let Truth::Alias(next) = self.names[names[names.len() - 1]] {
            if names.len() > LINKS_MAX + 2 {
                return Chain { names, end: None };
            }
            names.push(next);
        }
        let end = names.last().copied().filter(|_| names.len() <= LINKS_MAX + 1);
        Chain { names, end }
    }

    /// The addresses that a name has, or leads to.
    pub(crate) fn addresses(&self, place: usize) -> Vec<IpAddr> {
        let Some(end) = self.chain(place).end else { return Vec::new() };
        [self.of_family(end, A), self.of_family(end, AAAA)].concat()
    }

    fn of_family(&self, place: usize, kind: u16) -> Vec<IpAddr> {
        let Truth::Host(v4, v6) = self.names[place] else { return Vec::new() };
        let (place, count) = (place as u16, if kind == A { v4 } else { v6 });
        let address = |number: usize| match kind {
            A => IpAddr::V4(Ipv4Addr::new(10, 0, place as u8, number as u8)),
            _ => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, place, number as u16)),
        };
        (0..count).map(address).collect()
    }

    /// Whether this failure is the truth about a name, or says that it could not be found out.
    pub(crate) fn allows(&self, place: usize, failure: Failure) -> bool {
        let last = self.chain(place).names.last().map(|last| &self.names[*last]);
        match failure {
            Failure::NotFound => matches!(last, Some(Truth::Missing)),
            Failure::NoAddress => matches!(last, Some(Truth::Host(0, 0))),
            Failure::ServerFailed | Failure::TimedOut => true,
        }
    }

    /// What everybody is told in the end where nothing goes wrong.
    pub(crate) fn is_whole(&self, place: usize, answer: &Answer) -> bool {
        let truth = self.addresses(place);
        match (answer, self.chain(place).end) {
            (Answer::Failed(Failure::TimedOut), _) => false,
            (Answer::Failed(Failure::ServerFailed), end) => end.is_none(),
            (Answer::Failed(failure), _) => truth.is_empty() && self.allows(place, *failure),
            (Answer::Addresses { addresses, .. }, _) => {
                addresses.len() == truth.len() && truth.iter().all(|it| addresses.contains(it))
            }
        }
    }

    /// The true answer: all of the chain, or the first part of it.
    pub(crate) fn answer(&self, question: &Question, random: &mut Random) -> Message {
        let chain = self.chain(self.place(&question.name));
        let shown = if random.once_in(2) { chain.names.len() } else { random.between(1, 3) };
        let is_whole = shown >= chain.names.len();
        let names = &chain.names[..shown.min(chain.names.len())];
        let mut message = question.answer();
        let owner = |place: usize| {
            if place == names[0] { question.name.clone() } else { Zone::name(place) }
        };
        let links = names.windows(2).map(|link| (link[0], link[1]));
        let more = chain.names.get(names.len()).map(|next| (names[names.len() - 1], *next));
        message.answers.extend(links.chain(more).map(|(from, to)| Record {
            owner: owner(from),
            ttl: self.ttl,
            data: Data::Alias(Zone::name(to)),
        }));
        if is_whole {
            self.put_end(names[names.len() - 1], question.kind, owner, &mut message);
        }
        random.shuffle(&mut message.answers);
        message
    }

    fn put_end(
        &self,
        end: usize,
        kind: u16,
        owner: impl Fn(usize) -> String,
        message: &mut Message,
    ) {
        let addresses = self.of_family(end, kind);
        match self.names[end] {
            Truth::Missing => (message.rcode, message.soa) = (3, Some(self.ttl)),
            Truth::Host(..) if addresses.is_empty() => message.soa = Some(self.ttl),
            Truth::Host(..) | Truth::Alias(_) => {}
        }
        message.answers.extend(addresses.into_iter().map(|ip| Record {
            owner: owner(end),
            ttl: self.ttl,
            data: Data::Address(ip),
        }));
    }
}
