//! What relays have said of names that somebody waits for.

use std::{collections::BTreeMap, net::SocketAddr, time::Instant};

use direc_core::{NodeId, PeerName};

use super::PeerMachine;
use crate::{Named, ResolveError};

/// Each relay's word for each name that is asked for.
pub(crate) type Answers = BTreeMap<PeerName, BTreeMap<SocketAddr, Option<NodeId>>>;

impl PeerMachine {
    /// Asks all relays who is called so. What they have said before does not count.
    pub(crate) fn resolve(&mut self, now: Instant, name: &PeerName) {
        self.names.insert(name.clone(), BTreeMap::new());
        self.core.resolve(now, name);
    }

    pub(super) fn on_resolved(&mut self, relay: SocketAddr, name: &PeerName, id: Option<NodeId>) {
        if let Some(answers) = self.names.get_mut(name) {
            answers.insert(relay, id);
        }
    }

    /// The word of the first relay, in their order, that knows somebody of that name; an earlier one that knows this peer
    /// is waited for. [`ResolveError::Unknown`] once all of those have answered.
    pub(crate) fn resolved(&self, name: &PeerName) -> Option<Result<Named, ResolveError>> {
        let answers = self.names.get(name)?;
        let asked = self.core.relay_distances();
        for &(relay, key) in &self.keys {
            match answers.get(&relay) {
                Some(&Some(id)) => return Some(Ok(Named { relay: key, id })),
                None if asked.iter().any(|&(there, _)| there == relay) => return None,
                Some(None) | None => {}
            }
        }
        (!asked.is_empty()).then_some(Err(ResolveError::Unknown))
    }
}
