//! Measures ringsocks beside other proxies, in one run: `perf/run`, `perf/compare`.
//!
//! [`catalogue`] says what is measured, [`schedule`] in which order, [`measure`] does it once: a
//! [`contender`] is started afresh, pinned to one CPU, the [`load`] and the [`origin`] have another,
//! and a [`gauge`] reads what it spent. For datagrams a bare [`forwarder`] shows how little that can
//! be. [`journal`](mod@journal) keeps every measurement, [`results`] makes figures of them,
//! [`report`] writes them down. Of ringsocks alone [`logins`](mod@logins) asks what time tells of
//! passwords, [`gssapi`](mod@gssapi) what sessions under GSSAPI cost.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::catalogue::{Extent, Trial};
use crate::contender::{LOAD_CPU, Peer};
use crate::journal::{Conditions, Journal};
use crate::machine::{Asked, Machine};
use crate::measure::Bench;
use crate::origin::Origin;
use crate::record::{Outcome, Record};
use crate::schedule::End;
use crate::show::Show;

mod alarm;
mod catalogue;
mod contender;
mod datagrams;
mod forwarder;
mod gauge;
mod gssapi;
mod journal;
mod known;
mod limits;
mod load;
mod logins;
mod machine;
mod measure;
mod origin;
mod pace;
mod page;
mod pattern;
mod plot;
mod record;
mod report;
mod results;
mod running;
mod schedule;
mod show;
mod stamp;
mod table;

/// Where `--save` keeps what is committed.
const SAVED: &str = "perf/results";

#[derive(Parser)]
#[command(about = "Measures ringsocks beside other proxies, in one run")]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Measure ringsocks, Dante, microsocks, HAProxy and no proxy
    Run {
        /// A few works, within 3 minutes
        #[arg(long)]
        quick: bool,
        /// Another SOCKS server that is running, such as hev=127.0.0.1:1081,4242; may be repeated
        #[arg(long, value_name = "NAME=HOST:PORT,PID")]
        peer: Vec<Peer>,
        #[command(flatten)]
        options: Options,
    },
    /// Measure two builds of ringsocks
    Compare {
        /// The other build
        #[arg(long, value_name = "BINARY")]
        base: PathBuf,
        /// What to call it
        #[arg(long, value_name = "NAME", default_value = "the other build")]
        base_name: String,
        #[command(flatten)]
        options: Options,
    },
    /// Ask whether refused logins tell anything, and whether guesses keep others waiting
    Logins {
        /// Refused logins of each kind
        #[arg(long, default_value_t = 10_000)]
        samples: usize,
        /// For how many seconds somebody logs in beside another's guesses
        #[arg(long, default_value_t = 10.0)]
        seconds: f64,
        /// Guesses a second
        #[arg(long, default_value_t = 10_000.0)]
        guesses: f64,
        /// The build of ringsocks to measure; else the one beside this program
        #[arg(long, value_name = "BINARY")]
        ringsocks: Option<PathBuf>,
        /// Where to leave the results
        #[arg(long, value_name = "FOLDER", default_value = "target/perf/logins")]
        out: PathBuf,
    },
    /// Ask what sessions under GSSAPI cost, and whether they leave anything
    Gssapi {
        /// Seconds of each measurement of bulk and requests
        #[arg(long, default_value_t = 1.5)]
        seconds: f64,
        /// How often each is measured
        #[arg(long, default_value_t = 4)]
        rounds: usize,
        /// Whole sessions of each measurement
        #[arg(long, default_value_t = 1000)]
        sessions: usize,
        /// Idle sessions whose memory is measured
        #[arg(long, default_value_t = 2000)]
        held: usize,
        /// Sessions after which memory is to be what it was
        #[arg(long, default_value_t = 100_000)]
        many: usize,
        /// The build of ringsocks to measure; else the one beside this program
        #[arg(long, value_name = "BINARY")]
        ringsocks: Option<PathBuf>,
        /// Where to leave the results
        #[arg(long, value_name = "FOLDER", default_value = "target/perf/gssapi")]
        out: PathBuf,
    },
    /// Serve what clients connect to through the contenders
    #[command(hide = true)]
    Origin,
    /// Be the contender that does nothing with datagrams but pass them on
    #[command(hide = true)]
    Forwarder { address: SocketAddr },
}

#[derive(Args)]
struct Options {
    /// Go on with what was interrupted
    #[arg(long)]
    resume: bool,
    /// Keep the results in perf/results, too
    #[arg(long)]
    save: bool,
    /// Only works whose names start so, by comma, and what they need
    #[arg(long, value_name = "WORKS", value_delimiter = ',')]
    only: Vec<String>,
    /// Name the works and measure nothing
    #[arg(long)]
    list: bool,
    /// Seconds of each measurement
    #[arg(long)]
    seconds: Option<f64>,
    /// Seconds of load before it
    #[arg(long)]
    warm_up: Option<f64>,
    /// How often each is measured; an even number goes forth as often as back
    #[arg(long)]
    rounds: Option<usize>,
    /// End after so many minutes with what there is
    #[arg(long)]
    minutes: Option<f64>,
    /// The build of ringsocks to measure; else the one beside this program
    #[arg(long, value_name = "BINARY")]
    ringsocks: Option<PathBuf>,
    /// Where to leave the results
    #[arg(long, value_name = "FOLDER", default_value = "target/perf")]
    out: PathBuf,
}

