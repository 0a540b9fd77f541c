//! A place with one connection to the internet: a home, an office, a data centre.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use crate::{
    link::{Link, LinkConfig},
    nat::{Nat, NatConfig},
    rng::Rng,
    world::{HostId, SiteId},
};

/// What a site looks like.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteConfig {
    /// Its name, for people.
    pub name: String,
    /// NATs and firewalls between its hosts and the internet, innermost first.
    pub boxes: Vec<NatConfig>,
    /// The access link towards the internet.
    pub up: LinkConfig,
    /// The access link from the internet.
    pub down: LinkConfig,
    /// One-way delay between two hosts within the site.
    pub lan: Duration,
    /// Whether its hosts speak IPv6 instead of IPv4.
    pub v6: bool,
    /// The site whose inside it is connected to, instead of the internet: a carrier's, whose boxes come after its own. Its
    /// outermost box must translate.
    pub carrier: Option<SiteId>,
}

impl SiteConfig {
    /// A site behind these boxes, on a perfect access link.
    pub fn new(name: &str, boxes: Vec<NatConfig>) -> Self {
        Self {
            name: name.to_owned(),
            boxes,
            up: LinkConfig::default(),
            down: LinkConfig::default(),
            lan: Duration::from_micros(200),
            v6: false,
            carrier: None,
        }
    }
}

/// A site at work.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) boxes: Vec<Nat>,
    /// The firewall between its hosts' IPv6 addresses and the internet, where they have such beside their others.
    pub(crate) beside: Option<Nat>,
    pub(crate) up: Link,
    pub(crate) down: Link,
    pub(crate) lan: Duration,
    pub(crate) hosts: BTreeMap<IpAddr, HostId>,
    /// The sites that are connected to its inside, by their addresses there.
    pub(crate) homes: BTreeMap<IpAddr, SiteId>,
    /// The site whose inside it is connected to.
    pub(crate) carrier: Option<SiteId>,
    /// The internet's view: these addresses are here.
    pub(crate) public: Vec<IpAddr>,
    /// Addresses of hosts that are here or have been: who comes back gets the old one again.
    leases: BTreeMap<HostId, IpAddr>,
    /// Public addresses that came after the first.
    readdressed: u8,
    index: u16,
    v6: bool,
    translated: bool,
    /// Hosts behind a NAT64 have IPv6 addresses, by which nobody else reaches them.
    nat64: bool,
}

impl Site {
    /// What its two access links leave to chance, and `rng` for each box its own stream. `behind` gives addresses inside
    /// the carrier, where there is one.
    pub(crate) fn new(
        index: u16,
        config: &SiteConfig,
        [up, down]: [Rng; 2],
        mut behind: impl FnMut() -> Option<IpAddr>,
        mut rng: impl FnMut() -> Rng,
    ) -> Self {
        // The outermost NAT has the public address, each one further in an address of the carrier's (RFC 6598).
        let mut public: Vec<IpAddr> = Vec::new();
        let mut boxes: Vec<Nat> = Vec::new();
        for (layer, config) in (0_u8..).zip(config.boxes.iter().rev()) {
            let outermost = public.is_empty();
            let address = |n| match outermost {
                true => behind().unwrap_or_else(|| public_address(index, n, false)),
                false => carrier_address(index, layer, n),
            };
            let externals: Vec<IpAddr> = (1..=Nat::addresses(config)).map(address).collect();
            if outermost {
                public.clone_from(&externals);
            }
            boxes.push(Nat::new(*config, externals, rng()));
        }
        boxes.reverse();
        let firewall = config.boxes.first().and_then(NatConfig::firewall_beside);
        let beside = firewall.map(|firewall| Nat::new(firewall, Vec::new(), rng()));
        let translated = !public.is_empty();
        if config.carrier.is_some() {
            public.clear();
        }
        Self {
            boxes,
            beside,
            up: Link::new(config.up, up),
            down: Link::new(config.down, down),
            lan: config.lan,
            hosts: BTreeMap::new(),
            homes: BTreeMap::new(),
            carrier: config.carrier,
            public,
            leases: BTreeMap::new(),
            readdressed: 0,
            index,
            v6: config.v6 && !translated,
            translated,
            nat64: config.boxes.first().is_some_and(NatConfig::is_nat64),
        }
    }

    /// The address the next host gets: a private one behind a NAT, else a public one.
    pub(crate) fn next_address(&self) -> IpAddr {
        let number = u8::try_from(self.leases.len()).unwrap_or(u8::MAX).saturating_add(10);
        if self.nat64 {
            public_address(self.index, number, true)
        } else if self.translated {
            let [_, site] = self.index.to_be_bytes();
            IpAddr::V4(Ipv4Addr::new(192, 168, site, number))
        } else {
            public_address(self.index, number, self.v6)
        }
    }

    /// Gives a host its address: the one it had, if it has been here before.
    pub(crate) fn adopt(&mut self, host: HostId) -> IpAddr {
        let address = self.leases.get(&host).copied().unwrap_or_else(|| self.next_address());
        if !self.translated {
            self.public.push(address);
        }
        self.leases.insert(host, address);
        self.hosts.insert(address, host);
        if let Some(second) = self.second(address) {
            self.public.push(second);
            self.hosts.insert(second, host);
        }
        address
    }

