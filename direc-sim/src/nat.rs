//! Boxes between a home and the internet: NATs and stateful firewalls, described in the terms of RFC 4787.

mod table;

#[cfg(test)]
mod stories;

use std::time::Duration;

pub use table::{Nat, NatDrop};

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
}

/// How a box translates addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// What makes a mapping another mapping.
    pub mapping: Dependence,
    /// How external ports are picked.
    pub ports: Ports,
}

/// A box: NAT, or firewall if it does not translate. Hairpinning (RFC 4787, section 6) is off in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatConfig {
    /// How it translates addresses; `None` makes it a stateful firewall only.
    pub translation: Option<Translation>,
    /// Whose packets it lets in.
    pub filtering: Dependence,
    /// How long it remembers a packet that went out. RFC 4787, REQ-5 asks for 120 s at least; 30 s is common.
    pub timeout: Duration,
    /// Whether packets that come in refresh its memory too (RFC 4787, section 4.3); those that go out always do.
    pub inbound_refresh: bool,
    /// Whether the router itself accepts a packet that nobody asked for, so that its entry takes the port away from
    /// the host's own answer: the inbound-first clash of DESIGN.md, section 6.
    pub clash: bool,
    /// Whether UDP goes out to port 53 only.
    pub blocks_udp: bool,
}

impl NatConfig {
    /// The usual home router: endpoint-independent mapping, address- and port-dependent filtering, ports preserved.
    pub const EASY: Self = Self {
        translation: Some(Translation { mapping: Dependence::Endpoint, ports: Ports::Preserved }),
        filtering: Dependence::AddressAndPort,
        timeout: Duration::from_secs(120),
        inbound_refresh: true,
        clash: false,
        blocks_udp: false,
    };

    /// A NAT of this mapping, filtering and port assignment.
    pub const fn new(mapping: Dependence, filtering: Dependence, ports: Ports) -> Self {
        Self { translation: Some(Translation { mapping, ports }), filtering, ..Self::EASY }
    }

    /// A stateful firewall: filtering only.
    pub const fn firewall(filtering: Dependence) -> Self {
        Self { translation: None, filtering, ..Self::EASY }
    }

    /// One box by its name, as in [`stack`].
    fn named(name: &str) -> Option<Self> {
        match name {
            "easy" | "strict" => return Some(Self::EASY),
            "fw" | "fw4" | "fw6" => return Some(Self::firewall(Dependence::AddressAndPort)),
            "sym" => {
                return Some(Self::new(Dependence::AddressAndPort, Dependence::AddressAndPort, Ports::Random));
            }
            "clash" => return Some(Self { clash: true, ..Self::EASY }),
            "udp-blocked" => return Some(Self { blocks_udp: true, ..Self::EASY }),
            "short-timeout" => return Some(Self { timeout: Duration::from_secs(10), ..Self::EASY }),
            _ => {}
        }
        let (name, ports) = match name.strip_suffix("-x") {
            Some(name) => (name, Ports::Random),
            None => (name, Ports::Preserved),
        };
        let (mapping, filtering) = name.split_once('-')?;
        let mapping = match mapping {
            "eim" => Dependence::Endpoint,
            "adm" => Dependence::Address,
            "apdm" => Dependence::AddressAndPort,
            _ => return None,
        };
        let filtering = match filtering {
            "eif" => Dependence::Endpoint,
            "adf" => Dependence::Address,
            "apdf" => Dependence::AddressAndPort,
            _ => return None,
        };
        Some(Self::new(mapping, filtering, ports))
    }
}

/// The names that [`stack`] knows, for people.
pub const NAMES: &str = "none, easy, strict, sym, clash, fw, udp-blocked, short-timeout, {eim,adm,apdm}-{eif,adf,apdf}[-x], \
    double, double-eim, double-eif, double-sym, or HOME/CARRIER";

/// A stack of boxes by name, innermost first: `easy`, `eim-eif`, `sym`, `none`; `home/carrier` stacks two.
///
/// `-x` stands for random ports. `None` if a name is unknown.
pub fn stack(name: &str) -> Option<Vec<NatConfig>> {
    match name {
        "none" => return Some(Vec::new()),
        "double" => return stack("easy/easy"),
        "double-eim" => return stack("easy/eim-apdf-x"),
        "double-eif" => return stack("easy/eim-eif-x"),
        "double-sym" => return stack("easy/sym"),
        _ => {}
    }
    name.split('/').map(NatConfig::named).collect()
}
