//! Ports where peers may connect to the gateway (BIND), and the peers that do.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use ringsocks::config::Advertise;
use ringsocks::proto::canonical;
use ringsocks::token::{Role, Token};

use crate::counts::Event;
use crate::script::{Asked, Dialect, Fate, Whom};
use crate::socket::SimSocket;
use crate::tcp::{Connection, OURS};
use crate::world::{Happening, World};

/// Whom the kernel keeps until they are accepted.
const BACKLOG: usize = 24;

/// What the house has to give to those who wait for a peer.
#[derive(Default)]
pub(crate) struct Harbour {
    pub(crate) advertise: Advertise,
    /// How many ports of either family there are; none: as many as the kernel has.
    pub(crate) ports_max: Option<usize>,
    /// How many one client may have. All lives of a family are one client's.
    pub(crate) per_client: Option<usize>,
    /// Whether a route is missing now and then.
    pub(crate) is_remote: bool,
    /// Whether there is a descriptor beside those that come with sessions.
    pub(crate) is_crowded: bool,
    pub(crate) quays: Vec<Quay>,
    /// How many came whom nobody expected, and were accepted to be closed.
    pub(crate) strangers: u64,
}

/// A listening socket.
pub(crate) struct Quay {
    life: usize,
    pub(crate) own: SocketAddr,
    pub(crate) token: Token,
    pub(crate) since: u64,
    /// Those who have come and were not accepted.
    pub(crate) queue: VecDeque<usize>,
    pub(crate) edge: bool,
    pub(crate) is_open: bool,
    /// When somebody last was not accepted for want of something.
    pub(crate) short_at: Option<u64>,
}

/// The gateway's hold of a listening socket; dropping it closes it.
pub(crate) struct SimListener {
    world: Rc<RefCell<World>>,
    quay: usize,
}

impl SimListener {
    pub(crate) fn new(
        world: &Rc<RefCell<World>>,
        address: SocketAddr,
        token: Token,
    ) -> io::Result<(SimListener, u16)> {
        let (quay, port) = world.borrow_mut().listen(address, token)?;
        Ok((SimListener { world: Rc::clone(world), quay }, port))
    }

    pub(crate) fn accept(&mut self) -> io::Result<(SimSocket, SocketAddr)> {
        let (link, address) = self.world.borrow_mut().accept(self.quay)?;
        Ok((SimSocket::unwatched(&self.world, link), address))
    }
}

impl Drop for SimListener {
    /// The kernel resets whom nobody accepted.
    fn drop(&mut self) {
        let world = &mut *self.world.borrow_mut();
        let quay = &mut world.harbour.quays[self.quay];
        quay.is_open = false;
        for link in mem::take(&mut quay.queue) {
            world.links[link].tcp.reset_on_close(OURS);
            world.links[link].sent_reset |= world.links[link].tcp.close(OURS);
        }
        world.note("no longer listens", self.quay, 0);
    }
}

impl World {
    /// The address of ours that packets to `ip` leave from.
    pub(super) fn source_towards(&mut self, ip: IpAddr) -> io::Result<SocketAddr> {
        if self.harbour.is_remote && self.random.once_in(4) {
            self.count(Event::NoRoute);
            return Err(io::Error::from_raw_os_error(libc::ENETUNREACH));
        }
        Ok(SocketAddr::new(source(ip), 9))
    }

