//! P3: introduces peers to each other, learns their WAN addresses, and forwards what cannot go straight.

mod access;
mod arrivals;
mod census;
mod cookies;
mod directness;
mod drain;
mod forward;
mod introduction;
mod introductions;
mod knocks;
mod names;
mod newcomers;
mod ports;
mod promises;
mod punch;
mod quotas;
mod registrations;
mod registry;
mod stats;
mod streams;
mod tunnels;
mod urgent;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Instant,
};

use quinn_proto::{Dir, Event, StreamEvent, StreamId, VarInt};

pub use access::{Access, AccessList, Rights};
use cookies::CookieJar;
pub use directness::DirectTimes;
use forward::ForwardQueue;
use introductions::Introductions;
use knocks::Knocks;
use newcomers::Newcomers;
use ports::PortRanges;
use promises::Promises;
use quotas::Meters;
pub use quotas::{Quotas, Rate, Scopes};
use registry::Registry;
pub use stats::RelayStats;
use tunnels::Tunnels;
use urgent::Urgent;

use crate::{
    ConfigError, Identity, Link, NodeId, RefuseReason, RelayConfig, RelayEvent, StepTaken, Transmit, Wake, WakeReason,
    drops::Drops,
    quic::{
        Handle, Quic,
        cid::CidKey,
        config::{self, Clock, control_transport},
        stream::MessageStream,
        tls::{ALPN_RELAY, Tls, proven_key},
    },
    rng::Rng,
    step::{Role, Step},
    wire::{
        close_code,
        datagram::{Cookie, Datagram, Token},
    },
};

/// A relay has so many hole-punch ports, the knock port among them: with one it could not see how a NAT maps.
const PUNCH_PORTS: std::ops::RangeInclusive<usize> = 2..=8;
/// Introductions that one peer may begin at once, as streams: quinn-proto keeps a place for each, for every peer.
const MAX_STREAMS: u32 = 256;

/// P3 of the specification. See the crate's contract.
pub struct Relay {
    config: RelayConfig,
    clock: Clock,
    quic: Quic,
    registry: Registry,
    jar: CookieJar,
    ports: PortRanges,
    introductions: Introductions,
    /// Streams that a peer has opened and not said anything on.
    fresh: BTreeMap<(usize, StreamId), MessageStream>,
    newcomers: Newcomers,
    tunnels: Tunnels,
    queue: ForwardQueue,
    echoes: VecDeque<(u8, SocketAddr, Cookie, Token)>,
    promises: Promises,
    knocks: Knocks,
    urgent: Urgent,
    events: VecDeque<RelayEvent>,
    meters: Meters,
    relayed: (u64, u64),
    tunnelled: (u64, u64),
    drops: Drops,
    refusals: BTreeMap<RefuseReason, u64>,
    /// Peers have been asked to be elsewhere by then.
    draining_until: Option<Instant>,
    leaving: bool,
    now: Instant,
}

impl Relay {
    /// A relay that takes connections at once. `seed` is secret: whoever knows it knows the cookies it will hand out.
    ///
    /// # Errors
    /// [`ConfigError`] if there are fewer than two or more than eight hole-punch ports, or the crypto provider lacks
    /// TLS 1.3 with AES-128-GCM.
    pub fn new(config: RelayConfig, seed: [u8; 32], now: Instant) -> Result<Self, ConfigError> {
        let sockets = config.punch_ports.len() + usize::from(config.knock_port.is_some());
        if config.punch_ports.len() < *PUNCH_PORTS.start() || sockets > *PUNCH_PORTS.end() {
            return Err(ConfigError::Setting("a relay needs 2 to 8 hole-punch ports, one to knock from among them"));
        }
        let mut rng = Rng::new(seed);
        let clock = Clock::new(now);
        let (cids, reset_key) = lasting_keys(&config.identity)?;
        let tls =
            Tls { identity: config.identity.clone(), crypto: config.crypto.clone(), key_log: config.key_log.clone() };
        let streams = u32::try_from(config.limits.introductions_per_peer).unwrap_or(u32::MAX).min(MAX_STREAMS) + 1;
        let server = config::server(tls.server(None, ALPN_RELAY)?, control_transport(streams), &clock, &mut rng);
        let ports = config.punch_ports.len() as u8;
        Ok(Self {
            quic: Quic::new(config::endpoint_with(0, &cids, &reset_key, &mut rng), Some(server)),
            registry: Registry::default(),
            jar: CookieJar::new(ports, &mut rng),
            ports: PortRanges::default(),
            introductions: Introductions::new(rng.fork()),
            fresh: BTreeMap::new(),
            newcomers: Newcomers::default(),
            tunnels: Tunnels::default(),
            queue: ForwardQueue::new(config.limits.forward_queue),
            echoes: VecDeque::new(),
            promises: Promises::default(),
            knocks: Knocks::default(),
            urgent: Urgent::default(),
            events: VecDeque::new(),
            meters: Meters::default(),
            relayed: (0, 0),
            tunnelled: (0, 0),
            drops: Drops::default(),
            refusals: BTreeMap::new(),
            draining_until: None,
            leaving: false,
            config,
            clock,
            now,
        })
    }

