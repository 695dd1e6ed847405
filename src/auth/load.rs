use std::collections::BTreeMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::error::{Error, Place};
use super::hashes::{ACCEPTED, Stored};
use super::users::{Taken, check_name};
use super::{
    Auth, Groups, Gssapi, GssapiError, GssapiSettings, Mechanism, Pam, PamError, Passwords,
    Principals, Users,
};
use crate::config::{self, AuthMethod, AuthRule, Config, Password, Protection};

/// A larger file is not what it is taken for.
const FILE_MAX: u64 = 64 << 20;

/// How many names a warning shows.
const SHOWN_MAX: usize = 5;

const LINE: &str = "each line is `name:hash`; # begins a comment";

impl Auth {
    /// Reads who may come, and opens what knows others: all of it, or it fails.
    pub fn load(config: &Config) -> Result<Auth, Error> {
        load(config).map_err(|error| error.said_in(config))
    }

    /// Reads it again, to take the place of this one.
    pub fn reload(&self, config: &Config) -> Result<Auth, Error> {
        Ok(Auth::load(config)?.in_place_of(self))
    }
}

impl Passwords {
    /// Reads who has a password, or opens what knows that.
    pub fn load(config: &Config) -> Result<Passwords, Error> {
        match &config.pam.service {
            Some(service) => open_pam(service, &config.pam).map(|pam| Passwords::Pam(pam.into())),
            None => read_passwords(config),
        }
    }
}

fn load(config: &Config) -> Result<Auth, Error> {
    let groups = read_groups(&config.groups, config.groups_file.as_deref())?;
    check_rules(config, &groups)?;
    let passwords = Passwords::load(config)?;
    let mechanism = open_gssapi(config)?;
    if let (Passwords::Users(users), None) = (&passwords, &mechanism) {
        warn_of_strangers(&groups, users);
    }
    Ok(Auth::new(passwords, groups, mechanism))
}

/// Each group that a listener's rules name must be one.
fn check_rules(config: &Config, groups: &Groups) -> Result<(), Error> {
    for (number, listen) in config.listen.iter().enumerate() {
        for (index, rule) in listen.auth.iter().flatten().enumerate() {
            let Some(group) = rule.groups.iter().find(|group| !groups.contains(group)) else {
                continue;
            };
            let place = config.place_of_rule(number, index).unwrap_or("listen.auth");
            let problem = format!("there is no group {group:?}");
            return Err(Error::new(Place::Key(place.to_owned()), problem)
                .hint("neither `groups` nor `groups_file` has it"));
        }
    }
    Ok(())
}

fn read_passwords(config: &Config) -> Result<Passwords, Error> {
    let inline = config.users.iter().map(|(name, password)| (name.as_str(), stored(password)));
    let users = read_users(inline, config.users_file.as_deref())?;
    if users.is_empty() {
        return Ok(Passwords::Nobody);
    }
    Ok(Passwords::Users(Arc::new(users)))
}

/// As it stands in a file.
fn stored(password: &Password) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(match password {
        Password::Plain(plain) => [b"plain:", plain.expose()].concat(),
        Password::Hash(hash) => hash.expose().to_vec(),
    })
}

fn open_pam(service: &str, config: &config::Pam) -> Result<Pam, Error> {
    Pam::open(service, &config.library, config.confdir.as_deref()).map_err(|problem| {
        let key = match problem {
            PamError::Library(_) => "pam_library",
            PamError::Folder(_) => "pam_confdir",
            PamError::Name { .. } | PamError::Service { .. } => "pam_service",
        };
        Error::new(Place::Key(key.to_owned()), problem)
    })
}

/// The library is not even looked for where nobody comes by it.
fn open_gssapi(config: &Config) -> Result<Option<Arc<dyn Mechanism>>, Error> {
    let is_wanted = |rule: &AuthRule| rule.methods.contains(&AuthMethod::Gssapi);
    if !config.listen.iter().any(|listen| config.auth_rules(listen).iter().any(is_wanted)) {
        return Ok(None);
    }
    let config::Gssapi { library, keytab, service, realms, principals, require, .. } =
        &config.gssapi;
    let error = |key: &str, problem: &dyn fmt::Display| {
        Error::new(Place::Key(format!("gssapi.{key}")), problem)
    };
    let opened = Gssapi::open(GssapiSettings {
        library: library.clone(),
        keytab: keytab.clone().map(Into::into),
        service: service.clone(),
        realms: realms.clone().unwrap_or_default(),
        principals: Principals::new(principals.clone()),
        is_confidential: *require == Protection::Confidentiality,
    });
    opened.map(Some).map_err(|problem| match problem {
        GssapiError::Library(_) => error("library", &problem),
        GssapiError::Keytab { .. } | GssapiError::Credentials { .. } => error("keytab", &problem),
    })
}