/// What is to be done, options and defaults together.
struct Job {
    kind: &'static str,
    trials: Vec<Trial>,
    builds: Vec<(String, PathBuf)>,
    amount: Amount,
    options: Options,
}

/// How long a run may take, and what it is divided into.
struct Amount {
    seconds: f64,
    warm_up: f64,
    rounds: usize,
    minutes: Option<f64>,
}

const FULL: Amount = Amount { seconds: 0.8, warm_up: 0.3, rounds: 6, minutes: Some(39.0) };
const QUICK: Amount = Amount { seconds: 0.7, warm_up: 0.3, rounds: 2, minutes: Some(2.8) };
const COMPARE: Amount = Amount { seconds: 1.0, warm_up: 0.4, rounds: 12, minutes: None };

fn main() -> ExitCode {
    let job = match Cli::parse().command {
        Verb::Origin => return exit(origin::serve()),
        Verb::Forwarder { address } => return exit(forwarder::serve(address)),
        Verb::Logins { samples, seconds, guesses, ringsocks, out } => {
            return exit(logins(samples, seconds, guesses, ringsocks, &out));
        }
        Verb::Gssapi { seconds, rounds, sessions, held, many, ringsocks, out } => {
            let amount = positive("--seconds", seconds).map(|seconds| gssapi::Amount {
                seconds,
                rounds: rounds.max(1),
                sessions,
                held,
                many,
            });
            return exit(amount.and_then(|it| gssapi(&it, ringsocks, &out)));
        }
        Verb::Run { quick, peer, options } => run(quick, &peer, options),
        Verb::Compare { base, base_name, options } => compare(base, &base_name, options),
    };
    exit(job.and_then(carry_out))
}

