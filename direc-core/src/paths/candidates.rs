//! Which addresses of the other side are tried: told by the relay (S9) or heard from, and no more than a few.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{Candidate, Pair, Paths, Reach, Via};

/// Addresses of the other side that are kept.
pub(super) const MAX_CANDIDATES: usize = 8;
/// Addresses that are tried in one round of punching, and one more in each of these pauses after it: a relay that lies,
/// or two NATs that give each of our probes another port, must not keep us busy for ever.
pub(super) const MAX_FRESH: u32 = 16;
const FRESH_AGAIN: Duration = Duration::from_secs(10);

impl Paths {
    /// Addresses that the relay told (S9): new ones are punched, known ones that led nowhere tried again unless there is a
    /// direct path by now.
    pub(crate) fn learn(&mut self, now: Instant, addresses: &[SocketAddr], reach: &Reach) {
        let relayed = self.current == Via::Relay;
        for &address in addresses.iter().filter(|address| reach.allows(**address)) {
            let pair = Pair::main(address);
            if !self.hosts.contains(&address.ip()) {
                self.hosts.truncate(MAX_CANDIDATES - 1);
                self.hosts.insert(0, address.ip());
            }
            let known = self.candidates.iter().any(|candidate| candidate.pair == pair);
            let Some(candidate) = self.candidate(now, pair) else { continue };
            if known && relayed && candidate.is_spent() {
                candidate.restart(now);
            }
        }
    }

    /// What is known of an address. A new one takes the place of one that led nowhere, or else of the one that has been
    /// tried the longest without an answer, as long as new ones are allowed.
    pub(super) fn candidate(&mut self, now: Instant, pair: Pair) -> Option<&mut Candidate> {
        if let Some(at) = self.candidates.iter().position(|candidate| candidate.pair == pair) {
            return self.candidates.get_mut(at);
        }
        let place = if self.candidates.len() < MAX_CANDIDATES { self.candidates.len() } else { self.least(now)? };
        if !self.spend_fresh(now) {
            return None;
        }
        let candidate = Candidate::new(now, pair);
        match self.candidates.get_mut(place) {
            Some(spent) => *spent = candidate,
            None => self.candidates.push(candidate),
        }
        self.candidates.get_mut(place)
    }

    /// The place of the candidate that promises least, of those that have not answered.
    fn least(&self, now: Instant) -> Option<usize> {
        let unanswered = self.candidates.iter().enumerate().filter(|(_, c)| c.is_unanswered() && c.learnt() < now);
        unanswered.min_by_key(|(_, candidate)| (!candidate.is_spent(), candidate.learnt())).map(|(at, _)| at)
    }

    fn spend_fresh(&mut self, now: Instant) -> bool {
        let periods = now.saturating_duration_since(self.fresh_since).as_secs() / FRESH_AGAIN.as_secs();
        if periods > 0 {
            self.fresh = self.fresh.saturating_add(u32::try_from(periods).unwrap_or(u32::MAX)).min(MAX_FRESH);
            self.fresh_since = now;
        }
        let allowed = self.fresh > 0;
        self.fresh -= u32::from(allowed);
        allowed
    }

    pub(super) fn at(&mut self, pair: Pair) -> Option<&mut Candidate> {
        self.candidates.iter_mut().find(|candidate| candidate.pair == pair)
    }

    pub(super) fn current_candidate(&self) -> Option<&Candidate> {
        match self.current {
            Via::Direct(pair) => self.candidates.iter().find(|candidate| candidate.pair == pair),
            Via::Relay => None,
        }
    }
}
