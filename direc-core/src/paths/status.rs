//! What a person may know of a connection's paths.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{Candidate, Paths, Via, candidate::State};
use crate::{Path, PathReason, PathState, PathStatus};

impl Paths {
    /// The direct path that carries the data, if one does.
    pub(crate) fn direct(&self) -> Option<SocketAddr> {
        match self.current {
            Via::Direct(pair) => Some(pair.remote),
            Via::Relay => None,
        }
    }

    /// The direct path's round trip, smoothed over what came back on it.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.current_candidate()?.liveness().map(|liveness| liveness.rtt())
    }

    /// Since when the data goes the way it goes, and why.
    pub(crate) fn chosen(&self) -> (Instant, PathReason) {
        (self.since, self.reason)
    }

    /// All paths: through the relay at this address, if there is one, then the direct ones.
    pub(crate) fn status(&self, now: Instant, relay: Option<SocketAddr>) -> Vec<PathStatus> {
        let relay = relay.map(|address| self.relayed_status(now, address));
        relay.into_iter().chain(self.candidates.iter().map(|candidate| self.direct_status(now, candidate))).collect()
    }

    fn relayed_status(&self, now: Instant, address: SocketAddr) -> PathStatus {
        let (liveness, record) = (&self.relayed.liveness, &self.relayed.record);
        let current = self.current == Via::Relay;
        PathStatus {
            path: Path::Relay(address),
            state: if current && liveness.is_doubtful(now) { PathState::Doubtful } else { PathState::Works },
            current,
            rtt: self.relayed.has_answered().then(|| liveness.rtt()),
            probes: record.score(),
            sent_bytes: record.sent_bytes,
            received_bytes: record.received_bytes,
            since: self.relayed.since(),
        }
    }

    fn direct_status(&self, now: Instant, candidate: &Candidate) -> PathStatus {
        let state = match candidate.state() {
            State::Punching { .. } | State::Heard { .. } => PathState::Trying,
            State::Proven { liveness, .. } if liveness.is_doubtful(now) => PathState::Doubtful,
            State::Proven { .. } => PathState::Works,
            State::Lost { .. } => PathState::Lost,
            State::Silent { .. } => PathState::Silent,
        };
        PathStatus {
            path: Path::Direct(candidate.pair.remote),
            state,
            current: self.current == Via::Direct(candidate.pair),
            rtt: candidate.liveness().map(|liveness| liveness.rtt()),
            probes: candidate.record.score(),
            sent_bytes: candidate.record.sent_bytes,
            received_bytes: candidate.record.received_bytes,
            since: candidate.since(),
        }
    }
}
