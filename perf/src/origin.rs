//! Whom everybody connects to in the end: a process of its own beside the generator, so that both
//! together may hold as many descriptors as two processes.

mod datagrams;
mod peer;
mod server;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};

pub use self::server::Server;
use crate::limits;

/// A byte from here on, as an echo connection's first, means: echo me and end this connection.
///
/// The origin ends a session so that no run runs out of ports: whoever sends the first FIN keeps
/// the connection's ports for a minute (TIME_WAIT). Of a connection to the origin that is the
/// origin, of one to a proxy the proxy, which passes the FIN on; both are the ends whose port is
/// the same for all. Generator and proxies get their own ports back at once.
pub const FAREWELL: u8 = 0x80;

/// What the sink answers to a stream with a wrong byte, instead of its length.
pub const SPOILT: u64 = u64::MAX;

/// Where the origin listens.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Ports {
    /// At this address.
    pub address: Ipv4Addr,
    /// Here it sends the pattern without end, at as many bytes a second as it is told first (8
    /// bytes, little endian; `u64::MAX` is as many as go).
    pub source: u16,
    /// Here it swallows the pattern, and at its end answers how long it was (8 bytes, little
    /// endian), or [`SPOILT`], at once, if it was another.
    pub sink: u16,
    /// Here it echoes; see [`FAREWELL`].
    pub echo: u16,
    /// Where it echoes datagrams.
    pub datagrams: DatagramPorts,
}

/// Where the origin echoes datagrams, at the same address.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct DatagramPorts {
    /// Here each by itself.
    pub echo: u16,
    /// Here those of equal length as runs.
    pub runs: u16,
}

/// Serves as the origin until standard input ends, after a line of JSON on standard output that
/// says where.
pub fn serve() -> io::Result<()> {
    limits::raise_open_files()?;
    let server = Server::bind()?;
    let waker = server.waker();
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", serde_json::to_string(&server.ports())?)?;
    stdout.flush()?;
    thread::Builder::new().name("stdin".into()).spawn(move || {
        // However it ends, nobody is there any more.
        let _ended = io::copy(&mut io::stdin().lock(), &mut io::sink());
        waker.wake()
    })?;
    server.run()
}

/// An origin in a process of its own, killed when dropped.
pub struct Origin {
    child: Child,
    ports: Ports,
}

impl Origin {
    /// Starts this program's `origin` on a CPU, and waits until it listens.
    pub fn start(cpu: usize) -> io::Result<Origin> {
        Origin::start_program(Command::new(std::env::current_exe()?).arg("origin"), cpu)
    }

    fn start_program(program: &mut Command, cpu: usize) -> io::Result<Origin> {
        let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let listening = pin(&child, cpu).and_then(|()| read_ports(&mut child));
        match listening {
            Ok(ports) => Ok(Origin { child, ports }),
            Err(error) => {
                end(&mut child);
                Err(io::Error::new(error.kind(), format!("the origin does not start: {error}")))
            }
        }
    }

    /// The process that it is.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub fn ports(&self) -> Ports {
        self.ports
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn pin(child: &Child, cpu: usize) -> io::Result<()> {
    let mut cpus = CpuSet::new();
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no CPU {cpu}")));
    }
    cpus.set(cpu);
    Ok(sched_setaffinity(Some(Pid::from_child(child)), &cpus)?)
}

/// A child that ends without a word closes its output, which ends this wait, too.
fn read_ports(child: &mut Child) -> io::Result<Ports> {
    let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let mut line = String::new();
    BufReader::new(stdout.take(1024)).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

fn end(child: &mut Child) {
    // It may have ended by itself.
    let _killed = child.kill();
    let _reaped = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_no_origin_is_an_error() {
        for wrong in ["true", "echo"] {
            let error = Origin::start_program(&mut Command::new(wrong), 0).err().unwrap();
            assert!(error.to_string().starts_with("the origin does not start"), "{error}");
        }
    }

    #[test]
    fn there_is_no_cpu_beyond_the_last() {
        let mut idle = Command::new("cat");
        assert!(Origin::start_program(&mut idle, CpuSet::MAX_CPU).is_err());
    }
}
