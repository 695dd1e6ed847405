//! The generator: connections that do one kind of work through a proxy, as many as are asked for,
//! in one event loop of the server's own shape.
//!
//! [`run`] measures a load, [`hold`] keeps sessions open. Each connection is a lane's, which gets
//! another one when that has ended or failed. Nothing is allocated or formatted for a message.
//! Datagrams have loops of their own, one for those that are echoed and one for those that are not.

mod association;
mod connection;
mod context;
mod driver;
mod echoes;
mod exchange;
mod flood;
mod handshake;
mod route;
mod tally;
#[cfg(test)]
mod tests;
mod work;

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use self::association::Control;
use self::context::Context;
use self::driver::{Driver, Job};
use self::echoes::{Echoes, Shape};
use self::flood::Flood;
use self::route::Route;
use self::tally::Tally;
pub use self::tally::{Latency, Measured};
use crate::limits;
use crate::origin::Ports;
use crate::pattern::PIECE;

/// How long it may take until everybody is connected.
const OPENING_PATIENCE: Duration = Duration::from_secs(60);
/// How long what is under way at the end is waited for.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

/// A user's name and password.
pub type Login = (String, String);

/// The way to the origin.
#[derive(Clone, Debug)]
pub enum Way {
    /// Straight to it.
    Direct,
    /// Through a forwarder at this address, which listens on the origin's own ports if this has
    /// none.
    Forward(SocketAddr),
    /// Through a SOCKS5 proxy.
    Socks5 {
        /// Where it listens.
        proxy: SocketAddr,
        /// Who we say we are, if it must know.
        login: Option<Login>,
        /// How the origin is asked for.
        target: Target,
    },
}

/// How the origin is asked for.
#[derive(Clone, Debug)]
pub enum Target {
    /// By its address.
    Address,
    /// By this name, of which the proxy must know that it means 127.0.0.1.
    Name(String),
}

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Load {
    /// Through whom.
    pub way: Way,
    /// Whom.
    pub origin: Ports,
    /// What is done.
    pub kind: Kind,
    /// For how long it is measured.
    pub duration: Duration,
    /// For how long before, once everybody is connected.
    pub warm_up: Duration,
}

/// A kind of work.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Bytes from the origin, as fast as they come.
    Down {
        /// On so many connections.
        flows: usize,
    },
    /// Bytes to the origin, as fast as they are taken.
    Up {
        /// On so many connections.
        flows: usize,
    },
    /// Whole sessions, one after the other: connect, handshake, one byte each way, close.
    Sessions {
        /// So many at a time.
        concurrent: usize,
    },
    /// Requests that are echoed.
    Requests {
        /// So many bytes each way.
        size: usize,
        /// On so many connections, on each one after the other.
        connections: usize,
        /// So many a second on all of them together, each with an intended time from which its
        /// latency counts; if none, the next one as soon as the last one is answered.
        rate: Option<f64>,
        /// Beside one connection that receives so many bytes a second; `u64::MAX` is all it can.
        beside: Option<u64>,
    },
    /// Datagrams that are echoed.
    Echoes {
        /// So many bytes each way.
        size: usize,
        /// On so many associations.
        associations: usize,
        /// So many under way on each.
        window: usize,
        /// So many of them sent as one run.
        run: usize,
    },
    /// Datagrams that are not answered.
    Flood {
        /// To the client, not from it.
        is_down: bool,
        /// So many bytes each.
        size: usize,
        /// So many a second.
        rate: f64,
    },
}

/// What is done with sessions that are held.
#[derive(Clone, Copy, Debug)]
pub enum Held {
    /// Nothing, after a byte each way.
    Idle,
    /// The origin sends without end, and nobody reads.
    Stalled,
    /// They are associations, on which nothing goes any more after a datagram each way.
    Associated,
    /// They wait for somebody to connect.
    Waiting,
}

/// What makes a kind of load.
trait Generator {
    /// Opens the way, and waits until it has proved to be one.
    fn open(&mut self, deadline: Instant) -> io::Result<()>;
    fn go_on_until(&mut self, end: Instant) -> io::Result<()>;
    /// Forgets what has been counted.
    fn count_from_now(&mut self);
    /// Begins nothing new and waits until what is under way is over, or lost; how much of what was
    /// counted turns out to be.
    fn drain(&mut self, deadline: Instant) -> io::Result<u64>;
    fn tally(&mut self) -> &mut Tally;
}

