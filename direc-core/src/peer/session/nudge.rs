//! A ping that is repeated until something is acknowledged.
//!
//! When the data moves, QUIC's own timers may have backed off beyond all measure (RFC 9002, section 6.2.1): it is a
//! ping's acknowledgement that shows it what was lost. Should that one ping be lost in its turn, everything waits.

use std::time::{Duration, Instant};

/// Pause before the first repeat, doubled each time up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(120);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// A ping under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nudge {
    since: Instant,
    again: Instant,
    pause: Duration,
}

impl Nudge {
    /// The ping was sent just now, on a path with this round trip if it is known.
    pub(super) fn new(now: Instant, rtt: Option<Duration>) -> Self {
        let pause = (rtt.unwrap_or_default() * 3 / 2).max(FIRST_PAUSE);
        Self { since: now, again: now + pause, pause }
    }

    /// Whether what left at that time answers for it.
    pub(super) fn is_answered_by(&self, sent: Instant) -> bool {
        sent >= self.since
    }

    /// When the next repeat is due.
    pub(super) fn due(&self) -> Instant {
        self.again
    }

    /// Whether a repeat is due; the one after it is put off.
    pub(super) fn poll(&mut self, now: Instant) -> bool {
        let due = self.again <= now;
        if due {
            self.again = now + self.pause;
            self.pause = (self.pause * 2).min(LAST_PAUSE);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn a_ping_is_repeated_less_and_less_often_until_something_later_is_acknowledged() {
        let start = Instant::now();
        let mut nudge = Nudge::new(start, Some(Duration::from_millis(100)));
        let repeats: Vec<u64> = (0..10_000).filter(|ms| nudge.poll(start + Duration::from_millis(*ms))).collect();
        assert_eq!(repeats, [150, 300, 600, 1200, 2400, 4400, 6400, 8400]);
        assert!(nudge.is_answered_by(start) && !nudge.is_answered_by(start - Duration::from_millis(1)));
    }
}
