//! Nodes joined by a network in virtual time, and the contract that every node must keep after every call.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use direc_core::{Arrival, Link, Peer, PeerConfig, Relay, RelayConfig, RelayEvent, Transmit, fuzzing::Puppet};
use rustls::crypto::CryptoProvider;

use crate::{
    app::App,
    memory,
    scene::{self, Scene},
};

/// Datagrams kept for being sent again.
const TAPE: usize = 64;
/// Datagrams on their way; beyond it the network drops.
const MAX_IN_FLIGHT: usize = 4096;
/// Polls in a row that one call into a node may bring about: a full congestion window, and then some.
const MAX_POLLS: usize = 20_000;
/// Timeouts in a row that may be due at one instant.
const MAX_TIMEOUTS: usize = 64;
/// Heap that one call into one node may add.
const MAX_GROWTH: usize = 24 << 20;
/// Largest UDP payload over IPv4.
const MAX_PAYLOAD: usize = 65_507;

pub(crate) enum Node {
    Peer(Box<Peer>),
    Relay(Box<Relay>),
    Puppet(Box<Puppet>),
    /// Its program has died.
    Gone,
}

pub(crate) struct Host {
    pub(crate) node: Node,
    /// One address a link, then those that a NAT gives it besides.
    pub(crate) addresses: Vec<SocketAddr>,
    links: usize,
    /// How its packets are made to look: 0 as they are, 1 by their destination, 2 another every few seconds, 3 as if it
    /// had moved once.
    pub(crate) mapping: u8,
    pub(crate) app: App,
}

/// A buffer on its way: one datagram, or several of one length.
#[derive(Clone)]
pub(crate) struct Packet {
    pub(crate) target: usize,
    pub(crate) link: u8,
    pub(crate) source: SocketAddr,
    pub(crate) stride: usize,
    pub(crate) bytes: Vec<u8>,
}

/// What the network does to packets, each as a chance in 256.
#[derive(Clone, Copy, Default)]
pub(crate) struct Chaos {
    pub(crate) drop: u8,
    pub(crate) duplicate: u8,
    pub(crate) corrupt: u8,
    pub(crate) delay: u8,
    /// Whether buffers travel as they were sent (GSO) or as single datagrams.
    pub(crate) whole: bool,
}

pub(crate) struct World {
    pub(crate) hosts: Vec<Host>,
    pub(crate) now: Instant,
    start: Instant,
    delays: [Duration; 3],
    pub(crate) chaos: Chaos,
    /// Pairs of hosts that hear nothing of each other.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    in_flight: BTreeMap<(Instant, u64), Packet>,
    sequence: u64,
    pub(crate) tape: VecDeque<Packet>,
    pub(crate) crypto: Arc<CryptoProvider>,
    seeds: u8,
    /// Calls into nodes so far.
    pub(crate) calls: u64,
    told: bool,
}

