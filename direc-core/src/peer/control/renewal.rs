//! A relay that can be asked who it is now: another key is then no reason to give up.

use std::time::Instant;

use super::{Control, Pulse, State};
use crate::{RelayError, config::RelayAddress, twice::Twice, wire::close_code};

/// What is known of the relay's key.
#[derive(Default)]
pub(super) struct Renewal {
    /// Somebody can ask the relay for another one.
    possible: bool,
    /// The relay has proven another key than the known one, and the program has been told.
    due: bool,
}

impl Renewal {
    /// Whether the relay is waited for to be asked. There is no hurry for more of the same answer meanwhile.
    pub(super) fn is_due(&self) -> bool {
        self.due
    }

    pub(super) fn on_registered(&mut self) {
        self.due = false;
    }

    /// Whether that is news whatever was told before.
    pub(super) fn on_lost(&mut self, error: &RelayError) -> bool {
        matches!(error, RelayError::KeyChanged { .. }) && !std::mem::replace(&mut self.due, true)
    }
}

impl Control {
    /// The relay can be asked who it is now.
    pub(in crate::peer) fn allow_renewal(&mut self) {
        self.renewal.possible = true;
    }

    /// The key that was proven is not the known one.
    pub(super) fn wrong_key(&self) -> RelayError {
        let expected = self.relay.key;
        match self.renewal.possible {
            true => RelayError::KeyChanged { expected },
            false => RelayError::WrongKey { expected },
        }
    }

    pub(in crate::peer) fn relay(&self) -> RelayAddress {
        self.relay
    }

    /// QUIC connections to it, those that are ending among them.
    pub(in crate::peer) fn connections(&self) -> usize {
        self.quic.len()
    }

    /// Ends what there is with the relay, which is about to be replaced.
    pub(in crate::peer) fn quit(&mut self, now: Instant) {
        if self.is_registered() {
            return self.lose(now, RelayError::Closed { reason: "left: it is another one now".into() });
        }
        if let Some(connection) = self.current().and_then(|handle| self.quic.get_mut(handle)) {
            connection.close(now, close_code::GOODBYE.into(), bytes::Bytes::new());
        }
        self.end_ways(now, false);
        self.state = State::Waiting { until: now };
    }

    /// This is the relay from now on, and is tried at once. To be called after [`Self::quit`].
    pub(in crate::peer) fn replace(&mut self, now: Instant, relay: RelayAddress) {
        if self.relay.address != relay.address {
            self.rtt = None;
            self.forget_ways();
        }
        self.relay = relay;
        self.renewal.due = false;
        self.attempts = 0;
        (self.pulse, self.twice) = (Pulse::default(), Twice::default());
        self.state = State::Waiting { until: now };
    }
}
