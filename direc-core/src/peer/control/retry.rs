//! How long a try to reach the relay may take, and when the next one begins.

use std::time::{Duration, Instant};

use super::{Control, State};

/// Pause before the first reconnect, doubled each time up to the last, each then varied by half.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
pub(in crate::peer) const LAST_PAUSE: Duration = Duration::from_secs(30);
/// The same while connections have no other way than this relay; it doubles after so many tries.
const URGENT_PAUSE: Duration = Duration::from_millis(60);
const URGENT_TRIES: u32 = 12;

impl Control {
    /// How long a try may take: as long as the settings say, but where the relay has been reached before, its round trip
    /// is known, and a packet sent too early is better followed by another one soon.
    pub(super) fn patience(&self) -> Duration {
        match self.rtt.filter(|_| self.urgent) {
            Some(rtt) => (rtt * 6 + Duration::from_millis(250)) * (1 + self.attempts / URGENT_TRIES),
            None => self.patience,
        }
        .min(self.patience)
    }

    /// Whether this peer's connections have no other way.
    pub(in crate::peer) fn set_urgent(&mut self, now: Instant, urgent: bool) {
        if urgent && !self.urgent {
            self.attempts = 0;
            if let State::Waiting { until } = &mut self.state {
                *until = (*until).min(now + self.rng.vary(URGENT_PAUSE));
            }
        }
        self.urgent = urgent;
    }

    /// Backed off without end, and never in step with others that lost the same relay.
    pub(super) fn pause(&mut self) -> Duration {
        let (first, doublings) = match self.urgent && !self.renewal.is_due() {
            true => (URGENT_PAUSE, self.attempts / URGENT_TRIES),
            false => (FIRST_PAUSE, self.attempts),
        };
        let full = first.saturating_mul(1 << doublings.min(16)).min(LAST_PAUSE);
        self.attempts = self.attempts.saturating_add(1);
        self.rng.vary(full)
    }
}
