//! Runs a scenario.

mod places;
mod play;
mod relays;
mod renewal;
mod trouble;
mod vigil;

use std::{sync::Arc, time::Duration};

use direc_core::{Consent, Identity, Link, MAX_RELAYS, NodeId, Peer, PeerConfig};
use places::Places;
use relays::Station;
use rustls::crypto::CryptoProvider;

use crate::{
    app::{Answer, App, PeerHost},
    crypto::{self, Secrets},
    nat::NatConfig,
    outcome::{Outcome, PeerOutcome},
    rng::{Purpose, Rng},
    scenario::{Incident, Scenario, Trouble, Willing},
    trace::Keep,
    world::{HostId, SiteId, World, embedded},
};

/// The relay's QUIC port.
const RELAY_PORT: u16 = 4433;
/// The relay's hole-punch ports.
const PUNCH_PORTS: [u16; 2] = [4434, 4435];
/// The port it knocks from.
const KNOCK_PORT: u16 = 4436;
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
    if scenario.epilogue || scenario.farewell {
        cast.farewell();
    }
    Ok(cast.curtain(seed))
}

/// A scenario brought to life.
pub(crate) struct Cast<'a> {
    scenario: &'a Scenario,
    pub(crate) world: World,
    secrets: Secrets,
    relays: Vec<Station>,
    relays_rng: Rng,
    /// Hosts, where they are now, and who they are.
    peers: Vec<(HostId, SiteId, NodeId)>,
    places: Vec<Places>,
    start: Duration,
    /// Incidents still to come, and repairs of those that happened.
    pending: Vec<Incident>,
    repairs: Vec<(Duration, Trouble)>,
    questions: Vec<renewal::Question>,
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

        let mut relays_rng = Rng::new(seed, Purpose::Relays);
        let mut relays = Vec::new();
        for number in 0..scenario.relays.clamp(1, MAX_RELAYS) {
            let rng = if number == 0 { &mut rng } else { &mut relays_rng };
            relays.push(Station::open(&mut world, scenario, number, &provider, (rng, &secrets, keep))?);
        }

        let mut cast = Self {
            scenario,
            world,
            secrets,
            relays,
            relays_rng,
            peers: Vec::new(),
            places: Vec::new(),
            start: Duration::ZERO,
            pending: scenario.incidents.clone(),
            repairs: Vec::new(),
            questions: Vec::new(),
            last_trouble: Duration::ZERO,
            settled_at: None,
            faults: Vec::new(),
        };
        for number in 0..scenario.peers.len() {
            cast.add_peer(number, &provider, &mut rng, keep)?;
        }
        Ok(cast)
    }

    fn add_peer(
        &mut self,
        number: usize,
        provider: &Arc<CryptoProvider>,
        rng: &mut Rng,
        keep: Keep,
    ) -> Result<(), SetUpError> {
        let side = &self.scenario.peers[number];
        let name = Scenario::name(number);
        let shared = side.home_of.and_then(|home| self.peers.get(home));
        let places = match shared {
            Some(&(_, site, _)) => Places::at(site, None),
            None => self.add_home(number, &name),
        };
        let site = places.home;
        let identity = identity(rng)?;
        let id = identity.id();
        let mut addresses: Vec<_> = self.relays.iter().map(|relay| relay.address).collect();
        if self.scenario.boxes(number).first().is_some_and(NatConfig::is_nat64) && !self.scenario.v6 {
            // What the network's DNS64 says of them.
            addresses.iter_mut().for_each(|relay| relay.address = embedded(relay.address));
        }
        let mut config = PeerConfig::new(identity, addresses[0], provider.clone());
        config.relays = addresses;
        let (consent, answer) = match side.willing {
            Willing::Nobody => (Consent::Closed, Answer::Ignore),
            Willing::Everybody => (Consent::Any, Answer::Ignore),
            Willing::Asked(answer) => (Consent::Ask, answer),
        };
        config.consent = consent;
        config.techniques = self.scenario.techniques;
        config.transport.congestion = self.scenario.congestion;
        config.timing.knock_after = self.scenario.knock_after;
        config.tunnels = vec![self.scenario.tunnels; config.relays.len()];
        config.renewable = vec![true; config.relays.len()];
        config.key_log = keep.bytes.then(|| Arc::new(self.secrets.clone()) as _);
        let peer = Peer::new(config, rng.key(), self.world.instant()).map_err(|e| SetUpError(e.to_string()))?;
        let app = App::new(self.world.epoch(), answer, side.serve).reading_every(side.reads_every);
        let port = PEER_PORT + u16::try_from(number).unwrap_or(0);
        let host = self.world.add_host(site, &name, &[(Link::Main, port)], Box::new(PeerHost { peer, app }));
        if self.scenario.tunnels {
            for (relay, station) in (0..).zip(&self.relays) {
                self.world.allow_tunnel(host, relay, station.host);
            }
        }
        self.peers.push((host, site, id));
        self.places.push(places);
        Ok(())
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
        let peers = self.peers.iter().enumerate().map(|(number, &(host, _, id))| {
            let peer = self.world.peer(host);
            PeerOutcome {
                host,
                id,
                registered_at: peer.and_then(|peer| peer.app.registered_at()),
                warm_at: peer.and_then(|peer| peer.app.warm_at()),
                ways: peer.map(|peer| peer.app.ways().to_vec()).unwrap_or_default(),
                connections: peer.map(|peer| peer.app.connections().values().cloned().collect()).unwrap_or_default(),
                boxes: self.boxes_of(number, host),
                drops: peer.map(|peer| peer.drops().clone()).unwrap_or_default(),
                nature: peer.map(|peer| peer.nature()).unwrap_or_default(),
            }
        });
        let peers = peers.collect();
        let relay = self.world.with_relay(RELAY, |relay, _| relay.stats()).unwrap_or_default();
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
