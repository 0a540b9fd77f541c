//! A relay's figures at one moment.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use direc_smol::{HttpsStats, RefuseReason, RelayServer, RelayStats};

/// How often introductions were refused, by reason; and since when this is counted.
#[derive(Clone)]
pub(in super::super) struct Refusals {
    counts: Arc<Mutex<BTreeMap<String, u64>>>,
    since: Instant,
}

impl Refusals {
    pub(in super::super) fn new() -> Self {
        Self { counts: Arc::default(), since: Instant::now() }
    }

    pub(in super::super) fn count(&self, reason: RefuseReason) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(label(&reason)).or_default() += 1;
    }
}

/// Everything there is to show.
pub(in super::super) struct Figures {
    pub(super) relay: RelayStats,
    pub(super) https: Option<HttpsStats>,
    pub(super) refusals: BTreeMap<String, u64>,
    pub(super) drops: BTreeMap<String, u64>,
    pub(super) send_failures: u64,
    pub(super) up: Duration,
}

impl Figures {
    pub(in super::super) fn of(relay: &RelayServer, refusals: &Refusals) -> Self {
        let stats = relay.stats();
        Self {
            drops: stats.drops.iter().map(|(reason, count)| (label(&reason), count)).collect(),
            relay: stats,
            https: relay.https_stats(),
            refusals: refusals.counts.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            send_failures: relay.send_failures(),
            up: refusals.since.elapsed(),
        }
    }
}

/// A reason as metrics name it: `NoSuchPeer` is `no_such_peer`.
fn label(reason: &impl std::fmt::Debug) -> String {
    let mut label = String::new();
    for letter in format!("{reason:?}").chars().take_while(char::is_ascii_alphanumeric) {
        if letter.is_ascii_uppercase() && !label.is_empty() {
            label.push('_');
        }
        label.push(letter.to_ascii_lowercase());
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_labels() {
        assert_eq!(label(&RefuseReason::NoSuchPeer), "no_such_peer");
        let refusals = Refusals::new();
        refusals.count(RefuseReason::Limit);
        refusals.count(RefuseReason::Limit);
        assert_eq!(*refusals.counts.lock().unwrap(), BTreeMap::from([("limit".to_owned(), 2)]));
    }
}
