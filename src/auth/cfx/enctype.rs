use zeroize::Zeroizing;

use super::cipher::{BLOCK_BYTES, Cipher, Shown};
use super::mac::{Hash, Mac};

/// A derived key.
pub(super) type Key = Zeroizing<Hash>;

/// A way to encrypt and to hash, by its number (RFC 3962 section 7, RFC 8009 section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Enctype {
    Aes128Sha1 = 17,
    Aes256Sha1 = 18,
    Aes128Sha256 = 19,
    Aes256Sha384 = 20,
}

/// What a derived key does.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Purpose {
    /// The tag of what everyone may read.
    Checksum = 0x99,
    Encryption = 0xaa,
    /// The tag of what is encrypted.
    Integrity = 0x55,
}

impl Enctype {
    pub(super) fn from_number(number: u32) -> Option<Enctype> {
        [Enctype::Aes128Sha1, Enctype::Aes256Sha1, Enctype::Aes128Sha256, Enctype::Aes256Sha384]
            .into_iter()
            .find(|&enctype| enctype as u32 == number)
    }

    pub(super) fn key_bytes(self) -> usize {
        match self {
            Enctype::Aes128Sha1 | Enctype::Aes128Sha256 => 16,
            Enctype::Aes256Sha1 | Enctype::Aes256Sha384 => 32,
        }
    }

    pub(super) fn tag_bytes(self) -> usize {
        match self {
            Enctype::Aes128Sha1 | Enctype::Aes256Sha1 => 12,
            Enctype::Aes128Sha256 => 16,
            Enctype::Aes256Sha384 => 24,
        }
    }

    /// What the tag of an encrypted text is of.
    pub(super) fn hashed(self) -> Shown {
        match self {
            Enctype::Aes128Sha1 | Enctype::Aes256Sha1 => Shown::Plain,
            Enctype::Aes128Sha256 | Enctype::Aes256Sha384 => Shown::Encrypted,
        }
    }

    /// The key for one use and purpose; none if `base`, the key of all of them, is of another length.
    pub(super) fn derive(self, base: &[u8], usage: u32, purpose: Purpose) -> Option<Key> {
        let [a, b, c, d] = usage.to_be_bytes();
        let constant = [a, b, c, d, purpose as u8];
        let cipher = Cipher::new(self, base)?;
        let bytes = match (self, purpose) {
            (Enctype::Aes128Sha1 | Enctype::Aes256Sha1, _) => {
                return Some(derive_by_folding(&cipher, &constant, self.key_bytes()));
            }
            (_, Purpose::Encryption) => self.key_bytes(),
            (_, Purpose::Checksum | Purpose::Integrity) => self.tag_bytes(),
        };
        Some(derive_by_hashing(Mac::new(self, base), &constant, bytes))
    }
}

/// DK of RFC 3961 section 5.1: the constant, folded, and encrypted again and again.
fn derive_by_folding(cipher: &Cipher, constant: &[u8], bytes: usize) -> Key {
    let mut block = Zeroizing::new([0; BLOCK_BYTES]);
    block.copy_from_slice(&fold(constant, BLOCK_BYTES));
    let mut key = Key::default();
    while key.len() < bytes {
        cipher.encrypt_block(&mut block);
        key.extend(*block);
    }
    key
}

/// KDF-HMAC-SHA2 of RFC 8009 section 3, of which one round gives enough.
fn derive_by_hashing(mut mac: Mac, label: &[u8], bytes: usize) -> Key {
    mac.update(&1_u32.to_be_bytes());
    mac.update(label);
    mac.update(&[0]);
    mac.update(&(bytes as u32 * 8).to_be_bytes());
    Zeroizing::new(mac.finish(bytes))
}

