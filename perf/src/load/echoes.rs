use std::io;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use super::Generator;
use super::association::{Association, read_datagram};
use super::tally::Tally;
use super::work::Failure;
use super::{Way, refuse_unless};
use crate::datagrams::{self, BATCH, Inbox, LONGEST, RUN_BYTES, RUN_DATAGRAMS};
use crate::limits;
use crate::pattern::Pattern;
use crate::stamp::{STAMP_BYTES, Stamp};

/// After which time a datagram that has not come back counts as lost.
const LOST_AFTER: Duration = Duration::from_millis(200);
/// How often it is looked whether one is.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Which datagrams are sent and come back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// How long each is.
    pub(super) size: usize,
    /// On so many associations.
    pub(super) associations: usize,
    /// So many are under way on each.
    pub(super) window: usize,
    /// So many are sent as one run, and again once all of them have come back.
    pub(super) run: usize,
}

/// A closed loop of datagrams that are echoed.
pub(super) struct Echoes {
    poll: Poll,
    events: Events,
    lanes: Vec<Lane>,
    inbox: Inbox,
    post: Post,
    tally: Tally,
    ready: usize,
    next_look: Instant,
    draining: bool,
    spoilt: bool,
}

/// What is sent on one association.
struct Lane {
    association: Association,
    owner: u32,
    groups: Vec<Group>,
    ready: bool,
}

/// Datagrams that are sent together.
struct Group {
    /// The number of the first of them.
    first: u32,
    /// A bit for each that has not come back.
    missing: u64,
    sent: Instant,
}

/// What makes datagrams.
struct Post {
    shape: Shape,
    pattern: Pattern,
    room: Box<[u8]>,
    /// The groups of a lane that are to be sent.
    due: Vec<usize>,
}

impl Echoes {
    /// Opens all associations.
    pub(super) fn new(way: &Way, target: SocketAddrV4, shape: Shape) -> io::Result<Echoes> {
        shape.refuse_nonsense()?;
        limits::raise_open_files()?;
        let poll = Poll::new()?;
        let lane = |owner: usize| {
            let mut lane = Lane::open(way, target, shape, owner)?;
            let socket = &mut lane.association.socket;
            poll.registry().register(socket, Token(owner), Interest::READABLE)?;
            io::Result::Ok(lane)
        };
        let lanes = (0..shape.associations).map(lane).collect::<io::Result<Vec<_>>>()?;
        let header = lanes.first().map_or(0, |it| it.association.header.len());
        let group = shape.run * (header + shape.size);
        let inbox = match shape.run {
            1 => Inbox::new(LONGEST, BATCH),
            // As much as comes at a time, and no more: what is in no cache costs more.
            _ => Inbox::new(RUN_BYTES, shape.groups() + 1),
        };
        Ok(Echoes {
            poll,
            events: Events::with_capacity(1024),
            lanes,
            inbox,
            post: Post {
                shape,
                pattern: Pattern::default(),
                room: vec![0; group * shape.groups().min(BATCH)].into(),
                due: Vec::with_capacity(shape.groups()),
            },
            tally: Tally::new(),
            ready: 0,
            next_look: Instant::now() + LOOK_EVERY,
            draining: false,
            spoilt: false,
        })
    }

    fn turn(&mut self, until: Instant) -> io::Result<()> {
        let next = until.min(self.next_look);
        let patience = next.saturating_duration_since(Instant::now());
        match self.poll.poll(&mut self.events, Some(patience)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        events.iter().try_for_each(|event| self.hear(event.token().0))?;
        self.events = events;
        self.look()?;
        match self.spoilt {
            true => Err(io::Error::new(io::ErrorKind::InvalidData, Failure::WrongByte.to_string())),
            false => Ok(()),
        }
    }

    /// Takes what has come back on a lane, and sends that again.
    fn hear(&mut self, index: usize) -> io::Result<()> {
        let lane = &mut self.lanes[index];
        loop {
            let is_more = self.inbox.receive(&lane.association.socket)?;
            let now = Instant::now();
            for (bytes, _) in self.inbox.iter() {
                for datagram in bytes.chunks(lane.association.header.len() + self.post.shape.size) {
                    match lane.take(&mut self.post, datagram) {
                        Ok(None) => {}
                        Ok(Some(sent)) => self.tally.count(now.saturating_duration_since(sent)),
                        Err(failure) => {
                            self.spoilt |= matches!(failure, Failure::WrongByte);
                            self.tally.count_error(&failure);
                        }
                    }
                }
            }
            if !lane.ready && !self.inbox.is_empty() {
                lane.ready = true;
                self.ready += 1;
            }
            match self.draining {
                true => self.post.due.clear(),
                false => lane.send(&mut self.post, now)?,
            }
            if !is_more {
                return Ok(());
            }
        }
    }

    /// What does not come back is lost, and others are sent instead.
    fn look(&mut self) -> io::Result<()> {
        let now = Instant::now();
        if now < self.next_look || self.draining {
            return Ok(());
        }
        self.next_look = now + LOOK_EVERY;
        for lane in &mut self.lanes {
            let lost = lane.find_lost(&mut self.post.due, now);
            self.tally.units += lost;
            self.tally.lost += lost;
            lane.send(&mut self.post, now)?;
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| lane.groups.iter().all(|group| group.missing == 0))
    }
}

impl Generator for Echoes {
    /// Waits until something has come back on each association.
    fn open(&mut self, deadline: Instant) -> io::Result<()> {
        let now = Instant::now();
        for lane in &mut self.lanes {
            self.post.due.extend(0..lane.groups.len());
            lane.send(&mut self.post, now)?;
        }
        while self.ready < self.lanes.len() {
            if Instant::now() >= deadline {
                let (ready, all) = (self.ready, self.lanes.len());
                let what = format!("nothing comes back on {} of {all} associations", all - ready);
                return Err(io::Error::new(io::ErrorKind::TimedOut, what));
            }
            self.turn(deadline)?;
        }
        Ok(())
    }

