use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use super::association::Association;
use super::tally::Tally;
use super::work::Failure;
use super::{Generator, Way, refuse_unless};
use crate::datagrams::{self, BATCH, LONGEST};
use crate::origin::Swallowed;
use crate::pattern::Pattern;
use crate::stamp::{STAMP_BYTES, Stamp};

/// How long it pauses between datagrams that are sent together.
const BEAT: Duration = Duration::from_micros(100);
/// How long an answer of the sink is waited for before it is asked again.
const ANSWER_PATIENCE: Duration = Duration::from_millis(100);
/// After what time in which nothing has come nothing more will.
const QUIET: Duration = Duration::from_millis(60);

/// Datagrams one way at a rate of their own, whatever becomes of them.
pub(super) struct Flood {
    association: Association,
    size: usize,
    rate: f64,
    /// To the sink, past the proxy.
    asking: UdpSocket,
    /// Whose datagrams are counted.
    owner: u32,
    number: u32,
    pattern: Pattern,
    room: Box<[u8]>,
    tally: Tally,
}

impl Flood {
    pub(super) fn new(way: &Way, sink: SocketAddrV4, size: usize, rate: f64) -> io::Result<Flood> {
        refuse_unless(rate > 0.0, "datagrams a second")?;
        refuse_unless((STAMP_BYTES..LONGEST - 10).contains(&size), "a datagram's size")?;
        let association = Association::open(way, sink)?;
        let asking = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        asking.connect(sink)?;
        asking.set_read_timeout(Some(ANSWER_PATIENCE))?;
        let length = association.header.len() + size;
        let mut flood = Flood {
            association,
            size,
            rate,
            asking,
            owner: 0,
            number: 0,
            pattern: Pattern::default(),
            room: vec![0; BATCH * length].into(),
            tally: Tally::new(),
        };
        flood.change_owner();
        Ok(flood)
    }

    /// No two loads of this process, nor two parts of one, have the same.
    fn change_owner(&mut self) {
        use std::sync::atomic::{AtomicU32, Ordering};
        static OWNERS: AtomicU32 = AtomicU32::new(1);
        self.owner = OWNERS.fetch_add(1, Ordering::Relaxed);
    }

    /// Sends some, at most [`BATCH`].
    fn send(&mut self, count: usize) -> io::Result<()> {
        let header = &self.association.header;
        let length = header.len() + self.size;
        for place in self.room.chunks_mut(length).take(count) {
            let (head, datagram) = place.split_at_mut(header.len());
            head.copy_from_slice(header);
            self.number = self.number.wrapping_add(1);
            Stamp { owner: self.owner, number: self.number }.fill(&self.pattern, datagram);
        }
        let datagrams = self.room.chunks(length).take(count).map(|it| (it, None));
        datagrams::send(&self.association.socket, datagrams)?;
        self.tally.units += count as u64;
        Ok(())
    }

    /// How many have arrived by now, all of them as they were sent.
    fn ask(&self, deadline: Instant) -> io::Result<u64> {
        let swallowed = loop {
            if Instant::now() >= deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the origin does not answer"));
            }
            self.asking.send(&Swallowed::question(self.owner))?;
            let mut answer = [0; 32];
            match self.asking.recv(&mut answer) {
                Ok(32) => {}
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => continue,
            }
            let swallowed = Swallowed::from_bytes(answer);
            if swallowed.owner == self.owner {
                break swallowed;
            }
        };
        let spoilt = io::Error::new(io::ErrorKind::InvalidData, Failure::WrongByte.to_string());
        let is_whole = swallowed.bytes == swallowed.datagrams * self.size as u64;
        if is_whole && swallowed.spoilt == 0 { Ok(swallowed.datagrams) } else { Err(spoilt) }
    }
}

impl Generator for Flood {
    /// Waits until one has arrived.
    fn open(&mut self, deadline: Instant) -> io::Result<()> {
        loop {
            self.send(1)?;
            thread::sleep(BEAT);
            match self.ask(deadline)? {
                0 if Instant::now() >= deadline => {
                    let what = "no datagram arrives";
                    return Err(io::Error::new(io::ErrorKind::TimedOut, what));
                }
                0 => thread::sleep(QUIET),
                _ => return Ok(()),
            }
        }
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
            thread::sleep(BEAT);
        }
    }

    fn count_from_now(&mut self) {
        self.change_owner();
        self.tally.clear();
    }

    fn drain(&mut self, deadline: Instant) -> io::Result<u64> {
        let sent = self.tally.units;
        let mut arrived = self.ask(deadline)?;
        while arrived < sent && Instant::now() < deadline {
            thread::sleep(QUIET);
            let before = std::mem::replace(&mut arrived, self.ask(deadline)?);
            if arrived == before {
                break;
            }
        }
        if self.association.has_ended() {
            self.tally.count_error(&Failure::Ended);
        }
        Ok(sent.saturating_sub(arrived))
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}
