//! PTTH_DIREC as pure state machines: two machines behind NATs get one QUIC connection to each other, introduced by a
//! relay, punched through their NATs, and kept alive through the relay where punching cannot work.
//!
//! No socket, clock, thread, randomness or environment in here: bytes, time and seeds come in by arguments, and what
//! should be sent is polled out. [`Peer`] is P2 and P4 of the specification, [`Relay`] is P3; [`step`] names the steps.
//!
//! # The contract of both state machines
//!
//! - **In**: `handle_datagram(now, arrival, bytes)`, `handle_timeout(now)`, and the commands (`connect`, `answer`,
//!   streams, `close`); where there are tunnels, `tunnel_up` and `tunnel_lost`. `now` never runs backwards.
//! - **Out**, after every `in`, in this order, each until it returns `None`: `poll_transmit`, `poll_event`; then
//!   `poll_timeout` says when to come back and why. Queued work counts as due now.
//! - `poll_transmit` clears the caller's buffer and fills it; several datagrams of one length may come at once (GSO).
//! - The same seed and the same inputs give the same outputs, byte for byte, given a crypto provider that does.
//! - Hostile bytes are dropped and counted by reason ([`Drops`]); they cannot panic, stall or grow a node.

mod config;
mod congestion;
mod drops;
mod error;
mod event;
#[cfg(fuzzing)]
pub mod fuzzing;
mod identity;
mod name;
mod nat64;
mod paths;
mod peer;
mod portmap;
mod printable;
mod quic;
mod relay;
mod rng;
pub mod step;
mod token;
mod tunnel;
mod turns;
mod twice;
mod url;
mod wire;

pub use config::{
    ConnectOptions, Consent, MAX_RELAYS, PathPolicy, PeerConfig, PeerTiming, RelayAddress, RelayConfig, RelayLimits,
    Techniques, Transport as TransportConfig,
};
pub use congestion::Congestion;
pub use drops::{DropReason, Drops};
pub use error::{
    CloseReason, ConfigError, ConnectError, DirectFailure, FoundBy, IdError, MisuseError, RefuseReason, RelayError,
    TransportError,
};
pub use event::{
    Arrival, ConnId, Link, Path, PathReason, PathState, PathStatus, PeerEvent, RelayEvent, StepTaken, Transmit, Wake,
    WakeReason,
};
pub use identity::{Identity, KEY_LEN, NodeId};
pub use name::{NameError, PeerName};
pub use nat64::Nat64Prefix;
pub use paths::PUNCHING_PACKETS;
pub use peer::{Connection, ConnectionStats, Filtering, Mapping, Nature, Peer, PortAssignment, Sighting};
pub use portmap::{MapProtocol, PortMapEvent, PortMapRequest, PortMapper, PortMapping};
pub use printable::{PrintableStream, printable, printable_lines};
pub use relay::{Access, AccessList, DirectTimes, Quotas, Rate, Relay, RelayStats, Rights, Scopes};
pub use step::{Role, Step};
pub use token::{AccessToken, TOKEN_LEN, TokenError, TokenHash};
pub use tunnel::{MAX_TUNNEL_DATAGRAM, TUNNEL_QUEUE, TunnelError, TunnelQueue, TunnelReader};
pub use url::{HttpsUrl, HttpsUrlError, RelayUrl, TlsPin, UrlError};

/// Types of QUIC that the interface passes through from quinn-proto.
pub mod quic_types {
    pub use quinn_proto::{
        ClosedStream, Dir, EcnCodepoint, FinishError, ReadError, SendDatagramError, StreamEvent, StreamId, VarInt,
        WriteError,
    };
}
