//! What P3 can tell of introductions that go direct: nobody tells it, but the packets cease.

use std::time::{Duration, Instant};

/// Silence that an idle relayed connection does not keep: QUIC's keep-alive comes three times within 120 s.
const QUIET: Duration = Duration::from_secs(60);

/// How long introductions took to go direct, as P3 sees it: from P4's consent to the last packet that was relayed before
/// a minute without any, the introduction being open all the time.
///
/// Idle connections count as direct as well if their application has turned keep-alives off or seldomer than that;
/// connections that end within the minute are not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectTimes {
    counts: [u64; DirectTimes::BOUNDS.len() + 1],
    sum: Duration,
}

impl DirectTimes {
    /// Upper bounds of the classes, in milliseconds; one more class is for what is above.
    pub const BOUNDS: [u64; 8] = [50, 100, 200, 400, 800, 1_600, 3_200, 10_000];

    /// Introductions of each class.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// All introductions that went direct.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All their times together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    pub(super) fn count(&mut self, took: Duration) {
        let class = Self::BOUNDS.iter().position(|&bound| took.as_millis() <= u128::from(bound));
        self.counts[class.unwrap_or(Self::BOUNDS.len())] += 1;
        self.sum = self.sum.saturating_add(took);
    }
}

/// When packets of one introduction were relayed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    accepted: Option<Instant>,
    last: Option<Instant>,
    counted: bool,
}

impl Traffic {
    pub(super) fn accepted(&mut self, now: Instant) {
        self.accepted.get_or_insert(now);
    }

    /// A packet passes. Gives how long it took to go direct, if the silence before says that it had, for the first time.
    pub(super) fn relayed(&mut self, now: Instant) -> Option<Duration> {
        let took = self.direct(now);
        self.counted |= took.is_some();
        self.last = Some(now);
        took
    }

    /// The same, as it stands, of an introduction that has not been counted.
    pub(super) fn direct(&self, now: Instant) -> Option<Duration> {
        let accepted = self.accepted.filter(|_| !self.counted)?;
        let last = self.last.map_or(accepted, |last| last.max(accepted));
        (now.saturating_duration_since(last) >= QUIET).then(|| last - accepted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn an_introduction_goes_direct_with_the_last_packet_before_a_minute_of_silence_and_once_only() {
        let start = start();
        let mut traffic = Traffic::default();
        assert_eq!(traffic.relayed(start), None);
        assert_eq!(traffic.direct(start + 100 * SECOND), None, "P4 has not answered");
        traffic.accepted(start + SECOND);
        assert_eq!(traffic.relayed(start + 3 * SECOND), None);
        assert_eq!(traffic.direct(start + 62 * SECOND), None);
        assert_eq!(traffic.direct(start + 63 * SECOND), Some(2 * SECOND));
        assert_eq!(traffic.relayed(start + 70 * SECOND), Some(2 * SECOND));
        assert_eq!(traffic.relayed(start + 200 * SECOND), None, "counted already");
        assert_eq!(traffic.direct(start + 300 * SECOND), None);
    }

    #[test]
    fn a_relayed_connection_s_keep_alives_are_no_silence() {
        let start = start();
        let mut traffic = Traffic::default();
        traffic.accepted(start);
        for minute in 0..60 {
            assert_eq!(traffic.relayed(start + minute * 40 * SECOND), None);
        }
    }

    #[test]
    fn times_fall_into_classes() {
        let mut times = DirectTimes::default();
        for ms in [0, 50, 51, 10_000, 10_001, 1_000_000] {
            times.count(Duration::from_millis(ms));
        }
        assert_eq!(times.counts(), [2, 1, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!((times.total(), times.sum()), (6, Duration::from_millis(1_020_102)));
    }
}
