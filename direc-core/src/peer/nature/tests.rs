//! What evidence comes to.

use std::time::Duration;

use super::*;

const RELAYS: [&str; 2] = ["203.0.113.10:4433", "203.0.113.20:4433"];
const LOCAL: &str = "192.168.1.10:5000";

fn at(port: u16) -> SocketAddr {
    SocketAddr::new([198, 51, 100, 2].into(), port)
}

/// A peer that both relays know, with two hole-punch ports each, and nothing seen yet.
#[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
fn evidence() -> (Evidence, Instant) {
    let mut evidence = Evidence::new(&RELAYS.map(|relay| relay.parse().unwrap()));
    evidence.set_local(&[LOCAL.parse().unwrap()]);
    (0..2).for_each(|relay| evidence.on_registered(relay, 2));
    (evidence, Instant::now())
}

/// One relay's QUIC port and its hole-punch ports see these.
fn see(evidence: &mut Evidence, now: Instant, relay: usize, [quic, first, second]: [u16; 3]) {
    evidence.on_seen(now, relay, at(quic), false);
    evidence.on_observed(now, relay, [relay as u8 + 1; 16], 0, at(first));
    evidence.on_observed(now, relay, [relay as u8 + 1; 16], 1, at(second));
}

fn seen(by_relay: &[[u16; 3]]) -> Nature {
    let (mut evidence, now) = evidence();
    by_relay.iter().enumerate().for_each(|(relay, &ports)| see(&mut evidence, now, relay, ports));
    evidence.nature()
}

#[test]
fn one_address_at_all_ports_is_endpoint_independent_as_far_as_one_host_can_show() {
    let nature = seen(&[[5000; 3]]);
    assert_eq!((nature.mapping, nature.across_hosts), (Some(Mapping::EndpointIndependent), false));
    assert_eq!((nature.ports, nature.translated), (Some(PortAssignment::Preserved), Some(true)));
    let nature = seen(&[[7000; 3], [7000; 3]]);
    assert_eq!((nature.mapping, nature.across_hosts), (Some(Mapping::EndpointIndependent), true));
    assert_eq!(nature.ports, Some(PortAssignment::Other));
}

#[test]
fn a_second_relay_shows_address_dependence() {
    let nature = seen(&[[7000; 3], [8000; 3]]);
    assert_eq!((nature.mapping, nature.across_hosts), (Some(Mapping::AddressDependent), true));
}

#[test]
fn another_address_at_another_port_is_address_and_port_dependent() {
    let nature = seen(&[[7000, 51_234, 2048]]);
    assert_eq!(nature.mapping, Some(Mapping::AddressAndPortDependent));
    assert_eq!((nature.ports, nature.clash_prone), (Some(PortAssignment::Other), None));
}

#[test]
fn ports_given_out_one_after_the_other_show_their_step_and_others_flows_do_not_hide_it() {
    let step = |ports| seen(&[ports]).ports;
    assert_eq!(step([7000, 7001, 7002]), Some(PortAssignment::Sequential { step: 1 }));
    assert_eq!(step([7000, 7007, 7009]), Some(PortAssignment::Sequential { step: 2 }));
    assert_eq!(step([7009, 7007, 7000]), Some(PortAssignment::Sequential { step: -2 }));
    assert_eq!(step([7000, 7001, 7000]), Some(PortAssignment::Other), "back and forth");
    assert_eq!(step([7000, 7100, 7101]), Some(PortAssignment::Other), "too far");
}

#[test]
fn a_peer_at_the_address_that_relays_see_is_behind_no_nat() {
    let (mut evidence, now) = evidence();
    evidence.set_local(&[at(5000)]);
    see(&mut evidence, now, 0, [5000; 3]);
    assert_eq!(evidence.nature().translated, Some(false));
}

