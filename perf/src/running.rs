//! Contenders that run: started alone, stopped whatever happens, an interrupt too.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{self, Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::contender::{Contender, Entrance, Manner, Program};
use crate::gauge::{self, Group};
use crate::origin::Ports;

/// How long a contender may take to listen, and to end when asked to.
const START_PATIENCE: Duration = Duration::from_secs(10);
const STOP_PATIENCE: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What must not outlive us. Whoever holds this starts a process or ends them all.
static STARTED: Mutex<Vec<Group>> = Mutex::new(Vec::new());

/// A contender that serves, until it is dropped.
pub struct Running {
    pub entrance: Entrance,
    /// Its processes; the origin alone needs none.
    pub group: Option<Group>,
    child: Option<Child>,
}

impl Running {
    /// Starts it, in a cgroup of its own if there can be one, and waits until it listens.
    pub fn start(
        contender: &Contender,
        manner: Manner,
        origin: Ports,
        folder: &Path,
    ) -> io::Result<Running> {
        let port = free_port()?;
        let entrance = contender.entrance(port);
        let mut running = match contender.command(manner, port, origin, folder)? {
            Some(command) => spawn(&command, contender, folder, entrance)?,
            None => Running { entrance, group: group_of_others(contender), child: None },
        };
        running.wait_until_it_serves(entrance.knock_at(origin), folder)?;
        Ok(running)
    }

    fn wait_until_it_serves(&mut self, address: SocketAddr, folder: &Path) -> io::Result<()> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            let refused = match TcpStream::connect_timeout(&address, START_PATIENCE) {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if let Some(status) = self.child.as_mut().and_then(|it| it.try_wait().ok().flatten()) {
                return Err(io::Error::other(format!("it ended: {status}{}", said(folder))));
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("{address} never listened: {refused}")));
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (Some(child), Some(group)) = (&mut self.child, &self.group) else { return };
        if let Err(error) = stop(child, group) {
            eprintln!("a contender does not end: {error}");
        }
        STARTED.lock().expect("no holder panics").retain(|it| it != group);
    }
}

/// Has something else ended as contenders are when we are told to end.
pub fn end_with_us(group: Group) {
    STARTED.lock().expect("no holder panics").push(group);
}

/// Ends every contender when we are told to end.
pub fn end_contenders_on_signals() -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    thread::spawn(move || {
        let Some(signal) = signals.forever().next() else { return };
        // Kept until the end: nothing is started any more.
        let started = STARTED.lock().unwrap_or_else(|it| it.into_inner());
        for group in started.iter() {
            if let Err(error) = kill(group) {
                eprintln!("a contender does not end: {error}");
            }
        }
        eprintln!("\ninterrupted; --resume goes on from here");
        process::exit(128 + signal);
    });
    Ok(())
}

fn spawn(
    command: &Command,
    contender: &Contender,
    folder: &Path,
    entrance: Entrance,
) -> io::Result<Running> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut started = STARTED.lock().expect("no holder panics");
    let cgroup = Group::cgroup(&format!("ringsocks-perf-{}-{number}", process::id()));
    let entering = cgroup.clone().unwrap_or(Group::Tree(0));
    let stderr = fs::File::create(folder.join("stderr"))?;
    let child = entering
        .command(&contender.cpus(), Path::new(command.get_program()))
        .args(command.get_args())
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // microsocks has no other way to be quiet, and writing to /dev/null costs the least.
        .stderr(if contender.program == Program::Microsocks {
            Stdio::null()
        } else {
            stderr.into()
        })
        .spawn()
        .inspect_err(|_| entering.remove())?;
    let group = cgroup.unwrap_or(Group::Tree(child.id()));
    started.push(group.clone());
    Ok(Running { entrance, group: Some(group), child: Some(child) })
}

fn group_of_others(contender: &Contender) -> Option<Group> {
    match &contender.program {
        Program::Peer(peer) => Some(Group::Tree(peer.pid)),
        _ => None,
    }
}

/// Asks first where that loses nobody: Dante's mother ends her children in order.
fn stop(child: &mut Child, group: &Group) -> io::Result<()> {
    if group.keeps_orphans() {
        gauge::signal(child.id(), Signal::TERM);
        let deadline = Instant::now() + STOP_PATIENCE;
        while Instant::now() < deadline && child.try_wait()?.is_none() {
            thread::sleep(LOOK_EVERY);
        }
    }
    kill(group)?;
    child.wait()?;
    Ok(())
}

/// Kills until none is left: one that forks meanwhile is met the next time.
fn kill(group: &Group) -> io::Result<()> {
    let deadline = Instant::now() + STOP_PATIENCE;
    loop {
        group.kill()?;
        let left = group.processes()?;
        if left.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("left: {left:?}")));
        }
        thread::sleep(LOOK_EVERY);
    }
    group.remove();
    Ok(())
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The first of what it wrote to stderr.
fn said(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("stderr")).unwrap_or_default();
    match text.lines().find(|line| !line.trim().is_empty()) {
        Some(line) => format!(", having said: {line}"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nowhere() -> Ports {
        Ports {
            address: Ipv4Addr::LOCALHOST,
            source: 1,
            sink: 1,
            echo: 1,
            datagrams: Default::default(),
        }
    }

    #[test]
    fn one_that_does_not_start_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let absent = Contender::ringsocks("absent", Path::new("/nonexistent/ringsocks"));
        let error = Running::start(&absent, Manner::default(), nowhere(), folder.path());
        let error = error.err().expect("it cannot run").to_string();
        assert!(error.contains("it ended"), "{error}");
    }

    #[test]
    fn what_was_started_is_gone_once_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 61 & sleep 62"]);
        let somebody = Contender::with("somebody", Program::Haproxy);
        let running = spawn(&command, &somebody, folder.path(), Entrance::Straight).unwrap();
        let group = running.group.clone().unwrap();
        let deadline = Instant::now() + START_PATIENCE;
        while group.processes().unwrap().len() < 3 {
            assert!(Instant::now() < deadline, "{:?}", group.processes());
            thread::sleep(LOOK_EVERY);
        }
        drop(running);
        // A cgroup can only be gone once all of its processes are.
        assert!(group.processes().map_or(true, |it| it.is_empty()), "{group:?} is left");
    }
}
