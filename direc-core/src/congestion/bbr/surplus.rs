//! Acknowledgements that come together: more of them at once than the path's rate explains, as Wi-Fi and receivers that
//! acknowledge every tenth packet send them (draft-ietf-ccwg-bbr, section 4.5.9: `extra_acked`).

use std::time::Instant;

use super::{filter::MaxOverRounds, samples::Sample};

/// Round trips over which the most is remembered, and as many before.
const ROUNDS: u32 = 5;

#[derive(Clone, Copy, Debug)]
pub(super) struct Surplus {
    most: MaxOverRounds,
    since: Instant,
    acked: u64,
}

impl Surplus {
    pub(super) fn new(now: Instant) -> Self {
        Self { most: MaxOverRounds::new(ROUNDS), since: now, acked: 0 }
    }

    pub(super) fn update(&mut self, now: Instant, sample: &Sample, bandwidth: f64, window: u64) {
        let expected = |since: Instant| (bandwidth * now.saturating_duration_since(since).as_secs_f64()) as u64;
        if self.acked <= expected(self.since) {
            (self.since, self.acked) = (now, 0);
        }
        self.acked += sample.acked;
        let surplus = self.acked.saturating_sub(expected(self.since)).min(window);
        self.most.update(surplus as f64, sample.round);
    }

    /// Bytes that may be in flight beside the model's, so that the path stays full until the next acknowledgements.
    pub(super) fn get(&self) -> u64 {
        self.most.get() as u64
    }
}
