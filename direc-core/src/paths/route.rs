//! By which way the next packet goes.

use std::time::Instant;

use super::{Candidate, Pair, Paths, Via};
use crate::{PathPolicy, step::Role};

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Through the relay.
    Relay,
    /// Through the relay and, as far as [`Paths::doubles`] says, straight as well.
    Both,
    /// Straight.
    Direct(Pair),
    /// Nowhere, for now.
    Hold,
}

impl Paths {
    /// Where the next packet goes. P4 doubles its first flight to addresses it has only been told (S10): that is what
    /// makes its packets P2's first direct ones at a+b+c.
    pub(crate) fn route(&self, now: Instant, handshaking: bool) -> Route {
        match self.current {
            Via::Direct(_) if handshaking => Route::Both,
            Via::Direct(pair) => {
                if self.is_in_trouble(now) && self.may_relay() {
                    Route::Both
                } else {
                    Route::Direct(pair)
                }
            }
            // P4 knows P2's first packets by the relay's channel only, so the handshake always needs it.
            Via::Relay if !self.attached || (!handshaking && self.policy == PathPolicy::DirectOnly) => Route::Hold,
            Via::Relay => {
                let told = self.role == Role::P4 && handshaking && !self.candidates.is_empty();
                if told || self.candidates.iter().any(Candidate::is_heard) { Route::Both } else { Route::Relay }
            }
        }
    }

    /// The addresses to which a packet that goes both ways is doubled; each counts against its budget.
    pub(crate) fn doubles(&mut self, handshaking: bool) -> Vec<Pair> {
        if let Via::Direct(pair) = self.current {
            return vec![pair];
        }
        let told = self.role == Role::P4 && handshaking;
        let due = self.candidates.iter_mut().filter(|candidate| told || candidate.is_heard());
        due.filter_map(|candidate| candidate.spend().then_some(candidate.pair)).collect()
    }
}
