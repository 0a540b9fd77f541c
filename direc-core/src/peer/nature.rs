//! What stands between this peer and the world, in the terms of RFC 4787: concluded from where relays see it, port by
//! port, and from what became of a [knock](super::knock).
//!
//! One socket sends to a relay's QUIC port and to its hole-punch ports, and the relay says which address each has seen.
//! The same at all: mapping is endpoint-independent, as far as one host's ports can show; a second relay shows the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use super::knock::Finding;
use crate::wire::datagram::Cookie;

/// Ports that a NAT gives out one after the other lie no further apart than this, others' flows between them included.
const LONGEST_STEP: i32 = 64;

/// What a NAT's mapping depends on (RFC 4787, section 4.1), as far as it has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mapping {
    /// The outside makes no difference. With relays at one IP address only, address dependence is not ruled out: see
    /// [`Nature::across_hosts`].
    EndpointIndependent,
    /// Another IP address outside is another mapping.
    AddressDependent,
    /// Another port outside is another mapping as well.
    AddressAndPortDependent,
}

/// How a NAT picks the external ports of mappings (RFC 4787, section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortAssignment {
    /// The internal port is kept.
    Preserved,
    /// Each new mapping has a port that lies this far from the last one's: the smallest distance seen, never 0.
    Sequential {
        /// The distance, negative if ports count down.
        step: i32,
    },
    /// Neither.
    Other,
}

/// Whose packets get in (RFC 4787, section 5), as far as a knock can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filtering {
    /// A packet from a port that nothing had been sent to came in: filtering is endpoint-independent or
    /// address-dependent.
    IgnoresPorts,
    /// It did not: address- and port-dependent filtering.
    AddressAndPortDependent,
}

/// Where a relay has seen this peer's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The relay's QUIC address: which relay it is.
    pub relay: SocketAddr,
    /// The number of the hole-punch port; `None` for the QUIC port, to which packets go first.
    pub punch_port: Option<u8>,
    /// This peer's address there.
    pub address: SocketAddr,
    /// When it was first seen at this address there.
    pub first: Instant,
    /// When it was last seen there.
    pub last: Instant,
}

/// What stands between a peer and the world, as far as is known yet. Of IPv4, if a relay is reached by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Nature {
    /// Whether addresses are translated at all. `false`: this machine has the address that relays see.
    pub translated: Option<bool>,
    /// What mappings depend on.
    pub mapping: Option<Mapping>,
    /// Whether relays at different IP addresses have been compared.
    pub across_hosts: bool,
    /// How external ports are picked.
    pub ports: Option<PortAssignment>,
    /// Whose packets get in.
    pub filtering: Option<Filtering>,
    /// Whether a packet that comes too early spoils the mapping of the answer to it: the inbound-first clash. Only where
    /// a relay sees one address at all its ports can that be told.
    pub clash_prone: Option<bool>,
    /// Every address seen: relays in the order of the settings, ports in the order of sending.
    pub sightings: Vec<Sighting>,
}

impl Nature {
    /// Whether each host outside sees another port, and not each port of it, if relays at two hosts have been compared.
    pub(super) fn by_address(&self) -> Option<bool> {
        match self.mapping? {
            Mapping::AddressDependent => Some(true),
            Mapping::EndpointIndependent => self.across_hosts.then_some(false),
            Mapping::AddressAndPortDependent => None,
        }
    }

    /// What it says, without where and when that was seen.
    fn conclusions(&self) -> impl PartialEq + use<> {
        (self.translated, self.mapping, self.across_hosts, self.ports, self.filtering, self.clash_prone)
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EndpointIndependent => "endpoint-independent mapping",
            Self::AddressDependent => "address-dependent mapping",
            Self::AddressAndPortDependent => "address- and port-dependent mapping",
        })
    }
}

impl fmt::Display for PortAssignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preserved => f.write_str("ports preserved"),
            Self::Sequential { step } => write!(f, "ports in sequence, {step:+} apart"),
            Self::Other => f.write_str("ports of its own choice"),
        }
    }
}

impl fmt::Display for Filtering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IgnoresPorts => "filtering that ignores ports",
            Self::AddressAndPortDependent => "address- and port-dependent filtering",
        })
    }
}

/// The conclusions, in RFC 4787's words.
impl fmt::Display for Nature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let translated = self.translated.map(|translated| if translated { "a NAT" } else { "no NAT" });
        let clash = self.clash_prone.filter(|&clash| clash).map(|_| "early packets clash");
        let own = [
            translated.map(str::to_owned),
            self.mapping.map(|mapping| mapping.to_string()),
            self.ports.map(|ports| ports.to_string()),
            self.filtering.map(|filtering| filtering.to_string()),
            clash.map(str::to_owned),
        ];
        let known: Vec<String> = own.into_iter().flatten().collect();
        f.write_str(if known.is_empty() { "nothing known yet" } else { "" })?;
        f.write_str(&known.join(", "))
    }
}

