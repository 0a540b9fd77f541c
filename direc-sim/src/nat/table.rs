//! A box at work: lets packets out and in, and remembers.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{
    Dependence, Egress, Hairpin, MAX_ADDRESSES, NatConfig,
    flows::{Flows, Way},
    gate::Gate,
    ports::Picker,
};
use crate::rng::Rng;

/// Flows a box keeps: as many as a router with little memory does, and a bound for hostile scenarios.
const MAX_FLOWS: usize = 65_536;
/// Remote addresses that a mapping remembers to let in, as above.
const MAX_ADMITTED: usize = 4096;

/// Why a box dropped a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NatDrop {
    /// From outside, and nobody inside has such a mapping.
    NoMapping,
    /// From outside, and nobody inside has sent there.
    Filtered,
    /// From outside, and the router itself has taken it: see [`Unsolicited::accepted`](super::Unsolicited::accepted).
    Taken,
    /// From outside, and its source is shut out: see [`Unsolicited::ban`](super::Unsolicited::ban).
    Banned,
    /// From inside to its own outside, and it does not turn packets back.
    Hairpin,
    /// From inside, and all ports are taken, or too many flows are open.
    Exhausted,
    /// From inside, and too many new flows came in a short time.
    Limited,
    /// From inside, and UDP is not allowed out there.
    Blocked,
    /// From one host inside to another, and they are isolated from each other.
    Isolated,
}

/// How a packet from inside goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// Out, with this source.
    Out(SocketAddr),
    /// Back in, with this source and this destination.
    Back {
        /// Its source from here on.
        src: SocketAddr,
        /// Its destination from here on.
        dst: SocketAddr,
    },
}

/// The part of the outside that a mapping is for: all of it, one address, or one endpoint.
type Scope = Option<(IpAddr, Option<u16>)>;

/// An external endpoint of an internal one, for as long as a flow uses it.
#[derive(Debug)]
struct Lease {
    outside: SocketAddr,
    until: Duration,
}

/// Who is behind an external endpoint: whoever has sent from there last.
#[derive(Debug)]
struct Tenant {
    inside: SocketAddr,
    scope: Scope,
    /// Nobody else may have the endpoint until then.
    until: Duration,
    /// What the filter allows is let in until then.
    open_until: Duration,
    /// The remote addresses it has sent to, and until when they are let in. Only where the filter is by address.
    admitted: BTreeMap<IpAddr, Duration>,
}

/// One box: translates and filters packets, in virtual time.
#[derive(Debug)]
pub struct Nat {
    pub(super) config: NatConfig,
    externals: Vec<IpAddr>,
    rng: Rng,
    flows: Flows,
    /// The newest is last, and is asked first: as in Linux, where a clash leaves two.
    leases: BTreeMap<(SocketAddr, Scope), Vec<Lease>>,
    tenants: BTreeMap<SocketAddr, Tenant>,
    picker: Picker,
    gate: Gate,
    /// Before this time no flow dies, so there is no room to be made.
    crowded_until: Duration,
}

impl Nat {
    /// A box with these addresses on its outside, at least one if it translates. Firewalls have none of their own.
    pub fn new(config: NatConfig, externals: Vec<IpAddr>, rng: Rng) -> Self {
        Self {
            config,
            externals,
            rng,
            flows: Flows::default(),
            leases: BTreeMap::new(),
            tenants: BTreeMap::new(),
            picker: Picker::default(),
            gate: Gate::default(),
            crowded_until: Duration::ZERO,
        }
    }

    /// What kind of box it is.
    pub fn config(&self) -> &NatConfig {
        &self.config
    }

    /// How many addresses a box of this kind has outside.
    pub fn addresses(config: &NatConfig) -> u8 {
        config.translation.map_or(0, |translation| translation.addresses.clamp(1, MAX_ADDRESSES))
    }

    /// Its addresses outside; none if it does not translate.
    pub fn externals(&self) -> &[IpAddr] {
        &self.externals
    }

    /// Forgets everything, as at a reboot.
    pub fn reboot(&mut self) {
        self.flows.clear();
        self.leases.clear();
        self.tenants.clear();
        self.picker.clear();
        self.gate.clear();
        self.crowded_until = Duration::ZERO;
    }

    /// Gets other addresses outside, and forgets everything.
    pub fn readdress(&mut self, externals: Vec<IpAddr>) {
        self.externals = externals;
        self.reboot();
    }

