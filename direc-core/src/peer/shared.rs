//! What all parts of a peer have in common and none of them changes, but for where the relays are.

use std::{collections::VecDeque, net::SocketAddr, time::Instant};

use super::{restraint::Restraint, spares::Spares};
use crate::{
    ConnId, NodeId, PeerEvent, StepTaken,
    config::{PeerTiming, Techniques, Transport},
    paths::Reach,
    quic::{cid::CidKey, config::Clock, tls::Tls},
    step::{Role, Step},
};

pub(super) struct Shared {
    pub(super) tls: Tls,
    pub(super) cids: CidKey,
    pub(super) clock: Clock,
    /// What this peer can reach, the relays' addresses among it, in the order of the settings.
    pub(super) reach: Reach,
    pub(super) timing: PeerTiming,
    pub(super) transport: Transport,
    pub(super) techniques: Techniques,
}

impl Shared {
    /// The address of a relay by its number, of which there are as many as the settings name.
    pub(super) fn relay(&self, number: usize) -> SocketAddr {
        self.reach.relays[number.min(self.reach.relays.len() - 1)]
    }

    /// The relay of this number is there from now on.
    pub(super) fn move_relay(&mut self, number: usize, address: SocketAddr) {
        let Reach { mut relays, v4, v6, nat64 } = std::mem::take(&mut self.reach);
        if let Some(relay) = relays.get_mut(number) {
            *relay = address;
        }
        let reach = Reach::new(relays, nat64);
        self.reach = Reach { v4: v4 | reach.v4, v6: v6 | reach.v6, ..reach };
    }

    /// The number of the relay at this address.
    pub(super) fn relay_at(&self, address: SocketAddr) -> Option<usize> {
        self.reach.relays.iter().position(|relay| *relay == address)
    }
}

/// What sessions have noticed that is the whole peer's affair.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    /// This peer's own address may have changed.
    pub(super) address: bool,
    /// Relays that do not answer, or whose answer matters now: a bit for each.
    pub(super) silent_relays: u8,
    /// None of our cookies reached P3 lately.
    pub(super) cookies_blocked: bool,
}

/// What a part is called with: the time, the settings, and where its events go.
pub(super) struct Context<'a> {
    pub(super) now: Instant,
    pub(super) shared: &'a Shared,
    pub(super) events: &'a mut VecDeque<PeerEvent>,
    pub(super) trouble: &'a mut Trouble,
    pub(super) spares: &'a mut Spares,
    pub(super) restraint: &'a mut Restraint,
}

/// Who and what a step is about.
pub(super) struct StepAbout {
    pub(super) role: Role,
    pub(super) conn: Option<ConnId>,
    pub(super) introduction: Option<u64>,
    pub(super) peer: Option<NodeId>,
}

impl Context<'_> {
    pub(super) fn step(&mut self, about: &StepAbout, step: Step, address: Option<SocketAddr>) {
        self.events.push_back(PeerEvent::Step(StepTaken {
            role: about.role,
            step,
            conn: about.conn,
            introduction: about.introduction,
            peer: about.peer,
            address,
        }));
    }
}
