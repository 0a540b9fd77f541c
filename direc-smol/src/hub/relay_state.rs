//! How a peer stands with its relays.

use std::{net::SocketAddr, time::Instant};

use direc_core::RelayError;

/// How this peer stands with each of its relays, the preferred one first.
///
/// One relay that knows this peer is enough to be found and to connect; so success is told when any relay has it,
/// failure when all have failed.
#[derive(Debug)]
pub(crate) struct RelayStates(Vec<RelayState>);

/// Of how many failures at each relay somebody has been told.
#[derive(Clone, Debug)]
pub(crate) struct Told(Vec<u64>);

/// A registration, and the attempts at it that failed.
#[derive(Debug)]
struct RelayState {
    relay: SocketAddr,
    registered: bool,
    warm: bool,
    /// No cookie was answered.
    unanswered: bool,
    last: Option<RelayError>,
    failures: u64,
    told: u64,
    /// Since when this peer has not been registered there.
    away_since: Instant,
    /// It has proven another key than the known one since.
    key_changed: bool,
}

/// A relay that does not know this peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Away {
    /// Since when.
    pub(crate) since: Instant,
    /// It has proven another key than the known one.
    pub(crate) key_changed: bool,
}

impl RelayStates {
    pub(crate) fn new(now: Instant, relays: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self(relays.into_iter().map(|relay| RelayState::new(now, relay)).collect())
    }

    pub(crate) fn on_registered(&mut self, relay: SocketAddr) {
        self.at(relay, |state| (state.registered, state.key_changed) = (true, false));
    }

    /// The relay of that index is another one, which this peer has heard nothing of.
    pub(crate) fn on_replaced(&mut self, now: Instant, index: usize, relay: SocketAddr) {
        if let Some(state) = self.0.get_mut(index) {
            *state = RelayState { failures: state.failures, told: state.told, ..RelayState::new(now, relay) };
        }
    }

    /// How long the relay of that index has been away, if it is.
    pub(crate) fn away(&self, index: usize) -> Option<Away> {
        let state = self.0.get(index).filter(|state| !state.registered)?;
        Some(Away { since: state.away_since, key_changed: state.key_changed })
    }

    pub(crate) fn on_warm(&mut self, relay: SocketAddr) {
        self.at(relay, |state| (state.warm, state.unanswered) = (true, false));
    }

    pub(crate) fn on_unanswered(&mut self, relay: SocketAddr) {
        self.at(relay, |state| state.unanswered = !state.warm);
    }

    pub(crate) fn on_lost(&mut self, now: Instant, relay: SocketAddr, error: &RelayError) {
        self.at(relay, |state| state.on_lost(now, error));
    }

    /// No relay will have anything to say any more.
    pub(crate) fn on_shut_down(&mut self, now: Instant) {
        self.0.iter_mut().for_each(|state| state.on_lost(now, &RelayError::ShutDown));
    }

    fn at(&mut self, relay: SocketAddr, change: impl FnOnce(&mut RelayState)) {
        match self.0.iter_mut().find(|state| state.relay == relay) {
            Some(state) => change(state),
            None => log::debug!("news of a relay that is none of this peer's: {relay}"),
        }
    }

    /// Why there will be no registration any more.
    pub(crate) fn last_word(&self) -> RelayError {
        let finals = self.0.iter().map(|state| state.last.clone().filter(RelayError::is_final));
        finals.collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().next()).unwrap_or(RelayError::ShutDown)
    }

    /// Where a call that waits from now on begins to count failures: those that nobody was told of are news to it.
    pub(crate) fn told(&self) -> Told {
        Told(self.0.iter().map(|state| state.told).collect())
    }

    /// Whether this relay has neither registered this peer nor failed to since then.
    pub(crate) fn is_undecided(&self, relay: SocketAddr, since: &Told) -> bool {
        let mut states = self.0.iter().zip(&since.0).filter(|(state, _)| state.relay == relay);
        states.any(|(state, &since)| state.outcome(false, since).is_none())
    }

    /// The end of waiting for a registration (and, if `warm`, its cookies), if it has come. A failure of all relays
    /// ends it once, and for good if it is final at all of them.
    pub(crate) fn outcome(&mut self, warm: bool, since: &Told) -> Option<Result<(), RelayError>> {
        let outcomes = self.0.iter().zip(&since.0).map(|(state, &since)| state.outcome(warm, since));
        let outcomes: Vec<_> = outcomes.collect();
        if outcomes.contains(&Some(Ok(()))) {
            return Some(Ok(()));
        }
        // One relay that may still answer is worth waiting for.
        let mut errors = outcomes.into_iter().map(|outcome| outcome?.err()).collect::<Option<Vec<_>>>()?;
        self.0.iter_mut().for_each(|state| state.told = state.failures);
        // Where this peer is registered says most; what a later attempt may mend goes before what it may not.
        let registered = errors.iter().position(|error| *error == RelayError::NoCookie);
        let hopeful = || errors.iter().position(|error| !error.is_final());
        let index = registered.or_else(hopeful).unwrap_or(0);
        (!errors.is_empty()).then(|| Err(errors.swap_remove(index)))
    }
}

