//! The JSON lines that programs rely on: one variant, one event; absent values are `null`.

use direc_core::{Path, PathReason};
use serde::Serialize;

use crate::{clock::ms, standing::Standing};

/// One JSON line of `relay` or `peer`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The relay can be reached.
    #[serde(rename = "ready")]
    RelayReady {
        /// What peers need.
        url: String,
        /// What will do as well, if it answers HTTPS.
        https: Option<String>,
    },
    /// The relay is going down, and has told its peers.
    Draining {
        /// By then it is gone.
        within_ms: f64,
    },
    /// The relay would start with its settings: `relay --check-config`.
    ConfigChecked {
        /// What the operator may not have meant.
        warnings: Vec<String>,
    },
    /// The peer is registered.
    #[serde(rename = "ready")]
    PeerReady {
        /// Its ID.
        id: String,
        /// Since process start.
        ms: f64,
    },
    /// The other side has not consented beforehand, and has not answered at once: a program or a person decides there.
    Asking {
        /// The other peer's ID.
        peer: String,
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
        /// Why it was chosen.
        why: Why,
        /// How long the path before had been silent, if that was it.
        silent_ms: Option<f64>,
    },
    /// A relay does not have this peer any more. Said once, until it is back.
    RelayLost {
        /// Its address.
        relay: String,
        /// What happened, in words.
        why: String,
        /// Whether the peer has given it up, rather than trying again.
        given_up: bool,
    },
    /// A relay that was lost has this peer again.
    RelayBack {
        /// Its address.
        relay: String,
    },
    /// A relay has said by HTTPS that it has another key or address than it had.
    RelayRenewed {
        /// Its address before.
        before: String,
        /// Its address now.
        relay: String,
        /// Its key now.
        key: String,
    },
    /// A relay wants to be left.
    RelayDraining {
        /// Its address.
        relay: String,
        /// By then.
        within_ms: f64,
    },
    /// A relay drops packets that it was to pass on, for a quota. Said once a minute at most.
    OverQuota {
        /// Its address.
        relay: String,
        /// Whose quota it is: `peer-quota`, `address-quota` or `total-quota`.
        quota: String,
        /// So many bytes are given …
        bytes: u64,
        /// … in so many seconds.
        seconds: f64,
        /// Packets dropped since this was last said.
        dropped: u64,
    },
    /// The way to a relay is another one than before.
    RelayWay {
        /// Its address.
        relay: String,
        /// How it is reached now.
        by: By,
    },
    /// UDP does not pass, and the relay could not be reached by HTTPS either. Said once, until the reason changes.
    TunnelFailed {
        /// The relay's address.
        relay: String,
        /// What happened, in words.
        why: String,
    },
    /// This machine's network is another one, or may be.
    NetworkChanged {
        /// The socket's address.
        bound: String,
        /// Where machines on the same networks reach it.
        local: Vec<String>,
    },
    /// The router has mapped a port to this peer; `null`: it does not any more.
    PortMapping {
        /// The address outside.
        external: Option<String>,
        /// `PCP`, `NAT-PMP` or `UPnP-IGD`.
        protocol: Option<String>,
        /// For how long it was granted, and it is renewed; `null`: until it is given back.
        seconds: Option<u64>,
    },
    /// A name that is remembered, as asked for by `names`.
    Name {
        /// The name.
        name: String,
        /// The relay's key.
        relay: String,
        /// Who it stands for there.
        id: String,
    },
    /// A name was used for the first time at this relay: it stands for this peer from now on.
    NameRemembered {
        /// The name.
        name: String,
        /// The relay's key.
        relay: String,
        /// Who it stands for there.
        id: String,
    },
    /// A relay says that a name stands for another peer than before. The command fails.
    NameChanged {
        /// The name.
        name: String,
        /// The key of the relay at which it is remembered.
        relay: String,
        /// Who it stood for.
        remembered: String,
        /// Who the relay says it stands for now.
        told: String,
    },
    /// A name is remembered, and no relay says whether it still stands for this peer. The command goes on.
    NameUnconfirmed {
        /// The name.
        name: String,
        /// The key of the relay at which it is remembered.
        relay: String,
        /// Who it stands for.
        id: String,
        /// What the relays say instead, in words.
        why: String,
    },
    /// A name is not remembered any more.
    NameForgotten {
        /// The name.
        name: String,
        /// The relay's key.
        relay: String,
        /// Who it stood for there.
        id: String,
    },
    /// How things stand, as asked for by SIGUSR1 or `--status`.
    Status {
        /// All connections.
        connections: Vec<Standing>,
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

/// How a relay is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// As a rule.
    Udp,
    /// By its HTTPS port, where UDP does not pass.
    Https,
}

/// Why a path was chosen, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Connections begin on the relay.
    Began,
    /// A direct path works, and goes before a relayed one.
    Direct,
    /// It is clearly faster than the direct path before.
    Faster,
    /// The path before gave no answer.
    Silent,
    /// The relay before is lost or going down.
    RelayLost,
    /// A reason that this version does not know.
    Other,
}

impl From<PathReason> for Why {
    fn from(reason: PathReason) -> Self {
        match reason {
            PathReason::Began => Self::Began,
            PathReason::Direct => Self::Direct,
            PathReason::Faster => Self::Faster,
            PathReason::Silent { .. } => Self::Silent,
            PathReason::RelayLost => Self::RelayLost,
            _ => Self::Other,
        }
    }
}

/// How long the path before was silent, if it was left for that.
pub fn silent_ms(reason: PathReason) -> Option<f64> {
    match reason {
        PathReason::Silent { after } => Some(ms(after)),
        _ => None,
    }
}

/// "direct 198.51.100.18:4433".
pub fn path_text(path: Path) -> String {
    let name = if path.is_direct() { "direct" } else { "relay" };
    format!("{name} {}", path.address())
}
