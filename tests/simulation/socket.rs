//! The gateway's way to the world: sockets, connections, names.

use std::cell::RefCell;
use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ringsocks::auth::Task;
use ringsocks::dns::{Answer, Asked};
use ringsocks::proto::Name;
use ringsocks::relay::{DatagramSocket, Socket};
use ringsocks::session::Net;
use ringsocks::sys::{self, Batch, Outgoing};
use ringsocks::token::Token;

use crate::counts::Event;
use crate::life::Life;
use crate::listening::SimListener;
use crate::script::{Fate, Resolution};
use crate::tcp::{Connection, OURS};
use crate::world::{Happening, How, World};

/// As in the session, in microseconds.
pub(crate) const ATTEMPT_DELAY: u64 = 250_000;

/// The gateway's end of a connection; dropping it closes it.
pub(crate) struct SimSocket {
    world: Rc<RefCell<World>>,
    link: usize,
}

impl SimSocket {
    pub(crate) fn new(world: &Rc<RefCell<World>>, link: usize, token: Token) -> SimSocket {
        world.borrow_mut().links[link].token = Some(token);
        SimSocket { world: Rc::clone(world), link }
    }

    /// One of which nothing is reported yet.
    pub(crate) fn unwatched(world: &Rc<RefCell<World>>, link: usize) -> SimSocket {
        SimSocket { world: Rc::clone(world), link }
    }
}

impl SimSocket {
    /// The model takes what it has room for.
    fn offer(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let world = &mut *self.world.borrow_mut();
        let result = world.links[self.link].tcp.send(OURS, bytes);
        match result {
            Ok(n) => {
                world.progress += n as u64;
                world.notes_wrap(self.link, bytes, n);
                world.handle_sent(self.link, &bytes[..n]);
            }
            Err(libc::EAGAIN) => {}
            Err(errno) => {
                world.learn_fault(self.link, errno);
                world.count(if errno == libc::EPIPE {
                    Event::EpipeFromSend
                } else {
                    Event::ResetFromSend
                });
            }
        }
        world.note("send", self.link, result.map_or_else(|errno| errno as usize, |n| n + 1000));
        result.map_err(io::Error::from_raw_os_error)
    }
}

impl Socket for SimSocket {
    fn recv(&mut self, into: &mut [u8]) -> io::Result<usize> {
        assert!(!into.is_empty());
        let world = &mut *self.world.borrow_mut();
        world.recv(self.link, How::Receive, into.len(), |bytes| {
            into[..bytes.len()].copy_from_slice(bytes);
        })
    }

    fn peek(&mut self, into: &mut [u8]) -> io::Result<usize> {
        assert!(!into.is_empty());
        let world = &mut *self.world.borrow_mut();
        world.recv(self.link, How::Peek, into.len(), |bytes| {
            into[..bytes.len()].copy_from_slice(bytes);
        })
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(!bytes.is_empty());
        let taken = self.world.borrow_mut().room_for(self.link, bytes.len())?;
        self.offer(&bytes[..taken])
    }

    fn discard(&mut self, max: usize) -> io::Result<usize> {
        let world = &mut *self.world.borrow_mut();
        world.recv(self.link, How::Discard, max, |_| {})
    }

    fn splice_in(&mut self, pipe: &sys::Pipe, max: usize) -> io::Result<usize> {
        assert!(max > 0);
        self.world.borrow_mut().splice_in(self.link, pipe, max)
    }

