//! Who is measured, and how each is told to serve: on loopback, on one CPU, without logs.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::load::{Target, Way};
use crate::origin::Ports;

/// Where contenders run, and where load and origin do.
pub const SERVER_CPU: usize = 1;
pub const LOAD_CPU: usize = 0;

/// The name that `/etc/hosts` has everywhere.
const LOCAL_NAME: &str = "localhost";

/// Dante asks the system for its users: this one is only known inside of its mount namespace. The
/// hash is the cheapest that crypt(3) knows, for relaying is compared, not hashing.
pub const USER: &str = "ringsocks_perf";
pub const PASSWORD: &str = "measure";
const PASSWORD_HASH: &str = "rs7XHDAhlogmg";

/// The same password as `ringsocks passwd` writes it.
pub const ARGON2_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$cmluZ3NvY2tzLXBlcmYtMQ$\
    yt+KIrG4eSYvCrX+BgjsX0IpNFTeiNblUqcjKaFSjz0";

/// Sessions that HAProxy is to hold: two descriptors each, of the 20,000 that it may be given.
const HAPROXY_SESSIONS: usize = 9_500;

/// Enough for whoever is held open, and none that the kernel gives to others.
const PORTS: &str = "10000-29999";

/// One that is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Contender {
    pub name: String,
    pub program: Program,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Program {
    Ringsocks {
        binary: PathBuf,
        reactors: usize,
        access_log: bool,
        /// Variables that count over those that every contender of ours has.
        settings: Vec<(String, String)>,
    },
    Dante,
    Microsocks,
    Haproxy,
    /// Our own that only forwards datagrams.
    Forwarder,
    /// No proxy: the client connects to the origin.
    Nobody,
    /// Somebody else's SOCKS server, running already.
    Peer(Peer),
}

/// `name=host:port,pid`
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    pub name: String,
    pub address: SocketAddr,
    pub pid: u32,
}

/// What a client asks of a contender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manner {
    pub cmd: Cmd,
    pub by_name: bool,
    pub with_password: bool,
}

/// The command of its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cmd {
    #[default]
    Connect,
    Bind,
    Associate,
}

/// Where a contender is reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Entrance {
    Straight,
    /// At this address a listener forwards to each of the origin's ports, by the same number if this
    /// has none.
    Forwarder(SocketAddr),
    Socks(SocketAddr),
}

impl Contender {
    pub fn ringsocks(name: &str, binary: &Path) -> Contender {
        Contender::ringsocks_with(name, binary, &[])
    }

    /// Ringsocks with settings of its own, such as `("RINGSOCKS_POLL", "spin")`.
    pub fn ringsocks_with(name: &str, binary: &Path, settings: &[(&str, &str)]) -> Contender {
        let settings = settings.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        let binary = binary.to_owned();
        let program = Program::Ringsocks { binary, reactors: 1, access_log: false, settings };
        Contender { name: name.to_owned(), program }
    }

    pub fn with(name: &str, program: Program) -> Contender {
        Contender { name: name.to_owned(), program }
    }

    /// Whether it knows the command, names, and passwords.
    pub fn speaks(&self, manner: Manner) -> bool {
        let plain = |cmd| manner == Manner { cmd, ..Manner::default() };
        match self.program {
            Program::Ringsocks { .. } | Program::Dante => true,
            Program::Microsocks => manner.cmd == Cmd::Connect,
            Program::Haproxy => plain(Cmd::Connect),
            Program::Forwarder => plain(Cmd::Associate),
            Program::Nobody => plain(Cmd::Connect) || plain(Cmd::Associate),
            Program::Peer(_) => !manner.with_password,
        }
    }

    /// Whether there is a process that works for it.
    pub fn is_proxy(&self) -> bool {
        self.program != Program::Nobody
    }

    /// The CPUs that it runs on, as taskset has them.
    pub fn cpus(&self) -> String {
        match self.program {
            Program::Ringsocks { reactors: 2.., .. } => format!("{LOAD_CPU},{SERVER_CPU}"),
            _ => SERVER_CPU.to_string(),
        }
    }

    /// What starts it, listening on `port` of 127.0.0.1; its files are written to `folder`.
    pub fn command(
        &self,
        manner: Manner,
        port: u16,
        origin: Ports,
        folder: &Path,
    ) -> io::Result<Option<Command>> {
        let command = match &self.program {
            Program::Ringsocks { binary, access_log, settings, .. } => {
                let mut command =
                    ringsocks(binary, &self.cpus(), *access_log, manner, port, folder);
                command.envs(settings.iter().map(|(name, value)| (name, value)));
                command
            }
            Program::Dante => dante(port, manner, folder)?,
            Program::Microsocks => microsocks(port, manner),
            Program::Haproxy => haproxy(origin, folder)?,
            Program::Forwarder => forwarder(port)?,
            Program::Nobody | Program::Peer(_) => return Ok(None),
        };
        Ok(Some(command))
    }

