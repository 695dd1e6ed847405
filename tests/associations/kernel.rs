//! A model of datagram sockets as Linux has them.
//!
//! What it claims of filters, merged runs and errors is what `tests/kernel_facts.rs` finds in the
//! running kernel.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::rc::Rc;

use ringsocks::metrics::DropReason;
use ringsocks::relay::{DatagramSocket, Readiness};
use ringsocks::sys::{Batch, Outgoing};
use ringsocks::token::{Role, Token};

use crate::counts::Event;
use crate::naive::Naive;
use crate::opener::Opener;
use crate::script::{FIREWALLED, Script, UNROUTABLE};
use crate::sealer::Sealer;
use crate::secured::Secured;
use crate::world::{OWN, World};

/// The most datagrams that are merged, and that one message is cut into.
const SEGMENTS_MAX: usize = 64;
/// The most messages that a turn is long enough for if each is opened or sealed.
const SEALED_MESSAGES_MAX: usize = 8;
/// The most that one datagram over IPv4 carries, and over IPv6 but for jumbograms.
pub(crate) const DATAGRAM_MAX: [usize; 2] = [65_507, 65_527];

/// A bound socket.
pub(crate) struct Port {
    pub(crate) client: usize,
    pub(crate) own: SocketAddr,
    pub(crate) token: Token,
    is_inside: bool,
    queue: VecDeque<Queued>,
    /// How many had no room in the queue, and how many of those are known of.
    lost: u32,
    told_lost: u32,
    /// Who alone is let in: port 0 is any.
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) error: Option<i32>,
    pub(crate) edge: bool,
    /// When the kernel last had no memory to receive with.
    pub(crate) short_at: Option<u64>,
    pub(crate) is_open: bool,
}

struct Queued {
    source: SocketAddr,
    bytes: Vec<u8>,
    /// How many had been lost by then.
    lost: u32,
}

impl Port {
    /// Whether datagrams to this address come to it.
    pub(crate) fn is_at(&self, to: SocketAddr) -> bool {
        let is_same_host = match self.own.ip() {
            ip if ip.is_unspecified() => ip.is_ipv4() == to.is_ipv4() && OWN.contains(&to.ip()),
            ip => ip == to.ip(),
        };
        is_same_host && self.own.port() == to.port()
    }

    fn lets_in(&self, source: SocketAddr) -> bool {
        self.peer.is_none_or(|it| {
            it.ip() == source.ip() && (it.port() == 0 || it.port() == source.port())
        })
    }

    /// Whether a receive would find something.
    pub(crate) fn has_news(&self) -> bool {
        !self.queue.is_empty() || self.error.is_some()
    }

    /// Takes the pending edge and says what the poll reports with it.
    pub(crate) fn take_edge(&mut self) -> Readiness {
        self.edge = false;
        Readiness {
            readable: !self.queue.is_empty(),
            error: self.error.is_some(),
            ..Readiness::default()
        }
    }
}

/// The gateway's hold of a socket; dropping it closes it.
pub(crate) struct SimDatagrams {
    world: Rc<RefCell<World>>,
    port: usize,
}

impl SimDatagrams {
    pub(crate) fn bind(
        world: &Rc<RefCell<World>>,
        address: SocketAddr,
        token: Token,
    ) -> io::Result<(SimDatagrams, u16)> {
        let port = world.borrow_mut().bind_datagrams(address, token)?;
        let number = world.borrow().ports[port].own.port();
        Ok((SimDatagrams { world: Rc::clone(world), port }, number))
    }
}

impl DatagramSocket for SimDatagrams {
    fn connect(&mut self, peer: SocketAddr) -> io::Result<()> {
        self.world.borrow_mut().connect_datagrams(self.port, peer)
    }

    fn receive(&mut self, batch: &mut Batch, max: usize) -> io::Result<usize> {
        assert_eq!(batch.messages().len(), 0, "what was received is lost");
        self.world.borrow_mut().receive(self.port, batch, max)
    }

    fn send(&mut self, messages: &[Outgoing<'_>]) -> io::Result<usize> {
        self.world.borrow_mut().send(self.port, messages)
    }
}

impl Drop for SimDatagrams {
    fn drop(&mut self) {
        let world = &mut *self.world.borrow_mut();
        let Port { client, ref mut is_open, .. } = world.ports[self.port];
        *is_open = false;
        if !world.clients[client].is_associated {
            // It was ours already, at another address.
            (world.clients[client].inside, world.clients[client].naive) = (None, None);
        }
        for outside in &mut world.clients[client].outside {
            outside.take_if(|it| *it == self.port);
        }
        world.note("port closed", client, self.port);
    }
}

fn error<T>(errno: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(errno))
}

