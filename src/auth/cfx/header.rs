use crate::proto::gssapi::Broken;

pub(super) const HEADER_BYTES: usize = 16;

/// TOK_ID of a message that is wrapped.
const WRAP: [u8; 2] = [5, 4];
const FILLER: u8 = 0xff;

/// It was not the initiator who has sent it.
pub(super) const SENT_BY_ACCEPTOR: u8 = 1;
/// It is encrypted.
pub(super) const SEALED: u8 = 2;
/// Its keys come of the acceptor's subkey.
pub(super) const ACCEPTOR_SUBKEY: u8 = 4;

/// What stands before each wrapped message (RFC 4121 section 4.2.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) flags: u8,
    /// EC: bytes of filler behind the message if it is sealed, otherwise bytes of its tag.
    pub(super) extra: u16,
    /// RRC: by how many bytes the body is rotated to the right.
    pub(super) rotated: u16,
    /// SND_SEQ.
    pub(super) number: u64,
}

impl Header {
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Header, Broken> {
        let &[first, second, flags, FILLER, e, c, r, rc, ref number @ ..] = bytes else {
            return Err(Broken);
        };
        if [first, second] != WRAP {
            return Err(Broken);
        }
        Ok(Header {
            flags,
            extra: u16::from_be_bytes([e, c]),
            rotated: u16::from_be_bytes([r, rc]),
            number: u64::from_be_bytes(*number),
        })
    }

    pub(super) fn bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..2].copy_from_slice(&WRAP);
        bytes[2..4].copy_from_slice(&[self.flags, FILLER]);
        bytes[4..6].copy_from_slice(&self.extra.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.rotated.to_be_bytes());
        bytes[8..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::hex;
    use super::*;

    #[test]
    fn a_header_of_mits_is_read_and_written() {
        let header = Header {
            flags: SENT_BY_ACCEPTOR | ACCEPTOR_SUBKEY,
            extra: 12,
            rotated: 28,
            number: 0x1f62_a392,
        };
        let bytes = hex("050405ff000c001c000000001f62a392");
        assert_eq!(header.bytes()[..], bytes);
        assert_eq!(Header::parse(bytes[..].try_into().unwrap()), Ok(header));
    }

    proptest! {
        #[test]
        fn what_can_be_read_is_written_the_same(
            mut bytes in any::<[u8; HEADER_BYTES]>(),
            as_it_is in any::<bool>(),
        ) {
            if !as_it_is {
                bytes[..2].copy_from_slice(&WRAP);
                bytes[3] = FILLER;
            }
            match Header::parse(&bytes) {
                Ok(header) => prop_assert_eq!(header.bytes(), bytes),
                Err(Broken) => prop_assert!(bytes[..2] != WRAP || bytes[3] != FILLER),
            }
        }
    }
}
