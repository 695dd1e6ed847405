use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::Level;
use super::realm::{Realm, Tickets};

/// The interpreter that Debian's packages belong to, whatever else PATH has first.
const PYTHON: &str = "/usr/bin/python3";
const SCRIPT: &str = include_str!("client.py");

/// Clients of MIT's library, a process each: what one of them does the others do at the same time.
pub(super) struct Clients(Vec<Client>);

struct Client {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// How much they have done together, and how long the slowest of them took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Done {
    pub(super) units: u64,
    pub(super) seconds: f64,
}

impl Clients {
    pub(super) fn start(
        count: usize,
        proxy: SocketAddr,
        realm: &Realm,
        tickets: &Tickets,
    ) -> io::Result<Clients> {
        let start = |_| Client::start(proxy, realm, tickets);
        (0..count).map(start).collect::<io::Result<_>>().map(Clients)
    }

    pub(super) fn flow(&mut self, level: Level, port: u16) -> io::Result<Done> {
        self.command(&format!("flow {} {port}", level as u8))
    }

    pub(super) fn down(&mut self, seconds: f64) -> io::Result<Done> {
        self.command(&format!("down {seconds}"))
    }

    pub(super) fn up(&mut self, seconds: f64) -> io::Result<Done> {
        self.command(&format!("up {seconds}"))
    }

    pub(super) fn requests(&mut self, size: usize, seconds: f64) -> io::Result<Done> {
        self.command(&format!("requests {size} {seconds}"))
    }

    pub(super) fn end(&mut self) -> io::Result<Done> {
        self.command("end")
    }

    /// As many for each client, of `count` at least.
    pub(super) fn sessions(&mut self, level: Level, port: u16, count: usize) -> io::Result<Done> {
        let each = count.div_ceil(self.0.len());
        self.command(&format!("sessions {} {port} {each}", level as u8))
    }

    /// As many for each client, of `count` at least.
    pub(super) fn hold(&mut self, level: Level, port: u16, count: usize) -> io::Result<Done> {
        let each = count.div_ceil(self.0.len());
        self.command(&format!("hold {} {port} {each}", level as u8))
    }

    pub(super) fn release(&mut self) -> io::Result<Done> {
        self.command("release")
    }

    fn command(&mut self, command: &str) -> io::Result<Done> {
        for client in &mut self.0 {
            writeln!(client.commands, "{command}")?;
        }
        let mut together = Done { units: 0, seconds: 0.0 };
        for client in &mut self.0 {
            let done = client.answer(command)?;
            together.units += done.units;
            together.seconds = together.seconds.max(done.seconds);
        }
        Ok(together)
    }
}

impl Client {
    fn start(proxy: SocketAddr, realm: &Realm, tickets: &Tickets) -> io::Result<Client> {
        let mut child = Command::new(PYTHON)
            .args(["-c", SCRIPT, &proxy.port().to_string()])
            .env_clear()
            .envs(realm.env())
            .env("KRB5CCNAME", tickets.cache())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(commands), Some(stdout)) => {
                Ok(Client { child, commands, answers: BufReader::new(stdout) })
            }
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn answer(&mut self, command: &str) -> io::Result<Done> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Done::parse(&line).ok_or_else(|| io::Error::other(format!("{command}: a client has ended")))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended already.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Done {
    fn parse(line: &str) -> Option<Done> {
        let (units, seconds) = line.trim_end().split_once(' ')?;
        Some(Done { units: units.parse().ok()?, seconds: seconds.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_how_much_within_how_long() {
        assert_eq!(Done::parse("12 0.5\n"), Some(Done { units: 12, seconds: 0.5 }));
        for line in ["", "\n", "12\n", "x 0.5\n", "-1 0.5\n"] {
            assert_eq!(Done::parse(line), None, "{line:?}");
        }
    }
}
