use subtle::ConstantTimeEq;

use super::cipher::{BLOCK_BYTES, Cipher, Shown};
use super::enctype::{Enctype, Purpose};
use super::mac::{Hash, Mac};
use crate::proto::gssapi::Broken;

/// What protects the messages of one end: an enctype, and its keys for one use.
pub(super) struct Keys {
    enctype: Enctype,
    cipher: Cipher,
    integrity: Mac,
    checksum: Mac,
}

impl Keys {
    /// None if the key is of another length than the enctype's.
    pub(super) fn new(enctype: Enctype, base: &[u8], usage: u32) -> Option<Keys> {
        let derive = |purpose| enctype.derive(base, usage, purpose);
        Some(Keys {
            enctype,
            cipher: Cipher::new(enctype, &derive(Purpose::Encryption)?)?,
            integrity: Mac::new(enctype, &derive(Purpose::Integrity)?),
            checksum: Mac::new(enctype, &derive(Purpose::Checksum)?),
        })
    }

    pub(super) fn tag_bytes(&self) -> usize {
        self.enctype.tag_bytes()
    }

    /// The tag of what everyone may read.
    pub(super) fn sign(&self, message: &[u8], header: &[u8]) -> Hash {
        let mut mac = self.checksum.clone();
        mac.update(message);
        mac.update(header);
        mac.finish(self.tag_bytes())
    }

    /// Whether that is its tag.
    pub(super) fn verify(&self, message: &[u8], header: &[u8], tag: &[u8]) -> Result<(), Broken> {
        same(&self.sign(message, header), tag)
    }

    /// Encrypts a text of more than one block, which begins with a block that nobody can foretell, in place, and gives the
    /// tag that goes behind it.
    pub(super) fn encrypt(&self, text: &mut [u8]) -> Hash {
        let mut mac = self.integrity_mac();
        self.cipher.encrypt(text, self.enctype.hashed(), |piece| mac.update(piece));
        mac.finish(self.tag_bytes())
    }

    /// Decrypts in place what is longer than a block and has this tag; what has not is nothing.
    pub(super) fn decrypt(&self, text: &mut [u8], tag: &[u8]) -> Result<(), Broken> {
        let mut mac = self.integrity_mac();
        match self.enctype.hashed() {
            Shown::Plain => {
                self.cipher.decrypt(text);
                mac.update(text);
                same(&mac.finish(self.tag_bytes()), tag)
            }
            Shown::Encrypted => {
                mac.update(text);
                same(&mac.finish(self.tag_bytes()), tag)?;
                self.cipher.decrypt(text);
                Ok(())
            }
        }
    }

    fn integrity_mac(&self) -> Mac {
        let mut mac = self.integrity.clone();
        if self.enctype.hashed() == Shown::Encrypted {
            // What the chain begins with (RFC 8009 section 5).
            mac.update(&[0; BLOCK_BYTES]);
        }
        mac
    }
}

fn same(expected: &[u8], tag: &[u8]) -> Result<(), Broken> {
    if bool::from(expected.ct_eq(tag)) { Ok(()) } else { Err(Broken) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::hex;
    use super::*;

    const AES128: &str = "3705d96080c17728a0e800eab6e0d23c";
    const AES256: &str = "6d404d37faf79f9df0d33568d320669800eb4836472ea8a026d16b7182460c52";

    fn keys(enctype: Enctype) -> Keys {
        let base = if enctype == Enctype::Aes128Sha256 { AES128 } else { AES256 };
        Keys::new(enctype, &hex(base), 2).unwrap()
    }

    #[test]
    fn the_encryptions_of_rfc_8009_appendix_a() {
        for (enctype, confounder, len, expected) in [
            (
                Enctype::Aes128Sha256,
                "7bca285e2fd4130fb55b1a5c83bc5b24",
                6,
                "84d7f30754ed987bab0bf3506beb09cfb55402cef7e6877ce99e247e52d16ed4421dfdf8976c",
            ),
            (
                Enctype::Aes128Sha256,
                "56ab21713ff62c0a1457200f6fa9948f",
                16,
                "3517d640f50ddc8ad3628722b3569d2ae07493fa8263254080ea65c1008e8fc2\
                 95fb4852e7d83e1e7c48c37eebe6b0d3",
            ),
            (
                Enctype::Aes128Sha256,
                "a7a4e29a4728ce10664fb64e49ad3fac",
                21,
                "720f73b18d9859cd6ccb4346115cd336c70f58edc0c4437c5573544c31c813bc\
                 e1e6d072c186b39a413c2f92ca9b8334a287ffcbfc",
            ),
            (
                Enctype::Aes256Sha384,
                "b80d3251c1f6471494256ffe712d0b9a",
                6,
                "4ed7b37c2bcac8f74f23c1cf07e62bc7b75fb3f637b9f559c7f664f69eab7b60\
                 92237526ea0d1f61cb20d69d10f2",
            ),
            (
                Enctype::Aes256Sha384,
                "53bf8a0d105265d4e276428624ce5e63",
                16,
                "bc47ffec7998eb91e8115cf8d19dac4bbbe2e163e87dd37f49beca92027764f6\
                 8cf51f14d798c2273f35df574d1f932e40c4ff255b36a266",
            ),
            (
                Enctype::Aes256Sha384,
                "763e65367e864f02f55153c7e3b58af1",
                21,
                "40013e2df58e8751957d2878bcd2d6fe101ccfd556cb1eae79db3c3ee86429f2\
                 b2a602ac86fef6ecb647d6295fae077a1feb517508d2c16b4192e01f62",
            ),
        ] {
            let keys = keys(enctype);
            let text: Vec<u8> = hex(confounder).into_iter().chain(0..len).collect();
            let mut out = text.clone();
            let tag = keys.encrypt(&mut out);
            assert_eq!([&out[..], &tag[..]].concat(), hex(expected));
            keys.decrypt(&mut out, &tag).unwrap();
            assert_eq!(out, text);
        }
    }

    #[test]
    fn the_checksums_of_rfc_8009_appendix_a() {
        let message: Vec<u8> = (0..21).collect();
        for (enctype, expected) in [
            (Enctype::Aes128Sha256, "d78367186643d67b411cba9139fc1dee"),
            (Enctype::Aes256Sha384, "45ee791567eefca37f4ac1e0222de80d43c3bfa06699672a"),
        ] {
            let keys = keys(enctype);
            assert_eq!(keys.sign(&message, &[])[..], hex(expected));
            assert_eq!(keys.verify(&message, &[], &hex(expected)), Ok(()));
            assert_eq!(keys.verify(&message, &[0], &hex(expected)), Err(Broken));
            assert_eq!(keys.verify(&message, &[], &hex(expected)[1..]), Err(Broken));
            assert_eq!(keys.verify(&message, &[], &[]), Err(Broken));
        }
    }
}
