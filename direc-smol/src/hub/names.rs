//! What relays have said of names that somebody waits for.

use std::{collections::BTreeMap, net::SocketAddr, time::Instant};

use direc_core::{NodeId, PeerName, RefuseReason, RelayAddress};

use super::{PeerMachine, relay_state::Told};
use crate::{Named, ResolveError};

/// The names that somebody waits for.
pub(super) type Questions = BTreeMap<PeerName, Question>;

/// A name, how many wait for it, and each relay's word.
#[derive(Default)]
pub(super) struct Question {
    waiting: usize,
    answers: BTreeMap<SocketAddr, Answer>,
}

/// Who is called so, if anybody is; or why the relay does not say.
type Answer = Result<Option<NodeId>, RefuseReason>;

impl PeerMachine {
    /// Asks all relays who is called so. What they have said before does not count.
    pub(crate) fn resolve(&mut self, now: Instant, name: &PeerName) {
        let question = self.names.entry(name.clone()).or_default();
        question.waiting += 1;
        question.answers.clear();
        self.core.resolve(now, name);
    }

    /// One of those who asked waits no longer.
    pub(crate) fn forget_name(&mut self, name: &PeerName) {
        if let Some(question) = self.names.get_mut(name) {
            question.waiting -= 1;
            if question.waiting == 0 {
                self.names.remove(name);
            }
        }
    }

    pub(super) fn on_resolved(&mut self, relay: SocketAddr, name: &PeerName, answer: Answer) {
        if let Some(question) = self.names.get_mut(name) {
            question.answers.insert(relay, answer);
        }
    }

    /// What the relays say, in their order, once those that know this peer have answered; if `patient`, also those that
    /// have neither let it register nor failed to since then. If none of them names anybody, [`ResolveError::Refused`]
    /// where one does not say, or else [`ResolveError::Unknown`].
    pub(crate) fn resolved(&self, name: &PeerName, since: &Told, patient: bool) -> Option<Result<Named, ResolveError>> {
        let answers = &self.names.get(name)?.answers;
        let asked = self.core.relay_distances();
        let (mut named, mut refused) = (Vec::new(), None);
        for &RelayAddress { address: relay, key } in &self.addresses {
            match answers.get(&relay) {
                Some(&Ok(Some(id))) => named.push(Named { relay: key, id }),
                Some(&Err(reason)) => refused = refused.or(Some(reason)),
                None if asked.iter().any(|&(there, _)| there == relay) => return None,
                None if patient && self.relays.is_undecided(relay, since) => return None,
                Some(Ok(None)) | None => {}
            }
        }
        match named.as_slice() {
            [] => (!asked.is_empty()).then(|| Err(refused.map_or(ResolveError::Unknown, ResolveError::Refused))),
            [first, others @ ..] if others.iter().all(|other| other.id == first.id) => Some(Ok(*first)),
            _ => Some(Err(ResolveError::Disagree { named })),
        }
    }
}
