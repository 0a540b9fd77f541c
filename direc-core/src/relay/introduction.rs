//! An introduction as P3 runs it: S3–S6 and S9, from "I want to connect to Y" until both have gone.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use quinn_proto::StreamId;

use super::directness::Traffic;
use crate::{
    NodeId,
    quic::{Handle, stream::MessageStream},
};

/// One of the two ends.
pub(super) struct End {
    pub(super) peer: Handle,
    pub(super) stream: MessageStream,
    /// The number on relayed packets between P3 and this end.
    pub(super) channel: u64,
    /// The other end's addresses that this one has been told (S9).
    pub(super) told: Vec<SocketAddr>,
}

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    P2,
    P4,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::P2 => Self::P4,
            Self::P4 => Self::P2,
        }
    }
}

/// Where an introduction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// S6: P4 has been offered the client; until `deadline` it may answer. `early` of P2's packets have passed.
    Offered { deadline: Instant, early: u32 },
    /// P4 has accepted, or had told beforehand that it would.
    Accepted {
        /// When P2 may be told P4's addresses: the specification's delay. `None` once that time has come.
        tell_p2_at: Option<Instant>,
    },
}

pub(super) struct Introduction {
    pub(super) client: End,
    pub(super) server: End,
    pub(super) client_id: NodeId,
    pub(super) server_id: NodeId,
    /// Whether addresses are exchanged at all.
    pub(super) direct: bool,
    pub(super) state: State,
    pub(super) traffic: Traffic,
}

/// What may be told to an end now (S9).
pub(super) struct Telling {
    pub(super) side: Side,
    pub(super) addresses: Vec<SocketAddr>,
}

impl Introduction {
    pub(super) fn end(&self, side: Side) -> &End {
        match side {
            Side::P2 => &self.client,
            Side::P4 => &self.server,
        }
    }

    pub(super) fn end_mut(&mut self, side: Side) -> &mut End {
        match side {
            Side::P2 => &mut self.client,
            Side::P4 => &mut self.server,
        }
    }

    /// Which end speaks on this stream of this peer's.
    pub(super) fn side_of(&self, peer: Handle, stream: StreamId) -> Option<Side> {
        [Side::P2, Side::P4].into_iter().find(|&side| {
            let end = self.end(side);
            end.peer == peer && end.stream.id() == stream
        })
    }

    /// S6: P4 has accepted. The delay between telling P4 and telling P2 begins.
    pub(super) fn on_accept(&mut self, now: Instant, delay: Duration) {
        self.traffic.accepted(now);
        self.state = State::Accepted { tell_p2_at: (!delay.is_zero()).then(|| now + delay) };
    }

    pub(super) fn is_accepted(&self) -> bool {
        matches!(self.state, State::Accepted { .. })
    }

    /// When something is due by time alone.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Offered { deadline, .. } => Some(deadline),
            State::Accepted { tell_p2_at } => tell_p2_at,
        }
    }

    /// Whether a relayed packet from this end may pass. P4's answer passes once it has accepted; P2's first flight
    /// before that, or nothing could be answered straight away, but no more than `limit`.
    pub(super) fn may_forward(&mut self, from: Side, limit: u32) -> bool {
        match (&mut self.state, from) {
            (State::Accepted { .. }, _) => true,
            (State::Offered { early, .. }, Side::P2) if *early < limit => {
                *early += 1;
                true
            }
            (State::Offered { .. }, _) => false,
        }
    }

    /// S9: what `side` has not been told yet of the other's addresses. Nothing before P4 has accepted, and nothing to
    /// P2 before the delay is over.
    pub(super) fn tell(&mut self, side: Side, addresses: Vec<SocketAddr>) -> Option<Telling> {
        let State::Accepted { tell_p2_at } = self.state else { return None };
        if !self.direct || addresses.is_empty() || (side == Side::P2 && tell_p2_at.is_some()) {
            return None;
        }
        let end = self.end_mut(side);
        if end.told == addresses {
            return None;
        }
        end.told.clone_from(&addresses);
        Some(Telling { side, addresses })
    }
}
