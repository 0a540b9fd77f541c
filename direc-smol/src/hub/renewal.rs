//! A relay that has said by another way who it is now.

use std::time::Instant;

use direc_core::{ConfigError, RelayAddress};

use super::PeerMachine;
use crate::{news::PeerNews, node::Machine, signal::Wakes};

impl PeerMachine {
    /// Where the relay of that index is, and who.
    pub(crate) fn relay(&self, index: usize) -> Option<RelayAddress> {
        self.addresses.get(index).copied()
    }

    /// The relay of that index is this one from now on. Gives whom to wake.
    pub(crate) fn replace_relay(
        &mut self,
        now: Instant,
        index: usize,
        relay: RelayAddress,
    ) -> Result<Wakes, ConfigError> {
        let mut wakes = Wakes::default();
        self.core.replace_relay(now, index, relay)?;
        // What there is to tell of the one before names that one.
        self.dispatch(now, &mut wakes);
        if let Some(known) = self.addresses.get_mut(index).filter(|known| **known != relay) {
            let before = std::mem::replace(known, relay).address;
            self.relays.on_replaced(now, index, relay.address);
            let news = PeerNews::RelayRenewed { before, relay: relay.address, key: relay.key };
            self.feed.publish(now, &news, &mut wakes);
            wakes.ring(&self.signals.relay);
        }
        Ok(wakes)
    }
}
