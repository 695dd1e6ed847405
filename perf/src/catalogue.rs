//! The works, and who does each.

use std::path::Path;

use crate::contender::{ARGON2_HASH, Cmd, Contender, Manner, Peer, Program, USER};

/// Sessions are opened by this many clients at once; this many calls for one more do not hurt.
const SESSIONS_AT_ONCE: usize = 64;

/// The closed loop whose weakest contender sets the rates of the open ones.
pub const RATE_SETTER: &str = "requests-64-x64";
/// The bulk flow of which half is asked beside requests.
pub const FLOW_SETTER: &str = "down-1";

/// The closed loop of datagrams whose weakest contender sets the rates of floods.
pub const FLOOD_SETTER: &str = "udp-echo-64-x1";

/// Datagrams that are sent as one run, where they are sent as runs.
const RUN: usize = 32;

/// One kind of work.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// Its name on the command line and in files.
    pub id: String,
    pub title: String,
    pub task: Task,
    pub manner: Manner,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    Down {
        flows: usize,
    },
    Up {
        flows: usize,
    },
    Sessions {
        at_once: usize,
    },
    Requests {
        size: usize,
        connections: usize,
        pace: Pace,
        beside: Beside,
    },
    /// Datagrams that are echoed: the next one goes when one has come back.
    Echoes {
        size: usize,
        associations: usize,
        /// So many under way on each.
        window: usize,
        /// So many sent together.
        run: usize,
    },
    /// Datagrams one way, this many times as many as the weakest contender manages to echo.
    Flood {
        is_down: bool,
        size: usize,
        times: u32,
    },
    Idle {
        sessions: usize,
    },
    Stalled {
        sessions: usize,
    },
    /// System calls of whole sessions, one after the other, under strace: not timed.
    Calls,
}

/// How fast requests follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// The next one goes when the last is answered: a maximum, not a latency.
    Closed,
    /// This share of what the weakest contender manages so, whoever is slow.
    Open { share: f64 },
}

/// The bulk flow that runs beside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Beside {
    Nothing,
    Unpaced,
    /// Half of what this contender moves alone.
    HalfItsMaximum,
}

/// A work, and who does it: the first is what the others are compared with.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    pub work: Work,
    pub contenders: Vec<Contender>,
}

/// How much of it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Full,
    Quick,
}

impl Work {
    /// The works whose results this one's load is made from.
    pub fn needs(&self) -> Vec<&'static str> {
        if let Task::Flood { .. } = self.task {
            return vec![FLOOD_SETTER];
        }
        let Task::Requests { pace, beside, .. } = &self.task else { return Vec::new() };
        let rate = matches!(pace, Pace::Open { .. }).then_some(RATE_SETTER);
        let flow = (*beside == Beside::HalfItsMaximum).then_some(FLOW_SETTER);
        rate.into_iter().chain(flow).collect()
    }

    /// How often it is measured. Sessions held open and calls hardly differ from round to round,
    /// and take their time.
    pub fn rounds(&self, wanted: usize) -> usize {
        match self.task {
            Task::Idle { .. } | Task::Stalled { .. } => wanted.min(2),
            // There are many, and what decides, processor time, differs little.
            Task::Echoes { .. } | Task::Flood { .. } => wanted.min(4),
            Task::Calls => 1,
            _ => wanted,
        }
    }
}

/// Everything that `perf/run` measures, in order.
pub fn trials(extent: Extent, ringsocks: &Path, peers: &[Peer]) -> Vec<Trial> {
    let everyone = everyone(ringsocks, peers);
    let wanted = |work: &Work| extent != Extent::Quick || is_quick(&work.id);
    let mut trials: Vec<Trial> = works()
        .into_iter()
        .filter(wanted)
        .map(|work| {
            let contenders = everyone.iter().filter(|it| can(it, &work)).cloned().collect();
            Trial { work, contenders }
        })
        .collect();
    if extent == Extent::Full {
        trials.extend(ours(ringsocks));
    }
    trials
}

