//! How a peer stands with its relay.

use direc_core::RelayError;

/// The registration, and the attempts at it that failed.
#[derive(Debug, Default)]
pub(crate) struct RelayState {
    registered: bool,
    warm: bool,
    /// No cookie was answered.
    unanswered: bool,
    last: Option<RelayError>,
    failures: u64,
    /// How many failures somebody has been told of.
    told: u64,
}

impl RelayState {
    pub(crate) fn on_registered(&mut self) {
        self.registered = true;
    }

    pub(crate) fn on_warm(&mut self) {
        (self.warm, self.unanswered) = (true, false);
    }

    pub(crate) fn on_unanswered(&mut self) {
        self.unanswered = !self.warm;
    }

    pub(crate) fn on_lost(&mut self, error: RelayError) {
        (self.registered, self.warm, self.unanswered) = (false, false, false);
        self.failures += 1;
        self.last = Some(error);
    }

    /// Why there will be no registration any more.
    pub(crate) fn last_word(&self) -> RelayError {
        self.last.clone().filter(RelayError::is_final).unwrap_or(RelayError::ShutDown)
    }

    /// Where a call that waits from now on begins to count failures: those that nobody was told of are news to it.
    pub(crate) fn told(&self) -> u64 {
        self.told
    }

    /// The end of waiting for the registration (and, if `warm`, its cookies), if it has come. Each failure ends it
    /// once; a final one ends it for good.
    pub(crate) fn outcome(&mut self, warm: bool, since: u64) -> Option<Result<(), RelayError>> {
        if self.registered && (self.warm || !warm) {
            return Some(Ok(()));
        }
        if self.registered && self.unanswered {
            return Some(Err(RelayError::NoCookie));
        }
        let error = self.last.as_ref().filter(|error| error.is_final() || self.failures > since)?;
        // While it is registered again, an earlier failure is past.
        if self.registered {
            return None;
        }
        self.told = self.failures;
        Some(Err(error.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_is_told_once_and_a_final_one_always() {
        let mut state = RelayState::default();
        assert_eq!(state.outcome(false, 0), None);
        state.on_lost(RelayError::Lost);
        assert_eq!(state.outcome(false, state.told()), Some(Err(RelayError::Lost)));
        assert_eq!(state.outcome(false, state.told()), None);
        state.on_registered();
        assert_eq!(state.outcome(false, state.told()), Some(Ok(())));
        assert_eq!(state.outcome(true, 0), None);
        state.on_unanswered();
        assert_eq!(state.outcome(true, 0), Some(Err(RelayError::NoCookie)));
        assert_eq!(state.outcome(false, 0), Some(Ok(())));
        state.on_warm();
        assert_eq!(state.outcome(true, 0), Some(Ok(())));
        state.on_lost(RelayError::Replaced);
        for _ in 0..2 {
            assert_eq!(state.outcome(true, state.told()), Some(Err(RelayError::Replaced)));
        }
    }
}