    fn splice_out(&mut self, pipe: &sys::Pipe, max: usize) -> io::Result<usize> {
        assert!(max > 0);
        self.world.borrow_mut().check_may_splice(self.link);
        self.world.borrow_mut().refuse_splice()?;
        let room = self.world.borrow().links[self.link].tcp.room(OURS);
        if room == 0 {
            // It says why.
            return self.offer(&[0]);
        }
        let n = self.world.borrow_mut().random.between(1, room.min(max));
        let mut bytes = vec![0; n];
        pipe.read(&mut bytes)?;
        let sent = self.offer(&bytes)?;
        assert_eq!(sent, n, "the model takes as much as it has room for");
        Ok(n)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let world = &mut *self.world.borrow_mut();
        let result = world.links[self.link].tcp.shutdown_write(OURS);
        let now = world.now;
        let life = &mut world.lives[world.links[self.link].life];
        life.moved_at = now;
        if let (Ok(()), Some(target)) = (&result, life.granted) {
            let client = life.client.expect("a session has a client");
            let (other, event) = match self.link == target {
                true => (client, Event::HalfCloseUp),
                false => (target, Event::HalfCloseDown),
            };
            assert!(!world.links[other].tcp.is_finished(OURS), "closing sends the second FIN");
            world.count(event);
        }
        world.note("shutdown", self.link, usize::from(result.is_ok()));
        result.map_err(io::Error::from_raw_os_error)
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        let world = &mut *self.world.borrow_mut();
        let error = world.links[self.link].tcp.take_error(OURS);
        if let Some(errno) = error {
            world.learn_fault(self.link, errno);
            world.note("SO_ERROR", self.link, errno as usize);
            match errno {
                libc::EPIPE => world.count(Event::EpipeFromSoError),
                libc::ECONNRESET => world.count(Event::ResetFromSoError),
                _ => {}
            }
        }
        Ok(error.map(io::Error::from_raw_os_error))
    }

    fn unacknowledged(&self) -> io::Result<usize> {
        Ok(self.world.borrow().links[self.link].tcp.unacknowledged(OURS))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.world.borrow().local_addr(self.link))
    }

    fn reset_on_close(&mut self) {
        self.world.borrow_mut().links[self.link].tcp.reset_on_close(OURS);
    }

    fn keep_alive(&mut self) {
        let world = &mut *self.world.borrow_mut();
        let life = &mut world.lives[world.links[self.link].life];
        assert_eq!(
            life.granted,
            Some(self.link),
            "only a session's target is not yet looked after"
        );
        assert!(!mem::replace(&mut life.target_is_kept_alive, true), "it is looked after already");
        world.count(Event::KeptAlive);
        world.note("keep alive", self.link, 0);
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        let world = &mut *self.world.borrow_mut();
        let reset = world.links[self.link].tcp.close(OURS);
        world.note("close", self.link, usize::from(reset));
    }
}

/// The way from sessions to the world.
pub(crate) struct SimNet(pub(crate) Rc<RefCell<World>>);

/// The lives of this simulation ask for no datagrams.
pub(crate) struct NoDatagrams;

