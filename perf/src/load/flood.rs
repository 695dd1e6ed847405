use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::thread;
use std::time::{Duration, Instant};

use mio::net::UdpSocket;

use super::association::{Association, read_datagram};
use super::tally::Tally;
use super::work::Failure;
use super::{Generator, Way, refuse_unless};
use crate::datagrams::{self, BATCH, Inbox, LONGEST};
use crate::pattern::Pattern;
use crate::stamp::{STAMP_BYTES, Stamp};

/// How long it pauses between datagrams that are sent together.
const BEAT: Duration = Duration::from_micros(100);
/// How long the first datagram may take before another one is sent.
const FIRST_PATIENCE: Duration = Duration::from_millis(100);
/// After what time in which nothing has come nothing more will.
const QUIET: Duration = Duration::from_millis(100);

/// Datagrams one way at a rate of their own, whatever becomes of them.
///
/// Both ends are here, so that neither keeps the other from its CPU: what is sent and not received is
/// lost in between.
pub(super) struct Flood {
    association: Association,
    /// The association's other end.
    outside: UdpSocket,
    /// Where datagrams of the association come from.
    relay: SocketAddrV4,
    is_down: bool,
    size: usize,
    rate: f64,
    /// Whose datagrams are counted.
    owner: u32,
    number: u32,
    arrived: u64,
    pattern: Pattern,
    room: Box<[u8]>,
    inbox: Inbox,
    tally: Tally,
}

impl Flood {
    /// One of `rate` datagrams of `size` bytes a second, to the client or from it.
    pub(super) fn new(way: &Way, is_down: bool, size: usize, rate: f64) -> io::Result<Flood> {
        refuse_unless(rate > 0.0, "datagrams a second")?;
        refuse_unless((STAMP_BYTES..LONGEST - 10).contains(&size), "a datagram's size")?;
        let outside = datagrams::bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let SocketAddr::V4(target) = outside.local_addr()? else {
            unreachable!("it was bound to an address of this family")
        };
        let association = Association::open(way, target)?;
        let length = association.header.len() + size;
        Ok(Flood {
            association,
            outside,
            relay: target,
            is_down,
            size,
            rate,
            owner: 0,
            number: 0,
            arrived: 0,
            pattern: Pattern::default(),
            room: vec![0; BATCH * length].into(),
            inbox: Inbox::new(LONGEST, BATCH),
            tally: Tally::new(),
        })
    }

    /// Sends some, at most [`BATCH`].
    fn send(&mut self, count: usize) -> io::Result<()> {
        let (socket, header, to) = match self.is_down {
            false => (&self.association.socket, &self.association.header[..], None),
            true => (&self.outside, &[][..], Some(self.relay)),
        };
        let length = header.len() + self.size;
        for place in self.room.chunks_exact_mut(length).take(count) {
            let (head, datagram) = place.split_at_mut(header.len());
            head.copy_from_slice(header);
            self.number = self.number.wrapping_add(1);
            Stamp { owner: self.owner, number: self.number }.fill(&self.pattern, datagram);
        }
        let datagrams = self.room.chunks_exact(length).take(count).map(|it| (it, to));
        datagrams::send(socket, datagrams)?;
        self.tally.units += count as u64;
        Ok(())
    }

    /// Counts what has arrived; whether anything has.
    fn receive(&mut self) -> io::Result<bool> {
        let (socket, header) = match self.is_down {
            false => (&self.outside, &[][..]),
            true => (&self.association.socket, &self.association.header[..]),
        };
        let mut any = false;
        loop {
            let is_more = self.inbox.receive(socket)?;
            for (datagram, _) in self.inbox.iter() {
                any = true;
                match read_datagram(&self.pattern, header, self.size, datagram) {
                    Ok(stamp) => self.arrived += u64::from(stamp.owner == self.owner),
                    Err(Failure::WrongByte) => {
                        let what = Failure::WrongByte.to_string();
                        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                    }
                    Err(failure) => self.tally.count_error(&failure),
                }
            }
            if !is_more {
                return Ok(any);
            }
        }
    }

    /// Learns where the association's datagrams come from, by its first one.
    fn find_relay(&mut self, deadline: Instant) -> io::Result<()> {
        let Association { socket, header, .. } = &self.association;
        let mut first = header.clone();
        first.resize(header.len() + self.size, 0);
        Stamp { owner: self.owner, number: 0 }.fill(&self.pattern, &mut first[header.len()..]);
        while Instant::now() < deadline {
            datagrams::send(socket, [(&first[..], None)].into_iter())?;
            let patience = deadline.min(Instant::now() + FIRST_PATIENCE);
            while Instant::now() < patience {
                self.inbox.receive(&self.outside)?;
                if let Some((_, relay)) = self.inbox.iter().next() {
                    self.relay = relay;
                    return Ok(());
                }
                thread::sleep(BEAT);
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "no datagram arrives"))
    }
}

impl Generator for Flood {
    fn open(&mut self, deadline: Instant) -> io::Result<()> {
        self.find_relay(deadline)
    }

    /// What could not be sent at its time is not made up for: it would come in a burst.
    fn go_on_until(&mut self, end: Instant) -> io::Result<()> {
        let start = Instant::now();
        let mut issued = 0;
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            let due = ((now - start).as_secs_f64() * self.rate) as u64;
            self.send((due - issued).min(BATCH as u64) as usize)?;
            issued = due;
            self.receive()?;
            thread::sleep(BEAT);
        }
    }

    fn count_from_now(&mut self) {
        self.owner += 1;
        self.arrived = 0;
        self.tally.clear();
    }

    fn drain(&mut self, deadline: Instant) -> io::Result<u64> {
        let mut end = Instant::now() + QUIET;
        while self.arrived < self.tally.units && Instant::now() < end.min(deadline) {
            thread::sleep(BEAT);
            if self.receive()? {
                end = Instant::now() + QUIET;
            }
        }
        if self.association.has_ended() {
            self.tally.count_error(&Failure::Ended);
        }
        Ok(self.tally.units.saturating_sub(self.arrived))
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}
