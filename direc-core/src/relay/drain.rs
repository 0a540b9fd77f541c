//! How a relay goes down: its peers are asked to be elsewhere, and then dismissed.

use std::time::{Duration, Instant};

use super::Relay;
use crate::wire::{
    close_code,
    message::{Drain, Message},
};

impl Relay {
    /// Tells all peers to be elsewhere `within` that time, begins no more introductions, and goes on forwarding; then,
    /// or as soon as everybody has left, it shuts down by itself.
    pub fn drain(&mut self, now: Instant, within: Duration) {
        self.advance(now);
        if self.leaving {
            return;
        }
        self.draining_until = Some(now + within);
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        for handle in self.quic.handles() {
            self.say(handle, &Message::Drain(Drain { within_ms }));
        }
    }

    /// Ends a drain whose time is over, or whose peers have all left.
    pub(super) fn handle_drain(&mut self) {
        let Some(until) = self.draining_until.filter(|_| !self.leaving) else { return };
        if until <= self.now || self.registry.len() == 0 {
            self.shutdown(self.now);
        }
    }

    /// Says good-bye to everyone and lets nobody in any more; drive on until [`Self::is_drained`].
    pub fn shutdown(&mut self, now: Instant) {
        self.advance(now);
        self.leaving = true;
        for handle in self.quic.handles() {
            self.dismiss(handle, close_code::GOODBYE, b"the relay is going down");
        }
    }

    /// Whether everyone has gone.
    pub fn is_drained(&self) -> bool {
        self.leaving && self.quic.len() == 0
    }
}
