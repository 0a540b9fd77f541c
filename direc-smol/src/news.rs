//! What nodes and connections tell people as it happens.

#[cfg(feature = "acme")]
use std::time::SystemTime;
use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use direc_core::{
    ConnId, DirectFailure, Nature, NodeId, Path, PathReason, PortMapping, Rate, RefuseReason, RelayError, StepTaken,
};

use crate::{
    feed::Watcher,
    hub::{PathCursor, PeerMachine},
    node::Node,
    signal::Signals,
};

/// Something worth telling about a [`Peer`](crate::Peer).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PeerNews {
    /// A relay knows this peer.
    Registered {
        /// Which relay.
        relay: SocketAddr,
    },
    /// All cookies are confirmed as well.
    Warm {
        /// At which relay.
        relay: SocketAddr,
    },
    /// No cookie was answered: UDP to the relay's hole-punch ports is blocked. The relay cannot tell the other side this
    /// peer's address, so a connection may stay on the relay.
    Unanswered {
        /// At which relay.
        relay: SocketAddr,
    },
    /// The connection to a relay ended; unless the error is final, the peer tries again by itself.
    RelayLost {
        /// To which relay.
        relay: SocketAddr,
        /// Why.
        error: RelayError,
    },
    /// A relay has said by HTTPS that it has another key or address than it had, and is that one from now on.
    RelayRenewed {
        /// Its address before.
        before: SocketAddr,
        /// Its address now.
        relay: SocketAddr,
        /// Its key now.
        key: NodeId,
    },
    /// A relay is about to go down.
    RelayDraining {
        /// Which relay.
        relay: SocketAddr,
        /// By then it wants to be left.
        within: Duration,
    },
    /// A relay drops packets of this peer's that it was to pass on: they go beyond a quota. Said with the first of them,
    /// and then once a minute at most while it lasts.
    OverQuota {
        /// Which relay.
        relay: SocketAddr,
        /// Whose quota it is: one peer's, one address's, or that of all together.
        reason: RefuseReason,
        /// So many bytes are given in such a time.
        rate: Rate,
        /// Packets dropped since this was last said.
        dropped: u64,
    },
    /// The way to a relay is another one than before.
    Way {
        /// To which relay.
        relay: SocketAddr,
        /// Through a tunnel to its HTTPS port, because UDP does not pass; or by UDP again.
        tunnel: bool,
    },
    /// A tunnel that is wanted, because UDP does not pass, could not be had or has broken. It is tried again.
    TunnelFailed {
        /// To which relay.
        relay: SocketAddr,
        /// Why.
        why: String,
    },
    /// This machine's network has changed, or may have: everything is registered and probed anew.
    NetworkChanged {
        /// The socket's address, which may be another one than before.
        bound: SocketAddr,
        /// Where machines on the same networks reach it; none if the relays are on this very machine.
        local: Vec<SocketAddr>,
    },
    /// The relay has seen this peer's socket as `address` at hole-punch port number `port`.
    Observed {
        /// Index of the hole-punch port.
        port: u8,
        /// This peer's address there.
        address: SocketAddr,
    },
    /// This peer connects to another one, which has not consented beforehand: a program or a person decides there.
    Asking {
        /// The other peer.
        peer: NodeId,
    },
    /// What is known of the NATs in front of this peer has changed.
    Nature(Nature),
    /// The router has mapped a port to this peer, or does not any more.
    PortMapping(Option<PortMapping>),
    /// This peer took a step of the specification's.
    Step(StepTaken),
}

