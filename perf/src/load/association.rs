use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

use mio::net::UdpSocket;
use socket2::SockRef;

use super::handshake::{Command, Handshake, Next, Say, Script};
use super::work::Failure;
use super::{Login, Target, Way};
use crate::pattern::Pattern;
use crate::stamp::Stamp;
use crate::{datagrams, forwarder};

/// How long an answer is waited for.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

const NOBODY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);

/// A way for datagrams to one address and back.
pub(super) struct Association {
    pub(super) socket: UdpSocket,
    /// What stands before each datagram, both ways.
    pub(super) header: Vec<u8>,
    /// What it lives with.
    control: Option<Control>,
}

/// A connection that keeps something open.
pub(super) struct Control(TcpStream);

impl Association {
    /// Opens one to `target`.
    pub(super) fn open(way: &Way, target: SocketAddrV4) -> io::Result<Association> {
        match way {
            Way::Direct => Association::new(target.into(), Vec::new(), None),
            Way::Forward(to) => {
                let mut control = Control::connect(*to)?;
                let port = forwarder::ask(&mut control.0, target)?;
                Association::new(SocketAddr::new(to.ip(), port), Vec::new(), Some(control))
            }
            Way::Socks5 { proxy, login, .. } => {
                let mut control = Control::connect(*proxy)?;
                let bound = control.request(Command::Associate, login.as_ref(), NOBODY)?;
                let ip = if bound.ip().is_unspecified() { proxy.ip() } else { bound.ip() };
                let first_hop = SocketAddr::new(ip, bound.port());
                Association::new(first_hop, header(target), Some(control))
            }
        }
    }

    fn new(
        first_hop: SocketAddr,
        header: Vec<u8>,
        control: Option<Control>,
    ) -> io::Result<Association> {
        let socket = datagrams::bind(NOBODY.into())?;
        socket.connect(first_hop)?;
        Ok(Association { socket, header, control })
    }

    /// Whether its end has been heard of.
    pub(super) fn has_ended(&self) -> bool {
        self.control.as_ref().is_some_and(Control::has_ended)
    }
}

impl Control {
    /// Asks a SOCKS5 proxy to wait for a connection from `target`.
    pub(super) fn bind(way: &Way, target: SocketAddrV4) -> io::Result<Control> {
        let Way::Socks5 { proxy, login, .. } = way else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "nobody to wait"));
        };
        let mut control = Control::connect(*proxy)?;
        control.request(Command::Bind, login.as_ref(), target)?;
        Ok(control)
    }

    fn connect(to: SocketAddr) -> io::Result<Control> {
        let stream = TcpStream::connect_timeout(&to, ANSWER_PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_PATIENCE))?;
        stream.set_write_timeout(Some(ANSWER_PATIENCE))?;
        // What it has kept open is no use to anybody after it.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        Ok(Control(stream))
    }

    /// What is bound for a request. Nothing that comes after the reply is read.
    fn request(
        &mut self,
        command: Command,
        login: Option<&Login>,
        address: SocketAddrV4,
    ) -> io::Result<SocketAddr> {
        let script = Script::new(command, login, &Target::Address, address)?;
        let mut handshake = Handshake::new();
        self.0.write_all(script.bytes(Say::Greeting))?;
        loop {
            let mut byte = [0];
            self.0.read_exact(&mut byte)?;
            let heard = handshake.hear(&byte, login.is_some());
            match heard.map_err(|it| io::Error::other(it.to_string()))?.1 {
                Next::Listen => {}
                Next::Say(say) => self.0.write_all(script.bytes(say))?,
                Next::Open => {
                    let bound = handshake.bound();
                    return bound.ok_or_else(|| io::Error::other("a name is bound, no address"));
                }
            }
        }
    }

    fn has_ended(&self) -> bool {
        let peeked = self.0.set_nonblocking(true).and_then(|()| self.0.peek(&mut [0]));
        !peeked.is_err_and(|it| it.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Which datagram it is, if it has come with this header and as long as it was.
pub(super) fn read_datagram(
    pattern: &Pattern,
    header: &[u8],
    size: usize,
    datagram: &[u8],
) -> Result<Stamp, Failure> {
    let data = datagram.strip_prefix(header).ok_or(Failure::Header)?;
    match data.len() == size {
        true => Ok(Stamp::read(pattern, data)?),
        false => Err(Failure::Cut),
    }
}

/// RFC 1928, section 7.
fn header(target: SocketAddrV4) -> Vec<u8> {
    let mut header = vec![0, 0, 0, 1];
    header.extend(target.ip().octets());
    header.extend(target.port().to_be_bytes());
    header
}
