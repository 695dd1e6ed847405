//! Figures out of measurements: medians, and ratios of what was measured side by side.

use serde::Serialize;

use crate::catalogue::{Pace, Task, Trial};
use crate::load::{Latency, Measured};
use crate::record::{Memory, Outcome, Record, Spent};

const GIB: f64 = (1u64 << 30) as f64;
const MICROSECONDS: f64 = 1e6;

/// Calls that wait for something to do: their number says how busy it was, not what a session costs.
const WAITS: [&str; 8] = [
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "poll",
    "ppoll",
    "select",
    "pselect6",
    "restart_syscall",
];

/// What is told of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// Gbit/s, or units a second.
    Rate,
    /// Datagrams a second that were sent one way, and per cent that did not come.
    Offered,
    Lost,
    /// Processor time of the contender for a GiB, or µs for another unit; and of the whole machine.
    Processor,
    Machine,
    P50,
    P99,
    P999,
    /// Gbit/s of the bulk flow beside.
    Beside,
    /// Per cent of a CPU that went neither to the contender nor to the load: what the kernel charges
    /// to nobody, and other programs, which make the figures worth less.
    Others,
    /// Bytes a session, of the contender and of the kernel.
    User,
    Kernel,
    /// Per cent of a CPU while sessions are idle.
    Idling,
    /// System calls a session, but those that wait; and those.
    Calls,
    Waits,
}

/// A median and how far the rounds lie apart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
    pub rounds: usize,
}

/// The median of ratios within rounds, and an interval that holds the true median with this
/// confidence, whatever the distribution.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratio {
    pub median: f64,
    pub low: f64,
    pub high: f64,
    pub confidence: f64,
}

/// A work's results.
#[derive(Clone, Serialize)]
pub struct Section {
    pub id: String,
    pub title: String,
    /// What a unit is.
    pub unit: Unit,
    /// What the others are compared with.
    pub subject: String,
    pub figures: Vec<Figure>,
    /// Those that decide.
    pub headline: Vec<Figure>,
    pub rows: Vec<Row>,
}

/// What was got of a contender.
#[derive(Clone, Serialize)]
pub struct Row {
    pub contender: String,
    /// For each of the section's figures, where there is one.
    pub spreads: Vec<Option<Spread>>,
    /// The subject's figure as a part of this one's.
    pub ratios: Vec<Option<Ratio>>,
    /// Percentiles of the latency in µs, of the round whose p99 is the median.
    pub curve: Vec<(f64, f64)>,
    /// How often each system call was made in a session.
    pub calls: Vec<(String, f64)>,
    /// What the load found wrong, in all rounds.
    pub errors: u64,
    pub failures: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Byte,
    Session,
    Request,
    Echo,
    Datagram,
}

impl Unit {
    pub fn of(task: &Task) -> Unit {
        match task {
            Task::Down { .. } | Task::Up { .. } => Unit::Byte,
            Task::Requests { .. } => Unit::Request,
            Task::Echoes { .. } => Unit::Echo,
            Task::Flood { .. } => Unit::Datagram,
            _ => Unit::Session,
        }
    }
}

impl Section {
    /// A figure's place in each row.
    pub fn column(&self, figure: Figure) -> Option<usize> {
        self.figures.iter().position(|it| *it == figure)
    }
}

impl Figure {
    /// What stands over its column.
    pub fn label(self, unit: Unit) -> &'static str {
        match (self, unit) {
            (Figure::Rate, Unit::Byte) => "Gbit/s",
            (Figure::Rate, Unit::Session) => "sessions/s",
            (Figure::Rate, Unit::Request) => "requests/s",
            (Figure::Rate, Unit::Echo) => "echoes/s",
            (Figure::Rate, Unit::Datagram) => "arrived/s",
            (Figure::Offered, _) => "sent/s",
            (Figure::Lost, _) => "lost %",
            (Figure::Processor, Unit::Byte) => "s/GiB",
            (Figure::Processor, _) => "µs each",
            (Figure::Machine, Unit::Byte) => "machine s/GiB",
            (Figure::Machine, _) => "machine µs each",
            (Figure::P50, _) => "p50 µs",
            (Figure::P99, _) => "p99 µs",
            (Figure::P999, _) => "p99.9 µs",
            (Figure::Beside, _) => "beside Gbit/s",
            (Figure::Others, _) => "others CPU %",
            (Figure::User, _) => "user B each",
            (Figure::Kernel, _) => "kernel B each",
            (Figure::Idling, _) => "idle CPU %",
            (Figure::Calls, _) => "calls each",
            (Figure::Waits, _) => "waits each",
        }
    }
}

/// The results of every work that was measured.
pub fn sections(trials: &[Trial], records: &[Record]) -> Vec<Section> {
    trials.iter().filter_map(|trial| section(trial, records)).collect()
}

