//! The world: sites, hosts and wires in virtual time, and the one queue of events that drives them all.
//!
//! Time jumps from event to event. Events of one instant happen in the order in which they were put into the queue, so
//! a run depends on nothing but its seed and its set-up.

mod driver;
mod mishaps;
mod route;
#[cfg(test)]
mod tests;
mod tunnel;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use direc_core::{Link as SocketLink, Relay, WakeReason};

use crate::{
    app::PeerHost,
    link::{Link, LinkConfig},
    node::{Epoch, Node, Raw},
    packet::{HOPS, Packet},
    rng::{Purpose, Rng},
    site::{Site, SiteConfig},
    trace::{Keep, Note, Trace},
};
pub(crate) use route::embedded;
use tunnel::{Tunnel, TunnelEvent};

/// A site's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SiteId(pub usize);

/// A host's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostId(pub usize);

/// A node kept waking without time going on: a bug in it, and the end of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Which host.
    pub host: HostId,
    /// When.
    pub at: Duration,
    /// What it said it was waking for; `None` if it never stopped sending or telling.
    pub why: Option<WakeReason>,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, at, why } = self;
        write!(f, "host {} is busy without end at {at:?} (wakes for {why:?})", host.0)
    }
}

pub(crate) struct Host {
    name: String,
    site: SiteId,
    address: IpAddr,
    /// Its IPv6 address, if it has both families.
    second: Option<IpAddr>,
    sockets: BTreeMap<u16, SocketLink>,
    node: Box<dyn Node>,
    /// Its place in the queue, if it is to be woken.
    wake: Option<((Duration, u64), WakeReason)>,
    /// Wake-ups without time going on.
    spins: u32,
    /// Its cable is pulled.
    silent: bool,
    /// It has left its site and has no network.
    away: bool,
    /// Its process stands still: no timers, no packets.
    stopped: bool,
}

enum Event {
    /// A packet has come to this hop.
    Packet(Packet, Hop),
    /// A host asked to be woken.
    Wake(HostId),
    /// Something about a tunnel, in its life of this number.
    Tunnel(usize, u64, TunnelEvent),
}

#[derive(Clone, Copy)]
enum Hop {
    /// The internet's end of the sender's access link.
    Core(SiteId),
    /// The internet's end of the receiver's access link.
    Access(SiteId),
    /// The receiver's outermost box.
    Door(SiteId),
    /// The host's own cable.
    Lan(HostId),
}

/// One direction of a wire.
enum Wire {
    /// Through the internet, from one site to another.
    Path(SiteId, SiteId),
    /// Out of a site.
    Up(SiteId),
    /// Into a site.
    Down(SiteId),
    /// All tunnels: their segments.
    Tunnels,
}

/// The chance of one wire in the world of this seed.
fn wire(seed: u64, which: Wire) -> Rng {
    // As many sites as have addresses.
    let number = |site: SiteId| u16::try_from(site.0).unwrap_or(u16::MAX);
    Rng::wire(
        seed,
        match which {
            Wire::Path(from, to) => [0, number(from), number(to)],
            Wire::Up(site) => [1, number(site), 0],
            Wire::Down(site) => [2, number(site), 0],
            Wire::Tunnels => [3, 0, 0],
        },
    )
}

/// Everything there is.
pub struct World {
    epoch: Epoch,
    now: Duration,
    queue: BTreeMap<(Duration, u64), Event>,
    next: u64,
    hosts: Vec<Host>,
    sites: Vec<Site>,
    names: Vec<String>,
    public: BTreeMap<IpAddr, SiteId>,
    paths: BTreeMap<(SiteId, SiteId), Link>,
    severed: BTreeSet<(SiteId, SiteId)>,
    seed: u64,
    /// Sites that no UDP gets into or out of.
    no_udp: BTreeSet<SiteId>,
    tunnels: Vec<Tunnel>,
    next_tunnel: u32,
    /// What tunnels leave to chance.
    tunnelled: Rng,
    nat: Rng,
    garbage: Rng,
    /// The last packets that arrived anywhere, to be played again.
    recent: VecDeque<Packet>,
    trace: Trace,
    stuck: Option<Stuck>,
    buf: Vec<u8>,
}

