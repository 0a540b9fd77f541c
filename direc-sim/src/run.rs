//! Runs a scenario.

mod play;
mod trouble;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use direc_core::{Consent, Identity, Link, NodeId, Peer, PeerConfig, Relay, RelayAddress, RelayConfig};
use rustls::crypto::CryptoProvider;

use crate::{
    app::{Answer, App, PeerHost},
    crypto::{self, Secrets},
    link::LinkConfig,
    nat::NatConfig,
    outcome::{Outcome, PeerOutcome},
    rng::{Purpose, Rng},
    scenario::{Incident, Scenario, Trouble, Willing},
    site::SiteConfig,
    trace::Keep,
    world::{HostId, SiteId, World},
};

/// The relay's QUIC port.
const RELAY_PORT: u16 = 4433;
/// The relay's hole-punch ports.
const PUNCH_PORTS: [u16; 2] = [4434, 4435];
/// The peers' port.
const PEER_PORT: u16 = 4000;
/// The relay is the first host of its world.
pub(crate) const RELAY: HostId = HostId(0);
/// How long registrations may take to become warm; after it the calls begin all the same.
const WARM_LIMIT: Duration = Duration::from_secs(15);
/// Between the last registration's being warm and the start, so that no acknowledgement is under way any more.
const SETTLE: Duration = Duration::from_secs(1);

/// Why a scenario could not even be set up: a bug in the scenario or in direc-core's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetUpError(String);

impl std::fmt::Display for SetUpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the scenario cannot be set up: {}", self.0)
    }
}

impl std::error::Error for SetUpError {}

/// Runs a scenario and keeps packets' records, but not their bytes.
///
/// # Errors
/// [`SetUpError`] if it cannot be set up.
pub fn run(scenario: &Scenario, seed: u64) -> Result<Outcome, SetUpError> {
    run_keeping(scenario, seed, Keep { packets: true, bytes: false })
}

/// Runs a scenario and keeps what it is told to.
///
/// # Errors
/// [`SetUpError`] if it cannot be set up.
pub fn run_keeping(scenario: &Scenario, seed: u64, keep: Keep) -> Result<Outcome, SetUpError> {
    let mut cast = Cast::new(scenario, seed, keep)?;
    cast.warm_up();
    cast.play();
    if scenario.epilogue {
        cast.epilogue();
    }
    Ok(cast.curtain(seed))
}

/// A scenario brought to life.
pub(crate) struct Cast<'a> {
    scenario: &'a Scenario,
    pub(crate) world: World,
    secrets: Secrets,
    relay: HostId,
    relay_site: SiteId,
    peers: Vec<(HostId, SiteId, NodeId)>,
    start: Duration,
    /// Incidents still to come, and repairs of those that happened.
    pending: Vec<Incident>,
    repairs: Vec<(Duration, Trouble)>,
    last_trouble: Duration,
    settled_at: Option<Duration>,
    /// What went wrong that must not.
    faults: Vec<String>,
}

impl<'a> Cast<'a> {
    fn new(scenario: &'a Scenario, seed: u64, keep: Keep) -> Result<Self, SetUpError> {
        let provider = crypto::install(seed);
        let mut rng = Rng::new(seed, Purpose::Nodes);
        let secrets = Secrets::default();
        let mut world = World::new(seed, keep);

        let relay_site = world.add_site(&SiteConfig { v6: scenario.v6, ..SiteConfig::new("P3", Vec::new()) });
        let identity = identity(&mut rng)?;
        let address =
            RelayAddress { address: SocketAddr::new(world.next_address(relay_site), RELAY_PORT), key: identity.id() };
        let mut config = RelayConfig::new(identity, PUNCH_PORTS.to_vec(), provider.clone());
        config.delay = scenario.relay_delay;
        config.key_log = keep.bytes.then(|| Arc::new(secrets.clone()) as _);
        let relay = Relay::new(config, rng.key(), world.instant()).map_err(|e| SetUpError(e.to_string()))?;
        let mut ports = vec![(Link::MAIN, RELAY_PORT)];
        ports.extend((0_u8..).map(Link::punch).zip(PUNCH_PORTS));
        let relay = world.add_host(relay_site, "P3", &ports, Box::new(relay));

        let mut cast = Self {
            scenario,
            world,
            secrets,
            relay,
            relay_site,
            peers: Vec::new(),
            start: Duration::ZERO,
            pending: scenario.incidents.clone(),
            repairs: Vec::new(),
            last_trouble: Duration::ZERO,
            settled_at: None,
            faults: Vec::new(),
        };
        for number in 0..scenario.peers.len() {
            cast.add_peer(number, address, &provider, &mut rng, keep)?;
        }
        Ok(cast)
    }

