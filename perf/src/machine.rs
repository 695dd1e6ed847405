//! Where, when and of what the figures are.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

/// What somebody needs to know who compares or repeats the figures.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub command: String,
    pub date: String,
    pub commit: String,
    pub processor: String,
    pub cpus: usize,
    pub memory_kib: u64,
    pub kernel: String,
    pub compiler: String,
    /// Of the peers, as Debian numbers them.
    pub versions: BTreeMap<String, String>,
    /// What the environment configures of ringsocks: nothing by default.
    pub settings: Vec<String>,
    /// How it was measured.
    pub seconds: f64,
    pub warm_up: f64,
    pub rounds: usize,
    /// What is missing, if anything is.
    pub incomplete: Option<String>,
}

/// How it was asked for.
pub struct Asked {
    pub command: String,
    pub seconds: f64,
    pub warm_up: f64,
    pub rounds: usize,
}

impl Machine {
    pub fn this(asked: Asked) -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory = value(&meminfo, "MemTotal").trim_end_matches("kB").trim().parse();
        let Asked { command, seconds, warm_up, rounds } = asked;
        Machine {
            command,
            date: said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
            commit: commit(),
            processor: value(&cpuinfo, "model name"),
            cpus: cpuinfo.lines().filter(|it| it.starts_with("processor")).count(),
            memory_kib: memory.unwrap_or(0),
            kernel: said("uname", &["-sr"]),
            compiler: said("rustc", &["--version"]),
            versions: versions(),
            settings: settings(),
            seconds,
            warm_up,
            rounds,
            incomplete: None,
        }
    }

    /// It as lines: a name and a value each.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let versions: Vec<String> =
            self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        let gib = self.memory_kib as f64 / f64::from(1 << 20);
        let mut lines = vec![
            ("date", self.date.clone()),
            ("commit", self.commit.clone()),
            ("machine", format!("{} CPUs ({}), {gib:.0} GiB", self.cpus, self.processor)),
            ("kernel", self.kernel.clone()),
            ("compiler", self.compiler.clone()),
            ("peers", versions.join(", ")),
            ("each measurement", format!("{} s after {} s", self.seconds, self.warm_up)),
            ("rounds", self.rounds.to_string()),
        ];
        if !self.settings.is_empty() {
            lines.push(("settings", self.settings.join(" ")));
        }
        lines.extend(self.incomplete.iter().map(|it| ("incomplete", it.clone())));
        lines
    }
}

/// What the environment tells ringsocks, so that nobody takes it for the defaults.
pub fn settings() -> Vec<String> {
    let ours = |(name, value): (String, String)| {
        name.starts_with("RINGSOCKS_").then(|| format!("{name}={value}"))
    };
    let mut settings: Vec<String> = std::env::vars().filter_map(ours).collect();
    settings.sort();
    settings
}

/// Tells two builds apart.
pub fn fingerprint(binary: &Path) -> io::Result<String> {
    let mut hasher = DefaultHasher::new();
    hasher.write(&fs::read(binary)?);
    Ok(format!("{:016x}", hasher.finish()))
}

fn commit() -> String {
    let commit = said("git", &["rev-parse", "--short=12", "HEAD"]);
    let changes = said("git", &["status", "--porcelain", "--untracked-files=no"]);
    if changes.is_empty() { commit } else { format!("{commit} with changes") }
}

fn versions() -> BTreeMap<String, String> {
    let packages = ["dante-server", "microsocks", "haproxy"];
    let version =
        |name: &str| (name.to_owned(), said("dpkg-query", &["-W", "-f", "${Version}", name]));
    packages.into_iter().map(version).filter(|(_, version)| !version.is_empty()).collect()
}

/// What a program says, or nothing if there is none.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned());
    text.unwrap_or_default()
}

/// The value of a line `key : value`.
fn value(text: &str, key: &str) -> String {
    let of_line = |line: &str| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    };
    text.lines().find_map(of_line).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn some() -> Machine {
        let asked = Asked {
            command: "perf/run --peer 'a<b>=h:1,2'".to_owned(),
            seconds: 1.0,
            warm_up: 0.5,
            rounds: 6,
        };
        Machine::this(asked)
    }

    #[test]
    fn this_machine_is_known() {
        let machine = some();
        assert!(machine.cpus > 0 && machine.memory_kib > 0, "{machine:?}");
        assert!(machine.kernel.starts_with("Linux "), "{machine:?}");
        assert_eq!(machine.date.len(), "2026-11-24T19:05:24Z".len());
    }

    #[test]
    fn a_fingerprint_is_of_the_content() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|it| folder.path().join(it));
        fs::write(&a, "same").unwrap();
        fs::write(&b, "same").unwrap();
        fs::write(&c, "other").unwrap();
        assert_eq!(fingerprint(&a).unwrap(), fingerprint(&b).unwrap());
        assert_ne!(fingerprint(&a).unwrap(), fingerprint(&c).unwrap());
        assert!(fingerprint(Path::new("/nonexistent")).is_err());
    }
}
