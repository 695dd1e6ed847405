//! The gateway's way to the world: its clients' control connections, names, and datagram sockets.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;

use ringsocks::auth::Task;
use ringsocks::dns::{Answer, Asked};
use ringsocks::proto::{Name, canonical};
use ringsocks::relay::Socket;
use ringsocks::session::Net;
use ringsocks::sys;
use ringsocks::token::{Role, Token};

use crate::counts::Event;
use crate::kernel::SimDatagrams;
use crate::naive::Foreseen;
use crate::names::answer;
use crate::tcp::OURS;
use crate::world::{OWN, World};

/// The gateway's end of a control connection; dropping it closes it.
pub(crate) struct SimStream {
    pub(crate) world: Rc<RefCell<World>>,
    pub(crate) client: usize,
}

impl SimStream {
    fn receive(&mut self, max: usize, see: impl FnMut(&[u8])) -> io::Result<usize> {
        let world = &mut *self.world.borrow_mut();
        world.mind_calls();
        if world.fails() {
            world.clients[self.client].short_at = Some(world.now);
            let errno = world.random.pick(&[libc::EINTR, libc::ENOMEM]);
            return Err(io::Error::from_raw_os_error(errno));
        }
        let client = &mut world.clients[self.client];
        let result = client.tcp.recv(OURS, max, see);
        match result {
            Ok(0) => client.end_seen = true,
            Ok(n) => {
                client.heard += n;
                world.progress += n as u64;
                world.idle_calls = 0;
            }
            Err(libc::EAGAIN) => {}
            Err(_) => client.end_seen = true,
        }
        world.note("recv", self.client, result.map_or_else(|errno| errno as usize, |n| n + 1000));
        result.map_err(io::Error::from_raw_os_error)
    }
}

impl Socket for SimStream {
    fn recv(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let max = into.len();
        self.receive(max, |bytes| into[..bytes.len()].copy_from_slice(bytes))
    }

    fn peek(&mut self, _: &mut [u8]) -> io::Result<usize> {
        panic!("a control connection is not relayed")
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let world = &mut *self.world.borrow_mut();
        world.mind_calls();
        if world.fails() {
            world.clients[self.client].short_at = Some(world.now);
            let errno = world.random.pick(&[libc::EINTR, libc::ENOBUFS]);
            return Err(io::Error::from_raw_os_error(errno));
        }
        let result = world.clients[self.client].tcp.send(OURS, bytes);
        match result {
            Ok(n) => {
                if n < bytes.len() {
                    world.count(Event::ReplyBlocked);
                }
                world.note_said(self.client, &bytes[..n]);
                world.progress += n as u64;
                world.idle_calls = 0;
            }
            Err(libc::EAGAIN) => {}
            Err(_) => world.clients[self.client].end_seen = true,
        }
        world.note("send", self.client, result.map_or_else(|errno| errno as usize, |n| n + 1000));
        result.map_err(io::Error::from_raw_os_error)
    }

    fn discard(&mut self, max: usize) -> io::Result<usize> {
        self.receive(max, |_| {})
    }

    fn splice_in(&mut self, _: &sys::Pipe, _: usize) -> io::Result<usize> {
        panic!("a control connection is not relayed")
    }

    fn splice_out(&mut self, _: &sys::Pipe, _: usize) -> io::Result<usize> {
        panic!("a control connection is not relayed")
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let result = self.world.borrow_mut().clients[self.client].tcp.shutdown_write(OURS);
        result.map_err(io::Error::from_raw_os_error)
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        let client = &mut self.world.borrow_mut().clients[self.client];
        let error = client.tcp.take_error(OURS);
        client.end_seen |= error.is_some();
        Ok(error.map(io::Error::from_raw_os_error))
    }

    fn unacknowledged(&self) -> io::Result<usize> {
        Ok(self.world.borrow().clients[self.client].tcp.unacknowledged(OURS))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.world.borrow().clients[self.client].script.own)
    }

    fn reset_on_close(&mut self) {
        self.world.borrow_mut().clients[self.client].tcp.reset_on_close(OURS);
    }

    fn keep_alive(&mut self) {
        panic!("a client is looked after from the first")
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let world = &mut *self.world.borrow_mut();
        let client = &mut world.clients[self.client];
        let reset = client.tcp.close(OURS);
        client.was_reset = reset;
        world.note("close", self.client, usize::from(reset));
    }
}