/// The works of `perf/compare`: this build, the other one and this one again.
pub fn comparison(this: &Path, other: (&str, &Path)) -> Vec<Trial> {
    let contenders = vec![
        Contender::ringsocks("this build", this),
        Contender::ringsocks(other.0, other.1),
        Contender::ringsocks("this build again", this),
    ];
    let compared = |work: &Work| COMPARED.contains(&work.id.as_str());
    let trial = |work| Trial { work, contenders: contenders.clone() };
    works().into_iter().filter(compared).map(trial).collect()
}

/// Those of `trials` whose names start with one of `wanted`, and what they need.
pub fn only(trials: Vec<Trial>, wanted: &[String]) -> Result<Vec<Trial>, String> {
    let names: Vec<String> = trials.iter().map(|it| it.work.id.clone()).collect();
    if let Some(unknown) = wanted.iter().find(|it| !names.iter().any(|name| starts(name, it))) {
        return Err(format!("no work is named {unknown}; there are {}", names.join(", ")));
    }
    let is_wanted = |id: &str| wanted.is_empty() || wanted.iter().any(|it| starts(id, it));
    let needed: Vec<&str> =
        trials.iter().filter(|it| is_wanted(&it.work.id)).flat_map(|it| it.work.needs()).collect();
    let is_kept = |id: &str| is_wanted(id) || needed.contains(&id);
    Ok(trials.into_iter().filter(|it| is_kept(&it.work.id)).collect())
}

fn starts(name: &str, wanted: &str) -> bool {
    !wanted.is_empty() && name.starts_with(wanted)
}

const QUICK: [&str; 11] = [
    "down-1",
    "down-32",
    "sessions-address",
    "requests-64-x64",
    "open-50",
    "open-25-beside-half",
    "udp-echo-64-x1",
    "udp-echo-1200-x16",
    "idle-1000",
    "stalled-1000",
    "calls",
];
const COMPARED: [&str; 4] = ["down-1", "down-32", "sessions-address", "requests-64-x64"];

fn is_quick(id: &str) -> bool {
    QUICK.contains(&id)
}

fn everyone(ringsocks: &Path, peers: &[Peer]) -> Vec<Contender> {
    let mut everyone = vec![
        Contender::ringsocks("ringsocks", ringsocks),
        Contender::with("Dante", Program::Dante),
        Contender::with("microsocks", Program::Microsocks),
        Contender::with("HAProxy", Program::Haproxy),
        Contender::with("bare forwarder", Program::Forwarder),
        Contender::with("no proxy", Program::Nobody),
    ];
    let peer = |it: &Peer| Contender::with(&it.name, Program::Peer(it.clone()));
    everyone.extend(peers.iter().map(peer));
    // Last: between it and the first lies as much time as can lie between two of a round.
    everyone.push(Contender::ringsocks("ringsocks again", ringsocks));
    everyone
}

fn can(contender: &Contender, work: &Work) -> bool {
    let is_needed = work.task != Task::Calls || contender.is_proxy();
    is_needed && contender.speaks(work.manner)
}

fn works() -> Vec<Work> {
    let mut works = Vec::new();
    for flows in [1, 32, 256] {
        let some = counted(flows, "flow");
        works.push(work(
            &format!("down-{flows}"),
            &format!("bulk down, {some}"),
            Task::Down { flows },
        ));
        works.push(work(&format!("up-{flows}"), &format!("bulk up, {some}"), Task::Up { flows }));
    }
    for (id, title, by_name, with_password) in [
        ("sessions-address", "whole sessions, by address", false, false),
        ("sessions-name", "whole sessions, by cached name", true, false),
        ("sessions-address-login", "whole sessions, by address, with password", false, true),
        ("sessions-name-login", "whole sessions, by cached name, with password", true, true),
    ] {
        let task = Task::Sessions { at_once: SESSIONS_AT_ONCE };
        let manner = Manner { by_name, with_password, ..Manner::default() };
        works.push(Work { manner, ..work(id, title, task) });
    }
    for beside in [Beside::Nothing, Beside::Unpaced] {
        for size in [64, 4096] {
            for connections in [1, 64, 1000] {
                works.push(requests(size, connections, beside));
            }
        }
    }
    for percent in [25, 50, 75] {
        works.push(open(percent, Beside::Nothing));
    }
    works.push(open(25, Beside::HalfItsMaximum));
    for sessions in [1000, 5000, 9000] {
        let title = format!("{sessions} idle sessions");
        works.push(work(&format!("idle-{sessions}"), &title, Task::Idle { sessions }));
    }
    works.extend(datagrams());
    works.push(work("stalled-1000", "1000 slow readers", Task::Stalled { sessions: 1000 }));
    works.push(work("calls", "system calls of a whole session", Task::Calls));
    works
}

