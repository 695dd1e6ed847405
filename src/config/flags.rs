//! The command line.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};

use super::environment::USER;
use super::error::{Error, Problem};
use super::listen::{self, Listen};
use super::login;
use super::schema::{self, Form, Layer};
use super::secret::Password;
use super::value::Value;
use crate::sys;

/// What the command line says. Not `Debug`: a password may stand on it.
#[derive(Parser)]
#[command(
    name = "ringsocks",
    version,
    about = "A SOCKS gateway: SOCKS5, SOCKS4 and SOCKS4a on 127.0.0.1:1080 and [::1]:1080",
    after_help = "Every key of the file is also an environment variable: timeout.idle is \
                  RINGSOCKS_TIMEOUT_IDLE, the user alice is RINGSOCKS_USERS_alice. Flags count \
                  over the environment, the environment over the file.",
    args_conflicts_with_subcommands = true
)]
pub struct Args {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Say what would run, without running it
    Check(Box<Flags>),
    /// Ask for a password, and print a line for users_file: NAME and a hash of it
    Passwd {
        /// Whose password it is
        #[arg(value_name = "NAME")]
        name: OsString,
    },
}

impl Args {
    /// Reads the command line. Where it asks for help, or cannot be understood, the process says so
    /// and ends.
    pub fn read() -> Args {
        Args::try_parse().unwrap_or_else(|error| without_words(error).exit())
    }

    /// Whether to tell what would run (`ringsocks check`) instead of running it.
    pub fn is_check(&self) -> bool {
        matches!(self.command, Some(Command::Check(_)))
    }

    /// Whose password to ask for (`ringsocks passwd`) instead of running.
    pub fn passwd(&self) -> Option<&OsStr> {
        match &self.command {
            Some(Command::Passwd { name }) => Some(name),
            _ => None,
        }
    }

    /// Overwrites the passwords of the command line and of the environment where others can read
    /// them, in `ps` and below `/proc`. They must have been read, and no thread be started.
    pub fn hide_passwords(&self) -> io::Result<()> {
        sys::hide_in_arguments(|argument| {
            let logins = self.flags().user.iter().map(|login| login.as_bytes());
            logins
                .map(|login| password_in(argument, login))
                .find(|it| !it.is_empty())
                .unwrap_or(0..0)
        })?;
        sys::hide_in_environment(|variable| {
            let is_user = variable.starts_with(USER.as_bytes());
            let equals = variable.iter().position(|&b| is_user && b == b'=');
            equals.map_or(0..0, |equals| equals + 1..variable.len())
        })
    }

    pub(super) fn flags(&self) -> &Flags {
        match &self.command {
            Some(Command::Check(flags)) => flags,
            _ => &self.flags,
        }
    }
}

// Values are taken as they come: it is the configuration that says what is wrong with them.
#[derive(clap::Args)]
pub(super) struct Flags {
    /// Read the configuration from this file
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Listen here: 1080 (this host), :1080 (every address), IP:PORT; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<OsString>,

    /// Require a password, this one for this user; `ps` shows it for a moment, your shell keeps it
    /// for ever; may be repeated
    #[arg(short, long, value_name = "NAME:PASSWORD")]
    user: Vec<OsString>,

    /// Run this many reactors instead of one per CPU
    #[arg(long, value_name = "N")]
    workers: Option<OsString>,

    /// Run on these CPUs only, such as 2-5,8
    #[arg(long, value_name = "LIST")]
    cpus: Option<OsString>,

    /// Whether reactors that have nothing to do wait, or spin: a CPU each for the least latency
    #[arg(long, value_name = "HOW")]
    poll: Option<OsString>,

    /// Ask these DNS servers, IP or IP:PORT by comma; or system: whoever the C library asks
    #[arg(long, value_name = "SERVERS")]
    resolver: Option<OsString>,

    /// How long sessions may go on when told to stop, such as 30s
    #[arg(long, value_name = "DURATION")]
    drain: Option<OsString>,

    /// How bytes are relayed: auto, copy or splice
    #[arg(long, value_name = "HOW")]
    relay: Option<OsString>,

    /// Where every session leaves its line: stdout, off or a file
    #[arg(long, value_name = "WHERE")]
    access_log: Option<OsString>,

    /// What to log of operations: off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    log: Option<OsString>,

    /// Serve everyone who can reach us, without users or clients
    #[arg(long)]
    open: bool,
}