fn section(trial: &Trial, records: &[Record]) -> Option<Section> {
    let of_work: Vec<&Record> = records.iter().filter(|it| it.work == trial.work.id).collect();
    let unit = Unit::of(&trial.work.task);
    let of = |name: &str| -> Vec<&Record> {
        of_work.iter().filter(|it| it.contender == name).copied().collect()
    };
    let measured: Vec<(&str, Vec<&Record>)> = trial
        .contenders
        .iter()
        .map(|it| (it.name.as_str(), of(&it.name)))
        .filter(|(_, records)| !records.is_empty())
        .collect();
    let mut figures: Vec<Figure> =
        of_work.iter().flat_map(|it| values(&it.outcome, unit)).map(|(it, _)| it).collect();
    figures.sort();
    figures.dedup();
    let subject = &trial.contenders.first()?.name;
    let ours = of(subject);
    let rows = measured.iter().map(|(name, theirs)| row(name, theirs, &ours, &figures, unit));
    let rows: Vec<Row> = rows.collect();
    (!rows.is_empty()).then(|| Section {
        id: trial.work.id.clone(),
        title: trial.work.title.clone(),
        unit,
        subject: subject.clone(),
        figures: figures.clone(),
        headline: headline(&trial.work.task, &figures),
        rows,
    })
}

/// The latency of a closed loop is that of its own load, and says nothing about another's.
fn headline(task: &Task, figures: &[Figure]) -> Vec<Figure> {
    let deciding: &[Figure] = match task {
        Task::Requests { pace: Pace::Open { .. }, .. } => {
            &[Figure::P50, Figure::P99, Figure::Processor]
        }
        Task::Idle { .. } | Task::Stalled { .. } => &[Figure::User, Figure::Kernel],
        Task::Calls => &[Figure::Calls],
        Task::Flood { .. } => &[Figure::Rate, Figure::Lost, Figure::Processor],
        _ => &[Figure::Rate, Figure::Processor, Figure::Machine],
    };
    deciding.iter().filter(|it| figures.contains(it)).copied().collect()
}

fn row(name: &str, theirs: &[&Record], ours: &[&Record], figures: &[Figure], unit: Unit) -> Row {
    let series = |records: &[&Record], figure| -> Vec<(usize, f64)> {
        let value = |it: &&Record| value(&it.outcome, figure, unit).map(|value| (it.round, value));
        records.iter().filter_map(value).collect()
    };
    let is_subject = ours.first().is_some_and(|it| it.contender == name);
    let spreads = figures.iter().map(|&it| spread(&series(theirs, it))).collect();
    let ratio = |&figure: &Figure| match is_subject {
        true => None,
        false => ratio(&series(ours, figure), &series(theirs, figure)),
    };
    let ratios = figures.iter().map(ratio).collect();
    let failures = theirs.iter().filter_map(|it| match &it.outcome {
        Outcome::Failed { why } => Some(why.clone()),
        _ => None,
    });
    Row {
        contender: name.to_owned(),
        spreads,
        ratios,
        curve: middle_curve(theirs),
        calls: theirs.iter().find_map(|it| calls_each(&it.outcome)).unwrap_or_default(),
        errors: theirs.iter().map(|it| errors(&it.outcome)).sum(),
        failures: failures.collect(),
    }
}

fn value(outcome: &Outcome, figure: Figure, unit: Unit) -> Option<f64> {
    values(outcome, unit).into_iter().find(|(it, _)| *it == figure).map(|(_, value)| value)
}

fn values(outcome: &Outcome, unit: Unit) -> Vec<(Figure, f64)> {
    let values = match outcome {
        Outcome::Moved { measured, spent } => moved(measured, *spent, unit),
        Outcome::Held(memory) => held(memory),
        Outcome::Called { sessions, calls } => {
            let sum = |waits: bool| -> u64 {
                let of_kind = |name: &str| WAITS.contains(&name) == waits;
                calls.iter().filter(|(name, _)| of_kind(name)).map(|(_, count)| count).sum()
            };
            let each = |waits| Some(sum(waits) as f64 / *sessions as f64);
            vec![(Figure::Calls, each(false)), (Figure::Waits, each(true))]
        }
        Outcome::Failed { .. } => Vec::new(),
    };
    let known = |(figure, value): (Figure, Option<f64>)| Some((figure, value?));
    values.into_iter().filter_map(known).filter(|(_, value)| value.is_finite()).collect()
}

