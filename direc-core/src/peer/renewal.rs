//! A relay that is another one from now on.

use std::time::Instant;

use super::Peer;
use crate::{ConfigError, config::RelayAddress};

impl Peer {
    /// The relay of this index in [`PeerConfig::relays`](crate::PeerConfig::relays) has another key or address, or both,
    /// from now on: who knows it by a way that proves as much says so. The peer leaves the one before, if it is registered
    /// there, and registers at this one at once; direct connections do not notice, others are introduced anew. What the
    /// relay was already changes nothing, and neither does a call after [`Self::shutdown`].
    ///
    /// # Errors
    /// [`ConfigError::Setting`] if there is no such index, or another of this peer's relays has that address.
    pub fn replace_relay(&mut self, now: Instant, index: usize, relay: RelayAddress) -> Result<(), ConfigError> {
        self.advance(now);
        let before = self.relays.get(index).map(|registration| registration.control.relay());
        let before = before.ok_or(ConfigError::Setting("a relay is replaced that the peer does not have"))?;
        if self.shared.relay_at(relay.address).is_some_and(|at| at != index) {
            return Err(ConfigError::Setting("another of the peer's relays has the new address"));
        }
        if self.leaving || before == relay {
            return Ok(());
        }
        // The old one's loss is told, and its introductions let go of, while it still is the relay of that index.
        self.relays[index].control.quit(self.now);
        self.drive();
        if before.address != relay.address {
            self.shared.move_relay(index, relay.address);
            self.evidence.on_relay_moved(index, relay.address);
            self.relays[index].move_to(relay.address);
        }
        self.relays[index].control.replace(self.now, relay);
        self.drive();
        Ok(())
    }
}