/// Something worth telling about a [`RelayServer`](crate::RelayServer).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RelayNews {
    /// A peer registered.
    Registered {
        /// The peer.
        peer: NodeId,
        /// Its address.
        address: SocketAddr,
        /// Whether it can be found by others; `false`: it is a client, which connects to others only.
        listening: bool,
    },
    /// A registered peer's connection ended.
    Left {
        /// The peer.
        peer: NodeId,
        /// Whether it could be found by others.
        listening: bool,
    },
    /// A registration was refused, or ended because it is not allowed any more.
    TurnedAway {
        /// The peer.
        peer: NodeId,
        /// Its address.
        address: SocketAddr,
        /// The reason it was given.
        reason: RefuseReason,
    },
    /// An introduction was refused.
    Refused {
        /// The client, P2.
        client: NodeId,
        /// Whom it wanted, P4.
        server: NodeId,
        /// The reason given to P2.
        reason: RefuseReason,
    },
    /// The relay is going down, and has told its peers.
    Draining {
        /// By then it is gone.
        within: Duration,
    },
    /// An authority has certified the HTTPS port's key, which is shown with that certificate from now on.
    #[cfg(feature = "acme")]
    Certified {
        /// For these hosts.
        hosts: Vec<String>,
        /// For so long.
        until: SystemTime,
    },
    /// An authority has not certified the HTTPS port's key: the certificate stays the one that there is.
    #[cfg(feature = "acme")]
    NotCertified {
        /// The authority's directory.
        authority: String,
        /// Why not.
        why: String,
        /// It is asked again after this time.
        again: Duration,
    },
    /// The relay took a step of the specification's.
    Step(StepTaken),
}

/// Something worth telling about a connection's path.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum PathNews {
    /// The connection runs on this path from now on.
    Moved {
        /// The path.
        path: Path,
        /// Its round-trip time, as far as it is known yet.
        rtt: Option<Duration>,
        /// Why it was chosen.
        why: PathReason,
        /// When it moved.
        at: Instant,
    },
    /// Punching has been given up for now; the connection stays on the relay.
    NotDirect(DirectFailure),
    /// The first authenticated packet came straight from the other side, from this address.
    DirectHeard(SocketAddr),
}

/// The news of a peer, from when the watch was made. Up to 4,096 wait; then the oldest are dropped.
#[derive(Debug)]
pub struct Watch(pub(crate) Watcher<PeerNews>);

impl Watch {
    /// The next news, with the time it happened; `None` once the peer is closed.
    pub async fn next(&mut self) -> Option<(Instant, PeerNews)> {
        self.0.next().await
    }

    /// How many news were dropped because this watch was not read in time.
    pub fn missed(&self) -> u64 {
        self.0.missed()
    }
}

/// The news of a relay, from when the watch was made. Up to 4,096 wait; then the oldest are dropped.
#[derive(Debug)]
pub struct RelayWatch(pub(crate) Watcher<RelayNews>);

impl RelayWatch {
    /// The next news, with the time it happened; `None` once the relay is closed.
    pub async fn next(&mut self) -> Option<(Instant, RelayNews)> {
        self.0.next().await
    }

    /// How many news were dropped because this watch was not read in time.
    pub fn missed(&self) -> u64 {
        self.0.missed()
    }
}

/// The path news of one connection.
pub struct PathWatch {
    node: Arc<Node<PeerMachine>>,
    conn: ConnId,
    signals: Arc<Signals>,
    cursor: PathCursor,
}

impl PathWatch {
    pub(crate) fn new(node: Arc<Node<PeerMachine>>, conn: ConnId, signals: Arc<Signals>) -> Self {
        Self { node, conn, signals, cursor: PathCursor::default() }
    }

    /// The next path news; `None` once the connection has ended or its last handle is dropped.
    pub async fn next(&mut self) -> Option<PathNews> {
        let Self { node, conn, signals, cursor } = self;
        let mut look = |machine: &mut PeerMachine| {
            let Some(entry) = machine.conn(*conn) else { return Some(None) };
            match entry.next_path_news(cursor) {
                Some(news) => Some(Some(news)),
                None => entry.closed.is_some().then_some(None),
            }
        };
        signals.path.wait_for(|| node.look(&mut look)).await
    }
}

impl fmt::Debug for PathWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PathWatch").field("conn", &self.conn).finish_non_exhaustive()
    }
}
