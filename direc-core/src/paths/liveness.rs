//! Whether a path that has worked still does.
//!
//! While packets are sent on it, probes go along, and their echoes are the sign of life; when they stay away for a few
//! round trips the path counts as dead. A path at rest is asked seldom and doubted slowly: a radio's pause of some
//! seconds without data is no reason to leave it.

use std::time::{Duration, Instant};

/// Pause between the checks of a path in use: half a round trip, within these bounds.
const BUSY_GAP: std::ops::RangeInclusive<Duration> = Duration::from_millis(40)..=Duration::from_millis(200);
/// A path in use is dead after this long without an echo, or three round trips if that is longer …
const BUSY_PATIENCE: Duration = Duration::from_millis(250);
/// … and after this many checks unanswered, so that a lost packet or two prove nothing.
const BUSY_UNANSWERED: u32 = 3;
/// Pause between the checks of a path at rest: below the 30 s after which common NATs forget.
const REST_GAP: Duration = Duration::from_secs(10);
/// Pause between checks once a path at rest has left one unanswered, and how long they may stay so.
const DOUBT_GAP: Duration = Duration::from_secs(2);
const REST_PATIENCE: Duration = Duration::from_secs(16);

/// The signs of life of one proven path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Liveness {
    pub(super) rtt: Duration,
    last_echo: Instant,
    last_check: Instant,
    /// Checks sent since the last echo, and when the first of them was.
    unanswered: u32,
    unanswered_since: Instant,
    /// When packets other than checks were last sent here.
    last_use: Option<Instant>,
}

impl Liveness {
    pub(super) fn new(now: Instant, rtt: Duration) -> Self {
        Self { rtt, last_echo: now, last_check: now, unanswered: 0, unanswered_since: now, last_use: None }
    }

    fn busy_gap(&self) -> Duration {
        (self.rtt / 2).clamp(*BUSY_GAP.start(), *BUSY_GAP.end())
    }

    /// Whether something was sent that no later echo has answered for.
    fn is_busy(&self) -> bool {
        self.last_use.is_some_and(|used| used + self.busy_gap() > self.last_echo)
    }

    /// Whether a check is unanswered for longer than the round trip explains.
    pub(super) fn is_doubtful(&self, now: Instant) -> bool {
        self.unanswered > 1 && now > self.last_echo + self.rtt * 2
    }

    pub(super) fn on_use(&mut self, now: Instant) {
        if !self.is_busy() {
            // What was doubted while at rest is not held against it now.
            self.unanswered = 0;
            self.last_echo = self.last_echo.max(now);
        }
        self.last_use = Some(now);
    }

    pub(super) fn on_echo(&mut self, now: Instant, rtt: Duration) {
        self.rtt = rtt;
        self.last_echo = now;
        self.unanswered = 0;
    }

    pub(super) fn on_check_sent(&mut self, now: Instant) {
        self.last_check = now;
        if self.unanswered == 0 {
            self.unanswered_since = now;
        }
        self.unanswered += 1;
    }

    /// When the next check is to be sent.
    pub(super) fn next_check(&self) -> Instant {
        let gap = if self.is_busy() {
            self.busy_gap()
        } else if self.unanswered > 0 {
            DOUBT_GAP
        } else {
            REST_GAP
        };
        self.last_check + gap
    }

    /// When the path counts as dead, should no echo come.
    pub(super) fn dead_at(&self) -> Option<Instant> {
        if self.is_busy() {
            let patience = (self.rtt * 3).max(BUSY_PATIENCE);
            return (self.unanswered >= BUSY_UNANSWERED).then(|| self.last_echo + patience);
        }
        (self.unanswered > 0).then(|| self.unanswered_since + REST_PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(60);

    /// A path that falls silent at `silent_from`, used as `used` says; gives when it was found dead.
    fn found_dead(silent_from: u64, silent_until: u64, used: impl Fn(u64) -> bool) -> Option<u64> {
        #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut liveness = Liveness::new(start, RTT);
        let mut echoes = std::collections::VecDeque::new();
        for ms in 0..120_000 {
            let now = at(ms);
            if echoes.front() == Some(&ms) {
                echoes.pop_front();
                liveness.on_echo(now, RTT);
            }
            if liveness.dead_at().is_some_and(|dead| dead <= now) {
                return Some(ms);
            }
            if used(ms) {
                liveness.on_use(now);
            }
            if liveness.next_check() <= now {
                liveness.on_check_sent(now);
                if !(silent_from..silent_until).contains(&ms) {
                    echoes.push_back(ms + 60);
                }
            }
        }
        None
    }

    #[test]
    fn a_path_in_use_that_dies_is_found_dead_within_300_ms() {
        let dead = found_dead(10_000, u64::MAX, |ms| ms % 10 == 0).unwrap();
        assert!((10_100..=10_350).contains(&dead), "{dead}");
    }

    #[test]
    fn a_path_in_use_that_lives_is_never_found_dead() {
        assert_eq!(found_dead(u64::MAX, u64::MAX, |ms| ms % 10 == 0), None);
        assert_eq!(found_dead(u64::MAX, u64::MAX, |ms| ms % 7000 < 20), None);
    }

    #[test]
    fn a_radios_pause_of_ten_seconds_without_data_is_no_reason_to_leave() {
        for from in (5_000..25_000).step_by(500) {
            assert_eq!(found_dead(from, from + 10_000, |_| false), None, "{from}");
        }
    }

    #[test]
    fn a_path_at_rest_that_dies_is_found_dead_in_the_end() {
        let dead = found_dead(5_000, u64::MAX, |_| false).unwrap();
        assert!(dead < 40_000, "{dead}");
    }

    #[test]
    fn a_path_that_died_at_rest_is_found_dead_quickly_once_it_is_used() {
        let dead = found_dead(5_000, u64::MAX, |ms| ms > 12_000 && ms % 10 == 0).unwrap();
        assert!(dead < 12_500, "{dead}");
    }
}
