//! Names of boxes: strings only, the same on the command line, in the matrix and in the laboratory.

use std::time::Duration;

use super::{Dependence, Egress, Hairpin, NatConfig, Pooling, Ports, Timeouts, Translation};

/// The names that [`stack`] knows, for people.
pub const NAMES: &str = "none; easy, strict, sym, sym-seq, sym-seq-busy, cgn-block, clash, ban, hairpin, hairpin-none, \
    overload, parity, pf, udp-blocked, udp-443-only, short-timeout, nat64, fw, fw4, fw6; \
    {eim,adm,apdm}-{eif,adf,apdf}, then -x (random ports), -seq, -busy, -block, -parity or -pf; \
    double, double-eim, double-eif, double-sym, or HOME/CARRIER for two in a row; and to any of them +MOD: hairpin, \
    hairpin-internal, isolate, short, long, clash, reject, ban, blocked, 443, outbound, limit, paired, arbitrary, \
    small-mtu, nat64, v6, fw6";

/// All names of one box that are words of their own: what tables go through.
pub const SINGLE: [&str; 21] = [
    "easy",
    "strict",
    "sym",
    "sym-seq",
    "sym-seq-busy",
    "cgn-block",
    "clash",
    "ban",
    "hairpin",
    "hairpin-none",
    "overload",
    "parity",
    "pf",
    "udp-blocked",
    "udp-443-only",
    "short-timeout",
    "nat64",
    "fw",
    "fw4",
    "fw6",
    "eim-eif",
];

/// Two boxes in a row, and what they are made of.
const DOUBLES: [(&str, &str, &str); 4] = [
    ("double", "easy", "easy"),
    ("double-eim", "easy", "eim-apdf-x"),
    ("double-eif", "easy", "eim-eif-x"),
    ("double-sym", "easy", "sym"),
];

/// How long a firewall of the banning kind shuts a source out: as the laboratory's does.
const BAN: Duration = Duration::from_secs(10);
/// Ports of a subscriber's block where a carrier cuts 1,024–65,535 into 64.
const BLOCK: u16 = 1008;
/// Where BSD's pf takes ports from, unless told otherwise.
pub(crate) const PF: Ports = Ports::Within(50_001, u16::MAX);
/// What `busy` stands for: light cross traffic, in mappings a second.
const BUSY: u16 = 10;
/// What `limit` stands for: enough for a page's worth of flows, not for hundreds at once.
const LIMIT: u16 = 50;
/// The least MTU that IPv6 allows (RFC 8200, section 5).
const SMALL_MTU: u16 = 1280;

/// A stack of boxes by name, innermost first: `easy`, `eim-eif`, `sym`, `none`; `home/carrier` stacks two.
///
/// `+` adds to a box, as in `easy+ban/sym`; with a name that stands for two it adds to the home's. The names of the
/// kernel's laboratory mean the same here. `None` if a name is unknown.
pub fn stack(name: &str) -> Option<Vec<NatConfig>> {
    if name == "none" {
        return Some(Vec::new());
    }
    let (base, mods) = match name.split_once('+') {
        Some((base, mods)) => (base, Some(mods)),
        None => (name, None),
    };
    if let Some((_, home, carrier)) = DOUBLES.iter().find(|(alias, ..)| *alias == base) {
        let home = one(home).and_then(|home| modified(home, mods))?;
        return Some(vec![home, one(carrier)?]);
    }
    let boxes: Option<Vec<NatConfig>> = name
        .split('/')
        .map(|part| match part.split_once('+') {
            Some((base, mods)) => modified(one(base)?, Some(mods)),
            None => one(part),
        })
        .collect();
    // A NAT64's inside is where its hosts are, and so are addresses of both families.
    boxes.filter(|boxes| !boxes.iter().skip(1).any(|config| config.nat64 || config.beside.is_some()))
}

