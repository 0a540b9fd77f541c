//! The settings of both nodes, with their defaults and the limits that stand behind them.

use std::{collections::BTreeMap, fmt, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{KeyLog, crypto::CryptoProvider};

use crate::{Access, AccessToken, ConfigError, Congestion, Identity, Nat64Prefix, NodeId, PeerName, Quotas};

/// Where a relay is and which key it must prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayAddress {
    /// Its QUIC address.
    pub address: SocketAddr,
    /// Its key, from the fingerprint in the URL.
    pub key: NodeId,
}

/// Whom a peer accepts as P4.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Consent {
    /// Nobody: this peer only connects out, and the relay offers it to no one.
    #[default]
    Closed,
    /// Each offer is asked for: [`PeerEvent::Offered`](crate::PeerEvent::Offered).
    Ask,
    /// Standing consent for these IDs; others are asked for if `ask_others`, else refused.
    Listed {
        /// The IDs.
        ids: Vec<NodeId>,
        /// Whether to ask for IDs that are not listed.
        ask_others: bool,
    },
    /// Standing consent for everyone.
    Any,
}

/// A peer registers at no more relays than this: each costs keep-alives.
pub const MAX_RELAYS: usize = 4;

/// Settings of a [`Peer`](crate::Peer).
#[derive(Clone)]
pub struct PeerConfig {
    /// This peer's key.
    pub identity: Identity,
    /// The relays (P3) at which this peer is to be found, the preferred one first: one to [`MAX_RELAYS`] of them.
    pub relays: Vec<RelayAddress>,
    /// Whether a tunnel can be had to each of the relays, in their order, where UDP does not pass: then
    /// [`PeerEvent::Tunnel`](crate::PeerEvent::Tunnel) asks for it. Relays beyond its end have none; empty by default.
    pub tunnels: Vec<bool>,
    /// Whether each of the relays, in their order, can be asked who it is now, by a way that proves it: then another key
    /// than the known one is [`RelayError::KeyChanged`](crate::RelayError::KeyChanged), and the relay is tried on until
    /// [`Peer::replace_relay`](crate::Peer::replace_relay) says more. Relays beyond its end cannot; empty by default.
    pub renewable: Vec<bool>,
    /// What lets this peer use each of the relays, in their order, where they ask for it. Relays beyond its end are
    /// shown none; empty by default. Each relay sees its own only.
    pub tokens: Vec<Option<AccessToken>>,
    /// Whom to accept.
    pub consent: Consent,
    /// The crypto library: TLS 1.3 with AES-128-GCM at least. The one source of randomness besides the seed.
    pub crypto: Arc<CryptoProvider>,
    /// Where TLS secrets are written, for Wireshark. `None`, the default, writes none.
    pub key_log: Option<Arc<dyn KeyLog>>,
    /// The waits.
    pub timing: PeerTiming,
    /// QUIC's settings between peers.
    pub transport: Transport,
    /// What is tried where plain punching leads nowhere.
    pub techniques: Techniques,
    /// The prefix of the network's NAT64, by which a peer without IPv4 reaches others that have nothing else. `None`, the
    /// default, knows the well-known one by a relay's address that has it.
    pub nat64: Option<Nat64Prefix>,
}

impl PeerConfig {
    /// Default settings for a peer with this key, at this relay.
    pub fn new(identity: Identity, relay: RelayAddress, crypto: Arc<CryptoProvider>) -> Self {
        Self {
            identity,
            relays: vec![relay],
            tunnels: Vec::new(),
            renewable: Vec::new(),
            tokens: Vec::new(),
            consent: Consent::default(),
            crypto,
            key_log: None,
            timing: PeerTiming::default(),
            transport: Transport::default(),
            techniques: Techniques::default(),
            nat64: None,
        }
    }
}

impl fmt::Debug for PeerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerConfig")
            .field("identity", &self.identity)
            .field("relays", &self.relays)
            .field("tunnels", &self.tunnels)
            .field("renewable", &self.renewable)
            .field("consent", &self.consent)
            .field("timing", &self.timing)
            .field("transport", &self.transport)
            .field("techniques", &self.techniques)
            .field("nat64", &self.nat64)
            .finish_non_exhaustive()
    }
}

