//! The floor for whoever relays datagrams: one that receives and sends them in batches, and does
//! nothing else. No header, nobody who may not, no time that runs out.
//!
//! As with SOCKS a client has a socket of its own, which it is told on a connection, and another one
//! beside it for all destinations, which is why that is not connected to the only one there is.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream, UdpSocket};
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;

use crate::datagrams::{self, BATCH, Inbox, LONGEST};
use crate::limits;

const LISTENER: Token = Token(usize::MAX);
/// How long a client may take to ask.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks a forwarder for a way to `target`: the port that it is given.
pub fn ask(control: &mut std::net::TcpStream, target: SocketAddrV4) -> io::Result<u16> {
    let mut request = [0; 6];
    request[..4].copy_from_slice(&target.ip().octets());
    request[4..].copy_from_slice(&target.port().to_be_bytes());
    control.write_all(&request)?;
    let mut port = [0; 2];
    control.read_exact(&mut port)?;
    Ok(u16::from_be_bytes(port))
}

/// Forwards for everybody who asks at this address, without end.
pub fn serve(address: SocketAddr) -> io::Result<()> {
    limits::raise_open_files()?;
    run(TcpListener::bind(address)?)
}

fn run(mut listener: TcpListener) -> io::Result<()> {
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut pairs = Slab::new();
    let mut inbox = Inbox::new(LONGEST, BATCH);
    let mut events = Events::with_capacity(1024);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in events.iter() {
            match event.token() {
                LISTENER => accept(&listener, poll.registry(), &mut pairs)?,
                Token(token) => forward(&mut pairs, token, &mut inbox)?,
            }
        }
    }
}

/// A client's two sockets, and what it asked with.
struct Pair {
    client: UdpSocket,
    /// It has sent something, and so is known.
    is_connected: bool,
    outside: UdpSocket,
    target: SocketAddrV4,
    control: TcpStream,
}

/// Which of a pair's sockets an event is of.
const CLIENT: usize = 0;
const OUTSIDE: usize = 1;
const CONTROL: usize = 2;
const SOCKETS: usize = 3;

fn accept(listener: &TcpListener, registry: &Registry, pairs: &mut Slab<Pair>) -> io::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        // One that asks for nothing, to see whether we are there, is no pair.
        if let Ok(mut pair) = Pair::open(stream.into()) {
            let entry = pairs.vacant_entry();
            let token = |socket| Token(entry.key() * SOCKETS + socket);
            registry.register(&mut pair.client, token(CLIENT), Interest::READABLE)?;
            registry.register(&mut pair.outside, token(OUTSIDE), Interest::READABLE)?;
            registry.register(&mut pair.control, token(CONTROL), Interest::READABLE)?;
            entry.insert(pair);
        }
    }
}

fn forward(pairs: &mut Slab<Pair>, token: usize, inbox: &mut Inbox) -> io::Result<()> {
    let (key, socket) = (token / SOCKETS, token % SOCKETS);
    let Some(pair) = pairs.get_mut(key) else { return Ok(()) };
    match socket {
        CLIENT => pair.forward_out(inbox),
        OUTSIDE => pair.forward_back(inbox),
        // It says nothing more but that it has ended.
        _ => {
            pairs.remove(key);
            Ok(())
        }
    }
}

impl Pair {
    fn open(mut stream: std::net::TcpStream) -> io::Result<Pair> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut request = [0; 6];
        stream.read_exact(&mut request)?;
        let [a, b, c, d, high, low] = request;
        let target = SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]));
        let client = datagrams::bind(SocketAddr::new(stream.local_addr()?.ip(), 0))?;
        let outside = datagrams::bind((Ipv4Addr::UNSPECIFIED, 0).into())?;
        stream.write_all(&client.local_addr()?.port().to_be_bytes())?;
        stream.set_nonblocking(true)?;
        let control = TcpStream::from_std(stream);
        Ok(Pair { client, is_connected: false, outside, target, control })
    }

    fn forward_out(&mut self, inbox: &mut Inbox) -> io::Result<()> {
        loop {
            let is_more = inbox.receive(&self.client)?;
            if !self.is_connected
                && let Some((_, from)) = inbox.iter().next()
            {
                self.client.connect(from.into())?;
                self.is_connected = true;
            }
            datagrams::send(&self.outside, inbox.iter().map(|(it, _)| (it, Some(self.target))))?;
            if !is_more {
                return Ok(());
            }
        }
    }

    fn forward_back(&mut self, inbox: &mut Inbox) -> io::Result<()> {
        loop {
            let is_more = inbox.receive(&self.outside)?;
            if self.is_connected {
                datagrams::send(&self.client, inbox.iter().map(|(it, _)| (it, None)))?;
            }
            if !is_more {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_is_sent_goes_there_and_back() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || run(listener));
        let origin = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        origin.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let SocketAddr::V4(target) = origin.local_addr().unwrap() else { unreachable!() };
        let mut control = std::net::TcpStream::connect(address).unwrap();
        let port = ask(&mut control, target).unwrap();
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.connect((address.ip(), port)).unwrap();
        for text in [&b"one"[..], b"", b"three"] {
            let mut room = [0; 16];
            client.send(text).unwrap();
            let (length, from) = origin.recv_from(&mut room).unwrap();
            assert_eq!(&room[..length], text);
            origin.send_to(&room[..length], from).unwrap();
            let length = client.recv(&mut room).unwrap();
            assert_eq!(&room[..length], text);
        }
    }
}
