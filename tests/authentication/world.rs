//! Servers with users, and what they say of them.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use ringsocks::auth::hash_password;
use tempfile::TempDir;

use crate::support::server::Server;
use crate::support::{PATIENCE, wait_until};

/// The right password of whoever has one.
pub(crate) const PASSWORD: &[u8] = b"canary-wonder";

/// Of nobody.
pub(crate) const GUESS: &[u8] = b"canary-guess";

/// A failed login costs nothing.
pub(crate) const NO_PENALTIES: (&str, &str) = ("RINGSOCKS_PENALTY_FAILURE", "0");

/// An argon2id hash of [`PASSWORD`], as `ringsocks passwd` makes it.
pub(crate) fn argon2id() -> String {
    hash_password(PASSWORD)
}

/// An argon2id hash of nobody's password; of 127 passes, which is about the most that is accepted,
/// it takes a second and more.
pub(crate) fn slow_argon2id(passes: u32) -> String {
    format!("$argon2id$v=19$m=16384,t={passes},p=1$c2FsdHNhbHQ${}", "A".repeat(43))
}

/// A server, and a folder for what it reads and writes.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) folder: TempDir,
}

impl World {
    /// A server with these users and in such an environment; it writes its access log.
    #[track_caller]
    pub(crate) fn start(users: &str, env: &[(&str, &str)]) -> World {
        World::start_with_args(&[], users, env)
    }

    #[track_caller]
    pub(crate) fn start_with_args(args: &[&str], users: &str, env: &[(&str, &str)]) -> World {
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().join("users");
        write_secret(&path, users);
        let access_log = folder.path().join("access.log");
        let mut all = vec![
            ("RINGSOCKS_USERS_FILE", text(&path)),
            ("RINGSOCKS_ACCESS_LOG", text(&access_log)),
        ];
        all.extend(env);
        let server = Server::start_with_env(args, &all);
        World { server, folder }
    }

    /// How many hashes it has computed.
    #[track_caller]
    pub(crate) fn hashes(&self) -> u64 {
        self.server.counters()["hashes"]
    }

    /// The line of the access log with this field, once it is whole.
    #[track_caller]
    pub(crate) fn access_line(&self, field: &str) -> String {
        let path = self.folder.path().join("access.log");
        let find = || {
            let written = fs::read_to_string(&path).unwrap_or_default();
            let is_it =
                |line: &&str| line.contains(" fault=") && line.split(' ').any(|it| it == field);
            written.lines().find(is_it).map(str::to_owned)
        };
        wait_until(&format!("there is a line with {field}"), || find().is_some());
        find().expect("it was there")
    }
}

/// A path of ours as text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder has a plain name")
}

/// A file that only its owner can read.
pub(crate) fn write_secret(path: &Path, content: &str) {
    fs::write(path, content).expect("room for a few lines");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("it is ours");
}

/// The fields of each line about a failed login, once there are so many; there are no more.
#[track_caller]
pub(crate) fn failures(server: &Server, count: usize) -> Vec<BTreeMap<String, String>> {
    let lines = || -> Vec<String> {
        server.stderr().into_iter().filter(|line| line.contains(" auth_failed ")).collect()
    };
    let deadline = Instant::now() + PATIENCE;
    while lines().len() < count && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let lines = lines();
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines.iter().map(|line| fields(line)).collect()
}

/// `auth_failed ip=IP user=USER method=METHOD reason=REASON`, and not a word more or less.
#[track_caller]
fn fields(line: &str) -> BTreeMap<String, String> {
    assert!(line.bytes().all(|octet| (b' '..=b'~').contains(&octet)), "{}", line.escape_debug());
    assert!(line.contains(" WARN "), "{line}");
    let (_, said) = line.split_once(" auth_failed ").expect("it is about a failed login");
    let pairs: Vec<(&str, &str)> = said
        .split(' ')
        .map(|word| word.split_once('=').unwrap_or_else(|| panic!("{word:?} in {line}")))
        .collect();
    let names: Vec<&str> = pairs.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["ip", "user", "method", "reason"], "{line}");
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The reasons of failed logins, in their order.
#[track_caller]
pub(crate) fn reasons(server: &Server, count: usize) -> Vec<String> {
    failures(server, count).into_iter().map(|it| it["reason"].clone()).collect()
}
