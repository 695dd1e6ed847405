//! Bytes into a ring and out of it.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use ringsocks::relay::{RING_BYTES, Ring};

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring");
    // How many bytes wait in it all the time, and how many go in and out.
    let patterns = [
        ("64 B, emptied each time", 0, 64),
        ("1460 B, emptied each time", 0, 1460),
        ("1460 B, wrapping", RING_BYTES / 2, 1460),
        ("128 KiB, emptied each time", 0, RING_BYTES),
        ("128 KiB, wrapping", 1460, RING_BYTES - 1460),
    ];
    let source = vec![0x5a; RING_BYTES];
    for (name, waiting, size) in patterns {
        let mut ring = Ring::new(RING_BYTES);
        fill(&mut ring, &source[..waiting]);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(name, |it| {
            it.iter(|| {
                fill(&mut ring, black_box(&source[..size]));
                consume(&mut ring, size);
            });
        });
    }
}

fn fill(ring: &mut Ring, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let room = ring.room();
        let n = room.len().min(bytes.len());
        room[..n].copy_from_slice(&bytes[..n]);
        ring.fill(n);
        bytes = &bytes[n..];
    }
}

fn consume(ring: &mut Ring, mut size: usize) {
    while size > 0 {
        let n = black_box(ring.bytes()).len().min(size);
        ring.consume(n);
        size -= n;
    }
}
