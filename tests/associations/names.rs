//! What names mean, and when the resolver says so.

use std::net::IpAddr;

use ringsocks::dns::{Answer, Failure};

use crate::naive::{Foreseen, Meaning};
use crate::random::Random;
use crate::script::{DENIED, NAMES, v4, v6};
use crate::world::OWN;

/// All names that there are.
pub(crate) struct Zone(Vec<Mood>);

/// How the resolver is about a name.
struct Mood {
    meaning: Meaning,
    /// What it says first, where the other family comes later.
    first: Option<Vec<IpAddr>>,
    /// How much later that is, if it ever comes.
    later: Option<u64>,
    haste: Haste,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Haste {
    Known,
    After(u64),
    Never,
    /// Known from the second time on.
    Learned(u64),
}

impl Zone {
    pub(crate) fn throw(random: &mut Random) -> Zone {
        Zone((0..NAMES).map(|_| Mood::throw(random)).collect())
    }

    /// What is known of a name without asking.
    pub(crate) fn known(&self, name: &str) -> Option<Meaning> {
        let Mood { haste, .. } = self.0[number_of(name)];
        (haste == Haste::Known).then(|| self.said(name))
    }

    /// What asking for a name comes to now, if the resolver takes questions.
    pub(crate) fn foresee(&self, name: &str) -> Foreseen {
        let more = self.has_more(name);
        self.known(name).map_or(Foreseen::Pending, |said| Foreseen::Known(said, more))
    }

    /// A name is asked for that is not known: how long it takes until it is, if ever.
    pub(crate) fn begin(&mut self, name: &str) -> Option<u64> {
        let Mood { haste, .. } = &mut self.0[number_of(name)];
        match *haste {
            Haste::After(after) => Some(after),
            Haste::Learned(after) => {
                *haste = Haste::Known;
                Some(after)
            }
            Haste::Never | Haste::Known => None,
        }
    }

    /// What is said first of a name.
    pub(crate) fn said(&self, name: &str) -> Meaning {
        let Mood { meaning, first, .. } = &self.0[number_of(name)];
        first.clone().map_or(meaning.clone(), Some)
    }

    /// What is said of it later, and how much.
    pub(crate) fn said_later(&self, name: &str) -> Option<(u64, Meaning)> {
        let Mood { meaning, first, later, .. } = &self.0[number_of(name)];
        let rest = meaning.as_ref()?[first.as_ref()?.len()..].to_vec();
        Some(((*later)?, Some(rest)))
    }

    /// Whether more is said of it later.
    pub(crate) fn has_more(&self, name: &str) -> bool {
        self.0[number_of(name)].first.is_some()
    }
}

impl Mood {
    fn throw(random: &mut Random) -> Mood {
        let haste = match random.below(10) {
            0..3 => Haste::Known,
            3 => Haste::Never,
            4 => Haste::After(4_990_000 + random.below(30_000) as u64),
            5 | 6 => Haste::Learned(random.below(40_000) as u64),
            _ => Haste::After(random.pick(&[100, 30_000, 2_000_000])),
        };
        let (one, two) = (v4([203, 0, 113, 1]), v4([203, 0, 113, 2]));
        let (v6, mapped) = (v6(0x2001, 0xdb8, 1, 1), "::ffff:203.0.113.2".parse().unwrap());
        let meaning = match random.below(10) {
            0 => None,
            1 => Some(vec![DENIED]),
            2 => Some(vec![DENIED, two]),
            3 => Some(vec![v6, one]),
            4 => Some(vec![v6]),
            5 => Some(vec![mapped]),
            6 => Some(vec![OWN[3], v4([0; 4])]),
            7 => Some(vec![two, v6]),
            _ => Some(vec![one]),
        };
        let first = meaning.as_ref().and_then(|it| it.get(..1)).map(<[IpAddr]>::to_vec);
        let first = first.filter(|_| random.once_in(4));
        let later = random.pick(&[None, Some(1000), Some(50_000), Some(4_000_000)]);
        Mood { meaning, first, later, haste }
    }
}

pub(crate) fn name(number: usize) -> String {
    format!("n{number}.example")
}

fn number_of(name: &str) -> usize {
    let number = name.strip_prefix('n').and_then(|it| it.strip_suffix(".example"));
    number.and_then(|it| it.parse().ok()).expect("a name that somebody asked for")
}

/// What the resolver says of a name that means this.
pub(crate) fn answer(meaning: &Meaning, more: bool) -> Answer {
    match meaning {
        Some(addresses) => Answer::Addresses { addresses: addresses.clone(), more },
        None => Answer::Failed(Failure::NotFound),
    }
}
