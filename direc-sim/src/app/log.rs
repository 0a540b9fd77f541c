//! What came of a connection.

use std::time::Duration;

use direc_core::{CloseReason, DirectFailure, NodeId, Path, Role};

use super::{Deliveries, Work};

/// A connection's move to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// When.
    pub at: Duration,
    /// Where to.
    pub path: Path,
    /// Its round-trip time, as far as it was known.
    pub rtt: Option<Duration>,
}

/// What came of a connection, as one side's application saw it. Times count from the beginning of the world.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnLog {
    /// The number its command gave it.
    pub tag: Option<usize>,
    /// The other side.
    pub peer: Option<NodeId>,
    /// This side's part.
    pub role: Option<Role>,
    /// What this side does with it.
    pub work: Work,
    /// When `connect` was called.
    pub asked_at: Option<Duration>,
    /// When it was offered, if it was asked for.
    pub offered_at: Option<Duration>,
    /// When it stood: accepted, keys proven.
    pub connected_at: Option<Duration>,
    /// When QUIC had authenticated the first packet that came straight.
    pub direct_heard_at: Option<Duration>,
    /// The paths it ran on, in order, the first one at its start.
    pub paths: Vec<Moved>,
    /// When and why punching was given up.
    pub not_direct: Option<(Duration, DirectFailure)>,
    /// When and why it did not come to be.
    pub failed: Option<(Duration, String)>,
    /// When and why it ended.
    pub closed: Option<(Duration, CloseReason)>,
    /// When the first echoed byte came back.
    pub first_echo_at: Option<Duration>,
    /// When all the work was done.
    pub done_at: Option<Duration>,
    /// Bytes sent on streams this side opened, and come back in order.
    pub echoed: u64,
    /// Bytes verified on the other side's uni streams.
    pub verified: u64,
    /// When they were.
    pub deliveries: Deliveries,
    /// Bytes sent back to the other side.
    pub served: u64,
    /// Bytes of uni streams that the other side has acknowledged.
    pub uploaded: u64,
    /// Datagrams sent, received and echoed back.
    pub datagrams: (u32, u32, u32),
    /// What arrived wrong: a byte out of place, a stream cut short.
    pub mistakes: Vec<String>,
}

impl ConnLog {
    /// Whether it stands now.
    pub fn stands(&self) -> bool {
        self.connected_at.is_some() && self.closed.is_none() && self.failed.is_none()
    }

    /// Whether it has come to nothing, or ended.
    pub fn over(&self) -> bool {
        self.closed.is_some() || self.failed.is_some()
    }

    /// When it first ran on a direct path.
    pub fn direct_at(&self) -> Option<Duration> {
        self.paths.iter().find(|moved| moved.path.is_direct()).map(|moved| moved.at)
    }

    /// The path it ran on last.
    pub fn path(&self) -> Option<Path> {
        self.paths.last().map(|moved| moved.path)
    }

    /// The path it ran on at this time.
    pub fn path_at(&self, at: Duration) -> Option<Path> {
        self.paths.iter().take_while(|moved| moved.at <= at).last().map(|moved| moved.path)
    }

    pub(super) fn add(&mut self, work: Work) {
        self.work.ping |= work.ping;
        self.work.echo += work.echo;
        self.work.upload += work.upload;
        self.work.datagrams += work.datagrams;
        self.work.flow = work.flow.or(self.work.flow);
        self.done_at = None;
    }
}

pub(super) fn path_words(path: &Path) -> String {
    match path {
        Path::Relay(_) => "through the relay".into(),
        Path::Direct(address) => format!("direct, {address}"),
    }
}
