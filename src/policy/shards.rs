use std::hash::{BuildHasher, RandomState};
use std::hint;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;

/// A table in parts, each behind a lock of its own, so that threads seldom meet.
pub(super) struct Shards<T> {
    shards: Box<[Mutex<T>]>,
    /// Odd, and no client knows it: nobody can choose addresses that meet in one shard.
    seed: u64,
}

/// The upper half of an IPv6 address, or an IPv4 address where no host has an IPv6 address: below
/// ff00::/8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Client(u64);

impl<T> Shards<T> {
    const NUMBER_LOG2: u32 = 6;
    /// How many there are.
    pub(super) const NUMBER: usize = 1 << Self::NUMBER_LOG2;
    /// How often to look at a shard that is held before another thread has our CPU.
    const LOOKS: usize = 1000;

    pub(super) fn new() -> Shards<T>
    where
        T: Default,
    {
        let shards = (0..Self::NUMBER).map(|_| Mutex::default()).collect();
        Shards { shards, seed: RandomState::new().hash_one(0) | 1 }
    }

    /// The one that has what goes by this number.
    ///
    /// Held for a few steps in a table, by a thread that has a CPU of its own: whoever finds it held
    /// does better to look again than to go to sleep, which takes two system calls.
    pub(super) fn of(&self, number: u64) -> MutexGuard<'_, T> {
        let shard = &self.shards[self.index(number)];
        let mut looks: usize = 0;
        loop {
            looks += 1;
            match shard.try_lock() {
                Ok(shard) => return shard,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                // Its thread may have lost its CPU: it gets ours.
                Err(TryLockError::WouldBlock) if looks.is_multiple_of(Self::LOOKS) => {
                    thread::yield_now()
                }
                Err(TryLockError::WouldBlock) => hint::spin_loop(),
            }
        }
    }

    pub(super) fn index(&self, number: u64) -> usize {
        (number.wrapping_mul(self.seed) >> (u64::BITS - Self::NUMBER_LOG2)) as usize
    }

    /// All of them, one after the other.
    pub(super) fn all(&self) -> impl Iterator<Item = MutexGuard<'_, T>> {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Client {
    pub(super) fn new(address: IpAddr) -> Client {
        match address.to_canonical() {
            IpAddr::V4(v4) => Client(u64::from(u32::MAX) << 32 | u64::from(v4.to_bits())),
            IpAddr::V6(v6) => Client((v6.to_bits() >> 64) as u64),
        }
    }

    pub(super) fn number(self) -> u64 {
        self.0
    }
}
