//! The world around the gateway: connections, peers, resolver, and beside each life a shadow that
//! knows what may be said and must have been heard.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ringsocks::auth::Done;
use ringsocks::dns::Answer;
use ringsocks::token::Token;

use crate::counts::Event;
use crate::life::Life;
use crate::listening::Harbour;
use crate::opening::Opening;
use crate::random::Random;
use crate::script::{Asked, Plan, Script, Whom};
use crate::tcp::Connection;

/// What happens by itself at its time.
pub(crate) enum Happening {
    Arrival(usize),
    Established(usize),
    Failed(usize, i32),
    /// What a name means, which of the targets that is, and what happens so much later.
    Answer {
        token: Token,
        answer: Answer,
        targets: Vec<usize>,
        then: Option<(u64, Box<Happening>)>,
    },
    Abort(usize, bool),
    /// What has come of a task.
    Done {
        token: Token,
        client: IpAddr,
        done: Done,
    },
    /// One of a life's targets connects to its port.
    Visit {
        quay: usize,
        target: usize,
    },
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(super) epoch: Instant,
    pub(crate) random: Random,
    pub(crate) links: Vec<Link>,
    pub(crate) harbour: Harbour,
    pub(crate) lives: Vec<Life>,
    pub(crate) owners: BTreeMap<usize, usize>,
    pub(crate) happenings: BTreeMap<(u64, usize), Happening>,
    pub(super) happened: usize,
    pub(crate) counts: [u64; Event::ALL.len()],
    /// How many bytes the gateway moved in any way.
    pub(crate) progress: u64,
    pub(crate) hash: u64,
    pub(super) verbose: bool,
    pub(super) shortages: bool,
    pub(super) last_flush: Option<(usize, usize)>,
    /// How many calls were made since the last that moved anything, or a new turn.
    pub(crate) idle_calls: usize,
}

impl World {
    pub(crate) fn new(random: Random, epoch: Instant, verbose: bool) -> World {
        let mut world = World {
            now: 0,
            epoch,
            random,
            links: Vec::new(),
            harbour: Harbour::default(),
            lives: Vec::new(),
            owners: BTreeMap::new(),
            happenings: BTreeMap::new(),
            happened: 0,
            counts: [0; Event::ALL.len()],
            progress: 0,
            hash: 0xcbf2_9ce4_8422_2325,
            verbose,
            shortages: false,
            last_flush: None,
            idle_calls: 0,
        };
        world.shortages = world.random.once_in(3);
        world
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

    pub(crate) fn add_life(&mut self, script: Script) {
        self.at(script.arrives_at, Happening::Arrival(self.lives.len()));
        let named = matches!(
            script.request,
            Asked::Connect { named: true } | Asked::Bind { whom: Whom::Name }
        );
        let is_address = matches!(script.request, Asked::Bind { whom: Whom::Address });
        let expected = is_address.then(|| script.targets[0].address.ip());
        let v6_is_next = script.targets[0].address.is_ipv6();
        let candidates = if named { Vec::new() } else { vec![0] };
        self.lives.push(Life {
            opening: Opening::new(&script),
            answers: script.answers.iter().flat_map(|(_, answer)| answer.iter().copied()).collect(),
            task: None,
            contexts_asked: 0,
            refused_at: None,
            stirred_at: 0,
            script,
            client: None,
            heard: 0,
            said: Vec::new(),
            reply_due: None,
            candidates,
            v6_is_next,
            tried: Vec::new(),
            tried_at: 0,
            over_at_try: 0,
            attempts: Vec::new(),
            granted: None,
            granted_target: None,
            target_is_kept_alive: false,
            up_out: 0,
            down_in: 0,
            down_out: 0,
            accepted_at: 0,
            moved_at: 0,
            broken_at: 0,
            forced: false,
            asked: None,
            is_answered: !named,
            answer_due: None,
            connecting_since: None,
            quay: None,
            had_port: false,
            expected: expected.into_iter().collect(),
            welcomed: None,
            ports_in_use: 0,
            listen_failed: false,
            is_over_cap: false,
            has_no_port: false,
            outcome: None,
        });
    }

    /// A client's connection; it may have said a lot before the gateway accepts it.
    pub(crate) fn arrive(&mut self, life: usize) -> usize {
        let plan = &self.lives[life].script.client;
        let abort = plan.abort;
        let link = self.link(Connection::new(plan.queues), life, None);
        self.lives[life].client = Some(link);
        if let Some((after, reset)) = abort {
            self.at(self.now + after, Happening::Abort(link, reset));
        }
        link
    }

    pub(super) fn link(&mut self, tcp: Connection, life: usize, target: Option<usize>) -> usize {
        self.links.push(Link {
            tcp,
            life,
            target,
            local: None,
            token: None,
            short_at: None,
            acknowledged_at: 0,
            fault_known: false,
            reset_known: false,
            end_known: false,
            sent: 0,
            received: 0,
            saw: Saw::Nothing,
            finished: false,
            mute: false,
            urgent_sent: false,
            sent_reset: false,
        });
        self.links.len() - 1
    }

    pub(super) fn plan(&self, link: usize) -> &Plan {
        self.lives[self.links[link].life].plan(self.links[link].target)
    }

    /// A life may have moved something that nobody else sees.
    pub(crate) fn stir_life(&mut self, life: usize) {
        self.lives[life].stirred_at = self.now;
    }

    /// Now, as sessions see it.
    pub(crate) fn instant(&self) -> Instant {
        self.epoch + Duration::from_micros(self.now)
    }

    pub(crate) fn time_of(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.epoch).as_micros() as u64 + 1
    }
}

