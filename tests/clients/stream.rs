//! A long stream of bytes that both ends can make, so that neither has to keep it.

use std::io::{self, Read};

/// How much is compared at once.
const CHUNK_LEN: usize = 64 * 1024;

/// `len` bytes that look random, the same for the same seed.
pub(crate) struct Stream {
    state: u64,
    left: u64,
}

impl Stream {
    pub(crate) fn new(seed: u64, len: u64) -> Stream {
        Stream { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, left: len }
    }

    /// All of it at once, for streams short enough.
    pub(crate) fn bytes(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).expect("a stream of ours never fails");
        bytes
    }

    /// Reads `source` to its end; an error says where it is not this stream.
    pub(crate) fn compare(mut self, mut source: impl Read) -> Result<(), String> {
        let (mut got, mut expected) = (vec![0; CHUNK_LEN], vec![0; CHUNK_LEN]);
        let mut at = 0;
        loop {
            let len = source.read(&mut got).map_err(|error| format!("{error} at {at}"))?;
            if len == 0 && self.left == 0 {
                return Ok(());
            }
            if len == 0 {
                return Err(format!("it ends at {at}, {} bytes short", self.left));
            }
            let expected_len = self.fill(&mut expected[..len]);
            if expected_len < len {
                return Err(format!("it goes on behind its {} bytes", at + expected_len as u64));
            }
            if let Some(first) = got[..len].iter().zip(&expected).position(|(a, b)| a != b) {
                return Err(format!("first difference at {}", at + first as u64));
            }
            at += len as u64;
        }
    }

    /// Fills all of `buffer` unless the stream ends before; returns how much it filled.
    ///
    /// A byte depends on its position alone, not on how the stream is cut into reads.
    fn fill(&mut self, buffer: &mut [u8]) -> usize {
        let len = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        for byte in &mut buffer[..len] {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            *byte = (self.state >> 24) as u8;
        }
        self.left -= len as u64;
        len
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.fill(buffer))
    }
}

#[test]
fn a_stream_equals_itself_however_it_is_cut() {
    let bytes = Stream::new(7, 200_000).bytes();
    let cut = bytes[..3].chain(&bytes[3..70_001]).chain(&bytes[70_001..]);
    assert_eq!(Stream::new(7, 200_000).compare(cut), Ok(()));
}

#[test]
fn a_stream_differs_from_any_other() {
    let mut bytes = Stream::new(7, 100_000).bytes();
    assert!(Stream::new(7, 100_001).compare(&bytes[..]).is_err());
    assert!(Stream::new(7, 99_999).compare(&bytes[..]).is_err());
    assert!(Stream::new(8, 100_000).compare(&bytes[..]).is_err());
    bytes[99_999] ^= 1;
    assert_eq!(
        Stream::new(7, 100_000).compare(&bytes[..]),
        Err("first difference at 99999".to_owned())
    );
}
