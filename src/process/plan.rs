use std::fmt;

use crate::auth::Auth;
use crate::config::{Config, Listen, RelayMode};
use crate::dns::{CHANNELS_MAX, CHANNELS_MIN};
use crate::policy::SessionLimit;
use crate::process::Error;
use crate::relay::{PIPE_BYTES, RING_BYTES};
use crate::sys;

/// Descriptors for everything else: standard streams, logs, the system's resolver's own.
const DESCRIPTORS_RESERVED: u64 = 64;
/// Descriptors of one reactor besides its listeners, its sessions and its resolver's.
const DESCRIPTORS_PER_REACTOR: usize = 8;
/// The part of all descriptors that the resolvers may have together.
const RESOLVERS_PART: u64 = 32;
/// The part of all descriptors that pipes may have together.
const PIPES_PART: usize = 32;
/// The part of `limit.buffers` that they may have.
const PIPES_PART_OF_MEMORY: usize = 4;
/// Descriptors of a pipe.
const DESCRIPTORS_PER_PIPE: usize = 2;
/// Pipes, however many descriptors there are: a user may have so many of this size (pipe(7)).
const PIPES_MAX: usize = 256;
/// Sessions, however many descriptors there are: every reactor reserves room for all at start.
const SESSIONS_MAX: usize = 1 << 20;

/// What a configuration comes to on this machine.
pub struct Plan<'a> {
    pub(super) config: &'a Config,
    pub(super) auth: Auth,
    /// Of each reactor.
    pub(super) cpus: Vec<usize>,
    pub(super) sessions_max: usize,
    /// How many descriptors sessions may hold.
    pub(super) descriptors_max: usize,
    /// How many sockets each reactor's resolver may have.
    pub(super) channels_max: usize,
    /// How many rings each reactor may have.
    pub(super) rings_max: usize,
    /// How many pipes each reactor may have.
    pub(super) pipes_max: usize,
}

impl Plan<'_> {
    /// Makes out what would run, or why it would not.
    pub fn new(config: &Config) -> Result<Plan<'_>, Error> {
        let auth = Auth::load(config).map_err(Error::Auth)?;
        let allowed =
            sys::allowed_cpus().map_err(|it| Error::System("read the CPU affinity", it))?;
        let cpus = config.reactor_cpus(&allowed).map_err(Error::Config)?;
        let descriptors = sys::raise_descriptor_limit()
            .map_err(|it| Error::System("raise the limit of open files", it))?;
        let channels_max = channel_limit(descriptors, cpus.len());
        let pipes_max = pipe_limit(config, descriptors, cpus.len());
        let buffers = config.limit.buffers as usize / cpus.len();
        let rings_max = (buffers - pipes_max * PIPE_BYTES) / RING_BYTES;
        let aside = channels_max + pipes_max * DESCRIPTORS_PER_PIPE;
        let descriptors_max = descriptors_of_sessions(config, descriptors, cpus.len(), aside)?;
        let sessions_max = session_limit(config, descriptors, descriptors_max);
        Ok(Plan {
            config,
            auth,
            cpus,
            sessions_max,
            descriptors_max,
            channels_max,
            rings_max,
            pipes_max,
        })
    }
}

impl fmt::Display for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpus: Vec<String> = self.cpus.iter().map(ToString::to_string).collect();
        write!(
            f,
            "{} reactors on CPUs {}, {} sessions at most, authentication: {}",
            self.cpus.len(),
            cpus.join(","),
            self.sessions_max,
            authentication(self.config)
        )
    }
}

/// How clients log in: once if it is the same everywhere, else for each listener.
fn authentication(config: &Config) -> String {
    let methods: Vec<_> = config.listen.iter().map(|listen| config.methods(listen)).collect();
    if methods.windows(2).all(|pair| pair[0] == pair[1]) {
        return methods.into_iter().next().unwrap_or_default();
    }
    let on = |(listen, methods): (&Listen, String)| format!("{methods} on {}", listen.address);
    let each: Vec<_> = config.listen.iter().zip(methods).map(on).collect();
    each.join(", ")
}

/// As many sockets for names as make a port hard to guess, where there are descriptors to spare.
fn channel_limit(descriptors: u64, reactors: usize) -> usize {
    let part = descriptors / RESOLVERS_PART / reactors as u64;
    (part as usize).clamp(CHANNELS_MIN, CHANNELS_MAX)
}

/// As many pipes as few lanes are without that carry bulk, where descriptors and memory allow it.
fn pipe_limit(config: &Config, descriptors: u64, reactors: usize) -> usize {
    if config.relay == RelayMode::Copy {
        return 0;
    }
    let of_descriptors = descriptors as usize / PIPES_PART / DESCRIPTORS_PER_PIPE;
    let of_memory = config.limit.buffers as usize / PIPES_PART_OF_MEMORY / PIPE_BYTES;
    of_descriptors.min(of_memory).min(PIPES_MAX) / reactors
}

/// The descriptors that the limit leaves to sessions where each reactor has so many set aside for
/// names and pipes.
fn descriptors_of_sessions(
    config: &Config,
    limit: u64,
    reactors: usize,
    aside: usize,
) -> Result<usize, Error> {
    let addresses: usize =
        config.listen.iter().map(|listen| listen.address.sockets().count()).sum();
    let per_reactor = DESCRIPTORS_PER_REACTOR + addresses + aside;
    let overhead = DESCRIPTORS_RESERVED + (reactors * per_reactor) as u64;
    let needed = overhead + SessionLimit::DESCRIPTORS_PER_PLACE as u64;
    match limit >= needed {
        true => Ok((limit - overhead) as usize),
        false => Err(Error::Descriptors { limit, needed }),
    }
}

/// As many sessions as they have descriptors for, or fewer where that is wanted.
fn session_limit(config: &Config, limit: u64, descriptors: usize) -> usize {
    let affordable = (descriptors / SessionLimit::DESCRIPTORS_PER_PLACE).min(SESSIONS_MAX);
    let wanted = config.limit.sessions.unwrap_or(affordable);
    if wanted > affordable {
        log::warn!(
            "limit.sessions = {wanted} is lowered to {affordable}: {limit} files may be open"
        );
    }
    wanted.min(affordable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_clients_log_in_is_said_once_or_for_each_listener() {
        let told = |text: &str| authentication(&Config::parse("r.toml", text).unwrap());
        assert_eq!(told(""), "none");
        assert_eq!(told("users_file = \"u\"\ngssapi.service = \"rcmd\""), "gssapi or password");
        let listeners = "users_file = \"u\"\n[[listen]]\naddress = \":1080\"\n\
                         [[listen]]\naddress = \"127.0.0.1:1081\"\n";
        assert_eq!(told(listeners), "password");
        let none = format!("{listeners}auth = [{{ methods = [\"none\"] }}]");
        assert_eq!(told(&none), "password on :1080, none on 127.0.0.1:1081");
        let by_network =
            format!("{listeners}auth = [{{ from = \"127.0.0.1\", methods = [\"none\"] }}]");
        assert_eq!(told(&by_network), "password on :1080, by network on 127.0.0.1:1081");
    }
}