fn exit(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(quick: bool, peers: &[Peer], options: Options) -> io::Result<Job> {
    let binary = ringsocks_or_ours(options.ringsocks.as_deref())?;
    let (extent, defaults) = if quick { (Extent::Quick, QUICK) } else { (Extent::Full, FULL) };
    let trials = catalogue::trials(extent, &binary, peers);
    job("perf/run", trials, vec![("ringsocks".to_owned(), binary)], defaults, options)
}

fn logins(
    samples: usize,
    seconds: f64,
    guesses: f64,
    ringsocks: Option<PathBuf>,
    out: &Path,
) -> io::Result<()> {
    let binary = ringsocks_or_ours(ringsocks.as_deref())?;
    let time = Duration::from_secs_f64(positive("--seconds", seconds)?);
    let amount = logins::Amount { samples, time, guesses: positive("--guesses", guesses)? };
    let command = "perf/logins".to_owned();
    let machine = Machine::this(Asked { command, seconds, warm_up: 0.0, rounds: 1 });
    prepare()?;
    logins::measure(&binary, &machine, &amount, out)
}

fn gssapi(amount: &gssapi::Amount, ringsocks: Option<PathBuf>, out: &Path) -> io::Result<()> {
    let binary = ringsocks_or_ours(ringsocks.as_deref())?;
    let gssapi::Amount { seconds, rounds, .. } = *amount;
    let command = "perf/gssapi".to_owned();
    let machine = Machine::this(Asked { command, seconds, warm_up: 0.0, rounds });
    prepare()?;
    gssapi::measure(&binary, &machine, amount, out)
}

fn compare(base: PathBuf, name: &str, options: Options) -> io::Result<Job> {
    let binary = ringsocks_or_ours(options.ringsocks.as_deref())?;
    let trials = catalogue::comparison(&binary, (name, &base));
    let builds = vec![("this build".to_owned(), binary), (name.to_owned(), base)];
    job("perf/compare", trials, builds, COMPARE, options)
}

fn job(
    kind: &'static str,
    trials: Vec<Trial>,
    builds: Vec<(String, PathBuf)>,
    defaults: Amount,
    options: Options,
) -> io::Result<Job> {
    let trials = catalogue::only(trials, &options.only).map_err(io::Error::other)?;
    let amount = Amount {
        seconds: positive("--seconds", options.seconds.unwrap_or(defaults.seconds))?,
        warm_up: positive("--warm-up", options.warm_up.unwrap_or(defaults.warm_up))?,
        rounds: options.rounds.unwrap_or(defaults.rounds).max(1),
        minutes: options.minutes.or(defaults.minutes),
    };
    amount.minutes.map(|it| positive("--minutes", it)).transpose()?;
    Ok(Job { kind, trials, builds, amount, options })
}

fn positive(name: &str, value: f64) -> io::Result<f64> {
    match value > 0.0 && value < 1e6 {
        true => Ok(value),
        false => Err(io::Error::other(format!("{name} {value}: more than 0 is needed"))),
    }
}

fn ringsocks_or_ours(wanted: Option<&Path>) -> io::Result<PathBuf> {
    let binary = match wanted {
        Some(binary) => binary.to_owned(),
        None => std::env::current_exe()?.with_file_name("ringsocks"),
    };
    let missing = |error| io::Error::other(format!("{}: {error}", binary.display()));
    fs::canonicalize(&binary).map_err(missing)
}

fn carry_out(job: Job) -> io::Result<()> {
    if job.options.list {
        job.trials.iter().for_each(|it| println!("{:24} {}", it.work.id, it.work.title));
        return Ok(());
    }
    let mut machine = Machine::this(asked(&job));
    let mut journal = journal(&job)?;
    prepare()?;
    let origin = Origin::start(LOAD_CPU)?;
    let bench = bench(&job, &origin)?;
    let steps = schedule::steps(&job.trials, job.amount.rounds);
    let limit = job.amount.minutes.map(|it| Duration::from_secs_f64(it * 60.0));
    let mut show = Show::new(&job.trials, &steps);
    let ended =
        schedule::carry_out(&steps, &mut journal, &bench, limit, |step, progress, records| {
            show.step(step, progress, records);
        });
    show.end(journal.records());
    let ended = ended?;
    if let End::OutOfTime(left) = ended {
        let all = steps.len();
        machine.incomplete = Some(format!("{left} of {all} measurements, time was up"));
        eprintln!("time was up: {left} of {all} measurements are missing; --resume makes them");
    }
    leave(&job, &machine, &journal)?;
    complain(&job, journal.records())
}

/// A peer may fail; if we do, the run is no success.
fn complain(job: &Job, records: &[Record]) -> io::Result<()> {
    let is_ours = |name: &str| job.builds.iter().any(|(build, _)| name.starts_with(build));
    let failed = |it: &&Record| matches!(it.outcome, Outcome::Failed { .. });
    match records.iter().filter(|it| is_ours(&it.contender)).filter(failed).count() {
        0 => Ok(()),
        count => Err(io::Error::other(format!("{count} measurements of ours failed: see above"))),
    }
}

fn leave(job: &Job, machine: &Machine, journal: &Journal) -> io::Result<()> {
    let sections = results::sections(&job.trials, journal.records());
    let mut folders = vec![job.options.out.as_path()];
    if job.options.save {
        folders.push(Path::new(SAVED));
    }
    for folder in folders {
        report::write(folder, machine, &sections)?;
        println!("\n{}/latest.html, .md and .json are written", folder.display());
    }
    Ok(())
}

fn journal(job: &Job) -> io::Result<Journal> {
    let fingerprint = |(name, binary): &(String, PathBuf)| {
        machine::fingerprint(binary)
            .map(|it| (name.clone(), it))
            .map_err(|it| io::Error::other(format!("{}: {it}", binary.display())))
    };
    let conditions = Conditions {
        kind: job.kind.to_owned(),
        seconds: job.amount.seconds,
        warm_up: job.amount.warm_up,
        settings: machine::settings(),
        builds: job.builds.iter().map(fingerprint).collect::<io::Result<_>>()?,
    };
    fs::create_dir_all(&job.options.out)?;
    let path = job.options.out.join("journal.jsonl");
    match job.options.resume {
        true => Journal::resume(&path, &conditions),
        false => Journal::begin(&path, &conditions),
    }
}

fn bench(job: &Job, origin: &Origin) -> io::Result<Bench> {
    let folder = fs::canonicalize(&job.options.out)?.join("contender");
    fs::create_dir_all(&folder)?;
    Ok(Bench {
        origin: origin.ports(),
        origin_pid: origin.pid(),
        folder,
        duration: Duration::from_secs_f64(job.amount.seconds),
        warm_up: Duration::from_secs_f64(job.amount.warm_up),
    })
}

/// The load is kept off the contenders' CPU, and may hold as many sessions as they.
fn prepare() -> io::Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(LOAD_CPU);
    sched_setaffinity(None, &cpus)?;
    limits::raise_open_files()?;
    running::end_contenders_on_signals()
}

fn asked(job: &Job) -> Asked {
    // The scripts say what they were called with: what they pass on is more.
    let called = std::env::var("PERF_COMMAND");
    let command = called.unwrap_or_else(|_| {
        let arguments: Vec<String> = std::env::args().skip(2).collect();
        format!("{} {}", job.kind, arguments.join(" "))
    });
    Asked {
        command: command.trim().to_owned(),
        seconds: job.amount.seconds,
        warm_up: job.amount.warm_up,
        rounds: job.amount.rounds,
    }
}