impl World {
    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    pub(crate) fn new(delays: [u8; 3], crypto: Arc<CryptoProvider>) -> Self {
        let now = Instant::now();
        Self {
            hosts: Vec::new(),
            now,
            start: now,
            delays: delays.map(|ms| Duration::from_millis(u64::from(ms) + 1)),
            chaos: Chaos::default(),
            cut: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            sequence: 0,
            tape: VecDeque::new(),
            crypto,
            seeds: 0,
            calls: 0,
            told: std::env::var_os("DIREC_FUZZ_STORY").is_some(),
        }
    }

    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        if self.told {
            eprintln!("{:12.3} ms  {}", (self.now - self.start).as_secs_f64() * 1e3, what());
        }
    }

    pub(crate) fn seed(&mut self) -> [u8; 32] {
        self.seeds += 1;
        [self.seeds; 32]
    }

    pub(crate) fn add(&mut self, node: Node, mut addresses: Vec<SocketAddr>) {
        let links = addresses.len();
        if links == 1 {
            let own = addresses[0];
            addresses.extend((1..=3).map(|n| SocketAddr::new(own.ip(), own.port() + n)));
        }
        self.hosts.push(Host { node, addresses, links, mapping: 0, app: App::default() });
    }

    pub(crate) fn add_peer(&mut self, number: u8, scene: &Scene, own: &str) {
        let config = scene::peer_config(number, scene, self.crypto.clone());
        let node = self.new_peer(config);
        self.add(node, vec![scene::address(own)]);
    }

    pub(crate) fn new_peer(&mut self, config: PeerConfig) -> Node {
        let (seed, now) = (self.seed(), self.now);
        Node::Peer(Box::new(Peer::new(config, seed, now).unwrap_or_else(|error| panic!("{error}"))))
    }

    pub(crate) fn add_relay(&mut self, config: RelayConfig, links: Vec<SocketAddr>) {
        let (seed, now) = (self.seed(), self.now);
        let relay = Relay::new(config, seed, now).unwrap_or_else(|error| panic!("{error}"));
        self.add(Node::Relay(Box::new(relay)), links);
    }

    pub(crate) fn relay(&mut self) -> Option<&mut Relay> {
        match &mut self.hosts[scene::P3].node {
            Node::Relay(relay) => Some(relay),
            Node::Peer(_) | Node::Puppet(_) | Node::Gone => None,
        }
    }

    /// Calls a peer and its app, then lets all come out that came of it.
    pub(crate) fn with_peer<T>(&mut self, host: usize, call: impl FnOnce(&mut Peer, &mut App) -> T) -> Option<T> {
        let entry = self.hosts.get_mut(host)?;
        let Node::Peer(peer) = &mut entry.node else { return None };
        let result = call(peer, &mut entry.app);
        self.settle(host);
        Some(result)
    }

    /// Datagrams that a node has dropped so far.
    pub(crate) fn drops(&self, host: usize) -> u64 {
        match &self.hosts[host].node {
            Node::Peer(peer) => peer.drops().total(),
            Node::Relay(relay) => relay.stats().drops.total(),
            Node::Puppet(_) | Node::Gone => 0,
        }
    }

    // The network.

    fn delay(&self, from: usize, to: usize) -> Duration {
        match (from.min(to), from.max(to)) {
            (scene::P2, scene::P3) => self.delays[0],
            (scene::P3, scene::P4) => self.delays[1],
            (scene::P2, scene::P4) => self.delays[2],
            _ => Duration::from_millis(5),
        }
    }

    /// What the network's next whim is, from 0 to 255; the same in every run.
    fn whim(&mut self) -> u8 {
        self.sequence += 1;
        (self.sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
    }

    /// The address that a packet of this host to `to` seems to come from.
    fn mapped(&mut self, from: usize, link: Link, to: SocketAddr) -> SocketAddr {
        let epoch = (self.now - self.start).as_secs() as usize / 4;
        let host = &self.hosts[from];
        let own = host.addresses[place(link)];
        let besides = &host.addresses[host.links..];
        let at = match host.mapping {
            1 => usize::from(to.port()),
            2 => epoch,
            3 => 0,
            _ => return own,
        };
        besides.get(at % besides.len().max(1)).copied().unwrap_or(own)
    }

    fn send(&mut self, from: usize, out: &Transmit, bytes: &[u8]) {
        let source = self.mapped(from, out.link, out.remote);
        let found = self.hosts.iter().enumerate().find_map(|(target, host)| {
            let at = host.addresses.iter().position(|address| *address == out.remote)?;
            Some((target, if at < host.links { at as u8 } else { 0 }))
        });
        let Some((target, link)) = found else { return };
        if self.cut.contains(&(from.min(target), from.max(target))) {
            return;
        }
        let stride = out.segment_size.unwrap_or(bytes.len()).max(1);
        let piece = if self.chaos.whole { bytes.len().max(1) } else { stride };
        for bytes in bytes.chunks(piece) {
            let stride = stride.min(bytes.len()).max(1);
            self.carry(from, Packet { target, link, source, stride, bytes: bytes.to_vec() });
        }
    }

    fn carry(&mut self, from: usize, mut packet: Packet) {
        if self.tape.len() >= TAPE {
            self.tape.pop_front();
        }
        self.tape.push_back(packet.clone());
        let chaos = self.chaos;
        let mut delay = self.delay(from, packet.target);
        if self.whim() < chaos.drop {
            return;
        }
        if self.whim() < chaos.corrupt {
            let at = usize::from(self.whim()) * 7 % packet.bytes.len().max(1);
            if let Some(byte) = packet.bytes.get_mut(at) {
                *byte ^= 0x11;
            }
        }
        if self.whim() < chaos.delay {
            delay += Duration::from_millis(u64::from(self.whim()));
        }
        if self.whim() < chaos.duplicate {
            self.launch(self.now + delay * 2, packet.clone());
        }
        self.launch(self.now + delay, packet);
    }

    fn launch(&mut self, at: Instant, packet: Packet) {
        if self.in_flight.len() < MAX_IN_FLIGHT {
            self.sequence += 1;
            self.in_flight.insert((at, self.sequence), packet);
        }
    }

    // The nodes.

    /// Hands a buffer to a node, and lets all come out that comes of it.
    pub(crate) fn deliver(&mut self, packet: Packet) {
        let arrival = Arrival { link: link(packet.link), remote: packet.source, ecn: None, stride: packet.stride };
        let data = BytesMut::from(&packet.bytes[..]);
        let now = self.now;
        match &mut self.hosts[packet.target].node {
            Node::Peer(peer) => peer.handle_datagram(now, arrival, data),
            Node::Relay(relay) => relay.handle_datagram(now, arrival, data),
            Node::Puppet(puppet) => puppet.handle_datagram(now, arrival, data),
            Node::Gone => return,
        }
        self.settle(packet.target);
    }

    pub(crate) fn handle_timeout(&mut self, host: usize) {
        let now = self.now;
        match &mut self.hosts[host].node {
            Node::Peer(peer) => peer.handle_timeout(now),
            Node::Relay(relay) => relay.handle_timeout(now),
            Node::Puppet(puppet) => puppet.handle_timeout(now),
            Node::Gone => {}
        }
    }

    fn poll_timeout(&mut self, host: usize) -> Option<Instant> {
        match &mut self.hosts[host].node {
            Node::Peer(peer) => peer.poll_timeout().map(|wake| wake.at),
            Node::Relay(relay) => relay.poll_timeout().map(|wake| wake.at),
            Node::Puppet(puppet) => puppet.poll_timeout(),
            Node::Gone => None,
        }
    }

    /// Drains a node as the contract says. It must come to rest: no poll goes on for ever, and after a few timeouts the
    /// next one is in the future.
    pub(crate) fn settle(&mut self, host: usize) {
        self.calls += 1;
        let before = memory::live();
        for _ in 0..MAX_TIMEOUTS {
            self.drain(host);
            let growth = memory::live().saturating_sub(before);
            assert!(growth < MAX_GROWTH, "one call made host {host} grow by {growth} bytes");
            if self.poll_timeout(host).is_none_or(|at| at > self.now) {
                return;
            }
            self.handle_timeout(host);
        }
        let wake = match &mut self.hosts[host].node {
            Node::Peer(peer) => peer.poll_timeout(),
            Node::Relay(relay) => relay.poll_timeout(),
            Node::Puppet(_) | Node::Gone => None,
        };
        panic!("host {host} never comes to rest: {wake:?} at {:?}", self.now);
    }

    fn drain(&mut self, host: usize) {
        let now = self.now;
        let mut buf = Vec::new();
        for polls in 0.. {
            assert!(polls < MAX_POLLS, "host {host} sends without end");
            let out = match &mut self.hosts[host].node {
                Node::Peer(peer) => peer.poll_transmit(now, &mut buf),
                Node::Relay(relay) => relay.poll_transmit(now, &mut buf),
                Node::Puppet(puppet) => puppet.poll_transmit(now, &mut buf),
                Node::Gone => None,
            };
            let Some(out) = out else { break };
            assert!(out.size == buf.len() && (1..=MAX_PAYLOAD).contains(&out.size), "{out:?}, {} bytes", buf.len());
            assert!(out.segment_size.is_none_or(|segment| (1..out.size).contains(&segment)), "{out:?}");
            assert!(place(out.link) < self.hosts[host].links, "{out:?}");
            assert!(out.remote.port() != 0 && !out.remote.ip().is_unspecified(), "{out:?}");
            self.tell(|| format!("host {host} to {}: {} bytes, first {:02x}", out.remote, out.size, buf[0]));
            self.send(host, &out, &buf);
        }
        for polls in 0.. {
            assert!(polls < MAX_POLLS, "host {host} tells without end");
            match &mut self.hosts[host].node {
                Node::Peer(peer) => {
                    let Some(event) = peer.poll_event() else { break };
                    self.tell(|| format!("host {host}: {event:?}"));
                    self.hosts[host].app.on_event(&event);
                }
                Node::Relay(relay) => {
                    let Some(event) = relay.poll_event() else { break };
                    self.tell(|| format!("host {host}: {event:?}"));
                    let (RelayEvent::Registered { .. }
                    | RelayEvent::Left { .. }
                    | RelayEvent::TurnedAway { .. }
                    | RelayEvent::Refused { .. }
                    | RelayEvent::Step(_)) = event
                    else {
                        panic!("an event that this harness does not know: {event:?}")
                    };
                }
                Node::Puppet(_) | Node::Gone => break,
            }
        }
        if let Node::Relay(relay) = &self.hosts[host].node {
            scene::check_limits(&relay.stats());
        }
    }

    // Time.

    /// Lets `time` pass, or less where that would take more than `calls` calls into nodes.
    pub(crate) fn run(&mut self, time: Duration, calls: u64) {
        let (until, last) = (self.now + time, self.calls + calls);
        while self.calls < last {
            let packet = self.in_flight.first_key_value().map(|(&(at, _), _)| at);
            let wake = (0..self.hosts.len()).filter_map(|host| Some((self.poll_timeout(host)?, host))).min();
            let Some(next) = packet.into_iter().chain(wake.map(|(at, _)| at)).min().filter(|at| *at <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            if packet == Some(next) {
                if let Some((_, packet)) = self.in_flight.pop_first() {
                    self.deliver(packet);
                }
            } else if let Some((_, host)) = wake {
                self.handle_timeout(host);
                self.settle(host);
            }
        }
    }

    /// Nobody runs for a while, as when a machine is busy elsewhere; packets arrive all the same.
    pub(crate) fn oversleep(&mut self, time: Duration) {
        self.now += time;
    }
}

/// The place of a link's address among its host's.
fn place(link: Link) -> usize {
    match link {
        Link::Punch(index) => 1 + usize::from(index),
        _ => 0,
    }
}

/// The link whose address stands at this place.
fn link(place: u8) -> Link {
    match place {
        0 => Link::Main,
        index => Link::Punch(index - 1),
    }
}