/// A peer's waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerTiming {
    /// How long to try the relay before it counts as unreachable. 5 s.
    pub relay_deadline: Duration,
    /// How long P4's program may think about an offer (S6), and P2 waits for it. 60 s.
    pub answer_deadline: Duration,
    /// How long after P4's consent, or the relay's go-ahead, the QUIC handshake may take. 15 s.
    pub handshake_deadline: Duration,
    /// How long cookies go out without an answer before UDP to the hole-punch ports counts as blocked. 5 s.
    pub cookie_deadline: Duration,
    /// How long punching goes on without a round trip before it is given up. 10 s.
    pub punch_deadline: Duration,
    /// How often the registration is refreshed while it cannot be learnt how long the NATs on the way keep a silent
    /// binding: below the 30 s after which common ones forget. What is learnt takes its place, 4 to 55 s. 25 s.
    pub refresh_interval: Duration,
    /// How long after the registration is warm, and then while there is no connection, a relay is asked to knock: to send
    /// one packet that nobody has asked for, which shows what the NAT does with those. Some firewalls shut the sender of
    /// such a packet out for a while, and then there is no relay: only for who wants to know. `None`, never.
    pub knock_after: Option<Duration>,
}

impl Default for PeerTiming {
    fn default() -> Self {
        Self {
            relay_deadline: Duration::from_secs(5),
            answer_deadline: Duration::from_secs(60),
            handshake_deadline: Duration::from_secs(15),
            cookie_deadline: Duration::from_secs(5),
            punch_deadline: Duration::from_secs(10),
            refresh_interval: Duration::from_secs(25),
            knock_after: None,
        }
    }
}

/// What is tried where plain punching leads nowhere: all of it, as long as both sides are willing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Techniques {
    /// Rounds of punching from fresh sockets, agreed upon through the relay. The others are parts of these.
    pub fresh_sockets: bool,
    /// First punches that die between the two sides' NATs, so that none comes too early.
    pub short_hops: bool,
    /// Trying the ports that a counting NAT gives next.
    pub prediction: bool,
    /// Up to 256 sockets on one side, and up to 1,024 guesses at their ports on the other.
    pub many_sockets: bool,
}

impl Default for Techniques {
    fn default() -> Self {
        Self { fresh_sockets: true, short_hops: true, prediction: true, many_sockets: true }
    }
}

/// QUIC's settings for connections between peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// Bidirectional streams the other side may have open at once. 256.
    pub max_bi_streams: u32,
    /// Unidirectional streams the other side may have open at once. 256.
    pub max_uni_streams: u32,
    /// Bytes that a stream may have in flight towards this side, and unread here; not 0. 4 MiB.
    ///
    /// A stream of many small writes that nobody reads may exceed it, up to `window`.
    pub stream_window: u32,
    /// Bytes that all streams of a connection may have in flight towards this side, and unread here; not 0. 16 MiB.
    ///
    /// As many streams as fill it, if nobody reads or stops them, hold up all others. One `stream_window` and 64 KiB more
    /// may come. Unread bytes take up to 1.5 times their number in memory; where the system hands over joined datagrams
    /// (GRO), each of them may keep in memory all those that it came with, up to 64 KiB. Each piece that waits behind a gap
    /// takes some 200 bytes more (an estimate); more than 65,536 and one for each KiB of the window end the connection.
    pub window: u32,
    /// Bytes of datagrams kept for the application before the oldest are dropped; 0 turns datagrams off, and less than
    /// 2 KiB counts as 2 KiB. 1 MiB.
    pub datagram_buffer: usize,
    /// After this long without a sign of life the connection ends; the shorter one of the two sides' holds. Keep-alives
    /// come as often as the NATs in front need them, and at least three times in this time. 1 s to 30 days. 120 s.
    pub idle_timeout: Duration,
    /// Datagrams that `poll_transmit` may return at once (GSO): part of the configuration because it shapes the
    /// packets. 32, at most 44, which still fits one UDP payload.
    pub max_batch: usize,
    /// How much may be in flight, and when it leaves. Each side has its own.
    pub congestion: Congestion,
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            max_bi_streams: 256,
            max_uni_streams: 256,
            stream_window: 4 << 20,
            window: 16 << 20,
            datagram_buffer: 1 << 20,
            idle_timeout: Duration::from_secs(120),
            max_batch: 32,
            congestion: Congestion::default(),
        }
    }
}

/// Most equal datagrams written at once, so that they fit one UDP payload.
const MAX_BATCH: usize = 44;
/// Idle timeouts that are accepted. A third of one is the interval of keep-alives: with 0 the timers never rest, and a very
/// large one overflows the clock.
const IDLE_TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);

impl Transport {
    /// Refuses what cannot work: windows through which nothing passes, or timers that never rest.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if !(1..=MAX_BATCH).contains(&self.max_batch) {
            return Err(ConfigError::Setting("max_batch must be 1 to 44"));
        }
        if self.stream_window == 0 || self.window == 0 {
            return Err(ConfigError::Setting("stream_window and window must not be 0: nothing could be received"));
        }
        if !IDLE_TIMEOUTS.contains(&self.idle_timeout) {
            return Err(ConfigError::Setting("idle_timeout must be 1 s to 30 days"));
        }
        Ok(())
    }
}

