//! The largest and the smallest of what was measured lately.

use std::time::{Duration, Instant};

/// The largest value of this period and the last one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MaxOfTwo {
    periods: [f64; 2],
}

impl MaxOfTwo {
    pub(super) fn update(&mut self, value: f64) {
        self.periods[1] = self.periods[1].max(value);
    }

    /// A period has passed: what is older than it is forgotten. One without any value counts as none.
    pub(super) fn advance(&mut self) {
        if self.periods[1] > 0.0 {
            self.periods = [self.periods[1], 0.0];
        }
    }

    /// Only what comes now counts.
    pub(super) fn restart(&mut self, value: f64) {
        self.periods = [0.0, value];
    }

    pub(super) fn get(&self) -> f64 {
        self.periods[0].max(self.periods[1])
    }
}

/// The largest value of a number of rounds, and the same number before.
#[derive(Clone, Copy, Debug)]
pub(super) struct MaxOverRounds {
    values: MaxOfTwo,
    rounds: u32,
    passed: u32,
}

impl MaxOverRounds {
    pub(super) fn new(rounds: u32) -> Self {
        Self { values: MaxOfTwo::default(), rounds, passed: 0 }
    }

    pub(super) fn update(&mut self, value: f64, round: bool) {
        self.passed += u32::from(round);
        if self.passed >= self.rounds {
            self.passed = 0;
            self.values.advance();
        }
        self.values.update(value);
    }

    pub(super) fn get(&self) -> f64 {
        self.values.get()
    }
}

/// The path's round trip: the shortest there was lately.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeastRtt {
    value: Option<(Duration, Instant)>,
}

/// A round trip that is longer by no more than this part of the shortest, or this time, has met no queue worth the name.
const CLOSE: (u32, Duration) = (16, Duration::from_micros(500));

impl LeastRtt {
    pub(super) fn new() -> Self {
        Self { value: None }
    }

    pub(super) fn get(&self) -> Option<Duration> {
        self.value.map(|(rtt, _)| rtt)
    }

    /// Takes a round trip in.
    pub(super) fn update(&mut self, now: Instant, rtt: Duration) {
        match &mut self.value {
            Some((least, at)) if rtt > *least => {
                if rtt <= *least + (*least / CLOSE.0).max(CLOSE.1) {
                    *at = now;
                }
            }
            value => *value = Some((rtt, now)),
        }
    }

    /// Since when there has been none that is close to it.
    pub(super) fn since(&self) -> Option<Instant> {
        self.value.map(|(_, at)| at)
    }

    /// What was measured before does not count any more: a queue has just been emptied.
    pub(super) fn renew(&mut self, now: Instant, rtt: Duration) {
        self.value = Some((rtt, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_most_is_remembered_for_a_period_after_its_own() {
        let mut most = MaxOfTwo::default();
        most.update(7.0);
        most.update(3.0);
        most.advance();
        assert_eq!(most.get(), 7.0);
        most.update(4.0);
        most.advance();
        assert_eq!(most.get(), 4.0);
        most.advance();
        assert_eq!(most.get(), 4.0, "a period in which nothing was measured does not count");
        most.restart(1.0);
        assert_eq!(most.get(), 1.0);
    }

    #[test]
    fn the_most_over_rounds_goes_with_them() {
        let mut most = MaxOverRounds::new(2);
        most.update(9.0, false);
        for (round, left) in [(1, 9.0), (2, 9.0), (3, 9.0), (4, 1.0)] {
            most.update(1.0, true);
            assert_eq!(most.get(), left, "round {round}");
        }
    }

    #[test]
    fn the_shortest_round_trip_is_as_old_as_the_last_one_that_was_close() {
        #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
        let now = Instant::now();
        let mut least = LeastRtt::new();
        least.update(now, 40 * MS);
        least.update(now + MS, 42 * MS);
        assert_eq!((least.get(), least.since()), (Some(40 * MS), Some(now + MS)));
        least.update(now + 2 * MS, 43 * MS);
        assert_eq!(least.since(), Some(now + MS), "that one has waited");
        least.renew(now + 3 * MS, 50 * MS);
        assert_eq!((least.get(), least.since()), (Some(50 * MS), Some(now + 3 * MS)));
    }
}
