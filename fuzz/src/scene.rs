//! Who is there when a program begins.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use direc_core::{Consent, Identity, NodeId, PeerConfig, RelayAddress, RelayConfig, RelayLimits, fuzzing::Puppet};
use direc_sim::crypto;

use crate::{
    program::Program,
    world::{Node, World},
};

pub(crate) const P2: usize = 0;
pub(crate) const P3: usize = 1;
pub(crate) const P4: usize = 2;

/// Which node is the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Focus {
    Peer,
    Relay,
}

/// The first bytes of a program.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scene {
    /// Whom P2 and P4 accept: two bits each, in the order of [`CONSENTS`].
    pub consents: u8,
    /// One-way delays between P2 and P3, P3 and P4, P2 and P4, in milliseconds, plus one.
    pub delays: [u8; 3],
    /// Bit 0: the relay makes P2 wait for P4's addresses (the specification's Decision). Bit 1: time passes until both peers
    /// are warm before the program goes on. Bit 2: a puppet takes the relay's place (target `peer`), or the second
    /// puppet has P4's key (target `relay`). Bit 3: a stranger's address is among what puppets name.
    pub flags: u8,
}

impl Scene {
    /// Bytes that a scene takes.
    pub const LENGTH: usize = 5;

    /// The bytes.
    pub fn bytes(&self) -> [u8; Self::LENGTH] {
        let [a, b, c] = self.delays;
        [self.consents, a, b, c, self.flags]
    }

    pub(crate) fn read(program: &mut Program<'_>) -> Self {
        let mut byte = || program.byte();
        Self { consents: byte(), delays: [byte(), byte(), byte()], flags: byte() }
    }

    pub(crate) fn is_warm(&self) -> bool {
        self.flags & 2 != 0
    }

    pub(crate) fn has_lying_relay(&self, focus: Focus) -> bool {
        focus == Focus::Peer && self.flags & 4 != 0
    }
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is no address"))
}

pub(crate) fn identity(number: u8) -> Identity {
    Identity::from_secret(&[number; 32]).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn relay_address() -> RelayAddress {
    RelayAddress { address: address("203.0.113.10:4433"), key: identity(3).id() }
}

pub(crate) const STRANGERS: [&str; 3] = ["192.0.2.66:666", "192.0.2.67:1", "203.0.113.10:9"];

fn consent(bits: u8) -> Consent {
    match bits & 3 {
        0 => Consent::Any,
        1 => Consent::Ask,
        2 => Consent::Listed { ids: vec![identity(2).id(), identity(4).id()], ask_others: true },
        _ => Consent::Closed,
    }
}

/// Small, so that they are reached.
const LIMITS: RelayLimits = RelayLimits {
    connections: 12,
    handshakes: 3,
    registered_per_address: 4,
    introductions: 9,
    introductions_per_peer: 6,
    open_offers_per_peer: 2,
    early_datagrams: 4,
    forward_queue: 64 << 10,
};

pub(crate) fn peer_config(number: u8, scene: &Scene, crypto: Arc<rustls::crypto::CryptoProvider>) -> PeerConfig {
    let bits = if number == 2 { scene.consents } else { scene.consents >> 2 };
    let mut config = PeerConfig::new(identity(number), relay_address(), crypto);
    config.consent = consent(bits);
    config.timing.answer_deadline = Duration::from_secs(20);
    config.transport.max_bi_streams = 4;
    config.transport.max_uni_streams = 4;
    config.transport.stream_window = 64 << 10;
    config.transport.window = 128 << 10;
    config.transport.datagram_buffer = 8 << 10;
    config
}

/// Builds the world: P2, P3, P4 and, for the relay's target, two puppets.
pub(crate) fn build(focus: Focus, scene: &Scene) -> World {
    let crypto = crypto::install(u64::from(scene.flags));
    let mut world = World::new(scene.delays, crypto.clone());
    let ids: Vec<NodeId> = [2, 4, 3, 5].map(|number| identity(number).id()).into();
    let mut named: Vec<SocketAddr> =
        ["198.51.100.2:1000", "198.51.100.4:1000", "198.51.100.2:1001", "127.0.0.1:1", "0.0.0.0:0", "[2001:db8::1]:1"]
            .map(address)
            .into();
    if scene.flags & 8 != 0 {
        named.extend(STRANGERS.map(address));
        named.extend((0..8).map(|n| SocketAddr::new([198, 51, 100, 9].into(), 2000 + n)));
    }
    let (punch, knock) = ([4434, 4435], 4436);

    world.add_peer(2, scene, "198.51.100.2:1000");
    let links = [4433, punch[0], punch[1], knock].map(|port| SocketAddr::new(relay_address().address.ip(), port));
    if scene.has_lying_relay(focus) {
        let puppet = Puppet::relay(identity(3), crypto.clone(), ids.clone(), named.clone(), world.now);
        world.add(Node::Puppet(Box::new(puppet.unwrap_or_else(|error| panic!("{error}")))), links.into());
    } else {
        let mut config = RelayConfig::new(identity(3), punch.into(), crypto.clone());
        config.knock_port = Some(knock);
        config.limits = LIMITS;
        config.answer_deadline = Duration::from_secs(25);
        config.delay = Duration::from_millis(if scene.flags & 1 != 0 { 30 } else { 0 });
        world.add_relay(config, links.into());
    }
    world.add_peer(4, scene, "198.51.100.4:1000");

    if focus == Focus::Relay {
        let second = if scene.flags & 4 != 0 { 4 } else { 6 };
        for (number, own) in [(5, "198.51.100.5:1000"), (second, "198.51.100.6:1000")] {
            let (ids, named) = (ids.clone(), named.clone());
            let puppet = Puppet::peer(identity(number), crypto.clone(), relay_address(), ids, named, world.now);
            let puppet = Node::Puppet(Box::new(puppet.unwrap_or_else(|error| panic!("{error}"))));
            world.add(puppet, vec![address(own)]);
        }
    }
    for host in 0..world.hosts.len() {
        world.settle(host);
    }
    world
}

/// What a relay of these limits must never exceed.
pub(crate) fn check_limits(stats: &direc_core::RelayStats) {
    assert!(stats.connections <= LIMITS.connections, "{stats:?}");
    assert!(stats.introductions <= LIMITS.introductions, "{stats:?}");
    assert!(stats.registered <= LIMITS.connections, "{stats:?}");
}
