//! The C side: types and functions as RFC 2744 and MIT's extensions to it declare them.

#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use super::super::library::{Library, LoadError};

/// Something of the library's that we only know the address of.
#[repr(C)]
pub(super) struct Opaque {
    _nothing: [u8; 0],
}

pub(super) type Name = *mut Opaque;
pub(super) type Cred = *mut Opaque;
pub(super) type Ctx = *mut Opaque;

#[repr(C)]
pub(super) struct Buffer {
    pub(super) length: usize,
    pub(super) value: *mut c_void,
}

impl Buffer {
    pub(super) const EMPTY: Buffer = Buffer { length: 0, value: ptr::null_mut() };

    /// To be read, and only while `bytes` are there.
    pub(super) fn of(bytes: &[u8]) -> Buffer {
        Buffer { length: bytes.len(), value: bytes.as_ptr().cast_mut().cast() }
    }
}

#[repr(C)]
pub(super) struct BufferSet {
    pub(super) count: usize,
    pub(super) elements: *mut Buffer,
}

#[repr(C)]
pub(super) struct Oid {
    pub(super) length: u32,
    pub(super) elements: *const c_void,
}

impl Oid {
    pub(super) fn of(bytes: &'static [u8]) -> Oid {
        Oid { length: bytes.len() as u32, elements: bytes.as_ptr().cast() }
    }
}

#[repr(C)]
pub(super) struct OidSet {
    pub(super) count: usize,
    pub(super) elements: *const Oid,
}

#[repr(C)]
pub(super) struct KeyValue {
    pub(super) key: *const c_char,
    pub(super) value: *const c_char,
}

#[repr(C)]
pub(super) struct KeyValues {
    pub(super) count: u32,
    pub(super) elements: *const KeyValue,
}

#[repr(C)]
pub(super) struct LucidKey {
    pub(super) enctype: u32,
    pub(super) length: u32,
    pub(super) data: *const c_void,
}

/// `gss_krb5_lucid_context_v1_t`.
#[repr(C)]
pub(super) struct LucidContext {
    pub(super) version: u32,
    pub(super) initiate: u32,
    pub(super) endtime: u32,
    pub(super) send_seq: u64,
    pub(super) recv_seq: u64,
    pub(super) protocol: u32,
    pub(super) rfc1964_sign_alg: u32,
    pub(super) rfc1964_seal_alg: u32,
    pub(super) rfc1964_key: LucidKey,
    pub(super) have_acceptor_subkey: u32,
    pub(super) ctx_key: LucidKey,
    pub(super) acceptor_subkey: LucidKey,
}

/// `GSS_C_ACCEPT`.
pub(super) const ACCEPT: c_int = 2;
/// `GSS_C_INDEFINITE`.
pub(super) const INDEFINITE: u32 = u32::MAX;

/// Kerberos V5 (RFC 1964): 1.2.840.113554.1.2.2.
pub(super) const KRB5: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2];
/// `GSS_C_NT_HOSTBASED_SERVICE`: 1.2.840.113554.1.2.1.4.
pub(super) const HOSTBASED_SERVICE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 1, 4];

/// `GSS_C_INQ_SSPI_SESSION_KEY`: 1.2.840.113554.1.2.2.5.5.
pub(super) const SESSION_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2, 5, 5];
/// What stands before the number of a session key's type: 1.2.840.113554.1.2.2.4.
pub(super) const KEY_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2, 4];

macro_rules! functions {
    ($($name:ident = $symbol:literal($($argument:ty),* $(,)?);)*) => {
        /// Each is as its C name's documentation says.
        pub(super) struct Functions {
            $(pub(super) $name: unsafe extern "C" fn(*mut u32, $($argument),*) -> u32,)*
        }

        impl Functions {
            pub(super) fn of(library: &Library) -> Result<Functions, LoadError> {
                // SAFETY: the types are those of gssapi.h, gssapi_ext.h and gssapi_krb5.h.
                Ok(unsafe { Functions { $($name: library.function($symbol)?,)* } })
            }
        }
    };
}

functions! {
    import_name = "gss_import_name"(*const Buffer, *const Oid, *mut Name);
    display_name = "gss_display_name"(Name, *mut Buffer, *mut *const Oid);
    release_name = "gss_release_name"(*mut Name);
    acquire_cred_from = "gss_acquire_cred_from"(
        Name, u32, *const OidSet, c_int, *const KeyValues, *mut Cred, *mut *mut OidSet, *mut u32,
    );
    release_cred = "gss_release_cred"(*mut Cred);
    accept_sec_context = "gss_accept_sec_context"(
        *mut Ctx, Cred, *const Buffer, *const c_void, *mut Name, *mut *const Oid, *mut Buffer,
        *mut u32, *mut u32, *mut Cred,
    );
    inquire_context = "gss_inquire_context"(
        Ctx, *mut Name, *mut Name, *mut u32, *mut *const Oid, *mut u32, *mut c_int, *mut c_int,
    );
    inquire_by_oid = "gss_inquire_sec_context_by_oid"(Ctx, *const Oid, *mut *mut BufferSet);
    delete_sec_context = "gss_delete_sec_context"(*mut Ctx, *mut Buffer);
    wrap = "gss_wrap"(Ctx, c_int, u32, *const Buffer, *mut c_int, *mut Buffer);
    unwrap = "gss_unwrap"(Ctx, *const Buffer, *mut Buffer, *mut c_int, *mut u32);
    wrap_size_limit = "gss_wrap_size_limit"(Ctx, c_int, u32, u32, *mut u32);
    display_status = "gss_display_status"(u32, c_int, *const Oid, *mut u32, *mut Buffer);
    release_buffer = "gss_release_buffer"(*mut Buffer);
    release_buffer_set = "gss_release_buffer_set"(*mut *mut BufferSet);
    export_lucid = "gss_krb5_export_lucid_sec_context"(*mut Ctx, u32, *mut *mut LucidContext);
    free_lucid = "gss_krb5_free_lucid_sec_context"(*mut LucidContext);
}