    /// The relay's ID, its key: the fingerprint in its URL.
    pub fn id(&self) -> NodeId {
        self.config.identity.id()
    }

    // In.

    /// Does what time has made due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        self.quic.handle_timeout(now);
        self.jar.expire(now);
        self.handle_due();
        self.handle_drain();
        while let Some(handle) = self.newcomers.poll(now) {
            if !self.registry.get(handle).is_some_and(registry::PeerEntry::is_registered) {
                self.dismiss(handle, close_code::LIMIT, b"not registered in time");
            }
        }
        self.drive();
    }

    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.clock.set(self.now);
    }

    // Out.

    /// Writes the next datagrams to send into `buf`, which is cleared first; `None` when there are none.
    ///
    /// Control connections go first: an offer must not be overtaken by the packets it announces.
    pub fn poll_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        self.advance(now);
        self.drive();
        buf.clear();
        if let Some(copy) = self.urgent.poll_transmit(buf) {
            return Some(copy);
        }
        if let Some((handle, out)) = self.quic.poll_transmit_of(now, 1, buf) {
            let out = Transmit { ecn: out.ecn, ..Transmit::one(Link::Main, out.destination, buf.len()) };
            let out = self.tunnels.route(out);
            // A tunnel loses nothing.
            if let Some(handle) = handle.filter(|_| out.link == Link::Main) {
                self.urgent.on_sent(now, handle, &out, buf);
            }
            return Some(out);
        }
        if let Some((port, remote, cookie, token)) = self.echoes.pop_front() {
            Datagram::Echo(cookie, token).encode(buf);
            return Some(Transmit::one(Link::Punch(port), remote, buf.len()));
        }
        let out = self.late_echo(buf).or_else(|| self.knock(buf)).or_else(|| self.queue.poll_transmit(buf));
        if out.is_none() {
            // The last thing sent may have set timers.
            self.drive();
        }
        out.map(|out| self.tunnels.route(out))
    }

    /// The next event; `None` when there are none.
    pub fn poll_event(&mut self) -> Option<RelayEvent> {
        self.events.pop_front()
    }

    /// When to call [`Self::handle_timeout`] next, and what for.
    pub fn poll_timeout(&mut self) -> Option<Wake> {
        let echoes = !self.echoes.is_empty() || self.knocks.is_queued();
        if self.quic.is_queued() || self.urgent.is_queued() || echoes || !self.queue.is_empty() {
            return Some(Wake { at: self.now, why: WakeReason::Queued });
        }
        let quic = self.quic.poll_timeout().map(|at| (at, WakeReason::Control));
        let introduction = self.introductions.poll_timeout().map(|at| (at, WakeReason::Introduction));
        let drain = self.draining_until.filter(|_| !self.leaving).map(|at| (at, WakeReason::Introduction));
        let newcomer = self.newcomers.next().map(|by| (by, WakeReason::Control));
        let late = self.promises.poll_timeout().map(|at| (at, WakeReason::Cookie));
        let wakes = quic.into_iter().chain(introduction).chain(drain).chain(newcomer).chain(late);
        wakes.min().map(|(at, why)| Wake { at, why })
    }

    // Inside.

    fn drive(&mut self) {
        loop {
            while let Some((handle, event)) = self.quic.poll_event(self.now) {
                self.on_event(handle, event);
            }
            self.handle_drain();
            if !self.quic.has_events() {
                return;
            }
        }
    }

    fn on_event(&mut self, handle: Handle, event: Event) {
        match event {
            Event::Connected => self.on_connected(handle),
            Event::ConnectionLost { .. } => self.on_gone(handle),
            Event::Stream(StreamEvent::Opened { dir: Dir::Bi }) => {
                while let Some(id) =
                    self.quic.get_mut(handle).and_then(|connection| connection.streams().accept(Dir::Bi))
                {
                    self.fresh.insert((handle.0, id), MessageStream::new(id));
                    self.on_readable(handle, id);
                }
            }
            Event::Stream(StreamEvent::Readable { id }) => self.on_readable(handle, id),
            Event::Stream(StreamEvent::Writable { id }) => self.on_writable(handle, id),
            Event::Stream(
                StreamEvent::Opened { dir: Dir::Uni }
                | StreamEvent::Finished { .. }
                | StreamEvent::Stopped { .. }
                | StreamEvent::Available { .. },
            )
            | Event::HandshakeDataReady
            | Event::DatagramReceived
            | Event::DatagramsUnblocked => {}
        }
    }

    fn on_connected(&mut self, handle: Handle) {
        let Some(connection) = self.quic.get_mut(handle) else { return };
        match proven_key(connection) {
            Some(id) => {
                let address = connection.remote_address();
                self.registry.insert(handle, id, address, self.tunnels.remote(address).ip());
            }
            None => self.dismiss(handle, close_code::MISBEHAVED, b"no key"),
        }
    }

    /// A peer has gone: its introductions end, and the other ends learn so.
    fn on_gone(&mut self, handle: Handle) {
        self.jar.forget_peer(handle);
        self.promises.forget_peer(handle);
        self.knocks.forget_peer(handle);
        self.urgent.forget_peer(handle);
        self.fresh.retain(|(owner, _), _| *owner != handle.0);
        let Some(entry) = self.registry.remove(handle) else { return };
        let registered = entry.is_registered();
        for id in entry.introductions {
            self.end_introduction(id, handle, RefuseReason::PeerLeft);
        }
        if registered {
            self.events.push_back(RelayEvent::Left { peer: entry.id, listening: entry.listening });
        }
    }

    fn dismiss(&mut self, handle: Handle, code: u32, reason: &'static [u8]) {
        let now = self.now;
        if let Some(connection) = self.quic.get_mut(handle)
            && !connection.is_closed()
        {
            connection.close(now, VarInt::from_u32(code), bytes::Bytes::from_static(reason));
        }
        self.on_gone(handle);
    }

    fn dismiss_for_misbehaving(&mut self, handle: Handle) {
        self.dismiss(handle, close_code::MISBEHAVED, b"a message that does not belong there");
    }

    fn step(&mut self, step: Step, introduction: Option<u64>, peer: Option<NodeId>, address: Option<SocketAddr>) {
        let (role, conn) = (Role::P3, None);
        self.events.push_back(RelayEvent::Step(StepTaken { role, step, conn, introduction, peer, address }));
    }
}

/// The keys behind connection IDs and stateless resets, made from the relay's own: the next process knows the last one's
/// packets, and tells their senders at once that the connection is gone (RFC 9000, section 10.3.2).
fn lasting_keys(identity: &Identity) -> Result<(CidKey, [u8; 32]), ConfigError> {
    let secret = |purpose| identity.derive(purpose).ok_or_else(|| ConfigError::Crypto("no Ed25519".into()));
    let [cids @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = secret("relay connection ids")?;
    let cids = CidKey::from_secret(&cids).ok_or_else(|| ConfigError::Crypto("no AES-128".into()))?;
    Ok((cids, secret("relay stateless resets")?))
}
