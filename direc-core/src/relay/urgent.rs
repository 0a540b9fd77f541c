//! Control connections that hear of an introduction: what goes to them is sent [twice](crate::twice) for a moment.

use std::{collections::BTreeMap, time::Instant};

use crate::{Transmit, quic::Handle, twice::Twice};

#[derive(Default)]
pub(super) struct Urgent(BTreeMap<usize, Twice>);

impl Urgent {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn begin(&mut self, now: Instant, peer: Handle) {
        self.0.entry(peer.0).or_default().begin(now);
    }

    /// A datagram goes out to this peer.
    pub(super) fn on_sent(&mut self, now: Instant, peer: Handle, transmit: &Transmit, bytes: &[u8]) {
        let Some(twice) = self.0.get_mut(&peer.0) else { return };
        twice.on_sent(now, transmit, bytes);
        if !twice.is_queued() {
            self.0.remove(&peer.0);
        }
    }

    /// The copy that is to follow, written into `buf`.
    pub(super) fn poll_transmit(&mut self, buf: &mut Vec<u8>) -> Option<Transmit> {
        self.0.values_mut().find_map(|twice| twice.poll_transmit(buf))
    }

    pub(super) fn is_queued(&self) -> bool {
        self.0.values().any(Twice::is_queued)
    }

    pub(super) fn forget_peer(&mut self, peer: Handle) {
        self.0.remove(&peer.0);
    }
}