    /// The IPv6 address that the host at `address` has as well; a NAT64's host has no other.
    pub(crate) fn second(&self, address: IpAddr) -> Option<IpAddr> {
        self.beside.as_ref()?;
        Some(match address {
            IpAddr::V4(ip) => public_address(self.index, ip.octets()[3], true),
            IpAddr::V6(_) => address,
        })
    }

    /// Connects another site to the inside: the address it gets there.
    pub(crate) fn connect(&mut self, home: SiteId) -> IpAddr {
        let number = u8::try_from(self.homes.len()).unwrap_or(u8::MAX);
        let address = carrier_address(self.index, 63, number.saturating_add(1));
        self.homes.insert(address, home);
        address
    }

    /// Whether its hosts cannot reach each other directly.
    pub(crate) fn isolates(&self) -> bool {
        self.boxes.first().is_some_and(|nat| nat.config().isolates)
    }

    /// A host leaves, and its address with it.
    pub(crate) fn dismiss(&mut self, address: IpAddr) {
        self.hosts.remove(&address);
        if let Some(second) = self.second(address) {
            self.hosts.remove(&second);
            self.public.retain(|public| *public != second);
        }
        if !self.translated {
            self.public.retain(|public| *public != address);
        }
    }

    /// All public addresses become others. What the boxes knew of the old ones is gone.
    pub(crate) fn readdress(&mut self) {
        let outermost = self.boxes.iter().rposition(|nat| !nat.externals().is_empty());
        if let Some(nat) = outermost.and_then(|at| self.boxes.get_mut(at)) {
            self.public.retain(IpAddr::is_ipv6);
            for _ in nat.externals() {
                self.public.push(public_address(self.index, 128 | self.readdressed, false));
                self.readdressed = (self.readdressed + 1) & 127;
            }
            nat.readdress(self.public.iter().copied().filter(IpAddr::is_ipv4).collect());
            return;
        }
        self.public.clear();
        for (_, host) in std::mem::take(&mut self.hosts) {
            let address = public_address(self.index, 128 | self.readdressed, self.v6);
            self.readdressed = (self.readdressed + 1) & 127;
            self.public.push(address);
            self.leases.insert(host, address);
            self.hosts.insert(address, host);
        }
        self.boxes.iter_mut().for_each(Nat::reboot);
    }
}

fn public_address(site: u16, host: u8, v6: bool) -> IpAddr {
    if v6 {
        // RFC 3849: addresses for documentation.
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, site, 0, 0, 0, 0, host.into()))
    } else {
        // RFC 2544: addresses for benchmarks, and in no other range that a node might treat differently.
        let [high, low] = site.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(198, 18 + (high & 1), low, host))
    }
}

fn carrier_address(site: u16, layer: u8, host: u8) -> IpAddr {
    let [_, low] = site.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(100, 64 + (layer & 63), low, 1 + host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{nat::stack, rng::Purpose};

    fn site(boxes: &str, v6: bool) -> (Site, IpAddr) {
        let config = SiteConfig { v6, ..SiteConfig::new("x", stack(boxes).unwrap()) };
        let wires = [2, 3].map(|seed| Rng::new(seed, Purpose::Network));
        let mut site = Site::new(3, &config, wires, || None, || Rng::new(1, Purpose::Nat));
        let address = site.adopt(HostId(0));
        (site, address)
    }

    #[test]
    fn hosts_behind_a_nat_have_private_addresses_and_share_a_public_one() {
        let (site, address) = site("easy", false);
        assert_eq!(address.to_string(), "192.168.3.10");
        assert_eq!(site.public, [site.boxes[0].externals()[0]]);
    }

    #[test]
    fn behind_a_carrier_the_home_router_has_no_public_address() {
        let (site, _) = site("double", false);
        assert_eq!(site.boxes[0].externals()[0].to_string(), "100.65.3.2");
        assert_eq!(site.boxes[1].externals(), site.public);
    }

    #[test]
    fn another_public_address_is_another_one_each_time() {
        for boxes in ["easy", "double", "fw", "none"] {
            let (mut site, _) = site(boxes, false);
            let mut seen = site.public.clone();
            for _ in 0..3 {
                site.readdress();
                assert_eq!(site.public.len(), 1, "{boxes}");
                assert!(!seen.contains(&site.public[0]), "{boxes}");
                seen.extend(&site.public);
            }
        }
    }

    #[test]
    fn who_comes_back_gets_the_old_address() {
        let (mut site, address) = site("easy", false);
        site.dismiss(address);
        assert_ne!(site.adopt(HostId(1)), address);
        assert_eq!(site.adopt(HostId(0)), address);
    }

    #[test]
    fn without_a_nat_each_host_is_public() {
        let (site, address) = site("fw", false);
        assert_eq!(site.public, [address]);
        let (_, address) = self::site("none", true);
        assert!(address.is_ipv6());
    }
}
