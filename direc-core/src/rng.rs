//! All randomness of a node: one seed, one stream of ChaCha12 (RFC 8439's cipher with 12 rounds).

use std::time::Duration;

use chacha20::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng};

/// A node's generator. Its state is as secret as the seed, hence no `Debug`.
pub(crate) struct Rng(ChaCha12Rng);

impl Rng {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha12Rng::from_seed(seed))
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    pub(crate) fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A time below `limit`.
    pub(crate) fn below(&mut self, limit: Duration) -> Duration {
        let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX).max(1);
        Duration::from_nanos(self.u64() % nanos)
    }

    /// A pause of at most `full` and at least half of it: so that nobody goes in step with others.
    pub(crate) fn vary(&mut self, full: Duration) -> Duration {
        full / 2 + self.below(full / 2)
    }

    /// A generator of its own for a part of the node, so that what one part draws does not shift another's numbers.
    pub(crate) fn fork(&mut self) -> Self {
        Self::new(self.bytes())
    }
}
