//! Asking relays who is called so.

use std::time::Instant;

use super::Peer;
use crate::{PeerEvent, PeerName, wire::message::Resolved};

/// Names asked for at once; more are left out.
const MAX_NAMES: usize = 64;

impl Peer {
    /// Asks each relay who is called so there; [`PeerEvent::Resolved`] comes from each, as soon as this peer is
    /// registered there. At most 64 names are asked for at once.
    pub fn resolve(&mut self, now: Instant, name: &PeerName) {
        self.advance(now);
        for registration in &mut self.relays {
            if registration.names.len() < MAX_NAMES && registration.names.insert(name.clone()) {
                registration.control.resolve(name.clone());
            }
        }
        self.drive();
    }

    /// The relay has just registered this peer: what it was asked before is lost.
    pub(super) fn ask_names(&mut self, relay: usize) {
        let registration = &mut self.relays[relay];
        registration.names.iter().for_each(|name| registration.control.resolve(name.clone()));
    }

    /// Answers that nobody waits for are none.
    pub(super) fn on_resolved(&mut self, relay: usize, resolved: Resolved) {
        let Resolved { name, id, reason } = resolved;
        if self.relays[relay].names.remove(&name) {
            self.events.push_back(PeerEvent::Resolved { relay: self.shared.relay(relay), name, id, refused: reason });
        }
    }
}
