//! A box at work: its mappings and filters.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{Dependence, NatConfig, Ports};
use crate::rng::Rng;

/// Mappings a box keeps: more than any scenario needs, and a bound for hostile ones.
const MAX_MAPPINGS: usize = 8192;
/// Remote endpoints a mapping remembers, as above.
const MAX_REMOTES: usize = 4096;
/// The first port that is given out at random: below are the well-known ones.
const FIRST_PORT: u16 = 1024;
/// How long an unanswered packet to the router itself is remembered (Linux: 30 s).
const CLASH_MEMORY: Duration = Duration::from_secs(30);

/// Why a box dropped a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NatDrop {
    /// From outside, and nobody inside has such a mapping.
    NoMapping,
    /// From outside, and nobody inside has sent there.
    Filtered,
    /// From inside to its own outside: hairpinning is off.
    Hairpin,
    /// From inside, and all ports are taken.
    Exhausted,
    /// From inside, and UDP is not allowed out.
    Blocked,
}

/// The part of the outside that a mapping is for: all of it, one address, or one endpoint.
type Scope = Option<(IpAddr, Option<u16>)>;

#[derive(Debug)]
struct Mapping {
    inside: SocketAddr,
    scope: Scope,
    /// Last use that counts as a refresh.
    used: Duration,
    /// The endpoints outside it has sent to, and when that was last refreshed.
    remotes: BTreeMap<SocketAddr, Duration>,
}

/// One box: translates and filters packets, in virtual time.
#[derive(Debug)]
pub struct Nat {
    pub(super) config: NatConfig,
    external: IpAddr,
    rng: Rng,
    by_inside: BTreeMap<(SocketAddr, Scope), SocketAddr>,
    by_outside: BTreeMap<SocketAddr, Mapping>,
    /// Tuples that the router itself has taken (external, remote), and when last: see [`NatConfig::clash`].
    clashes: BTreeMap<(SocketAddr, SocketAddr), Duration>,
}

impl Nat {
    /// A box with this address on its outside. Firewalls, which have none of their own, never look at it.
    pub fn new(config: NatConfig, external: IpAddr, rng: Rng) -> Self {
        Self {
            config,
            external,
            rng,
            by_inside: BTreeMap::new(),
            by_outside: BTreeMap::new(),
            clashes: BTreeMap::new(),
        }
    }

    /// What kind of box it is.
    pub fn config(&self) -> &NatConfig {
        &self.config
    }

    /// Its address outside, if it translates.
    pub fn external(&self) -> Option<IpAddr> {
        self.config.translation.map(|_| self.external)
    }

    /// Forgets everything, as at a reboot.
    pub fn reboot(&mut self) {
        self.by_inside.clear();
        self.by_outside.clear();
        self.clashes.clear();
    }

    /// Gets another address outside, and forgets everything.
    pub fn readdress(&mut self, external: IpAddr) {
        self.external = external;
        self.reboot();
    }

    /// Lets a packet out: the source address it has from here on.
    ///
    /// # Errors
    /// [`NatDrop`] if it goes nowhere.
    pub fn outbound(&mut self, now: Duration, src: SocketAddr, dst: SocketAddr) -> Result<SocketAddr, NatDrop> {
        if self.config.blocks_udp && dst.port() != 53 {
            return Err(NatDrop::Blocked);
        }
        if self.external() == Some(dst.ip()) {
            return Err(NatDrop::Hairpin);
        }
        let mut scope = match self.config.translation.map(|t| t.mapping) {
            None | Some(Dependence::Endpoint) => None,
            Some(Dependence::Address) => Some((dst.ip(), None)),
            Some(Dependence::AddressAndPort) => Some((dst.ip(), Some(dst.port()))),
        };
        if self.clashed(now, (src, scope), dst) {
            scope = Some((dst.ip(), Some(dst.port())));
        }
        let key = (src, scope);
        let outside = match self.by_inside.get(&key) {
            Some(&outside) if self.alive(now, outside) => outside,
            _ => self.map(now, key, dst)?,
        };
        let Some(mapping) = self.by_outside.get_mut(&outside) else { return Err(NatDrop::Exhausted) };
        mapping.used = now;
        if mapping.remotes.len() >= MAX_REMOTES {
            let timeout = self.config.timeout;
            mapping.remotes.retain(|_, used| *used + timeout > now);
            while mapping.remotes.len() >= MAX_REMOTES {
                mapping.remotes.pop_first();
            }
        }
        mapping.remotes.insert(dst, now);
        Ok(outside)
    }

