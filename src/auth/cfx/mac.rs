use arrayvec::ArrayVec;
use hmac::{Hmac, KeyInit, Mac as _};
use sha1::Sha1;
use sha2::{Sha256, Sha384};

use super::Enctype;

/// The longest hash, in bytes.
const HASH_MAX: usize = 48;

/// A hash, or the front of one.
pub(super) type Hash = ArrayVec<u8, HASH_MAX>;

/// A keyed hash that is being computed.
#[derive(Clone)]
pub(super) enum Mac {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
}

impl Mac {
    pub(super) fn new(enctype: Enctype, key: &[u8]) -> Mac {
        const ANY: &str = "a key of any length";
        match enctype {
            Enctype::Aes128Sha1 | Enctype::Aes256Sha1 => {
                Mac::Sha1(Hmac::new_from_slice(key).expect(ANY))
            }
            Enctype::Aes128Sha256 => Mac::Sha256(Hmac::new_from_slice(key).expect(ANY)),
            Enctype::Aes256Sha384 => Mac::Sha384(Hmac::new_from_slice(key).expect(ANY)),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Mac::Sha1(mac) => mac.update(bytes),
            Mac::Sha256(mac) => mac.update(bytes),
            Mac::Sha384(mac) => mac.update(bytes),
        }
    }

    /// The first bytes of the hash.
    pub(super) fn finish(self, bytes: usize) -> Hash {
        let front = |hash: &[u8]| hash.iter().copied().take(bytes).collect();
        match self {
            Mac::Sha1(mac) => front(&mac.finalize().into_bytes()),
            Mac::Sha256(mac) => front(&mac.finalize().into_bytes()),
            Mac::Sha384(mac) => front(&mac.finalize().into_bytes()),
        }
    }
}
