//! Whether this program was out of the world for a while: the machine asleep, or the program stopped.
//!
//! It costs a look at two clocks whenever the driver is awake anyway. On Linux the steady clock stands
//! still while the machine sleeps and the wall clock does not; where both go on, the driver wakes up late. Should the
//! wall clock be put forward, that is taken for a nap: a registration too many, no harm.

use std::time::{Duration, Instant, SystemTime};

/// What counts as a nap. Shorter ones leave NATs and timers as they are; a busy machine may be late by less.
const NAP: Duration = Duration::from_secs(2);

/// The clocks when the driver last looked.
pub(super) struct Naps {
    steady: Instant,
    wall: SystemTime,
    /// When it is to be awake again at the latest; `None`: when something happens.
    awake_by: Option<Instant>,
}

impl Naps {
    pub(super) fn new(steady: Instant, wall: SystemTime) -> Self {
        Self { steady, wall, awake_by: Some(steady) }
    }

    /// The driver sleeps now, until then.
    pub(super) fn sleep(&mut self, until: Option<Instant>) {
        self.awake_by = until;
    }

    /// The driver is awake; whether there was a nap since it said so last.
    pub(super) fn is_over(&mut self, steady: Instant, wall: SystemTime) -> bool {
        let passed = steady.saturating_duration_since(self.steady);
        let passed_outside = wall.duration_since(self.wall).unwrap_or_default();
        let late = self.awake_by.map(|by| steady.saturating_duration_since(by)).unwrap_or_default();
        *self = Self::new(steady, wall);
        late >= NAP || passed_outside.saturating_sub(passed) >= NAP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_neither_clock_explains_is_a_nap() {
        let (steady, wall, second) = (Instant::now(), SystemTime::now(), Duration::from_secs(1));
        let mut naps = Naps::new(steady, wall);
        let mut check = |until: Option<u32>, on: u32, outside: u32| {
            naps.sleep(until.map(|until| steady + second * until));
            naps.is_over(steady + second * on, wall + second * outside)
        };
        assert!(!check(Some(5), 5, 5), "slept as it wanted");
        assert!(!check(None, 60, 60), "slept until something happened");
        assert!(!check(Some(70), 62, 62), "woken before its time");
        assert!(check(Some(70), 63, 100), "the steady clock stood still");
        assert!(!check(Some(70), 64, 101), "told once");
        assert!(check(Some(66), 90, 127), "woken late");
        assert!(!check(Some(91), 91, 20), "the wall clock was put back");
    }
}