fn datagrams() -> Vec<Work> {
    let mut works = Vec::new();
    for size in [64, 512, 1400] {
        works.extend(
            [(1, 16), (16, 16), (1000, 1)].map(|(some, window)| echoes(size, some, window)),
        );
    }
    works.push(echoes(1200, 16, 16));
    works.push(echoes(64, 1, 1));
    let runs = Task::Echoes { size: 1200, associations: 1, window: 2 * RUN, run: RUN };
    let title = format!("runs of {RUN} datagrams of 1200 B echoed, 2 under way");
    works.push(asking(Cmd::Associate, work("udp-runs-1200-x1", &title, runs)));
    for size in [64, 1200] {
        works.extend([2, 3, 4].map(|times| flood(size, times, false)));
        works.push(flood(size, 3, true));
    }
    let idle = Task::Idle { sessions: 4000 };
    works.push(asking(Cmd::Associate, work("idle-udp", "4000 idle associations", idle.clone())));
    works.push(asking(Cmd::Bind, work("idle-bind", "4000 waiting BINDs", idle)));
    works
}

/// What is asked of ringsocks alone.
fn ours(ringsocks: &Path) -> Vec<Trial> {
    let one = Contender::ringsocks("ringsocks", ringsocks);
    let again = Contender::ringsocks("ringsocks again", ringsocks);
    let other = |name: &str, reactors, access_log| {
        let (binary, settings) = (ringsocks.to_owned(), Vec::new());
        Contender::with(name, Program::Ringsocks { binary, reactors, access_log, settings })
    };
    let two = other("ringsocks, two reactors", 2, false);
    let logging = other("ringsocks, access log on", 1, true);
    let user = format!("RINGSOCKS_USERS_{USER}");
    let settings = [(user.as_str(), ARGON2_HASH)];
    let hashed = Contender::ringsocks_with("ringsocks, argon2id", ringsocks, &settings);
    let trial = |id: &str, like: &str, title: &str, other: &Contender| {
        let known = works().into_iter().find(|it| it.id == like).expect("a work of the catalogue");
        let work = Work { id: id.to_owned(), title: title.to_owned(), ..known };
        Trial { work, contenders: vec![one.clone(), other.clone(), again.clone()] }
    };
    vec![
        trial("two-sessions", "sessions-address", "one reactor and two: whole sessions", &two),
        trial("two-down-32", "down-32", "one reactor and two: bulk down, 32 flows", &two),
        trial("two-open-50", "open-50", "one reactor and two: requests at an equal rate", &two),
        trial("two-calls", "calls", "one reactor and two: system calls of a session", &two),
        trial("log-sessions", "sessions-address", "access log on: whole sessions", &logging),
        trial(
            "hash-sessions",
            "sessions-address-login",
            "plain password and argon2id: whole sessions",
            &hashed,
        ),
    ]
}

fn work(id: &str, title: &str, task: Task) -> Work {
    Work { id: id.to_owned(), title: title.to_owned(), task, manner: Manner::default() }
}

fn asking(cmd: Cmd, work: Work) -> Work {
    Work { manner: Manner { cmd, ..work.manner }, ..work }
}

fn echoes(size: usize, associations: usize, window: usize) -> Work {
    let id = match (associations, window) {
        (1, 1) => format!("udp-echo-{size}-x1-w1"),
        _ => format!("udp-echo-{size}-x{associations}"),
    };
    let some = counted(associations, "association");
    let title = format!("datagrams of {size} B echoed on {some}, {window} under way on each");
    let task = Task::Echoes { size, associations, window, run: 1 };
    asking(Cmd::Associate, work(&id, &title, task))
}

fn flood(size: usize, times: u32, is_down: bool) -> Work {
    let (direction, whose) = if is_down { ("-down", "to") } else { ("", "from") };
    let id = format!("udp-flood{direction}-{size}-at-{times}");
    let title = format!(
        "datagrams of {size} B {whose} the client, {times} x as many as the weakest echoes of 64 B"
    );
    asking(Cmd::Associate, work(&id, &title, Task::Flood { is_down, size, times }))
}

