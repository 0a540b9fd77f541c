//! A scenario that is watched from outside while it goes on, for longer than its calls take.

use std::time::Duration;

use direc_core::NodeId;

use super::{Cast, SetUpError};
use crate::{app::PeerHost, scenario::Scenario, trace::Keep, world::embedded};

/// How a peer stands with a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// It is registered there by its own word.
    pub(crate) registered: bool,
    /// By the relay's.
    pub(crate) known: bool,
}

impl<'a> Cast<'a> {
    /// The scenario at its start, everybody registered. Nothing is kept of packets.
    pub(crate) fn assemble(scenario: &'a Scenario, seed: u64) -> Result<Self, SetUpError> {
        let mut cast = Self::new(scenario, seed, Keep::default())?;
        cast.warm_up();
        Ok(cast)
    }

    /// Lets time pass until then, with all that goes wrong meanwhile. `false` if a node was caught spinning.
    pub(crate) fn pass(&mut self, until: Duration) -> bool {
        while let Some(due) = self.next_incident().filter(|&due| due <= until) {
            self.world.run_until(due);
            if self.world.stuck().is_some() {
                return false;
            }
            self.incidents();
        }
        self.world.run_until(until);
        self.hear_questions();
        self.world.stuck().is_none()
    }

    /// When the scenario's time began.
    pub(crate) fn start(&self) -> Duration {
        self.start
    }

    /// A peer, to look at.
    pub(crate) fn peer(&self, number: usize) -> Option<&PeerHost> {
        self.world.peer(self.peers.get(number)?.0)
    }

    /// Does something with a peer, then sends what it wants to send.
    pub(crate) fn with_peer(&mut self, number: usize, f: impl FnOnce(&mut PeerHost, std::time::Instant)) {
        if let Some(&(host, _, _)) = self.peers.get(number) {
            self.world.with_peer(host, f);
        }
    }

    /// Who a peer is.
    pub(crate) fn id(&self, number: usize) -> Option<NodeId> {
        self.peers.get(number).map(|&(_, _, id)| id)
    }

    /// Whether a peer's process runs and has a network.
    pub(crate) fn is_there(&self, number: usize) -> bool {
        self.peers.get(number).is_some_and(|&(host, _, _)| !self.world.is_cut_off(host))
    }

    /// How many relays there are.
    pub(crate) fn relays(&self) -> usize {
        self.relays.len()
    }

    /// Whether a relay's process runs, takes peers and has a network.
    pub(crate) fn is_open(&self, relay: usize) -> bool {
        self.relays.get(relay).is_some_and(|station| !station.down && !self.world.is_cut_off(station.host))
    }

    /// Whether the relay's last process was drained.
    pub(crate) fn was_drained(&self, relay: usize) -> bool {
        self.relays.get(relay).is_some_and(|station| station.drained)
    }

    /// How a peer and a relay stand.
    pub(crate) fn standing(&self, number: usize, relay: usize) -> Standing {
        let (Some(&(host, _, id)), Some(station)) = (self.peers.get(number), self.relays.get(relay)) else {
            return Standing { registered: false, known: false };
        };
        let at = [station.address.address, embedded(station.address.address)];
        let distances = self.world.peer(host).map(|peer| peer.peer.relay_distances()).unwrap_or_default();
        let registered = distances.iter().any(|(address, _)| at.contains(address));
        let known = self.world.relay(station.host).is_some_and(|relay| relay.is_registered(&id));
        Standing { registered, known }
    }

    /// What all peers together hold, and all relays that are open.
    pub(crate) fn holdings(&self) -> [Vec<(&'static str, usize)>; 2] {
        let peers = self.peers.iter().filter_map(|&(host, _, _)| Some(self.world.peer(host)?.peer.holdings()));
        let open = self.relays.iter().filter(|station| !station.down);
        let relays = open.filter_map(|station| Some(self.world.relay(station.host)?.holdings()));
        [sum(peers), sum(relays)]
    }
}

fn sum(all: impl Iterator<Item = Vec<(&'static str, usize)>>) -> Vec<(&'static str, usize)> {
    all.reduce(|one, other| one.into_iter().zip(other).map(|((kind, a), (_, b))| (kind, a + b)).collect())
        .unwrap_or_default()
}
