//! What the connection's own packets say of its paths: heard, acknowledged, unanswered.

use std::time::{Duration, Instant};

use super::{Candidate, Liveness, Paths, Route, Via};
use crate::PathPolicy;

impl Paths {
    /// An authentic packet of the connection came this way.
    pub(crate) fn on_heard(&mut self, now: Instant, via: Via) {
        match via {
            Via::Relay => self.relayed.liveness.on_heard(now),
            Via::Direct(_) if self.policy == PathPolicy::RelayOnly => {}
            Via::Direct(from) => {
                // An address not known yet is learnt: its packets are authentic.
                if let Some(candidate) = self.candidate(now, from) {
                    candidate.on_heard(now);
                }
            }
        }
        if via != self.current {
            self.doubt_if_left(now);
        }
    }

    /// The other side probes the path anew, in full size, as it does when it gets no answers there.
    pub(super) fn doubt_with_them(&mut self, now: Instant) {
        const SETTLED: Duration = Duration::from_secs(1);
        /// Probes that overtake echoes would have two sides doubt each other's doubts for ever.
        const AGAIN: Duration = Duration::from_secs(3);
        let settled = now.saturating_duration_since(self.since) > SETTLED;
        let rested = self.doubted_with.is_none_or(|last| now.saturating_duration_since(last) > AGAIN);
        let Via::Direct(pair) = self.current else { return };
        if let Some(liveness) = self.at(pair).filter(|_| settled && rested).and_then(Candidate::liveness_mut)
            && !liveness.is_doubtful(now)
            && !liveness.has_answered(now.checked_sub(SETTLED / 4).unwrap_or(now))
        {
            liveness.doubt(now);
            (self.alone_since, self.doubted_with) = (None, Some(now));
        }
    }

    /// The other side speaks by another way and not by ours: it has left the path, and has its reasons.
    fn doubt_if_left(&mut self, now: Instant) {
        let Via::Direct(pair) = self.current else { return };
        let moved = self.since;
        let Some(liveness) = self.at(pair).and_then(Candidate::liveness_mut) else { return };
        let long = (liveness.rtt() * 2).max(Duration::from_millis(60));
        if liveness.silence(now) > long && now.saturating_duration_since(moved) > long && !liveness.is_doubtful(now) {
            liveness.doubt(now);
            self.alone_since = None;
        }
    }

    /// Whether hearing something authentic this way would be news: nothing has for a moment.
    pub(crate) fn wants_evidence(&self, now: Instant, via: Via) -> bool {
        const NEWS: Duration = Duration::from_millis(20);
        let current = match self.current {
            Via::Relay => Some(&self.relayed.liveness),
            Via::Direct(_) => self.current_candidate().and_then(Candidate::liveness),
        };
        let quiet = current.is_none_or(|liveness| liveness.silence(now) > NEWS);
        quiet || (via != self.current && via == Via::Relay && self.relayed.liveness.silence(now) > NEWS)
    }

    /// Whether a stream of packets comes in through the relay.
    pub(crate) fn hears_relayed_stream(&self, now: Instant) -> bool {
        self.relayed.liveness.hears_stream(now)
    }

    /// Data that was sent at `sent` has been acknowledged. `waiting`: more of it has not.
    pub(crate) fn on_acknowledged(&mut self, now: Instant, sent: Instant, rtt: Duration, waiting: bool) {
        if self.alone_since.is_none_or(|since| sent < since) {
            // Either path may have carried it: no proof that this one works, but unless it is in doubt, no question either.
            if let Some(liveness) = self.current_liveness().filter(|_| !waiting) {
                liveness.on_nothing_asked(now);
            }
            return;
        }
        if self.current == Via::Relay {
            self.relayed.on_answer();
        }
        if let Some(liveness) = self.current_liveness() {
            liveness.on_acknowledged(now, rtt, waiting);
        }
    }

    /// The signs of life of the path that carries the data.
    pub(super) fn current_liveness(&mut self) -> Option<&mut Liveness> {
        match self.current {
            Via::Relay => Some(&mut self.relayed.liveness),
            Via::Direct(pair) => self.at(pair)?.liveness_mut(),
        }
    }

    /// Packets of the connection go out by the current route. `asking`: some of them want an answer.
    pub(crate) fn on_use(&mut self, now: Instant, asking: bool) {
        match self.route(now, false) {
            Route::Relay | Route::Direct(_) => self.alone_since = self.alone_since.or(Some(now)),
            Route::Both | Route::Hold => self.alone_since = None,
        }
        if asking {
            if self.current == Via::Relay && !self.in_use(now) {
                self.hurry(now);
            }
            self.last_use = Some(now);
            if let Some(liveness) = self.current_liveness() {
                liveness.on_asked(now);
            }
        }
    }

    /// Whether it is not known yet that data waits for an answer.
    pub(crate) fn wants_asking(&self, now: Instant) -> bool {
        self.last_use.is_none_or(|used| used + Duration::from_secs(1) < now)
            || match self.current {
                Via::Relay => !self.relayed.liveness.is_asked(),
                Via::Direct(_) => self.current_candidate().and_then(Candidate::liveness).is_some_and(|l| !l.is_asked()),
            }
    }
}
