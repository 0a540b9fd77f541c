//! What befalls hosts, sites and the ways between them.

use super::{HostId, SiteId, World};
use crate::{nat::Nat, node::Node};

impl World {
    /// From now on a host neither sends nor gets anything (or does again): a cable pulled.
    pub fn silence(&mut self, host: HostId, silent: bool) {
        self.hosts[host.0].silent = silent;
    }

    /// A host's process stands still: it is not woken and hears nothing, not even later, of what comes meanwhile. When
    /// it goes on, what has become due is done at once.
    pub fn stop(&mut self, host: HostId, stopped: bool) {
        self.hosts[host.0].stopped = stopped;
        if stopped {
            self.unschedule(host);
        } else {
            self.drain(host);
        }
    }

    /// Another process takes the place of a host's, which knows nothing of what the old one knew.
    pub fn replace(&mut self, host: HostId, node: Box<dyn Node>) {
        self.unschedule(host);
        let place = &mut self.hosts[host.0];
        (place.node, place.spins, place.stopped) = (node, 0, false);
        self.break_tunnels(host);
        self.tell_addresses(host);
    }

    /// A host leaves its site, and has no network until it [settles](Self::settle).
    pub fn leave(&mut self, host: HostId) {
        if std::mem::replace(&mut self.hosts[host.0].away, true) {
            return;
        }
        let (site, address) = (self.hosts[host.0].site, self.hosts[host.0].address);
        self.sites[site.0].dismiss(address);
        self.publish(site);
    }

    /// A host that has left a site gets its place and its address in this one, and its node is told.
    pub fn settle(&mut self, host: HostId, site: SiteId) {
        if !self.hosts[host.0].away {
            return;
        }
        let address = self.sites[site.0].adopt(host);
        let second = self.sites[site.0].second(address);
        self.publish(site);
        let place = &mut self.hosts[host.0];
        (place.site, place.address, place.second, place.away) = (site, address, second, false);
        self.tell_addresses(host);
    }

    /// From now on nothing gets from one site to another, either way (or does again).
    pub fn sever(&mut self, one: SiteId, other: SiteId, severed: bool) {
        self.sever_way(one, other, severed);
        self.sever_way(other, one, severed);
    }

    /// From now on nothing gets from one site to another, while the way back is as it was (or it does again).
    pub fn sever_way(&mut self, from: SiteId, to: SiteId, severed: bool) {
        // Behind one carrier they meet before they have left it; else it is their carriers' ways that are severed.
        for way in [(from, to), (self.top(from), self.top(to))] {
            if severed && way.0 != way.1 {
                self.severed.insert(way);
            } else {
                self.severed.remove(&way);
            }
        }
    }

    /// From now on no UDP gets into or out of a site (or does again).
    pub fn block_udp(&mut self, site: SiteId, blocked: bool) {
        if blocked {
            self.no_udp.insert(site);
        } else {
            self.no_udp.remove(&site);
        }
    }

    /// From now on no packet is lost, doubled, changed or held back by chance.
    pub fn calm(&mut self) {
        let sites = self.sites.iter_mut().flat_map(|site| [&mut site.up, &mut site.down]);
        for link in self.paths.values_mut().chain(sites) {
            let config = &mut link.config;
            (config.loss, config.duplicate, config.reorder, config.corrupt) = (0.0, 0.0, 0.0, 0.0);
        }
    }

    /// All NATs and firewalls of a site, and of its carrier, forget what they knew.
    pub fn reboot(&mut self, site: SiteId) {
        let mut next = Some(site);
        while let Some(site) = next {
            let site = &mut self.sites[site.0];
            site.boxes.iter_mut().chain(&mut site.beside).for_each(Nat::reboot);
            next = site.carrier;
        }
    }

    /// A site gets other public addresses, and nobody is told: its outermost NAT does, its carrier's if it has one, or each host that has its own.
    pub fn readdress(&mut self, site: SiteId) {
        let site = self.top(site);
        self.sites[site.0].readdress();
        self.publish(site);
        for (&address, &host) in &self.sites[site.0].hosts {
            let host = &mut self.hosts[host.0];
            if host.second != Some(address) {
                host.address = address;
            }
        }
    }

    /// The internet learns which addresses are at a site, and forgets those that were.
    fn publish(&mut self, site: SiteId) {
        self.public.retain(|_, there| *there != site);
        self.public.extend(self.sites[site.0].public.iter().map(|&address| (address, site)));
    }
}
