use super::resolver::Entropy;

/// Random numbers, fetched many at a time.
pub(super) struct Random {
    entropy: Entropy,
    bytes: [u8; 512],
    left: usize,
}

impl Random {
    pub(super) fn new(entropy: Entropy) -> Random {
        Random { entropy, bytes: [0; 512], left: 0 }
    }

    pub(super) fn number(&mut self) -> u16 {
        u16::from_ne_bytes(self.bytes())
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        const { assert!(N <= 512) };
        if self.left < N {
            (self.entropy)(&mut self.bytes);
            self.left = self.bytes.len();
        }
        self.left -= N;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.bytes[self.left..self.left + N]);
        bytes
    }
}
