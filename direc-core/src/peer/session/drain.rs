//! A move to a faster path lets what is under way on the slower one arrive first.
//!
//! QUIC takes what is overtaken for lost (RFC 9002, section 6.1) and sends all of it again: a whole slow path's worth of
//! packets, for which the new path may need longer than for the way that they still had to go. The other side gets data
//! all the while.

use std::time::{Duration, Instant};

use crate::{
    PathReason,
    congestion::ledger::{Ledger, RoundTrip},
};

/// So little under way is not waited for: to send it again costs less.
const LITTLE: u64 = 12_000;
/// What is under way is waited for no longer than this.
const LONGEST: Duration = Duration::from_millis(100);
/// The other side has moved: this one is expected to follow within this time, and sends nothing meanwhile.
const FOLLOW: Duration = Duration::from_millis(50);
/// So often the old path's round trip is forgotten again: its last acknowledgements come one by one.
const FORGETTINGS: u8 = 8;

/// Where a move to a faster path stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Drain {
    /// Nothing of the old path is left that matters.
    #[default]
    Over,
    /// The other side has moved, then. Its acknowledgements come by the new path now: the old one's round trip, here as
    /// it was before, is not to be measured any more, and a burst of them would call forth a burst of packets.
    Foreseen { at: Instant, old: RoundTrip },
    /// Nothing goes out before then.
    Holding(Instant),
    /// The new path is in use, and from then on its first answer may come.
    Settling { from: Instant, left: u8 },
}

impl Drain {
    /// The other side has moved. `old`: the round trip here before one of its packets came by the new path.
    pub(super) fn foresee(&mut self, now: Instant, ledger: &Ledger, old: Option<RoundTrip>) {
        if let (Self::Over, Some(old), false) = (*self, old, is_little(ledger)) {
            *self = Self::Foreseen { at: now, old };
        }
    }

    /// A move has just been decided on, to a path with this round trip: whether something is to be waited for.
    pub(super) fn decided(self, now: Instant, why: &PathReason, ledger: &Ledger, rtt: Option<Duration>) -> Self {
        let (since, old) = match self {
            Self::Foreseen { at, old } if at + FOLLOW > now => (at, Some(old)),
            _ => (now, ledger.round_trip()),
        };
        let works = |old: RoundTrip| ledger.acknowledged().is_some_and(|sent| sent + old.smoothed * 2 > now);
        let left = matches!(why, PathReason::Direct | PathReason::Faster);
        match (old, rtt) {
            (Some(old), Some(rtt)) if left && works(old) && !is_little(ledger) => {
                Some(since + ahead(old, rtt)).filter(|at| *at > now).map_or(Self::Over, Self::Holding)
            }
            _ => Self::Over,
        }
    }

    /// The new path, with this round trip, is in use.
    pub(super) fn settle(now: Instant, rtt: Option<Duration>) -> Self {
        // An answer may be a little quicker than the one that the round trip was measured by.
        rtt.map_or(Self::Over, |rtt| Self::Settling { from: now + rtt * 7 / 8, left: FORGETTINGS })
    }

    /// Whether a move is under way that waits.
    pub(super) fn is_holding(self) -> bool {
        matches!(self, Self::Holding(_))
    }

    /// Until when nothing goes out, if that is not over.
    pub(super) fn held_until(self, now: Instant) -> Option<Instant> {
        match self {
            Self::Holding(until) => Some(until),
            Self::Foreseen { at, .. } => Some(at + FOLLOW).filter(|until| *until > now),
            Self::Over | Self::Settling { .. } => None,
        }
    }

    /// Whether the waiting has come to its end.
    pub(super) fn is_due(self, now: Instant, ledger: &Ledger) -> bool {
        matches!(self, Self::Holding(until) if until <= now || ledger.under_way() == 0)
    }

    /// Something that was sent on the new path has arrived.
    pub(super) fn on_answered(&mut self) {
        if matches!(self, Self::Settling { .. }) {
            *self = Self::Over;
        }
    }

    /// A packet comes in: whether round trips measured so far are the old path's, and the next may be the new one's.
    pub(super) fn forgets(&mut self, now: Instant) -> bool {
        let Self::Settling { from, left } = self else { return false };
        let due = *from <= now && *left > 0;
        *left -= u8::from(due);
        due
    }
}

/// By how much a packet on a path with this round trip would be there before those of the old path.
fn ahead(old: RoundTrip, rtt: Duration) -> Duration {
    // Queues are on the way there, so what the round trip is longer than at best is all of it.
    let there = old.smoothed.saturating_sub(old.least / 2);
    there.saturating_sub(rtt / 2).min(LONGEST)
}

/// Whether so little is under way that a copy of the next packet may overtake it.
pub(super) fn is_little(ledger: &Ledger) -> bool {
    ledger.under_way() <= LITTLE
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_is_under_way_gets_the_time_that_it_needs_and_no_more() {
        let ahead = |smoothed, least, rtt| ahead(RoundTrip { smoothed: smoothed * MS, least: least * MS }, rtt * MS);
        assert_eq!(ahead(100, 100, 20), 40 * MS, "half of the difference");
        assert_eq!(ahead(130, 100, 20), 70 * MS, "and the queue there");
        assert_eq!(ahead(100, 100, 100), Duration::ZERO);
        assert_eq!(ahead(20, 20, 100), Duration::ZERO);
        assert_eq!(ahead(1000, 1000, 20), LONGEST);
    }

    #[test]
    fn the_old_paths_round_trip_is_forgotten_while_its_last_answers_come_and_not_for_ever() {
        #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
        let now = Instant::now();
        let mut drain = Drain::settle(now, Some(80 * MS));
        assert!(!drain.forgets(now + 69 * MS));
        let forgotten = (70..200).filter(|at| drain.forgets(now + *at * MS)).count();
        assert_eq!(forgotten, FORGETTINGS as usize);
        assert!(!Drain::settle(now, None).forgets(now + 100 * MS));
    }
}