    /// Lets a packet out, or turns it back.
    ///
    /// # Errors
    /// [`NatDrop`] if it goes nowhere.
    pub fn outbound(&mut self, now: Duration, src: SocketAddr, dst: SocketAddr) -> Result<Passage, NatDrop> {
        if self.externals.contains(&dst.ip()) {
            return self.turn_back(now, src, dst);
        }
        let allowed = match self.config.egress {
            Egress::Any => true,
            Egress::Dns => dst.port() == 53,
            Egress::Web => [53, 443].contains(&dst.port()),
        };
        if !allowed {
            return Err(NatDrop::Blocked);
        }
        self.send(now, src, dst).map(Passage::Out)
    }

    /// Lets a packet in, or not: the destination it has from here on.
    ///
    /// # Errors
    /// [`NatDrop`] if it is not let in.
    pub fn inbound(&mut self, now: Duration, src: SocketAddr, dst: SocketAddr) -> Result<SocketAddr, NatDrop> {
        if self.gate.bans(now, src.ip()) {
            return Err(NatDrop::Banned);
        }
        let timeouts = self.config.timeouts;
        if self.gate.has_taken(now, dst, src) {
            self.gate.take(now, dst, src, now + timeouts.unreplied);
            return Err(NatDrop::Taken);
        }
        if let Some(inside) = self.flows.owner(now, dst, src) {
            let refresh = self.config.inbound_refresh;
            if let Some((_, until)) = self.flows.pass(now, (inside, src), Way::In, &timeouts, refresh) {
                self.hold(inside, src, dst, until);
            }
            return Ok(inside);
        }
        let refused = match self.tenants.get(&dst).filter(|tenant| tenant.open_until > now) {
            Some(tenant) if self.admits(now, tenant, src.ip()) => {
                let (inside, same) = (tenant.inside, tenant.scope == self.scope(src));
                // Where the answer takes the same mapping, this is a flow of its own from now on.
                let known = self.flows.pass(now, (inside, src), Way::In, &timeouts, false).is_some();
                if same && !known && self.room(now).is_ok() {
                    self.flows.add(now, (inside, dst, src), Way::In, &timeouts);
                }
                return Ok(inside);
            }
            Some(tenant) if tenant.until > now => NatDrop::Filtered,
            Some(_) | None => NatDrop::NoMapping,
        };
        if self.config.unsolicited.accepted {
            self.gate.take(now, dst, src, now + timeouts.unreplied);
        }
        if let Some(lasts) = self.config.unsolicited.ban {
            self.gate.ban(now, src.ip(), lasts);
        }
        Err(refused)
    }

    /// A packet from inside to the box's own outside (RFC 4787, section 6). Its filter is for strangers, not for these.
    fn turn_back(&mut self, now: Duration, src: SocketAddr, dst: SocketAddr) -> Result<Passage, NatDrop> {
        if self.config.hairpin == Hairpin::None {
            return Err(NatDrop::Hairpin);
        }
        let tenant = self.tenants.get(&dst).filter(|tenant| tenant.open_until > now);
        let inside = tenant.map(|tenant| tenant.inside).ok_or(NatDrop::NoMapping)?;
        let src = if self.config.hairpin == Hairpin::External { self.send(now, src, dst)? } else { src };
        Ok(Passage::Back { src, dst: inside })
    }

    /// The external endpoint from which a packet goes out.
    fn send(&mut self, now: Duration, src: SocketAddr, dst: SocketAddr) -> Result<SocketAddr, NatDrop> {
        let timeouts = self.config.timeouts;
        if let Some((outside, until)) = self.flows.pass(now, (src, dst), Way::Out, &timeouts, true) {
            self.hold(src, dst, outside, until);
            self.open(now, src, dst, outside, until);
            return Ok(outside);
        }
        self.room(now)?;
        if !self.gate.allows(now, self.config.new_flows) {
            return Err(NatDrop::Limited);
        }
        let outside = self.assign(now, src, dst)?;
        let until = self.flows.add(now, (src, outside, dst), Way::Out, &timeouts);
        self.lease(now, (src, dst), outside, until);
        self.open(now, src, dst, outside, until);
        Ok(outside)
    }

    /// The part of the outside that a mapping towards `remote` is for.
    fn scope(&self, remote: SocketAddr) -> Scope {
        match self.config.translation.map(|translation| translation.mapping) {
            None | Some(Dependence::Endpoint) => None,
            Some(Dependence::Address) => Some((remote.ip(), None)),
            Some(Dependence::AddressAndPort) => Some((remote.ip(), Some(remote.port()))),
        }
    }

    fn admits(&self, now: Duration, tenant: &Tenant, source: IpAddr) -> bool {
        match self.config.filtering {
            Dependence::Endpoint => true,
            Dependence::Address => tenant.admitted.get(&source).is_some_and(|until| *until > now),
            Dependence::AddressAndPort => false,
        }
    }

