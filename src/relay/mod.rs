//! Moving bytes: endpoints, lanes between them, and the rings the bytes wait in.
//!
//! A session is two [`Endpoint`]s and two [`Lane`]s. [`pump`] moves one lane's bytes as far as they
//! will go; it is the same function for both directions. A lane copies through a ring; while it
//! carries bulk it splices through a kernel pipe instead. Nothing here knows a protocol, a clock or
//! what lies behind a [`Socket`], so the simulator drives it as the reactor does.
//!
//! Urgent data is not relayed: its byte is dropped, the stream goes on (SO_OOBINLINE is off).

mod buffers;
mod datagrams;
mod endpoint;
mod lane;
#[cfg(test)]
#[path = "../../tests/support/mechanism.rs"]
mod mechanism;
mod pipe;
mod ring;
#[cfg(test)]
mod scripted;
mod sealing;
mod tokens;

pub use buffers::{Buffers, INBOX_BYTES, RING_BYTES};
pub use datagrams::{
    DatagramEndpoint, DatagramSocket, PARCELS_MAX, Parcel, Parcels, Posted, Segmentation,
};
pub use endpoint::{Endpoint, Readiness, Received, Sent, Socket, Unspliceable};
pub use lane::{Flow, Lane, Pumped, Work, pump};
pub use pipe::{PIPE_BYTES, Pipe};
pub use ring::Ring;
pub use sealing::Stage;
pub use tokens::{Framed, Tokens};
