use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::io::Errno;
use rustix::process::nice;

use super::client::{self, log_in};
use super::{Amount, USERS, user, welch};
use crate::contender::PASSWORD;

const VICTIM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const GUESSER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// How often the victim logs in: so slowly that it does not wait for itself.
const VICTIM_EVERY: Duration = Duration::from_millis(10);
/// So many guesses are under way at a time.
const LANES: usize = 1024;
/// When the guesser gives up one that is not answered.
const GUESS_PATIENCE: Duration = Duration::from_millis(500);
/// The guesser's events are looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// The guesser shares the load's CPU with the victim, and is to take nothing from it.
const NICE: i32 = 19;

/// What somebody found who logged in beside a guesser.
pub(super) struct Found {
    logins: Vec<f64>,
    guesses: Guesses,
    elapsed: Duration,
}

/// What became of guesses.
#[derive(Clone, Copy, Debug, Default)]
struct Guesses {
    made: u64,
    refused: u64,
    closed: u64,
    given_up: u64,
}

pub(super) fn heading(amount: &Amount) -> String {
    format!(
        "\n# logins of {VICTIM}, argon2id users, with nobody else and beside {} guesses a second of \
         {GUESSER}: microseconds from login to answer; guesses a second that were made, refused, \
         closed without an answer, given up after {GUESS_PATIENCE:?}",
        amount.guesses
    )
}

impl Found {
    pub(super) fn line(&self, what: &str, rate: f64) -> String {
        let [p50, p99, max] =
            [0.5, 0.99, 1.0].map(|share| welch::quantile(self.logins.iter().copied(), share));
        let Guesses { made, refused, closed, given_up } = self.guesses;
        let [made, refused, closed, given_up] =
            [made, refused, closed, given_up].map(|it| it as f64 / self.elapsed.as_secs_f64());
        format!(
            "{what:13} beside {rate:6.0}  {:5} logins  p50 {p50:9.1}  p99 {p99:9.1}  \
             max {max:9.1}  guesses {made:.0} {refused:.0} {closed:.0} {given_up:.0}",
            self.logins.len()
        )
    }
}

/// Logs in for a while, beside so many guesses a second of another. Known logins are those of one
/// user, again and again; each of the others is its first.
pub(super) fn log_in_beside(
    proxy: SocketAddr,
    is_known: bool,
    rate: f64,
    time: Duration,
) -> io::Result<Found> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let guesser = scope.spawn(|| guess(proxy, rate, &is_over));
        let start = Instant::now();
        let logins = log_in_for(proxy, is_known, time);
        let elapsed = start.elapsed();
        is_over.store(true, Ordering::Relaxed);
        let guesses =
            guesser.join().unwrap_or_else(|_| Err(io::Error::other("the guesser has panicked")));
        Ok(Found { logins: logins?, guesses: guesses?, elapsed })
    })
}

fn log_in_for(proxy: SocketAddr, is_known: bool, time: Duration) -> io::Result<Vec<f64>> {
    // The first one is known from then on.
    log_in(proxy, VICTIM, &client::login(&user(0), PASSWORD))?;
    let mut took = Vec::new();
    let start = Instant::now();
    while start.elapsed() < time && (is_known || took.len() + 1 < USERS) {
        let number = if is_known { 0 } else { took.len() + 1 };
        let answer = log_in(proxy, VICTIM, &client::login(&user(number), PASSWORD))?;
        if !answer.is_good {
            return Err(io::Error::other("who has the right password is not let in"));
        }
        took.push(answer.took.as_nanos() as f64 / 1e3);
        thread::sleep(VICTIM_EVERY);
    }
    Ok(took)
}

/// A guess that is under way.
struct Guess {
    stream: TcpStream,
    since: Instant,
}

fn guess(proxy: SocketAddr, rate: f64, is_over: &AtomicBool) -> io::Result<Guesses> {
    let mut guesses = Guesses::default();
    if rate == 0.0 {
        return Ok(guesses);
    }
    nice(NICE)?;
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(LANES));
    let mut lanes: Vec<Option<Guess>> = (0..LANES).map(|_| None).collect();
    let start = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        let due = (start.elapsed().as_secs_f64() * rate) as u64;
        for (token, lane) in lanes.iter_mut().enumerate().filter(|(_, lane)| lane.is_none()) {
            if guesses.made >= due {
                break;
            }
            guesses.made += 1;
            match begin(proxy, guesses.made, poll.registry(), Token(token)) {
                Ok(guess) => *lane = Some(guess),
                Err(_) => guesses.closed += 1,
            }
        }
        poll.poll(&mut events, Some(LOOK_EVERY))?;
        for event in &events {
            let lane = &mut lanes[event.token().0];
            if let Some(guess) = lane
                && guess.is_answered(&mut guesses)
            {
                *lane = None;
            }
        }
        for lane in &mut lanes {
            if lane.as_ref().is_some_and(|guess| guess.since.elapsed() > GUESS_PATIENCE) {
                guesses.given_up += 1;
                *lane = None;
            }
        }
    }
    Ok(guesses)
}

/// Another password each time, for a user that there is.
fn begin(
    proxy: SocketAddr,
    number: u64,
    registry: &mio::Registry,
    token: Token,
) -> io::Result<Guess> {
    let socket = client::socket(GUESSER)?;
    socket.set_nonblocking(true)?;
    // On loopback it is there at once, or there is no room for it: then it cannot be written to.
    if let Err(error) = socket.connect(&proxy.into())
        && error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error())
    {
        return Err(error);
    }
    let mut stream = TcpStream::from_std(socket.into());
    stream.write_all(&client::impatient_login(&user(0), &format!("guess{number}")))?;
    registry.register(&mut stream, token, Interest::READABLE)?;
    Ok(Guess { stream, since: Instant::now() })
}

impl Guess {
    /// Counts its answer, method and status, or its end, once one of both is there.
    fn is_answered(&mut self, guesses: &mut Guesses) -> bool {
        const ANSWER: usize = 4;
        let mut answer = [0; ANSWER];
        match self.stream.peek(&mut answer) {
            Ok(ANSWER) => {
                guesses.refused += u64::from(answer[3] != 0);
                // Read, so that nothing is left that would tell of it again.
                let _read = self.stream.read(&mut answer);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Ok(1..) => false,
            Ok(_) | Err(_) => {
                guesses.closed += 1;
                true
            }
        }
    }
}
