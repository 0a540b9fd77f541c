//! What was found, in words and in JSON, and what it means.

use std::{fmt, net::SocketAddr, time::Duration};

use direc_smol::{Filtering, Mapping, Nature, PortAssignment};
use serde::Serialize;

use crate::{
    clock::{ms, spoken},
    events::By,
};

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
    /// It is reached by HTTPS: UDP to its QUIC port does not pass.
    pub(super) tunnelled: bool,
    /// Its hole-punch ports answer.
    pub(super) warm: bool,
    /// Its hole-punch ports do not answer.
    pub(super) blocked: bool,
    pub(super) error: Option<String>,
}

/// One JSON object; `null` is what could not be found out. Described in docs/netcheck.md.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "netcheck")]
pub(super) struct Report {
    /// Whether a relay answers by UDP, and its hole-punch ports.
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
    /// How.
    by: Option<By>,
    rtt_ms: Option<f64>,
    why: Option<String>,
}

/// How far direct connections go from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// Whatever the other side is behind.
    Everyone,
    /// The same, and slower where the other side's NAT gives each destination another port.
    Most,
    /// The same, and slower where a packet of the other side's comes too early.
    MostInOrder,
    /// Unless the other side's NAT gives each destination another port that cannot be predicted: this side's does too,
    /// and its ports can be.
    UnlessRandom,
    /// Unless the other side's NAT gives each destination another port: this side's does too.
    UnlessSymmetric,
    /// UDP gets to the relay's QUIC port and no further.
    RelayOnly,
    /// UDP does not get out; HTTPS does.
    HttpsOnly,
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
            let by_udp = reached.iter().any(|relay| !relay.tunnelled);
            return if by_udp { Self::RelayOnly } else { Self::HttpsOnly };
        }
        match (nature.mapping, nature.filtering) {
            (None, _) => Self::Unknown,
            (Some(Mapping::EndpointIndependent), Some(Filtering::IgnoresPorts)) => Self::Everyone,
            (Some(Mapping::EndpointIndependent), _) if nature.clash_prone == Some(true) => Self::MostInOrder,
            (Some(Mapping::EndpointIndependent), _) => Self::Most,
            (Some(_), _) if matches!(nature.ports, Some(PortAssignment::Sequential { .. })) => Self::UnlessRandom,
            (Some(_), _) => Self::UnlessSymmetric,
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Everyone => "direct to nearly everyone",
            Self::Most => {
                "direct to nearly everyone; after some seconds where the other side's NAT gives each destination another port"
            }
            Self::MostInOrder => {
                "direct to nearly everyone; after some seconds where the other side's NAT gives each destination another \
                 port, or where a packet of the other side's comes too early and takes this side's port away"
            }
            Self::UnlessRandom => {
                "direct, often after some seconds, unless the other side's NAT gives each destination another port at \
                 random; through the relay then"
            }
            Self::UnlessSymmetric => {
                "direct, often after some seconds, unless the other side's NAT gives each destination another port, too; \
                 through the relay then"
            }
            Self::RelayOnly => {
                "through the relay, unless this machine reaches the other side by itself: the relay's hole-punch ports do \
                 not answer"
            }
            Self::HttpsOnly => "only through the relay, by HTTPS: UDP does not get out of here, or not to the relay",
            Self::Refused => "not known: the relay answers, and does not take this machine",
            Self::Nothing => "no connection at all: no relay answers (is UDP let out, is the address right?)",
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
            udp: relays.iter().any(|relay| relay.answers && !relay.tunnelled || relay.warm),
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
    let by = relay.reached.then_some(if relay.tunnelled { By::Https } else { By::Udp });
    RelayLine { relay: relay.address.to_string(), reached: relay.reached, by, rtt_ms: relay.rtt.map(ms), why }
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
            let by = if matches!(relay.by, Some(By::Https)) { " by HTTPS" } else { "" };
            let why = relay.why.as_ref().map_or(String::new(), |why| format!("; {why}"));
            writeln!(f, "relay {}: {known}{by}{why}", relay.relay)?;
        }
        // A relay that is off looks like a network that lets nothing out.
        let gets_out = match (self.udp, self.is_reached()) {
            (true, _) => "yes",
            (false, true) => "no",
            (false, false) => "not known: no relay answers",
        };
        writeln!(f, "UDP gets out: {gets_out}")?;
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
        let relay = Relay {
            address,
            rtt,
            reached: true,
            answers: true,
            tunnelled: false,
            warm: true,
            blocked: false,
            error: None,
        };
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
        assert_eq!(verdict(Mapping::AddressDependent, IgnoresPorts, Some(false)), Verdict::UnlessSymmetric);
        assert_eq!(verdict(Mapping::AddressAndPortDependent, AddressAndPortDependent, None), Verdict::UnlessSymmetric);
        let counting = |found: &mut Findings| {
            found.nature.mapping = Some(Mapping::AddressAndPortDependent);
            found.nature.ports = Some(PortAssignment::Sequential { step: 1 });
        };
        assert_eq!(Verdict::of(&found(counting)), Verdict::UnlessRandom);
        assert_eq!(Verdict::of(&found(|_| {})), Verdict::Unknown);
    }

    #[test]
    fn without_a_relay_there_is_nothing_and_without_its_hole_punch_ports_only_the_relay() {
        assert_eq!(Verdict::of(&found(|found| found.relays.clear())), Verdict::Nothing);
        assert_eq!(Verdict::of(&found(|found| found.relays[0].reached = false)), Verdict::Refused);
        let silent = |found: &mut Findings| (found.relays[0].reached, found.relays[0].answers) = (false, false);
        assert_eq!(Verdict::of(&found(silent)), Verdict::Nothing);
        let blocked = |tunnelled| {
            move |found: &mut Findings| {
                let relay = &mut found.relays[0];
                (relay.blocked, relay.warm, relay.tunnelled) = (true, false, tunnelled);
            }
        };
        assert_eq!(Verdict::of(&found(blocked(false))), Verdict::RelayOnly);
        assert_eq!(Verdict::of(&found(blocked(true))), Verdict::HttpsOnly);
    }

    #[test]
    fn a_relay_that_is_reached_by_https_alone_does_not_show_that_udp_gets_out() {
        let report = |warm: bool| {
            Report::new(found(|found| {
                let relay = &mut found.relays[0];
                (relay.tunnelled, relay.warm, relay.blocked) = (true, warm, !warm);
            }))
        };
        let text = report(false).to_string();
        assert!(text.contains("UDP gets out: no\n") && text.contains("round trip 20 ms by HTTPS; its hole"), "{text}");
        assert!(text.ends_with("UDP does not get out of here, or not to the relay"), "{text}");
        assert!(report(true).udp, "the hole-punch ports answer by UDP");
    }

    #[test]
    fn people_are_told_what_is_not_known() {
        let text = Report::new(found(|_| {})).to_string();
        assert!(text.contains("relay 203.0.113.10:4433: round trip 20 ms\n"), "{text}");
        assert!(text.contains("mapping: not known\n") && text.contains("port mapping: not asked\n"), "{text}");
        assert!(text.lines().last().unwrap().starts_with("=> not known"), "{text}");
    }
}
