//! What protects the messages of an established context.

use std::cell::Cell;

use zeroize::Zeroizing;

use super::Failure;
use super::cfx::{Cfx, Exported, SEED_BYTES};
use crate::proto::gssapi::{Broken, Opened, Order, Seal};
use crate::sys;
use crate::sys::gssapi::{Context, Flags, Lucid, Order as Told};

/// Has the messages of a context protected by ourselves where its enctype is in use, and by the library
/// where it is not. Of aes256-cts-hmac-sha1-96 and 60,000 bytes that takes 0.5 ns a byte instead of 1.6
/// (integrity), 1.1 instead of 6.2 to encrypt and 0.8 instead of 5.5 to decrypt; of the enctypes of
/// RFC 8009 a sixth to three quarters of the library's time (MIT 1.20, a processor with AES and SHA
/// instructions).
///
/// We look at the order of messages whatever was agreed on. The library does so only if its client
/// wants that: without it somebody could leave out messages, or exchange them, and nobody would see.
pub(super) fn seal(context: Context, flags: Flags) -> Result<Box<dyn Seal>, Failure> {
    if !context.enctype().is_some_and(Cfx::knows) {
        let tells_order = flags.contain(Flags::SEQUENCE);
        let seal = || -> Box<dyn Seal> { Box::new(Sealed::new(context)) };
        return tells_order.then(seal).ok_or(Failure::Protection);
    }
    let lucid = context.export().map_err(|status| {
        log::debug!("GSSAPI: a context is not given away: {status}");
        Failure::Broken
    })?;
    let Some(cfx) = take_over(&lucid) else {
        log::debug!("GSSAPI: a context's key is none of its enctype");
        return Err(Failure::Broken);
    };
    Ok(Box::new(cfx))
}

/// The context is ours from here; none if its key is no key.
fn take_over(lucid: &Lucid) -> Option<Cfx> {
    let key = lucid.acceptor_subkey.as_ref().unwrap_or(&lucid.key);
    let exported = Exported {
        is_initiator: lucid.is_initiator,
        sends: lucid.send_seq,
        receives: lucid.recv_seq,
        key: &key.bytes,
        enctype: key.enctype,
        is_acceptors: lucid.acceptor_subkey.is_some(),
    };
    let mut seed = Zeroizing::new([0; SEED_BYTES]);
    sys::fill_random(&mut *seed);
    Cfx::new(&exported, &seed)
}

/// A context that the library keeps.
struct Sealed {
    context: Context,
    /// The last answers of [`Seal::message_max`] and what they were asked for: they do not change.
    limits: [Cell<Option<(usize, usize)>>; 2],
}

impl Sealed {
    fn new(context: Context) -> Sealed {
        Sealed { context, limits: [Cell::new(None), Cell::new(None)] }
    }
}

impl Seal for Sealed {
    fn message_max(&self, token_max: usize, confidential: bool) -> usize {
        let known = &self.limits[usize::from(confidential)];
        if let Some((_, limit)) = known.get().filter(|&(asked, _)| asked == token_max) {
            return limit;
        }
        let limit =
            self.context.wrap_size_limit(token_max, confidential).unwrap_or_else(|status| {
                log::debug!("GSSAPI: no message can be sent: {status}");
                0
            });
        known.set(Some((token_max, limit)));
        limit
    }

    fn wrap(
        &mut self,
        message: &[u8],
        confidential: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        self.context.wrap(message, confidential, out).map_err(|status| {
            log::debug!("GSSAPI: a message cannot be sent: {status}");
            Broken
        })
    }

    fn unwrap(&mut self, token: &mut [u8]) -> Result<Opened, Broken> {
        let opened = self.context.unwrap(token).map_err(|status| {
            log::debug!("GSSAPI: no message: {status}");
            Broken
        })?;
        let order = match opened.order {
            Told::Next => Order::Next,
            // It calls what came more than 64 messages ago unsequenced, too.
            Told::Duplicate | Told::Old | Told::Unsequenced => Order::Duplicate,
            Told::Gap => Order::Gap,
        };
        Ok(Opened { message: 0..opened.len, confidential: opened.is_confidential, order })
    }
}
