//! Reading a message from the front of what has arrived.

use super::Parsed;

/// The bytes not read yet. Every read answers `None` when too few are there.
pub(super) struct Reader<'a>(&'a [u8]);

/// A field that has no end within the length it may have.
pub(super) struct TooLong;

impl<'a> Reader<'a> {
    /// Parses one message: `read` stops with `None` where the bytes end too soon.
    pub(super) fn parse<T, E>(
        input: &'a [u8],
        read: impl FnOnce(&mut Reader<'a>) -> Option<Result<T, E>>,
    ) -> Parsed<T, E> {
        let mut reader = Reader(input);
        let value = read(&mut reader).transpose()?;
        Ok(value.map(|value| (value, input.len() - reader.0.len())))
    }

    pub(super) fn octet(&mut self) -> Option<u8> {
        let (&octet, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(octet)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (octets, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*octets)
    }

    /// A field behind an octet that tells its length.
    pub(super) fn counted(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(self.octet()?);
        let (field, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(field)
    }

    /// A field of at most `len_max` octets and the NUL that ends it; the NUL is not returned.
    pub(super) fn until_nul(&mut self, len_max: usize) -> Option<Result<&'a [u8], TooLong>> {
        let window = &self.0[..self.0.len().min(len_max + 1)];
        match window.iter().position(|&octet| octet == 0) {
            Some(end) => {
                let field = &self.0[..end];
                self.0 = &self.0[end + 1..];
                Some(Ok(field))
            }
            None if window.len() > len_max => Some(Err(TooLong)),
            None => None,
        }
    }
}
