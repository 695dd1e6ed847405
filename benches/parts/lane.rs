//! A turn of a lane between two sockets in memory: what a message costs besides system calls.

use std::cell::Cell;
use std::hint::black_box;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use criterion::{Criterion, Throughput};
use ringsocks::config::RelayMode;
use ringsocks::relay::{
    Buffers, Endpoint, Lane, Pumped, RING_BYTES, Readiness, Socket, Work, pump,
};
use ringsocks::sys;

const READY: Readiness =
    Readiness { readable: true, writable: true, read_closed: false, urgent: false, error: false };

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lane");
    let mut bench = Bench::new();
    group.bench_function("nothing to do", |it| it.iter(|| bench.pump()));
    for (name, size) in [("64 B", 64), ("4 KiB", 4096), ("128 KiB", RING_BYTES)] {
        let mut bench = Bench::new();
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(name, |it| it.iter(|| bench.relay(black_box(size))));
        assert_eq!(bench.lane.bytes(), bench.sent.get(), "bytes were lost");
    }
}

struct Bench {
    /// How many bytes the source has received.
    received: Rc<Cell<usize>>,
    /// How many bytes the sink has sent.
    sent: Rc<Cell<u64>>,
    source: Endpoint<Memory>,
    lane: Lane,
    sink: Endpoint<Memory>,
    buffers: Buffers,
}

impl Bench {
    fn new() -> Bench {
        let memory = Memory::default();
        let (received, sent) = (Rc::clone(&memory.received), Rc::clone(&memory.sent));
        Bench {
            received,
            sent,
            source: Endpoint::new(memory.clone()),
            lane: Lane::new(None),
            sink: Endpoint::new(memory),
            buffers: Buffers::new(1, RelayMode::Copy, 0),
        }
    }

    fn relay(&mut self, size: usize) {
        self.received.set(size);
        self.source.handle_readiness(READY);
        self.sink.handle_readiness(READY);
        assert_eq!(self.pump(), Pumped::Blocked);
        assert_eq!(self.received.get(), 0);
    }

    fn pump(&mut self) -> Pumped {
        let Bench { source, lane, sink, buffers, .. } = self;
        pump(source, lane, sink, buffers, &mut Work::new())
    }
}

/// A socket that has received some bytes, and sends as many as it is given.
#[derive(Clone, Default)]
struct Memory {
    received: Rc<Cell<usize>>,
    sent: Rc<Cell<u64>>,
}

impl Socket for Memory {
    fn recv(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.received.get().min(into.len());
        if n == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        into[..n].fill(0x5a);
        self.received.set(self.received.get() - n);
        Ok(n)
    }

    fn peek(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = black_box(bytes).len();
        self.sent.set(self.sent.get() + n as u64);
        Ok(n)
    }

    fn discard(&mut self, _: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn splice_in(&mut self, _: &sys::Pipe, _: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn splice_out(&mut self, _: &sys::Pipe, _: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    fn unacknowledged(&self) -> io::Result<usize> {
        Ok(0)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::NotConnected.into())
    }

    fn keep_alive(&mut self) {}

    fn reset_on_close(&mut self) {}
}