/// The way from sessions to the world.
pub(crate) struct SimNet(pub(crate) Rc<RefCell<World>>);

/// Nobody asks for a port to connect to.
pub(crate) enum NoListener {}

impl Net for SimNet {
    type Socket = SimStream;
    type Listener = NoListener;
    type Datagrams = SimDatagrams;

    fn connect(&mut self, _: SocketAddr, _: Token) -> io::Result<SimStream> {
        panic!("nobody asks for a connection")
    }

    fn source_towards(&mut self, ip: IpAddr) -> io::Result<SocketAddr> {
        // Our sockets for IPv6 take IPv6 only.
        let is_mapped = ip != canonical(ip);
        if is_mapped || !self.0.borrow().has_way(ip) {
            self.0.borrow_mut().count(Event::NoWay);
            return Err(io::Error::from_raw_os_error(libc::ENETUNREACH));
        }
        let is_own = OWN.contains(&ip);
        let own = if is_own { ip } else { OWN[3 + usize::from(ip.is_ipv6())] };
        Ok(SocketAddr::new(own, 9))
    }

    fn listen(&mut self, _: SocketAddr, _: Token) -> io::Result<(NoListener, u16)> {
        panic!("nobody asks for a port to connect to")
    }

    fn accept(&mut self, listener: &mut NoListener) -> io::Result<(SimStream, SocketAddr)> {
        match *listener {}
    }

    fn watch(&mut self, _: &mut SimStream, _: Token) -> io::Result<()> {
        panic!("nobody was accepted")
    }

    fn bind_datagrams(
        &mut self,
        address: SocketAddr,
        token: Token,
    ) -> io::Result<(SimDatagrams, u16)> {
        SimDatagrams::bind(&self.0, address, token)
    }

    fn resolve(
        &mut self,
        name: &Name,
        _: IpAddr,
        token: Token,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Asked {
        let world = &mut *self.0.borrow_mut();
        assert_eq!(token.role(), Some(Role::DatagramAnswer));
        assert_eq!(now, world.instant());
        let due = world.rules.resolve.map(|it| world.instant_at(world.now + it));
        assert_eq!(deadline, due, "it waits too long or not long enough");
        let client = world.owners[&token.slot()];
        let (foreseen, what) = world.foreseen.pop_front().expect("nobody needs to know that");
        assert_eq!(name.as_str(), foreseen, "names are asked for in order");
        let asked = match what {
            Foreseen::Full => Asked::Full,
            Foreseen::Pending => {
                world.schedule_answer(client, &foreseen, token);
                Asked::Pending
            }
            Foreseen::Known(meaning, more) => {
                world.schedule_rest(client, &foreseen, token, 0);
                Asked::Known(answer(&meaning, more))
            }
        };
        world.count(match asked {
            Asked::Full => Event::ResolverFull,
            Asked::Pending => Event::NamePending,
            Asked::Known(_) => Event::NameKnown,
        });
        if asked.is_open() {
            world.clients[client].open.push((foreseen, token));
        }
        asked
    }

    fn known(&mut self, name: &Name, _: Instant) -> Option<Answer> {
        let zone = &self.0.borrow().zone;
        let meaning = zone.known(name.as_str())?;
        Some(answer(&meaning, zone.has_more(name.as_str())))
    }

    fn forget(&mut self, token: Token) {
        let world = &mut *self.0.borrow_mut();
        let open = &mut world.clients[world.owners[&token.slot()]].open;
        let at = open.iter().position(|(_, it)| *it == token);
        open.remove(at.expect("it forgets what it has not asked"));
        world.count(Event::Forgotten);
    }

    fn offload(
        &mut self,
        task: Task,
        client: IpAddr,
        token: Token,
        deadline: Option<Instant>,
    ) -> Result<(), Task> {
        let world = &mut *self.0.borrow_mut();
        let index = world.owners[&token.slot()];
        assert_eq!(client, world.clients[index].script.client.ip());
        assert!(deadline.is_some(), "it has no end");
        world.start_task(index, token, task);
        Ok(())
    }
}
