use std::io;
use std::net::Ipv4Addr;

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};

use super::DatagramPorts;
use crate::datagrams::{self, BATCH, Inbox, LONGEST, RUN_BYTES, RUN_DATAGRAMS, Run};
use crate::pattern::Pattern;
use crate::stamp::{STAMP_BYTES, Stamp};

/// The origin's sockets for datagrams.
pub(super) struct Datagrams {
    echo: UdpSocket,
    runs: UdpSocket,
    sink: UdpSocket,
    inbox: Inbox,
    pending: Pending,
    pattern: Pattern,
    swallowed: Swallowed,
}

/// What the sink says to a datagram that is only an owner's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swallowed {
    /// Whose datagrams are counted: those of whoever came last.
    pub owner: u32,
    pub datagrams: u64,
    pub bytes: u64,
    /// How many were not as they had been sent.
    pub spoilt: u64,
}

/// Datagrams of one length for one peer, which go back as one run.
struct Pending {
    room: Box<[u8]>,
    run: Option<Run>,
}

impl Datagrams {
    pub(super) const SOCKETS: usize = 3;

    /// Its sockets, whose events have the tokens from `first` on.
    pub(super) fn bind(registry: &Registry, first: usize) -> io::Result<Datagrams> {
        let bind = |index: usize| {
            let mut socket = datagrams::bind((Ipv4Addr::LOCALHOST, 0).into())?;
            registry.register(&mut socket, Token(first + index), Interest::READABLE)?;
            io::Result::Ok(socket)
        };
        let bound = Datagrams {
            echo: bind(0)?,
            runs: bind(1)?,
            sink: bind(2)?,
            inbox: Inbox::new(LONGEST, BATCH),
            pending: Pending { room: vec![0; 2 * RUN_BYTES].into(), run: None },
            pattern: Pattern::default(),
            swallowed: Swallowed::default(),
        };
        datagrams::receive_runs(&bound.runs)?;
        Ok(bound)
    }

    pub(super) fn ports(&self) -> io::Result<DatagramPorts> {
        let port = |socket: &UdpSocket| io::Result::Ok(socket.local_addr()?.port());
        Ok(DatagramPorts {
            echo: port(&self.echo)?,
            runs: port(&self.runs)?,
            sink: port(&self.sink)?,
        })
    }

    pub(super) fn handle_event(&mut self, index: usize) -> io::Result<()> {
        match index {
            0 => self.send_back(),
            1 => self.send_runs_back(),
            _ => self.swallow(),
        }
    }

    fn send_back(&mut self) -> io::Result<()> {
        loop {
            let is_more = self.inbox.receive(&self.echo)?;
            datagrams::send(&self.echo, self.inbox.iter().map(|(it, from)| (it, Some(from))))?;
            if !is_more {
                return Ok(());
            }
        }
    }

    fn send_runs_back(&mut self) -> io::Result<()> {
        while let Some(next) = datagrams::receive_run(&self.runs, self.pending.free())? {
            self.pending.add(&self.runs, next)?;
        }
        self.pending.send(&self.runs)
    }

    fn swallow(&mut self) -> io::Result<()> {
        loop {
            let is_more = self.inbox.receive(&self.sink)?;
            for (datagram, from) in self.inbox.iter() {
                match Swallowed::asked_for(datagram) {
                    Some(owner) => {
                        let answer = self.swallowed.of(owner).to_bytes();
                        datagrams::send(&self.sink, [(&answer[..], Some(from))].into_iter())?;
                    }
                    None => self.swallowed.take(&self.pattern, datagram),
                }
            }
            if !is_more {
                return Ok(());
            }
        }
    }
}

impl Pending {
    fn length(&self) -> usize {
        self.run.as_ref().map_or(0, |run| run.bytes)
    }

    /// Where the next one is received.
    fn free(&mut self) -> &mut [u8] {
        let start = self.length();
        &mut self.room[start..start + RUN_BYTES]
    }

    /// Appends what was received behind the pending run, which is sent before if it cannot be.
    fn add(&mut self, socket: &UdpSocket, next: Run) -> io::Result<()> {
        if let Some(run) = self.run.as_mut().filter(|run| run.goes_on_with(&next)) {
            run.bytes += next.bytes;
            return Ok(());
        }
        let start = self.length();
        self.send(socket)?;
        self.room.copy_within(start..start + next.bytes, 0);
        self.run = Some(next);
        Ok(())
    }