/// What is known by one relay.
struct Seen {
    relay: SocketAddr,
    /// By the hole-punch port, `None` for QUIC's: in the order of sending.
    places: BTreeMap<Option<u8>, Sighting>,
    /// The control connection goes by a tunnel: what the relay sees of it is a TCP connection's address, which says which
    /// host this is and nothing of how UDP is mapped.
    tunnelled: bool,
    /// The last cookie, and the hole-punch ports that have had it. An address from before a NAT has forgotten must not be
    /// compared with one from after it.
    run: (Cookie, BTreeSet<u8>),
    /// How many hole-punch ports there are.
    ports: usize,
    finding: Option<Finding>,
    /// Conclusions from the last run that was whole.
    same: Option<bool>,
    step: Option<i32>,
}

impl Seen {
    fn new(relay: SocketAddr) -> Self {
        let (places, run) = (BTreeMap::new(), (Cookie::default(), BTreeSet::new()));
        Self { relay, places, tunnelled: false, run, ports: 0, finding: None, same: None, step: None }
    }

    fn see(&mut self, now: Instant, punch_port: Option<u8>, address: SocketAddr) {
        let new = Sighting { relay: self.relay, punch_port, address, first: now, last: now };
        let entry = self.places.entry(punch_port).or_insert(new);
        *entry = if entry.address == address { Sighting { last: now, ..*entry } } else { new };
    }

    /// Where the relay has seen the UDP socket.
    fn sightings(&self) -> impl Iterator<Item = &Sighting> {
        self.places.values().filter(|sighting| !self.tunnelled || sighting.punch_port.is_some())
    }

    /// Compares the addresses of one run, if all of them are there.
    fn conclude(&mut self) {
        if self.run.1.len() < self.ports.max(1) {
            return;
        }
        let addresses: Vec<SocketAddr> = self.sightings().map(|sighting| sighting.address).collect();
        self.same = (addresses.len() > 1).then(|| addresses.windows(2).all(|pair| pair[0] == pair[1]));
        self.step = step(&addresses);
    }

    /// The address that all ports see.
    fn one_address(&self) -> Option<SocketAddr> {
        self.sightings().next().filter(|_| self.same == Some(true)).map(|sighting| sighting.address)
    }

    fn clash_prone(&self) -> Option<bool> {
        match self.finding? {
            Finding::LetIn => Some(false),
            Finding::KeptOut(there) => Some(there? != self.one_address()?),
        }
    }
}

/// The distance of ports that are given out one after the other: all in one direction, and close together.
fn step(addresses: &[SocketAddr]) -> Option<i32> {
    let steps: Vec<i32> =
        addresses.windows(2).map(|pair| i32::from(pair[1].port()) - i32::from(pair[0].port())).collect();
    let near = |step: &i32| (1..=LONGEST_STEP).contains(&step.abs()) && step.signum() == steps[0].signum();
    if steps.len() < 2 || !steps.iter().all(near) {
        return None;
    }
    steps.iter().copied().min_by_key(|step| step.abs())
}

/// All that has been seen, and what it comes to.
pub(super) struct Evidence {
    /// One for each relay, in the order of the settings.
    relays: Vec<Seen>,
    /// Where this peer's socket is on its machine's own networks.
    local: Vec<SocketAddr>,
    told: Nature,
}

impl Evidence {
    pub(super) fn new(relays: &[SocketAddr]) -> Self {
        let relays = relays.iter().map(|&relay| Seen::new(relay)).collect();
        Self { relays, local: Vec::new(), told: Nature::default() }
    }

    /// Another network: nothing counts any more. A relay that sees us elsewhere at its QUIC port will say so.
    pub(super) fn forget(&mut self) {
        for seen in &mut self.relays {
            let quic = seen.places.remove(&None).map(|sighting| (None, sighting));
            let (places, tunnelled) = (quic.into_iter().collect(), seen.tunnelled);
            *seen = Seen { ports: seen.ports, places, tunnelled, ..Seen::new(seen.relay) };
        }
    }

    /// A relay is at another address: what the one before has seen says nothing of it.
    pub(super) fn on_relay_moved(&mut self, relay: usize, address: SocketAddr) {
        if let Some(seen) = self.relays.get_mut(relay) {
            *seen = Seen::new(address);
        }
    }

    pub(super) fn set_local(&mut self, local: &[SocketAddr]) {
        self.local = local.to_vec();
    }

    /// Where this peer's socket is on its machine's own networks.
    pub(super) fn local(&self) -> &[SocketAddr] {
        &self.local
    }

    /// A relay has registered this peer: it has so many hole-punch ports, and is about to say where it sees the rest.
    pub(super) fn on_registered(&mut self, relay: usize, ports: usize) {
        let Some(seen) = self.relays.get_mut(relay) else { return };
        (seen.ports, seen.run.1) = (ports, BTreeSet::new());
        seen.places.remove(&None);
    }

