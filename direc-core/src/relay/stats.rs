//! A relay's figures.

use std::collections::BTreeMap;

use super::{DirectTimes, Relay};
use crate::{RefuseReason, drops::Drops};

/// A relay's figures.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RelayStats {
    /// QUIC connections.
    pub connections: usize,
    /// Peers that can be found.
    pub registered: usize,
    /// Introductions under way, or open for relaying.
    pub introductions: usize,
    /// Introductions begun, ever.
    pub introductions_begun: u64,
    /// Of those, the ones that P4 accepted.
    pub introductions_accepted: u64,
    /// And the ones that went direct, as far as a relay can tell.
    pub direct: DirectTimes,
    /// Tunnels that are up.
    pub tunnels: usize,
    /// Packets relayed.
    pub relayed_datagrams: u64,
    /// Bytes relayed, without the relay's own headers.
    pub relayed_bytes: u64,
    /// Of those, the packets that came or left by a tunnel.
    pub tunnelled_datagrams: u64,
    /// Their bytes.
    pub tunnelled_bytes: u64,
    /// Datagrams dropped, by reason.
    pub drops: Drops,
    /// Registrations, introductions and names refused, by reason.
    pub refusals: BTreeMap<RefuseReason, u64>,
    /// Whether it is being left: see [`Relay::drain`].
    pub draining: bool,
}

impl Relay {
    /// Figures and drops.
    pub fn stats(&self) -> RelayStats {
        RelayStats {
            connections: self.quic.len(),
            registered: self.registry.registered(),
            introductions: self.introductions.len(),
            introductions_begun: self.introductions.totals().0,
            introductions_accepted: self.introductions.totals().1,
            direct: self.introductions.direct(self.now),
            tunnels: self.tunnels.len(),
            relayed_datagrams: self.relayed.0,
            relayed_bytes: self.relayed.1,
            tunnelled_datagrams: self.tunnelled.0,
            tunnelled_bytes: self.tunnelled.1,
            drops: self.drops.clone(),
            refusals: self.refusals.clone(),
            draining: self.draining_until.is_some(),
        }
    }
}