/// Reads the users of the configuration, and those of a file.
fn read_users<'a>(
    inline: impl IntoIterator<Item = (&'a str, Zeroizing<Vec<u8>>)>,
    file: Option<&Path>,
) -> Result<Users, Error> {
    let mut users = Users::default();
    for (name, value) in inline {
        add_user(&mut users, name.as_bytes(), &value, || Place::Key(format!("users.{name}")))?;
    }
    if let Some(path) = file {
        add_users_file(&mut users, path, &read(path, Secrecy::Secret)?)?;
    }
    Ok(users)
}

fn add_users_file(users: &mut Users, path: &Path, text: &[u8]) -> Result<(), Error> {
    let mut is_empty = true;
    for (number, line) in lines(text) {
        let place = || Place::line(path, number);
        let Some(colon) = line.iter().position(|&b| b == b':') else {
            let problem = "there is no colon after a user's name";
            return Err(Error::new(place(), problem).hint(LINE));
        };
        let name = &line[..colon];
        check_name(name).map_err(|problem| Error::new(place(), problem).hint(LINE))?;
        add_user(users, name, &line[colon + 1..], place)?;
        is_empty = false;
    }
    match is_empty {
        false => Ok(()),
        true => Err(Error::new(Place::file(path), "there is no user in it").hint(LINE)),
    }
}

fn add_user(
    users: &mut Users,
    name: &[u8],
    value: &[u8],
    place: impl Fn() -> Place,
) -> Result<(), Error> {
    // The name is not repeated: in a line that is the wrong way round it is the password.
    let stored =
        Stored::parse(value).map_err(|problem| Error::new(place(), problem).hint(ACCEPTED))?;
    users.add(name, stored).map_err(|Taken| {
        let problem = format!("user \"{}\" is there more than once", name.escape_ascii());
        Error::new(place(), problem).hint("a user stands in one line, or in the configuration")
    })
}

/// Reads the groups of the configuration, and those of a file.
fn read_groups(
    inline: &BTreeMap<String, Vec<String>>,
    file: Option<&Path>,
) -> Result<Groups, Error> {
    let mut groups = Groups::new(inline.iter().map(|(group, users)| (group.as_str(), users)));
    if let Some(path) = file {
        groups.add_file(path, &read(path, Secrecy::Public)?)?;
    }
    Ok(groups)
}

/// Warns of members that have no password here: nobody will come by these names.
fn warn_of_strangers(groups: &Groups, users: &Users) {
    for (group, strangers) in groups.strangers(|member| users.contains(member)) {
        let shown = strangers.iter().take(SHOWN_MAX).map(|name| name.escape_ascii().to_string());
        let more = if strangers.len() > SHOWN_MAX { ", and more" } else { "" };
        let shown = shown.collect::<Vec<_>>().join(", ");
        log::warn!(
            "the group \"{}\" has members who are no users: {shown}{more}",
            group.escape_debug()
        );
    }
}

/// Whether others may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrecy {
    Public,
    Secret,
}

/// Reads a file whole, once: one that is replaced meanwhile is read as it was.
fn read(path: &Path, secrecy: Secrecy) -> Result<Zeroizing<Vec<u8>>, Error> {
    let error = |problem: String| Error::new(Place::file(path), problem);
    let unreadable = |problem: io::Error| error(format!("it cannot be read: {problem}"));
    // A FIFO would have us wait for its writer.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(error("it is not a regular file".to_owned()));
    }
    if secrecy == Secrecy::Secret && metadata.mode() & 0o004 != 0 {
        log::warn!("{}: everyone on this host can read it; `chmod o-r` it", path.display());
    }
    // With room for all of it: growing would leave a copy that nobody wipes.
    let mut text = Zeroizing::new(Vec::with_capacity(metadata.len().min(FILE_MAX) as usize + 1));
    file.take(FILE_MAX + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_MAX {
        return Err(error("it is larger than 64 MiB".to_owned()));
    }
    if text.contains(&0) {
        return Err(error("it is not a text file".to_owned()));
    }
    Ok(text)
}

/// The lines that say something, counted from one.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    // Some editors mark UTF-8; it is no part of a name.
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let lines = text.split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let says_something =
        |line: &[u8]| !matches!(line.trim_ascii_start().first(), None | Some(b'#'));
    (1..).zip(lines).filter(move |(_, line)| says_something(line))
}

#[cfg(test)]
mod tests;