    /// Lets a packet in, or not: the destination it has from here on.
    ///
    /// # Errors
    /// [`NatDrop`] if it is not let in.
    pub fn inbound(&mut self, now: Duration, src: SocketAddr, dst: SocketAddr) -> Result<SocketAddr, NatDrop> {
        let timeout = self.config.timeout;
        let refused = match self.by_outside.get_mut(&dst) {
            Some(mapping) if mapping.used + timeout > now => {
                let asked_for = |(remote, used): (&SocketAddr, &Duration)| match self.config.filtering {
                    Dependence::Endpoint => true,
                    Dependence::Address => remote.ip() == src.ip() && *used + timeout > now,
                    Dependence::AddressAndPort => *remote == src && *used + timeout > now,
                };
                if mapping.remotes.iter().any(asked_for) {
                    if self.config.inbound_refresh {
                        mapping.used = now;
                        if let Some(used) = mapping.remotes.get_mut(&src) {
                            *used = now;
                        }
                    }
                    return Ok(mapping.inside);
                }
                NatDrop::Filtered
            }
            _ => NatDrop::NoMapping,
        };
        if self.config.clash && self.clashes.len() < MAX_MAPPINGS {
            self.clashes.insert((dst, src), now);
        }
        Err(refused)
    }

    /// Whether this box's own entry stands in the way of the mapping that `key` has or would get.
    fn clashed(&self, now: Duration, key: (SocketAddr, Scope), dst: SocketAddr) -> bool {
        if self.clashes.is_empty() {
            return false;
        }
        let outside = match self.by_inside.get(&key) {
            Some(&outside) => {
                // A flow that went out first is not disturbed by what came later.
                let flows = |m: &Mapping| m.remotes.get(&dst).is_some_and(|used| *used + self.config.timeout > now);
                if self.by_outside.get(&outside).is_some_and(flows) {
                    return false;
                }
                outside
            }
            None => SocketAddr::new(self.external, key.0.port()),
        };
        self.clashes.get(&(outside, dst)).is_some_and(|seen| *seen + CLASH_MEMORY > now)
    }

    fn alive(&self, now: Duration, outside: SocketAddr) -> bool {
        self.by_outside.get(&outside).is_some_and(|mapping| mapping.used + self.config.timeout > now)
    }

    /// Makes a mapping and picks its port.
    fn map(&mut self, now: Duration, key: (SocketAddr, Scope), dst: SocketAddr) -> Result<SocketAddr, NatDrop> {
        if self.by_outside.len() >= MAX_MAPPINGS {
            self.sweep(now);
        }
        if self.by_outside.len() >= MAX_MAPPINGS {
            return Err(NatDrop::Exhausted);
        }
        let (inside, scope) = key;
        let outside = match self.config.translation {
            None => inside,
            Some(translation) => {
                let preserved = SocketAddr::new(self.external, inside.port());
                let usable = |nat: &Self, at: SocketAddr| {
                    let clash = nat.clashes.get(&(at, dst)).is_some_and(|seen| *seen + CLASH_MEMORY > now);
                    !clash && !nat.alive(now, at)
                };
                if translation.ports == Ports::Preserved && usable(self, preserved) {
                    preserved
                } else {
                    self.random_port(now)?
                }
            }
        };
        if let Some(old) = self.by_outside.remove(&outside) {
            self.by_inside.remove(&(old.inside, old.scope));
        }
        if let Some(old) = self.by_inside.insert(key, outside) {
            // Its mapping has run out, or it would have been used.
            self.by_outside.remove(&old);
        }
        self.by_outside.insert(outside, Mapping { inside, scope, used: now, remotes: BTreeMap::new() });
        Ok(outside)
    }

    fn random_port(&mut self, now: Duration) -> Result<SocketAddr, NatDrop> {
        for _ in 0..64 {
            let span = u64::from(u16::MAX - FIRST_PORT) + 1;
            // Below 64,512, so it fits.
            let port = FIRST_PORT + self.rng.below(span) as u16;
            let outside = SocketAddr::new(self.external, port);
            if !self.alive(now, outside) {
                return Ok(outside);
            }
        }
        Err(NatDrop::Exhausted)
    }

    fn sweep(&mut self, now: Duration) {
        let timeout = self.config.timeout;
        self.by_outside.retain(|_, mapping| mapping.used + timeout > now);
        let left: BTreeSet<SocketAddr> = self.by_outside.keys().copied().collect();
        self.by_inside.retain(|_, outside| left.contains(outside));
        self.clashes.retain(|_, seen| *seen + CLASH_MEMORY > now);
    }
}