    /// Where it is reached once it runs.
    pub fn entrance(&self, port: u16) -> Entrance {
        match &self.program {
            Program::Nobody => Entrance::Straight,
            Program::Haproxy => Entrance::Forwarder(FORWARDER),
            Program::Forwarder => Entrance::Forwarder(local(port)),
            Program::Peer(peer) => Entrance::Socks(peer.address),
            _ => Entrance::Socks(local(port)),
        }
    }
}

/// HAProxy's listeners have the origin's port numbers, at an address of their own.
const FORWARDER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 3, 1)), 0);

impl Entrance {
    /// The way through it.
    pub fn way(self, manner: Manner) -> Way {
        match self {
            Entrance::Straight => Way::Direct,
            Entrance::Forwarder(address) => Way::Forward(address),
            Entrance::Socks(proxy) => Way::Socks5 {
                proxy,
                login: manner.with_password.then(|| (USER.to_owned(), PASSWORD.to_owned())),
                target: match manner.by_name {
                    true => Target::Name(LOCAL_NAME.to_owned()),
                    false => Target::Address,
                },
            },
        }
    }

    /// An address that answers once the contender serves.
    pub fn knock_at(self, origin: Ports) -> SocketAddr {
        match self {
            Entrance::Straight => SocketAddr::from((origin.address, origin.echo)),
            Entrance::Forwarder(address) if address.port() == 0 => {
                SocketAddr::new(address.ip(), origin.echo)
            }
            Entrance::Forwarder(address) => address,
            Entrance::Socks(address) => address,
        }
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn ringsocks(
    binary: &Path,
    cpus: &str,
    access_log: bool,
    manner: Manner,
    port: u16,
    folder: &Path,
) -> Command {
    let mut command = Command::new(binary);
    let log = folder.join("access.log");
    command.args(["--listen", &format!("127.0.0.1:{port}"), "--cpus", cpus]);
    command.env("RINGSOCKS_LOG", "error");
    // Whoever is still connected when a measurement has failed is not waited for.
    command.args(["--drain", "0s", "--access-log"]);
    command.arg(if access_log { log.as_os_str() } else { "off".as_ref() });
    if manner.with_password {
        command.env(format!("RINGSOCKS_USERS_{USER}"), format!("plain:{PASSWORD}"));
    }
    // Only those that need it: a build that does not know them yet is measured, too.
    match manner.cmd {
        Cmd::Connect => {}
        Cmd::Bind => drop(command.env("RINGSOCKS_BIND_PORTS", PORTS)),
        Cmd::Associate => drop(command.env("RINGSOCKS_UDP_PORTS", PORTS)),
    }
    command
}

fn forwarder(port: u16) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["forwarder", &local(port).to_string()]);
    Ok(command)
}

fn microsocks(port: u16, manner: Manner) -> Command {
    let mut command = Command::new("microsocks");
    command.args(["-i", "127.0.0.1", "-p", &port.to_string()]);
    if manner.with_password {
        command.args(["-u", USER, "-P", PASSWORD]);
    }
    command
}

fn dante(port: u16, manner: Manner, folder: &Path) -> io::Result<Command> {
    let method = if manner.with_password { "username" } else { "none" };
    let configuration = folder.join("danted.conf");
    fs::write(
        &configuration,
        format!(
            "logoutput: /dev/null\n\
             internal: 127.0.0.1 port = {port}\n\
             external: 127.0.0.1\n\
             clientmethod: none\n\
             socksmethod: {method}\n\
             user.privileged: root\n\
             user.unprivileged: nobody\n\
             client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n\
             socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n"
        ),
    )?;
    if !manner.with_password {
        let mut command = Command::new("danted");
        command.arg("-f").arg(configuration);
        return Ok(command);
    }
    let account = format!("{USER}:x:64999:65534::/nonexistent:/usr/sbin/nologin\n");
    let secret = format!("{USER}:{PASSWORD_HASH}:19000::::::\n");
    let passwd = with_line("/etc/passwd", &account, folder)?;
    let shadow = with_line("/etc/shadow", &secret, folder)?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c"]);
    command.arg(
        r#"mount --bind "$0" /etc/passwd && mount --bind "$1" /etc/shadow && exec danted -f "$2""#,
    );
    command.args([passwd, shadow, configuration]);
    Ok(command)
}

/// A copy of a file of the system with a line more, readable for root only.
fn with_line(file: &str, line: &str, folder: &Path) -> io::Result<PathBuf> {
    use std::os::unix::fs::OpenOptionsExt;
    let name = Path::new(file).file_name().expect("a file has a name");
    let copy = folder.join(name);
    let mut open = fs::OpenOptions::new();
    let mut written = open.write(true).create(true).truncate(true).mode(0o600).open(&copy)?;
    written.write_all(fs::read(file)?.as_slice())?;
    written.write_all(line.as_bytes())?;
    Ok(copy)
}