impl DatagramSocket for NoDatagrams {
    fn connect(&mut self, _: SocketAddr) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn receive(&mut self, _: &mut Batch, _: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn send(&mut self, _: &[Outgoing<'_>]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Net for SimNet {
    type Socket = SimSocket;
    type Listener = SimListener;
    type Datagrams = NoDatagrams;

    fn source_towards(&mut self, ip: IpAddr) -> io::Result<SocketAddr> {
        self.0.borrow_mut().source_towards(ip)
    }

    fn listen(&mut self, address: SocketAddr, token: Token) -> io::Result<(SimListener, u16)> {
        SimListener::new(&self.0, address, token)
    }

    fn accept(&mut self, listener: &mut SimListener) -> io::Result<(SimSocket, SocketAddr)> {
        listener.accept()
    }

    fn watch(&mut self, socket: &mut SimSocket, token: Token) -> io::Result<()> {
        self.0.borrow_mut().watch(socket.link, token)
    }

    fn bind_datagrams(&mut self, _: SocketAddr, _: Token) -> io::Result<(NoDatagrams, u16)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connect(&mut self, address: SocketAddr, token: Token) -> io::Result<SimSocket> {
        let link = self.0.borrow_mut().connect(address, token)?;
        Ok(SimSocket::new(&self.0, link, token))
    }

    fn resolve(
        &mut self,
        name: &Name,
        _: IpAddr,
        token: Token,
        deadline: Option<Instant>,
        _: Instant,
    ) -> Asked {
        assert_eq!(name.as_str(), "host.example");
        let world = &mut *self.0.borrow_mut();
        assert!(deadline.is_none_or(|at| at > world.instant()));
        let index = world.owners[&token.slot()];
        world.lives[index].asked = Some(token);
        world.lives[index].answer_due = deadline.map(|at| world.time_of(at));
        world.answer(index, token)
    }

    fn known(&mut self, _: &Name, _: Instant) -> Option<Answer> {
        None
    }

    fn forget(&mut self, token: Token) {
        let world = &mut *self.0.borrow_mut();
        let life = &mut world.lives[world.owners[&token.slot()]];
        assert_eq!(life.asked, Some(token), "it forgets what it has not asked");
        life.asked = None;
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
        let life = &world.lives[index];
        assert_eq!(client, life.script.client_address().ip());
        assert!(deadline.is_some(), "it has no end");
        assert_eq!(life.task, None, "life {index}: one thing at a time");
        if world.random.once_in(5) {
            world.count(Event::TaskRefused);
            world.lives[index].refused_at = Some(world.now);
            return Err(task);
        }
        world.start_task(index, token, task);
        Ok(())
    }
}

impl World {
    /// What comes of a task is told in a while.
    fn start_task(&mut self, index: usize, token: Token, task: Task) {
        let life = &mut self.lives[index];
        let client = life.script.client_address().ip();
        (life.task, life.refused_at) = (Some(token), None);
        life.contexts_asked += usize::from(matches!(task, Task::Token { .. }));
        let reported = Arc::new(Mutex::new(None));
        let report = Arc::clone(&reported);
        task.run(Box::new(move |done| *report.lock().unwrap() = Some(done)));
        let done = reported.lock().unwrap().take().expect("nobody else does the same");
        let soon = self.random.below(30_000) as u64;
        let after = self.random.pick(&[0, soon, soon, soon, soon, soon, 3_000_000, 9_999_000]);
        self.note("task", index, after as usize);
        self.at(self.now + after, Happening::Done { token, client, done });
    }

    pub(super) fn learn_fault(&mut self, link: usize, errno: i32) {
        self.links[link].fault_known = true;
        self.links[link].reset_known |= errno != libc::EPIPE;
        self.lives[self.links[link].life].broken_at = self.now;
    }

    /// The address of our end of a connection.
    pub(super) fn local_addr(&self, link: usize) -> SocketAddr {
        let life = &self.lives[self.links[link].life];
        match self.links[link].target {
            None => life.script.own,
            Some(_) if life.script.is_bind() => self.links[link].local.expect("it came to us"),
            Some(index) => {
                let target = &life.script.targets[index];
                let ip: IpAddr = match target.address.ip() {
                    _ if target.fate == Fate::Itself => return target.address,
                    IpAddr::V4(_) => "198.51.100.7".parse().unwrap(),
                    IpAddr::V6(_) => "2001:db8::7".parse().unwrap(),
                };
                SocketAddr::new(ip, 40_000 + index as u16)
            }
        }
    }

    /// How much of `offered` bytes is looked at by a send.
    fn room_for(&mut self, link: usize, offered: usize) -> io::Result<usize> {
        if self.is_interrupted() {
            return Err(io::Error::from_raw_os_error(libc::EINTR));
        }
        if !self.is_short_of_memory(link) {
            return Ok(offered);
        }
        self.count(Event::ShortageSending);
        match self.random.below(offered) {
            0 => {
                let errno = self.random.pick(&[libc::EAGAIN, libc::ENOBUFS]);
                Err(io::Error::from_raw_os_error(errno))
            }
            some => Ok(some),
        }
    }

    pub(super) fn is_short_of_memory(&mut self, link: usize) -> bool {
        let short = self.shortages && self.random.once_in(25);
        if short {
            self.links[link].short_at = Some(self.now);
        }
        short
    }

    pub(super) fn is_interrupted(&mut self) -> bool {
        self.idle_calls += 1;
        assert!(self.idle_calls < 1000, "a session calls for ever");
        let interrupted = self.random.once_in(40);
        if interrupted {
            self.count(Event::Interrupt);
        }
        interrupted
    }

    pub(super) fn notes_wrap(&mut self, link: usize, bytes: &[u8], taken: usize) {
        let start = bytes.as_ptr() as usize;
        if let Some((before, end)) = self.last_flush
            && before == link
            && start < end
        {
            self.count(Event::Wrap);
        }
        let whole = taken == bytes.len() && bytes.len() > 64;
        self.last_flush = whole.then_some((link, start + taken));
    }

    pub(super) fn recv(
        &mut self,
        link: usize,
        how: How,
        max: usize,
        see: impl FnMut(&[u8]),
    ) -> io::Result<usize> {
        self.last_flush = None;
        if self.is_interrupted() {
            return Err(io::Error::from_raw_os_error(libc::EINTR));
        }
        if how != How::Discard && self.is_short_of_memory(link) {
            self.count(Event::ShortageReceiving);
            let errno = self.random.pick(&[libc::ENOBUFS, libc::ENOMEM]);
            return Err(io::Error::from_raw_os_error(errno));
        }
        let tcp = &mut self.links[link].tcp;
        let result = match how {
            How::Peek => tcp.peek(OURS, max, see),
            How::Receive | How::Splice | How::Discard => tcp.recv(OURS, max, see),
        };
        self.note_received(link, how, result)
    }

    fn note_received(
        &mut self,
        link: usize,
        how: How,
        result: Result<usize, i32>,
    ) -> io::Result<usize> {
        match result {
            Ok(0) => self.links[link].end_known = true,
            Ok(_) if how == How::Peek => self.count(Event::Peek),
            Ok(n) => self.handle_heard(link, how, n),
            Err(libc::EAGAIN) => {}
            Err(errno) => {
                self.learn_fault(link, errno);
                if errno == libc::ECONNRESET {
                    self.count(Event::ResetFromRecv);
                }
            }
        }
        let what = ["recv", "peek", "splice", "discard"][how as usize];
        self.note(what, link, result.map_or_else(|errno| errno as usize, |n| n + 1000));
        result.map_err(io::Error::from_raw_os_error)
    }

    /// What is spliced is neither opened nor sealed.
    fn check_may_splice(&self, link: usize) {
        let index = self.links[link].life;
        assert!(self.lives[index].opening.is_none(), "life {index} is spliced past its seal");
    }

    /// Splicing is refused now and then, before anything has moved.
    fn refuse_splice(&mut self) -> io::Result<()> {
        if self.is_interrupted() {
            return Err(io::Error::from_raw_os_error(libc::EINTR));
        }
        if self.random.once_in(50) {
            self.count(Event::SpliceRefused);
            let errno = self.random.pick(&[libc::EINVAL, libc::ENOMEM, libc::EPERM]);
            return Err(io::Error::from_raw_os_error(errno));
        }
        Ok(())
    }

    fn splice_in(&mut self, link: usize, pipe: &sys::Pipe, max: usize) -> io::Result<usize> {
        self.check_may_splice(link);
        self.refuse_splice()?;
        let tcp = &mut self.links[link].tcp;
        if tcp.is_at_urgent_byte(OURS) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // So few go into the pipe all at once or not at all; a real one may be full of few bytes, too.
        let max = max.min(self.random.pick(&[1, 500, 4096]));
        let mut bytes = Vec::new();
        let peeked = tcp.peek(OURS, max, |it| bytes.extend_from_slice(it));
        if let Ok(1..) = peeked {
            let life = &self.lives[self.links[link].life];
            let held = match self.links[link].target {
                None => life.up_held(),
                Some(_) => life.down_held(),
            };
            let full = (held > 0 && self.random.once_in(10)).then_some(libc::EAGAIN);
            let put =
                full.map_or_else(|| pipe.write(&bytes), |it| Err(io::Error::from_raw_os_error(it)));
            put.inspect_err(|_| self.count(Event::FullPipe))?;
            let taken = self.links[link].tcp.recv(OURS, bytes.len(), |_| {});
            assert_eq!(taken, peeked);
        }
        self.note_received(link, How::Splice, peeked)
    }

    /// Beside an attempt under way the next begins a quarter of a second after the last, unless one
    /// has failed meanwhile (RFC 8305 section 5).
    fn check_pace(&mut self, index: usize) {
        let attempts = &self.lives[index].attempts;
        let over = attempts.iter().filter(|it| self.links[**it].tcp.is_closed(OURS)).count();
        let life = &mut self.lives[index];
        let beside = over < life.attempts.len();
        if beside && over == life.over_at_try {
            assert!(
                self.now >= life.tried_at + ATTEMPT_DELAY,
                "life {index}: an attempt too early"
            );
        }
        (life.tried_at, life.over_at_try) = (self.now, over);
        if beside {
            self.count(Event::SecondAttempt);
        }
    }

    /// Sees to it that a question is answered as the script says.
    fn answer(&mut self, index: usize, token: Token) -> Asked {
        let Life { script, .. } = &self.lives[index];
        let is_v6 = |target: &usize| script.targets[*target].address.is_ipv6();
        let all = (0..script.targets.len()).filter(|target| !script.targets[*target].is_stranger);
        let all: Vec<usize> = all.collect();
        let (first, rest): (Vec<usize>, Vec<usize>) =
            all.iter().partition(|target| is_v6(target) == is_v6(&0));
        let addresses = |targets: &[usize], more| Answer::Addresses {
            addresses: targets.iter().map(|it| script.targets[*it].answered_as).collect(),
            more,
        };
        let answering = |answer, targets, then| Happening::Answer { token, answer, targets, then };
        let (after, happening) = match script.resolution {
            Resolution::Addresses(after) => (after, answering(addresses(&all, false), all, None)),
            Resolution::Apart(after, later) => {
                let last = answering(addresses(&rest, false), rest, None);
                let then = later.map(|later| (later, Box::new(last)));
                (after, answering(addresses(&first, true), first, then))
            }
            Resolution::Failure(after, failure) => {
                (after, answering(Answer::Failed(failure), Vec::new(), None))
            }
            Resolution::Never => return Asked::Pending,
            Resolution::Known => {
                let answer = addresses(&all, false);
                let life = &mut self.lives[index];
                life.learn(&all);
                (life.connecting_since, life.asked) = (Some(self.now), None);
                life.is_answered = true;
                return Asked::Known(answer);
            }
            Resolution::Full => {
                self.lives[index].asked = None;
                return Asked::Full;
            }
        };
        self.at(self.now + after, happening);
        Asked::Pending
    }

    pub(super) fn connect(&mut self, address: SocketAddr, token: Token) -> io::Result<usize> {
        let index = self.owners[&token.slot()];
        let life = &mut self.lives[index];
        // Addresses that are denied never come this far.
        let number = loop {
            let next = life.next_candidate().expect("an address that nobody told it of");
            if life.script.targets[next].fate != Fate::Denied {
                break next;
            }
            life.take_up(next);
        };
        self.check_pace(index);
        let life = &self.lives[index];
        let target = &life.script.targets[number];
        assert_eq!(target.address, address, "life {index}: another address than the next");
        let (fate, queues, abort) = (target.fate, target.plan.queues, target.plan.abort);
        let attempts = &life.attempts;
        if matches!(fate, Fate::Impossible(libc::EMFILE))
            && attempts.iter().any(|attempt| !self.links[*attempt].tcp.is_closed(OURS))
        {
            // Beside another attempt it is not worth the address.
            self.count(Event::AttemptPutOff);
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let is_first = self.lives[index].tried.is_empty();
        self.lives[index].take_up(number);
        if !is_first {
            self.count(Event::SecondAddress);
        }
        self.note("connect", index, number);
        self.lives[index].connecting_since.get_or_insert(self.now);
        if let Fate::Impossible(errno) = fate {
            // It has failed: the next may follow at once.
            self.lives[index].over_at_try = usize::MAX;
            return Err(io::Error::from_raw_os_error(errno));
        }
        let link = self.link(Connection::connecting(queues), index, Some(number));
        self.lives[index].attempts.push(link);
        match fate {
            Fate::Accepts(after) => self.at(self.now + after, Happening::Established(link)),
            Fate::Fails(after, errno) => self.at(self.now + after, Happening::Failed(link, errno)),
            Fate::Itself => {
                self.count(Event::SelfConnect);
                self.at(self.now, Happening::Established(link));
            }
            Fate::Silent | Fate::Impossible(_) | Fate::Denied => {}
            Fate::Comes(_) | Fate::StaysAway => panic!("life {index}: nobody listens there"),
        }
        if let (Some((after, reset)), Fate::Accepts(begins)) = (abort, fate) {
            self.at(self.now + begins + after, Happening::Abort(link, reset));
        }
        Ok(link)
    }
}