/// One connection with all around it: which life it is of, what its peer does.
pub(crate) struct Link {
    pub(crate) tcp: Connection,
    pub(crate) life: usize,
    /// Which of the life's targets; `None` is its client.
    pub(crate) target: Option<usize>,
    /// Our end's address, if it was made by the other.
    pub(crate) local: Option<SocketAddr>,
    pub(crate) token: Option<Token>,
    /// When a call last failed for want of memory: no edge will tell when there is some.
    pub(crate) short_at: Option<u64>,
    /// When the last of what the gateway sent arrived.
    pub(crate) acknowledged_at: u64,
    /// The gateway was told of an error.
    pub(crate) fault_known: bool,
    /// That error was a reset before the peer's FIN.
    pub(crate) reset_known: bool,
    /// The gateway has read the end.
    pub(crate) end_known: bool,
    pub(super) sent: usize,
    pub(super) received: usize,
    pub(super) saw: Saw,
    /// Its FIN stands behind all it sent.
    pub(super) finished: bool,
    /// A send failed: it only reads on.
    pub(super) mute: bool,
    pub(super) urgent_sent: bool,
    pub(crate) sent_reset: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Saw {
    Nothing,
    End,
    Reset,
}

/// Which of the calls that receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Receive,
    Peek,
    Splice,
    Discard,
}

/// The configured deadlines, in microseconds.
pub(crate) struct Limits {
    pub(crate) handshake: Option<u64>,
    pub(crate) resolve: Option<u64>,
    pub(crate) connect: Option<u64>,
    pub(crate) idle: Option<u64>,
    pub(crate) half_closed: Option<u64>,
    pub(crate) closing: Option<u64>,
    pub(crate) bind: Option<u64>,
}

impl Limits {
    /// What a session can take with silent peers, and a clock that jumps.
    pub(crate) fn longest(&self) -> u64 {
        let Limits { handshake, resolve, connect, idle, half_closed, bind, .. } = *self;
        let all = [handshake, resolve, connect, idle, half_closed, bind];
        all.into_iter().flatten().sum::<u64>() + 120_000_000
    }
}
