//! The messages between peers and relay (S1–S6, S9): CBOR (RFC 8949), an array of version, kind and body.
//!
//! A body is a map; fields that this version does not know are ignored, so that later versions can add some. Another
//! version, or an unknown kind, is refused by name.

mod knows;

use std::net::SocketAddr;

use ciborium::Value;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub(crate) use knows::Knows;

use crate::{NodeId, PeerName, RefuseReason, token::AccessToken, wire::datagram::Cookie};

/// The protocol's version.
pub(crate) const VERSION: u64 = 1;
/// A message names at most this many addresses of one peer.
pub(crate) const MAX_ADDRESSES: usize = 8;
/// A registration names at most this many IDs of standing consent; whom it leaves out is asked for.
pub(crate) const MAX_CONSENTS: usize = 64;
/// Deeper CBOR than any message of ours is refused before it costs stack.
const MAX_DEPTH: usize = 8;

/// The secret that authenticates the probes of one introduction (the specification's "new cookie").
pub(crate) type PunchSecret = [u8; 32];

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecodeError {
    Length,
    Malformed,
    Version,
    Kind,
}

impl DecodeError {
    pub(crate) fn reason(self) -> RefuseReason {
        match self {
            Self::Length | Self::Malformed => RefuseReason::Malformed,
            Self::Version => RefuseReason::Version,
            Self::Kind => RefuseReason::Kind,
        }
    }
}

/// Peer to relay, first on the registration stream: here I am.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Register {
    /// Whether this peer may be offered clients at all.
    pub(crate) listen: bool,
    /// Standing consent for everyone.
    #[serde(default)]
    pub(crate) any: bool,
    /// Standing consent for these.
    #[serde(default)]
    pub(crate) ids: Vec<NodeId>,
    /// Drawn at random by each process: of two connections of one process, the later one is the one that lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) instance: Option<serde_bytes::ByteArray<8>>,
    /// What lets this peer use the relay, if that asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<AccessToken>,
    #[serde(default, skip_serializing_if = "Knows::is_nothing")]
    pub(crate) knows: Knows,
}

/// Peer to relay, on the registration stream: addresses on this machine's own networks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Local {
    #[serde(with = "address_list")]
    pub(crate) addresses: Vec<SocketAddr>,
}

/// Relay to peer, on the registration stream: your control connection's packets come from this address. Said at the
/// start, and when it has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    #[serde(with = "address")]
    pub(crate) address: SocketAddr,
}

/// Relay to peer, on the registration stream: leave me within so many milliseconds, go elsewhere if you can.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Drain {
    pub(crate) within_ms: u64,
}

/// What both ends of a connection know and nobody else but the relays they have shown it to: this introduction is for
/// a connection that stands.
pub(crate) type ResumeToken = serde_bytes::ByteArray<16>;

/// Relay to peer: you are known, and these are my hole-punch ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registered {
    pub(crate) punch_ports: Vec<u16>,
    /// Where a knock comes from, if this relay knocks: nothing is to be sent there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) knock_port: Option<u16>,
    #[serde(default, skip_serializing_if = "Knows::is_nothing")]
    pub(crate) knows: Knows,
}

/// Relay to peer, on the registration stream: so many packets of yours went beyond a quota since I last said so, and were
/// dropped. Only to a peer that knows this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OverQuota {
    /// Whose quota it is.
    #[serde(with = "reason")]
    pub(crate) reason: RefuseReason,
    /// So many bytes are given in such a time.
    pub(crate) bytes: u64,
    pub(crate) per_ms: u64,
    pub(crate) dropped: u64,
}

/// Peer to relay, on the registration stream: send me one packet that my NAT has not asked for. Relay to peer: I have.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Knock {
    #[serde(with = "serde_bytes")]
    pub(crate) cookie: Cookie,
}

/// Peer to relay, on the registration stream: who is called so?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resolve {
    pub(crate) name: PeerName,
}

/// Relay to peer, on the registration stream: this one, or nobody, or why it does not say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resolved {
    pub(crate) name: PeerName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<NodeId>,
    /// The peer may not know, or not now.
    #[serde(default, with = "reason::maybe", skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<RefuseReason>,
}