impl World {
    fn bind_datagrams(&mut self, address: SocketAddr, token: Token) -> io::Result<usize> {
        let client = self.owners[&token.slot()];
        let is_inside = match token.role() {
            Some(Role::UdpClient) => true,
            Some(Role::UdpV4) if address.ip().is_unspecified() && address.is_ipv4() => false,
            Some(Role::UdpV6) if address.ip().is_unspecified() && address.is_ipv6() => false,
            role => panic!("a {role:?} socket at {address}"),
        };
        match is_inside {
            true => self.may_bind_inside(client, address)?,
            false => {
                let has = self.clients[client].has_outside[usize::from(address.is_ipv6())];
                assert!(has, "there is no descriptor for it");
                assert_eq!(address.port(), 0, "the kernel chooses whence it sends");
            }
        }
        let own = SocketAddr::new(address.ip(), self.throw_port(address));
        let own = match address {
            SocketAddr::V6(mut it) => {
                it.set_port(own.port());
                it.into()
            }
            SocketAddr::V4(_) => own,
        };
        let index = self.ports.len();
        let slot = usize::from(own.is_ipv6());
        match is_inside {
            true => self.give_inside(client, index, own),
            false => self.clients[client].outside[slot] = Some(index),
        }
        self.ports.push(Port {
            client,
            own,
            token,
            is_inside,
            queue: VecDeque::new(),
            lost: 0,
            told_lost: 0,
            peer: None,
            error: None,
            edge: false,
            short_at: None,
            is_open: true,
        });
        self.note("port opened", client, own.port().into());
        if !is_inside {
            self.attract(outside_of(own));
        }
        Ok(index)
    }

    fn give_inside(&mut self, index: usize, port: usize, own: SocketAddr) {
        let is_other = |it: &Port| it.is_open && it.own.port() == own.port();
        let is_ours = self.ports.iter().any(|it| is_other(it) && it.own.is_ipv4() == own.is_ipv4());
        let client = &mut self.clients[index];
        client.ports_in_use += usize::from(is_ours);
        client.inside = Some(port);
        let Script { client: from, hint, ref secured, .. } = client.script;
        let sealed = client.sealer.as_ref().map_or(0, Sealer::number);
        let ours = secured.as_ref().and_then(Secured::our_end);
        let is_clear = secured.is_some() && ours.is_none();
        let opener = ours.map(|ours| Opener::new(ours, sealed));
        client.naive = Some(Naive::new(self.rules, (from.ip(), hint), opener, self.now));
        if is_clear {
            self.count(Event::Cleared);
        }
    }

    fn may_bind_inside(&mut self, client: usize, address: SocketAddr) -> io::Result<()> {
        assert_eq!(address.ip(), self.clients[client].script.own.ip(), "not where it found us");
        let (held, of_family) = self.ports_held(address.is_ipv4());
        assert!(self.house.per_client.is_none_or(|max| held[client] < max), "one too many");
        assert!(self.house.ports_max.is_none_or(|max| of_family < max), "one is given twice");
        if self.random.once_in(12) {
            self.count(Event::PortInUse);
            self.clients[client].ports_in_use += 1;
            return error(libc::EADDRINUSE);
        }
        if self.random.once_in(40) {
            self.clients[client].has_no_port = true;
            return error(libc::EMFILE);
        }
        Ok(())
    }

    /// How many ports each client's host has, and how many of a family are taken.
    pub(crate) fn ports_held(&self, is_v4: bool) -> (Vec<usize>, usize) {
        let inside = || self.ports.iter().filter(|it| it.is_open && it.is_inside);
        let network = |client: usize| {
            // What one host may be given.
            match self.clients[client].script.client.ip() {
                IpAddr::V4(ip) => u64::from(u32::from(ip)),
                IpAddr::V6(ip) => (u128::from(ip) >> 64) as u64,
            }
        };
        let of_host = |client| inside().filter(|it| network(it.client) == network(client)).count();
        let held = (0..self.clients.len()).map(of_host).collect();
        (held, inside().filter(|it| it.own.is_ipv4() == is_v4).count())
    }

    /// The port itself, or one that is free there. It may be one of ours at another address.
    fn throw_port(&mut self, address: SocketAddr) -> u16 {
        if address.port() != 0 {
            return address.port();
        }
        let is_taken = |port: u16| {
            let other = |it: &&Port| it.is_open && it.own.port() == port;
            let collides = |it: &Port| {
                let (one, two) = (it.own.ip(), address.ip());
                one == two || one.is_unspecified() || two.is_unspecified()
            };
            self.ports.iter().filter(other).any(collides)
        };
        let free: Vec<u16> = (50_000..50_100).filter(|port| !is_taken(*port)).take(8).collect();
        self.random.pick(&free)
    }

