//! Three parties joined by nothing but delays: enough to see the protocol run. NATs and loss are direc-sim's.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used
)]

pub mod flow;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use direc_core::*;
use rustls::crypto::CryptoProvider;

pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

pub fn identity(n: u8) -> Identity {
    Identity::from_secret(&[n; 32]).unwrap()
}

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub enum Node {
    Peer(Box<Peer>),
    Relay(Box<Relay>),
    /// Takes datagrams and says nothing; the test speaks for it.
    Mute(Vec<(SocketAddr, Vec<u8>)>),
}

#[derive(Debug)]
pub enum Event {
    Peer(PeerEvent),
    Relay(RelayEvent),
}

/// One host: an IP address, with a port for each of the node's sockets.
pub struct Host {
    pub node: Node,
    pub ports: Vec<SocketAddr>,
    pub events: Vec<(Duration, Event)>,
    /// What [`World::drain`] has read, and from which streams.
    pub received: Vec<u8>,
    pub streams: Vec<quic_types::StreamId>,
}

/// A datagram on its way to a host's socket.
pub struct Packet {
    pub target: usize,
    pub port: usize,
    pub source: SocketAddr,
    pub bytes: Vec<u8>,
}

/// Packets get lost, and overtake each other.
pub struct Weather {
    pub dice: Dice,
    /// Of 1,000 packets so many are lost, and so many late, by up to so much.
    pub lost: u64,
    pub late: u64,
    pub by: Duration,
}

impl Weather {
    /// How much later than others a packet arrives; `None` if it never does.
    fn delays(&mut self) -> Option<Duration> {
        match self.dice.below(1000) {
            n if n < self.lost => None,
            n if n < self.lost + self.late => Some(self.by * self.dice.below(100) as u32 / 100),
            _ => Some(Duration::ZERO),
        }
    }
}

/// Chance that repeats itself (splitmix64).
#[derive(Clone, Copy, Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

pub struct World {
    pub hosts: Vec<Host>,
    pub now: Instant,
    pub start: Instant,
    /// One-way delays between hosts.
    pub delays: BTreeMap<(usize, usize), Duration>,
    /// Packets between these hosts vanish.
    pub cut: Vec<(usize, usize)>,
    /// Packets to these ports vanish.
    pub blocked_ports: Vec<u16>,
    /// Relays that pass nothing on, whatever they say.
    pub swallowing: Vec<usize>,
    /// What becomes of packets on the way, if not all of them arrive in order.
    pub weather: Option<Weather>,
    /// By arrival, then in the order sent.
    pub in_flight: BTreeMap<(Instant, u64), Packet>,
    sequence: u64,
}

pub const P2: usize = 0;
pub const P3: usize = 1;
pub const P4: usize = 2;
/// The second relay of [`World::quartet`].
pub const Q3: usize = 3;

/// First byte of a relayed packet.
const RELAYED: u8 = 0x08;

/// The relay number `n`, from 0.
pub fn relay_address(n: u8) -> RelayAddress {
    RelayAddress { address: SocketAddr::new([203, 0, 113, 10 + n].into(), 4433), key: identity(30 + n).id() }
}

/// Settings of the relay number `n`.
pub fn relay_config(n: u8) -> RelayConfig {
    RelayConfig::new(identity(30 + n), vec![4434, 4435], provider())
}

/// Settings of a peer at these relays.
pub fn peer_config(key: u8, relays: &[u8], consent: Consent) -> PeerConfig {
    let relays = relays.iter().map(|&n| relay_address(n)).collect();
    PeerConfig { consent, relays, ..PeerConfig::new(identity(key), relay_address(0), provider()) }
}

