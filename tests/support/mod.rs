//! What the tests of a running server share: the server itself, the two ends of a session, and
//! how to wait. Nothing here sleeps to synchronise: it waits for a condition, up to a deadline.

// Every test crate uses its own part of this module.
#![allow(dead_code, unreachable_pub)]

pub mod dns;
pub mod initiator;
pub mod lan;
pub mod logins;
pub mod netns;
pub mod origin;
pub mod peer;
pub mod realm;
pub mod server;
pub mod socks;
pub mod strace;
pub mod stubs;
pub mod udp;

use std::thread;
use std::time::{Duration, Instant};

use origin::Origin;
use peer::{End, Peer};
use server::Server;

use rustix::process::{Resource, getrlimit, setrlimit};

/// How long a test waits for something that should happen at once.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until `condition` holds, or fails saying `what` did not happen.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// `len` bytes that look random and are the same for the same seed.
pub fn random_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Fails where two long byte strings differ, without printing them.
#[track_caller]
pub fn assert_same_bytes(got: &[u8], expected: &[u8]) {
    if got == expected {
        return;
    }
    let first = got.iter().zip(expected).take_while(|(a, b)| a == b).count();
    panic!("{} bytes of {} arrived, first difference at {first}", got.len(), expected.len());
}

/// A session in which `len` bytes go in each direction at once: every byte arrives, then the end.
#[track_caller]
pub fn assert_carries_whole(server: &Server, len: usize, circumstances: &str) {
    let (client, target) = session(server);
    let (up, down) = (random_bytes(1, len), random_bytes(2, len));
    thread::scope(|scope| {
        let at_target = scope.spawn(|| target.exchange(&down));
        let at_client = client.exchange(&up);
        let at_target = at_target.join().expect("reading does not panic");
        for (received, sent) in [(at_client, &down), (at_target, &up)] {
            assert_same_bytes(&received.bytes, sent);
            assert_eq!(received.end, End::Fin, "{circumstances}");
        }
    });
}

/// Lifts the soft descriptor limit to the hard one, for this process and the servers it starts.
pub fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the soft limit may be raised to the hard one");
}

/// A granted session through `server`: the client, and the target's end.
#[track_caller]
pub fn session(server: &Server) -> (Peer, Peer) {
    let origin = Origin::start();
    let client = socks::open_session(server.address(), origin.address());
    (client, origin.accept())
}

/// Ends a session cleanly, the client first.
#[track_caller]
pub fn finish(client: Peer, target: &Peer) {
    client.fin();
    target.expect_eof();
    target.fin();
    client.expect_eof();
}
