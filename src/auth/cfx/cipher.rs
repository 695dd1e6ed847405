use aes::cipher::consts::U16;
use aes::cipher::{
    BlockCipherDecrypt, BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt,
    BlockSizeUser, KeyInit,
};
use aes::{Aes128, Aes256, Block};

use super::Enctype;

pub(super) const BLOCK_BYTES: usize = 16;

/// How many blocks are encrypted at a time: as many as SHA-1 and SHA-256 take at a time.
const HASHED_BLOCKS: usize = 4;
/// How many are decrypted at a time.
const DECRYPTED_BLOCKS: usize = 32;

/// AES in chains of blocks, the last of which steals from the one before it what it lacks (RFC 3962
/// section 5); the chain begins with zeros.
pub(super) enum Cipher {
    Aes128(Box<Aes128>),
    Aes256(Box<Aes256>),
}

impl Cipher {
    /// None if the key is of another length.
    pub(super) fn new(enctype: Enctype, key: &[u8]) -> Option<Cipher> {
        match enctype {
            Enctype::Aes128Sha1 | Enctype::Aes128Sha256 => {
                Aes128::new_from_slice(key).ok().map(Box::new).map(Cipher::Aes128)
            }
            Enctype::Aes256Sha1 | Enctype::Aes256Sha384 => {
                Aes256::new_from_slice(key).ok().map(Box::new).map(Cipher::Aes256)
            }
        }
    }

    /// One block by itself.
    pub(super) fn encrypt_block(&self, block: &mut [u8; BLOCK_BYTES]) {
        match self {
            Cipher::Aes128(aes) => aes.encrypt_block(block.into()),
            Cipher::Aes256(aes) => aes.encrypt_block(block.into()),
        }
    }

    /// Encrypts a text of more than one block in place. All of it, as it is `shown`, passes `hash` piece
    /// by piece: a chain waits for each of its blocks, and the processor hashes meanwhile.
    pub(super) fn encrypt(&self, text: &mut [u8], shown: Shown, hash: impl FnMut(&[u8])) {
        debug_assert!(text.len() > BLOCK_BYTES);
        let chain = Chain { text, shown, hash };
        match self {
            Cipher::Aes128(aes) => aes.encrypt_with_backend(chain),
            Cipher::Aes256(aes) => aes.encrypt_with_backend(chain),
        }
    }

    /// Decrypts a text of more than one block in place.
    pub(super) fn decrypt(&self, text: &mut [u8]) {
        match self {
            Cipher::Aes128(aes) => decrypt(&**aes, text),
            Cipher::Aes256(aes) => decrypt(&**aes, text),
        }
    }
}

/// What of a text is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Plain,
    Encrypted,
}

/// A text to encrypt, and who is shown what of it.
struct Chain<'a, F> {
    text: &'a mut [u8],
    shown: Shown,
    hash: F,
}

impl<F> BlockSizeUser for Chain<'_, F> {
    type BlockSize = U16;
}

impl<F: FnMut(&[u8])> BlockCipherEncClosure for Chain<'_, F> {
    // Inlined into code that may use the processor's own instructions for AES.
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, aes: &B) {
        let Chain { text, shown, mut hash } = self;
        let mut show = |piece: &[u8], now| {
            if shown == now {
                hash(piece);
            }
        };
        let (blocks, end) = split(text);
        let mut last = Block::default();
        for piece in blocks.chunks_mut(HASHED_BLOCKS) {
            show(Block::slice_as_flattened(piece), Shown::Plain);
            for block in piece.iter_mut() {
                last = xor(*block, last);
                aes.encrypt_block_inplace(&mut last);
                *block = last;
            }
            show(Block::slice_as_flattened(piece), Shown::Encrypted);
        }
        show(end, Shown::Plain);
        if let Some((block, tail)) = end.split_first_chunk_mut() {
            let mut stolen_from = xor(Block::from(*block), last);
            aes.encrypt_block_inplace(&mut stolen_from);
            last = xor(padded(tail), stolen_from);
            aes.encrypt_block_inplace(&mut last);
            *block = last.into();
            tail.copy_from_slice(&stolen_from[..tail.len()]);
        }
        show(end, Shown::Encrypted);
    }
}

