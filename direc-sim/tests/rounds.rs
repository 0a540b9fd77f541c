//! Rounds of punching from fresh sockets: what each of their techniques reaches, and that without it nothing does.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use direc_core::Techniques;
use direc_sim::{Outcome, Scenario, nat::stack, packet::Kind, run};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Two peers behind these boxes, with these techniques.
fn pair(boxes: [&str; 2], techniques: Techniques, change: impl Fn(&mut Scenario)) -> Outcome {
    let mut scenario = Scenario::pair(boxes.map(|name| stack(name).unwrap()), 20 * MS, 30 * MS, 25 * MS);
    scenario.techniques = techniques;
    change(&mut scenario);
    let outcome = run(&scenario, 1).unwrap();
    assert_eq!(outcome.faults(), Vec::<String>::new(), "{boxes:?}");
    assert!(outcome.call(0).unwrap().first_echo().is_some(), "{boxes:?}: data flows meanwhile");
    outcome
}

/// Until the data is on a direct path; `None` if it stays on the relay.
fn direct(boxes: [&str; 2], techniques: Techniques) -> Option<Duration> {
    pair(boxes, techniques, |_| ()).call(0).unwrap().direct()
}

const ALL: Techniques = Techniques { fresh_sockets: true, short_hops: true, prediction: true, many_sockets: true };

#[test]
fn a_nat_that_gives_any_port_is_met_by_many_sockets_and_many_guesses() {
    for boxes in [["sym", "easy"], ["easy", "sym"], ["double-sym", "easy"], ["adm-apdf-x", "easy"]] {
        let took = direct(boxes, ALL);
        assert!(took.is_some_and(|took| took < 10 * SECOND), "{boxes:?}: {took:?}");
        assert_eq!(direct(boxes, Techniques { many_sockets: false, ..ALL }), None, "{boxes:?}");
    }
}

#[test]
fn a_nat_that_counts_is_met_at_the_ports_it_gives_next() {
    for boxes in [["sym-seq", "easy"], ["easy", "sym-seq-busy"], ["sym-seq", "sym-seq"]] {
        let took = direct(boxes, Techniques { many_sockets: false, ..ALL });
        assert!(took.is_some_and(|took| took < 2 * SECOND), "{boxes:?}: {took:?}");
        let without = Techniques { many_sockets: false, prediction: false, ..ALL };
        assert_eq!(direct(boxes, without), None, "{boxes:?}");
    }
}

#[test]
fn a_carriers_block_of_ports_is_found_by_a_few_sockets() {
    for boxes in [["cgn-block", "easy"], ["easy", "cgn-block"]] {
        let outcome = pair(boxes, ALL, |_| ());
        let took = outcome.call(0).unwrap().direct();
        assert!(took.is_some_and(|took| took < 3 * SECOND), "{boxes:?}: {took:?}");
        let checks = outcome.trace.packets.iter().filter(|packet| packet.kind == Kind::Check && !packet.relayed);
        assert!(checks.count() < 1200, "{boxes:?}");
    }
}

/// With a delay of the relay's P4's packets come before P2 has punched: the clash that it was meant against.
#[test]
fn after_a_clash_fresh_sockets_meet() {
    for boxes in [["clash", "easy"], ["clash", "clash"]] {
        let late = |scenario: &mut Scenario| scenario.relay_delay = 50 * MS;
        let took = pair(boxes, ALL, late).call(0).unwrap().direct();
        assert!(took.is_some_and(|took| took < 2 * SECOND), "{boxes:?}: {took:?}");
        let without = Techniques { fresh_sockets: false, ..ALL };
        assert_eq!(pair(boxes, without, late).call(0).unwrap().direct(), None, "{boxes:?}");
    }
}

#[test]
fn where_both_sides_would_have_to_guess_nobody_begins() {
    let outcome = pair(["sym", "sym"], ALL, |_| ());
    assert_eq!(outcome.call(0).unwrap().direct(), None);
    let checks = outcome.trace.packets.iter().filter(|packet| packet.kind == Kind::Check && !packet.relayed);
    assert_eq!(checks.count(), 0);
}

#[test]
fn where_plain_punching_does_there_is_no_round() {
    for boxes in [["easy", "easy"], ["sym", "eim-adf"], ["none", "sym"]] {
        let outcome = pair(boxes, ALL, |_| ());
        assert!(outcome.call(0).unwrap().direct().is_some());
        let spare = outcome.trace.packets.iter().filter(|packet| packet.kind == Kind::Bid);
        assert_eq!(spare.count(), 0, "{boxes:?}");
    }
}
