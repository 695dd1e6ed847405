//! What logins tell, and what they cost others: `perf/logins`.
//!
//! An [`oracle`] asks whether an answer's time tells who exists, a [`guesser`] whether somebody who
//! guesses keeps others waiting. Both are clients of ringsocks alone, which has a CPU of its own.

mod client;
mod guesser;
mod oracle;
mod welch;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::contender::{ARGON2_HASH, Contender, Entrance, Manner, PASSWORD};
use crate::machine::Machine;
use crate::origin::Ports;
use crate::running::Running;

/// The same password at the least cost that each scheme has: more samples in the same time.
const CHEAP_ARGON2: &str =
    "$argon2id$v=19$m=8,t=1,p=1$cmluZ3NvY2tzLXBlcmYtMQ$gSdKAdPhKuXyUVOtxoaH2Ni3u8oBFUs9ATZ6N6d/s/w";
const CHEAP_BCRYPT: &str = "$2b$04$abcdefghijklmnopqrstuuRe10/wdZzgqNDPy/GtovWNHR1b.Z5h2";

/// How many logins there can be that no cache knows.
const USERS: usize = 4096;

/// How much of it is wanted.
pub struct Amount {
    /// Logins of each kind whose times are compared.
    pub samples: usize,
    /// For how long somebody logs in while another guesses, and while nobody does.
    pub time: Duration,
    /// How often the other guesses, a second.
    pub guesses: f64,
}

/// Measures, prints what comes of it, and leaves it in `folder`.
pub fn measure(binary: &Path, machine: &Machine, amount: &Amount, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let folder = fs::canonicalize(folder)?;
    let mut text = String::new();
    let mut say = |line: String| {
        println!("{line}");
        // Writing to a string does not fail.
        let _written = writeln!(text, "{line}");
    };
    machine.lines().into_iter().take(5).for_each(|(name, it)| say(format!("# {name}: {it}")));
    say(oracle::heading(amount.samples));
    for (scheme, secret) in
        [("plain", plain()), ("bcrypt", CHEAP_BCRYPT.into()), ("argon2id", CHEAP_ARGON2.into())]
    {
        let server = Server::start(binary, &folder, &secret)?;
        let times = oracle::ask(server.address, amount.samples)?;
        oracle::lines(scheme, &times).into_iter().for_each(&mut say);
    }
    say(guesser::heading(amount));
    for (what, is_known) in [("known logins", true), ("new logins", false)] {
        for rate in [0.0, amount.guesses] {
            let server = Server::start(binary, &folder, ARGON2_HASH)?;
            let found = guesser::log_in_beside(server.address, is_known, rate, amount.time)?;
            say(found.line(what, rate));
        }
    }
    fs::write(folder.join("logins.txt"), text)
}

fn plain() -> String {
    format!("plain:{PASSWORD}")
}

/// Ringsocks with users whose password is [`PASSWORD`], kept in this form.
struct Server {
    address: SocketAddr,
    _running: Running,
}

impl Server {
    fn start(binary: &Path, folder: &Path, secret: &str) -> io::Result<Server> {
        let file = users_file(folder, secret)?;
        let settings = [
            ("RINGSOCKS_USERS_FILE", file.to_str().ok_or(io::ErrorKind::InvalidFilename)?),
            // What is logged is a part of what is done.
            ("RINGSOCKS_LOG", "warn"),
            // Two failures lock nobody, and who is locked stays so however slow the machine is.
            ("RINGSOCKS_PENALTY_FAILURE", "30s"),
            ("RINGSOCKS_PENALTY_THRESHOLD", "75s"),
        ];
        let contender = Contender::ringsocks_with("ringsocks", binary, &settings);
        let running = Running::start(&contender, Manner::default(), nobody(), folder)?;
        let Entrance::Socks(address) = running.entrance else {
            return Err(io::Error::other("ringsocks is reached by SOCKS"));
        };
        Ok(Server { address, _running: running })
    }
}

/// The name of one of the users.
fn user(number: usize) -> String {
    format!("user{number:04}")
}

fn users_file(folder: &Path, secret: &str) -> io::Result<PathBuf> {
    let path = folder.join("users");
    let lines: String = (0..USERS).map(|number| format!("{}:{secret}\n", user(number))).collect();
    fs::write(&path, lines)?;
    Ok(path)
}

/// Whoever logs in wants no more than that.
fn nobody() -> Ports {
    Ports {
        address: Ipv4Addr::LOCALHOST,
        source: 0,
        sink: 0,
        echo: 0,
        datagrams: Default::default(),
    }
}