/// Blocks do not wait for each other here: many are decrypted at the same time, each by itself, and
/// then chained.
fn decrypt(aes: &impl BlockCipherDecrypt<BlockSize = U16>, text: &mut [u8]) {
    debug_assert!(text.len() > BLOCK_BYTES);
    let (blocks, end) = split(text);
    let mut before = Block::default();
    for piece in blocks.chunks_mut(DECRYPTED_BLOCKS) {
        let mut encrypted = [Block::default(); DECRYPTED_BLOCKS];
        encrypted[..piece.len()].copy_from_slice(piece);
        aes.decrypt_blocks(piece);
        for (block, encrypted) in piece.iter_mut().zip(encrypted) {
            *block = xor(*block, before);
            before = encrypted;
        }
    }
    let Some((block, tail)) = end.split_first_chunk_mut() else { return };
    let mut last = Block::from(*block);
    aes.decrypt_block(&mut last);
    // What was stolen is what the tail was padded with.
    let mut stolen_from = last;
    stolen_from[..tail.len()].copy_from_slice(tail);
    last = xor(last, stolen_from);
    aes.decrypt_block(&mut stolen_from);
    *block = xor(stolen_from, before).into();
    tail.copy_from_slice(&last[..tail.len()]);
}

/// The blocks of a text but the last two, and these, of which the second may be a part of one.
fn split(text: &mut [u8]) -> (&mut [Block], &mut [u8]) {
    let last_two = text.len().saturating_sub(1) % BLOCK_BYTES + 1 + BLOCK_BYTES;
    let (blocks, end) = text.split_at_mut(text.len().saturating_sub(last_two));
    (Block::slice_as_chunks_mut(blocks).0, end)
}

fn padded(tail: &[u8]) -> Block {
    let mut block = Block::default();
    block[..tail.len()].copy_from_slice(tail);
    block
}

#[inline(always)]
fn xor(one: Block, other: Block) -> Block {
    (u128::from_ne_bytes(one.0) ^ u128::from_ne_bytes(other.0)).to_ne_bytes().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::hex;
    use super::*;

    fn encrypted(cipher: &Cipher, text: &[u8]) -> Vec<u8> {
        let (mut out, mut shown) = (text.to_vec(), Vec::new());
        cipher.encrypt(&mut out, Shown::Plain, |piece| shown.extend_from_slice(piece));
        assert_eq!(shown, text);
        let (again, mut shown) = (&mut text.to_vec(), Vec::new());
        cipher.encrypt(again, Shown::Encrypted, |piece| shown.extend_from_slice(piece));
        assert_eq!((&shown, &*again), (&out, &out));
        out
    }

    #[test]
    fn the_vectors_of_rfc_3962_appendix_b() {
        let cipher = Cipher::new(Enctype::Aes128Sha1, b"chicken teriyaki").unwrap();
        let text = b"I would like the General Gau's Chicken, please, and wonton soup.";
        for (len, expected) in [
            (17, "c6353568f2bf8cb4d8a580362da7ff7f97"),
            (31, "fc00783e0efdb2c1d445d4c8eff7ed2297687268d6ecccc0c07b25e25ecfe5"),
            (32, "39312523a78662d5be7fcbcc98ebf5a897687268d6ecccc0c07b25e25ecfe584"),
            (
                47,
                "97687268d6ecccc0c07b25e25ecfe584b3fffd940c16a18c1b5549d2f838029e\
                 39312523a78662d5be7fcbcc98ebf5",
            ),
            (
                48,
                "97687268d6ecccc0c07b25e25ecfe5849dad8bbb96c4cdc03bc103e1a194bbd8\
                 39312523a78662d5be7fcbcc98ebf5a8",
            ),
            (
                64,
                "97687268d6ecccc0c07b25e25ecfe58439312523a78662d5be7fcbcc98ebf5a8\
                 4807efe836ee89a526730dbc2f7bc8409dad8bbb96c4cdc03bc103e1a194bbd8",
            ),
        ] {
            let mut out = encrypted(&cipher, &text[..len]);
            assert_eq!(out, hex(expected));
            cipher.decrypt(&mut out);
            assert_eq!(out, text[..len]);
        }
    }

    #[test]
    fn a_key_of_another_length_makes_no_cipher() {
        for (enctype, len) in [(Enctype::Aes128Sha1, 32), (Enctype::Aes256Sha384, 16)] {
            assert!(Cipher::new(enctype, &vec![0; len]).is_none());
        }
    }

    proptest! {
        #[test]
        fn what_is_encrypted_can_be_decrypted(
            key in any::<[u8; 32]>(),
            text in prop::collection::vec(any::<u8>(), BLOCK_BYTES + 1..400),
        ) {
            for (enctype, key) in [(Enctype::Aes128Sha1, &key[..16]), (Enctype::Aes256Sha1, &key)] {
                let cipher = Cipher::new(enctype, key).unwrap();
                let mut out = encrypted(&cipher, &text);
                prop_assert_ne!(&out, &text);
                cipher.decrypt(&mut out);
                prop_assert_eq!(&out, &text);
            }
        }
    }
}
