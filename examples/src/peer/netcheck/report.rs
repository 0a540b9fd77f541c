//! What was found, in words and in JSON, and what it means.

use std::{fmt, net::SocketAddr, time::Duration};

use direc_smol::{Filtering, Mapping, Nature, PortAssignment};
use serde::Serialize;

use crate::clock::{ms, spoken};

/// What was found.
pub(super) struct Findings {
    pub(super) relays: Vec<Relay>,
    /// This machine's addresses on its own networks.
    pub(super) nearby: Vec<SocketAddr>,
    pub(super) nature: Nature,
    pub(super) hairpin: Option<bool>,
    /// What the router has granted, or `none`, if it was asked.
    pub(super) port_mapping: Option<String>,
}

/// A relay that has answered, or has not.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    pub(super) rtt: Option<Duration>,
    pub(super) reached: bool,
    /// It was there, if only to refuse.
    pub(super) answers: bool,
    /// Its hole-punch ports do not answer.
    pub(super) blocked: bool,
    pub(super) error: Option<String>,
}

/// One JSON object; `null` is what could not be found out. Described in docs/netcheck.md.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "netcheck")]
pub(super) struct Report {
    /// Whether a relay answers, and its hole-punch ports.
    udp: bool,
    punch: bool,
    relays: Vec<RelayLine>,
    addresses: Vec<String>,
    nearby: Vec<String>,
    ipv6: Vec<String>,
    nat: Option<bool>,
    mapping: Option<&'static str>,
    mapping_across_hosts: bool,
    ports: Option<&'static str>,
    port_step: Option<i32>,
    filtering: Option<&'static str>,
    clash_prone: Option<bool>,
    hairpin: Option<bool>,
    port_mapping: Option<String>,
    /// One of a few words, for programs.
    verdict: Verdict,
    meaning: String,
}

#[derive(Debug, Serialize)]
struct RelayLine {
    relay: String,
    reached: bool,
    rtt_ms: Option<f64>,
    why: Option<String>,
}

/// How far direct connections go from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// Whatever the other side is behind.
    Everyone,
    /// Unless the other side's NAT gives each destination another address.
    Most,
    /// The same, if no packet of the other side's comes too early.
    MostInOrder,
    /// Where the other side's filter is open.
    Few,
    /// UDP gets to the relay's QUIC port and no further.
    RelayOnly,
    /// Relays answer, and do not take this machine.
    Refused,
    /// No relay answers.
    Nothing,
    /// Too little is known.
    Unknown,
}

impl Verdict {
    fn of(found: &Findings) -> Self {
        let reached: Vec<&Relay> = found.relays.iter().filter(|relay| relay.reached).collect();
        let nature = &found.nature;
        if reached.is_empty() {
            return if found.relays.iter().any(|relay| relay.answers) { Self::Refused } else { Self::Nothing };
        }
        if reached.iter().all(|relay| relay.blocked) {
            return Self::RelayOnly;
        }
        match (nature.mapping, nature.filtering) {
            (None, _) => Self::Unknown,
            (Some(Mapping::EndpointIndependent), Some(Filtering::IgnoresPorts)) => Self::Everyone,
            (Some(Mapping::EndpointIndependent), _) if nature.clash_prone == Some(true) => Self::MostInOrder,
            (Some(Mapping::EndpointIndependent), _) => Self::Most,
            (Some(_), _) => Self::Few,
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Everyone => "direct to nearly everyone",
            Self::Most => "direct unless the other side's NAT gives each destination another port",
            Self::MostInOrder => {
                "direct unless the other side's NAT gives each destination another port, and if this side punches first: \
                 a packet that comes too early spoils the answer's port"
            }
            Self::Few => {
                "direct only where the other side is behind no NAT, or an open one; through the relay otherwise"
            }
            Self::RelayOnly => "only through the relay: its hole-punch ports do not answer",
            Self::Refused => "not known: the relay answers, and does not take this machine",
            Self::Nothing => "no connection at all: no relay answers by UDP (is UDP let out, is the address right?)",
            Self::Unknown => "not known: the relay was reached, but did not say how it sees this machine",
        }
    }
}

impl Report {
    /// Whether any relay has taken this machine.
    pub(super) fn is_reached(&self) -> bool {
        self.relays.iter().any(|relay| relay.reached)
    }

