//! What sessions under GSSAPI cost: `perf/gssapi`.
//!
//! A realm of Kerberos on loopback, and [`client`]s of MIT's library in processes of Debian's
//! python3-gssapi. They are slower than the server, as its own library is: what counts is the
//! server's processor time, beside that of plain sessions of the same clients. No other server of
//! Debian's has GSSAPI: Dante is built without.

mod client;
mod figures;
#[allow(dead_code)] // the tests' realm can do more than is needed here
#[path = "../../../tests/support/realm.rs"]
mod realm;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use self::client::{Clients, Done};
use self::figures::{Flatness, Held, Round};
use self::realm::{Realm, Tickets};
use crate::contender::{Contender, Entrance, LOAD_CPU, Manner};
use crate::gauge::Group;
use crate::machine::Machine;
use crate::origin::{Origin, Ports};
use crate::running::{self, Running};

/// How many clients there are where more than one does more.
const CLIENTS: usize = 4;
const REQUEST_BYTES: usize = 64;
/// How long it takes until what is under way has gone through.
const SETTLE: Duration = Duration::from_millis(100);
/// How long the KDC may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);
/// A measurement is preceded by this share of itself.
const WARM_UP: f64 = 0.25;

/// How much of it is wanted.
pub struct Amount {
    /// Of each measurement of bulk and requests.
    pub seconds: f64,
    pub rounds: usize,
    /// Whole sessions of each measurement.
    pub sessions: usize,
    /// Sessions that are held.
    pub held: usize,
    /// Sessions after which memory is to be what it was.
    pub many: usize,
}

/// How messages are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// Not: there is no context either.
    Plain = 0,
    Integrity = 1,
    Confidentiality = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Down,
    Up,
    Requests,
    Sessions,
}

const LEVELS: [Level; 3] = [Level::Plain, Level::Integrity, Level::Confidentiality];
const WORKS: [Work; 4] = [Work::Down, Work::Up, Work::Requests, Work::Sessions];

/// Measures, prints what comes of it, and leaves it in `folder`.
pub fn measure(binary: &Path, machine: &Machine, amount: &Amount, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let folder = fs::canonicalize(folder)?;
    let realm = Realm::start();
    running::end_with_us(Group::Tree(realm.pid()));
    let origin = Origin::start(LOAD_CPU)?;
    let tickets = realm.tickets("alice");
    let scratch = realm.path("contender");
    fs::create_dir(&scratch)?;
    let world = World { binary, realm: &realm, tickets, ports: origin.ports(), folder: scratch };
    let mut text = String::new();
    let mut say = |line: String| {
        println!("{line}");
        // Writing to a string does not fail.
        let _written = writeln!(text, "{line}");
    };
    machine.lines().into_iter().take(5).for_each(|(name, it)| say(format!("# {name}: {it}")));
    say(figures::heading());
    for work in WORKS {
        let rounds = world.rounds(work, amount)?;
        for (level, of_level) in LEVELS.into_iter().zip(&rounds) {
            say(figures::line(work, level, of_level, &rounds[0]));
        }
    }
    say(Held::heading());
    for level in LEVELS {
        say(world.hold(level, amount.held)?.line(level));
    }
    let flatness = world.come_and_go(amount.many)?;
    say(format!("\n# {}", flatness.line()));
    fs::write(folder.join("gssapi.txt"), text)?;
    match flatness.is_flat() {
        true => Ok(()),
        false => Err(io::Error::other("sessions under GSSAPI leave something")),
    }
}

struct World<'a> {
    binary: &'a Path,
    realm: &'a Realm,
    tickets: Tickets,
    ports: Ports,
    /// For the server's files.
    folder: PathBuf,
}

/// A server and its clients.
struct Stage {
    clients: Clients,
    running: Running,
}

