//! The bytes that peers send.

use std::sync::LazyLock;

use crate::random::Random;
use crate::script::Plan;

/// What all payloads are cut from; its length is prime, so that no buffer's size hides a mistake.
pub(super) static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::new(1);
    (0..65_521).map(|_| random.next() as u8).collect()
});

/// Calls `see` with the pieces of `n` payload bytes from `at`, and where each begins in them.
pub(super) fn with_payload(plan: &Plan, at: usize, n: usize, mut see: impl FnMut(usize, &[u8])) {
    let mut done = 0;
    while done < n {
        let start = (plan.phase + at + done) % PATTERN.len();
        let piece = (n - done).min(PATTERN.len() - start);
        see(done, &PATTERN[start..start + piece]);
        done += piece;
    }
}

pub(super) fn is_payload(plan: &Plan, at: usize, bytes: &[u8]) -> bool {
    let mut same = true;
    with_payload(plan, at, bytes.len(), |done, piece| {
        same &= bytes[done..][..piece.len()] == *piece
    });
    same
}
