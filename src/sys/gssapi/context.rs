#![allow(unsafe_code)]

use std::ops::BitOr;
use std::ptr;
use std::slice;
use std::sync::Arc;

use super::abi::{Buffer, Ctx, KRB5, Oid};
use super::status::{CONTINUE_NEEDED, DUPLICATE_TOKEN, GAP_TOKEN, OLD_TOKEN, UNSEQ_TOKEN};
use super::{Credentials, Library, Output, OwnedName, Status};

/// A context that is being established by somebody else.
pub struct Accepting {
    handle: Handle,
    credentials: Arc<Credentials>,
}

/// What came of a token.
pub enum Step {
    /// There must be another.
    Continue {
        /// What takes it.
        accepting: Accepting,
        /// What the other side must be sent before.
        answer: Vec<u8>,
    },
    /// That was the last.
    Complete {
        /// What is established.
        context: Context,
        /// What the other side must be sent.
        answer: Vec<u8>,
    },
}

impl Accepting {
    /// Nothing has come yet.
    pub fn new(credentials: &Arc<Credentials>) -> Accepting {
        let handle = Handle { library: credentials.library.clone(), raw: ptr::null_mut() };
        Accepting { handle, credentials: Arc::clone(credentials) }
    }

    /// Takes the other side's next token. Credentials that it delegates are not kept.
    pub fn accept(mut self, token: &[u8]) -> Result<Step, Status> {
        let library = &self.handle.library;
        let mut output = Output::new(library);
        let into: *mut Buffer = &mut output.buffer;
        let token = Buffer::of(token);
        let mut minor = 0;
        // SAFETY: the context is null in the first call and the library's in later ones, the token
        // is read before this returns, and what is not wanted is asked for nowhere.
        let major = unsafe {
            (library.functions.accept_sec_context)(
                &mut minor,
                &mut self.handle.raw,
                self.credentials.raw,
                &token,
                ptr::null(),
                ptr::null_mut(),
                ptr::null_mut(),
                into,
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        let answer = output.bytes().to_vec();
        match major {
            0 | CONTINUE_NEEDED if self.handle.raw.is_null() => {
                Err(Status::odd("the library goes on without a context"))
            }
            0 => {
                drop(output);
                Ok(Step::Complete { context: Context { handle: self.handle }, answer })
            }
            CONTINUE_NEEDED => {
                drop(output);
                Ok(Step::Continue { accepting: self, answer })
            }
            // A token that has come before is none, though the library may go on with it.
            _ => Err(Status::of(library, major, minor)),
        }
    }
}

/// A context that is established, for one thread at a time.
pub struct Context {
    pub(super) handle: Handle,
}

/// Who has made a context, and what it is able to do.
pub struct Peers {
    /// The principal of who began it.
    pub client: Box<[u8]>,
    /// The principal whose key we have accepted it with.
    pub service: Box<[u8]>,
    /// Whether the mechanism is Kerberos V5.
    pub is_kerberos: bool,
    /// What both sides have agreed on.
    pub flags: Flags,
}

/// What contexts are able to do (RFC 2744 section 5.19).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// The acceptor has proven who it is.
    pub const MUTUAL: Flags = Flags(2);
    /// A message that comes twice is told.
    pub const REPLAY: Flags = Flags(4);
    /// A message that comes too early or too late is told.
    pub const SEQUENCE: Flags = Flags(8);
    /// Messages may be encrypted.
    pub const CONFIDENTIALITY: Flags = Flags(16);
    /// A message that was changed is told.
    pub const INTEGRITY: Flags = Flags(32);
    /// The initiator does not want to be known.
    pub const ANONYMOUS: Flags = Flags(64);

    /// Whether all of these are there.
    pub fn contain(self, wanted: Flags) -> bool {
        self.0 & wanted.0 == wanted.0
    }
}

impl BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// A message that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// How many bytes of the token's room it has, from the front.
    pub len: usize,
    /// Whether it was encrypted.
    pub is_confidential: bool,
    /// What its sequence number says.
    pub order: Order,
}

/// What a sequence number says (RFC 2743 section 1.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// It is the next one, or the context does not look.
    Next,
    /// It has come before.
    Duplicate,
    /// It is too old to tell.
    Old,
    /// A later one has come before it.
    Unsequenced,
    /// One before it has not come.
    Gap,
}

impl Order {
    fn of(supplementary: u32) -> Order {
        let order = [
            (DUPLICATE_TOKEN, Order::Duplicate),
            (OLD_TOKEN, Order::Old),
            (UNSEQ_TOKEN, Order::Unsequenced),
            (GAP_TOKEN, Order::Gap),
        ];
        let said = order.into_iter().find(|(bit, _)| supplementary & bit != 0);
        said.map_or(Order::Next, |(_, order)| order)
    }
}

