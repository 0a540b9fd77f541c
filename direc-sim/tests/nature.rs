//! What a peer finds out about the boxes in front of it, against what they are.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use direc_core::{Filtering, Mapping, Nature, PortAssignment};
use direc_sim::{Outcome, Scenario, nat::stack, packet::Kind, run};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const KNOCK: Option<Duration> = Some(Duration::from_secs(2));

/// P4 is behind these boxes and left alone for so long.
fn alone(boxes: &str, relays: usize, for_: Duration) -> Outcome {
    let mut scenario = Scenario::pair([Vec::new(), stack(boxes).unwrap()], 20 * MS, 30 * MS, 25 * MS);
    scenario.calls.clear();
    scenario.knock_after = KNOCK;
    (scenario.relays, scenario.linger, scenario.limit) = (relays, for_, 2 * for_);
    let outcome = run(&scenario, 1).unwrap();
    assert_eq!(outcome.faults(), Vec::<String>::new());
    outcome
}

fn nature(boxes: &str, relays: usize) -> Nature {
    alone(boxes, relays, 5 * SECOND).peers[1].nature.clone()
}

fn knocks(outcome: &Outcome) -> Vec<Duration> {
    let own = outcome.trace.packets.iter().filter(|packet| packet.kind == Kind::Knock);
    own.map(|packet| packet.at.saturating_sub(outcome.start)).collect()
}

#[test]
fn mapping_is_told_as_it_is_with_two_relays_and_as_far_as_can_be_seen_with_one() {
    use Mapping::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
    for (boxes, mapping) in [
        ("none", EndpointIndependent),
        ("fw", EndpointIndependent),
        ("easy", EndpointIndependent),
        ("eim-eif", EndpointIndependent),
        ("eim-adf-x", EndpointIndependent),
        ("double-eim", EndpointIndependent),
        ("clash", EndpointIndependent),
        ("adm-adf-x", AddressDependent),
        ("sym", AddressAndPortDependent),
        ("double-sym", AddressAndPortDependent),
    ] {
        let two = nature(boxes, 2);
        assert_eq!(two.mapping, Some(mapping), "{boxes}: {two}");
        assert_eq!(two.across_hosts, mapping != AddressAndPortDependent, "{boxes}");
        let one = nature(boxes, 1);
        let seen = if mapping == AddressDependent { EndpointIndependent } else { mapping };
        assert_eq!((one.mapping, one.across_hosts), (Some(seen), false), "{boxes}: {one}");
    }
}

#[test]
fn who_is_behind_no_nat_knows_it_and_ports_are_told_as_they_are() {
    for (boxes, translated, ports) in [
        ("none", false, PortAssignment::Preserved),
        ("fw", false, PortAssignment::Preserved),
        ("easy", true, PortAssignment::Preserved),
        ("eim-adf-x", true, PortAssignment::Other),
        ("sym", true, PortAssignment::Other),
    ] {
        let nature = nature(boxes, 1);
        assert_eq!((nature.translated, nature.ports), (Some(translated), Some(ports)), "{boxes}");
    }
}

#[test]
fn filtering_and_clashes_are_found_out_by_one_knock() {
    use Filtering::{AddressAndPortDependent, IgnoresPorts};
    for (boxes, filtering, clash) in [
        ("none", IgnoresPorts, Some(false)),
        ("fw", AddressAndPortDependent, Some(false)),
        ("easy", AddressAndPortDependent, Some(false)),
        ("eim-eif", IgnoresPorts, Some(false)),
        ("eim-adf", IgnoresPorts, Some(false)),
        ("eim-adf-x", IgnoresPorts, Some(false)),
        ("eim-apdf-x", AddressAndPortDependent, Some(false)),
        ("clash", AddressAndPortDependent, Some(true)),
        ("double", AddressAndPortDependent, Some(false)),
        // Where each port has a mapping of its own, there is nothing that a clash could spoil.
        ("sym", AddressAndPortDependent, None),
    ] {
        let nature = nature(boxes, 1);
        assert_eq!((nature.filtering, nature.clash_prone), (Some(filtering), clash), "{boxes}: {nature}");
    }
}

#[test]
fn a_knock_is_asked_for_when_nobody_is_calling_and_once_more_where_it_may_have_been_lost() {
    let outcome = alone("eim-eif", 1, 900 * SECOND);
    // Two peers; whoever is behind no filter as well.
    assert_eq!(knocks(&outcome).len(), 2);
    let outcome = alone("easy", 1, 900 * SECOND);
    let at = knocks(&outcome);
    assert_eq!(at.len(), 3, "{at:?}");
    assert!(at[2] > 330 * SECOND && at[2] < 340 * SECOND, "{at:?}");
}

#[test]
fn nobody_knocks_while_there_is_a_connection() {
    let mut scenario = Scenario::home_pair(20 * MS, 30 * MS, 25 * MS);
    (scenario.linger, scenario.knock_after) = (20 * SECOND, KNOCK);
    let outcome = run(&scenario, 1).unwrap();
    assert_eq!(outcome.faults(), Vec::<String>::new());
    assert!(knocks(&outcome).is_empty());
    assert_eq!(outcome.peers[1].nature.mapping, Some(Mapping::EndpointIndependent), "that costs nothing");
}

#[test]
fn what_a_clash_has_spoilt_is_told_to_nobody() {
    let mut scenario = Scenario::pair([Vec::new(), stack("clash").unwrap()], 20 * MS, 30 * MS, 25 * MS);
    (scenario.calls[0].at, scenario.knock_after) = (10 * SECOND, KNOCK);
    let outcome = run(&scenario, 1).unwrap();
    assert_eq!(outcome.faults(), Vec::<String>::new());
    assert_eq!(outcome.peers[1].nature.clash_prone, Some(true));
    assert!(outcome.call(0).unwrap().direct().is_some(), "the call goes direct all the same");
    let told: Vec<_> = outcome.peers[1].nature.sightings.iter().map(|seen| seen.address.port()).collect();
    assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:?}");
}

/// A firewall that bans whoever sends what nobody asked for bans a relay that knocks.
#[test]
fn nobody_knocks_unasked_so_that_no_firewall_shuts_the_relay_out() {
    let call = |knock_after| {
        let mut scenario = Scenario::pair([stack("ban").unwrap(), stack("easy").unwrap()], 20 * MS, 30 * MS, 25 * MS);
        (scenario.calls[0].at, scenario.knock_after) = (3 * SECOND, knock_after);
        let outcome = run(&scenario, 1).unwrap();
        (knocks(&outcome).len(), outcome.call(0).unwrap().first_echo().is_some())
    };
    assert_eq!(call(Scenario::home_pair(MS, MS, MS).knock_after), (0, true));
    assert_eq!(call(KNOCK), (2, false), "what it would come to");
}
