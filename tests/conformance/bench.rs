//! The server under test, and how a row talks to it.

use std::env;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::LazyLock;

use crate::support::origin::{self, ClosedPort, Origin};
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::{self, BIND, UDP_ASSOCIATE};
use crate::support::udp::{Association, UNSAID, UdpOrigin};

/// What a row asks of the server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Any server: the row logs in where it must.
    Anything,
    /// No authentication.
    Open,
    /// No authentication, and SOCKS4 spoken.
    Socks4,
    /// A user and a password.
    Users,
    /// BIND granted.
    Bind,
    /// UDP ASSOCIATE granted.
    Udp,
    /// An IPv6 loopback that the server and we share.
    V6,
    /// The same, and that the server is reached over it.
    V6Client,
    /// The server shares our loopback.
    Loopback,
    /// Our own binary, for what other servers rightly do otherwise.
    Ours,
}

impl Needs {
    fn wants_v6(&self) -> bool {
        matches!(self, Needs::V6 | Needs::V6Client)
    }

    fn wants_loopback(&self) -> bool {
        matches!(self, Needs::Loopback) || self.wants_v6()
    }
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
    pub(crate) fn for_needs(needs: &[Needs]) -> Result<Bench, String> {
        if needs.iter().any(Needs::wants_v6) && !origin::host_has_v6() {
            return Err("this host has no IPv6 loopback".into());
        }
        let bench = match &*AIMED_AT {
            Some(aim) => aim.bench(needs)?,
            None => Bench::own_for(needs),
        };
        if needs.iter().any(Needs::wants_loopback) && !bench.origin.is_loopback() {
            return Err("the server does not share our loopback".into());
        }
        Ok(bench)
    }

    /// Our own binary, where the server is that.
    pub(crate) fn own_server(&self) -> Option<&Server> {
        self.own.as_ref()
    }

    /// Our own binary with one user.
    pub(crate) fn own_with_user(uname: &str, passwd: &str) -> Bench {
        let login = format!("{uname}:{passwd}");
        // Rows fail to log in on purpose.
        let env = [("RINGSOCKS_PENALTY_FAILURE", "0")];
        let server = Server::start_with_env(&["-u", &login], &env);
        let login = Login { uname: uname.into(), passwd: passwd.into() };
        Bench::own(server, Some(login))
    }

    /// Does this with our own binary in such an environment, which gets everything back.
    #[track_caller]
    pub(crate) fn with_own(env: &[(&str, &str)], row: impl FnOnce(&Bench)) {
        let bench = Bench::own(Server::start_with_env(&[], env), None);
        let baseline = bench.own_server().map(Server::baseline);
        row(&bench);
        baseline.expect("the server is our own").assert_restored();
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
        self.negotiate(self.client())
    }

    /// As [`negotiated`](Self::negotiated), a client at this address of ours.
    pub(crate) fn negotiated_from(&self, ip: IpAddr) -> Peer {
        self.negotiate(Peer::connect_from((ip, 0).into(), self.address))
    }

    /// A client that has sent this request.
    pub(crate) fn requesting(&self, request: &[u8]) -> Peer {
        let client = self.negotiated();
        client.send(request);
        client
    }

    /// A client's association that does not say where its datagrams will come from.
    #[track_caller]
    pub(crate) fn associated(&self) -> Association {
        let unsaid = match self.address.ip().to_canonical() {
            IpAddr::V4(_) => UNSAID,
            IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        self.associated_by(&socks::request(UDP_ASSOCIATE, unsaid))
    }

    /// A client's association, asked for by this request.
    #[track_caller]
    pub(crate) fn associated_by(&self, request: &[u8]) -> Association {
        Association::granted(self.requesting(request))
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

    /// Where the server finds an origin of ours for datagrams.
    pub(crate) fn sees_udp(&self, origin: &UdpOrigin) -> SocketAddr {
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

    fn negotiate(&self, client: Peer) -> Peer {
        for (message, answer) in self.prologue() {
            client.send(&message);
            client.expect(&answer);
        }
        client
    }

    fn own_for(needs: &[Needs]) -> Bench {
        if needs.contains(&Needs::Users) {
            return Bench::own_with_user("alice", "canary-7f3a");
        }
        let args: &[&str] = match needs.contains(&Needs::V6Client) {
            true => &["--listen", "[::1]:0"],
            false => &[],
        };
        Bench::own(Server::start(args), None)
    }

    fn own(server: Server, login: Option<Login>) -> Bench {
        let address = server.address();
        Bench { address, login, origin: Ipv4Addr::LOCALHOST.into(), own: Some(server) }
    }

    /// Whether such a request is granted.
    fn grants(&self, command: u8, target: SocketAddr) -> bool {
        let client = self.requesting(&socks::request(command, target));
        client.read_at_most(2) == [5, 0]
    }

    /// Whether a SOCKS4 request for a port that refuses is answered.
    fn speaks_socks4(&self) -> bool {
        let IpAddr::V4(ip) = self.origin else { return false };
        let closed = ClosedPort::everywhere();
        let client = self.client();
        client.send(&socks::socks4(socks::CONNECT, ip.octets(), closed.port(), b"", None));
        matches!(client.read_to_end().bytes[..], [0, 0x5b, ..])
    }
}

/// A server somebody else runs.
struct Aim {
    address: SocketAddr,
    /// The same port at the IPv6 loopback, if the server listens there.
    v6_address: Option<SocketAddr>,
    login: Option<Login>,
    origin: IpAddr,
    speaks_socks4: bool,
    grants_bind: bool,
    grants_udp: bool,
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
        let bench = Bench { address, login, origin, own: None };
        Some(Aim {
            v6_address: v6_loopback_of(address),
            speaks_socks4: bench.login.is_none() && bench.speaks_socks4(),
            grants_bind: bench.grants(BIND, SocketAddr::new(origin, 1)),
            grants_udp: bench.grants(UDP_ASSOCIATE, UNSAID),
            address,
            login: bench.login,
            origin,
        })
    }

    fn bench(&self, needs: &[Needs]) -> Result<Bench, String> {
        if let Some(reason) = needs.iter().find_map(|&need| self.lacks(need)) {
            return Err(reason.into());
        }
        let address = match needs.contains(&Needs::V6Client) {
            true => self.v6_address.expect("what the server lacks has been looked at"),
            false => self.address,
        };
        Ok(Bench { address, login: self.login.clone(), origin: self.origin, own: None })
    }

    fn lacks(&self, need: Needs) -> Option<&'static str> {
        match need {
            Needs::Ours => Some("says something about our own binary"),
            Needs::Users if self.login.is_none() => {
                Some("needs RINGSOCKS_CONFORMANCE_USER and _PASSWORD")
            }
            Needs::Open | Needs::Socks4 if self.login.is_some() => {
                Some("the server requires a password")
            }
            Needs::Socks4 if !self.speaks_socks4 => Some("the server does not speak SOCKS4"),
            Needs::Bind if !self.grants_bind => Some("the server does not grant BIND"),
            Needs::Udp if !self.grants_udp => Some("the server does not grant UDP ASSOCIATE"),
            Needs::V6Client if self.v6_address.is_none() => {
                Some("the server does not listen on the IPv6 loopback")
            }
            _ => None,
        }
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(format!("RINGSOCKS_CONFORMANCE_{name}")).ok()
}

fn v6_loopback_of(server: SocketAddr) -> Option<SocketAddr> {
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, server.port()));
    let listens = server.ip().is_loopback() && TcpStream::connect(address).is_ok();
    listens.then_some(address)
}
