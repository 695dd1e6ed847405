#![allow(unsafe_code)]

use std::fmt;
use std::ptr;
use std::slice;

use zeroize::{Zeroize, Zeroizing};

use super::abi::{BufferSet, KEY_TYPE, LucidContext, LucidKey, Oid, SESSION_KEY};
use super::{Context, Library, Status};

/// The version of what is exported that we know.
const VERSION: u32 = 1;
/// `protocol` of a context whose messages are RFC 4121's.
const RFC_4121: u32 = 1;
/// A session key is told in two parts; more are none of ours.
const PARTS_MAX: usize = 2;
/// The longest key there is has 32 bytes: one of more is no key.
const KEY_MAX: u32 = 64;

/// What an established context consists of: enough to make and open the messages of RFC 4121.
#[derive(Debug)]
pub struct Lucid {
    /// Whether this is the side that has begun the context.
    pub is_initiator: bool,
    /// The sequence number of the next message that is sent.
    pub send_seq: u64,
    /// The sequence number of the next message that is received.
    pub recv_seq: u64,
    /// The initiator's subkey, or the session's key where it has asserted none.
    pub key: Key,
    /// The key that the acceptor has asserted: it takes the other's place (RFC 4121 section 2).
    pub acceptor_subkey: Option<Key>,
}

/// A key and what it is for.
pub struct Key {
    /// The number of its encryption type (RFC 3961 section 8).
    pub enctype: u32,
    /// Its bytes.
    pub bytes: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key {{ enctype: {}, bytes: [redacted] }}", self.enctype)
    }
}

impl Context {
    /// The enctype of the key that its messages are protected by, if the library tells.
    pub fn enctype(&self) -> Option<u32> {
        let library = &self.handle.library;
        let mut told = Told { library, raw: ptr::null_mut() };
        let (asked, mut minor) = (Oid::of(SESSION_KEY), 0);
        // SAFETY: the context is the library's, and what it tells has a live place.
        let major = unsafe {
            (library.functions.inquire_by_oid)(&mut minor, self.handle.raw, &asked, &mut told.raw)
        };
        library.check(major, minor).ok()?;
        told.enctype()
    }

    /// Takes the context from the library. Fails, and the context is gone, where its messages are
    /// not those of RFC 4121.
    pub fn export(mut self) -> Result<Lucid, Status> {
        let library = self.handle.library.clone();
        let mut exported = Exported { library: &library, raw: ptr::null_mut() };
        let (raw, mut minor) = (&mut self.handle.raw, 0);
        // SAFETY: the context is the library's, which leaves null there where it takes it.
        let major = unsafe {
            (library.functions.export_lucid)(&mut minor, raw, VERSION, &mut exported.raw)
        };
        library.check(major, minor)?;
        exported.read()
    }
}

/// What the library tells of a session key: itself, and an identifier of its type.
struct Told<'a> {
    library: &'a Library,
    raw: *mut BufferSet,
}

impl Told<'_> {
    fn parts(&mut self) -> impl Iterator<Item = &mut [u8]> {
        // SAFETY: it is null or the library's.
        let told = unsafe { self.raw.as_ref() };
        let count = told.map_or(0, |told| if told.elements.is_null() { 0 } else { told.count });
        (0..count.min(PARTS_MAX)).filter_map(move |index| {
            // SAFETY: there are so many buffers, and nobody else has them.
            let part = unsafe { told?.elements.add(index).as_mut() }?;
            let is_readable = !part.value.is_null() && part.length <= isize::MAX as usize;
            // SAFETY: a buffer has as many bytes as it says.
            is_readable
                .then(|| unsafe { slice::from_raw_parts_mut(part.value.cast(), part.length) })
        })
    }

    fn enctype(&mut self) -> Option<u32> {
        let number = self.parts().nth(1)?.strip_prefix(KEY_TYPE)?;
        // Seven bits an octet, of which the last has no eighth (X.690 section 8.19).
        let (last, rest) = number.split_last()?;
        let is_number = rest.len() < 4 && rest.iter().all(|octet| octet & 0x80 != 0);
        let number = rest.iter().fold(0, |sum, octet| (sum | u32::from(octet & 0x7f)) << 7);
        (is_number && last & 0x80 == 0).then_some(number | u32::from(*last))
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.parts().for_each(|part| part.zeroize());
        let mut minor = 0;
        // SAFETY: it is null or the library's, and nothing borrows from it any more.
        unsafe { (self.library.functions.release_buffer_set)(&mut minor, &mut self.raw) };
    }
}

/// What the library has exported, keys and all.
struct Exported<'a> {
    library: &'a Library,
    raw: *mut LucidContext,
}

impl Exported<'_> {
    fn read(&self) -> Result<Lucid, Status> {
        // SAFETY: the library has been asked for version 1, which is this, or it is null.
        let Some(exported) = (unsafe { self.raw.as_ref() }) else {
            return Err(Status::odd("the library exports nothing"));
        };
        if exported.version != VERSION || exported.protocol != RFC_4121 {
            return Err(Status::odd("the context's messages are not of RFC 4121"));
        }
        let acceptor_subkey = match exported.have_acceptor_subkey {
            0 => None,
            _ => Some(read_key(&exported.acceptor_subkey)?),
        };
        Ok(Lucid {
            is_initiator: exported.initiate != 0,
            send_seq: exported.send_seq,
            recv_seq: exported.recv_seq,
            key: read_key(&exported.ctx_key)?,
            acceptor_subkey,
        })
    }
}

fn read_key(key: &LucidKey) -> Result<Key, Status> {
    if key.data.is_null() || !(1..=KEY_MAX).contains(&key.length) {
        return Err(Status::odd("the library exports a key that is none"));
    }
    // SAFETY: a key has as many bytes as it says, until what was exported is freed.
    let bytes = unsafe { slice::from_raw_parts(key.data.cast::<u8>(), key.length as usize) };
    Ok(Key { enctype: key.enctype, bytes: Zeroizing::new(bytes.to_vec()) })
}

impl Drop for Exported<'_> {
    fn drop(&mut self) {
        if self.raw.is_null() {
            return;
        }
        let mut minor = 0;
        // SAFETY: it is the library's, which wipes the keys, and nobody has it after this.
        unsafe { (self.library.functions.free_lucid)(&mut minor, self.raw) };
    }
}