    /// Picks the external endpoint of a new flow: the mapping that there is, or a new one.
    fn assign(&mut self, now: Duration, src: SocketAddr, dst: SocketAddr) -> Result<SocketAddr, NatDrop> {
        let Some(translation) = self.config.translation else { return Ok(src) };
        let scope = self.scope(dst);
        let (flows, tenants, gate) = (&self.flows, &self.tenants, &self.gate);
        let free = |outside: SocketAddr| {
            let others = |tenant: &&Tenant| tenant.until > now && (tenant.inside, tenant.scope) != (src, scope);
            !gate.has_taken(now, outside, dst)
                && flows.owner(now, outside, dst).is_none_or(|owner| owner == src)
                && (translation.overloading || tenants.get(&outside).filter(others).is_none())
        };
        let leases = self.leases.get(&(src, scope)).map_or(&[][..], Vec::as_slice);
        let standing = leases.iter().rev().find(|lease| lease.until > now && free(lease.outside));
        if let Some(lease) = standing {
            return Ok(lease.outside);
        }
        let of = (&translation, self.externals.as_slice());
        self.picker.pick(now, of, src, &mut self.rng, free).ok_or(NatDrop::Exhausted)
    }

    /// A new flow uses a mapping, which is the newest of its internal endpoint from now on.
    fn lease(&mut self, now: Duration, (src, dst): (SocketAddr, SocketAddr), outside: SocketAddr, until: Duration) {
        if self.config.translation.is_none() {
            return;
        }
        let leases = self.leases.entry((src, self.scope(dst))).or_default();
        let old = leases.iter().position(|lease| lease.outside == outside).map(|at| leases.remove(at).until);
        leases.retain(|lease| lease.until > now);
        leases.push(Lease { outside, until: old.map_or(until, |old| old.max(until)) });
    }

    /// A flow goes on, and its mapping with it.
    fn hold(&mut self, inside: SocketAddr, remote: SocketAddr, outside: SocketAddr, until: Duration) {
        if self.config.translation.is_none() {
            return;
        }
        let scope = self.scope(remote);
        let leases = self.leases.get_mut(&(inside, scope)).map_or(&mut [][..], Vec::as_mut_slice);
        if let Some(lease) = leases.iter_mut().find(|lease| lease.outside == outside) {
            lease.until = lease.until.max(until);
        }
        if let Some(tenant) = self.tenants.get_mut(&outside)
            && tenant.inside == inside
        {
            tenant.until = tenant.until.max(until);
        }
    }

    /// A packet has gone out: whom the filter lets in, it lets in to its sender.
    fn open(&mut self, now: Duration, src: SocketAddr, dst: SocketAddr, outside: SocketAddr, until: Duration) {
        let scope = self.scope(dst);
        let open_until = now + self.config.timeouts.replied;
        let tenant = self.tenants.entry(outside).or_insert_with(|| Tenant {
            inside: src,
            scope,
            until,
            open_until,
            admitted: BTreeMap::new(),
        });
        if (tenant.inside, tenant.scope) != (src, scope) {
            *tenant = Tenant { inside: src, scope, until, open_until, admitted: BTreeMap::new() };
        }
        // As long as strangers are let in to a mapping, it stands.
        let lasting = if self.config.filtering == Dependence::AddressAndPort { until } else { until.max(open_until) };
        (tenant.until, tenant.open_until) = (tenant.until.max(lasting), open_until);
        if self.config.filtering == Dependence::Address {
            if tenant.admitted.len() >= MAX_ADMITTED {
                tenant.admitted.retain(|_, until| *until > now);
                while tenant.admitted.len() >= MAX_ADMITTED {
                    tenant.admitted.pop_first();
                }
            }
            tenant.admitted.insert(dst.ip(), open_until);
        }
        if lasting > until {
            self.hold(src, dst, outside, lasting);
        }
    }

    /// Makes room for one more flow, if there is none.
    fn room(&mut self, now: Duration) -> Result<(), NatDrop> {
        if self.flows.len() < MAX_FLOWS {
            return Ok(());
        }
        if now >= self.crowded_until {
            self.crowded_until = self.flows.sweep(now).unwrap_or(now);
            self.tenants.retain(|_, tenant| tenant.until > now);
            self.leases.retain(|_, leases| {
                leases.retain(|lease| lease.until > now);
                !leases.is_empty()
            });
        }
        if self.flows.len() < MAX_FLOWS { Ok(()) } else { Err(NatDrop::Exhausted) }
    }
}
