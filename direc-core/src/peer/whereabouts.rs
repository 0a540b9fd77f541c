//! What this peer says of where it is: its addresses on its machine's own networks, and a port that its router has mapped.

use std::{net::SocketAddr, time::Instant};

use super::Peer;
use crate::{PeerEvent, PortMapping};

impl Peer {
    /// A router has mapped a port to this peer's socket; `None`: it has not, any more. [`PortMapper`](crate::PortMapper)
    /// asks for one.
    ///
    /// Relays are told of it only while they see this peer at the same IP address: a router that is itself behind a NAT
    /// names an address that may be somebody else's.
    pub fn set_port_mapping(&mut self, now: Instant, mapping: Option<PortMapping>) {
        self.advance(now);
        if self.mapping != mapping {
            self.mapping = mapping;
            self.events.push_back(PeerEvent::PortMapping(mapping));
        }
        self.say_where_all();
        self.drive();
    }

    /// What the router has mapped.
    pub fn port_mapping(&self) -> Option<PortMapping> {
        self.mapping
    }

    pub(super) fn say_where_all(&mut self) {
        (0..self.relays.len()).for_each(|relay| self.say_where(relay));
    }

    /// Tells a relay, if what there is to tell has changed.
    pub(super) fn say_where(&mut self, relay: usize) {
        let external = self.mapping.map(|mapping| mapping.external);
        let seen = external.filter(|external| self.evidence.host(relay) == Some(external.ip()));
        // First, since only so many are told.
        let mut addresses: Vec<SocketAddr> = seen.into_iter().collect();
        addresses.extend(self.evidence.local().iter().filter(|local| Some(**local) != seen));
        if let Some(registration) = self.relays.get_mut(relay) {
            registration.control.set_local(&addresses);
        }
    }
}