fn moved(measured: &Measured, spent: Spent, unit: Unit) -> Vec<(Figure, Option<f64>)> {
    let seconds = measured.elapsed_seconds;
    let gbits = |bytes: u64| bytes as f64 * 8.0 / 1e9 / seconds;
    let each = |time: f64| match unit {
        Unit::Byte => time / (measured.units as f64 / GIB),
        _ => time * MICROSECONDS / measured.units as f64,
    };
    let rate = match unit {
        Unit::Byte => gbits(measured.units),
        _ => measured.units as f64 / seconds,
    };
    let others = spent.machine - spent.load - spent.contender.unwrap_or(0.0);
    let latency = |of: fn(&Latency) -> f64| measured.latency.as_ref().map(of);
    let sent = (measured.units + measured.lost) as f64;
    let lost = matches!(unit, Unit::Echo | Unit::Datagram);
    vec![
        (Figure::Rate, Some(rate)),
        (Figure::Offered, (unit == Unit::Datagram).then_some(sent / seconds)),
        (Figure::Lost, lost.then_some(measured.lost as f64 * 100.0 / sent)),
        (Figure::Processor, spent.contender.map(each)),
        (Figure::Machine, Some(each(spent.machine))),
        (Figure::P50, latency(|it| it.p50_us)),
        (Figure::P99, latency(|it| it.p99_us)),
        (Figure::P999, latency(|it| it.p999_us)),
        (Figure::Beside, (measured.beside_bytes > 0).then(|| gbits(measured.beside_bytes))),
        (Figure::Others, Some(others * 100.0 / seconds)),
    ]
}

fn held(memory: &Memory) -> Vec<(Figure, Option<f64>)> {
    let each = |bytes: i64| bytes as f64 / memory.sessions as f64;
    vec![
        (Figure::User, memory.user.map(each)),
        (Figure::Kernel, Some(each(memory.kernel))),
        (Figure::Idling, memory.processor_share.map(|it| it * 100.0)),
    ]
}

fn errors(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Moved { measured, .. } => measured.errors,
        _ => 0,
    }
}

fn calls_each(outcome: &Outcome) -> Option<Vec<(String, f64)>> {
    let Outcome::Called { sessions, calls } = outcome else { return None };
    let each = |(name, count): (&String, &u64)| (name.clone(), *count as f64 / *sessions as f64);
    let mut calls: Vec<(String, f64)> = calls.iter().map(each).collect();
    calls.sort_by(|a, b| b.1.total_cmp(&a.1));
    Some(calls)
}

fn middle_curve(records: &[&Record]) -> Vec<(f64, f64)> {
    let latency = |it: &&Record| match &it.outcome {
        Outcome::Moved { measured, .. } => measured.latency.clone(),
        _ => None,
    };
    let mut latencies: Vec<Latency> = records.iter().filter_map(latency).collect();
    latencies.sort_by(|a, b| a.p99_us.total_cmp(&b.p99_us));
    match latencies.len() {
        0 => Vec::new(),
        count => latencies.swap_remove((count - 1) / 2).curve,
    }
}

/// The value in the middle, or between the two there.
pub fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

fn spread(series: &[(usize, f64)]) -> Option<Spread> {
    let values = sorted(&series.iter().map(|&(_, value)| value).collect::<Vec<_>>());
    let median = median(&values)?;
    Some(Spread { median, low: *values.first()?, high: *values.last()?, rounds: values.len() })
}

/// Ours over theirs, round by round: what drifts from round to round cancels out.
fn ratio(ours: &[(usize, f64)], theirs: &[(usize, f64)]) -> Option<Ratio> {
    let pair = |&(round, ours): &(usize, f64)| {
        let (_, theirs) = theirs.iter().find(|(it, _)| *it == round)?;
        // Memory that noise has made negative compares with nothing.
        (ours > 0.0 && *theirs > 0.0).then(|| ours / theirs)
    };
    let ratios = sorted(&ours.iter().filter_map(pair).collect::<Vec<_>>());
    let median = median(&ratios)?;
    let (cut, confidence) = interval(ratios.len());
    let (low, high) = (ratios[cut], ratios[ratios.len() - 1 - cut]);
    Some(Ratio { median, low, high, confidence })
}

/// How many values may be cut off either end so that the median still lies between with at least
/// 95 % confidence; where there are too few for that, none. Each value lies below it with even
/// odds, so the number of those that do is binomial.
fn interval(count: usize) -> (usize, f64) {
    let outside = |cut: usize| -> f64 {
        let below: f64 = (0..=cut).map(|it| binomial(count, it)).sum();
        2.0 * below / 2f64.powi(count as i32)
    };
    let fits = |cut: &usize| 1.0 - outside(*cut) >= 0.95;
    let cut = (0..count.div_ceil(2)).take_while(fits).last().unwrap_or(0);
    (cut, (1.0 - outside(cut)).max(0.0))
}

fn binomial(of: usize, choose: usize) -> f64 {
    (0..choose).map(|it| (of - it) as f64 / (it + 1) as f64).product()
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
#[path = "results_tests.rs"]
pub(crate) mod tests;