impl World {
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            hosts: Vec::new(),
            now,
            start: now,
            delays: BTreeMap::new(),
            cut: Vec::new(),
            blocked_ports: Vec::new(),
            swallowing: Vec::new(),
            weather: None,
            in_flight: BTreeMap::new(),
            sequence: 0,
        }
    }

    /// P2, P3 and P4 with a = P2–P3, b = P3–P4, c = P2–P4.
    pub fn trio(consent: Consent, [a, b, c]: [u64; 3]) -> Self {
        let mut world = Self::new();
        let relay = RelayAddress { address: "203.0.113.10:4433".parse().unwrap(), key: identity(3).id() };
        let p2 = PeerConfig::new(identity(2), relay, provider());
        let p4 = PeerConfig { consent, ..PeerConfig::new(identity(4), relay, provider()) };
        let p3 = RelayConfig::new(identity(3), vec![4434, 4435], provider());
        world.add_peer("198.51.100.2:1000", p2);
        world.add_relay("203.0.113.10:4433", p3);
        world.add_peer("198.51.100.4:1000", p4);
        for (pair, delay) in [((P2, P3), a), ((P3, P4), b), ((P2, P4), c)] {
            world.delays.insert(pair, ms(delay));
        }
        world
    }

    /// P2 and P4 at these of two relays, P3 and Q3, all 20 ms from each other.
    pub fn quartet(p2: &[u8], p4: &[u8], consent: Consent) -> Self {
        let mut world = Self::new();
        world.add_peer("198.51.100.2:1000", peer_config(2, p2, Consent::Closed));
        world.add_relay("203.0.113.10:4433", relay_config(0));
        world.add_peer("198.51.100.4:1000", peer_config(4, p4, consent));
        world.add_relay("203.0.113.11:4433", relay_config(1));
        let pairs = (0..4).flat_map(|a| (0..4).map(move |b| (a, b)));
        world.delays = pairs.map(|pair| (pair, ms(20))).collect();
        world
    }

    /// Another process of the same key in a relay's place, which knows nothing of what was.
    pub fn restart_relay(&mut self, host: usize, n: u8) {
        let seed = [self.sequence as u8; 32];
        self.hosts[host].node = Node::Relay(Box::new(Relay::new(relay_config(n), seed, self.now).unwrap()));
    }

    pub fn add_peer(&mut self, address: &str, config: PeerConfig) -> usize {
        let peer = Peer::new(config, [self.hosts.len() as u8; 32], self.now).unwrap();
        self.add(Node::Peer(Box::new(peer)), vec![address.parse().unwrap()])
    }

    pub fn add_relay(&mut self, address: &str, config: RelayConfig) -> usize {
        let main: SocketAddr = address.parse().unwrap();
        let punch = config.punch_ports.iter().map(|&port| SocketAddr::new(main.ip(), port));
        let ports = std::iter::once(main).chain(punch).collect();
        let relay = Relay::new(config, [self.hosts.len() as u8; 32], self.now).unwrap();
        self.add(Node::Relay(Box::new(relay)), ports)
    }

    pub fn add(&mut self, node: Node, ports: Vec<SocketAddr>) -> usize {
        self.hosts.push(Host { node, ports, events: Vec::new(), received: Vec::new(), streams: Vec::new() });
        self.hosts.len() - 1
    }

    pub fn peer(&mut self, host: usize) -> &mut Peer {
        match &mut self.hosts[host].node {
            Node::Peer(peer) => peer,
            _ => panic!("host {host} is no peer"),
        }
    }

    pub fn relay(&mut self, host: usize) -> &mut Relay {
        match &mut self.hosts[host].node {
            Node::Relay(relay) => relay,
            _ => panic!("host {host} is no relay"),
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Puts a datagram on its way.
    pub fn send(&mut self, from: usize, source: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let Some((target, port)) = self
            .hosts
            .iter()
            .enumerate()
            .find_map(|(host, entry)| entry.ports.iter().position(|port| *port == to).map(|port| (host, port)))
        else {
            return;
        };
        let cut = self.cut.contains(&(from, target)) || self.cut.contains(&(target, from));
        let swallowed = self.swallowing.contains(&target) && bytes.first() == Some(&RELAYED);
        if cut || swallowed || self.blocked_ports.contains(&to.port()) {
            return;
        }
        let mut delay = self.delays.get(&(from.min(target), from.max(target))).copied().unwrap_or(ms(1));
        if let Some(weather) = &mut self.weather {
            match weather.delays() {
                Some(later) => delay += later,
                None => return,
            }
        }
        self.sequence += 1;
        self.in_flight.insert((self.now + delay, self.sequence), Packet { target, port, source, bytes });
    }

    /// Drains a node as the contract says.
    pub fn pump(&mut self, host: usize) {
        let (now, since) = (self.now, self.elapsed());
        let mut out = Vec::new();
        let mut buf = Vec::new();
        let entry = &mut self.hosts[host];
        loop {
            let transmit = match &mut entry.node {
                Node::Peer(peer) => peer.poll_transmit(now, &mut buf),
                Node::Relay(relay) => relay.poll_transmit(now, &mut buf),
                Node::Mute(_) => None,
            };
            let Some(transmit) = transmit else { break };
            let source = entry.ports[place(transmit.link)];
            let segment = transmit.segment_size.unwrap_or(transmit.size).max(1);
            out.extend(buf[..transmit.size].chunks(segment).map(|bytes| (source, transmit.remote, bytes.to_vec())));
        }
        loop {
            let event = match &mut entry.node {
                Node::Peer(peer) => peer.poll_event().map(Event::Peer),
                Node::Relay(relay) => relay.poll_event().map(Event::Relay),
                Node::Mute(_) => None,
            };
            let Some(event) = event else { break };
            entry.events.push((since, event));
        }
        for (source, to, bytes) in out {
            self.send(host, source, to, bytes);
        }
    }

    fn wake(&mut self, host: usize) -> Option<Instant> {
        match &mut self.hosts[host].node {
            Node::Peer(peer) => peer.poll_timeout().map(|wake| wake.at),
            Node::Relay(relay) => relay.poll_timeout().map(|wake| wake.at),
            Node::Mute(_) => None,
        }
    }

    /// Goes on to the next thing that happens; false if that is after `until`.
    pub fn step(&mut self, until: Instant) -> bool {
        for host in 0..self.hosts.len() {
            self.pump(host);
        }
        let wake = (0..self.hosts.len()).filter_map(|host| Some((self.wake(host)?, host))).min();
        let packet = self.in_flight.keys().next().map(|&(at, _)| at);
        let next = [wake.map(|(at, _)| at), packet].into_iter().flatten().min();
        let Some(next) = next.filter(|next| *next <= until) else {
            self.now = until;
            return false;
        };
        self.now = next.max(self.now);
        if packet == Some(next) {
            let (_, packet) = self.in_flight.pop_first().unwrap();
            self.deliver(packet.target, packet.source, packet.port, packet.bytes);
        } else if let Some((_, host)) = wake {
            match &mut self.hosts[host].node {
                Node::Peer(peer) => peer.handle_timeout(self.now),
                Node::Relay(relay) => relay.handle_timeout(self.now),
                Node::Mute(_) => {}
            }
        }
        true
    }

    pub fn deliver(&mut self, target: usize, source: SocketAddr, port: usize, bytes: Vec<u8>) {
        let arrival = Arrival { link: link(port), remote: source, ecn: None, stride: bytes.len().max(1) };
        let data = BytesMut::from(&bytes[..]);
        match &mut self.hosts[target].node {
            Node::Peer(peer) => peer.handle_datagram(self.now, arrival, data),
            Node::Relay(relay) => relay.handle_datagram(self.now, arrival, data),
            Node::Mute(heard) => heard.push((source, bytes)),
        }
    }

    pub fn run(&mut self, for_: Duration) {
        let until = self.now + for_;
        while self.step(until) {}
    }

    /// Runs until `found` says so, or panics after `limit`.
    pub fn until<T>(&mut self, limit: Duration, mut found: impl FnMut(&mut Self) -> Option<T>) -> T {
        let until = self.now + limit;
        loop {
            if let Some(result) = found(self) {
                return result;
            }
            if !self.step(until) {
                if let Some(result) = found(self) {
                    return result;
                }
                panic!("nothing for {limit:?}: {}", self.story());
            }
        }
    }

    /// The host's program dies without a word.
    pub fn kill(&mut self, host: usize) {
        self.hosts[host].node = Node::Mute(Vec::new());
    }

    pub fn warm(&mut self) {
        self.until(ms(10_000), |world| (world.peer(P2).is_warm() && world.peer(P4).is_warm()).then_some(()));
        self.run(ms(1000));
        self.hosts.iter_mut().for_each(|host| host.events.clear());
        self.start = self.now;
    }

    pub fn connect(&mut self, from: usize, to: usize) -> ConnId {
        self.connect_with(from, to, ConnectOptions::default())
    }

    pub fn connect_with(&mut self, from: usize, to: usize, options: ConnectOptions) -> ConnId {
        let (now, id) = (self.now, self.peer(to).id());
        self.peer(from).connect(now, id, options).unwrap()
    }

    pub fn peer_event<T>(&self, host: usize, mut of: impl FnMut(&PeerEvent) -> Option<T>) -> Option<(Duration, T)> {
        self.hosts[host].events.iter().find_map(|(at, event)| match event {
            Event::Peer(event) => of(event).map(|found| (*at, found)),
            Event::Relay(_) => None,
        })
    }

    pub fn connected(&self, host: usize) -> Option<(Duration, ConnId)> {
        self.peer_event(host, |event| match event {
            PeerEvent::Connected { conn, .. } => Some(*conn),
            _ => None,
        })
    }

    /// The last connection that a host was told of.
    pub fn connected_last(&self, host: usize) -> ConnId {
        let connected = self.hosts[host].events.iter().rev().find_map(|(_, event)| match event {
            Event::Peer(PeerEvent::Connected { conn, .. }) => Some(*conn),
            _ => None,
        });
        connected.unwrap()
    }

    pub fn offered(&self, host: usize) -> Option<(Duration, ConnId)> {
        self.peer_event(host, |event| match event {
            PeerEvent::Offered { conn, .. } => Some(*conn),
            _ => None,
        })
    }

    pub fn not_direct(&self, host: usize) -> Option<(Duration, DirectFailure)> {
        self.peer_event(host, |event| match event {
            PeerEvent::NotDirect { why, .. } => Some(*why),
            _ => None,
        })
    }

    pub fn relay_lost(&self, host: usize) -> Option<(Duration, RelayError)> {
        self.peer_event(host, |event| match event {
            PeerEvent::RelayLost { error, .. } => Some(error.clone()),
            _ => None,
        })
    }

    pub fn failed(&self, host: usize) -> Option<(Duration, ConnectError)> {
        self.peer_event(host, |event| match event {
            PeerEvent::Failed { error, .. } => Some(error.clone()),
            _ => None,
        })
    }

    /// Events of a kind: how many there were.
    pub fn count(&self, host: usize, of: impl Fn(&PeerEvent) -> bool) -> usize {
        let events = self.hosts[host].events.iter();
        events.filter(|(_, event)| matches!(event, Event::Peer(event) if of(event))).count()
    }

    pub fn closed(&self, host: usize) -> Option<(Duration, CloseReason)> {
        self.peer_event(host, |event| match event {
            PeerEvent::Closed { reason, .. } => Some(reason.clone()),
            _ => None,
        })
    }

    pub fn heard_direct(&self, host: usize) -> Option<Duration> {
        self.peer_event(host, |event| matches!(event, PeerEvent::DirectHeard { .. }).then_some(())).map(|(at, ())| at)
    }

    pub fn moved(&self, host: usize) -> Option<(Duration, Path)> {
        self.peer_event(host, |event| match event {
            PeerEvent::Path { path, .. } => Some(*path),
            _ => None,
        })
    }

    /// Opens a stream at `host`, writes all of `data` and ends it.
    pub fn send_stream(&mut self, host: usize, conn: ConnId, data: &[u8]) -> quic_types::StreamId {
        let id = self.peer(host).connection(conn).unwrap().open(quic_types::Dir::Bi).unwrap();
        let mut rest = [bytes::Bytes::copy_from_slice(data)];
        while !rest[0].is_empty() {
            if self.peer(host).connection(conn).unwrap().write(id, &mut rest).is_err() {
                let soon = self.now + ms(10);
                while self.step(soon) {}
            }
            // The other side reads meanwhile, or its window would stay full.
            self.drain(if host == P2 { P4 } else { P2 });
        }
        self.peer(host).connection(conn).unwrap().finish(id).unwrap();
        id
    }

    /// Reads what there is on all of a peer's connections' streams into [`Host::received`].
    pub fn drain(&mut self, host: usize) {
        let Some((_, conn)) = self.connected(host) else { return };
        let Host { node: Node::Peer(peer), received, streams, .. } = &mut self.hosts[host] else { return };
        let Some(mut connection) = peer.connection(conn) else { return };
        while let Some(id) = connection.accept(quic_types::Dir::Bi) {
            streams.push(id);
        }
        for &id in streams.iter() {
            while let Ok(Some(bytes)) = connection.read(id, usize::MAX) {
                received.extend_from_slice(&bytes);
            }
        }
    }

    pub fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = self
            .hosts
            .iter()
            .flat_map(|host| &host.events)
            .filter_map(|(_, event)| match event {
                Event::Peer(PeerEvent::Step(taken)) | Event::Relay(RelayEvent::Step(taken)) => Some(taken.step),
                _ => None,
            })
            .collect();
        steps.sort();
        steps.dedup();
        steps
    }

    /// All that happened, for a failed test's reader.
    pub fn story(&self) -> String {
        let mut lines: Vec<(Duration, String)> = Vec::new();
        for (index, host) in self.hosts.iter().enumerate() {
            let events =
                host.events.iter().filter(|(_, event)| !matches!(event, Event::Peer(PeerEvent::Stream { .. })));
            lines.extend(events.map(|(at, event)| (*at, format!("host {index}: {event:?}"))));
        }
        lines.sort();
        lines.iter().map(|(at, line)| format!("\n{:9.3} ms  {line}", at.as_secs_f64() * 1e3)).collect()
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
fn link(place: usize) -> Link {
    match place {
        0 => Link::Main,
        index => Link::Punch((index - 1) as u8),
    }
}