impl World<'_> {
    /// For each of [`LEVELS`] its rounds, which go forth and back.
    fn rounds(&self, work: Work, amount: &Amount) -> io::Result<[Vec<Round>; 3]> {
        let mut rounds: [Vec<Round>; 3] = Default::default();
        for number in 0..amount.rounds {
            for turn in 0..LEVELS.len() {
                let place = if number % 2 == 0 { turn } else { LEVELS.len() - 1 - turn };
                let found = self.round(work, LEVELS[place], amount).map_err(|error| {
                    io::Error::other(format!("{}, {}: {error}", work.name(), LEVELS[place].name()))
                })?;
                rounds[place].push(found);
            }
        }
        Ok(rounds)
    }

    fn round(&self, work: Work, level: Level, amount: &Amount) -> io::Result<Round> {
        let Ports { source, sink, echo, .. } = self.ports;
        let Amount { seconds, sessions, .. } = *amount;
        let is_one_flow = matches!(work, Work::Down | Work::Up);
        let mut stage = self.stage(level, if is_one_flow { 1 } else { CLIENTS })?;
        match work {
            Work::Down => drop(stage.clients.flow(level, source)?),
            Work::Up => drop(stage.clients.flow(level, sink)?),
            Work::Requests => drop(stage.clients.flow(level, echo)?),
            Work::Sessions => {}
        }
        let go = |clients: &mut Clients, share: f64| match work {
            Work::Down => clients.down(seconds * share),
            Work::Up => clients.up(seconds * share),
            Work::Requests => clients.requests(REQUEST_BYTES, seconds * share),
            Work::Sessions => {
                clients.sessions(level, echo, (sessions as f64 * share).ceil() as usize)
            }
        };
        go(&mut stage.clients, WARM_UP)?;
        let before = stage.processor_seconds()?;
        let Done { units, seconds } = go(&mut stage.clients, 1.0)?;
        let processor_seconds = stage.processor_seconds()? - before;
        if work != Work::Sessions {
            stage.clients.end()?;
        }
        Ok(Round { units, seconds, processor_seconds })
    }

    /// Sessions that stay.
    fn hold(&self, level: Level, count: usize) -> io::Result<Held> {
        let mut stage = self.stage(level, CLIENTS)?;
        // What is kept for later is there from the first ones on.
        stage.clients.sessions(level, self.ports.echo, count)?;
        let before = stage.memory()?;
        let sessions = stage.clients.hold(level, self.ports.echo, count)?.units;
        let during = stage.memory()?;
        stage.clients.release()?;
        stage.clients.hold(level, self.ports.echo, count)?;
        let again = stage.memory()?;
        Ok(Held { sessions, before, during, again })
    }

    /// Sessions that come and go, after a tenth as many.
    fn come_and_go(&self, count: usize) -> io::Result<Flatness> {
        let levels = [Level::Integrity, Level::Confidentiality];
        let mut stage = self.stage(Level::Integrity, CLIENTS)?;
        let run = |stage: &mut Stage, count: usize| {
            levels.into_iter().try_fold(0, |units, level| {
                let done = stage.clients.sessions(level, self.ports.echo, count / levels.len())?;
                Ok::<_, io::Error>(units + done.units)
            })
        };
        run(&mut stage, count / 10)?;
        let earlier = stage.processor_seconds()?;
        let before = stage.memory()?;
        let sessions = run(&mut stage, count)?;
        let processor_seconds = stage.processor_seconds()? - earlier;
        let after = stage.memory()?;
        Ok(Flatness { sessions, before, after, processor_seconds })
    }

    fn stage(&self, level: Level, clients: usize) -> io::Result<Stage> {
        let keytab = self.realm.keytab().to_string_lossy().into_owned();
        let mut settings = Vec::new();
        if level != Level::Plain {
            settings = self.realm.env();
            settings.push(("RINGSOCKS_GSSAPI_KEYTAB", keytab));
        }
        let settings: Vec<(&str, &str)> =
            settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let contender = Contender::ringsocks_with("ringsocks", self.binary, &settings);
        let running = Running::start(&contender, Manner::default(), self.ports, &self.folder)?;
        let Entrance::Socks(proxy) = running.entrance else {
            return Err(io::Error::other("ringsocks is reached by SOCKS"));
        };
        let clients = Clients::start(clients, proxy, self.realm, &self.tickets)?;
        Ok(Stage { clients, running })
    }
}

impl Stage {
    /// Once nothing is under way.
    fn processor_seconds(&self) -> io::Result<f64> {
        thread::sleep(SETTLE);
        Ok(self.group()?.processor_time()?.as_secs_f64())
    }

    /// Once nothing is under way.
    fn memory(&self) -> io::Result<u64> {
        thread::sleep(SETTLE);
        self.group()?.user_memory()
    }

    fn group(&self) -> io::Result<&Group> {
        self.running.group.as_ref().ok_or_else(|| io::Error::other("ringsocks is a process"))
    }
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Plain => "plain",
            Level::Integrity => "integrity",
            Level::Confidentiality => "confidentiality",
        }
    }
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Work::Down => "bulk down, 1 flow",
            Work::Up => "bulk up, 1 flow",
            Work::Requests => "64 B requests",
            Work::Sessions => "whole sessions",
        }
    }
}

/// For the realm.
#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