    fn add_peer(
        &mut self,
        number: usize,
        relay: RelayAddress,
        provider: &Arc<CryptoProvider>,
        rng: &mut Rng,
        keep: Keep,
    ) -> Result<(), SetUpError> {
        let side = &self.scenario.peers[number];
        let name = Scenario::name(number);
        let shared = side.home_of.and_then(|home| self.peers.get(home));
        let site = match shared {
            Some(&(_, site, _)) => site,
            None => self.add_site(number, &name),
        };
        let identity = identity(rng)?;
        let id = identity.id();
        let mut config = PeerConfig::new(identity, relay, provider.clone());
        let (consent, answer) = match side.willing {
            Willing::Nobody => (Consent::Closed, Answer::Ignore),
            Willing::Everybody => (Consent::Any, Answer::Ignore),
            Willing::Asked(answer) => (Consent::Ask, answer),
        };
        config.consent = consent;
        config.key_log = keep.bytes.then(|| Arc::new(self.secrets.clone()) as _);
        let peer = Peer::new(config, rng.key(), self.world.instant()).map_err(|e| SetUpError(e.to_string()))?;
        let app = App::new(self.world.epoch(), answer, side.serve);
        let port = PEER_PORT + u16::try_from(number).unwrap_or(0);
        let host = self.world.add_host(site, &name, &[(Link::MAIN, port)], Box::new(PeerHost { peer, app }));
        self.peers.push((host, site, id));
        Ok(())
    }

    /// Adds a peer's site and the ways from it to all that are there already.
    fn add_site(&mut self, number: usize, name: &str) -> SiteId {
        let side = &self.scenario.peers[number];
        let mut boxes = side.boxes.clone();
        if self.scenario.v6 {
            boxes = boxes.into_iter().map(|config| NatConfig { translation: None, ..config }).collect();
        }
        let (up, down) = (side.up, side.down);
        let site = self.world.add_site(&SiteConfig { up, down, v6: self.scenario.v6, ..SiteConfig::new(name, boxes) });
        let path = |delay| LinkConfig { delay, ..self.scenario.noise };
        self.world.set_paths(site, self.relay_site, path(self.scenario.to_relay(number)));
        for (other, &(_, there, _)) in self.peers.iter().enumerate() {
            if there != site && self.scenario.peers[other].home_of.is_none() {
                let mtu = self.scenario.direct_mtu.unwrap_or(self.scenario.noise.mtu);
                let path = LinkConfig { mtu, ..path(self.scenario.between(number, other)) };
                self.world.set_paths(site, there, path);
            }
        }
        site
    }

    /// Lets everybody register. The scenario's time starts at its end.
    fn warm_up(&mut self) {
        if !self.scenario.warm {
            return;
        }
        let hosts: Vec<HostId> = self.peers.iter().map(|&(host, _, _)| host).collect();
        let mut seen = usize::MAX;
        let mut cold = true;
        self.world.run_while(WARM_LIMIT, |world| {
            // Only an event can have changed it.
            if seen != world.trace().notes.len() {
                seen = world.trace().notes.len();
                cold = hosts.iter().any(|&host| world.peer(host).is_none_or(|peer| peer.app.warm_at().is_none()));
            }
            cold
        });
        // A whole millisecond, for people's eyes.
        let millis = (self.world.now() + SETTLE).as_millis() as u64 + 1;
        self.start = Duration::from_millis(millis);
        self.world.run_until(self.start);
    }

    /// Takes everything down and says what came of it.
    fn curtain(mut self, seed: u64) -> Outcome {
        let peers = self.peers.iter().map(|&(host, _, id)| {
            let peer = self.world.peer(host);
            PeerOutcome {
                host,
                id,
                registered_at: peer.and_then(|peer| peer.app.registered_at()),
                warm_at: peer.and_then(|peer| peer.app.warm_at()),
                connections: peer.map(|peer| peer.app.connections().values().cloned().collect()).unwrap_or_default(),
                drops: peer.map(|peer| peer.drops().clone()).unwrap_or_default(),
            }
        });
        let peers = peers.collect();
        let relay = self.world.with_relay(self.relay, |relay, _| relay.stats()).unwrap_or_default();
        Outcome {
            seed,
            scenario: self.scenario.clone(),
            start: self.start,
            end: self.world.now(),
            faults: self.faults,
            stuck: self.world.stuck(),
            names: self.world.host_names(),
            peers,
            relay,
            secrets: self.secrets.text(),
            trace: self.world.into_trace(),
        }
    }
}

fn identity(rng: &mut Rng) -> Result<Identity, SetUpError> {
    Identity::from_secret(&rng.key()).map_err(|e| SetUpError(e.to_string()))
}
