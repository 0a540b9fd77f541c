//! The relays of a scenario: how they come to be, go, and come back as another process.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use direc_core::{Access, AccessList, Link, Relay, RelayAddress, RelayConfig, Rights};

use super::{Cast, KNOCK_PORT, PUNCH_PORTS, RELAY_PORT, SetUpError, identity};
use crate::{
    crypto::Secrets,
    rng::Rng,
    scenario::Scenario,
    site::SiteConfig,
    trace::Keep,
    world::{HostId, SiteId, World},
};

/// A relay and what it takes to start it anew.
pub(super) struct Station {
    pub(super) host: HostId,
    pub(super) site: SiteId,
    pub(super) address: RelayAddress,
    config: RelayConfig,
    /// Killed or drained: another process takes its place at the repair.
    pub(super) down: bool,
    /// Drained, and not killed, the last time.
    pub(super) drained: bool,
}

impl Station {
    /// A relay with a site of its own.
    pub(super) fn open(
        world: &mut World,
        scenario: &Scenario,
        number: usize,
        provider: &Arc<rustls::crypto::CryptoProvider>,
        (rng, secrets, keep): (&mut Rng, &Secrets, Keep),
    ) -> Result<Self, SetUpError> {
        let name = if number == 0 { "relay".to_owned() } else { format!("relay{}", number + 1) };
        let site = world.add_site(&SiteConfig { v6: scenario.v6, ..SiteConfig::new(&name, Vec::new()) });
        let identity = identity(rng)?;
        let address = SocketAddr::new(world.next_address(site), RELAY_PORT);
        let address = RelayAddress { address, key: identity.id() };
        let mut config = RelayConfig::new(identity, PUNCH_PORTS.to_vec(), provider.clone());
        config.knock_port = Some(KNOCK_PORT);
        config.delay = scenario.relay_delay;
        config.key_log = keep.bytes.then(|| Arc::new(secrets.clone()) as _);
        let relay = Relay::new(config.clone(), rng.key(), world.instant()).map_err(|e| SetUpError(e.to_string()))?;
        let mut ports = vec![(Link::Main, RELAY_PORT)];
        ports.extend((0_u8..).map(Link::Punch).zip(PUNCH_PORTS.into_iter().chain([KNOCK_PORT])));
        let host = world.add_host(site, &name, &ports, Box::new(relay));
        Ok(Self { host, site, address, config, down: false, drained: false })
    }
}

impl Cast<'_> {
    /// A relay's process is gone, without a word.
    pub(super) fn kill_relay(&mut self, number: usize) {
        if let Some(station) = self.relays.get_mut(number) {
            (station.down, station.drained) = (true, false);
            self.world.stop(station.host, true);
        }
    }

    /// A relay says that it wants to be left.
    pub(super) fn drain_relay(&mut self, number: usize, within: Duration) {
        if let Some(station) = self.relays.get_mut(number) {
            (station.down, station.drained) = (true, true);
            self.world.with_relay(station.host, |relay, now| relay.drain(now, within));
        }
    }

    /// The next process of a relay that is gone has another key.
    pub(super) fn rekey_relay(&mut self, number: usize) {
        let Some(station) = self.relays.get_mut(number).filter(|station| station.down) else { return };
        // Any 32 bytes are a key.
        if let Ok(identity) = identity(&mut self.relays_rng) {
            station.address.key = identity.id();
            station.config.identity = identity;
        }
    }

    /// The first relay has other rules: all peers but this one may use it, or everybody.
    pub(super) fn rule(&mut self, but: Option<usize>) {
        let listed = self.peers.iter().enumerate().filter(|(number, _)| but != Some(*number));
        let ids = listed.map(|(_, &(_, _, id))| (id, Rights::ALL)).collect();
        let access = but.map_or(Access::Open, |_| Access::Listed(AccessList { ids, tokens: Vec::new() }));
        if let Some(station) = self.relays.first_mut() {
            station.config.access = access.clone();
            self.world.with_relay(station.host, |relay, now| relay.set_access(now, access));
        }
    }

    /// Another process, with the same key, takes the place of one that is gone or was to go.
    pub(super) fn restart_relay(&mut self, number: usize) {
        let Some(station) = self.relays.get_mut(number).filter(|station| station.down) else { return };
        station.down = false;
        // These settings were good enough the first time.
        if let Ok(relay) = Relay::new(station.config.clone(), self.relays_rng.key(), self.world.instant()) {
            self.world.replace(station.host, Box::new(relay));
        }
    }

    /// What the relays have not let go of, though everybody has left.
    pub(super) fn relay_leaks(&mut self) -> Vec<String> {
        let mut leaks = Vec::new();
        for (number, station) in self.relays.iter().enumerate().filter(|(_, station)| !station.down) {
            let stats = self.world.with_relay(station.host, |relay, _| relay.stats()).unwrap_or_default();
            let (introductions, connections) = (stats.introductions, stats.connections);
            if introductions > 0 || connections > 0 {
                leaks.push(format!(
                    "relay {number} holds {introductions} introductions, {connections} connections of nobody"
                ));
            }
        }
        leaks
    }
}
