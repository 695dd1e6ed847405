use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use ipnet::IpNet;
use mio::Registry;
use mio::net::{TcpListener, TcpStream};
use socket2::{Protocol, SockFilter, SockRef, Socket, Type};

use crate::reactor::net::{keepalive, open_for_binding};
use crate::sys;
use crate::token::Token;

/// How many clients may wait in each listener's queue.
pub const BACKLOG: i32 = 4096;

/// After so many ticks in which the queue did not get empty twice as many are accepted.
const TICKS_PER_DOUBLING: u32 = 4;

/// One reactor's share of a listening address.
pub struct Listener {
    /// Where clients find it.
    pub(super) address: SocketAddr,
    /// Which of all addresses that is.
    pub(super) number: u16,
    socket: TcpListener,
    /// Who may connect; empty: anybody.
    pub(super) clients: Arc<[IpNet]>,
    /// In how many ticks on end somebody was reported to wait in the queue.
    ticks_reported: u32,
    /// Whether this is one of them.
    is_reported: bool,
}

/// The sockets of one address, one a reactor; they take no clients yet.
pub struct Group {
    /// The address, with the port the kernel chose if it was asked to.
    pub address: SocketAddr,
    sockets: Vec<Socket>,
    /// Whether the first of them turns new clients away for now.
    turns_away: bool,
}

impl Group {
    /// Takes `address` for `reactors` sockets.
    ///
    /// Any process of the same user may join a group of SO_REUSEPORT sockets, unnoticed. So the
    /// first of them does not share when it takes the address, and does so by listening: that is
    /// when the kernel sees two that started at once. Unless `claimed`: we have taken an address
    /// that covers this one so already.
    pub fn take(address: SocketAddr, reactors: usize, claimed: bool) -> io::Result<Group> {
        let first = open(address)?;
        let turns_away = match turn_away_new_clients(&first) {
            // Some kernels let only the privileged do it. Then who comes now waits in the queue.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => false,
            done => done.map(|()| true)?,
        };
        if claimed {
            first.set_reuse_port(true)?;
        }
        first.bind(&address.into())?;
        first.listen(BACKLOG)?;
        first.set_reuse_port(true)?;
        let address = first.local_addr()?.as_socket().unwrap_or(address);
        let mut sockets = vec![first];
        while sockets.len() < reactors {
            let socket = open(address)?;
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            sockets.push(socket);
        }
        Ok(Group { address, sockets, turns_away })
    }

    /// Takes clients, and hands out a listener for each reactor; `number` is the address's. A socket
    /// that is bound but does not listen gets none, so take every address first.
    pub fn listen(self, number: u16, clients: &Arc<[IpNet]>) -> io::Result<Vec<Listener>> {
        let address = self.address;
        let (first, others) = self.sockets.split_at(1);
        for socket in others {
            socket.listen(BACKLOG)?;
        }
        for socket in first.iter().filter(|_| self.turns_away) {
            socket.detach_filter()?;
        }
        let listener = |socket: Socket| Listener {
            address,
            number,
            socket: TcpListener::from_std(socket.into()),
            clients: Arc::clone(clients),
            ticks_reported: 0,
            is_reported: false,
        };
        Ok(self.sockets.into_iter().map(listener).collect())
    }
}

impl Listener {
    /// How many are accepted at most before the sessions have their turn.
    pub(super) const BATCH_MAX: usize = 64;

    /// Watches the queue. It is reported in every tick for as long as somebody waits in it, so that
    /// nobody has to find out that it is empty: the accept that does costs more than most that do not.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let token = mio::Token::from(token).0 as u64;
        sys::watch_level(registry.as_raw_fd(), self.socket.as_fd(), token)
    }

    pub(super) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.is_reported = false;
        sys::unwatch(registry.as_raw_fd(), self.socket.as_fd())
    }

    /// Somebody waits in the queue.
    pub(super) fn handle_report(&mut self) {
        self.is_reported = true;
        self.ticks_reported = self.ticks_reported.saturating_add(1);
    }

    /// How many to accept in this tick: one if somebody was reported to wait, and ever more if the
    /// queue does not get empty.
    pub(super) fn batch(&mut self) -> usize {
        if !mem::take(&mut self.is_reported) {
            self.ticks_reported = 0;
            return 0;
        }
        1 << (self.ticks_reported / TICKS_PER_DOUBLING).min(Self::BATCH_MAX.ilog2())
    }

    /// Nobody waits in the queue any more.
    pub(super) fn handle_empty(&mut self) {
        self.ticks_reported = 0;
    }

    pub(super) fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.socket.accept()
    }

    pub(super) fn turn_away_new_clients(&self) -> io::Result<()> {
        turn_away_new_clients(&SockRef::from(&self.socket))
    }
}

/// Turns new clients away without resetting those that are in the queue or on their way to it:
/// drops each SYN, so that what has begun completes and nothing else begins.
fn turn_away_new_clients(socket: &Socket) -> io::Result<()> {
    const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const FLAGS_OFFSET: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    socket.attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS_OFFSET),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

/// A socket to listen with. Accepted sockets inherit its options.
fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = open_for_binding(address, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream as Client;
    use std::time::{Duration, Instant};

    use super::*;

    fn listeners(address: &str, reactors: usize) -> (SocketAddr, Vec<Listener>) {
        let group = Group::take(address.parse().unwrap(), reactors, false).unwrap();
        (group.address, group.listen(0, &Arc::from([])).unwrap())
    }

    #[test]
    fn accepted_clients_inherit_the_options() {
        let (address, listeners) = listeners("127.0.0.1:0", 2);
        for listener in &listeners {
            assert!(SockRef::from(&listener.socket).reuse_port().unwrap());
        }
        let _client = Client::connect(address).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let accepted = loop {
            assert!(Instant::now() < deadline, "nobody accepts");
            if let Some(Ok((accepted, _))) =
                listeners.iter().map(Listener::accept).find(Result::is_ok)
            {
                break accepted;
            }
        };
        let accepted = SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().unwrap() && accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        assert_eq!(accepted.linger().unwrap(), None);
    }

    #[test]
    fn a_queue_that_does_not_get_empty_is_served_ever_faster() {
        let mut listener = listeners("127.0.0.1:0", 1).1.remove(0);
        assert_eq!(listener.batch(), 0, "nobody waits");
        let mut crowd = || {
            listener.handle_report();
            listener.batch()
        };
        let batches: Vec<usize> = (0..40).map(|_| crowd()).collect();
        assert_eq!(batches[..8], [1, 1, 1, 2, 2, 2, 2, 4]);
        assert_eq!(batches[39], Listener::BATCH_MAX);
        listener.handle_empty();
        listener.handle_report();
        assert_eq!(listener.batch(), 1);
        assert_eq!(listener.batch(), 0);
    }

    #[test]
    #[ignore = "needs IPv6: tests/run"]
    fn a_v6_listener_is_for_v6_only() {
        let (address, listeners) = listeners("[::]:0", 1);
        assert!(SockRef::from(&listeners[0].socket).only_v6().unwrap());
        let v4 = SocketAddr::from(([127, 0, 0, 1], address.port()));
        assert!(Group::take(v4, 1, false).is_ok(), "the same port of IPv4 is free");
    }

    #[test]
    fn who_turns_new_clients_away_keeps_those_it_has() {
        let (address, listeners) = listeners("127.0.0.1:0", 1);
        let _queued = Client::connect(address).unwrap();
        listeners[0].turn_away_new_clients().unwrap();
        assert!(Client::connect_timeout(&address, Duration::from_millis(100)).is_err());
        assert!(listeners[0].accept().is_ok());
    }
}