/// The n-fold of RFC 3961 section 5.1, for `len` bytes: copies of the input, each turned right by 13
/// bits more than the one before, as many as end where the output does, added up by the output's
/// length; what overflows is added at the end again.
fn fold(input: &[u8], len: usize) -> Vec<u8> {
    let bits = input.len() * 8;
    let turned = (0..least_common_multiple(input.len(), len)).map(|place| {
        let turns = place / input.len() * 13;
        let start = (place * 8 + bits - turns % bits) % bits;
        let next = input[(start / 8 + 1) % input.len()];
        (u16::from_be_bytes([input[start / 8], next]) >> (8 - start % 8)) as u8
    });
    let turned: Vec<u8> = turned.collect();
    let mut sum = vec![0; len];
    for part in turned.chunks(len) {
        let mut carry = 0;
        for (octet, added) in sum.iter_mut().zip(part).rev() {
            (*octet, carry) = add(*octet, *added, carry);
        }
        for octet in sum.iter_mut().rev() {
            (*octet, carry) = add(*octet, 0, carry);
        }
    }
    sum
}

/// A sum and what it carries.
fn add(one: u8, other: u8, carry: u8) -> (u8, u8) {
    let sum = u16::from(one) + u16::from(other) + u16::from(carry);
    (sum as u8, (sum >> 8) as u8)
}

fn least_common_multiple(one: usize, other: usize) -> usize {
    let (mut a, mut b) = (one, other);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    one / a * other
}

#[cfg(test)]
mod tests {
    use super::super::tests::hex;
    use super::*;

    #[test]
    fn the_folds_of_rfc_3961_appendix_a() {
        for (input, expected) in [
            ("012345", "be072631276b1955"),
            ("password", "78a07b6caf85fa"),
            ("Rough Consensus, and Running Code", "bb6ed30870b7f0e0"),
            ("password", "59e4a8ca7c0385c3c37b3f6d2000247cb6e6bd5b3e"),
            (
                "MASSACHVSETTS INSTITVTE OF TECHNOLOGY",
                "db3b0d8f0b061e603282b308a50841229ad798fab9540c1b",
            ),
            ("Q", "518a54a215a8452a518a54a215a8452a518a54a215"),
            ("ba", "fb25d531ae8974499f52fd92ea9857c4ba24cf297e"),
            ("kerberos", "6b65726265726f73"),
            ("kerberos", "6b65726265726f737b9b5b2b93132b93"),
        ] {
            let expected = hex(expected);
            assert_eq!(fold(input.as_bytes(), expected.len()), expected, "{input}");
        }
    }

    #[test]
    fn the_derived_keys_of_rfc_8009_appendix_a() {
        let aes128 = "3705d96080c17728a0e800eab6e0d23c";
        let aes256 = "6d404d37faf79f9df0d33568d320669800eb4836472ea8a026d16b7182460c52";
        for (enctype, base, purpose, expected) in [
            (19, aes128, Purpose::Checksum, "b31a018a48f54776f403e9a396325dc3"),
            (19, aes128, Purpose::Encryption, "9b197dd1e8c5609d6e67c3e37c62c72e"),
            (19, aes128, Purpose::Integrity, "9fda0e56ab2d85e1569a688696c26a6c"),
            (20, aes256, Purpose::Checksum, "ef5718be86cc84963d8bbb5031e9f5c4ba41f28faf69e73d"),
            (
                20,
                aes256,
                Purpose::Encryption,
                "56ab22bee63d82d7bc5227f6773f8ea7a5eb1c825160c38312980c442e5c7e49",
            ),
            (20, aes256, Purpose::Integrity, "69b16514e3cd8e56b82010d5c73012b622c4d00ffc23ed1f"),
        ] {
            let enctype = Enctype::from_number(enctype).unwrap();
            let key = enctype.derive(&hex(base), 2, purpose).unwrap();
            assert_eq!(key[..], hex(expected));
        }
    }

    #[test]
    fn other_enctypes_and_other_lengths_are_not_ours() {
        for number in [0, 1, 3, 16, 21, 23, 25, 26, u32::MAX] {
            assert_eq!(Enctype::from_number(number), None);
        }
        for number in 17..=20 {
            let enctype = Enctype::from_number(number).unwrap();
            for len in (0..64).filter(|&len| len != enctype.key_bytes()) {
                assert!(enctype.derive(&vec![7; len], 22, Purpose::Integrity).is_none());
            }
        }
    }
}