    fn go_on_until(&mut self, end: Instant) -> io::Result<()> {
        while Instant::now() < end {
            self.turn(end)?;
        }
        Ok(())
    }

    fn count_from_now(&mut self) {
        self.tally.clear();
    }

    fn drain(&mut self, deadline: Instant) -> io::Result<u64> {
        self.draining = true;
        let end = deadline.min(Instant::now() + LOST_AFTER);
        while !self.is_idle() && Instant::now() < end {
            self.turn(end)?;
        }
        for lane in &self.lanes {
            if lane.association.has_ended() {
                self.tally.count_error(&Failure::Ended);
            }
        }
        Ok(0)
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}

impl Lane {
    fn open(way: &Way, target: SocketAddrV4, shape: Shape, owner: usize) -> io::Result<Lane> {
        let association = Association::open(way, target)?;
        if shape.run > 1 {
            datagrams::send_runs(&association.socket, association.header.len() + shape.size)?;
            datagrams::receive_runs(&association.socket)?;
        }
        let sent = Instant::now();
        // Each is numbered anew before it is sent.
        let group = |index| Group {
            first: ((index * shape.run) as u32).wrapping_sub(shape.window as u32),
            missing: 0,
            sent,
        };
        let groups = (0..shape.groups()).map(group).collect();
        Ok(Lane { association, owner: owner as u32, groups, ready: false })
    }

    /// Takes a datagram that has come back; when it was sent, unless it counts as lost. Its group is
    /// due when it was the last.
    fn take(&mut self, post: &mut Post, datagram: &[u8]) -> Result<Option<Instant>, Failure> {
        let Shape { size, run, .. } = post.shape;
        let header = &self.association.header;
        let Stamp { owner, number } = read_datagram(&post.pattern, header, size, datagram)?;
        if owner != self.owner {
            return Err(Failure::Unasked);
        }
        let (block, nth) = (number / run as u32, number % run as u32);
        let index = block as usize % self.groups.len();
        let group = &mut self.groups[index];
        if group.first != number - nth || group.missing & (1 << nth) == 0 {
            return Ok(None);
        }
        group.missing &= !(1 << nth);
        if group.missing == 0 {
            post.due.push(index);
        }
        Ok(Some(group.sent))
    }

    /// How many have been under way for too long; their groups are due.
    fn find_lost(&mut self, due: &mut Vec<usize>, now: Instant) -> u64 {
        let mut lost = 0;
        for (index, group) in self.groups.iter().enumerate() {
            if group.missing != 0 && now.saturating_duration_since(group.sent) > LOST_AFTER {
                lost += u64::from(group.missing.count_ones());
                due.push(index);
            }
        }
        lost
    }

    /// Sends the groups that are due, each with new numbers.
    fn send(&mut self, post: &mut Post, now: Instant) -> io::Result<()> {
        let Shape { size, window, run, .. } = post.shape;
        let Association { socket, header, .. } = &self.association;
        let length = header.len() + size;
        for due in post.due.chunks(BATCH) {
            let mut places = post.room.chunks_mut(length);
            for &index in due {
                let group = &mut self.groups[index];
                group.first = group.first.wrapping_add(window as u32);
                group.missing = u64::MAX >> (u64::BITS as usize - run);
                group.sent = now;
                for (nth, place) in (0..run).zip(&mut places) {
                    let (head, datagram) = place.split_at_mut(header.len());
                    head.copy_from_slice(header);
                    let number = group.first.wrapping_add(nth as u32);
                    Stamp { owner: self.owner, number }.fill(&post.pattern, datagram);
                }
            }
            let groups = post.room.chunks(length * run).take(due.len());
            datagrams::send(socket, groups.map(|it| (it, None)))?;
        }
        post.due.clear();
        Ok(())
    }
}

impl Shape {
    fn groups(&self) -> usize {
        self.window / self.run
    }

    fn refuse_nonsense(self) -> io::Result<()> {
        // With room for a header for a proxy.
        let (header, longest) = (10, if self.run == 1 { LONGEST } else { RUN_BYTES });
        let length = self.run * (header + self.size);
        refuse_unless(self.size >= STAMP_BYTES && length < longest, "a datagram's size")?;
        refuse_unless((1..=RUN_DATAGRAMS).contains(&self.run), "a run")?;
        let is_whole = self.window.is_multiple_of(self.run);
        refuse_unless(self.window > 0 && is_whole, "how many are under way")?;
        refuse_unless(self.associations > 0, "the number of associations")
    }
}
