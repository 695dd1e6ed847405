use std::io;
use std::net::Ipv4Addr;

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};

use super::DatagramPorts;
use crate::datagrams::{self, BATCH, Inbox, LONGEST, RUN_BYTES, RUN_DATAGRAMS, Run};

/// The origin's sockets for datagrams.
pub(super) struct Datagrams {
    echo: UdpSocket,
    runs: UdpSocket,
    inbox: Inbox,
    pending: Pending,
}

/// Datagrams of one length for one peer, which go back as one run.
struct Pending {
    room: Box<[u8]>,
    run: Option<Run>,
}

impl Datagrams {
    pub(super) const SOCKETS: usize = 2;

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
            inbox: Inbox::new(LONGEST, BATCH),
            pending: Pending { room: vec![0; 2 * RUN_BYTES].into(), run: None },
        };
        datagrams::receive_runs(&bound.runs)?;
        Ok(bound)
    }

    pub(super) fn ports(&self) -> io::Result<DatagramPorts> {
        let port = |socket: &UdpSocket| io::Result::Ok(socket.local_addr()?.port());
        Ok(DatagramPorts { echo: port(&self.echo)?, runs: port(&self.runs)? })
    }

    pub(super) fn handle_event(&mut self, index: usize) -> io::Result<()> {
        match index {
            0 => self.send_back(),
            _ => self.send_runs_back(),
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
}