    fn connect_datagrams(&mut self, port: usize, peer: SocketAddr) -> io::Result<()> {
        assert!(self.ports[port].is_inside, "nobody answers but whom it is connected to");
        if self.fails() {
            self.count(Event::ConnectFailed);
            return error(libc::ENOMEM);
        }
        self.ports[port].peer = Some(peer);
        self.note("connects", port, peer.port().into());
        Ok(())
    }

    /// A datagram has come to a socket.
    pub(crate) fn queue(&mut self, port: usize, source: SocketAddr, bytes: Vec<u8>) {
        let queue_max = self.weather.queue_max;
        let port = &mut self.ports[port];
        if !port.lets_in(source) {
            return self.count(Event::FilteredByKernel);
        }
        if port.queue.len() >= queue_max {
            port.lost += 1;
            return self.count(Event::QueueOverflow);
        }
        port.queue.push_back(Queued { source, bytes, lost: port.lost });
        port.edge = true;
    }

    fn receive(&mut self, index: usize, batch: &mut Batch, max: usize) -> io::Result<usize> {
        let is_sealed = self.clients[self.ports[index].client].sealer.is_some();
        let most = if is_sealed { SEALED_MESSAGES_MAX } else { Batch::LEN_MAX };
        assert!((1..=most).contains(&max));
        self.mind_calls();
        if self.weather.is_starved || self.fails() {
            self.count(Event::ShortageReceiving);
            self.ports[index].short_at = Some(self.now);
            let errno = self.random.pick(&[libc::ENOMEM, libc::ENOBUFS]);
            return error(errno);
        }
        if let Some(errno) = self.ports[index].error.take() {
            self.count(Event::ErrorFromReceive);
            return error(errno);
        }
        if self.ports[index].queue.is_empty() {
            return error(libc::EAGAIN);
        }
        let (mut lost, mut n) = (0, 0);
        while n < max && !self.ports[index].queue.is_empty() {
            if n > 0 && self.ports[index].peer.is_some() && self.fails() {
                // What something sent before has met arrives just now.
                self.count(Event::ErrorAmidBatch);
                self.ports[index].error = Some(libc::ECONNREFUSED);
                self.ports[index].edge = true;
                break;
            }
            lost = lost.max(self.receive_message(index, batch));
            n += 1;
        }
        self.progress += n as u64;
        self.idle_calls = 0;
        if lost > 0 {
            batch.put_lost(lost);
        }
        self.note("receives", index, n);
        if n == Batch::LEN_MAX {
            self.count(Event::FullBatch);
        }
        let more = lost - lost.min(self.ports[index].told_lost);
        self.ports[index].told_lost += more;
        let client = self.ports[index].client;
        self.with_naive(client, |naive, _| naive.lose(more));
        Ok(n)
    }

    /// Receives one message, which may be a run. Says how many were lost before it.
    fn receive_message(&mut self, index: usize, batch: &mut Batch) -> u32 {
        let Port { client, is_inside, .. } = self.ports[index];
        let first = self.ports[index].queue.pop_front().expect("there is one");
        let (source, lost) = (first.source, first.lost);
        let mut run = vec![first.bytes];
        while self.ports[index].queue.front().is_some_and(|next| goes_on(&run, source, next))
            && !self.random.once_in(10)
        {
            run.extend(self.ports[index].queue.pop_front().map(|next| next.bytes));
        }
        let segment = (run.len() > 1).then(|| NonZeroU16::new(run[0].len() as u16)).flatten();
        if segment.is_some() {
            self.count(Event::MergedRun);
        }
        assert!(batch.put(source, &run.concat(), segment), "there is room for it");
        for bytes in run {
            self.with_naive(client, |naive, around| match is_inside {
                true => naive.hear_inside(around, source, &bytes),
                false => naive.hear_outside(around, source, &bytes),
            });
        }
        lost
    }

