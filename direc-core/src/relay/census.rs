//! Who is here, and what a relay holds.

use super::Relay;
use crate::NodeId;

impl Relay {
    /// Whether this peer is registered here and can be found.
    pub fn is_registered(&self, peer: &NodeId) -> bool {
        self.registry.find(peer).is_some()
    }

    /// How many things of each kind it holds: for tests that nothing piles up.
    #[doc(hidden)]
    pub fn holdings(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("connections", self.quic.len()),
            ("peers", self.registry.len()),
            ("registered", self.registry.registered()),
            ("introductions", self.introductions.len()),
            ("fresh streams", self.fresh.len()),
            ("newcomers", self.newcomers.len()),
            ("tunnels", self.tunnels.len()),
            ("promises", self.promises.len()),
            ("echoes", self.echoes.len()),
            ("said twice", self.urgent.len()),
            ("events", self.events.len()),
        ]
    }
}
