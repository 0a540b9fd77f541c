//! One seed, several independent streams of random numbers.

use std::time::Duration;

use chacha20::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// What a stream of random numbers is for: each use draws from its own, so that one more packet on the wire does not
/// change anybody's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Loss, jitter and the rest of what links do.
    Network,
    /// Ports that NATs pick.
    Nat,
    /// Seeds and keys of the nodes.
    Nodes,
    /// What the cryptography library draws.
    Crypto,
    /// Hostile bytes.
    Garbage,
    /// Keys of relays beyond the first, and seeds of relays that start anew.
    Relays,
    /// What a catalogue of scenarios leaves to chance.
    Stories,
}

/// A reproducible stream of random numbers.
#[derive(Debug)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// The stream of `seed` for one purpose.
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8] = purpose as u8 + 1;
        Self(ChaCha8Rng::from_seed(key))
    }

    /// What happens on one wire, of those that this number tells apart: its own stream, so that what goes over one wire
    /// changes nothing on another.
    pub(crate) fn wire(seed: u64, number: [u16; 3]) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8] = Purpose::Network as u8 + 1;
        for (place, part) in key[9..].chunks_exact_mut(2).zip(number) {
            place.copy_from_slice(&part.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// A number below `bound`, or 0 if there is none.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The product's upper half: no division, and a bias below 2^-32 for the small bounds used here.
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Whether an event of this probability happens. Draws nothing for the certain ones.
    pub fn chance(&mut self, probability: f64) -> bool {
        if probability <= 0.0 {
            false
        } else if probability >= 1.0 {
            true
        } else {
            f64::from(self.0.next_u32()) < probability * 4_294_967_296.0
        }
    }

    /// A time from 0 to `most`, both included. Draws nothing if `most` is 0.
    pub fn upto(&mut self, most: Duration) -> Duration {
        match u64::try_from(most.as_nanos()) {
            Ok(0) => Duration::ZERO,
            Ok(nanos) => Duration::from_nanos(self.below(nanos.saturating_add(1))),
            Err(_) => most,
        }
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// 32 random bytes: a seed or a key.
    pub fn key(&mut self) -> [u8; 32] {
        let mut key = [0; 32];
        self.fill(&mut key);
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_stream_for_each_purpose() {
        let key = |seed, purpose| Rng::new(seed, purpose).key();
        assert_eq!(key(1, Purpose::Network), key(1, Purpose::Network));
        assert_ne!(key(1, Purpose::Network), key(1, Purpose::Crypto));
        assert_ne!(key(1, Purpose::Network), key(2, Purpose::Network));
    }

    #[test]
    fn numbers_stay_below_their_bound_and_reach_it() {
        let mut rng = Rng::new(7, Purpose::Network);
        let seen: std::collections::BTreeSet<u64> = (0..200).map(|_| rng.below(5)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.upto(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn a_tenth_is_about_a_tenth() {
        let mut rng = Rng::new(7, Purpose::Network);
        let hits = (0..10_000).filter(|_| rng.chance(0.1)).count();
        assert!((900..1100).contains(&hits), "{hits}");
        assert!(!rng.chance(0.0) && rng.chance(1.0));
    }
}
