//! How long a peer is without its relay at most, from the constants that make it so.

use std::time::Duration;

use super::{binding, control};
use crate::PeerTiming;

impl PeerTiming {
    /// How long it takes a peer at most to find out that a relay does not know it any more, while both and the network
    /// between them work: the longest pause between two refreshes, and then the time in which a relay has to answer.
    pub fn noticed_within(&self) -> Duration {
        binding::LONGEST_PAUSE.max(self.refresh_interval) + control::PULSE_PATIENCE
    }

    /// How long it takes a peer at most to be registered once it knows that it is not, while the relay and the network
    /// between them work: a try that began too early, the longest pause after that, and a try that succeeds at its end.
    pub fn back_within(&self) -> Duration {
        self.relay_deadline + control::LAST_PAUSE + self.relay_deadline
    }

    /// How long after a drain's end its peers are back at most, as [`Self::back_within`]: they come over some time, so that
    /// the relay's next process does not have them all at once.
    pub fn back_after_drain_within(&self) -> Duration {
        control::COME_BACK + self.back_within()
    }
}
