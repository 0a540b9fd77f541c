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

    /// A registered peer asks who is called so. Who may not find others, or has asked for too much, hears of nobody.
    pub(super) fn on_resolve(&mut self, handle: Handle, name: PeerName) {
        let may = self.registry.get(handle).is_some_and(|entry| entry.rights.connect);
        let Some(payer) = self.payer(handle).filter(|_| may) else {
            return self.say(handle, &Message::Resolved(Resolved { name, id: None }));
        };
        let paid = self.meters.introductions.take(self.now, &self.config.quotas.introductions, payer, 1);
        let id = self.config.names.get(&name).copied().filter(|_| paid.is_ok());
        self.say(handle, &Message::Resolved(Resolved { name, id }));
    }
}