/// Peer to relay: this cookie is about to arrive (S7).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Expect {
    #[serde(with = "serde_bytes")]
    pub(crate) cookie: Cookie,
    /// It comes from another socket than the peer's own: what is seen is the peer's to know, and nobody else's.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) aside: bool,
}

/// Relay to peer: your cookie has come to my hole-punch port from this address, and it has echoed (S8).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Observed {
    #[serde(with = "serde_bytes")]
    pub(crate) cookie: Cookie,
    pub(crate) port: u8,
    #[serde(with = "address")]
    pub(crate) address: SocketAddr,
    /// The first and the last port that NATs there have given, if the relay knows and another socket asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pool: Option<(u16, u16)>,
}

/// P2 to P3 (S2): I want a connection to `server`, and I send `cookie`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Initiate {
    pub(crate) server: NodeId,
    #[serde(with = "serde_bytes")]
    pub(crate) cookie: Cookie,
    /// The relayed packets of this connection carry this number between P2 and P3.
    pub(crate) channel: u64,
    /// Whether addresses are to be exchanged (S9).
    pub(crate) direct: bool,
    /// Whether data may go straight only.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) direct_only: bool,
    /// This side never learnt the probes' secret: both take one from the connection's TLS instead.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) rekey: bool,
    /// The connection stands already, and has lost its relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resume: Option<ResumeToken>,
}

/// What is mostly false is left out.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}

/// P3 to P2 (S3): go ahead.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GoAhead {
    /// The ID that P3 made.
    pub(crate) introduction: u64,
    #[serde(with = "serde_bytes")]
    pub(crate) secret: PunchSecret,
    /// P4 has accepted already, by standing consent.
    pub(crate) accepted: bool,
}

/// P3 to P4 (S5): accept this client, and send `cookie`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offer {
    pub(crate) introduction: u64,
    pub(crate) client: NodeId,
    #[serde(with = "serde_bytes")]
    pub(crate) cookie: Cookie,
    #[serde(with = "serde_bytes")]
    pub(crate) secret: PunchSecret,
    /// The relayed packets of this connection carry this number between P4 and P3.
    pub(crate) channel: u64,
    pub(crate) direct: bool,
    /// As in [`Initiate`].
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) direct_only: bool,
    /// As in [`Initiate`].
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) rekey: bool,
    /// As in [`Initiate`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resume: Option<ResumeToken>,
}

/// P3 to either (S9): the other's WAN addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Addresses {
    #[serde(with = "address_list")]
    pub(crate) addresses: Vec<SocketAddr>,
}

/// Anyone to anyone: no, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    #[serde(with = "reason")]
    pub(crate) reason: RefuseReason,
}

/// A message. No `Debug` outside tests: some carry secrets.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Message {
    Register(Register),
    Registered(Registered),
    Expect(Expect),
    Observed(Observed),
    Local(Local),
    Seen(Seen),
    Drain(Drain),
    /// Peer to relay: knock.
    Knock(Knock),
    /// Relay to peer: it has.
    Knocked(Knock),
    Resolve(Resolve),
    Resolved(Resolved),
    OverQuota(OverQuota),
    Initiate(Initiate),
    GoAhead(GoAhead),
    Offer(Offer),
    /// P4 to P3 (S6), and P3 to P2: accepted.
    Accept,
    Addresses(Addresses),
    Refused(Refused),
}

/// Body of a message that says all by its kind.
#[derive(Serialize, Deserialize)]
struct Nothing {}