#[test]
fn half_a_run_concludes_nothing_and_an_address_from_before_a_reboot_is_compared_with_none() {
    let (mut evidence, now) = evidence();
    evidence.on_seen(now, 0, at(7000), false);
    evidence.on_observed(now, 0, [1; 16], 0, at(7000));
    assert!(evidence.news().is_none());
    evidence.on_observed(now, 0, [1; 16], 1, at(7000));
    assert!(evidence.news().is_some());
    // The NAT forgets; each place in turn sees the new address.
    evidence.on_seen(now, 0, at(9000), false);
    evidence.on_observed(now, 0, [2; 16], 0, at(9000));
    assert!(evidence.news().is_none());
    evidence.on_observed(now, 0, [2; 16], 1, at(9000));
    assert!(evidence.news().is_none());
    assert_eq!(evidence.nature().mapping, Some(Mapping::EndpointIndependent));
}

#[test]
fn what_a_relay_sees_of_a_tunnel_is_no_address_of_the_udp_socket() {
    let (mut evidence, now) = evidence();
    evidence.on_seen(now, 0, at(61_000), true);
    let nature = evidence.nature();
    assert_eq!((nature.translated, nature.mapping, nature.sightings), (None, None, vec![]));
    assert_eq!(evidence.host(0), Some(at(61_000).ip()), "it is the same host all the same");
    // The hole-punch ports answer, though the QUIC port does not: one mapping, whatever TCP's is.
    evidence.on_observed(now, 0, [1; 16], 0, at(5000));
    evidence.on_observed(now, 0, [1; 16], 1, at(5000));
    assert_eq!(evidence.nature().mapping, Some(Mapping::EndpointIndependent));
    // UDP passes again: the QUIC port's word counts.
    evidence.on_seen(now, 0, at(5001), false);
    evidence.on_observed(now, 0, [1; 16], 1, at(5000));
    assert_eq!(evidence.nature().mapping, Some(Mapping::AddressAndPortDependent));
}

#[test]
fn a_knock_that_came_in_and_one_that_did_not() {
    let finding = |finding| {
        let (mut evidence, now) = evidence();
        see(&mut evidence, now, 0, [5000; 3]);
        evidence.on_finding(0, finding);
        let nature = evidence.nature();
        (nature.filtering, nature.clash_prone)
    };
    let strict = Some(Filtering::AddressAndPortDependent);
    assert_eq!(finding(Finding::LetIn), (Some(Filtering::IgnoresPorts), Some(false)));
    assert_eq!(finding(Finding::KeptOut(Some(at(5000)))), (strict, Some(false)));
    assert_eq!(finding(Finding::KeptOut(Some(at(5001)))), (strict, Some(true)));
    assert_eq!(finding(Finding::KeptOut(None)), (strict, None));
}

#[test]
fn a_clash_once_seen_is_not_forgotten_for_a_knock_that_was_lost() {
    let (mut evidence, now) = evidence();
    see(&mut evidence, now, 0, [5000; 3]);
    evidence.on_finding(0, Finding::KeptOut(Some(at(5001))));
    evidence.on_finding(0, Finding::KeptOut(Some(at(5000))));
    assert_eq!(evidence.nature().clash_prone, Some(true));
    evidence.forget();
    assert_eq!(evidence.nature().clash_prone, None, "another network is another matter");
}

#[test]
fn sightings_say_since_when_and_until_when() {
    let (mut evidence, now) = evidence();
    see(&mut evidence, now, 0, [5000; 3]);
    let later = now + Duration::from_secs(9);
    evidence.on_observed(later, 0, [3; 16], 0, at(5000));
    evidence.on_observed(later, 0, [3; 16], 1, at(6000));
    let spans: Vec<_> =
        evidence.nature().sightings.iter().map(|seen| (seen.punch_port, seen.first, seen.last)).collect();
    assert_eq!(spans, [(None, now, now), (Some(0), now, later), (Some(1), later, later)]);
}

#[test]
fn a_relays_talk_of_ports_that_it_never_named_is_no_evidence() {
    let (mut evidence, now) = evidence();
    evidence.on_observed(now, 0, [1; 16], 200, at(1));
    evidence.on_observed(now, 9, [1; 16], 0, at(1));
    assert!(evidence.nature().sightings.is_empty());
}
