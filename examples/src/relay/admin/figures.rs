//! A relay's figures at one moment.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, UNIX_EPOCH},
};

use direc_smol::{HttpsStats, RelayServer, RelayStats};

use super::process::Process;

/// Everything there is to show.
pub(in super::super) struct Figures {
    pub(super) relay: RelayStats,
    pub(super) https: Option<HttpsStats>,
    /// When the HTTPS port's certificate runs out, in seconds after 1970.
    pub(super) certificate_until: Option<u64>,
    pub(super) refusals: BTreeMap<String, u64>,
    pub(super) drops: BTreeMap<String, u64>,
    pub(super) send_failures: u64,
    pub(super) up: Duration,
    pub(super) process: Process,
}

impl Figures {
    pub(in super::super) fn of(relay: &RelayServer, since: Instant, process: Process) -> Self {
        let stats = relay.stats();
        Self {
            drops: stats.drops.iter().map(|(reason, count)| (label(&reason), count)).collect(),
            refusals: stats.refusals.iter().map(|(reason, &count)| (label(reason), count)).collect(),
            relay: stats,
            https: relay.https_stats(),
            certificate_until: certificate_until(relay),
            send_failures: relay.send_failures(),
            up: since.elapsed(),
            process,
        }
    }
}

fn certificate_until(relay: &RelayServer) -> Option<u64> {
    let (_, until) = relay.https_key()?.validity()?;
    until.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
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
    use direc_smol::RefuseReason;

    use super::*;

    #[test]
    fn reasons_are_labels() {
        assert_eq!(label(&RefuseReason::NoSuchPeer), "no_such_peer");
    }
}
