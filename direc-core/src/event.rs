//! What goes in and out of the state machines besides bytes.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use quinn_proto::{EcnCodepoint, StreamEvent};

use crate::{
    CloseReason, ConnectError, DirectFailure, Nature, NodeId, PeerName, PortMapping, Rate, RefuseReason, RelayError,
    step::{Role, Step},
};

/// Which of a node's sockets a datagram came in by or goes out by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Link {
    /// The socket that QUIC runs on, and everything else as a rule.
    Main,
    /// A peer's socket for one round of punching. The driver opens it when it is first sent from, on any port, and closes
    /// it at [`PeerEvent::LinkRetired`]; numbers are never used twice. Who opens none does without these rounds.
    Spare(u32),
    /// The relay's hole-punch socket of this number, in the order of
    /// [`RelayConfig::punch_ports`](crate::RelayConfig::punch_ports).
    Punch(u8),
    /// The same datagrams in one TLS connection to the relay, where UDP does not pass. At a peer the relay's index in
    /// [`PeerConfig::relays`](crate::PeerConfig::relays), at a relay the number of the connection it has accepted.
    Tunnel(u32),
}

/// Where a received buffer came from.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The socket it came in by.
    pub link: Link,
    /// The sender's address, as the socket saw it (IPv4-mapped IPv6 addresses turned back to IPv4).
    pub remote: SocketAddr,
    /// The ECN bits of the IP header.
    pub ecn: Option<EcnCodepoint>,
    /// Length of each datagram in the buffer but the last, which may be shorter: the GRO segment size. The buffer's
    /// own length where it holds one datagram.
    pub stride: usize,
}

/// Where the bytes that `poll_transmit` wrote are to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The socket to send from.
    pub link: Link,
    /// The address to send to.
    pub remote: SocketAddr,
    /// The ECN bits for the IP header.
    pub ecn: Option<EcnCodepoint>,
    /// Bytes written to the buffer.
    pub size: usize,
    /// If set, the buffer holds several datagrams of this length, the last of which may be shorter (GSO).
    pub segment_size: Option<usize>,
    /// If set, the packets are to pass so many routers and no more (the IP header's TTL or hop limit): a punch that is to
    /// open this side's NATs and not to reach the other's.
    pub hops: Option<u8>,
}

impl Transmit {
    /// One datagram of this size, without any of the rest.
    pub const fn one(link: Link, remote: SocketAddr, size: usize) -> Self {
        Self { link, remote, ecn: None, size, segment_size: None, hops: None }
    }
}

/// When a node wants `handle_timeout`, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// The time; in the past if it is due.
    pub at: Instant,
    /// The reason.
    pub why: WakeReason,
}

/// What a node's next wake-up is for. For people and tests: a driver only needs the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum WakeReason {
    /// Output is queued: poll it.
    Queued,
    /// A QUIC timer of the control connection, or of one of the relay's.
    Control,
    /// A QUIC timer of a connection between peers.
    Quic,
    /// A cookie is to be sent again, or to be made anew.
    Cookie,
    /// A probe is to be sent.
    Probe,
    /// A deadline of an introduction.
    Introduction,
    /// A reconnect to the relay.
    Reconnect,
    /// The relay's delay between telling P4 and telling P2 (the specification's Decision).
    Delay,
}

/// A connection's number within its [`Peer`](crate::Peer); never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// The way a connection's packets take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// Through the relay, at this address.
    Relay(SocketAddr),
    /// Straight to the other peer, at this address.
    Direct(SocketAddr),
}

impl Path {
    /// The address packets go to: the relay's, or the other peer's.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Relay(address) | Self::Direct(address) => *address,
        }
    }

    /// Whether this is a direct path.
    pub fn is_direct(&self) -> bool {
        matches!(self, Self::Direct(_))
    }
}

/// Why a connection runs on the path it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathReason {
    /// Every connection begins on the relay.
    Began,
    /// A round trip on it is proven, and direct goes before relayed.
    Direct,
    /// It is a direct path as well, and clearly faster than the one before.
    Faster,
    /// The path before gave no sign of life for this long.
    Silent {
        /// The silence.
        after: Duration,
    },
    /// The relay before is lost or going down.
    RelayLost,
}