    /// The relay's QUIC port sees this peer there, or its HTTPS port if the control connection goes by a tunnel; gives
    /// where that was before.
    pub(super) fn on_seen(
        &mut self,
        now: Instant,
        relay: usize,
        address: SocketAddr,
        tunnelled: bool,
    ) -> Option<SocketAddr> {
        let seen = self.relays.get_mut(relay)?;
        let before = seen.places.get(&None).map(|sighting| sighting.address);
        seen.tunnelled = tunnelled;
        seen.see(now, None, address);
        before
    }

    /// A hole-punch port sees this peer there.
    pub(super) fn on_observed(&mut self, now: Instant, relay: usize, cookie: Cookie, port: u8, address: SocketAddr) {
        let Some(seen) = self.relays.get_mut(relay).filter(|seen| usize::from(port) < seen.ports) else { return };
        if seen.run.0 != cookie {
            seen.run = (cookie, BTreeSet::new());
        }
        seen.run.1.insert(port);
        seen.see(now, Some(port), address);
        seen.conclude();
    }

    /// What a knock has shown. That it did not get in may have been a loss; that it did, or clashed, was none.
    pub(super) fn on_finding(&mut self, relay: usize, finding: Finding) {
        let Some(seen) = self.relays.get_mut(relay) else { return };
        if finding == Finding::LetIn || seen.clash_prone() != Some(true) {
            seen.finding = Some(finding);
        }
    }

    /// Where this peer is to the outside, by this relay's word.
    pub(super) fn host(&self, relay: usize) -> Option<IpAddr> {
        self.relays.get(relay)?.places.values().next().map(|sighting| sighting.address.ip())
    }

    /// What is known now, if there is enough to conclude from, and it comes to something else than was told last.
    pub(super) fn news(&mut self) -> Option<Nature> {
        let nature = self.nature();
        let new = nature.mapping.is_some() && nature.conclusions() != self.told.conclusions();
        new.then(|| {
            self.told.clone_from(&nature);
            nature
        })
    }

    /// What is known now.
    pub(super) fn nature(&self) -> Nature {
        let v4 = self.relays.iter().any(|seen| seen.relay.is_ipv4() && !seen.places.is_empty());
        let relays: Vec<&Seen> = self.relays.iter().filter(|seen| seen.relay.is_ipv4() == v4).collect();
        let (mapping, across_hosts) = mapping(&relays);
        Nature {
            translated: self.translated(&relays),
            mapping,
            across_hosts,
            ports: self.ports(&relays, mapping),
            filtering: relays.iter().find_map(|seen| match seen.finding? {
                Finding::LetIn => Some(Filtering::IgnoresPorts),
                Finding::KeptOut(_) => Some(Filtering::AddressAndPortDependent),
            }),
            clash_prone: relays.iter().filter_map(|seen| seen.clash_prone()).max(),
            sightings: self.relays.iter().flat_map(|seen| seen.sightings().copied()).collect(),
        }
    }

    fn translated(&self, relays: &[&Seen]) -> Option<bool> {
        let mut addresses = relays.iter().flat_map(|seen| seen.sightings()).map(|sighting| sighting.address);
        let first = addresses.next().filter(|_| !self.local.is_empty())?;
        Some(!std::iter::once(first).chain(addresses).all(|address| self.local.contains(&address)))
    }

    fn ports(&self, relays: &[&Seen], mapping: Option<Mapping>) -> Option<PortAssignment> {
        let mapping = mapping?;
        let kept = |sighting: &Sighting| self.local.iter().any(|local| local.port() == sighting.address.port());
        let kept = relays.iter().flat_map(|seen| seen.sightings()).all(kept);
        let steps = || relays.iter().find_map(|seen| seen.step);
        match mapping {
            _ if self.local.is_empty() => None,
            _ if kept => Some(PortAssignment::Preserved),
            Mapping::AddressAndPortDependent => {
                Some(steps().map_or(PortAssignment::Other, |step| PortAssignment::Sequential { step }))
            }
            Mapping::EndpointIndependent | Mapping::AddressDependent => Some(PortAssignment::Other),
        }
    }
}

/// What mappings depend on, and whether relays at several hosts have been compared.
fn mapping(relays: &[&Seen]) -> (Option<Mapping>, bool) {
    if relays.iter().any(|seen| seen.same == Some(false)) {
        return (Some(Mapping::AddressAndPortDependent), false);
    }
    let alike: Vec<(IpAddr, SocketAddr)> =
        relays.iter().filter_map(|seen| Some((seen.relay.ip(), seen.one_address()?))).collect();
    let Some(&(host, first)) = alike.first() else { return (None, false) };
    let across = alike.iter().any(|(other, _)| *other != host);
    let same = alike.iter().all(|(_, address)| *address == first);
    (Some(if same { Mapping::EndpointIndependent } else { Mapping::AddressDependent }), across)
}

#[cfg(test)]
mod tests;
