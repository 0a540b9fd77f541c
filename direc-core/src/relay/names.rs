//! What peers are called: a convenience, which proves nothing (DESIGN.md, section 5).

use std::{collections::BTreeMap, time::Instant};

use super::Relay;
use crate::{
    NodeId, PeerName, RefuseReason,
    quic::Handle,
    wire::message::{Message, Resolved},
};

impl Relay {
    /// What its peers are called from now on.
    pub fn set_names(&mut self, now: Instant, names: BTreeMap<PeerName, NodeId>) {
        self.advance(now);
        self.config.names = names;
    }

    /// A registered peer asks who is called so. One that may not find others, or has asked for too much, is told that, and
    /// nothing of the name.
    pub(super) fn on_resolve(&mut self, handle: Handle, name: PeerName) {
        let answer = match self.may_resolve(handle) {
            Ok(()) => Resolved { id: self.config.names.get(&name).copied(), name, reason: None },
            Err(reason) => Resolved { name, id: None, reason: Some(reason) },
        };
        self.say(handle, &Message::Resolved(answer));
    }

    /// Takes from the quota of introductions what a question for a name costs.
    fn may_resolve(&mut self, handle: Handle) -> Result<(), RefuseReason> {
        let may = self.registry.get(handle).is_some_and(|entry| entry.rights.connect);
        let payer = self.payer(handle).filter(|_| may).ok_or(RefuseReason::MayNotConnect)?;
        self.meters.introductions.take(self.now, &self.config.quotas.introductions, payer, 1)
    }
}
