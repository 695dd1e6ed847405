use std::fmt;

use crate::auth::Users;
use crate::config::Config;
use crate::process::Error;
use crate::sys;

/// Descriptors a session needs: its client's and its target's.
const DESCRIPTORS_PER_SESSION: u64 = 2;
/// Descriptors for everything else: standard streams, logs, the resolvers' own.
const DESCRIPTORS_RESERVED: u64 = 64;
/// Descriptors of one reactor besides its listeners and sessions.
const DESCRIPTORS_PER_REACTOR: usize = 8;
/// Sessions, however many descriptors there are: every reactor reserves room for all at start.
const SESSIONS_MAX: u64 = 1 << 20;

/// What a configuration comes to on this machine.
pub struct Plan<'a> {
    pub(super) config: &'a Config,
    pub(super) users: Users,
    /// Of each reactor.
    pub(super) cpus: Vec<usize>,
    pub(super) sessions_max: usize,
}

impl Plan<'_> {
    /// Makes out what would run, or why it would not.
    pub fn new(config: &Config) -> Result<Plan<'_>, Error> {
        let users = config.users.iter().map(|(name, password)| (name, password.expose()));
        let users = Users::new(users).map_err(Error::Users)?;
        let allowed =
            sys::allowed_cpus().map_err(|it| Error::System("read the CPU affinity", it))?;
        let cpus = config.reactor_cpus(&allowed).map_err(Error::Config)?;
        let sessions_max = session_limit(config, cpus.len())?;
        Ok(Plan { config, users, cpus, sessions_max })
    }
}

impl fmt::Display for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpus: Vec<String> = self.cpus.iter().map(ToString::to_string).collect();
        write!(
            f,
            "{} reactors on CPUs {}, {} sessions at most, {}",
            self.cpus.len(),
            cpus.join(","),
            self.sessions_max,
            if self.users.is_empty() { "no password asked" } else { "passwords required" }
        )
    }
}

/// The sessions that the descriptor limit, once raised, and the configuration allow.
fn session_limit(config: &Config, reactors: usize) -> Result<usize, Error> {
    let limit = sys::raise_descriptor_limit()
        .map_err(|it| Error::System("raise the limit of open files", it))?;
    let addresses: usize =
        config.listen.iter().map(|listen| listen.address.sockets().count()).sum();
    let overhead = DESCRIPTORS_RESERVED + (reactors * (DESCRIPTORS_PER_REACTOR + addresses)) as u64;
    let affordable = limit.saturating_sub(overhead) / DESCRIPTORS_PER_SESSION;
    if affordable == 0 {
        return Err(Error::Descriptors { limit, needed: overhead + DESCRIPTORS_PER_SESSION });
    }
    let affordable = affordable.min(SESSIONS_MAX) as usize;
    let wanted = config.limit.sessions.unwrap_or(affordable);
    if wanted > affordable {
        log::warn!(
            "limit.sessions = {wanted} is lowered to {affordable}: {limit} files may be open"
        );
    }
    Ok(wanted.min(affordable))
}
