//! The way of a packet: out through its site's boxes, across the internet, in through the other site's boxes.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use direc_core::Nat64Prefix;

use super::{Event, Hop, HostId, SiteId, Wire, World, wire};
use crate::{
    link::{Fate, Link, LinkConfig},
    nat::{NatDrop, Passage},
    packet::{HOPS, Packet},
    trace::DropCause,
};

/// Packets kept for playing again.
const RECENT: usize = 64;
/// The largest UDP payload there is.
const MAX_GARBAGE: u64 = 1600;

impl World {
    /// A host sends a packet.
    pub(super) fn send(&mut self, packet: Packet) {
        self.trace.sent(self.now, &packet);
        let host = &self.hosts[packet.from.0];
        let (site_id, cut_off) = (host.site, host.silent || host.away);
        if cut_off {
            return self.lose(DropCause::Silenced, packet);
        }
        let site = &mut self.sites[site_id.0];
        if let Some(&neighbour) = site.hosts.get(&packet.dst.ip()) {
            if site.isolates() && neighbour != packet.from {
                return self.lose(DropCause::Nat(NatDrop::Isolated), packet);
            }
            let at = self.now + site.lan;
            self.trace.tapped(self.now, &packet);
            self.put(at, Event::Packet(packet, Hop::Lan(neighbour)));
            return;
        }
        if self.no_udp.contains(&site_id) {
            return self.lose(DropCause::Silenced, packet);
        }
        if packet.dst.is_ipv4() != packet.src.is_ipv4() {
            return self.lose(DropCause::NoRoute, packet);
        }
        self.leave_site(site_id, packet);
    }

    /// A packet is inside a site and not for any of its hosts.
    fn leave_site(&mut self, site_id: SiteId, mut packet: Packet) {
        let site = &mut self.sites[site_id.0];
        if let Some(&home) = site.homes.get(&packet.dst.ip()) {
            let at = self.now + site.lan;
            self.put(at, Event::Packet(packet, Hop::Access(home)));
            return;
        }
        if let Some(firewall) = site.beside.as_mut().filter(|_| is_native(packet.dst.ip())) {
            if !packet.hop() {
                return self.lose(DropCause::Expired, packet);
            }
            if let Err(why) = firewall.outbound(self.now, packet.src, packet.dst) {
                return self.lose(DropCause::Nat(why), packet);
            }
            let fate = site.up.send(self.now, packet.ip_len());
            return self.carry(fate, packet, Hop::Core(site_id));
        }
        for layer in 0..site.boxes.len() {
            if !packet.hop() {
                return self.lose(DropCause::Expired, packet);
            }
            let nat = &mut site.boxes[layer];
            if packet.ip_len() > nat.config().mtu.into() {
                return self.lose(DropCause::TooBig, packet);
            }
            let nat64 = nat.config().is_nat64();
            if nat64 {
                let Some(dst) = extracted(packet.dst) else { return self.lose(DropCause::NoRoute, packet) };
                packet.dst = dst;
            }
            match nat.outbound(self.now, packet.src, packet.dst) {
                Ok(Passage::Out(src)) => packet.src = src,
                Ok(Passage::Back { src, dst }) => {
                    (packet.src, packet.dst) = (if nat64 { embedded(src) } else { src }, dst);
                    self.trace.tapped(self.now, &packet);
                    return self.enter(site_id, layer, packet);
                }
                Err(why) => return self.lose(DropCause::Nat(why), packet),
            }
        }
        let fate = site.up.send(self.now, packet.ip_len());
        self.carry(fate, packet, Hop::Core(site_id));
    }

    /// A packet has come to a hop.
    pub(super) fn forward(&mut self, mut packet: Packet, hop: Hop) {
        match hop {
            Hop::Core(from) => {
                // A carrier that shares its addresses has no part in those that need not be shared.
                if let Some(carrier) = self.sites[from.0].carrier.filter(|_| packet.dst.is_ipv4()) {
                    return self.cross_carrier(from, carrier, packet);
                }
                self.trace.tapped(self.now, &packet);
                if !packet.hop() {
                    return self.lose(DropCause::Expired, packet);
                }
                let Some(&to) = self.public.get(&packet.dst.ip()) else {
                    return self.lose(DropCause::NoRoute, packet);
                };
                if self.severed.contains(&(from, to)) || self.no_udp.contains(&to) {
                    return self.lose(DropCause::Silenced, packet);
                }
                let (seed, ends) = (self.seed, (self.top(from), self.top(to)));
                let perfect = || Link::new(LinkConfig::default(), wire(seed, Wire::Path(ends.0, ends.1)));
                let path = self.paths.entry(ends).or_insert_with(perfect);
                let fate = path.send(self.now, packet.ip_len());
                self.carry(fate, packet, Hop::Access(to));
            }
            Hop::Access(to) => {
                let fate = self.sites[to.0].down.send(self.now, packet.ip_len());
                self.carry(fate, packet, Hop::Door(to));
            }
            Hop::Door(to) => {
                let layers = self.sites[to.0].boxes.len();
                self.enter(to, layers, packet);
            }
            Hop::Lan(host) => self.arrive(host, packet),
        }
    }

