//! Where peers are: at home, or on the other network that they roam to.

use super::Cast;
use crate::{
    link::LinkConfig,
    nat::NatConfig,
    scenario::Scenario,
    site::SiteConfig,
    world::{HostId, SiteId},
};

/// A peer's networks.
#[derive(Clone, Copy)]
pub(super) struct Places {
    pub(super) home: SiteId,
    /// The other one, once it has been there.
    elsewhere: Option<SiteId>,
    /// The carrier's, where it shares one.
    carrier: Option<SiteId>,
}

/// An access link, to and from the internet.
type Access = (LinkConfig, LinkConfig);

impl Places {
    pub(super) fn at(home: SiteId, carrier: Option<SiteId>) -> Self {
        Self { home, elsewhere: None, carrier }
    }
}

impl Cast<'_> {
    /// Adds a peer's home, with its carrier if it shares one and that is not there yet.
    pub(super) fn add_home(&mut self, number: usize, name: &str) -> Places {
        let (own, carrier) = self.scenario.shared_boxes(number);
        let own = own.to_vec();
        let access = self.access(number);
        let Some(carrier) = carrier else { return Places::at(self.add_site(number, name, own, access), None) };
        let standing = self.scenario.carrier_of(number).and_then(|first| self.places.get(first)?.carrier);
        let carrier = match standing {
            Some(site) => site,
            None => self.add_site(number, &format!("{name}'s carrier"), vec![carrier], Default::default()),
        };
        if own.is_empty() {
            return Places::at(carrier, Some(carrier));
        }
        let (up, down) = access;
        let config = SiteConfig { up, down, carrier: Some(carrier), ..SiteConfig::new(name, own) };
        Places::at(self.world.add_site(&config), Some(carrier))
    }

    /// Adds a site for a peer, behind these boxes, and the ways from it to all that are there already.
    pub(super) fn add_site(&mut self, number: usize, name: &str, mut boxes: Vec<NatConfig>, access: Access) -> SiteId {
        let scenario = self.scenario;
        if scenario.v6 {
            boxes = boxes.into_iter().map(|config| NatConfig { translation: None, ..config }).collect();
        }
        let (up, down) = access;
        let site = self.world.add_site(&SiteConfig { up, down, v6: scenario.v6, ..SiteConfig::new(name, boxes) });
        let path = LinkConfig { delay: scenario.to_relay(number), ..scenario.relay_link.unwrap_or(scenario.noise) };
        for relay in &self.relays {
            self.world.set_paths(site, relay.site, path);
        }
        for (other, places) in self.places.iter().enumerate() {
            // Who shares a home does not say how far away it is.
            let own = scenario.peers[other].home_of.is_none() && scenario.carrier_of(other).is_none();
            let home = own.then_some(places.home);
            let path = direct_path(scenario, number, other);
            for there in home.into_iter().chain(places.elsewhere) {
                self.world.set_paths(site, there, path);
            }
        }
        site
    }

    /// A peer's access link, to and from the internet.
    fn access(&self, number: usize) -> Access {
        let side = &self.scenario.peers[self.scenario.home_of(number)];
        (side.up, side.down)
    }

    /// A peer has no network any more.
    pub(super) fn leave(&mut self, number: usize) {
        if let Some(&(host, _, _)) = self.peers.get(number) {
            self.world.leave(host);
        }
    }

    /// A peer that has left its network arrives at its other one.
    pub(super) fn arrive(&mut self, number: usize) {
        let Some((&(host, from, _), places)) = self.peers.get(number).zip(self.places.get(number).copied()) else {
            return;
        };
        if !self.world.is_away(host) {
            return;
        }
        let to = if from == places.home { self.elsewhere(number) } else { places.home };
        self.world.settle(host, to);
        self.peers[number].1 = to;
    }

    fn elsewhere(&mut self, number: usize) -> SiteId {
        if let Some(site) = self.places[number].elsewhere {
            return site;
        }
        let name = format!("{} elsewhere", Scenario::name(number));
        let site = self.add_site(number, &name, self.scenario.boxes_elsewhere(number), self.access(number));
        self.places[number].elsewhere = Some(site);
        site
    }

    /// What a peer is behind now.
    pub(super) fn boxes_of(&self, number: usize, host: HostId) -> Vec<NatConfig> {
        let at_home = self.places.get(number).is_none_or(|places| places.home == self.world.site_of(host));
        let scenario = self.scenario;
        if at_home { scenario.boxes(number) } else { scenario.boxes_elsewhere(number) }
    }

    /// Nothing gets from where one peer is to where another is (or all ways from the one to the other are open again).
    pub(super) fn sever_way(&mut self, from: usize, to: usize, severed: bool) {
        let (Some(&(_, here, _)), Some(&(_, there, _))) = (self.peers.get(from), self.peers.get(to)) else { return };
        if severed {
            return self.world.sever_way(here, there, true);
        }
        for here in self.sites(from) {
            for there in self.sites(to) {
                self.world.sever_way(here, there, false);
            }
        }
    }

    /// Nothing gets from where a peer is to the relay, either way (or all its ways there are open again).
    pub(super) fn sever_relay(&mut self, peer: usize, relay: SiteId, severed: bool) {
        let Some(&(_, here, _)) = self.peers.get(peer) else { return };
        let sites = if severed { vec![here] } else { self.sites(peer) };
        for site in sites {
            self.world.sever(site, relay, severed);
        }
    }

    /// All places where a peer may be.
    fn sites(&self, peer: usize) -> Vec<SiteId> {
        let places = self.places[peer];
        [Some(places.home), places.elsewhere].into_iter().flatten().collect()
    }
}

fn direct_path(scenario: &Scenario, one: usize, other: usize) -> LinkConfig {
    let link = scenario.direct_link.unwrap_or(scenario.noise);
    LinkConfig { delay: scenario.between(one, other), mtu: scenario.direct_mtu.unwrap_or(link.mtu), ..link }
}