impl Flags {
    pub(super) fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// Reads all flags over what `layer` says.
    pub(super) fn read(&self, layer: &mut Layer) -> Result<(), Error> {
        let values = [
            ("workers", &self.workers),
            ("cpus", &self.cpus),
            ("poll", &self.poll),
            ("resolver", &self.resolver),
            ("drain", &self.drain),
            ("relay", &self.relay),
            ("access_log", &self.access_log),
            ("log", &self.log),
        ];
        for (name, value) in values {
            if let Some(value) = value {
                set(layer, name, value)?;
            }
        }
        if self.open {
            set(layer, "open", OsStr::new("true"))?;
        }
        if !self.listen.is_empty() {
            layer.listen = Some(self.read_listeners()?);
        }
        if !self.user.is_empty() {
            layer.users = Some(self.read_users()?);
        }
        Ok(())
    }

    fn read_listeners(&self) -> Result<Vec<Listen>, Error> {
        let mut listeners = Vec::new();
        for value in &self.listen {
            parse_text(value)
                .and_then(|text| Value::Word(text).to_address())
                .and_then(|address| listen::add(&mut listeners, Listen::at(address)))
                .map_err(|problem| at("listen", problem).showing_value(value))?;
        }
        Ok(listeners)
    }

    fn read_users(&self) -> Result<BTreeMap<String, Password>, Error> {
        let mut users = BTreeMap::new();
        for value in &self.user {
            parse_login(value)
                .and_then(|(name, password)| schema::add_user(&mut users, name, password))
                .map_err(|problem| at("user", problem))?;
        }
        Ok(users)
    }
}

/// What is wrong with a command line, without what may be a password in the wrong place: of all that
/// stands there only flags and commands are repeated.
fn without_words(mut error: clap::Error) -> clap::Error {
    let is_word = |kind| matches!(error.get(kind), Some(ContextValue::String(it)) if is_word(it));
    let kinds =
        [ContextKind::InvalidArg, ContextKind::InvalidSubcommand, ContextKind::InvalidValue];
    let words: Vec<_> = kinds.into_iter().filter(|&kind| is_word(kind)).collect();
    if words.is_empty() {
        return error;
    }
    if error.kind() == ErrorKind::ArgumentConflict {
        // Behind flags any word is taken for a command that cannot stand there.
        let usage = error.remove(ContextKind::Usage).unwrap_or(ContextValue::None);
        error = clap::Error::new(ErrorKind::InvalidSubcommand).with_cmd(&Args::command());
        error.insert(ContextKind::Usage, usage);
    }
    for kind in words {
        error.insert(kind, ContextValue::String("***".to_owned()));
    }
    let tip = StyledStr::from("it is not repeated, for it may be a password");
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    error
}

/// Whether an argument, or a value, is neither empty nor a flag nor a command. What only begins like
/// a flag is none: `--useralice:PASSWORD`.
fn is_word(argument: &str) -> bool {
    let mut commands = Args::command();
    commands.build();
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '-' || c == '_';
    let is_flag = argument.strip_prefix("--").is_some_and(|name| name.chars().all(is_letter))
        || argument.starts_with('-') && argument.chars().count() == 2
        || commands.get_arguments().any(|flag| flag.to_string() == argument);
    !argument.is_empty() && !is_flag && commands.find_subcommand(argument).is_none()
}

/// Where the password of `login` is in an argument that ends with it, if it does: `--user`'s value
/// may be an argument or the end of one.
fn password_in(argument: &[u8], login: &[u8]) -> Range<usize> {
    let Some(before) = argument.strip_suffix(login) else { return 0..0 };
    let colon = login.iter().position(|&b| b == b':').unwrap_or(login.len());
    (before.len() + colon + 1).min(argument.len())..argument.len()
}

fn set(layer: &mut Layer, name: &str, value: &OsStr) -> Result<(), Error> {
    let Some(Form::Value { set, .. }) = schema::find("", name).map(|key| &key.form) else {
        unreachable!("a flag has the name of a key");
    };
    parse_text(value)
        .and_then(|text| set(layer, Value::Word(text)))
        .map_err(|problem| at(name, problem).showing_value(value))
}

fn at(name: &str, problem: Problem) -> Error {
    Error::at(format!("flag --{}", name.replace('_', "-")), problem)
}

/// The text of a variable or flag.
pub(super) fn parse_text(value: &OsStr) -> Result<&str, Problem> {
    value.to_str().ok_or_else(|| Problem::new("it is not UTF-8 text"))
}

/// `NAME:PASSWORD`: the name ends at the first colon, the password has the others. No message
/// repeats any of it.
pub(super) fn parse_login(value: &OsStr) -> Result<(&str, Password), Problem> {
    let bytes = value.as_bytes();
    let Some(colon) = bytes.iter().position(|&b| b == b':') else {
        return Err(Problem::new("there is no colon in it").hint("NAME:PASSWORD"));
    };
    let name = std::str::from_utf8(&bytes[..colon])
        .map_err(|_| Problem::new("the user's name is not UTF-8").hint("NAME:PASSWORD"))?;
    Ok((name, login::check_password(&bytes[colon + 1..])?))
}
