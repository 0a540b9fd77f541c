//! The JSON lines that programs rely on: one variant, one event; absent values are `null`.

use direc_core::Path;
use serde::Serialize;

/// One JSON line of `relay` or `peer`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The relay can be reached.
    #[serde(rename = "ready")]
    RelayReady {
        /// What peers need.
        url: String,
    },
    /// The peer is registered.
    #[serde(rename = "ready")]
    PeerReady {
        /// Its ID.
        id: String,
        /// Since process start.
        ms: f64,
    },
    /// A connection stands.
    Connected {
        /// The other peer's ID.
        peer: String,
        /// The path it runs on.
        path: Kind,
        /// Since the connect call. On the accepting side, which made no such call: `null`.
        ms: Option<f64>,
    },
    /// The first byte of application data came back.
    FirstByte {
        /// Since the connect call.
        ms: f64,
    },
    /// The connection moved to this path.
    Path {
        /// The path.
        path: Kind,
        /// The address packets go to.
        addr: String,
        /// Its round-trip time, if known yet.
        rtt_ms: Option<f64>,
        /// Since the connect call; on the accepting side since the connection stood.
        ms: f64,
    },
    /// An answer to a ping.
    Ping {
        /// Its number, from 1.
        seq: u64,
        /// The path that carried it.
        path: Kind,
        /// Its round-trip time.
        rtt_ms: f64,
    },
    /// What arrived on `connect`'s stream: standard output is JSON's, so the bytes are in here.
    Data {
        /// The bytes, in Base64 (RFC 4648, with padding).
        base64: String,
    },
    /// The connection has ended.
    Closed {
        /// Why.
        reason: String,
    },
    /// It did not work.
    Error {
        /// What, in words.
        what: String,
    },
    /// The last line of `ping`, `connect` and `bench`.
    Summary(Summary),
}

/// What a client command came to.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Summary {
    /// From the connect call until the connection stood.
    pub connected_ms: Option<f64>,
    /// From the connect call until the first byte of application data had come back.
    pub first_byte_ms: Option<f64>,
    /// From the connect call until the connection moved to a direct path.
    pub direct_ms: Option<f64>,
    /// The last path.
    pub path: Option<Kind>,
    /// QUIC's smoothed round-trip time on it, at the end.
    pub rtt_ms: Option<f64>,
    /// Pings sent.
    pub sent: Option<u64>,
    /// Pings not answered.
    pub lost: Option<u64>,
    /// Bytes that arrived (`connect`: both ways together).
    pub bytes: Option<u64>,
    /// How long that took.
    pub seconds: Option<f64>,
    /// The longest time in which the receiver's application got nothing, measured there.
    pub longest_stall_ms: Option<f64>,
}

/// Whether a path goes through the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It does.
    Relay,
    /// It does not.
    Direct,
}

impl From<Path> for Kind {
    fn from(path: Path) -> Self {
        if path.is_direct() { Self::Direct } else { Self::Relay }
    }
}

/// "direct 198.51.100.18:4433".
pub fn path_text(path: Path) -> String {
    let name = if path.is_direct() { "direct" } else { "relay" };
    format!("{name} {}", path.address())
}