impl RelayState {
    fn new(now: Instant, relay: SocketAddr) -> Self {
        Self {
            relay,
            registered: false,
            warm: false,
            unanswered: false,
            last: None,
            failures: 0,
            told: 0,
            away_since: now,
            key_changed: false,
        }
    }

    fn on_lost(&mut self, now: Instant, error: &RelayError) {
        if self.registered {
            self.away_since = now;
        }
        self.key_changed |= matches!(error, RelayError::KeyChanged { .. });
        (self.registered, self.warm, self.unanswered) = (false, false, false);
        self.failures += 1;
        self.last = Some(error.clone());
    }

    /// How waiting for this one relay has ended, if it has.
    fn outcome(&self, warm: bool, since: u64) -> Option<Result<(), RelayError>> {
        if self.registered {
            // While it is registered again, an earlier failure is past.
            return match (warm, self.warm, self.unanswered) {
                (false, ..) | (_, true, _) => Some(Ok(())),
                (_, _, true) => Some(Err(RelayError::NoCookie)),
                _ => None,
            };
        }
        let error = self.last.as_ref().filter(|error| error.is_final() || self.failures > since)?;
        Some(Err(error.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNREACHABLE: RelayError = RelayError::Unreachable { after: std::time::Duration::from_secs(5) };

    fn relays<const N: usize>() -> ([SocketAddr; N], RelayStates) {
        let addresses = std::array::from_fn(|index| SocketAddr::new([192, 0, 2, index as u8].into(), 4433));
        (addresses, RelayStates::new(Instant::now(), addresses))
    }

    fn now(states: &mut RelayStates, warm: bool) -> Option<Result<(), RelayError>> {
        let told = states.told();
        states.outcome(warm, &told)
    }

    #[test]
    fn each_failure_is_told_once_and_a_final_one_always() {
        let ([relay], mut state) = relays();
        let from_the_start = state.told();
        assert_eq!(now(&mut state, false), None);
        state.on_lost(Instant::now(), relay, &RelayError::Lost);
        assert_eq!(now(&mut state, false), Some(Err(RelayError::Lost)));
        assert_eq!(now(&mut state, false), None);
        state.on_registered(relay);
        assert_eq!(now(&mut state, false), Some(Ok(())));
        assert_eq!(state.outcome(true, &from_the_start), None);
        state.on_unanswered(relay);
        assert_eq!(state.outcome(true, &from_the_start), Some(Err(RelayError::NoCookie)));
        assert_eq!(state.outcome(false, &from_the_start), Some(Ok(())));
        state.on_warm(relay);
        assert_eq!(state.outcome(true, &from_the_start), Some(Ok(())));
        state.on_lost(Instant::now(), relay, &RelayError::Replaced);
        for _ in 0..2 {
            assert_eq!(now(&mut state, true), Some(Err(RelayError::Replaced)));
        }
    }

    #[test]
    fn any_relay_is_enough() {
        let ([first, second], mut state) = relays();
        state.on_lost(Instant::now(), first, &UNREACHABLE);
        assert_eq!(now(&mut state, false), None, "the second may still answer");
        state.on_registered(second);
        assert_eq!(now(&mut state, false), Some(Ok(())));
        state.on_unanswered(second);
        assert_eq!(now(&mut state, true), Some(Err(RelayError::NoCookie)), "both have said their no");
        state.on_registered(first);
        assert_eq!(now(&mut state, true), None);
        state.on_warm(first);
        assert_eq!(now(&mut state, true), Some(Ok(())));
    }

    #[test]
    fn failure_is_told_when_all_have_failed_and_is_final_if_all_are() {
        let ([first, second], mut state) = relays();
        state.on_lost(Instant::now(), first, &RelayError::Replaced);
        assert_eq!(now(&mut state, false), None);
        state.on_lost(Instant::now(), second, &RelayError::Lost);
        assert_eq!(now(&mut state, false), Some(Err(RelayError::Lost)), "there is hope");
        assert_eq!(now(&mut state, false), None, "told once");
        assert_eq!(state.last_word(), RelayError::ShutDown);
        state.on_lost(Instant::now(), second, &RelayError::Replaced);
        for _ in 0..2 {
            assert_eq!(now(&mut state, false), Some(Err(RelayError::Replaced)));
        }
        assert_eq!(state.last_word(), RelayError::Replaced);
    }

    #[test]
    fn a_relay_is_away_since_it_was_last_there_and_its_key_is_in_doubt_until_it_is_back() {
        let ([relay], mut states) = relays();
        let start = states.away(0).unwrap().since;
        let [lost, later] = [1, 2].map(|seconds| start + std::time::Duration::from_secs(seconds));
        states.on_registered(relay);
        assert_eq!(states.away(0), None);
        states.on_lost(lost, relay, &RelayError::Lost);
        assert_eq!(states.away(0), Some(Away { since: lost, key_changed: false }));
        states.on_lost(later, relay, &RelayError::KeyChanged { expected: direc_core::NodeId::from_bytes([0; 32]) });
        states.on_lost(later, relay, &UNREACHABLE);
        assert_eq!(states.away(0), Some(Away { since: lost, key_changed: true }));
        states.on_replaced(later, 0, SocketAddr::new([192, 0, 2, 9].into(), 4433));
        assert_eq!(states.away(0), Some(Away { since: later, key_changed: false }));
        assert_eq!(now(&mut states, false), None, "what the one before has said is past");
    }
}