    fn send(&mut self, socket: &UdpSocket) -> io::Result<()> {
        match self.run.take() {
            Some(run) => datagrams::send_run(socket, &self.room[..run.bytes], run.each, run.from),
            None => Ok(()),
        }
    }
}

impl Run {
    /// Whether both are a run that the kernel takes.
    fn goes_on_with(&self, next: &Run) -> bool {
        // What a datagram's own headers need.
        const HEADERS: usize = 28;
        let bytes = self.bytes + next.bytes;
        self.from == next.from
            && self.each == next.each
            && self.each > 0
            && self.bytes.is_multiple_of(self.each)
            && bytes.div_ceil(self.each) <= RUN_DATAGRAMS
            && bytes <= RUN_BYTES - HEADERS
    }
}

impl Swallowed {
    /// What the sink is to be asked for an owner's count.
    pub fn question(owner: u32) -> [u8; 4] {
        owner.to_le_bytes()
    }

    fn asked_for(datagram: &[u8]) -> Option<u32> {
        const { assert!(STAMP_BYTES > size_of::<u32>()) };
        datagram.try_into().ok().map(u32::from_le_bytes)
    }

    fn of(self, owner: u32) -> Swallowed {
        if self.owner == owner { self } else { Swallowed { owner, ..Swallowed::default() } }
    }

    fn take(&mut self, pattern: &Pattern, datagram: &[u8]) {
        let Ok(stamp) = Stamp::read(pattern, datagram) else {
            self.spoilt += 1;
            return;
        };
        *self = self.of(stamp.owner);
        self.datagrams += 1;
        self.bytes += datagram.len() as u64;
    }

    fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let fields = [self.owner.into(), self.datagrams, self.bytes, self.spoilt];
        for (place, field) in bytes.chunks_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    /// What the sink has answered.
    pub fn from_bytes(bytes: [u8; 32]) -> Swallowed {
        let field = |index: usize| {
            let mut field = [0; 8];
            field.copy_from_slice(&bytes[index * 8..][..8]);
            u64::from_le_bytes(field)
        };
        Swallowed { owner: field(0) as u32, datagrams: field(1), bytes: field(2), spoilt: field(3) }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;

    use super::*;

    fn run(bytes: usize, each: usize, port: u16) -> Run {
        Run { bytes, each, from: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port) }
    }

    #[test]
    fn a_run_is_of_one_peer_and_one_length_and_no_longer_than_the_kernel_takes() {
        assert!(run(1200, 1200, 1).goes_on_with(&run(1200, 1200, 1)));
        assert!(run(1200, 1200, 1).goes_on_with(&run(3600, 1200, 1)));
        assert!(!run(1200, 1200, 1).goes_on_with(&run(1200, 1200, 2)));
        assert!(!run(1200, 1200, 1).goes_on_with(&run(1100, 1100, 1)));
        // One that is shorter than the others ends a run.
        assert!(!run(2300, 1200, 1).goes_on_with(&run(1200, 1200, 1)));
        assert!(run(63 * 64, 64, 1).goes_on_with(&run(64, 64, 1)));
        assert!(!run(64 * 64, 64, 1).goes_on_with(&run(64, 64, 1)));
        assert!(!run(54 * 1200, 1200, 1).goes_on_with(&run(1200, 1200, 1)));
        assert!(!run(0, 0, 1).goes_on_with(&run(0, 0, 1)));
    }

    #[test]
    fn the_sink_counts_one_owner_at_a_time() {
        let pattern = Pattern::default();
        let mut swallowed = Swallowed::default();
        let mut datagram = [0; 64];
        for (owner, number) in [(7, 0), (8, 0), (8, 1)] {
            Stamp { owner, number }.fill(&pattern, &mut datagram);
            swallowed.take(&pattern, &datagram);
        }
        datagram[63] ^= 1;
        swallowed.take(&pattern, &datagram);
        let expected = Swallowed { owner: 8, datagrams: 2, bytes: 128, spoilt: 1 };
        assert_eq!(swallowed.of(8), expected);
        assert_eq!(swallowed.of(7), Swallowed { owner: 7, ..Swallowed::default() });
        assert_eq!(Swallowed::from_bytes(swallowed.to_bytes()), expected);
        assert_eq!(Swallowed::asked_for(&Swallowed::question(8)), Some(8));
        assert_eq!(Swallowed::asked_for(&datagram), None);
    }
}
