//! `RINGSOCKS_*`: every key by its path, the users by their names.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::error::{Error, Origin, Problem};
use super::flags::{parse_login, parse_text};
use super::keys::KEYS;
use super::listen::{self, Listen};
use super::login;
use super::schema::{self, Form, Key, Layer};
use super::secret::Password;
use super::value::Value;

pub(super) const PREFIX: &str = "RINGSOCKS_";
pub(super) const CONFIG: &str = "RINGSOCKS_CONFIG";
pub(super) const USER: &str = "RINGSOCKS_USER";
const USERS_PREFIX: &str = "RINGSOCKS_USERS_";
const GROUPS_PREFIX: &str = "RINGSOCKS_GROUPS_";
const LISTEN_CLIENTS: &str = "RINGSOCKS_LISTEN_CLIENTS";
const LISTEN_TARGETS: &str = "RINGSOCKS_LISTEN_TARGETS";
const LISTEN_COMMANDS: &str = "RINGSOCKS_LISTEN_COMMANDS";
const LISTEN_AUTH: &str = "RINGSOCKS_LISTEN_AUTH";
/// The names of no key.
const OTHERS: [&str; 6] =
    [CONFIG, USER, LISTEN_CLIENTS, LISTEN_TARGETS, LISTEN_COMMANDS, LISTEN_AUTH];

/// The variables that are ours, by name.
pub(super) struct Environment(BTreeMap<String, OsString>);

impl Environment {
    pub(super) fn new(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Environment, Error> {
        let mut ours = BTreeMap::new();
        for (name, value) in variables {
            if !name.as_bytes().starts_with(PREFIX.as_bytes()) {
                continue;
            }
            let name = name.into_string().map_err(|name| {
                let place = format!("environment variable {}", name.to_string_lossy());
                Error::at(place, Problem::new("its name is not UTF-8"))
            })?;
            ours.insert(name, value);
        }
        Ok(Environment(ours))
    }

    /// The file to read, if a variable names one.
    pub(super) fn config(&self) -> Option<PathBuf> {
        self.0.get(CONFIG).map(PathBuf::from)
    }

    /// Reads all variables over what `layer` says.
    pub(super) fn read(&self, layer: &mut Layer) -> Result<(), Error> {
        let (mut users, mut groups) = (BTreeMap::new(), BTreeMap::new());
        for (name, value) in &self.0 {
            let key = KEYS.iter().find(|key| key.variable() == *name);
            let origin = || Origin::new(place(name)).showing_value(value);
            match key.map(|key| (key, &key.form)) {
                Some((key, Form::Value { set, .. })) => {
                    read_value(name, value, |word| set(layer, word))?;
                    layer.origins.insert(key.path, origin());
                }
                Some((_, Form::Listen)) => layer.listen = Some(read_listeners(name, value)?),
                Some((_, Form::Users)) | None if name.starts_with(USERS_PREFIX) || name == USER => {
                    let (user, password) =
                        read_user(name, value).map_err(|problem| at(name, problem))?;
                    layer.origins.insert(format!("users.{user}"), Origin::new(place(name)));
                    schema::add_user(&mut users, user, password)
                        .map_err(|problem| at(name, problem))?;
                }
                None if name.starts_with(GROUPS_PREFIX) => {
                    let group = &name[GROUPS_PREFIX.len()..];
                    let members = read_value(name, value, |word| word.to_members())?;
                    schema::add_group(&mut groups, group, members)
                        .map_err(|problem| at(name, problem))?;
                }
                _ if name == CONFIG => {}
                // A variable has no way to tell one listener from another.
                _ if name == LISTEN_CLIENTS => {
                    layer.clients = Some(read_value(name, value, |word| word.to_clients())?);
                }
                _ if name == LISTEN_TARGETS => {
                    layer.targets = Some(read_value(name, value, |word| word.to_targets())?);
                }
                _ if name == LISTEN_COMMANDS => {
                    layer.commands = Some(read_value(name, value, |word| word.to_commands())?);
                }
                _ if name == LISTEN_AUTH => {
                    layer.auth = Some(read_value(name, value, |word| word.to_auth())?);
                    layer.origins.insert(schema::LISTEN_AUTH, origin());
                }
                _ => return Err(unknown(name)),
            }
        }
        if !groups.is_empty() {
            layer.groups = Some(groups);
        }
        if !users.is_empty() {
            layer.users = Some(users);
        }
        Ok(())
    }
}

fn at(name: &str, problem: Problem) -> Error {
    Error::at(place(name), problem)
}

fn place(name: &str) -> String {
    format!("environment variable {name}")
}

fn read_listeners(name: &str, value: &OsStr) -> Result<Vec<Listen>, Error> {
    let text = parse_text(value).map_err(|problem| at(name, problem).showing_value(value))?;
    let mut listeners = Vec::new();
    for word in text.split(',').map(str::trim) {
        Value::Word(word)
            .to_address()
            .and_then(|address| listen::add(&mut listeners, Listen::at(address)))
            .map_err(|problem| at(name, problem).showing_value(OsStr::new(word)))?;
    }
    Ok(listeners)
}

fn read_value<T>(
    name: &str,
    value: &OsStr,
    read: impl FnOnce(Value<'_>) -> Result<T, Problem>,
) -> Result<T, Error> {
    parse_text(value)
        .and_then(|text| read(Value::Word(text)))
        .map_err(|problem| at(name, problem).showing_value(value))
}

/// Either one login in `RINGSOCKS_USER`, or the password of the user the variable's name ends with.
fn read_user<'v>(name: &'v str, value: &'v OsStr) -> Result<(&'v str, Password), Problem> {
    match name.strip_prefix(USERS_PREFIX) {
        Some(user) => Ok((user, login::parse_password(value.as_bytes())?)),
        None => parse_login(value),
    }
}

/// Never shows the value: the variable may be one of a user, misspelled.
fn unknown(name: &str) -> Error {
    let problem = Problem::new("there is no such setting");
    if is_service_link(name) {
        return at(
            name,
            problem.hint(
                "Kubernetes sets it for a service called ringsocks: `enableServiceLinks: false`",
            ),
        );
    }
    let known = KEYS.iter().map(Key::variable).chain(OTHERS.map(str::to_owned));
    let known: Vec<_> = known.collect();
    let users = format!("{USERS_PREFIX}NAME=plain:PASSWORD");
    let hint = match schema::nearest(
        name.strip_prefix(PREFIX).unwrap_or_default(),
        known.iter().filter_map(|name| name.strip_prefix(PREFIX)),
    ) {
        Some("USERS") => format!("did you mean `{users}`?"),
        Some("GROUPS") => format!("did you mean `{GROUPS_PREFIX}NAME=USER,USER`?"),
        Some(near) => format!("did you mean `{PREFIX}{near}`?"),
        None => schema::list(known.iter().map(String::as_str)),
    };
    at(name, problem.hint(hint))
}

fn is_service_link(name: &str) -> bool {
    let rest = name.strip_prefix(PREFIX).unwrap_or_default();
    rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_")
}
