//! What P3 can tell of introductions that go direct: nobody tells it, but the packets cease, or do not.

use std::time::{Duration, Instant};

/// Silence that an idle relayed connection does not keep: QUIC's keep-alive comes three times within 120 s.
const QUIET: Duration = Duration::from_secs(60);

/// How long introductions took to go direct, as P3 sees it: from P4's consent to the last packet that was relayed before
/// a minute without any, the introduction being open all the time. And how many were still relayed a minute after consent.
///
/// Idle connections count as direct as well if their application has turned keep-alives off or seldomer than that. Of
/// connections that end within the minute nothing is known: they are in neither count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectTimes {
    counts: [u64; DirectTimes::BOUNDS.len() + 1],
    sum: Duration,
    relayed: u64,
    /// Of those that were relayed for a minute, the ones that went direct later.
    late: u64,
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

    /// All introductions that were still relayed a minute after consent. One that goes direct later stays in this count.
    pub fn relayed(&self) -> u64 {
        self.relayed
    }

    /// All introductions of which it is known whether they went direct.
    pub fn known(&self) -> u64 {
        self.total() + self.relayed - self.late
    }

    pub(super) fn count_relayed(&mut self) {
        self.relayed += 1;
    }

    pub(super) fn count(&mut self, took: Duration) {
        self.late += u64::from(took >= QUIET);
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

/// What a packet that passes tells of its introduction, for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The silence before it says that the introduction had gone direct, and after how long.
    Direct(Duration),
    /// A minute after consent it is still relayed.
    Relayed,
}

impl Traffic {
    pub(super) fn accepted(&mut self, now: Instant) {
        self.accepted.get_or_insert(now);
    }

    /// A packet passes.
    pub(super) fn relayed(&mut self, now: Instant) -> Option<Told> {
        let took = self.direct(now);
        self.counted |= took.is_some();
        let was_late = self.is_late();
        self.last = Some(now);
        match took {
            Some(took) => Some(Told::Direct(took)),
            None => (!was_late && self.is_late()).then_some(Told::Relayed),
        }
    }

    /// Whether a packet was relayed a minute after consent, the introduction not having gone direct before.
    fn is_late(&self) -> bool {
        let late = |(accepted, last): (Instant, Instant)| last.saturating_duration_since(accepted) >= QUIET;
        !self.counted && self.accepted.zip(self.last).is_some_and(late)
    }

    /// How long it took to go direct, if the silence until now says that it has, and that has not been counted.
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
        assert_eq!(traffic.relayed(start + 70 * SECOND), Some(Told::Direct(2 * SECOND)));
        assert_eq!(traffic.relayed(start + 200 * SECOND), None, "counted already");
        assert_eq!(traffic.direct(start + 300 * SECOND), None);
    }

    #[test]
    fn a_relayed_connection_s_keep_alives_are_no_silence_and_a_minute_of_them_is_told_once() {
        let start = start();
        let mut traffic = Traffic::default();
        traffic.accepted(start);
        let told: Vec<_> = (0..60).map(|number| traffic.relayed(start + number * 40 * SECOND)).collect();
        assert_eq!(told[..4], [None, None, Some(Told::Relayed), None]);
        assert!(told[4..].iter().all(Option::is_none), "{told:?}");
    }

    #[test]
    fn an_introduction_that_ends_within_the_minute_is_known_neither_as_direct_nor_as_relayed() {
        let start = start();
        let mut traffic = Traffic::default();
        traffic.accepted(start);
        assert_eq!(traffic.relayed(start + SECOND), None);
        assert_eq!(traffic.relayed(start + 59 * SECOND), None);
        assert_eq!(traffic.direct(start + 118 * SECOND), None);
    }

    #[test]
    fn one_that_goes_direct_after_a_relayed_minute_is_known_once() {
        let mut times = DirectTimes::default();
        times.count(SECOND);
        times.count_relayed();
        times.count_relayed();
        assert_eq!((times.total(), times.relayed(), times.known()), (1, 2, 3));
        times.count(90 * SECOND);
        assert_eq!((times.total(), times.relayed(), times.known()), (2, 2, 3));
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
