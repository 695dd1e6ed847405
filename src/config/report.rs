//! What would run: every effective value, in the shape of the file.

use std::fmt;

use super::Config;
use super::choice::Choice;
use super::keys::KEYS;
use super::schema::{Form, Shown};
use super::show::{show_list, show_text, show_texts};

/// What `ringsocks check` prints: every key with its effective value, users by name only.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut current = "";
        for key in KEYS {
            let (table, name) = key.split();
            if table != current {
                writeln!(f, "\n[{table}]")?;
                current = table;
            }
            match &key.form {
                Form::Users => self.show_users(f)?,
                Form::Groups => self.show_groups(f)?,
                Form::Listen => self.show_listeners(f)?,
                Form::Value { show, .. } => match show(self) {
                    Shown::Value(value) => writeln!(f, "{name} = {value}")?,
                    Shown::Unset(meaning) => writeln!(f, "# {name}: {meaning}")?,
                },
            }
        }
        Ok(())
    }
}

impl Config {
    fn show_users(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.users.keys().map(|name| format!("{} = \"***\"", show_text(name)));
        writeln!(f, "users = {}", show_table(names))
    }

    fn show_groups(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |(name, members): (&String, &Vec<_>)| {
            format!("{} = {}", show_text(name), show_texts(members))
        };
        writeln!(f, "groups = {}", show_table(self.groups.iter().map(show)))
    }

    fn show_listeners(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for listen in &self.listen {
            let sockets: Vec<_> =
                listen.address.sockets().map(|(socket, _)| socket.to_string()).collect();
            writeln!(f, "\n[[listen]]")?;
            writeln!(f, "address = \"{}\" # {}", listen.address, sockets.join(" and "))?;
            match listen.clients.is_empty() {
                true => writeln!(f, "clients = [] # everyone who can reach it")?,
                false => writeln!(f, "clients = {}", show_list(&listen.clients))?,
            }
            match &listen.targets {
                Some(targets) => writeln!(f, "targets = {}", show_list(targets))?,
                None => writeln!(f, "# targets: everything from this host, public from others")?,
            }
            match &listen.commands {
                Some(commands) => {
                    let words: Vec<_> = commands.iter().map(|command| command.word()).collect();
                    writeln!(f, "commands = {}", show_list(&words))?;
                }
                None => writeln!(f, "# commands: everything over loopback, connect from others")?,
            }
            match &listen.auth {
                Some(rules) => {
                    let rules: Vec<_> = rules.iter().map(ToString::to_string).collect();
                    writeln!(f, "auth = [{}]", rules.join(", "))?;
                }
                None => writeln!(f, "# auth: {}", self.methods(listen))?,
            }
        }
        Ok(())
    }
}

fn show_table(entries: impl Iterator<Item = String>) -> String {
    let entries: Vec<_> = entries.collect();
    match entries.is_empty() {
        true => "{}".to_owned(),
        false => format!("{{ {} }}", entries.join(", ")),
    }
}
