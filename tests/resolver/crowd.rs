//! Those who ask for names, and what they may be told.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ringsocks::dns::{Answer, Asked, Failure};
use ringsocks::token::{Role, Token};

use crate::counts::{Counts, Event};
use crate::zone::Zone;

/// What a timer may be late.
const TOLERANCE: Duration = Duration::from_millis(2);
/// How long names are asked for that nobody sets a limit to.
const DEADLINE_MAX: Duration = Duration::from_secs(30);

/// Everyone who ever asked.
#[derive(Default)]
pub(crate) struct Crowd {
    waiters: BTreeMap<usize, Waiter>,
    number: usize,
}

struct Waiter {
    name: usize,
    deadline: Instant,
    asked: Instant,
    /// What it was told before the last answer.
    first: Option<Vec<IpAddr>>,
}

impl Crowd {
    pub(crate) fn next_token(&mut self) -> Token {
        self.number += 1;
        Token::new(self.number as u32, Role::Answer, self.number)
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Somebody has asked, and was told this at once.
    pub(crate) fn add(
        &mut self,
        token: Token,
        name: usize,
        deadline: Option<Instant>,
        asked: &Asked,
        now: Instant,
    ) {
        let latest = now + DEADLINE_MAX;
        let deadline = deadline.map_or(latest, |at| at.min(latest));
        assert_ne!(*asked, Asked::Full, "so few names are no crowd");
        self.waiters.insert(token.slot(), Waiter { name, deadline, asked: now, first: None });
    }

    /// Somebody is told something.
    pub(crate) fn tell(&mut self, token: Token, answer: &Answer, zone: &Zone, counts: &mut Counts) {
        let waiter = self.waiters.get_mut(&token.slot());
        let waiter = waiter.expect("told who has been told everything, or has left");
        let truth = zone.addresses(waiter.name);
        match answer {
            Answer::Failed(failure) => {
                assert!(waiter.first.is_none(), "a name that had addresses has failed");
                let allowed = zone.allows(waiter.name, *failure);
                assert!(allowed, "{failure:?} is not true of {}", waiter.name);
                counts.count(match failure {
                    Failure::NotFound => Event::NotFound,
                    Failure::NoAddress => Event::NoAddress,
                    Failure::ServerFailed => Event::ServerFailed,
                    Failure::TimedOut => Event::TimedOut,
                });
            }
            Answer::Addresses { addresses, more } => {
                for ip in addresses {
                    assert!(truth.contains(ip), "{ip} is not one of {}", waiter.name);
                    let was_told = waiter.first.as_ref().is_some_and(|it| it.contains(ip));
                    assert!(!was_told, "{ip} once more");
                }
                match (&waiter.first, more) {
                    (None, true) => counts.count(Event::FirstPart),
                    (None, false) => counts.count(Event::Whole),
                    (Some(_), false) => counts.count(Event::LastPart),
                    (Some(_), true) => panic!("two answers that are not the last"),
                }
                let is_first = waiter.first.is_none();
                assert!(!is_first || !addresses.is_empty(), "no addresses to begin with");
                waiter.first = Some(addresses.clone());
            }
        }
        if answer.is_last() {
            self.waiters.remove(&token.slot());
        }
    }

    /// Somebody who waits leaves: the `place`-th of them.
    pub(crate) fn leave(&mut self, place: usize) -> Token {
        let slot = *self.waiters.keys().nth(place).expect("somebody waits");
        self.waiters.remove(&slot);
        Token::new(slot as u32, Role::Answer, slot)
    }

    /// Nobody waits beyond their time.
    pub(crate) fn check(&self, now: Instant) {
        for (token, waiter) in &self.waiters {
            let waits = now.duration_since(waiter.asked);
            assert!(now < waiter.deadline + TOLERANCE, "{token} waits for ever: {waits:?}");
        }
    }
}
