//! Boxes between a home and the internet: NATs and stateful firewalls, composed from the axes of RFC 4787.
//!
//! Where the RFC leaves something open a box does what the Linux kernel does: `tests/kernel_conformance.py` compares
//! the two packet by packet.

mod flows;
mod gate;
mod names;
mod ports;
mod table;

#[cfg(test)]
mod stories;

use std::time::Duration;

pub(crate) use names::PF;
pub use names::{NAMES, SINGLE, stack};
pub use table::{Nat, NatDrop, Passage};

/// What a mapping, or a filter, depends on (RFC 4787, sections 4.1 and 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependence {
    /// Endpoint-independent: the outside makes no difference.
    Endpoint,
    /// Address-dependent: another IP address outside is another matter.
    Address,
    /// Address- and port-dependent: another port outside is another matter as well.
    AddressAndPort,
}

/// How a NAT picks the external port of a new mapping (RFC 4787, section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// The internal port where it is free, else a random one.
    Preserved,
    /// A random free port.
    Random,
    /// A random free port among these, the last one included.
    Within(u16, u16),
    /// A random free port of the same parity as the internal one (section 4.2.2).
    Parity,
    /// The free port that is `step` on from the last one given out.
    Sequential {
        /// From one mapping to the next; may be negative, not 0.
        step: i16,
        /// Mappings a second that others make meanwhile. Each takes a step as well.
        busy: u16,
    },
    /// A random free port out of the block of so many that each internal address has to itself, as carriers give out.
    Block(u16),
}

/// Which external address a new mapping gets, where the box has several (RFC 4787, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// All mappings of an internal address have the same one: REQ-2.
    Paired,
    /// Any.
    Arbitrary,
}

/// How a box translates addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// What makes a mapping another mapping.
    pub mapping: Dependence,
    /// How external ports are picked.
    pub ports: Ports,
    /// Whether one external port may serve several internal endpoints at once, as long as they talk to different remote
    /// ones (section 4.2.1 calls it port overloading; Linux does it). REQ-3 forbids it.
    pub overloading: bool,
    /// How many external addresses the box has: 1 to [`MAX_ADDRESSES`].
    pub addresses: u8,
    /// Which of them a mapping gets.
    pub pooling: Pooling,
}

/// External addresses a box may have: a few show all there is to see of pooling.
pub const MAX_ADDRESSES: u8 = 8;

/// Whether a packet from inside to the box's own outside is turned back (RFC 4787, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hairpin {
    /// It is not.
    None,
    /// It is, and keeps its internal source.
    Internal,
    /// It is, with its external source: REQ-9.
    External,
}

/// How long a flow is remembered after a packet that counts (RFC 4787, section 4.3).
///
/// As in Linux, a flow counts as replied when packets have gone both ways and more than 2 s have passed since its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Before it is replied. 30 s in Linux.
    pub unreplied: Duration,
    /// After it is. 120 s in Linux, the least that REQ-5 allows.
    pub replied: Duration,
}

/// What a box does about a packet from outside that nobody asked for, besides not letting it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsolicited {
    /// Whether the router itself accepts it, so that its entry takes the port away from the host's own answer: the
    /// inbound-first clash of DESIGN.md, section 6. It is remembered for [`Timeouts::unreplied`] after the last of them.
    pub accepted: bool,
    /// For how long all that comes from its source address is dropped, asked for or not.
    pub ban: Option<Duration>,
}

impl Unsolicited {
    /// It is dropped, and nothing else.
    pub const DROPPED: Self = Self { accepted: false, ban: None };
}

/// Which UDP packets are allowed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// All.
    Any,
    /// Those to port 53.
    Dns,
    /// Those to ports 53 and 443.
    Web,
}

/// A box: NAT, or firewall if it does not translate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatConfig {
    /// How it translates addresses; `None` makes it a stateful firewall only.
    pub translation: Option<Translation>,
    /// Whose packets it lets in.
    pub filtering: Dependence,
    /// Whether it turns packets to its own outside back.
    pub hairpin: Hairpin,
    /// How long it remembers.
    pub timeouts: Timeouts,
    /// Whether packets that come in refresh its memory too (RFC 4787, section 4.3); those that go out always do.
    pub inbound_refresh: bool,
    /// What comes of packets that nobody asked for.
    pub unsolicited: Unsolicited,
    /// Which packets are allowed out.
    pub egress: Egress,
    /// New flows a second that it allows, and in a burst; others are dropped. No limit if `None`.
    pub new_flows: Option<u16>,
    /// Largest IP packet that passes, headers included; bigger ones vanish silently.
    pub mtu: u16,
    /// Whether hosts on its inside cannot reach each other but through it: client isolation.
    pub isolates: bool,
    /// Whether its inside speaks IPv6 and has IPv4 behind 64:ff9b::/96 (RFC 6146): a NAT64, if it translates at all.
    pub nat64: bool,
    /// Whether hosts on its inside have public IPv6 addresses as well, and whose packets its firewall lets in to those. No
    /// IPv6 if `None`; what it does to IPv4 is another matter.
    pub beside: Option<Dependence>,
}

impl NatConfig {
    /// The usual home router, which is Linux: endpoint-independent mapping, address- and port-dependent filtering, ports
    /// preserved, overloading.
    pub const EASY: Self = Self {
        translation: Some(Translation {
            mapping: Dependence::Endpoint,
            ports: Ports::Preserved,
            overloading: true,
            addresses: 1,
            pooling: Pooling::Paired,
        }),
        filtering: Dependence::AddressAndPort,
        hairpin: Hairpin::None,
        timeouts: Timeouts { unreplied: Duration::from_secs(30), replied: Duration::from_secs(120) },
        inbound_refresh: true,
        unsolicited: Unsolicited::DROPPED,
        egress: Egress::Any,
        new_flows: None,
        mtu: 1500,
        isolates: false,
        nat64: false,
        beside: None,
    };

    /// A NAT of this mapping, filtering and port assignment. As RFC 4787 has it no two hosts share a port, except where
    /// it does what Linux does: ports preserved for everyone.
    pub const fn new(mapping: Dependence, filtering: Dependence, ports: Ports) -> Self {
        let overloading = matches!((mapping, ports), (Dependence::Endpoint, Ports::Preserved));
        let translation = Translation { mapping, ports, overloading, addresses: 1, pooling: Pooling::Paired };
        Self { translation: Some(translation), filtering, ..Self::EASY }
    }

    /// A stateful firewall: filtering only.
    pub const fn firewall(filtering: Dependence) -> Self {
        Self { translation: None, filtering, ..Self::EASY }
    }

    /// Whether mappings of one internal endpoint differ with the remote endpoint. Overloaded ports that are preserved
    /// never need to.
    pub fn mapping(&self) -> Dependence {
        match self.translation {
            Some(Translation { ports: Ports::Preserved, overloading: true, .. }) | None => Dependence::Endpoint,
            Some(translation) => translation.mapping,
        }
    }

    /// Whether it is between IPv6 inside and IPv4 outside.
    pub fn is_nat64(&self) -> bool {
        self.nat64 && self.translation.is_some()
    }

    /// What is between its hosts' IPv6 addresses and the internet.
    pub fn firewall_beside(&self) -> Option<Self> {
        let filtering = self.beside.filter(|_| self.translation.is_some())?;
        Some(Self { egress: self.egress, timeouts: self.timeouts, mtu: self.mtu, ..Self::firewall(filtering) })
    }

    /// Whether it lets UDP out to where peers are.
    pub fn blocks_udp(&self) -> bool {
        self.egress != Egress::Any
    }
}
