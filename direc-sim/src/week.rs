//! A week of operation in virtual time: relays that restart, drain and get other keys, NATs that reboot, networks that are
//! away for minutes, machines that sleep; and whether anybody is lost for longer than direc-core's own constants say.

mod diary;
mod holdings;
mod report;
mod watch;

use std::time::Duration;

pub use holdings::Holdings;
pub use report::{Fault, Report, moment};
pub use watch::{Longest, RETRY};

use crate::{SetUpError, run::Cast};
use watch::Watch;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long everybody has at the end to find back, and to let go of what is over.
const CALM: Duration = Duration::from_secs(600);

/// A stretch of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Week {
    /// What chance makes of it.
    pub seed: u64,
    /// How many relays: 1 to 4.
    pub relays: usize,
    /// How long it lasts.
    pub lasts: Duration,
}

impl Week {
    /// Seven days with one relay.
    pub fn new(seed: u64) -> Self {
        Self { seed, relays: 1, lasts: 7 * DAY }
    }

    /// Runs it.
    ///
    /// # Errors
    /// [`SetUpError`] if it cannot be set up.
    pub fn run(&self) -> Result<Report, SetUpError> {
        let scenario = diary::scenario(self);
        let mut cast = Cast::assemble(&scenario, self.seed)?;
        let mut watch = Watch::new(*self, scenario.incidents.len(), &cast);
        let mut goes_on = watch.before(&mut cast) && watch.until(&mut cast, self.lasts);
        if goes_on {
            cast.heal();
            goes_on = watch.until(&mut cast, self.lasts + CALM);
        }
        if goes_on {
            watch.hang_up(&mut cast, self.lasts + CALM + CALM);
        }
        Ok(watch.report(&cast))
    }
}