/// Which paths a connection may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathPolicy {
    /// Through the relay from the first moment, straight as soon as that works, and back whenever it does not.
    #[default]
    Auto,
    /// Application data goes straight or not at all: the relay carries the handshake only. Without a direct path the
    /// connection fails, and says why.
    DirectOnly,
    /// Stay on the relay: no addresses are exchanged, nobody punches.
    RelayOnly,
}

/// How one connection may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Which paths it may take.
    pub policy: PathPolicy,
}

impl ConnectOptions {
    /// For a connection that may take these paths.
    pub fn with_policy(policy: PathPolicy) -> Self {
        Self { policy }
    }

    /// Whether addresses may be exchanged at all.
    pub(crate) fn may_go_direct(self) -> bool {
        self.policy != PathPolicy::RelayOnly
    }
}

/// Settings of a [`Relay`](crate::Relay).
#[derive(Clone)]
pub struct RelayConfig {
    /// The relay's key: its fingerprint is in the URL.
    pub identity: Identity,
    /// The crypto library, as for [`PeerConfig::crypto`].
    pub crypto: Arc<CryptoProvider>,
    /// Where TLS secrets are written, for Wireshark. `None`, the default, writes none.
    pub key_log: Option<Arc<dyn KeyLog>>,
    /// The UDP ports of the hole-punch sockets, on the same IP address as the QUIC socket: at least two, at most 8,
    /// or the relay cannot tell how a NAT maps.
    pub punch_ports: Vec<u16>,
    /// The UDP port of one more socket of that kind, [`Link::Punch`](crate::Link::Punch) with the number after the last
    /// hole-punch port's: peers that ask for it get one packet from there, which shows them what their NAT does with
    /// packets that nobody asked for. `None`, the default: this relay does not knock. With it there are at most 7
    /// hole-punch ports.
    pub knock_port: Option<u16>,
    /// The delay between giving P2's address to P4 and giving P4's address to P2 (the specification's Decision). 0.
    pub delay: Duration,
    /// How long P4 may take to answer an offer (S6). 65 s: longer than the peers' own wait, so that theirs speaks.
    pub answer_deadline: Duration,
    /// What its peers are called; [`Relay::set_names`](crate::Relay::set_names) changes it. Empty.
    pub names: BTreeMap<PeerName, NodeId>,
    /// The limits.
    pub limits: RelayLimits,
    /// Who may use it, and for what: everybody, by default. [`Relay::set_access`](crate::Relay::set_access) changes it.
    pub access: Access,
    /// What it gives in a time. [`Relay::set_quotas`](crate::Relay::set_quotas) changes it.
    pub quotas: Quotas,
}

impl RelayConfig {
    /// Default settings for a relay with this key and these hole-punch ports.
    pub fn new(identity: Identity, punch_ports: Vec<u16>, crypto: Arc<CryptoProvider>) -> Self {
        Self {
            identity,
            crypto,
            key_log: None,
            punch_ports,
            knock_port: None,
            delay: Duration::ZERO,
            answer_deadline: Duration::from_secs(65),
            names: BTreeMap::new(),
            limits: RelayLimits::default(),
            access: Access::default(),
            quotas: Quotas::default(),
        }
    }
}

impl fmt::Debug for RelayConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayConfig")
            .field("identity", &self.identity)
            .field("punch_ports", &self.punch_ports)
            .field("knock_port", &self.knock_port)
            .field("delay", &self.delay)
            .field("limits", &self.limits)
            .field("access", &self.access)
            .field("quotas", &self.quotas)
            .finish_non_exhaustive()
    }
}

/// What a relay gives at most, to one peer and in total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayLimits {
    /// QUIC connections in total. 10,000: about 200 MB of state.
    pub connections: usize,
    /// Handshakes under way at once; beyond it, new addresses must answer a Retry first. 256.
    pub handshakes: usize,
    /// Registered peers at one IP address, or one IPv6 /64. 1,000: carriers put many customers behind one address.
    pub registered_per_address: usize,
    /// Introductions in total. 20,000.
    pub introductions: usize,
    /// Introductions that one peer may be part of; of those it began itself, at most 256. 1,024.
    pub introductions_per_peer: usize,
    /// Offers to one P4 that wait for its answer: a person should not face a flood. 16.
    pub open_offers_per_peer: usize,
    /// Relayed datagrams from P2 passed on before P4 has accepted: QUIC's first flight and its repeats. 16.
    pub early_datagrams: u32,
    /// Relayed bytes waiting to be sent, in total; beyond it they are dropped like at any full queue. 4 MiB.
    pub forward_queue: usize,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            handshakes: 256,
            registered_per_address: 1_000,
            introductions: 20_000,
            introductions_per_peer: 1024,
            open_offers_per_peer: 16,
            early_datagrams: 16,
            forward_queue: 4 << 20,
        }
    }
}
