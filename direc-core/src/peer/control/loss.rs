//! How a control connection is lost, and what that says of the relay.

use std::time::{Duration, Instant};

use quinn_proto::{ConnectionError, VarInt};

use super::{Control, ControlEvent, State, pulse::Pulse};
use crate::{CloseReason, RefuseReason, RelayError, quic, wire::close_code};

/// After a relay has gone down, its peers come back over this time, and not all at once.
pub(in crate::peer) const COME_BACK: Duration = Duration::from_secs(10);

impl Control {
    /// Ends the connection; the next one is due after a pause, unless this was for good.
    pub(super) fn lose(&mut self, now: Instant, error: RelayError) {
        if let Some(connection) = self.current().and_then(|handle| self.quic.get_mut(handle))
            && !connection.is_closed()
        {
            let code =
                if matches!(error, RelayError::Misbehaved(_)) { close_code::MISBEHAVED } else { close_code::GOODBYE };
            connection.close(now, VarInt::from_u32(code), bytes::Bytes::new());
        }
        self.end_ways(now, error.is_final());
        // Short tries one after the other are one long one to the program.
        let news = self.is_registered() || self.attempts == 0 || self.patience() == self.patience;
        let news = self.renewal.on_lost(&error) || news;
        self.pulse = Pulse::default();
        self.state = if error.is_final() { State::Over } else { State::Waiting { until: now + self.pause() } };
        if news || error.is_final() {
            self.events.push(ControlEvent::Lost(error));
        }
    }

    pub(super) fn relay_error(&self, reason: &ConnectionError) -> RelayError {
        let registered = self.is_registered();
        match reason {
            ConnectionError::ApplicationClosed(close) => {
                if close.error_code == VarInt::from_u32(close_code::REPLACED) {
                    RelayError::Replaced
                } else if close.error_code == VarInt::from_u32(close_code::LIMIT) {
                    RelayError::Refused(RefuseReason::Limit)
                } else if close.error_code == VarInt::from_u32(close_code::REFUSED) {
                    RelayError::Refused(RefuseReason::of_word(&close.reason).unwrap_or(RefuseReason::Other))
                } else {
                    RelayError::Closed { reason: quic::printable(&close.reason) }
                }
            }
            // Our own verifier's alert: the key that was proven is not the pinned one.
            ConnectionError::TransportError(error) if quic::is_access_denied(error.code) => self.wrong_key(),
            ConnectionError::TimedOut | ConnectionError::Reset if registered => RelayError::Lost,
            ConnectionError::TimedOut => RelayError::Unreachable { after: self.patience() },
            other => match quic::close_reason(other) {
                CloseReason::Transport(error) => RelayError::Transport(error),
                reason => RelayError::Closed { reason: reason.to_string() },
            },
        }
    }

    /// What the relay says makes no sense.
    pub(in crate::peer) fn misbehaved(&mut self, now: Instant, what: &'static str) {
        self.lose(now, RelayError::Misbehaved(what));
    }

    /// Leaves a relay that asked for it, and comes back some time after `until`.
    pub(in crate::peer) fn leave(&mut self, now: Instant, until: Instant) {
        self.lose(now, RelayError::Closed { reason: "left as it asked: it is going down".into() });
        self.state = State::Waiting { until: until.max(now) + self.rng.vary(COME_BACK) };
    }
}
