//! The resolver over a model of a network and its name servers, driven by nothing but a seed.
//!
//! Each seed throws names, servers with their moods, the weather, and a crowd that asks and leaves.
//! Whatever they do, everyone is told the truth or that it could not be found out, in time and once;
//! and when all are well again, every name is found as it is. Where a seed fails,
//! `RINGSOCKS_SIMULATION_SEED=n cargo test --test resolver -- --nocapture` plays it alone and prints
//! what happened.

mod counts;
mod crowd;
mod network;
#[path = "../simulation/random.rs"]
mod random;
mod wire;
mod zone;

use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ringsocks::dns::{Answer, Asked, CHANNELS_MAX, CHANNELS_MIN, Resolver, Sources};
use ringsocks::proto::{Host, Name};

use crate::counts::{Counts, Event};
use crate::crowd::Crowd;
use crate::network::Network;
use crate::random::Random;
use crate::zone::Zone;

const SEEDS: u64 = 600;
const SEED_VARIABLE: &str = "RINGSOCKS_SIMULATION_SEED";
const HOSTS: &[u8] = b"203.0.113.1 known.example\n";

/// One seed's play.
struct Play {
    random: Random,
    now: Instant,
    resolver: Resolver,
    network: Network,
    crowd: Crowd,
    counts: Counts,
    servers: usize,
    channels_max: usize,
}

#[test]
fn six_hundred_seeds() {
    if let Some(seed) = env::var(SEED_VARIABLE).ok().map(|it| it.parse().expect("a number")) {
        play(seed, true);
        return;
    }
    let halves = thread::scope(|scope| {
        let half = |first: u64| {
            scope.spawn(move || (first..SEEDS).step_by(2).map(attempt).collect::<Vec<_>>())
        };
        let halves = [half(0), half(1)];
        halves.map(|half| half.join().unwrap())
    });
    let mut all = Counts::default();
    let mut failed = Vec::new();
    for played in halves.into_iter().flatten() {
        match played {
            Ok(counts) => all.add(&counts),
            Err(seed) => failed.push(seed),
        }
    }
    failed.sort_unstable();
    assert!(
        failed.is_empty(),
        "{} seeds failed; play one: {SEED_VARIABLE}={} cargo test --test resolver -- --nocapture\n{failed:?}",
        failed.len(),
        failed[0],
    );
    for event in Event::ALL {
        println!("{:>9} {event:?}", all.of(event));
    }
    let missing: Vec<_> = Event::ALL.into_iter().filter(|event| all.of(*event) < 2).collect();
    assert!(missing.is_empty(), "it never happens: {missing:?}");
}

#[test]
fn the_same_seed_plays_the_same() {
    for seed in 0..20 {
        assert_eq!(play(seed, false).hash(), play(seed, false).hash(), "seed {seed}");
    }
    assert_ne!(play(0, false).hash(), play(1, false).hash());
}

fn attempt(seed: u64) -> Result<Counts, u64> {
    panic::catch_unwind(AssertUnwindSafe(|| play(seed, false))).map_err(|_| {
        eprintln!("^ seed {seed}");
        seed
    })
}

fn play(seed: u64, verbose: bool) -> Counts {
    let mut play = Play::throw(Random::new(seed), verbose);
    for _ in 0..play.random.pick(&[50, 200, 400]) {
        play.stir();
        play.keep_going();
        play.pass_time();
    }
    play.come_to_rest();
    play.ask_for_everything();
    play.counts
}

impl Play {
    fn throw(mut random: Random, verbose: bool) -> Play {
        let servers = random.between(1, 4);
        let network = Network::throw(&mut random, servers, verbose);
        let mut dice = Random::new(random.next());
        let entropy = move |bytes: &mut [u8]| bytes.fill_with(|| dice.next() as u8);
        let now = Instant::now();
        let sources = throw_sources(&mut random, servers);
        let channels_max = random.pick(&[CHANNELS_MIN, 10, CHANNELS_MAX]);
        let resolver = Resolver::new(sources, Box::new(entropy), channels_max, now);
        let (crowd, counts) = (Crowd::default(), Counts::default());
        Play { random, now, resolver, network, crowd, counts, servers, channels_max }
    }

    /// Somebody comes or leaves, or a server changes its mood.
    fn stir(&mut self) {
        if self.random.once_in(3) {
            let place = self.random.below(self.network.zone.names.len());
            let patience = self.random.pick(&[0, 40, 300, 2000, 5000, 5000, 5000, 20_000, 60_000]);
            let has_deadline = !self.random.once_in(20);
            let deadline = has_deadline.then(|| self.now + Duration::from_millis(patience));
            self.ask(place, deadline);
        }
        if self.random.once_in(12) && !self.crowd.is_empty() {
            self.counts.count(Event::Forgotten);
            let leaves = self.crowd.leave(self.random.below(self.crowd.len()));
            self.resolver.forget(leaves);
        }
        if self.random.once_in(40) {
            self.network.change_mood(&mut self.random);
        }
        if self.random.once_in(150) {
            self.counts.count(Event::NewSources);
            let sources = throw_sources(&mut self.random, self.servers);
            self.resolver.use_sources(sources, self.now);
        }
        if self.random.once_in(100) {
            let known =
                self.resolver.ask(&name("Known.Example."), self.crowd.next_token(), None, self.now);
            let addresses = vec!["203.0.113.1".parse().unwrap()];
            assert_eq!(known, Asked::Known(Answer::Addresses { addresses, more: false }));
        }
    }