fn requests(size: usize, connections: usize, beside: Beside) -> Work {
    let (suffix, more) = match beside {
        Beside::Nothing => ("", ""),
        _ => ("-beside", ", beside a bulk flow"),
    };
    let title = format!("requests of {size} B on {}{more}", counted(connections, "connection"));
    let task = Task::Requests { size, connections, pace: Pace::Closed, beside };
    work(&format!("requests-{size}-x{connections}{suffix}"), &title, task)
}

fn open(percent: usize, beside: Beside) -> Work {
    let (suffix, more) = match beside {
        Beside::Nothing => ("", ""),
        _ => ("-beside-half", ", beside a bulk flow at half its maximum"),
    };
    let title =
        format!("requests of 64 B on 64 connections at {percent} % of the weakest's maximum{more}");
    let pace = Pace::Open { share: percent as f64 / 100.0 };
    let task = Task::Requests { size: 64, connections: 64, pace, beside };
    work(&format!("open-{percent}{suffix}"), &title, task)
}

fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn ids(trials: &[Trial]) -> Vec<&str> {
        trials.iter().map(|it| it.work.id.as_str()).collect()
    }

    fn full() -> Vec<Trial> {
        trials(Extent::Full, Path::new("ringsocks"), &[])
    }

    #[test]
    fn names_are_unique_and_what_is_needed_comes_before() {
        let trials = full();
        let mut seen = HashSet::new();
        for trial in &trials {
            for needed in trial.work.needs() {
                assert!(seen.contains(needed), "{} before {needed}", trial.work.id);
            }
            assert!(seen.insert(trial.work.id.as_str()), "{} twice", trial.work.id);
        }
    }

    #[test]
    fn the_quick_and_the_compared_works_exist() {
        let full = full();
        for id in QUICK.iter().chain(&COMPARED) {
            assert!(ids(&full).contains(id), "{id}");
        }
        let quick = trials(Extent::Quick, Path::new("ringsocks"), &[]);
        assert_eq!(quick.len(), QUICK.len());
        let compared = comparison(Path::new("a"), ("old", Path::new("b")));
        assert_eq!(compared.len(), COMPARED.len());
        assert!(compared.iter().all(|it| it.contenders.len() == 3));
    }

    #[test]
    fn ringsocks_is_first_and_last_of_everyone() {
        for trial in full() {
            let names: Vec<&str> = trial.contenders.iter().map(|it| it.name.as_str()).collect();
            assert_eq!(names.first(), Some(&"ringsocks"), "{}", trial.work.id);
            assert_eq!(names.last(), Some(&"ringsocks again"), "{}", trial.work.id);
        }
    }

    #[test]
    fn a_selection_brings_what_it_needs() {
        let chosen = only(full(), &["open-25-beside".to_owned()]).unwrap();
        assert_eq!(ids(&chosen), ["down-1", "requests-64-x64", "open-25-beside-half"]);
        assert_eq!(only(full(), &[]).unwrap().len(), full().len());
        let error = only(full(), &["nonsense".to_owned()]).unwrap_err();
        assert!(error.contains("nonsense") && error.contains("down-1"), "{error}");
    }

    #[test]
    fn a_peer_takes_part_where_it_can() {
        let peer = "hev=127.0.0.1:1,2".parse().unwrap();
        let trials = trials(Extent::Full, Path::new("ringsocks"), &[peer]);
        let has = |id: &str, name: &str| {
            let trial = trials.iter().find(|it| it.work.id == id).unwrap();
            trial.contenders.iter().any(|it| it.name == name)
        };
        assert!(has("down-1", "hev") && !has("sessions-address-login", "hev"));
        assert!(has("down-1", "no proxy") && !has("calls", "no proxy"));
        assert!(has("udp-echo-64-x1", "bare forwarder") && !has("down-1", "bare forwarder"));
        assert!(has("idle-bind", "Dante") && !has("idle-bind", "no proxy"));
        assert!(!has("sessions-name", "HAProxy") && has("sessions-name-login", "Dante"));
    }
}