    fn listen(&mut self, address: SocketAddr, token: Token) -> io::Result<(usize, u16)> {
        assert_eq!(token.role(), Some(Role::BindListener));
        let index = self.owners[&token.slot()];
        self.check_may_listen(index, address);
        if self.random.once_in(10) {
            self.count(Event::PortInUse);
            self.lives[index].ports_in_use += 1;
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        if self.random.once_in(30) {
            self.lives[index].listen_failed = true;
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let port = match address.port() {
            0 => 50_000 + self.random.below(6) as u16,
            port => port,
        };
        let own = SocketAddr::new(address.ip(), port);
        if self.harbour.quays.iter().any(|it| it.is_open && it.own.port() == port) {
            self.count(Event::PortIsOurs);
            self.lives[index].ports_in_use += 1;
        }
        let quay = self.harbour.quays.len();
        let (life, since) = (index, self.now);
        let (queue, edge, is_open, short_at) = (VecDeque::new(), false, true, None);
        let it = Quay { life, own, token, since, queue, edge, is_open, short_at };
        self.harbour.quays.push(it);
        self.lives[index].quay = Some(quay);
        self.note("listens", index, port.into());
        for (target, visit) in self.lives[index].script.targets.iter().enumerate() {
            if let Fate::Comes(after) = visit.fate {
                self.happened += 1;
                let key = (self.now + after, self.happened);
                self.happenings.insert(key, Happening::Visit { quay, target });
            }
        }
        Ok((quay, port))
    }

    fn check_may_listen(&self, index: usize, address: SocketAddr) {
        let life = &self.lives[index];
        let Asked::Bind { whom } = life.script.request else { panic!("nobody asked for that") };
        assert!(life.heard >= life.script.request_end, "life {index}: it listens too early");
        let per_client = self.harbour.per_client;
        let held = self.ports_held(life.script.own.is_ipv4());
        assert!(per_client.is_none_or(|max| held < max), "life {index}: one too many");
        let found_at = life.script.own.ip();
        let right = match whom {
            Whom::Anyone => address.ip() == found_at,
            Whom::Address | Whom::Name => {
                assert!(life.is_met(self.now), "life {index}: it listens before it knows for whom");
                let nearest = life.nearest().expect("somebody it may wait for");
                let is_lost = self.harbour.is_remote && found_at.is_ipv4() == nearest.is_ipv4();
                address.ip() == source(nearest) || is_lost && address.ip() == found_at
            }
        };
        assert!(right, "life {index}: it listens at {address}");
        let is_told = address.is_ipv4() || life.script.dialect == Dialect::Socks5;
        assert!(is_told, "life {index}: SOCKS4 has no words for that");
    }

    /// How many ports the client of this family holds.
    fn ports_held(&self, is_v4: bool) -> usize {
        let is_its_own = |quay: &&Quay| self.lives[quay.life].script.own.is_ipv4() == is_v4;
        self.harbour.quays.iter().filter(|quay| quay.is_open).filter(is_its_own).count()
    }

    /// Whether this life has a port now, or why it cannot have one.
    pub(crate) fn note_port(&mut self, index: usize) {
        if !self.lives[index].script.is_bind() || self.lives[index].had_port {
            return;
        }
        if self.lives[index].quay.is_some_and(|quay| self.harbour.quays[quay].is_open) {
            self.lives[index].had_port = true;
            return;
        }
        let open = |quay: &&Quay| quay.is_open && quay.life != index;
        let held = self.ports_held(self.lives[index].script.own.is_ipv4());
        let of_family = |is_v4: bool| {
            let ours = |quay: &&Quay| open(quay) && quay.own.is_ipv4() == is_v4;
            self.harbour.quays.iter().filter(ours).count()
        };
        let most = of_family(true).max(of_family(false)) + self.lives[index].ports_in_use;
        let tried = self.harbour.ports_max.unwrap_or(16);
        let life = &mut self.lives[index];
        life.is_over_cap |= self.harbour.per_client.is_some_and(|max| held >= max);
        life.has_no_port |= most >= tried;
    }

    /// Somebody comes to the port, if it is there.
    pub(crate) fn visit(&mut self, quay: usize, target: usize) {
        let Quay { life, is_open, ref queue, .. } = self.harbour.quays[quay];
        if !is_open || queue.len() == BACKLOG {
            return self.count(Event::VisitInVain);
        }
        let plan = &self.lives[life].script.targets[target].plan;
        let (queues, abort) = (plan.queues, plan.abort);
        let link = self.link(Connection::new(queues), life, Some(target));
        self.links[link].local = Some(self.harbour.quays[quay].own);
        if let Some((after, reset)) = abort {
            self.at(self.now + after, Happening::Abort(link, reset));
        }
        self.note("comes", life, target);
        let quay = &mut self.harbour.quays[quay];
        quay.queue.push_back(link);
        quay.edge = true;
    }

    fn accept(&mut self, quay: usize) -> io::Result<(usize, SocketAddr)> {
        let refused = |errno| Err(io::Error::from_raw_os_error(errno));
        assert!(!self.harbour.is_crowded, "there is no descriptor left to accept with");
        if self.is_interrupted() {
            return refused(libc::EINTR);
        }
        if self.random.once_in(12) {
            self.count(Event::AcceptStarved);
            self.harbour.quays[quay].short_at = Some(self.now);
            let errnos = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
            return refused(self.random.pick(&errnos));
        }
        let Some(link) = self.harbour.quays[quay].queue.pop_front() else {
            return refused(libc::EAGAIN);
        };
        self.progress += 1;
        self.idle_calls = 0;
        if self.random.once_in(20) {
            self.count(Event::AcceptAborted);
            self.links[link].tcp.reset_on_close(OURS);
            self.links[link].sent_reset |= self.links[link].tcp.close(OURS);
            return refused(libc::ECONNABORTED);
        }
        let life = self.harbour.quays[quay].life;
        let target = self.links[link].target.expect("a visitor is one of the targets");
        let address = self.lives[life].script.targets[target].address;
        let is_welcome = self.lives[life].expects(address.ip());
        assert_eq!(self.lives[life].welcomed, None, "life {life}: a second peer");
        match is_welcome {
            true => self.lives[life].welcomed = Some(link),
            false => {
                self.count(Event::Stranger);
                self.harbour.strangers += 1;
            }
        }
        self.lives[life].attempts.push(link);
        self.note("accepted", life, target);
        Ok((link, address))
    }

    /// From now on a connection is reported of.
    pub(super) fn watch(&mut self, link: usize, token: Token) -> io::Result<()> {
        assert_eq!(token.role(), Some(Role::Target));
        let life = self.links[link].life;
        assert_eq!(self.lives[life].welcomed, Some(link), "life {life}: a stranger is let in");
        if self.random.once_in(20) {
            self.count(Event::WatchFailed);
            self.lives[life].welcomed = None;
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        self.links[link].token = Some(token);
        Ok(())
    }

    /// Whoever was accepted is kept or closed by the end of the turn.
    pub(crate) fn check_accepted(&self, index: usize) {
        let life = &self.lives[index];
        if !life.script.is_bind() {
            return;
        }
        let kept = life.attempts.iter().copied().find(|it| !self.links[*it].tcp.is_closed(OURS));
        assert!(kept.is_none() || kept == life.welcomed, "life {index}: a stranger stays");
        let open = life.quay.is_some_and(|quay| self.harbour.quays[quay].is_open);
        assert!(
            !open || life.welcomed.is_none(),
            "life {index}: a peer has come, others still may"
        );
    }

    /// What the client is told of the port, once there is one.
    pub(super) fn told(&self, index: usize) -> Option<SocketAddr> {
        let life = &self.lives[index];
        let quay = &self.harbour.quays[life.quay?];
        let Quay { own, is_open, .. } = *quay;
        if !is_open && !life.had_port {
            return None;
        }
        let outside: IpAddr = ADVERTISED[usize::from(own.is_ipv6())].parse().unwrap();
        let is_told = self.harbour.advertise != Advertise::default();
        Some(if is_told { SocketAddr::new(outside, own.port()) } else { own })
    }
}

/// What clients are told instead of our addresses, where it is configured.
pub(crate) const ADVERTISED: [&str; 2] = ["192.0.2.77", "2001:db8:77::77"];

/// Our address towards others of this family.
fn source(ip: IpAddr) -> IpAddr {
    match canonical(ip) {
        IpAddr::V4(_) => "198.51.100.7".parse().unwrap(),
        IpAddr::V6(_) => "2001:db8::7".parse().unwrap(),
    }
}
