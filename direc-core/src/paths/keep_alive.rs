//! How long a direct path may rest between keep-alives, as far as it has been found out.
//!
//! RFC 4787 (REQ-5) asks NATs for two minutes; many give 30 s, some less. So the pause between keep-alives begins below
//! 30 s, grows as long as silences of its length are survived, and stays below the first one that was not.

use std::time::Duration;

/// The first pause: below the 30 s after which common NATs forget.
const FIRST_PAUSE: Duration = Duration::from_secs(25);
/// No pause is shorter: whoever forgets sooner forgets a connection that rests.
const SHORTEST: Duration = Duration::from_secs(4);
/// None is longer: below RFC 4787's two minutes.
const LONGEST: Duration = Duration::from_secs(100);

/// What is known of how long the NATs in front of both sides keep a silent binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeepAlive {
    pause: Duration,
    /// A silence that was not survived, or the longest that is tried.
    limit: Duration,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { pause: FIRST_PAUSE, limit: LONGEST }
    }
}

impl KeepAlive {
    /// The pause between keep-alives.
    pub(super) fn pause(&self) -> Duration {
        self.pause
    }

    /// Something passed again after this silence.
    pub(super) fn on_survived(&mut self, silence: Duration) {
        // Half as much again, unless that is known to be too long.
        if silence + Duration::from_secs(1) >= self.pause && self.pause * 3 / 2 < self.limit {
            self.pause = self.pause * 3 / 2;
        }
    }

    /// Nothing passed any more after this silence.
    pub(super) fn on_died(&mut self, silence: Duration) {
        self.limit = silence.clamp(SHORTEST, self.limit);
        self.pause = self.pause.min(self.limit * 2 / 3).max(SHORTEST);
    }

    /// Another network, other NATs.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keep-alives through a NAT that forgets after `life`: the pauses, and how many bindings were lost.
    fn run(life: u64) -> (Duration, u32) {
        let (life, mut found, mut lost) = (Duration::from_secs(life), KeepAlive::default(), 0);
        for _ in 0..100 {
            if found.pause() < life {
                found.on_survived(found.pause());
            } else {
                found.on_died(found.pause());
                lost += 1;
            }
        }
        (found.pause(), lost)
    }

    #[test]
    fn keep_alives_come_as_seldom_as_the_nat_allows_and_no_more_than_a_few_bindings_are_lost_finding_out() {
        for (life, most) in [(5, 5), (10, 4), (30, 1), (60, 1), (120, 0), (300, 0)] {
            let (pause, lost) = run(life);
            assert!(pause < Duration::from_secs(life) && lost <= most, "{life} s: {pause:?}, {lost} lost");
            assert!(pause * 5 / 2 >= Duration::from_secs(life.min(100)), "{life} s: {pause:?}");
        }
    }
}