/// How well a path is known to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum PathState {
    /// Packets pass both ways.
    Works,
    /// What was sent there is unanswered for longer than the round trip explains.
    Doubtful,
    /// It is being tried.
    Trying,
    /// It worked once and does not now; it is tried again from time to time.
    Lost,
    /// All that could be tried was.
    Silent,
}

/// One path of a connection and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathStatus {
    /// The path.
    pub path: Path,
    /// Whether it works.
    pub state: PathState,
    /// Whether it carries the connection's data.
    pub current: bool,
    /// Its round-trip time, smoothed over its probes; `None` before the first.
    pub rtt: Option<Duration>,
    /// Probes sent on it that were answered in time, and those that were not, of the last 32.
    pub probes: (u32, u32),
    /// UDP payload sent on it, in bytes.
    pub sent_bytes: u64,
    /// UDP payload received on it, in bytes.
    pub received_bytes: u64,
    /// Since when it has been in this state.
    pub since: Instant,
}

/// What a [`Peer`](crate::Peer) has to tell.
#[derive(Debug)]
#[non_exhaustive]
pub enum PeerEvent {
    /// A relay knows this peer: it can be found there by its ID and can connect.
    Registered {
        /// Which relay.
        relay: SocketAddr,
    },
    /// All of this peer's hole-punch cookies have been confirmed: the registration is *warm*.
    Warm {
        /// At which relay.
        relay: SocketAddr,
    },
    /// None of this peer's cookies was answered within the deadline: UDP to the relay's hole-punch ports is blocked. The
    /// relay cannot tell the other side this peer's address, so a connection goes direct only where this peer can reach
    /// the other side by itself. Said with each registration or refresh that ends so.
    Unanswered {
        /// At which relay.
        relay: SocketAddr,
    },
    /// A control connection ended. Unless [`RelayError::is_final`], the peer tries again by itself.
    RelayLost {
        /// To which relay.
        relay: SocketAddr,
        /// Why.
        error: RelayError,
    },
    /// A relay is about to go down. Connections move to another relay that both sides know, if there is one.
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
        /// Whose quota it is: [`RefuseReason::PeerQuota`], [`RefuseReason::AddressQuota`] or
        /// [`RefuseReason::TotalQuota`].
        reason: RefuseReason,
        /// So many bytes are given in such a time; by the relay's word, in milliseconds.
        rate: Rate,
        /// Packets dropped since this was last said.
        dropped: u64,
    },
    /// A tunnel to a relay is wanted, because UDP does not answer, or not any more. While it is wanted the runtime
    /// makes it, makes it anew when it has broken, and says so with [`Peer::tunnel_up`](crate::Peer::tunnel_up) and
    /// [`Peer::tunnel_lost`](crate::Peer::tunnel_lost). One that is not wanted any more is closed, without being told
    /// of. Said only of relays that [`PeerConfig::tunnels`](crate::PeerConfig::tunnels) names.
    Tunnel {
        /// The relay's index in [`PeerConfig::relays`](crate::PeerConfig::relays), and the tunnel's number.
        relay: usize,
        /// Whether it is wanted.
        wanted: bool,
    },
    /// The way to a relay is another one than before: [`Link::Tunnel`], or [`Link::Main`] again. In the beginning it is
    /// [`Link::Main`].
    Way {
        /// To which relay.
        relay: SocketAddr,
        /// By which link.
        link: Link,
    },
    /// A relay's answer to [`Peer::resolve`](crate::Peer::resolve).
    Resolved {
        /// Which relay.
        relay: SocketAddr,
        /// The name.
        name: PeerName,
        /// Who is called so there; `None`: nobody, or the relay does not say.
        id: Option<NodeId>,
        /// Why the relay does not say: a quota, or this peer may not find others, or the relay does not know names.
        refused: Option<RefuseReason>,
    },
    /// P3 has seen this peer's socket as `address` at hole-punch port number `port`.
    Observed {
        /// Index of the hole-punch port.
        port: u8,
        /// This peer's address there.
        address: SocketAddr,
    },
    /// What is known of the NATs in front of this peer has changed.
    Nature(Nature),
    /// The router has mapped a port to this peer, or does not any more.
    PortMapping(Option<PortMapping>),
    /// A client wants to connect (S5): answer with [`Peer::answer`](crate::Peer::answer) within the deadline.
    Offered {
        /// The connection that will be, if accepted.
        conn: ConnId,
        /// The client's ID, proven to the relay; the connection proves it again, end to end.
        peer: NodeId,
    },
    /// P2 waits for P4's answer (S6): P4 has the offer and has not consented beforehand. A program or a person decides.
    /// [`PeerEvent::Connected`] or [`PeerEvent::Failed`] follows. Said once for each relay that is tried.
    Asking {
        /// The connection that will be, if P4 accepts.
        conn: ConnId,
        /// P4.
        peer: NodeId,
    },
    /// A connection stands: accepted by P4 (S6), keys proven.
    Connected {
        /// The connection.
        conn: ConnId,
        /// The other peer.
        peer: NodeId,
        /// This side's part: P2 or P4.
        role: Role,
        /// The path it runs on now.
        path: Path,
    },
    /// `connect` failed, or an offer came to nothing: the client gave up before it was answered, or the connection did not
    /// come about after it was accepted.
    Failed {
        /// The connection that will not be.
        conn: ConnId,
        /// The reason.
        error: ConnectError,
    },
    /// P2's QUIC has authenticated the first packet that came straight from P4 (or P4's from P2).
    DirectHeard {
        /// The connection.
        conn: ConnId,
        /// Where it came from.
        address: SocketAddr,
    },
    /// The connection runs on another path than before; said after [`PeerEvent::Connected`], even if it moved earlier.
    Path {
        /// The connection.
        conn: ConnId,
        /// The new path.
        path: Path,
        /// Its round-trip time, as far as it is known yet.
        rtt: Option<Duration>,
        /// Why it was chosen.
        why: PathReason,
    },
    /// Punching has been given up for now; the connection goes on through the relay.
    NotDirect {
        /// The connection.
        conn: ConnId,
        /// The reason.
        why: DirectFailure,
    },
    /// Something happened on a stream.
    Stream {
        /// The connection.
        conn: ConnId,
        /// What happened.
        event: StreamEvent,
    },
    /// A datagram can be received.
    DatagramReceived {
        /// The connection.
        conn: ConnId,
    },
    /// There is room to send datagrams again.
    DatagramsUnblocked {
        /// The connection.
        conn: ConnId,
    },
    /// This spare socket is not needed any more: it may be closed.
    LinkRetired {
        /// Which one.
        link: Link,
    },
    /// The connection has ended. Nothing more will be said of it.
    Closed {
        /// The connection.
        conn: ConnId,
        /// The reason.
        reason: CloseReason,
    },
    /// This peer took a step of the specification's.
    Step(StepTaken),
}

/// What a [`Relay`](crate::Relay) has to tell.
#[derive(Debug)]
#[non_exhaustive]
pub enum RelayEvent {
    /// A peer registered, from this address.
    Registered {
        /// The peer.
        peer: NodeId,
        /// Its address at the relay's QUIC port.
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
        /// The peer, as its key proves.
        peer: NodeId,
        /// Its address at the relay's QUIC port.
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
    /// The relay took a step of the specification's.
    Step(StepTaken),
}

/// A step of the specification's, taken: who, which, and about what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepTaken {
    /// Who took it.
    pub role: Role,
    /// Which step.
    pub step: Step,
    /// A peer's own connection, if the step belongs to one.
    pub conn: Option<ConnId>,
    /// The introduction's ID made by P3 in S3, where known.
    pub introduction: Option<u64>,
    /// The peer it is about, where it is about one.
    pub peer: Option<NodeId>,
    /// The address it is about: a hole-punch port, a WAN address, a candidate.
    pub address: Option<SocketAddr>,
}
