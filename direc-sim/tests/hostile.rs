//! Hostile bytes and nodes: counted drops, typed errors, and no harm to anyone else.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::{net::SocketAddr, time::Duration};

use direc_core::{Consent, Identity, Link, NodeId, Peer, PeerConfig, RelayAddress};
use direc_sim::{
    HostId, Scenario, SiteConfig, World,
    app::{Answer, App, PeerHost, Work},
    crypto,
    node::Raw,
    run,
    scenario::{Trouble, When},
    trace::{Keep, What},
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn garbage_replays_and_mangled_packets_to_everybody_during_an_introduction() {
    for seed in 1..=10 {
        let work = Work { ping: true, echo: 100_000, upload: 50_000, datagrams: 0, ..Work::default() };
        let scenario = Scenario::home_pair(20 * MS, 30 * MS, 25 * MS)
            .asking()
            .work(work)
            .incident(When::At(Duration::ZERO), Trouble::PesterRelay(1000), None)
            .incident(When::At(Duration::ZERO), Trouble::PesterPeer(0, 1000), None)
            .incident(When::At(Duration::ZERO), Trouble::PesterPeer(1, 1000), None);
        let outcome = run(&scenario, seed).unwrap();
        assert_eq!(outcome.faults(), Vec::<String>::new(), "seed {seed}");
        let call = outcome.call(0).unwrap();
        assert!(call.done().is_some_and(|done| done < 2 * SECOND), "seed {seed}: {:?}", call.failure());
        assert!(call.direct().is_some(), "seed {seed}");
        assert!(outcome.relay.drops.total() > 100, "{:?}", outcome.relay.drops);
        assert!(outcome.peers.iter().all(|peer| peer.drops.total() > 100));
    }
}

#[test]
fn garbage_is_never_answered_with_more_than_it_brought() {
    // All replies to strangers go nowhere: their addresses are nobody's. Count what was sent there.
    let scenario = Scenario::home_pair(20 * MS, 30 * MS, 25 * MS)
        .incident(When::At(SECOND), Trouble::PesterRelay(2000), None)
        .incident(When::At(SECOND), Trouble::PesterPeer(0, 2000), None);
    let outcome = run(&scenario, 1).unwrap();
    let stranger = |ip: std::net::IpAddr| ip.to_string().starts_with("203.0.113.");
    let replies: usize = outcome.trace.packets.iter().filter(|p| stranger(p.dst.ip())).map(|p| p.len).sum();
    let arrived = 4000 * 800;
    assert!(replies < arrived / 10, "{replies} bytes went to strangers");
}

/// A world with a relay made by `relay`, or somebody who takes its place.
struct Stage {
    world: World,
    provider: std::sync::Arc<rustls::crypto::CryptoProvider>,
    relay: RelayAddress,
}

impl Stage {
    fn new(relay: impl FnOnce(&mut World, &std::sync::Arc<rustls::crypto::CryptoProvider>) -> NodeId) -> Self {
        let provider = crypto::install(1);
        let mut world = World::new(1, Keep::default());
        let site = world.add_site(&SiteConfig::new("P3", vec![]));
        let address = SocketAddr::new(world.next_address(site), 4433);
        let key = relay(&mut world, &provider);
        Self { world, provider, relay: RelayAddress { address, key } }
    }

    fn peer(&mut self, secret: u8, port: u16) -> HostId {
        let site = self.world.add_site(&SiteConfig::new("home", direc_sim::nat::stack("easy").unwrap()));
        let identity = Identity::from_secret(&[secret; 32]).unwrap();
        let mut config = PeerConfig::new(identity, self.relay, self.provider.clone());
        config.consent = Consent::Any;
        let now = self.world.instant();
        let peer = Peer::new(config, [port as u8; 32], now).unwrap();
        let app = App::new(self.world.epoch(), Answer::Ignore, Work::default());
        self.world.add_host(site, "peer", &[(Link::Main, port)], Box::new(PeerHost { peer, app }))
    }

    fn said(&self, host: HostId) -> Vec<String> {
        let notes = self.world.trace().notes.iter().filter(|note| note.host == host);
        notes
            .filter_map(|note| match &note.what {
                What::Event(words) | What::Detail(words) => Some(words.clone()),
                What::Step(_) | What::Retired(_) => None,
            })
            .collect()
    }
}

fn real_relay(world: &mut World, provider: &std::sync::Arc<rustls::crypto::CryptoProvider>) -> NodeId {
    let identity = Identity::from_secret(&[3; 32]).unwrap();
    let id = identity.id();
    let config = direc_core::RelayConfig::new(identity, vec![4434, 4435], provider.clone());
    let relay = direc_core::Relay::new(config, [3; 32], world.instant()).unwrap();
    let ports = [(Link::Main, 4433), (Link::Punch(0), 4434), (Link::Punch(1), 4435)];
    world.add_host(direc_sim::SiteId(0), "P3", &ports, Box::new(relay));
    id
}

#[test]
fn a_relay_that_echoes_everything_is_unreachable() {
    let mut stage = Stage::new(|world, _| {
        world.add_host(direc_sim::SiteId(0), "echo", &[(Link::Main, 4433)], Box::new(Raw::echo()));
        Identity::from_secret(&[3; 32]).unwrap().id()
    });
    let peer = stage.peer(2, 1000);
    stage.world.run_until(30 * SECOND);
    assert_eq!(stage.world.stuck(), None);
    let said = stage.said(peer);
    assert!(said.iter().any(|words| words.contains("relay unreachable")), "{said:?}");
    assert!(stage.world.trace().counts.sent < 500, "{:?}", stage.world.trace().counts);
}

#[test]
fn a_relay_with_another_key_is_not_trusted() {
    let mut stage = Stage::new(|world, provider| {
        real_relay(world, provider);
        Identity::from_secret(&[9; 32]).unwrap().id()
    });
    let peer = stage.peer(2, 1000);
    stage.world.run_until(30 * SECOND);
    let said = stage.said(peer);
    assert!(said.iter().any(|words| words.contains("key is not the pinned one")), "{said:?}");
    assert!(!said.iter().any(|words| words.contains("registered")), "{said:?}");
}

#[test]
fn a_peer_that_registers_twice_replaces_itself_without_a_fight() {
    let mut stage = Stage::new(real_relay);
    let first = stage.peer(2, 1000);
    stage.world.run_until(5 * SECOND);
    let second = stage.peer(2, 1001);
    stage.world.run_until(120 * SECOND);
    let (first, second) = (stage.said(first), stage.said(second));
    assert!(first.iter().any(|words| words.contains("same key")), "{first:?}");
    assert!(second.iter().any(|words| words.contains("registered")), "{second:?}");
    assert!(!second.iter().any(|words| words.contains("lost")), "{second:?}");
}
