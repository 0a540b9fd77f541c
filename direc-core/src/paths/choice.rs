//! Which path carries the data: direct before relayed, the faster of two direct ones, and none that fails.

use std::time::{Duration, Instant};

use super::{Candidate, MAX_FRESH, Pair, PathEvent, Paths, Via};
use crate::{PathPolicy, PathReason};

/// How long punching goes on after a direct path is lost, before it is said that there is none.
const PUNCH_AGAIN: Duration = Duration::from_secs(10);
/// Another direct path is taken if its round trip is at most this part of the current one's, and shorter by this much.
const CLEARLY_FASTER: (u32, u32) = (3, 4);
const WORTH_IT: Duration = Duration::from_millis(2);

impl Paths {
    /// Moves the data if it is on the wrong path.
    pub(super) fn decide(&mut self, now: Instant) -> Option<PathEvent> {
        match self.current {
            Via::Relay => {
                let (pair, _) = self.best_direct(now, |_| true)?;
                Some(self.move_to(now, Via::Direct(pair), PathReason::Direct))
            }
            Via::Direct(pair) => self.leave(now, pair).or_else(|| self.improve(now, pair)),
        }
    }

    /// The fastest of the direct paths that work.
    fn best_direct(&self, now: Instant, fits: impl Fn(&Candidate) -> bool) -> Option<(Pair, Duration)> {
        if self.policy == PathPolicy::RelayOnly {
            return None;
        }
        let trusted = self.candidates.iter().filter(|candidate| candidate.is_trusted(now) && fits(candidate));
        let timed = trusted.filter_map(|candidate| Some((candidate.pair, candidate.liveness()?.floor())));
        timed.min_by_key(|&(_, floor)| floor)
    }

    /// Leaves a path that fails, as soon as another one answers: a radio that is silent altogether is no reason.
    fn leave(&mut self, now: Instant, pair: Pair) -> Option<PathEvent> {
        let liveness = self.current_candidate()?.liveness()?;
        let since = liveness.failing_since(now)?;
        let (silence, rested) = (liveness.silence(now), liveness.rested());
        let answers = |c: &Candidate| c.pair != pair && c.liveness().is_some_and(|l| l.has_answered(since));
        let via = match self.best_direct(now, answers) {
            Some((other, _)) => Via::Direct(other),
            None if self.policy == PathPolicy::DirectOnly => Via::Relay,
            None if self.may_relay() && self.relayed.liveness.has_answered(since) => Via::Relay,
            None => return None,
        };
        if rested >= silence.saturating_sub(PUNCH_AGAIN * 2) && !self.in_use(now) {
            self.keep_alive.on_died(rested);
        }
        if let Some(candidate) = self.at(pair) {
            candidate.lose(now);
        }
        self.fresh = MAX_FRESH;
        for candidate in self.candidates.iter_mut().filter(|candidate| candidate.pair != pair) {
            candidate.on_other_died(now);
        }
        let event = self.move_to(now, via, PathReason::Silent { after: silence });
        if via == Via::Relay {
            self.deadline = Some(now + PUNCH_AGAIN);
            self.given_up = false;
        }
        Some(event)
    }

    /// Takes a direct path that is clearly faster than the current one.
    fn improve(&mut self, now: Instant, pair: Pair) -> Option<PathEvent> {
        let rtt = self.current_candidate()?.liveness()?.floor();
        let (numerator, denominator) = CLEARLY_FASTER;
        let limit = (rtt * numerator / denominator).min(rtt.saturating_sub(WORTH_IT));
        let (other, _) = self.best_direct(now, |candidate| {
            candidate.pair != pair && candidate.liveness().is_some_and(|liveness| liveness.floor() < limit)
        })?;
        Some(self.move_to(now, Via::Direct(other), PathReason::Faster))
    }

    fn move_to(&mut self, now: Instant, via: Via, reason: PathReason) -> PathEvent {
        (self.current, self.since, self.reason, self.alone_since) = (via, now, reason, None);
        self.displaced = false;
        match via {
            Via::Direct(_) => {
                (self.deadline, self.given_up) = (None, false);
                let keep = self.links_in_use();
                self.rounds.end(&keep);
            }
            // What is in flight was asked on the other path.
            Via::Relay => {
                self.relayed.liveness.forgive(now);
                self.plan_rounds(now);
            }
        }
        PathEvent::Moved(via)
    }
}
