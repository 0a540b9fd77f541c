//! What peers are called: a convenience, which proves nothing (DESIGN.md, section 5).

use std::{collections::BTreeMap, time::Instant};

use super::Relay;
use crate::{
    NodeId, PeerName,
    quic::Handle,
    wire::message::{Message, Resolved},
};

impl Relay {
    /// What its peers are called from now on.
    pub fn set_names(&mut self, now: Instant, names: BTreeMap<PeerName, NodeId>) {
        self.advance(now);
        self.config.names = names;
    }

    /// A registered peer asks who is called so.
    pub(super) fn on_resolve(&mut self, handle: Handle, name: PeerName) {
        let id = self.config.names.get(&name).copied();
        self.say(handle, &Message::Resolved(Resolved { name, id }));
    }
}
