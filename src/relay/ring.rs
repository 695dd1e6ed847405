/// A fixed ring of bytes: filled at one end, consumed at the other, never grown.
///
/// The storage length is a power of two. An empty ring starts at the front again, so that a ring
/// that is emptied each time is used as one contiguous, cache-hot piece.
pub struct Ring {
    storage: Box<[u8]>,
    start: usize,
    len: usize,
}

impl Ring {
    /// An empty ring of `capacity` bytes, a power of two.
    pub fn new(capacity: usize) -> Ring {
        assert!(capacity.is_power_of_two());
        // Zeroed by the kernel page by page: memory that was never filled is never touched.
        Ring { storage: vec![0; capacity].into_boxed_slice(), start: 0, len: 0 }
    }

    /// How many bytes it can hold.
    pub fn capacity(&self) -> usize {
        self.storage.len()
    }

    /// How many bytes it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it can take no more.
    pub fn is_full(&self) -> bool {
        self.len == self.capacity()
    }

    /// The first contiguous part of what it holds; empty only if the ring is.
    pub fn bytes(&self) -> &[u8] {
        let end = (self.start + self.len).min(self.capacity());
        &self.storage[self.start..end]
    }

    /// As [`bytes`](Self::bytes), to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let end = (self.start + self.len).min(self.capacity());
        &mut self.storage[self.start..end]
    }

    /// Forgets the first `n` bytes.
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.len);
        self.len -= n;
        self.start = if self.len == 0 { 0 } else { (self.start + n) & (self.capacity() - 1) };
    }

    /// The first contiguous part of its free room, to be written to; empty only if the ring is full.
    pub fn room(&mut self) -> &mut [u8] {
        let capacity = self.capacity();
        let end = self.start + self.len;
        if end < capacity {
            &mut self.storage[end..]
        } else {
            &mut self.storage[end - capacity..self.start]
        }
    }

    /// Adds the first `n` bytes of [`room`](Self::room) to what it holds.
    pub fn fill(&mut self, n: usize) {
        assert!(n <= self.capacity() - self.len);
        self.len += n;
    }

    /// Adds these bytes, all of which [`room`](Self::room) takes.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.room()[..bytes.len()].copy_from_slice(bytes);
        self.fill(bytes.len());
    }

    /// Moves what it holds to the front, so that [`bytes`](Self::bytes) is all of it.
    pub fn align(&mut self) {
        match self.start + self.len <= self.capacity() {
            true => self.storage.copy_within(self.start..self.start + self.len, 0),
            false => self.storage.rotate_left(self.start),
        }
        self.start = 0;
    }

    /// Sees to it that [`room`](Self::room) takes `n` more bytes, which there is room for.
    pub fn make_room(&mut self, n: usize) {
        if self.start + self.len + n > self.capacity() {
            self.align();
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.consume(self.len);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn write(ring: &mut Ring, bytes: &[u8]) -> usize {
        let room = ring.room();
        let n = bytes.len().min(room.len());
        room[..n].copy_from_slice(&bytes[..n]);
        ring.fill(n);
        n
    }

    #[test]
    fn an_emptied_ring_offers_all_its_room_in_one_piece() {
        let mut ring = Ring::new(8);
        write(&mut ring, b"abcde");
        ring.consume(5);
        assert_eq!(ring.room().len(), 8);
    }

    #[test]
    fn bytes_wrap_around_the_end() {
        let mut ring = Ring::new(8);
        write(&mut ring, b"abcdef");
        ring.consume(4);
        assert_eq!(write(&mut ring, b"ghijkl"), 2);
        assert_eq!(write(&mut ring, b"ijkl"), 4);
        assert!(ring.is_full());
        assert!(ring.room().is_empty());
        assert_eq!(ring.bytes(), b"efgh");
        ring.align();
        assert_eq!(ring.bytes(), b"efghijkl");
    }

    #[derive(Clone, Debug)]
    enum Operation {
        Write(Vec<u8>),
        Consume(usize),
        Align,
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..20).prop_map(Operation::Write),
            (0usize..20).prop_map(Operation::Consume),
            Just(Operation::Align),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_bounded_queue(operations in prop::collection::vec(operation(), 0..60)) {
            let mut ring = Ring::new(16);
            let mut model = VecDeque::new();
            for operation in operations {
                match operation {
                    Operation::Write(bytes) => {
                        let n = write(&mut ring, &bytes);
                        prop_assert!(n > 0 || bytes.is_empty() || model.len() == 16);
                        model.extend(&bytes[..n]);
                    }
                    Operation::Consume(n) => {
                        let n = n.min(ring.bytes().len());
                        let taken: Vec<u8> = model.drain(..n).collect();
                        prop_assert_eq!(&ring.bytes()[..n], &taken[..]);
                        ring.consume(n);
                    }
                    Operation::Align => {
                        ring.align();
                        prop_assert_eq!(ring.bytes(), &*model.make_contiguous());
                    }
                }
                prop_assert_eq!(ring.len(), model.len());
                prop_assert_eq!(ring.is_empty(), model.is_empty());
                prop_assert_eq!(ring.is_full(), model.len() == 16);
            }
        }
    }
}
