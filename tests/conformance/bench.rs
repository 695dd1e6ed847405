//! The server under test, and how a row talks to it.

use std::env;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::LazyLock;

use crate::support::origin::{self, ClosedPort, Origin};
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks;

/// What a row asks of the server.
#[derive(Clone, Copy)]
pub(crate) enum Needs {
    /// Any server: the row logs in where it must.
    Anything,
    /// No authentication.
    Open,
    /// No authentication, and SOCKS4 spoken.
    Socks4,
    /// A user and a password.
    Users,
    /// An IPv6 loopback that the server and we share.
    V6,
    /// The server shares our loopback.
    Loopback,
    /// Our own binary, for what other servers rightly do otherwise.
    Ours,
}

/// A user and the password.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) uname: Vec<u8>,
    pub(crate) passwd: Vec<u8>,
}

/// One server under test.
pub(crate) struct Bench {
    pub(crate) address: SocketAddr,
    login: Option<Login>,
    /// Where the server finds what we listen on.
    origin: IpAddr,
    own: Option<Server>,
}

impl Bench {
    /// The server for such a row, or why there is none.
    pub(crate) fn for_needs(needs: Needs) -> Result<Bench, String> {
        let bench = match &*AIMED_AT {
            Some(aim) => aim.bench(needs)?,
            None => Bench::own_for(needs),
        };
        bench.check(needs)?;
        Ok(bench)
    }

    /// Our own binary, where the server is that.
    pub(crate) fn own_server(&self) -> Option<&Server> {
        self.own.as_ref()
    }

    /// Our own binary with one user.
    pub(crate) fn own_with_user(uname: &str, passwd: &str) -> Bench {
        let server = Server::start(&["-u", &format!("{uname}:{passwd}")]);
        let login = Login { uname: uname.into(), passwd: passwd.into() };
        Bench::own(server, Some(login))
    }

    /// The login of a server that has users.
    pub(crate) fn login(&self) -> &Login {
        self.login.as_ref().expect("the row needs users")
    }

    /// A client that has not said anything.
    pub(crate) fn client(&self) -> Peer {
        Peer::connect(self.address)
    }

    /// A client whose next message is the request.
    pub(crate) fn negotiated(&self) -> Peer {
        let client = self.client();
        for (message, answer) in self.prologue() {
            client.send(&message);
            client.expect(&answer);
        }
        client
    }

    /// A client that has sent this request.
    pub(crate) fn requesting(&self, request: &[u8]) -> Peer {
        let client = self.negotiated();
        client.send(request);
        client
    }

    /// The messages before the request, each with its answer.
    pub(crate) fn prologue(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        match &self.login {
            None => vec![(socks::greeting(&[0]), vec![5, 0])],
            Some(login) => vec![
                (socks::greeting(&[2]), vec![5, 2]),
                (socks::credentials(&login.uname, &login.passwd), vec![1, 0]),
            ],
        }
    }

    /// The prologue as it is sent and answered where nobody waits for an answer.
    pub(crate) fn pipelined_prologue(&self) -> (Vec<u8>, Vec<u8>) {
        let (messages, answers): (Vec<_>, Vec<_>) = self.prologue().into_iter().unzip();
        (messages.concat(), answers.concat())
    }

    /// Where the server finds an origin of ours.
    pub(crate) fn sees(&self, origin: &Origin) -> SocketAddr {
        SocketAddr::new(self.origin, origin.port())
    }

    /// Where the server finds a port of ours that refuses.
    pub(crate) fn sees_closed(&self, closed: &ClosedPort) -> SocketAddr {
        SocketAddr::new(self.origin, closed.port())
    }

    /// This host at any port, as the server sees it.
    pub(crate) fn host(&self) -> IpAddr {
        self.origin
    }

    /// A name for this host, as the server sees it.
    pub(crate) fn host_name(&self) -> String {
        match self.origin.is_loopback() {
            true => "localhost".to_owned(),
            false => self.origin.to_string(),
        }
    }

    fn own_for(needs: Needs) -> Bench {
        match needs {
            Needs::Users => Bench::own_with_user("alice", "secret"),
            _ => Bench::own(Server::start(&[]), None),
        }
    }

    fn own(server: Server, login: Option<Login>) -> Bench {
        let address = server.address();
        Bench { address, login, origin: Ipv4Addr::LOCALHOST.into(), own: Some(server) }
    }

    fn check(&self, needs: Needs) -> Result<(), String> {
        match needs {
            Needs::V6 if !origin::host_has_v6() => Err("this host has no IPv6 loopback".into()),
            Needs::V6 | Needs::Loopback if !self.origin.is_loopback() => {
                Err("the server does not share our loopback".into())
            }
            _ => Ok(()),
        }
    }
}

/// A server somebody else runs.
struct Aim {
    address: SocketAddr,
    login: Option<Login>,
    origin: IpAddr,
    speaks_socks4: bool,
}

static AIMED_AT: LazyLock<Option<Aim>> = LazyLock::new(Aim::from_environment);

impl Aim {
    fn from_environment() -> Option<Aim> {
        let target = variable("ADDR")?;
        let address = target
            .to_socket_addrs()
            .ok()
            .and_then(|mut addresses| addresses.next())
            .unwrap_or_else(|| panic!("RINGSOCKS_CONFORMANCE_ADDR={target}: want host:port"));
        let origin = variable("ORIGIN").map_or(Ipv4Addr::LOCALHOST.into(), |host| {
            host.parse().unwrap_or_else(|_| {
                panic!("RINGSOCKS_CONFORMANCE_ORIGIN={host}: want an IP address")
            })
        });
        let login = variable("USER").map(|uname| Login {
            uname: uname.into_bytes(),
            passwd: variable("PASSWORD").unwrap_or_default().into_bytes(),
        });
        let speaks_socks4 = login.is_none() && speaks_socks4(address, origin);
        Some(Aim { address, login, origin, speaks_socks4 })
    }

    fn bench(&self, needs: Needs) -> Result<Bench, String> {
        match needs {
            Needs::Ours => Err("says something about our own binary".into()),
            Needs::Users if self.login.is_none() => {
                Err("needs RINGSOCKS_CONFORMANCE_USER and _PASSWORD".into())
            }
            Needs::Open | Needs::Socks4 if self.login.is_some() => {
                Err("the server requires a password".into())
            }
            Needs::Socks4 if !self.speaks_socks4 => Err("the server does not speak SOCKS4".into()),
            _ => Ok(Bench {
                address: self.address,
                login: self.login.clone(),
                origin: self.origin,
                own: None,
            }),
        }
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(format!("RINGSOCKS_CONFORMANCE_{name}")).ok()
}

/// Whether the server answers a SOCKS4 request for a port that refuses.
fn speaks_socks4(address: SocketAddr, origin: IpAddr) -> bool {
    let IpAddr::V4(ip) = origin else { return false };
    let closed = ClosedPort::everywhere();
    let client = Peer::connect(address);
    client.send(&socks::socks4(socks::CONNECT, ip.octets(), closed.port(), b"", None));
    matches!(client.read_to_end().bytes[..], [0, 0x5b, ..])
}
