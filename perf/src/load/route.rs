use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

use super::Way;
use super::handshake::{Command, Script};

/// EINPROGRESS.
const IN_PROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();

/// How one of the origin's ports is reached.
pub(super) struct Route {
    first_hop: SocketAddr,
    /// What is said to a SOCKS5 proxy there.
    pub(super) script: Option<Script>,
    /// Whether that says who we are.
    pub(super) logs_in: bool,
}

impl Route {
    pub(super) fn new(way: &Way, address: Ipv4Addr, port: u16) -> io::Result<Route> {
        let straight = |first_hop| Route { first_hop, script: None, logs_in: false };
        Ok(match way {
            Way::Direct => straight((address, port).into()),
            Way::Forward(to) if to.port() == 0 => straight((to.ip(), port).into()),
            Way::Forward(to) => straight(*to),
            Way::Socks5 { proxy, login, target } => {
                let address = SocketAddrV4::new(address, port);
                Route {
                    first_hop: *proxy,
                    script: Some(Script::new(Command::Connect, login.as_ref(), target, address)?),
                    logs_in: login.is_some(),
                }
            }
        })
    }

    /// A socket that is connected to the first hop, or about to be.
    pub(super) fn connect(&self) -> io::Result<TcpStream> {
        let socket = Socket::new(
            Domain::for_address(self.first_hop),
            Type::STREAM.nonblocking().cloexec(),
            Some(Protocol::TCP),
        )?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&self.first_hop.into()) {
            Err(error) if error.raw_os_error() != Some(IN_PROGRESS) => Err(error),
            _ => Ok(TcpStream::from_std(socket.into())),
        }
    }
}
