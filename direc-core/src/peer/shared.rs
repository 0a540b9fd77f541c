//! What all parts of a peer have in common and none of them changes.

use std::{collections::VecDeque, net::SocketAddr, time::Instant};

use crate::{
    ConnId, NodeId, PeerEvent, StepTaken,
    config::{PeerTiming, Transport},
    quic::{cid::CidKey, config::Clock, tls::Tls},
    step::{Role, Step},
};

pub(super) struct Shared {
    pub(super) tls: Tls,
    pub(super) cids: CidKey,
    pub(super) clock: Clock,
    pub(super) relay: SocketAddr,
    pub(super) timing: PeerTiming,
    pub(super) transport: Transport,
}

/// What a part is called with: the time, the settings, and where its events go.
pub(super) struct Context<'a> {
    pub(super) now: Instant,
    pub(super) shared: &'a Shared,
    pub(super) events: &'a mut VecDeque<PeerEvent>,
    /// None of our cookies reached P3 lately.
    pub(super) cookies_blocked: bool,
    /// Set when a direct path has died.
    pub(super) trouble: &'a mut bool,
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
