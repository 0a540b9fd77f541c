//! How a connection and its paths stand: what programs are told, and what the table for people is made of.

use std::time::Instant;

use direc_smol::{ConnectionStatus, PathState, PathStatus};
use serde::Serialize;

use crate::{
    clock::{ms, ms_between},
    events::{Kind, Why, silent_ms},
};

/// One connection.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// The other peer's ID.
    pub peer: String,
    /// This side's part: `client` or `server`.
    pub role: String,
    /// The path that carries data.
    pub path: Kind,
    /// The address packets go to.
    pub addr: String,
    /// Why that path was chosen.
    pub why: Why,
    /// How long the path before had been silent, if that was it.
    pub silent_ms: Option<f64>,
    /// For how long it has been that path.
    pub for_ms: f64,
    /// All its paths: the relays' first, then the direct ones.
    pub paths: Vec<PathStanding>,
}

/// One path of a connection.
#[derive(Clone, Debug, Serialize)]
pub struct PathStanding {
    /// Whether it goes through a relay.
    pub path: Kind,
    /// The address packets go to.
    pub addr: String,
    /// Whether it works.
    pub state: State,
    /// Whether it carries the data.
    pub current: bool,
    /// Its round-trip time, if known.
    pub rtt_ms: Option<f64>,
    /// Of its last probes: how many were answered in time.
    pub answered: u32,
    /// And how many were not.
    pub lost: u32,
    /// Bytes of UDP payload sent on it.
    pub sent_bytes: u64,
    /// Bytes of UDP payload received on it.
    pub received_bytes: u64,
    /// For how long it has been in this state.
    pub for_ms: f64,
}

/// How well a path works, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Packets pass both ways.
    Works,
    /// An answer is overdue.
    Doubtful,
    /// It is being tried.
    Trying,
    /// It worked once.
    Lost,
    /// It was tried to no avail.
    Silent,
    /// A state that this version does not know.
    Other,
}

impl Standing {
    /// Of a connection as it stands now.
    pub fn of(status: &ConnectionStatus, now: Instant) -> Self {
        Self {
            peer: status.peer.to_string(),
            role: status.role.to_string(),
            path: status.path.into(),
            addr: status.path.address().to_string(),
            why: status.chosen.into(),
            silent_ms: silent_ms(status.chosen),
            for_ms: ms_between(status.since, now),
            paths: status.paths.iter().map(|path| PathStanding::of(path, now)).collect(),
        }
    }
}

impl PathStanding {
    fn of(status: &PathStatus, now: Instant) -> Self {
        let (answered, lost) = status.probes;
        Self {
            path: status.path.into(),
            addr: status.path.address().to_string(),
            state: status.state.into(),
            current: status.current,
            rtt_ms: status.rtt.map(ms),
            answered,
            lost,
            sent_bytes: status.sent_bytes,
            received_bytes: status.received_bytes,
            for_ms: ms_between(status.since, now),
        }
    }
}

impl From<PathState> for State {
    fn from(state: PathState) -> Self {
        match state {
            PathState::Works => Self::Works,
            PathState::Doubtful => Self::Doubtful,
            PathState::Trying => Self::Trying,
            PathState::Lost => Self::Lost,
            PathState::Silent => Self::Silent,
            _ => Self::Other,
        }
    }
}

impl State {
    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Doubtful => "doubtful",
            Self::Trying => "trying",
            Self::Lost => "lost",
            Self::Silent => "silent",
            Self::Other => "?",
        }
    }
}