impl Message {
    /// The name that stands on the wire.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Register(_) => "register",
            Self::Registered(_) => "registered",
            Self::Expect(_) => "expect",
            Self::Observed(_) => "observed",
            Self::Local(_) => "local",
            Self::Seen(_) => "seen",
            Self::Drain(_) => "drain",
            Self::Knock(_) => "knock",
            Self::Knocked(_) => "knocked",
            Self::Resolve(_) => "resolve",
            Self::Resolved(_) => "resolved",
            Self::OverQuota(_) => "over-quota",
            Self::Initiate(_) => "initiate",
            Self::GoAhead(_) => "go-ahead",
            Self::Offer(_) => "offer",
            Self::Accept => "accept",
            Self::Addresses(_) => "addresses",
            Self::Refused(_) => "refused",
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let kind = self.kind();
        match self {
            Self::Register(body) => encode(kind, body),
            Self::Registered(body) => encode(kind, body),
            Self::Expect(body) => encode(kind, body),
            Self::Observed(body) => encode(kind, body),
            Self::Local(body) => encode(kind, body),
            Self::Seen(body) => encode(kind, body),
            Self::Drain(body) => encode(kind, body),
            Self::Knock(body) | Self::Knocked(body) => encode(kind, body),
            Self::Resolve(body) => encode(kind, body),
            Self::Resolved(body) => encode(kind, body),
            Self::OverQuota(body) => encode(kind, body),
            Self::Initiate(body) => encode(kind, body),
            Self::GoAhead(body) => encode(kind, body),
            Self::Offer(body) => encode(kind, body),
            Self::Accept => encode(kind, &Nothing {}),
            Self::Addresses(body) => encode(kind, body),
            Self::Refused(body) => encode(kind, body),
        }
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Result<Self, DecodeError> {
        let value: Value = ciborium::de::from_reader_with_recursion_limit(&mut bytes, MAX_DEPTH)
            .map_err(|_| DecodeError::Malformed)?;
        if !bytes.is_empty() {
            return Err(DecodeError::Malformed);
        }
        let mut parts = value.into_array().map_err(|_| DecodeError::Malformed)?.into_iter();
        let version = parts.next().and_then(|part| part.into_integer().ok()).ok_or(DecodeError::Malformed)?;
        if version != VERSION.into() {
            return Err(DecodeError::Version);
        }
        let kind = parts.next().and_then(|part| part.into_text().ok()).ok_or(DecodeError::Malformed)?;
        let body = parts.next().ok_or(DecodeError::Malformed)?;
        Self::decode_body(&kind, &body)
    }

    fn decode_body(kind: &str, body: &Value) -> Result<Self, DecodeError> {
        Ok(match kind {
            "register" => Self::Register(decode(body)?),
            "registered" => Self::Registered(decode(body)?),
            "expect" => Self::Expect(decode(body)?),
            "observed" => Self::Observed(decode(body)?),
            "local" => Self::Local(decode(body)?),
            "seen" => Self::Seen(decode(body)?),
            "drain" => Self::Drain(decode(body)?),
            "knock" => Self::Knock(decode(body)?),
            "knocked" => Self::Knocked(decode(body)?),
            "resolve" => Self::Resolve(decode(body)?),
            "resolved" => Self::Resolved(decode(body)?),
            "over-quota" => Self::OverQuota(decode(body)?),
            "initiate" => Self::Initiate(decode(body)?),
            "go-ahead" => Self::GoAhead(decode(body)?),
            "offer" => Self::Offer(decode(body)?),
            "accept" => {
                decode::<Nothing>(body)?;
                Self::Accept
            }
            "addresses" => Self::Addresses(decode(body)?),
            "refused" => Self::Refused(decode(body)?),
            _ => return Err(DecodeError::Kind),
        })
    }
}

fn encode<T: Serialize>(kind: &str, body: &T) -> Vec<u8> {
    let mut out = Vec::new();
    // Writing plain structs to memory has nothing that could fail; a message cut short would be refused as malformed.
    let result = ciborium::into_writer(&(VERSION, kind, body), &mut out);
    debug_assert!(result.is_ok());
    out
}

fn decode<T: DeserializeOwned>(body: &Value) -> Result<T, DecodeError> {
    body.deserialized().map_err(|_| DecodeError::Malformed)
}

impl Serialize for NodeId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_bytes::serialize(self.as_bytes(), serializer)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_bytes::deserialize(deserializer).map(Self::from_bytes)
    }
}

/// An address as a byte string: 4 or 16 bytes of IP address, 2 of port, big-endian.
mod address {
    use std::net::{IpAddr, SocketAddr};

    use serde::{Deserializer, Serializer, de::Error};

