//! Measures ringsocks against other SOCKS servers, in one run.

mod alarm;
mod limits;
mod load;
mod origin;
mod pace;
mod pattern;

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::load::{Held, Kind, Load, Target, Way};
use crate::origin::Origin;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant)]
enum Command {
    #[command(hide = true)]
    Origin,
    Try {
        kind: String,
        #[arg(long)]
        proxy: Option<SocketAddr>,
        #[arg(long)]
        forward: Option<SocketAddr>,
        #[arg(long)]
        name: Option<String>,
        #[arg(long)]
        user: Option<String>,
        #[arg(long, default_value = "64")]
        count: usize,
        #[arg(long, default_value = "64")]
        size: usize,
        #[arg(long)]
        rate: Option<f64>,
        #[arg(long)]
        pace: Option<u64>,
        #[arg(long)]
        pid: Option<u32>,
        #[arg(long, default_value = "3")]
        seconds: f64,
        #[arg(long, default_value = "0")]
        cpu: usize,
    },
}

fn cpu_seconds(pid: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nanoseconds = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap();
        stat.split_whitespace().next().unwrap().parse::<f64>().unwrap()
    };
    tasks.map(|task| nanoseconds(task.unwrap())).sum::<f64>() / 1e9
}

fn child() -> u32 {
    let children = format!("/proc/self/task/{}/children", std::process::id());
    std::fs::read_to_string(children).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

fn main() -> Result<(), Box<dyn Error>> {
    match Arguments::parse().command {
        Command::Origin => Ok(origin::serve()?),
        Command::Try {
            kind,
            proxy,
            forward,
            name,
            user,
            count,
            size,
            rate,
            pace,
            pid,
            seconds,
            cpu,
        } => {
            let mut cpus = rustix::thread::CpuSet::new();
            cpus.set(cpu);
            rustix::thread::sched_setaffinity(None, &cpus)?;
            let origin = Origin::start(0)?;
            let way = match (proxy, forward) {
                (Some(proxy), _) => Way::Socks5 {
                    proxy,
                    login: user.map(|it| {
                        let (user, password) = it.split_once(':').unwrap();
                        (user.to_owned(), password.to_owned())
                    }),
                    target: name.map_or(Target::Address, Target::Name),
                },
                (None, Some(to)) => Way::Forward(to),
                (None, None) => Way::Direct,
            };
            let kind = match kind.as_str() {
                "down" => match pace {
                    Some(bytes_per_second) => Kind::DownPaced { flows: count, bytes_per_second },
                    None => Kind::Down { flows: count },
                },
                "up" => Kind::Up { flows: count },
                "sessions" => Kind::Sessions { concurrent: count },
                "requests" => Kind::Requests { size, connections: count, rate, beside: pace },
                "idle" | "stalled" => {
                    let held = if kind == "idle" { Held::Idle } else { Held::Stalled };
                    let during = || std::thread::sleep(Duration::from_secs_f64(seconds));
                    return Ok(load::hold(&way, origin.ports(), count, held, during)?);
                }
                other => return Err(format!("{other} is no kind").into()),
            };
            let load = Load {
                way,
                origin: origin.ports(),
                kind,
                duration: Duration::from_secs_f64(seconds),
                warm_up: Duration::from_millis(500),
            };
            let used = std::cell::Cell::new([0.0; 3]);
            let now = || {
                [
                    pid.map_or(0.0, cpu_seconds),
                    cpu_seconds(std::process::id()),
                    cpu_seconds(child()),
                ]
            };
            let measured = load::run(
                &load,
                || used.set(now()),
                || {
                    let (before, after) = (used.get(), now());
                    used.set([0, 1, 2].map(|at| after[at] - before[at]));
                },
            )?;
            let (unit, name) = match load.kind {
                Kind::Down { .. } | Kind::Up { .. } | Kind::DownPaced { .. } => (1u64 << 30, "GiB"),
                _ => (1_000_000, "million"),
            };
            let units = measured.units as f64 / unit as f64;
            let rate = measured.units as f64 / measured.elapsed_seconds;
            let [proxy, generator, origin] = used.get().map(|it| it / units);
            println!(
                "{rate:.0}/s = {:.2} Gbit/s; s per {name}: proxy {proxy:.3} generator {generator:.3} origin {origin:.3}",
                rate * 8e-9
            );
            println!(
                "errors {}, beside {:.2} Gbit/s",
                measured.errors,
                measured.beside_bytes as f64 * 8e-9 / measured.elapsed_seconds
            );
            if let Some(latency) = measured.latency {
                println!(
                    "p50 {:.0} p90 {:.0} p99 {:.0} p99.9 {:.0} max {:.0} us",
                    latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us
                );
            }
            Ok(())
        }
    }
}
