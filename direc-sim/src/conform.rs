//! Packet scripts: the same packets through the simulator's boxes here, and through the Linux kernel's own NATs by
//! `tests/kernel_conformance.py`, must fare the same. `tests/conformance/README.md` has the format.

mod script;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use direc_core::Link;

use script::{Endpoint, Step, Target};
pub use script::{Script, ScriptError};

use crate::{
    nat::NatConfig,
    node::Raw,
    site::SiteConfig,
    trace::Keep,
    world::{HostId, World},
};

/// How long a packet may be on its way. Wires take no time here.
const UNDER_WAY: Duration = Duration::from_millis(50);
/// All scripts run in the same world.
const SEED: u64 = 1;

/// Runs a script's packets through these boxes. Gives a line for each: what became of it.
pub fn run(script: &Script, boxes: &[NatConfig]) -> Vec<String> {
    let mut stage = Stage::new(script, boxes);
    script.steps.iter().map(|step| format!("{}: {}", step.text, stage.play(step))).collect()
}

struct Actor {
    host: HostId,
    address: std::net::IpAddr,
    ports: BTreeMap<u16, Link>,
    /// How many packets of those it got have been looked at.
    looked: usize,
}

struct Stage {
    world: World,
    actors: BTreeMap<String, Actor>,
    /// Where an endpoint was last seen by another.
    seen: BTreeMap<(Endpoint, Endpoint), SocketAddr>,
    /// Where any endpoint of a host was last seen from outside.
    outside: BTreeMap<String, SocketAddr>,
    labels: Labels,
}

impl Stage {
    fn new(script: &Script, boxes: &[NatConfig]) -> Self {
        let mut world = World::new(SEED, Keep::default());
        let home = world.add_site(&SiteConfig::new("home", boxes.to_vec()));
        let mut actors = BTreeMap::new();
        for (name, ports) in script.hosts() {
            let inside = name.starts_with('h');
            let site = if inside { home } else { world.add_site(&SiteConfig::new(&name, Vec::new())) };
            // Links are numbers here: a script has few ports.
            let ports: Vec<(Link, u16)> = (0..).zip(ports).map(|(n, port)| (Link::Punch(n), port)).collect();
            let host = world.add_host(site, &name, &ports, Box::new(Raw::default()));
            let ports = ports.into_iter().map(|(link, port)| (port, link)).collect();
            let address = world.address(host);
            actors.insert(name, Actor { host, address, ports, looked: 0 });
        }
        Self { world, actors, seen: BTreeMap::new(), outside: BTreeMap::new(), labels: Labels::default() }
    }

    fn play(&mut self, step: &Step) -> String {
        self.world.run_until(step.at);
        let Some(to) = self.address(&step.to) else { return "has no address yet".to_owned() };
        let Some((host, link)) =
            self.actors.get(&step.from.host).and_then(|actor| Some((actor.host, *actor.ports.get(&step.from.port)?)))
        else {
            return "has no sender".to_owned();
        };
        self.world.with_raw(host, |raw| raw.send(link, to, step.text.as_bytes()));
        self.world.run_until(step.at + UNDER_WAY);
        match self.arrival() {
            Some((at, from)) => self.describe(step, &at, from),
            None => "dropped".to_owned(),
        }
    }

    fn address(&self, target: &Target) -> Option<SocketAddr> {
        match target {
            Target::Itself(at) => Some(SocketAddr::new(self.actors.get(&at.host)?.address, at.port)),
            Target::Seen(who, by) => self.seen.get(&(who.clone(), by.clone())).copied(),
            Target::Kept(who) => Some(SocketAddr::new(self.outside.get(&who.host)?.ip(), who.port)),
        }
    }

    /// The packet that has arrived anywhere: at whom, and from where.
    fn arrival(&mut self) -> Option<(Endpoint, SocketAddr)> {
        for (name, actor) in &mut self.actors {
            let looked = actor.looked;
            let received = self
                .world
                .with_raw(actor.host, |raw| raw.received.get(looked).map(|received| (received.link, received.from)));
            if let Some((link, from)) = received.flatten() {
                actor.looked += 1;
                let port = actor.ports.iter().find(|&(_, own)| *own == link).map_or(0, |(&port, _)| port);
                return Some((Endpoint { host: name.clone(), port }, from));
            }
        }
        None
    }

    fn describe(&mut self, step: &Step, at: &Endpoint, from: SocketAddr) -> String {
        let mut words = "arrives".to_owned();
        if at != step.to.endpoint() {
            words += &format!(" at {at}");
        }
        if !step.from.host.starts_with('h') {
            return words;
        }
        self.seen.insert((step.from.clone(), at.clone()), from);
        let within = at.host.starts_with('h');
        let own = self.actors.get(&step.from.host).map(|actor| actor.address);
        if within && own == Some(from.ip()) {
            return words + ", from inside";
        }
        if !within {
            self.outside.insert(step.from.host.clone(), from);
        }
        words + ", port " + &self.labels.of(&step.from, from.port())
    }
}

/// External ports by what matters of them: kept, or the first, second, … of an endpoint's others.
#[derive(Debug, Default)]
struct Labels {
    others: BTreeMap<Endpoint, Vec<(u16, String)>>,
    last: Option<u16>,
}

impl Labels {
    fn of(&mut self, who: &Endpoint, port: u16) -> String {
        if port == who.port {
            return "kept".to_owned();
        }
        let others = self.others.entry(who.clone()).or_default();
        if let Some((_, label)) = others.iter().find(|(old, _)| *old == port) {
            return label.clone();
        }
        let next = self.last.is_some_and(|last| last.wrapping_add(1) == port);
        self.last = Some(port);
        let label = format!("new{}{}", others.len() + 1, if next { " (+1)" } else { "" });
        others.push((port, label.clone()));
        label
    }
}