    pub(super) fn to_bytes(address: &SocketAddr) -> Vec<u8> {
        let mut bytes = match address.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        bytes.extend_from_slice(&address.port().to_be_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<SocketAddr> {
        let (ip, port) = bytes.split_at_checked(bytes.len().checked_sub(2)?)?;
        let ip = match ip.len() {
            4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
            16 => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
            _ => return None,
        };
        Some(SocketAddr::new(ip, u16::from_be_bytes(port.try_into().ok()?)))
    }

    pub(super) fn serialize<S: Serializer>(address: &SocketAddr, serializer: S) -> Result<S::Ok, S::Error> {
        serde_bytes::serialize(&to_bytes(address), serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
        let bytes: Vec<u8> = serde_bytes::deserialize(deserializer)?;
        from_bytes(&bytes).ok_or_else(|| D::Error::custom("an address has 6 or 18 bytes"))
    }
}

mod address_list {
    use std::net::SocketAddr;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use serde_bytes::ByteBuf;

    use super::{MAX_ADDRESSES, address};

    pub(super) fn serialize<S: Serializer>(addresses: &[SocketAddr], serializer: S) -> Result<S::Ok, S::Error> {
        addresses.iter().map(|one| ByteBuf::from(address::to_bytes(one))).collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
        let list = Vec::<ByteBuf>::deserialize(deserializer)?;
        if list.len() > MAX_ADDRESSES {
            return Err(D::Error::custom("too many addresses"));
        }
        list.iter()
            .map(|bytes| address::from_bytes(bytes).ok_or_else(|| D::Error::custom("an address has 6 or 18 bytes")))
            .collect()
    }
}

impl RefuseReason {
    /// The word that stands for it in messages, and wherever programs read it.
    pub fn word(self) -> &'static str {
        reason::WORDS.iter().find(|(known, _)| *known == self).map_or("other", |(_, word)| word)
    }

    /// What the word stands for, if this version knows it.
    pub(crate) fn of_word(word: &[u8]) -> Option<Self> {
        reason::WORDS.iter().find(|(_, known)| known.as_bytes() == word).map(|(reason, _)| *reason)
    }
}

/// A reason as a word; words that this version does not know become [`RefuseReason::Other`].
mod reason {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::RefuseReason;

    pub(super) const WORDS: [(RefuseReason, &str); 19] = [
        (RefuseReason::NoSuchPeer, "no-such-peer"),
        (RefuseReason::NotWelcome, "not-welcome"),
        (RefuseReason::NoAnswer, "no-answer"),
        (RefuseReason::PeerLeft, "peer-left"),
        (RefuseReason::Limit, "limit"),
        (RefuseReason::Yourself, "yourself"),
        (RefuseReason::Version, "version"),
        (RefuseReason::Kind, "kind"),
        (RefuseReason::Malformed, "malformed"),
        (RefuseReason::Draining, "draining"),
        (RefuseReason::TokenMissing, "token-missing"),
        (RefuseReason::UnknownToken, "unknown-token"),
        (RefuseReason::NotListed, "not-listed"),
        (RefuseReason::MayNotRegister, "may-not-register"),
        (RefuseReason::MayNotConnect, "may-not-connect"),
        (RefuseReason::PeerQuota, "peer-quota"),
        (RefuseReason::AddressQuota, "address-quota"),
        (RefuseReason::TotalQuota, "total-quota"),
        (RefuseReason::Other, "other"),
    ];

    pub(super) fn serialize<S: Serializer>(reason: &RefuseReason, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(reason.word())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RefuseReason, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(RefuseReason::of_word(text.as_bytes()).unwrap_or(RefuseReason::Other))
    }

    /// The same where there may be none.
    pub(super) mod maybe {
        use serde::{Deserializer, Serializer};

        use crate::RefuseReason;

        #[expect(clippy::ref_option, reason = "serde's signature")]
        pub(in super::super) fn serialize<S: Serializer>(
            reason: &Option<RefuseReason>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match reason {
                Some(reason) => super::serialize(reason, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<RefuseReason>, D::Error> {
            super::deserialize(deserializer).map(Some)
        }
    }
}

#[cfg(test)]
mod tests;