fn haproxy(origin: Ports, folder: &Path) -> io::Result<Command> {
    let configuration = folder.join("haproxy.cfg");
    fs::write(&configuration, haproxy_configuration(origin))?;
    let mut command = Command::new("haproxy");
    command.args(["-db", "-q", "-f"]).arg(configuration);
    Ok(command)
}

fn haproxy_configuration(origin: Ports) -> String {
    let mut text = format!(
        "global\n    maxconn {HAPROXY_SESSIONS}\n    nbthread 1\n\
         defaults\n    mode tcp\n    maxconn {HAPROXY_SESSIONS}\n    \
         timeout connect 10s\n    timeout client 2h\n    timeout server 2h\n"
    );
    for port in [origin.source, origin.sink, origin.echo] {
        text.push_str(&format!(
            "frontend in{port}\n    bind {}:{port}\n    default_backend out{port}\n\
             backend out{port}\n    server origin {}:{port}\n",
            FORWARDER.ip(),
            origin.address,
        ));
    }
    text
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Peer, String> {
        let wanted =
            || format!("`{text}` is not NAME=HOST:PORT,PID, such as hev=127.0.0.1:1081,99");
        let (name, rest) = text.split_once('=').ok_or_else(wanted)?;
        let (address, pid) = rest.rsplit_once(',').ok_or_else(wanted)?;
        let pid = pid.parse().ok().filter(|&it| it > 0).ok_or_else(wanted)?;
        let mut addresses = address.to_socket_addrs().map_err(|it| format!("{address}: {it}"))?;
        let address = addresses.next().ok_or_else(|| format!("{address} has no address"))?;
        match name {
            "" => Err(wanted()),
            _ => Ok(Peer { name: name.to_owned(), address, pid }),
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_peer_is_a_name_an_address_and_a_process() {
        let peer: Peer = "hev=127.0.0.1:1081,99".parse().unwrap();
        let expected = Peer {
            name: "hev".to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], 1081)),
            pid: 99,
        };
        assert_eq!(peer, expected);
        assert_eq!("six=[::1]:80,1".parse::<Peer>().unwrap().address.to_string(), "[::1]:80");
    }

    #[test]
    fn a_peer_that_is_none_is_told_what_one_looks_like() {
        for text in ["", "hev", "hev=1", "hev=127.0.0.1:1,0", "=127.0.0.1:1,1", "a=127.0.0.1:1,x"] {
            let error = text.parse::<Peer>().unwrap_err();
            assert!(error.contains("NAME=HOST:PORT,PID"), "{text}: {error}");
        }
        assert!("a=127.0.0.1:x,1".parse::<Peer>().is_err());
    }

    #[test]
    fn who_relays_no_datagrams_is_not_asked_to() {
        let names = |cmd| {
            let manner = Manner { cmd, ..Manner::default() };
            let everyone = [
                ("Dante", Program::Dante),
                ("microsocks", Program::Microsocks),
                ("HAProxy", Program::Haproxy),
                ("bare forwarder", Program::Forwarder),
                ("no proxy", Program::Nobody),
            ];
            let who = everyone.map(|(name, program)| Contender::with(name, program));
            who.into_iter().filter(|it| it.speaks(manner)).map(|it| it.name).collect::<Vec<_>>()
        };
        assert_eq!(names(Cmd::Connect), ["Dante", "microsocks", "HAProxy", "no proxy"]);
        assert_eq!(names(Cmd::Associate), ["Dante", "bare forwarder", "no proxy"]);
        assert_eq!(names(Cmd::Bind), ["Dante"]);
    }

    #[test]
    fn haproxy_forwards_to_every_port_of_the_origin() {
        let origin = Ports {
            address: Ipv4Addr::LOCALHOST,
            source: 11,
            sink: 22,
            echo: 33,
            datagrams: Default::default(),
        };
        let text = haproxy_configuration(origin);
        for port in [11, 22, 33] {
            assert!(text.contains(&format!("bind 127.0.3.1:{port}\n")), "{text}");
            assert!(text.contains(&format!("server origin 127.0.0.1:{port}\n")), "{text}");
        }
        assert!(!text.contains("log"), "{text}");
    }

    #[test]
    fn who_knows_no_socks_is_asked_for_no_name_and_no_password() {
        let plain = Manner::default();
        let named = Manner { by_name: true, ..plain };
        let locked = Manner { with_password: true, ..plain };
        let haproxy = Contender::with("HAProxy", Program::Haproxy);
        assert!(haproxy.speaks(plain) && !haproxy.speaks(named) && !haproxy.speaks(locked));
        let dante = Contender::with("Dante", Program::Dante);
        assert!(dante.speaks(plain) && dante.speaks(named) && dante.speaks(locked));
    }
}
