//! What would run: every effective value, in the shape of the file.

use std::fmt;

use super::Config;
use super::choice::Choice;
use super::schema::{Form, KEYS, Shown};
use super::value;

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
        if self.users.is_empty() {
            return writeln!(f, "users = {{}} # no password is asked for");
        }
        let names: Vec<_> =
            self.users.keys().map(|name| format!("{} = \"***\"", value::show_text(name))).collect();
        writeln!(f, "users = {{ {} }}", names.join(", "))
    }

    fn show_listeners(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for listen in &self.listen {
            let sockets: Vec<_> =
                listen.address.sockets().map(|(socket, _)| socket.to_string()).collect();
            writeln!(f, "\n[[listen]]")?;
            writeln!(f, "address = \"{}\" # {}", listen.address, sockets.join(" and "))?;
            match listen.clients.is_empty() {
                true => writeln!(f, "clients = [] # everyone who can reach it")?,
                false => writeln!(f, "clients = {}", value::show_list(&listen.clients))?,
            }
            match &listen.targets {
                Some(targets) => writeln!(f, "targets = {}", value::show_list(targets))?,
                None => writeln!(f, "# targets: everything from this host, public from others")?,
            }
            match &listen.commands {
                Some(commands) => {
                    let words: Vec<_> = commands.iter().map(|command| command.word()).collect();
                    writeln!(f, "commands = {}", value::show_list(&words))?;
                }
                None => writeln!(f, "# commands: everything over loopback, connect from others")?,
            }
        }
        Ok(())
    }
}