    fn ask(&mut self, place: usize, deadline: Option<Instant>) {
        let mut letters = Zone::name(place);
        if self.random.once_in(3) {
            letters.make_ascii_uppercase();
        }
        if self.random.once_in(3) {
            letters.push('.');
        }
        let token = self.crowd.next_token();
        let asked = self.resolver.ask(&name(&letters), token, deadline, self.now);
        if self.network.verbose {
            println!("{:?} asks for {letters}: {asked:?}", token.slot());
        }
        self.crowd.add(token, place, deadline, &asked, self.now);
        match asked {
            Asked::Known(answer) => {
                let last = answer.is_last();
                self.counts.count(if last { Event::Known } else { Event::KnownInPart });
                self.crowd.tell(token, &answer, &self.network.zone, &mut self.counts);
            }
            Asked::Pending => self.counts.count(Event::Pending),
            Asked::Full => unreachable!(),
        }
        self.act();
    }

    fn act(&mut self) {
        let Play { resolver, network, random, counts, .. } = self;
        network.act(resolver, random, counts, self.now);
    }

    /// What the reactor does each turn, until nothing is left to do at this moment.
    fn keep_going(&mut self) {
        let mut rounds = 0;
        loop {
            self.act();
            let mut moved = self.network.deliver(&mut self.resolver, &mut self.counts, self.now);
            self.act();
            self.resolver.handle_deadline(self.now);
            self.act();
            while let Some((token, answer)) = self.resolver.poll_answer() {
                if self.network.verbose {
                    println!("{:?} is told {answer:?}", token.slot());
                }
                self.crowd.tell(token, &answer, &self.network.zone, &mut self.counts);
                moved = true;
            }
            rounds += 1;
            assert!(rounds < 5000, "it is busy with nothing");
            if !moved && !self.resolver.is_busy() {
                break;
            }
        }
        self.check();
    }

    fn check(&self) {
        let next = self.resolver.next_deadline();
        assert!(next.is_none_or(|at| at > self.now), "a deadline that has passed is kept");
        assert_eq!(next.is_some(), self.resolver.open() > 0, "somebody waits without a timer");
        assert_eq!(self.resolver.channels(), self.network.wires());
        assert!(self.network.wires() <= self.channels_max, "too many sockets");
        self.crowd.check(self.now);
    }

    /// Moves the clock to whatever is next; sometimes too far.
    fn pass_time(&mut self) {
        let events = [self.network.next(), self.resolver.next_deadline()];
        let stirs = self.now + Duration::from_micros(self.random.below(200_000) as u64);
        let next = events.into_iter().flatten().fold(stirs, Instant::min);
        self.now = next.max(self.now);
        if self.random.once_in(60) {
            self.counts.count(Event::ClockJump);
            self.now += Duration::from_millis(self.random.pick(&[5, 300, 3000, 40_000]));
        }
    }

    /// Plays on, with servers that are silent or well, until nobody waits and nothing is open.
    fn come_to_rest(&mut self) {
        match self.random.once_in(2) {
            true => self.network.fall_silent(),
            false => self.network.calm_down(),
        }
        let mut steps = 0;
        self.keep_going();
        while let Some(next) =
            self.network.next().into_iter().chain(self.resolver.next_deadline()).min()
        {
            self.now = next.max(self.now);
            self.keep_going();
            steps += 1;
            assert!(steps < 50_000, "it never comes to rest");
        }
        assert!(self.crowd.is_empty(), "somebody was never told");
        assert_eq!(self.resolver.open(), 0);
        assert_eq!((self.resolver.channels(), self.network.wires()), (0, 0));
        assert!(!self.resolver.is_busy());
    }

    /// When all is well again, each name is what it is.
    fn ask_for_everything(&mut self) {
        self.network.calm_down();
        // What is known of failures is forgotten by then.
        self.now += Duration::from_secs(3700);
        for place in 0..self.network.zone.names.len() {
            self.find(place);
        }
    }

    /// Asks for one name and gathers what there is of it.
    fn find(&mut self, place: usize) {
        let token = self.crowd.next_token();
        let deadline = self.now + Duration::from_secs(5);
        let mut answers = Vec::new();
        match self.resolver.ask(&name(&Zone::name(place)), token, Some(deadline), self.now) {
            Asked::Known(answer) => answers.push(answer),
            asked => assert_eq!(asked, Asked::Pending),
        }
        while !answers.last().is_some_and(Answer::is_last) {
            self.act();
            while self.network.deliver(&mut self.resolver, &mut self.counts, self.now) {
                self.act();
            }
            self.resolver.handle_deadline(self.now);
            self.act();
            while let Some((to, answer)) = self.resolver.poll_answer() {
                assert_eq!(to, token);
                answers.push(answer);
            }
            let events = [self.network.next(), self.resolver.next_deadline()];
            let next = events.into_iter().flatten().fold(deadline, Instant::min);
            self.now = next.max(self.now);
        }
        let whole = answers.into_iter().reduce(join).unwrap();
        let truth = &self.network.zone.names[place];
        assert!(self.network.zone.is_whole(place, &whole), "{place}, {truth:?}: {whole:?}");
    }
}

fn join(first: Answer, last: Answer) -> Answer {
    let (Answer::Addresses { addresses: first, .. }, Answer::Addresses { addresses: last, .. }) =
        (&first, &last)
    else {
        panic!("{first:?} and then {last:?}");
    };
    Answer::Addresses { addresses: [first.as_slice(), last].concat(), more: false }
}

fn throw_sources(random: &mut Random, servers: usize) -> Arc<Sources> {
    let mut list: Vec<_> = (0..servers).map(Network::server).collect();
    random.shuffle(&mut list);
    list.truncate(random.between(1, servers));
    Arc::new(Sources::new(list, HOSTS, random.once_in(2)))
}

fn name(text: &str) -> Name {
    match Host::parse_name(text.as_bytes()) {
        Ok(Host::Name(name)) => name,
        other => panic!("{other:?}"),
    }
}