impl World {
    /// An empty world.
    pub fn new(seed: u64, keep: Keep) -> Self {
        Self {
            epoch: Epoch::new(),
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            next: 0,
            hosts: Vec::new(),
            sites: Vec::new(),
            names: Vec::new(),
            public: BTreeMap::new(),
            paths: BTreeMap::new(),
            severed: BTreeSet::new(),
            seed,
            no_udp: BTreeSet::new(),
            tunnels: Vec::new(),
            next_tunnel: 1,
            tunnelled: wire(seed, Wire::Tunnels),
            nat: Rng::new(seed, Purpose::Nat),
            garbage: Rng::new(seed, Purpose::Garbage),
            recent: VecDeque::new(),
            trace: Trace::new(keep),
            stuck: None,
            buf: Vec::new(),
        }
    }

    /// Adds a site.
    pub fn add_site(&mut self, config: &SiteConfig) -> SiteId {
        let id = SiteId(self.sites.len());
        // 65,536 sites have addresses; nobody builds more.
        let index = u16::try_from(id.0).unwrap_or(u16::MAX);
        let wires = [Wire::Up(id), Wire::Down(id)].map(|which| wire(self.seed, which));
        let (nat, sites) = (&mut self.nat, &mut self.sites);
        let behind = || Some(sites.get_mut(config.carrier?.0)?.connect(id));
        let site = Site::new(index, config, wires, behind, || Rng::new(nat.below(u64::MAX), Purpose::Nat));
        self.public.extend(site.public.iter().map(|&address| (address, id)));
        self.sites.push(site);
        self.names.push(config.name.clone());
        id
    }

    /// Sets the way through the internet from one site to another; without it there is a perfect wire.
    pub fn set_path(&mut self, from: SiteId, to: SiteId, config: LinkConfig) {
        let (from, to) = (self.top(from), self.top(to));
        self.paths.insert((from, to), Link::new(config, wire(self.seed, Wire::Path(from, to))));
    }

    /// The site that a site's packets reach the internet from: its carrier's, or its own.
    fn top(&self, site: SiteId) -> SiteId {
        self.sites[site.0].carrier.map_or(site, |carrier| self.top(carrier))
    }

    /// Sets the ways through the internet between two sites, both alike.
    pub fn set_paths(&mut self, one: SiteId, other: SiteId, config: LinkConfig) {
        self.set_path(one, other, config);
        self.set_path(other, one, config);
    }

    /// Adds a host with these sockets, and starts it: it is told its own addresses.
    pub fn add_host(&mut self, site: SiteId, name: &str, ports: &[(SocketLink, u16)], node: Box<dyn Node>) -> HostId {
        let id = HostId(self.hosts.len());
        let address = self.sites[site.0].adopt(id);
        let second = self.sites[site.0].second(address);
        self.public.extend(self.sites[site.0].public.iter().map(|&address| (address, site)));
        self.hosts.push(Host {
            name: name.to_owned(),
            site,
            address,
            second,
            sockets: ports.iter().map(|&(link, port)| (port, link)).collect(),
            node,
            wake: None,
            spins: 0,
            silent: false,
            away: false,
            stopped: false,
        });
        self.tell_addresses(id);
        id
    }

    /// The address that the next host of a site will have: a relay's, before there is a peer to tell it.
    pub fn next_address(&self, site: SiteId) -> IpAddr {
        self.sites[site.0].next_address()
    }

    /// A host's address on its own network.
    pub fn address(&self, host: HostId) -> IpAddr {
        self.hosts[host.0].address
    }

    /// A host's name.
    pub fn name(&self, host: HostId) -> &str {
        &self.hosts[host.0].name
    }

    /// All hosts' names, in the order of their numbers.
    pub fn host_names(&self) -> Vec<String> {
        self.hosts.iter().map(|host| host.name.clone()).collect()
    }

    /// A host's site.
    pub fn site_of(&self, host: HostId) -> SiteId {
        self.hosts[host.0].site
    }

    /// Whether a host has left its site, and has no network.
    pub fn is_away(&self, host: HostId) -> bool {
        self.hosts[host.0].away
    }

