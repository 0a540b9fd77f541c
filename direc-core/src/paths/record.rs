//! What has passed on one path: probes that may still come back, their score, and bytes.

use std::{collections::VecDeque, time::Instant};

use crate::wire::datagram::Nonce;

/// Probes whose echo may still come: two schedules' worth, however long the round trip.
const OPEN: usize = 18;
/// Probes that the score is over.
const SCORED: u32 = 32;

struct Open {
    nonce: Nonce,
    sent: Instant,
    /// Whether it was of full size.
    full: bool,
}

/// One path's record. Nonces are secrets until they are used: no `Debug` of them.
#[derive(Default)]
pub(super) struct Record {
    open: VecDeque<Open>,
    /// A bit for each of the last probes that came to an end, the latest lowest: whether it was answered.
    score: u32,
    scored: u32,
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
}

impl Record {
    pub(super) fn on_sent(&mut self, now: Instant, nonce: Nonce, full: bool) {
        if self.open.len() >= OPEN {
            self.open.pop_front();
            self.note(false);
        }
        self.open.push_back(Open { nonce, sent: now, full });
    }

    /// An echo with this nonce: when it was sent, and whether it was of full size. Earlier ones have been lost.
    pub(super) fn on_echo(&mut self, nonce: Nonce) -> Option<(Instant, bool)> {
        let at = self.open.iter().position(|open| open.nonce == nonce)?;
        let open = self.open.remove(at)?;
        self.note(true);
        Some((open.sent, open.full))
    }

    /// Whatever is still open will not be waited for.
    pub(super) fn forget_open(&mut self) {
        for _ in 0..self.open.len() {
            self.note(false);
        }
        self.open.clear();
    }

    fn note(&mut self, answered: bool) {
        self.score = self.score << 1 | u32::from(answered);
        self.scored = (self.scored + 1).min(SCORED);
    }

    /// Of the last probes: how many were answered, and how many were not.
    pub(super) fn score(&self) -> (u32, u32) {
        let mask = if self.scored == SCORED { u32::MAX } else { (1 << self.scored) - 1 };
        let answered = (self.score & mask).count_ones();
        (answered, self.scored - answered)
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").field("score", &self.score()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn the_score_is_over_the_last_thirty_two_probes() {
        let (mut record, now) = (Record::default(), Instant::now());
        for n in 0..100_u8 {
            record.on_sent(now, [n; 8], false);
            if n >= 50 {
                assert_eq!(record.on_echo([n; 8]), Some((now, false)));
            }
        }
        assert_eq!(record.score(), (32, 0));
        assert!(record.on_echo([99; 8]).is_none(), "an echo counts once");
        record.on_sent(now, [1; 8], true);
        record.forget_open();
        let (answered, lost) = record.score();
        assert_eq!(answered + lost, 32);
        assert!(lost >= 1);
    }
}