    fn send(&mut self, index: usize, messages: &[Outgoing<'_>]) -> io::Result<usize> {
        assert!((1..=Batch::LEN_MAX).contains(&messages.len()));
        self.mind_calls();
        let Port { client, peer, own, is_inside, is_open, .. } = self.ports[index];
        assert!(is_open && !self.clients[client].end_seen, "client {client} has gone");
        if let Some(errno) = self.ports[index].error.take() {
            // It tells of one that was sent before; of this nothing is known.
            self.count(Event::ErrorFromSend);
            return error(errno);
        }
        for (at, message) in messages.iter().enumerate() {
            let to = message.to.or(peer).expect("it is for somebody");
            assert!(to.port() != 0 && to.is_ipv4() == own.is_ipv4(), "it is for {to}");
            let datagrams = split(message);
            let is_lost = !is_inside && !self.has_way(to.ip());
            let lost = is_lost.then_some(libc::ENETUNREACH);
            let refused = lost.or_else(|| self.refusal(to, message, &datagrams));
            if at > 0 && (refused.is_some() || self.fails()) {
                self.count(Event::PartSent);
                return Ok(at);
            }
            if let Some(errno) = refused {
                self.note("refuses", index, errno as usize);
                self.note_refusal((client, !is_inside), to, &datagrams, errno);
                return error(errno);
            }
            self.take(index, to, datagrams);
        }
        self.note("sends", index, messages.len());
        Ok(messages.len())
    }

    /// Sends the datagrams of one message on their way.
    fn take(&mut self, index: usize, to: SocketAddr, datagrams: Vec<Vec<u8>>) {
        let Port { client, own, is_inside, .. } = self.ports[index];
        if datagrams.len() > 1 {
            self.count(Event::RunSent);
        }
        self.progress += datagrams.len() as u64;
        self.idle_calls = 0;
        let (now, from) = (self.now, if is_inside { own } else { outside_of(own) });
        for bytes in datagrams {
            self.with_naive(client, |naive, _| naive.note_sent(!is_inside, to, &bytes, now));
            if let Some(sealer) = self.clients[client].sealer.as_mut().filter(|_| is_inside) {
                sealer.hear(&bytes);
                self.count(Event::SealedDown);
            }
            self.dispatch(from, to, bytes);
        }
    }

    /// Why the kernel does not take a message, if it does not.
    fn refusal(
        &mut self,
        to: SocketAddr,
        message: &Outgoing<'_>,
        datagrams: &[Vec<u8>],
    ) -> Option<i32> {
        let longest = datagrams.iter().map(Vec::len).max().unwrap_or(0);
        let total: usize = datagrams.iter().map(Vec::len).sum();
        assert!(total <= 65_507 || message.segment.is_none(), "a run of {total} bytes");
        if let Some(segment) = message.segment {
            assert!(datagrams.len() <= SEGMENTS_MAX && datagrams.len() > 1, "a run that is none");
            match self.weather.segment_max {
                None => {
                    self.count(Event::NoRuns);
                    return Some(libc::EIO);
                }
                Some(max) if usize::from(segment.get()) > max => {
                    self.count(Event::RunTooLong);
                    return Some(if to.port() == 53 { libc::EMSGSIZE } else { libc::EINVAL });
                }
                Some(_) => {}
            }
        }
        if longest > DATAGRAM_MAX[usize::from(to.is_ipv6())] {
            return Some(libc::EMSGSIZE);
        }
        match to.ip() {
            UNROUTABLE => return Some(libc::ENETUNREACH),
            FIREWALLED => return Some(libc::EPERM),
            _ => {}
        }
        if self.fails() {
            return Some(self.random.pick(&[libc::EAGAIN, libc::EAGAIN, libc::ENOBUFS]));
        }
        None
    }

    fn note_refusal(
        &mut self,
        (client, goes_up): (usize, bool),
        to: SocketAddr,
        datagrams: &[Vec<u8>],
        errno: i32,
    ) {
        let reason = match errno {
            libc::EAGAIN => {
                self.count(Event::NoRoomToSend);
                self.with_naive(client, |naive, _| naive.note_no_room(goes_up, to.is_ipv4()));
                return;
            }
            // One by one they may go.
            libc::EIO | libc::EINVAL | libc::EMSGSIZE if datagrams.len() > 1 => return,
            libc::EMSGSIZE => DropReason::TooLarge,
            _ => DropReason::Unsent,
        };
        for bytes in datagrams {
            self.with_naive(client, |naive, _| naive.note_refused(goes_up, to, bytes, reason));
        }
    }

    pub(super) fn mind_calls(&mut self) {
        self.idle_calls += 1;
        assert!(self.idle_calls < 1000, "a session calls for ever");
    }
}

/// Whether the kernel might have merged this with what came before it.
fn goes_on(run: &[Vec<u8>], source: SocketAddr, next: &Queued) -> bool {
    let (first, last) = (run[0].len(), run[run.len() - 1].len());
    let total: usize = run.iter().map(Vec::len).sum();
    next.source == source
        && last == first
        && (1..=first).contains(&next.bytes.len())
        && run.len() < SEGMENTS_MAX
        && total + next.bytes.len() <= 65_507
}

fn split(message: &Outgoing<'_>) -> Vec<Vec<u8>> {
    let parts: Vec<&[u8]> = message.parts.iter().map(|part| &part[..]).collect();
    let bytes = parts.concat();
    match message.segment {
        Some(segment) => bytes.chunks(segment.get().into()).map(<[u8]>::to_vec).collect(),
        None => vec![bytes],
    }
}

/// Where packets from an outside socket come from.
fn outside_of(own: SocketAddr) -> SocketAddr {
    SocketAddr::new(OWN[3 + usize::from(own.is_ipv6())], own.port())
}