    /// The time since the world began.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// The world's clock, for turning nodes' instants into times.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The time, as nodes see it.
    pub fn instant(&self) -> Instant {
        self.epoch.instant(self.now)
    }

    /// What happened so far.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Hands out what nodes have said and nobody has taken yet: a long run has too much of it to keep.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.trace.notes)
    }

    /// Ends the world and keeps its record.
    pub fn into_trace(self) -> Trace {
        self.trace
    }

    /// Whether a node has been caught spinning; the world stands still then.
    pub fn stuck(&self) -> Option<Stuck> {
        self.stuck
    }

    /// When the next event is.
    pub fn next_event(&self) -> Option<Duration> {
        self.queue.first_key_value().map(|(&(at, _), _)| at)
    }

    /// Goes on to the next event. `false` if there is none, or the world is stuck.
    pub fn step(&mut self) -> bool {
        if self.stuck.is_some() {
            return false;
        }
        let Some(((at, _), event)) = self.queue.pop_first() else { return false };
        self.now = self.now.max(at);
        match event {
            Event::Packet(packet, hop) => self.forward(packet, hop),
            Event::Wake(host) => self.wake(host),
            Event::Tunnel(index, life, event) => self.on_tunnel(index, life, event),
        }
        true
    }

    /// Goes on until this time, all events of that instant included.
    pub fn run_until(&mut self, time: Duration) {
        while self.next_event().is_some_and(|at| at <= time) && self.step() {}
        self.now = self.now.max(time);
    }

    /// Goes on while `more` says so, but not beyond `limit`. Gives whether `more` said no in time.
    pub fn run_while(&mut self, limit: Duration, mut more: impl FnMut(&mut Self) -> bool) -> bool {
        while more(self) {
            if self.next_event().is_none_or(|at| at > limit) || !self.step() {
                return false;
            }
        }
        true
    }

    /// Does something with a peer and its application, then sends what it wants to send. `None` if it is no peer.
    pub fn with_peer<R>(&mut self, host: HostId, f: impl FnOnce(&mut PeerHost, Instant) -> R) -> Option<R> {
        let now = self.instant();
        let result = self.hosts[host.0].node.as_peer().map(|peer| f(peer, now));
        self.drain(host);
        result
    }

    /// A peer and its application, to look at. `None` if the host is no peer.
    pub fn peer(&self, host: HostId) -> Option<&PeerHost> {
        self.hosts[host.0].node.peer()
    }

    /// A relay, to look at. `None` if the host is none.
    pub fn relay(&self, host: HostId) -> Option<&Relay> {
        self.hosts[host.0].node.relay()
    }

    /// Whether a host can neither send nor hear: its process stands still, or it has no network.
    pub fn is_cut_off(&self, host: HostId) -> bool {
        let host = &self.hosts[host.0];
        host.stopped || host.silent || host.away
    }

    /// Does something with a relay, then sends what it wants to send. `None` if it is no relay.
    pub fn with_relay<R>(&mut self, host: HostId, f: impl FnOnce(&mut Relay, Instant) -> R) -> Option<R> {
        let now = self.instant();
        let result = self.hosts[host.0].node.as_relay().map(|relay| f(relay, now));
        self.drain(host);
        result
    }

    /// Does something with a scripted endpoint, then sends what it wants to send. `None` if it is none.
    pub fn with_raw<R>(&mut self, host: HostId, f: impl FnOnce(&mut Raw) -> R) -> Option<R> {
        let result = self.hosts[host.0].node.as_raw().map(f);
        self.drain(host);
        result
    }

    /// Throws a datagram at a host's socket from anywhere, past all NATs: the worst that a network can do.
    pub fn inject(&mut self, from: SocketAddr, host: HostId, port: u16, data: &[u8]) {
        let dst = SocketAddr::new(self.hosts[host.0].address, port);
        let packet = Packet { id: u64::MAX, from: host, src: from, dst, ecn: None, hops: HOPS, data: data.into() };
        self.put(self.now, Event::Packet(packet, Hop::Lan(host)));
    }

    fn put(&mut self, at: Duration, event: Event) -> (Duration, u64) {
        let key = (at, self.next);
        self.next += 1;
        self.queue.insert(key, event);
        key
    }
}