/// One box by its name, without modifiers.
fn one(name: &str) -> Option<NatConfig> {
    use Dependence::{AddressAndPort, Endpoint};
    let (easy, sequential) = (NatConfig::EASY, |busy| Ports::Sequential { step: 1, busy });
    let sym = |ports| NatConfig::new(AddressAndPort, AddressAndPort, ports);
    Some(match name {
        "easy" | "strict" | "hairpin-none" => easy,
        "fw" | "fw4" | "fw6" => NatConfig::firewall(AddressAndPort),
        // Linux gives one port to several flows, as long as they lead to different remote endpoints.
        "sym" => translating(sym(Ports::Random), |t| t.overloading = true),
        "sym-seq" => sym(sequential(0)),
        "sym-seq-busy" => sym(sequential(BUSY)),
        "cgn-block" => sym(Ports::Block(BLOCK)),
        "parity" => sym(Ports::Parity),
        "pf" => sym(PF),
        "overload" => translating(sym(Ports::Preserved), |t| t.overloading = true),
        "clash" => modified(easy, Some("clash"))?,
        "ban" => modified(easy, Some("ban"))?,
        "hairpin" => modified(easy, Some("hairpin"))?,
        "udp-blocked" => modified(easy, Some("blocked"))?,
        "udp-443-only" => modified(easy, Some("443"))?,
        "short-timeout" => modified(easy, Some("short"))?,
        // As RFC 6146 wants it.
        "nat64" => modified(one("eim-adf-x")?, Some("nat64"))?,
        _ => {
            let mut parts = name.split('-');
            let mapping = match parts.next()? {
                "eim" => Endpoint,
                "adm" => Dependence::Address,
                "apdm" => AddressAndPort,
                _ => return None,
            };
            let filtering = match parts.next()? {
                "eif" => Endpoint,
                "adf" => Dependence::Address,
                "apdf" => AddressAndPort,
                _ => return None,
            };
            let ports = match parts.next() {
                None => Ports::Preserved,
                Some("x") => Ports::Random,
                Some("seq") => sequential(0),
                Some("busy") => sequential(BUSY),
                Some("block") => Ports::Block(BLOCK),
                Some("parity") => Ports::Parity,
                Some("pf") => PF,
                Some(_) => return None,
            };
            if parts.next().is_some() {
                return None;
            }
            NatConfig::new(mapping, filtering, ports)
        }
    })
}

fn modified(mut config: NatConfig, mods: Option<&str>) -> Option<NatConfig> {
    let seconds = Duration::from_secs;
    for name in mods.into_iter().flat_map(|mods| mods.split('+')) {
        match name {
            "hairpin" => config.hairpin = Hairpin::External,
            "hairpin-internal" => config.hairpin = Hairpin::Internal,
            "isolate" => config.isolates = true,
            "short" => config.timeouts = Timeouts { unreplied: seconds(5), replied: seconds(10) },
            "long" => config.timeouts = Timeouts { unreplied: seconds(300), replied: seconds(300) },
            "clash" => config.unsolicited.accepted = true,
            // A refusal by ICMP, which no unconnected UDP socket is told of.
            "reject" => config.unsolicited.accepted = false,
            "ban" => config.unsolicited.ban = Some(BAN),
            "blocked" => config.egress = Egress::Dns,
            "443" => config.egress = Egress::Web,
            "outbound" => config.inbound_refresh = false,
            "limit" => config.new_flows = Some(LIMIT),
            "paired" => config = translating(config, |t| (t.addresses, t.pooling) = (4, Pooling::Paired)),
            "arbitrary" => config = translating(config, |t| (t.addresses, t.pooling) = (4, Pooling::Arbitrary)),
            "small-mtu" => config.mtu = SMALL_MTU,
            "nat64" => config.nat64 = true,
            "v6" if config.translation.is_some() => config.beside = Some(Dependence::Endpoint),
            "fw6" if config.translation.is_some() => config.beside = Some(Dependence::AddressAndPort),
            _ => return None,
        }
    }
    Some(config)
}

fn translating(mut config: NatConfig, change: impl FnOnce(&mut Translation)) -> NatConfig {
    if let Some(translation) = &mut config.translation {
        change(translation);
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::Unsolicited;

    #[test]
    fn every_combination_has_a_name_and_other_names_are_refused() {
        for mapping in ["eim", "adm", "apdm"] {
            for filtering in ["eif", "adf", "apdf"] {
                for suffix in ["", "-x", "-seq", "-busy", "-block", "-parity", "-pf"] {
                    let name = format!("{mapping}-{filtering}{suffix}");
                    assert_eq!(stack(&name).map(|s| s.len()), Some(1), "{name}");
                }
            }
        }
        for name in SINGLE {
            assert_eq!(stack(name).map(|s| s.len()), Some(1), "{name}");
        }
        assert_eq!(stack("none"), Some(vec![]));
        assert_eq!(stack("double-eim").map(|s| s.len()), Some(2));
        for wrong in
            ["", "eim", "eim-", "easy/", "eim-eif-y", "eim-eif-x-x", "Easy", "easy+", "fw+v6", "none+ban", "easy/nat64"]
        {
            assert_eq!(stack(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_added_to_two_boxes_goes_to_the_home() {
        let ban = Unsolicited { ban: Some(BAN), ..Unsolicited::DROPPED };
        let of = |name: &str| stack(name).unwrap().iter().map(|config| config.unsolicited).collect::<Vec<_>>();
        assert_eq!(of("double+ban"), [ban, Unsolicited::DROPPED]);
        assert_eq!(of("easy/easy+ban"), [Unsolicited::DROPPED, ban]);
        assert_eq!(of("easy+clash/sym"), [Unsolicited { accepted: true, ban: None }, Unsolicited::DROPPED]);
    }

    #[test]
    fn each_modifier_changes_something() {
        for name in NAMES.rsplit_once("+MOD: ").unwrap().1.split(", ") {
            let plain = stack("easy").unwrap();
            let changed = stack(&format!("easy+{name}")).unwrap();
            assert_eq!(plain == changed, name == "reject", "{name}");
        }
    }
}