    /// A packet from a home has come to the inside of its carrier.
    fn cross_carrier(&mut self, from: SiteId, carrier: SiteId, packet: Packet) {
        let site = &self.sites[carrier.0];
        let neighbour = site.homes.get(&packet.dst.ip()).copied();
        let host = site.hosts.get(&packet.dst.ip()).copied();
        if (neighbour.is_some() || host.is_some()) && site.isolates() {
            return self.lose(DropCause::Nat(NatDrop::Isolated), packet);
        }
        if neighbour.is_some_and(|to| self.severed.contains(&(from, to))) {
            return self.lose(DropCause::Silenced, packet);
        }
        if let Some(host) = host {
            let at = self.now + site.lan;
            self.put(at, Event::Packet(packet, Hop::Lan(host)));
        } else {
            self.leave_site(carrier, packet);
        }
    }

    /// A packet goes in through a site's innermost `layers` boxes.
    fn enter(&mut self, to: SiteId, layers: usize, mut packet: Packet) {
        let site = &mut self.sites[to.0];
        if let Some(firewall) = site.beside.as_mut().filter(|_| is_native(packet.dst.ip())) {
            if let Err(why) = firewall.inbound(self.now, packet.src, packet.dst) {
                return self.lose(DropCause::Nat(why), packet);
            }
            return match site.hosts.get(&packet.dst.ip()).copied() {
                Some(host) if packet.hop() => self.arrive(host, packet),
                Some(_) => self.lose(DropCause::Expired, packet),
                None => self.lose(DropCause::NoSocket, packet),
            };
        }
        for nat in site.boxes[..layers].iter_mut().rev() {
            if packet.ip_len() > nat.config().mtu.into() {
                return self.lose(DropCause::TooBig, packet);
            }
            match nat.inbound(self.now, packet.src, packet.dst) {
                Ok(dst) => packet.dst = dst,
                Err(why) => return self.lose(DropCause::Nat(why), packet),
            }
            if nat.config().is_nat64() {
                packet.src = embedded(packet.src);
            }
            if !packet.hop() {
                return self.lose(DropCause::Expired, packet);
            }
        }
        if let Some(&home) = site.homes.get(&packet.dst.ip()) {
            let at = self.now + site.lan;
            self.put(at, Event::Packet(packet, Hop::Access(home)));
            return;
        }
        match site.hosts.get(&packet.dst.ip()).copied() {
            // Out and back again takes the time of the local wire, so that time goes on.
            Some(host) if layers < site.boxes.len() => {
                let at = self.now + site.lan;
                self.put(at, Event::Packet(packet, Hop::Lan(host)));
            }
            Some(host) => self.arrive(host, packet),
            None => self.lose(DropCause::NoSocket, packet),
        }
    }

    fn carry(&mut self, fate: Fate, mut packet: Packet, next: Hop) {
        let (at, again, corrupt) = match fate {
            Fate::Arrives { at, again, corrupt } => (at, again, corrupt),
            Fate::Lost => return self.lose(DropCause::Loss, packet),
            Fate::QueueFull => return self.lose(DropCause::QueueFull, packet),
            Fate::TooBig => return self.lose(DropCause::TooBig, packet),
        };
        if let Some(again) = again {
            self.put(again, Event::Packet(packet.clone(), next));
        }
        if corrupt {
            let data = packet.data.to_vec();
            packet.data = self.mangle(data).as_slice().into();
        }
        // A wire that takes no time needs no event: unless others are due now, who were here first.
        if at == self.now && again.is_none() && !self.busy() {
            self.forward(packet, next);
        } else {
            self.put(at, Event::Packet(packet, next));
        }
    }