impl Context {
    /// Who has made it. Fails where the library does not say.
    pub fn peers(&self) -> Result<Peers, Status> {
        let library = &self.handle.library;
        let (mut client, mut service) = (library.nobody(), library.nobody());
        let (mut minor, mut flags) = (0, 0);
        let mut mech: *const Oid = ptr::null();
        // SAFETY: the context is the library's, and all that is asked for has a live place.
        let major = unsafe {
            (library.functions.inquire_context)(
                &mut minor,
                self.handle.raw,
                &mut client.raw,
                &mut service.raw,
                ptr::null_mut(),
                &mut mech,
                &mut flags,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        library.check(major, minor)?;
        Ok(Peers {
            client: client.text()?,
            service: service.text()?,
            is_kerberos: is_kerberos(mech),
            flags: Flags(flags),
        })
    }

    /// Adds the token that carries `message` to `out`.
    pub fn wrap(
        &mut self,
        message: &[u8],
        is_confidential: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Status> {
        let library = &self.handle.library;
        let mut output = Output::new(library);
        let into: *mut Buffer = &mut output.buffer;
        let message = Buffer::of(message);
        let (mut minor, mut is_encrypted) = (0, 0);
        // SAFETY: the context is the library's, the message is read before this returns, and what
        // comes of it has live places.
        let major = unsafe {
            (library.functions.wrap)(
                &mut minor,
                self.handle.raw,
                is_confidential.into(),
                0,
                &message,
                &mut is_encrypted,
                into,
            )
        };
        library.check(major, minor)?;
        if is_confidential && is_encrypted == 0 {
            return Err(Status::odd("the library does not encrypt what it should"));
        }
        if output.bytes().is_empty() {
            return Err(Status::odd("the library makes no token of a message"));
        }
        out.extend_from_slice(output.bytes());
        Ok(())
    }

    /// Opens a token: the message stands at its front afterwards. One that came out of order is
    /// opened all the same.
    pub fn unwrap(&mut self, token: &mut [u8]) -> Result<Opened, Status> {
        let library = &self.handle.library;
        let mut output = Output::new(library);
        let into: *mut Buffer = &mut output.buffer;
        let sealed = Buffer::of(token);
        let (mut minor, mut is_encrypted) = (0, 0);
        // SAFETY: the context is the library's, the token is read before this returns, and what
        // comes of it has live places; which protection was used is not asked.
        let major = unsafe {
            (library.functions.unwrap)(
                &mut minor,
                self.handle.raw,
                &sealed,
                into,
                &mut is_encrypted,
                ptr::null_mut(),
            )
        };
        let order = Order::of(library.check(major, minor)?);
        let message = output.bytes();
        let Some(room) = token.get_mut(..message.len()) else {
            return Err(Status::odd("the library makes more of a token than there is in it"));
        };
        room.copy_from_slice(message);
        Ok(Opened { len: message.len(), is_confidential: is_encrypted != 0, order })
    }

    /// The longest message whose token has at most `token_max` bytes; 0 if there is none.
    pub fn wrap_size_limit(
        &self,
        token_max: usize,
        is_confidential: bool,
    ) -> Result<usize, Status> {
        let library = &self.handle.library;
        let token_max = u32::try_from(token_max).unwrap_or(u32::MAX);
        let (mut minor, mut limit) = (0, 0);
        // SAFETY: the context is the library's, and the limit has a live place.
        let major = unsafe {
            let is_confidential = is_confidential.into();
            (library.functions.wrap_size_limit)(
                &mut minor,
                self.handle.raw,
                is_confidential,
                0,
                token_max,
                &mut limit,
            )
        };
        library.check(major, minor)?;
        Ok(limit.min(token_max) as usize)
    }
}

/// Whether an identifier of the library's is that of Kerberos V5.
fn is_kerberos(mech: *const Oid) -> bool {
    // SAFETY: it is null or points to an identifier that lives as long as the library.
    let Some(mech) = (unsafe { mech.as_ref() }) else { return false };
    // SAFETY: an identifier has as many bytes as it says.
    mech.length as usize == KRB5.len()
        && !mech.elements.is_null()
        && unsafe { slice::from_raw_parts(mech.elements.cast::<u8>(), KRB5.len()) } == KRB5
}

/// A context of the library's, whatever its state; null before there is one.
pub(super) struct Handle {
    pub(super) library: Library,
    pub(super) raw: Ctx,
}

// SAFETY: a context is for one thread at a time, whichever that is.
unsafe impl Send for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: it is the library's, or null, and nobody has it after this; no token is asked for.
        unsafe {
            (self.library.functions.delete_sec_context)(&mut minor, &mut self.raw, ptr::null_mut())
        };
    }
}

impl Library {
    /// A place for a name.
    fn nobody(&self) -> OwnedName<'_> {
        OwnedName { library: self, raw: ptr::null_mut() }
    }
}
