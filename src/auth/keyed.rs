use std::net::IpAddr;

use blake2::Blake2sMac256;
use blake2::digest::{KeyInit, Mac};
use zeroize::Zeroizing;

use crate::sys;

/// A secret of this process, by which names and passwords are told apart without being kept.
#[derive(Clone)]
pub(super) struct Key(Zeroizing<[u8; 32]>);

/// What stands for some credentials: nothing can be told from it without the key.
pub(super) type Tag = [u8; 32];

/// What is made with a key; no two things share a tag.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Purpose {
    Credentials,
    CredentialsFromLocked,
    Choice,
}

impl Key {
    /// A new one that nobody can foretell.
    pub(super) fn new() -> Key {
        let mut key = Zeroizing::new([0; 32]);
        sys::fill_random(key.as_mut_slice());
        Key(key)
    }

    /// What stands for a name and a password, and for where they come `from` if that matters. A
    /// locked source has tags of its own, so that it learns nothing from what others have proven.
    pub(super) fn tag(
        &self,
        user: &[u8],
        password: &[u8],
        from: Option<IpAddr>,
        is_locked: bool,
    ) -> Tag {
        let purpose = match is_locked {
            false => Purpose::Credentials,
            true => Purpose::CredentialsFromLocked,
        };
        match from.map(|from| from.to_canonical()) {
            None => self.mac(purpose, [user, &[], password]),
            Some(IpAddr::V4(from)) => self.mac(purpose, [user, &from.octets(), password]),
            Some(IpAddr::V6(from)) => self.mac(purpose, [user, &from.octets(), password]),
        }
    }

    /// One of `count`, which must not be none: always the same for a name.
    pub(super) fn choose(&self, name: &[u8], count: usize) -> usize {
        let [a, b, c, d, e, f, g, h, ..] = self.mac(Purpose::Choice, [name, &[], &[]]);
        let random = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        (random % count as u64) as usize
    }

    fn mac(&self, purpose: Purpose, fields: [&[u8]; 3]) -> Tag {
        let mut mac = <Blake2sMac256 as KeyInit>::new((&*self.0).into());
        mac.update(&[purpose as u8]);
        for field in fields {
            // Or "ab" with "c" would be "a" with "bc".
            mac.update(&(field.len() as u64).to_le_bytes());
            mac.update(field);
        }
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_difference_makes_another_tag() {
        let (key, other) = (Key::new(), Key::new());
        let (here, there) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let tags = HashSet::from([
            key.tag(b"ab", b"c", None, false),
            key.tag(b"a", b"bc", None, false),
            key.tag(b"", b"abc", None, false),
            key.tag(b"abc", b"", None, false),
            key.tag(b"ab", b"c", None, true),
            key.tag(b"ab", b"C", None, false),
            key.tag(b"ab", b"c", Some(here), false),
            key.tag(b"ab", b"c", Some(there), false),
            other.tag(b"ab", b"c", None, false),
        ]);
        assert_eq!(tags.len(), 9);
        assert_eq!(key.tag(b"ab", b"c", None, false), key.clone().tag(b"ab", b"c", None, false));
    }

    #[test]
    fn names_choose_evenly_and_always_the_same() {
        let key = Key::new();
        let mut chosen = [0_usize; 4];
        for n in 0..4000 {
            let name = format!("stranger-{n}");
            let choice = key.choose(name.as_bytes(), chosen.len());
            assert_eq!(key.choose(name.as_bytes(), chosen.len()), choice);
            chosen[choice] += 1;
        }
        // Twelve standard deviations: once in more runs than there will be.
        assert!(chosen.iter().all(|&count| (670..1330).contains(&count)), "{chosen:?}");
        assert_eq!(key.choose(b"anyone", 1), 0);
    }
}
