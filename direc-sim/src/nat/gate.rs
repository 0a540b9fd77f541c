//! What a box does besides translating: bans, entries of its own that stand in the way, and a limit on new flows.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// Entries of each kind that are kept: more than any scenario needs, and a bound for hostile ones.
const MAX_ENTRIES: usize = 8192;

/// Tokens of one limit: a burst of a second's worth, then one after the other.
const BURST: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Sources that are shut out, and until when.
    bans: BTreeMap<IpAddr, Duration>,
    /// Flows that the router itself has taken (external and remote endpoint), and until when.
    own: BTreeMap<(SocketAddr, SocketAddr), Duration>,
    /// When the flows allowed so far will have been earned (GCRA's theoretical arrival time).
    earned: Duration,
}

impl Gate {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn ban(&mut self, now: Duration, source: IpAddr, lasts: Duration) {
        keep(&mut self.bans, now, source, now + lasts);
    }

    pub(super) fn bans(&self, now: Duration, source: IpAddr) -> bool {
        !self.bans.is_empty() && self.bans.get(&source).is_some_and(|until| *until > now)
    }

    /// The router itself takes a flow, and keeps it until then.
    pub(super) fn take(&mut self, now: Duration, outside: SocketAddr, remote: SocketAddr, until: Duration) {
        keep(&mut self.own, now, (outside, remote), until);
    }

    /// Whether a flow is the router's own.
    pub(super) fn has_taken(&self, now: Duration, outside: SocketAddr, remote: SocketAddr) -> bool {
        !self.own.is_empty() && self.own.get(&(outside, remote)).is_some_and(|until| *until > now)
    }

    /// Whether one more flow is allowed where so many a second are.
    pub(super) fn allows(&mut self, now: Duration, a_second: Option<u16>) -> bool {
        let Some(rate) = a_second else { return true };
        let each = BURST / u32::from(rate.max(1));
        let earned = self.earned.max(now) + each;
        let allowed = earned <= now + BURST;
        if allowed {
            self.earned = earned;
        }
        allowed
    }
}

fn keep<K: Ord>(entries: &mut BTreeMap<K, Duration>, now: Duration, key: K, until: Duration) {
    if entries.len() >= MAX_ENTRIES && !entries.contains_key(&key) {
        entries.retain(|_, until| *until > now);
    }
    if entries.len() < MAX_ENTRIES {
        entries.insert(key, until);
    }
}
