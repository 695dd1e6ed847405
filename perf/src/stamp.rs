//! What is in a datagram: whose and which it is, and the pattern from there on.

use crate::pattern::{Pattern, WHOLE_EVERY, WrongByte};

/// How long it is: the shortest that a datagram of ours can be.
pub const STAMP_BYTES: usize = 8;

/// Which datagram it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Of the association or load that it belongs to.
    pub owner: u32,
    /// Each gets another one.
    pub number: u32,
}

impl Stamp {
    /// Makes a datagram of all of `datagram`, which has room for a stamp.
    pub fn fill(self, pattern: &Pattern, datagram: &mut [u8]) {
        let (stamp, rest) = datagram.split_at_mut(STAMP_BYTES);
        stamp[..4].copy_from_slice(&self.owner.to_le_bytes());
        stamp[4..].copy_from_slice(&self.number.to_le_bytes());
        rest.copy_from_slice(pattern.at(self.position(), rest.len()));
    }

    /// Which one a datagram is, if its bytes are those of the one that it says it is.
    pub fn read(pattern: &Pattern, datagram: &[u8]) -> Result<Stamp, WrongByte> {
        let (stamp, rest) = datagram.split_first_chunk::<STAMP_BYTES>().ok_or(WrongByte)?;
        let [a, b, c, d, e, f, g, h] = *stamp;
        let owner = u32::from_le_bytes([a, b, c, d]);
        let number = u32::from_le_bytes([e, f, g, h]);
        let stamp = Stamp { owner, number };
        match pattern.agrees(stamp.position(), rest, number.is_multiple_of(WHOLE_EVERY)) {
            true => Ok(stamp),
            false => Err(WrongByte),
        }
    }

    fn position(self) -> u64 {
        u64::from(self.owner) * 1021 + u64::from(self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_says_which_it_is() {
        let pattern = Pattern::default();
        for (length, number) in [(STAMP_BYTES, 0), (64, 1), (1400, u32::MAX), (65_507, 77)] {
            let stamp = Stamp { owner: u32::MAX - 7, number };
            let mut datagram = vec![0; length];
            stamp.fill(&pattern, &mut datagram);
            assert_eq!(Stamp::read(&pattern, &datagram), Ok(stamp));
        }
    }

    #[test]
    fn one_that_is_cut_or_changed_says_nothing() {
        let pattern = Pattern::default();
        let mut datagram = vec![0; 1400];
        Stamp { owner: 1, number: 16 }.fill(&pattern, &mut datagram);
        for length in 0..STAMP_BYTES {
            assert_eq!(Stamp::read(&pattern, &datagram[..length]), Err(WrongByte));
        }
        for at in [4, STAMP_BYTES, 700, 1399] {
            let mut wrong = datagram.clone();
            wrong[at] ^= 1;
            assert_eq!(Stamp::read(&pattern, &wrong), Err(WrongByte), "{at}");
        }
    }
}