    pub(super) fn new(found: Findings) -> Self {
        let verdict = Verdict::of(&found);
        let Findings { relays, nearby, nature, hairpin, port_mapping } = found;
        let punch = relays.iter().any(|relay| relay.reached && !relay.blocked);
        let mut addresses: Vec<String> = nature.sightings.iter().map(|seen| seen.address.to_string()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let global =
            |address: &&SocketAddr| matches!(address, SocketAddr::V6(v6) if v6.ip().segments()[0] & 0xe000 == 0x2000);
        Self {
            udp: relays.iter().any(|relay| relay.answers),
            punch,
            relays: relays.into_iter().map(line).collect(),
            addresses,
            ipv6: nearby.iter().filter(global).map(|address| address.ip().to_string()).collect(),
            nearby: nearby.iter().map(SocketAddr::to_string).collect(),
            nat: nature.translated,
            mapping: nature.mapping.map(|mapping| match mapping {
                Mapping::EndpointIndependent => "endpoint_independent",
                Mapping::AddressDependent => "address_dependent",
                Mapping::AddressAndPortDependent => "address_and_port_dependent",
            }),
            mapping_across_hosts: nature.across_hosts,
            ports: nature.ports.map(|ports| match ports {
                PortAssignment::Preserved => "preserved",
                PortAssignment::Sequential { .. } => "sequential",
                PortAssignment::Other => "other",
            }),
            port_step: match nature.ports {
                Some(PortAssignment::Sequential { step }) => Some(step),
                _ => None,
            },
            filtering: nature.filtering.map(|filtering| match filtering {
                Filtering::IgnoresPorts => "ignores_ports",
                Filtering::AddressAndPortDependent => "address_and_port_dependent",
            }),
            clash_prone: nature.clash_prone,
            hairpin,
            port_mapping,
            verdict,
            meaning: verdict.meaning().to_owned(),
        }
    }
}

fn line(relay: Relay) -> RelayLine {
    let why = relay.error.or_else(|| relay.blocked.then(|| "its hole-punch ports do not answer".to_owned()));
    RelayLine { relay: relay.address.to_string(), reached: relay.reached, rtt_ms: relay.rtt.map(ms), why }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |known: Option<bool>| known.map_or("not known", |yes| if yes { "yes" } else { "no" });
        let list =
            |list: &[String], none: &'static str| if list.is_empty() { none.to_owned() } else { list.join(", ") };
        for relay in &self.relays {
            let far = relay.rtt_ms.map(|ms| format!("round trip {}", spoken(Duration::from_secs_f64(ms / 1e3))));
            let known =
                if relay.reached { far.unwrap_or_else(|| "reached".to_owned()) } else { "not reached".to_owned() };
            let why = relay.why.as_ref().map_or(String::new(), |why| format!("; {why}"));
            writeln!(f, "relay {}: {known}{why}", relay.relay)?;
        }
        writeln!(f, "UDP gets out: {}", if self.udp { "yes" } else { "no" })?;
        if self.is_reached() {
            let plain = |word: Option<&str>| word.map_or("not known".to_owned(), |word| word.replace('_', " "));
            let far = match (self.mapping, self.mapping_across_hosts) {
                (Some("endpoint_independent"), false) => " (as far as one relay address can show)",
                _ => "",
            };
            writeln!(f, "address outside: {}", list(&self.addresses, "not known"))?;
            writeln!(f, "addresses here: {}", list(&self.nearby, "none that others reach"))?;
            writeln!(f, "IPv6: {}", list(&self.ipv6, "no"))?;
            writeln!(f, "behind a NAT: {}", yes(self.nat))?;
            writeln!(f, "mapping: {}{far}", plain(self.mapping))?;
            let step = self.port_step.map_or(String::new(), |step| format!(", {step:+} apart"));
            writeln!(f, "ports: {}{step}", plain(self.ports))?;
            writeln!(f, "filtering: {}", plain(self.filtering))?;
            writeln!(f, "an early packet clashes: {}", yes(self.clash_prone))?;
            writeln!(f, "hairpinning: {}", if self.nat == Some(false) { "no NAT" } else { yes(self.hairpin) })?;
            writeln!(f, "port mapping: {}", self.port_mapping.as_deref().unwrap_or("not asked"))?;
        }
        write!(f, "=> {}", self.meaning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(change: impl FnOnce(&mut Findings)) -> Findings {
        let address: SocketAddr = ([203, 0, 113, 10], 4433).into();
        let rtt = Some(Duration::from_millis(20));
        let relay = Relay { address, rtt, reached: true, answers: true, blocked: false, error: None };
        let mut found = Findings {
            relays: vec![relay],
            nearby: Vec::new(),
            nature: Nature::default(),
            hairpin: None,
            port_mapping: None,
        };
        change(&mut found);
        found
    }

    fn verdict(mapping: Mapping, filtering: Filtering, clash: Option<bool>) -> Verdict {
        Verdict::of(&found(|found| {
            let nature = &mut found.nature;
            (nature.mapping, nature.filtering, nature.clash_prone) = (Some(mapping), Some(filtering), clash);
        }))
    }

    #[test]
    fn the_verdict_follows_from_mapping_filtering_and_clash() {
        use Filtering::{AddressAndPortDependent, IgnoresPorts};
        assert_eq!(verdict(Mapping::EndpointIndependent, IgnoresPorts, Some(false)), Verdict::Everyone);
        assert_eq!(verdict(Mapping::EndpointIndependent, AddressAndPortDependent, Some(false)), Verdict::Most);
        assert_eq!(verdict(Mapping::EndpointIndependent, AddressAndPortDependent, None), Verdict::Most);
        assert_eq!(verdict(Mapping::EndpointIndependent, AddressAndPortDependent, Some(true)), Verdict::MostInOrder);
        assert_eq!(verdict(Mapping::AddressDependent, IgnoresPorts, Some(false)), Verdict::Few);
        assert_eq!(verdict(Mapping::AddressAndPortDependent, AddressAndPortDependent, None), Verdict::Few);
        assert_eq!(Verdict::of(&found(|_| {})), Verdict::Unknown);
    }

    #[test]
    fn without_a_relay_there_is_nothing_and_without_its_hole_punch_ports_only_the_relay() {
        assert_eq!(Verdict::of(&found(|found| found.relays.clear())), Verdict::Nothing);
        assert_eq!(Verdict::of(&found(|found| found.relays[0].reached = false)), Verdict::Refused);
        let silent = |found: &mut Findings| (found.relays[0].reached, found.relays[0].answers) = (false, false);
        assert_eq!(Verdict::of(&found(silent)), Verdict::Nothing);
        assert_eq!(Verdict::of(&found(|found| found.relays[0].blocked = true)), Verdict::RelayOnly);
    }

    #[test]
    fn people_are_told_what_is_not_known() {
        let text = Report::new(found(|_| {})).to_string();
        assert!(text.contains("relay 203.0.113.10:4433: round trip 20 ms\n"), "{text}");
        assert!(text.contains("mapping: not known\n") && text.contains("port mapping: not asked\n"), "{text}");
        assert!(text.lines().last().unwrap().starts_with("=> not known"), "{text}");
    }
}
