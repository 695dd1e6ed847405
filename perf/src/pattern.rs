//! What bulk data and requests are made of: bytes that tell where in a stream they stand.

/// After how many bytes it repeats: 4,093 words, a prime, so that no block of a usual size that is
/// lost, doubled or misplaced goes unseen.
const PERIOD: usize = 4093 * size_of::<u64>();
/// The longest piece that is sent at a time.
pub const PIECE: usize = 256 * 1024;
/// The longest piece that is received at a time: the kernel copies into what is still in the
/// nearer caches, which costs half of what it does with 256 KiB.
pub const RECEIVED: usize = 64 * 1024;
/// How much of each end of what was received is looked at: a look at all of it would make the
/// generator the limit.
const LOOK: usize = 8;
/// One in how many receives is looked at as a whole.
pub const WHOLE_EVERY: u32 = 16;

/// The bytes of every stream. None is above 127: a byte above is free to mean something else.
pub struct Pattern(Box<[u8]>);

impl Default for Pattern {
    fn default() -> Pattern {
        Pattern(
            (0..PERIOD + PIECE)
                .map(|at| word(at % PERIOD / size_of::<u64>())[at % size_of::<u64>()])
                .collect(),
        )
    }
}

impl Pattern {
    /// The `length` bytes, at most [`PIECE`], that follow the first `position` of a stream.
    pub fn at(&self, position: u64, length: usize) -> &[u8] {
        let start = (position % PERIOD as u64) as usize;
        &self.0[start..start + length]
    }

    /// Whether a piece is the one at `position`, by its ends or as a whole.
    pub fn agrees(&self, position: u64, piece: &[u8], as_a_whole: bool) -> bool {
        let expected = self.at(position, piece.len());
        match piece.len() {
            length if length <= 2 * LOOK || as_a_whole => piece == expected,
            length => {
                let last = length - LOOK;
                piece[..LOOK] == expected[..LOOK] && piece[last..] == expected[last..]
            }
        }
    }
}

/// The finalizer of splitmix64, without the top bit of each byte.
fn word(index: usize) -> [u8; 8] {
    let mut mixed = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ mixed >> 31) & 0x7f7f_7f7f_7f7f_7f7f).to_le_bytes()
}

/// Bytes have come that nobody has sent, or not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongByte;

/// A stream as it is received: both ends of each piece must be as the pattern says, and now and
/// then all of one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Check {
    position: u64,
    pieces: u32,
}

impl Check {
    /// A check of a stream that begins at `position` of the pattern.
    pub fn from(position: u64) -> Check {
        Check { position, pieces: 0 }
    }

    /// How far the stream has been received.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Takes the next piece of the stream.
    pub fn take(&mut self, pattern: &Pattern, piece: &[u8]) -> Result<(), WrongByte> {
        self.pieces = self.pieces.wrapping_add(1);
        let as_a_whole = self.pieces.is_multiple_of(WHOLE_EVERY);
        let agrees = pattern.agrees(self.position, piece, as_a_whole);
        self.position += piece.len() as u64;
        if agrees { Ok(()) } else { Err(WrongByte) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_taken_in_pieces_of_any_length() {
        let pattern = Pattern::default();
        let mut check = Check::default();
        let lengths = [1, 7, 8, 9, 17, 4096, PIECE, 3, PIECE - 1];
        for length in lengths {
            let piece = pattern.at(check.position(), length).to_vec();
            assert_eq!(check.take(&pattern, &piece), Ok(()));
        }
        assert_eq!(check.position(), lengths.iter().sum::<usize>() as u64);
    }

    #[test]
    fn a_wrong_byte_at_either_end_is_found() {
        let pattern = Pattern::default();
        for at in [0, 7, 4096 - 8, 4095] {
            let mut piece = pattern.at(0, 4096).to_vec();
            piece[at] ^= 1;
            assert_eq!(Check::default().take(&pattern, &piece), Err(WrongByte), "at {at}");
        }
    }

    #[test]
    fn a_wrong_byte_inside_is_found_in_time() {
        let pattern = Pattern::default();
        let mut check = Check::default();
        let found = (0..WHOLE_EVERY).any(|_| {
            let mut piece = pattern.at(check.position(), 4096).to_vec();
            piece[2048] ^= 1;
            check.take(&pattern, &piece).is_err()
        });
        assert!(found);
    }

    #[test]
    fn a_lost_or_repeated_block_is_found() {
        let pattern = Pattern::default();
        for shift in [1, 8, 4096, 16_384, 65_536, PIECE, 1 << 20] {
            let mut check = Check::from(1 << 30);
            let late = pattern.at((1 << 30) - shift as u64, 4096).to_vec();
            assert_eq!(check.take(&pattern, &late), Err(WrongByte), "{shift} bytes");
        }
    }

    #[test]
    fn no_byte_has_its_top_bit() {
        assert!(Pattern::default().at(0, PIECE).iter().all(|byte| *byte < 0x80));
    }
}
