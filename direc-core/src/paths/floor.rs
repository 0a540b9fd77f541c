//! The round trip of a path without the queues that its own data builds up: the least of the last seconds.
//!
//! Paths are compared by it. The one that carries the data would look slower than any other that is at rest, and each
//! move costs a slow start.

use std::time::{Duration, Instant};

/// How long a least round trip counts at least, and at most twice as long: a route that has got longer is noticed then.
const WINDOW: Duration = Duration::from_secs(10);

/// The least of the samples in a window that moves on by its own length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Floor {
    since: Instant,
    least: Duration,
    before: Duration,
}

impl Floor {
    pub(super) fn new(now: Instant, rtt: Duration) -> Self {
        Self { since: now, least: rtt, before: rtt }
    }

    pub(super) fn add(&mut self, now: Instant, rtt: Duration) {
        if now.saturating_duration_since(self.since) >= WINDOW {
            *self = Self { since: now, least: rtt, before: self.least };
        }
        self.least = self.least.min(rtt);
    }

    pub(super) fn get(&self) -> Duration {
        self.least.min(self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_queue_of_some_seconds_leaves_it_where_it_is() {
        let start = start();
        let mut floor = Floor::new(start, 20 * MS);
        (1..90).for_each(|i| floor.add(start + i * 100 * MS, 80 * MS));
        assert_eq!(floor.get(), 20 * MS);
        floor.add(start + WINDOW, 15 * MS);
        assert_eq!(floor.get(), 15 * MS);
    }

    #[test]
    fn a_route_that_stays_longer_counts_after_two_windows() {
        let start = start();
        let mut floor = Floor::new(start, 20 * MS);
        (1..=200).for_each(|i| floor.add(start + i * 100 * MS, 80 * MS));
        assert_eq!(floor.get(), 80 * MS);
    }
}