/// Measures a load. Connecting and the warm-up are over when `at_start` is called, and nothing is
/// counted after `at_end` is.
pub fn run(load: &Load, at_start: impl FnOnce(), at_end: impl FnOnce()) -> io::Result<Measured> {
    match load.kind {
        Kind::Echoes { size, associations, window, run } => {
            let ports = load.origin.datagrams;
            let port = if run == 1 { ports.echo } else { ports.runs };
            let target = SocketAddrV4::new(load.origin.address, port);
            let shape = Shape { size, associations, window, run };
            measure(load, Echoes::new(&load.way, target, shape)?, at_start, at_end)
        }
        Kind::Flood { is_down, size, rate } => {
            measure(load, Flood::new(&load.way, is_down, size, rate)?, at_start, at_end)
        }
        _ => measure(load, Driver::new(job(load)?)?, at_start, at_end),
    }
}

fn measure(
    load: &Load,
    mut generator: impl Generator,
    at_start: impl FnOnce(),
    at_end: impl FnOnce(),
) -> io::Result<Measured> {
    generator.open(Instant::now() + OPENING_PATIENCE)?;
    generator.go_on_until(Instant::now() + load.warm_up)?;
    at_start();
    generator.count_from_now();
    let start = Instant::now();
    generator.go_on_until(start + load.duration)?;
    let elapsed = start.elapsed();
    at_end();
    let Tally { units, lost, beside_bytes, .. } = *generator.tally();
    let lost = lost + generator.drain(Instant::now() + DRAIN_PATIENCE)?;
    let tally = generator.tally();
    if let Some(reason) = tally.first_error() {
        eprintln!("{} errors, the first one: {reason}", tally.errors);
    }
    Ok(Measured {
        units: units - lost,
        lost,
        elapsed_seconds: elapsed.as_secs_f64(),
        latency: tally.latency(),
        errors: tally.errors,
        beside_bytes,
    })
}

/// Opens so many sessions, keeps them while `during` runs, and resets them.
pub fn hold<T>(
    way: &Way,
    ports: Ports,
    sessions: usize,
    held: Held,
    during: impl FnOnce() -> T,
) -> io::Result<T> {
    let deadline = Instant::now() + OPENING_PATIENCE;
    let (job, port) = match held {
        Held::Idle => (Job::Idle, ports.echo),
        Held::Stalled => (Job::Stalled, ports.source),
        Held::Associated => {
            let target = SocketAddrV4::new(ports.address, ports.datagrams.echo);
            let shape = Shape { size: 64, associations: sessions, window: 1, run: 1 };
            let mut echoes = Echoes::new(way, target, shape)?;
            echoes.open(deadline)?;
            echoes.drain(deadline)?;
            return Ok(during());
        }
        Held::Waiting => {
            let target = SocketAddrV4::new(ports.address, ports.echo);
            limits::raise_open_files()?;
            let waiting = (0..sessions).map(|_| Control::bind(way, target));
            let _waiting = waiting.collect::<io::Result<Vec<Control>>>()?;
            return Ok(during());
        }
    };
    let route = Route::new(way, ports.address, port)?;
    let mut driver = Driver::new((vec![job; sessions], Context::new(route)))?;
    driver.open(deadline)?;
    let result = during();
    driver.reset_all();
    Ok(result)
}

/// What each lane does, and what all of them know.
fn job(load: &Load) -> io::Result<(Vec<Job>, Context)> {
    let Load { way, origin, .. } = load;
    let route = |port| Route::new(way, origin.address, port);
    let lanes = |job, count| vec![job; count];
    Ok(match load.kind {
        Kind::Down { flows } => {
            (lanes(Job::Down { pace: u64::MAX }, flows), Context::new(route(origin.source)?))
        }
        Kind::Up { flows } => (lanes(Job::Up, flows), Context::new(route(origin.sink)?)),
        Kind::Sessions { concurrent } => {
            (lanes(Job::Session, concurrent), Context::new(route(origin.echo)?))
        }
        Kind::Requests { size, connections, rate, beside } => {
            refuse_unless((1..=PIECE).contains(&size), "a request's size")?;
            refuse_unless(rate.is_none_or(|rate| rate > 0.0), "requests a second")?;
            let mut jobs = lanes(Job::Requests, connections);
            let mut context =
                Context::new(route(origin.echo)?).with_requests(size, connections, rate);
            if let Some(pace) = beside {
                jobs.push(Job::Beside { pace });
                context = context.with_route_beside(route(origin.source)?);
            }
            (jobs, context)
        }
        Kind::Echoes { .. } | Kind::Flood { .. } => unreachable!("datagrams have no lanes"),
    })
}

fn refuse_unless(right: bool, what: &str) -> io::Result<()> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("{what} is out of range"));
    right.then_some(()).ok_or_else(wrong)
}