    fn arrive(&mut self, id: HostId, packet: Packet) {
        let host = &mut self.hosts[id.0];
        if host.silent || host.away || host.stopped {
            return self.lose(DropCause::Silenced, packet);
        }
        // It may have moved on while the packet was on its cable.
        if host.address != packet.dst.ip() && host.second != Some(packet.dst.ip()) {
            return self.lose(DropCause::NoSocket, packet);
        }
        let Some(&link) = host.sockets.get(&packet.dst.port()) else {
            return self.lose(DropCause::NoSocket, packet);
        };
        self.trace.arrived(self.now, id, &packet);
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(packet.clone());
        self.hand_over(id, link, packet);
    }

    fn lose(&mut self, cause: DropCause, packet: Packet) {
        let owner = |site: SiteId| {
            let hosts = &self.sites[site.0].hosts;
            hosts.get(&packet.dst.ip()).or_else(|| hosts.values().next()).copied()
        };
        let own = self.sites[self.hosts[packet.from.0].site.0].hosts.get(&packet.dst.ip()).copied();
        let towards = own.or_else(|| self.public.get(&packet.dst.ip()).copied().and_then(owner));
        self.trace.dropped(self.now, cause, towards, &packet);
    }

    /// Changes bytes as somebody on the path could: flips bits, cuts off, or appends.
    fn mangle(&mut self, mut data: Vec<u8>) -> Vec<u8> {
        let rng = &mut self.garbage;
        let len = data.len() as u64;
        match rng.below(4) {
            0 => data.truncate(usize::try_from(rng.below(len + 1)).unwrap_or(0)),
            1 => data.extend_from_slice(&rng.key()),
            _ => {
                for _ in 0..=rng.below(3) {
                    let (at, bit) = (usize::try_from(rng.below(len)).unwrap_or(0), rng.below(8));
                    if let Some(byte) = data.get_mut(at) {
                        *byte ^= 1 << bit;
                    }
                }
            }
        }
        data
    }

    /// Throws hostile datagrams at a host, `gap` apart: random bytes, and recent packets, whole or mangled, from where
    /// they came or from a stranger.
    pub fn pester(&mut self, host: HostId, count: u32, gap: Duration) {
        for n in 0..count {
            let rng = &mut self.garbage;
            let ports: Vec<u16> = self.hosts[host.0].sockets.keys().copied().collect();
            let port = ports.get(rng.below(ports.len() as u64) as usize).copied().unwrap_or(0);
            let stranger: SocketAddr = ([203, 0, 113, rng.below(256) as u8], 1 + rng.below(60_000) as u16).into();
            let replay = rng.below(2) == 0 && !self.recent.is_empty();
            let (src, data) = if replay {
                let old = &self.recent[rng.below(self.recent.len() as u64) as usize];
                let src = if rng.below(2) == 0 { old.src } else { stranger };
                let (data, whole) = (old.data.to_vec(), rng.below(2) == 0);
                (src, if whole { data } else { self.mangle(data) })
            } else {
                let mut data = vec![0; rng.below(MAX_GARBAGE) as usize];
                rng.fill(&mut data);
                // The first byte decides where a datagram goes: the low ones are the protocol's own.
                if let Some(first) = data.first_mut()
                    && rng.below(2) == 0
                {
                    *first = rng.below(16) as u8;
                }
                (stranger, data)
            };
            let dst = SocketAddr::new(self.hosts[host.0].address, port);
            let data = data.as_slice().into();
            let packet = Packet { id: u64::MAX, from: host, src, dst, ecn: None, hops: HOPS, data };
            let at = self.now + gap * n;
            self.put(at, Event::Packet(packet, Hop::Lan(host)));
        }
    }
}

/// Where a NAT64's inside has an IPv4 endpoint.
pub(crate) fn embedded(endpoint: SocketAddr) -> SocketAddr {
    match endpoint.ip() {
        IpAddr::V4(ip) => SocketAddr::new(Nat64Prefix::WELL_KNOWN.embed(ip).into(), endpoint.port()),
        IpAddr::V6(_) => endpoint,
    }
}

/// Whether it is IPv6, and of the internet.
pub(super) fn is_native(ip: IpAddr) -> bool {
    ip.is_ipv6() && extracted(SocketAddr::new(ip, 0)).is_none()
}

/// The IPv4 endpoint that a NAT64's inside has there.
fn extracted(endpoint: SocketAddr) -> Option<SocketAddr> {
    let IpAddr::V6(ip) = endpoint.ip() else { return None };
    Some(SocketAddr::new(Nat64Prefix::WELL_KNOWN.extract(ip)?.into(), endpoint.port()))
}
