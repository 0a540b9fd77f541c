//! Rounds of punching from fresh sockets: what each of their techniques reaches, and that without it nothing does.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use direc_core::{PUNCHING_PACKETS, Techniques};
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

/// How many of the runs with the first so many seeds go direct.
fn how_many(seeds: u64, scenario: &Scenario) -> u64 {
    let direct = |seed| run(scenario, seed).unwrap().call(0).unwrap().direct().is_some();
    (1..=seeds).filter(|&seed| direct(seed)).count() as u64
}

fn between(boxes: [&str; 2]) -> Scenario {
    Scenario::pair(boxes.map(|name| stack(name).unwrap()), 20 * MS, 30 * MS, 25 * MS)
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

/// What the matrix found: in these runs the ports of two sockets look as if the NAT counted, and a round was lost by that.
#[test]
fn ports_of_one_block_that_are_close_by_chance_are_not_taken_for_a_row() {
    for (seed, delays) in [(71, [11, 67, 77]), (152, [36, 66, 67]), (585, [50, 50, 83]), (608, [64, 72, 75])] {
        let boxes = ["clash", "cgn-block"].map(|name| stack(name).unwrap());
        let [a, b, c] = delays.map(Duration::from_millis);
        let mut scenario = Scenario::pair(boxes, a, b, c);
        scenario.noise.loss = 0.05;
        let took = run(&scenario, seed).unwrap().call(0).unwrap().direct();
        assert!(took.is_some_and(|took| took < 3 * SECOND), "seed {seed}: {took:?}");
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

/// If word of the call comes to one side a probe timeout late, its firewall shuts the other's first punch out.
#[test]
fn a_datagram_lost_at_the_introduction_makes_nobody_late() {
    for boxes in [["easy", "ban"], ["ban", "easy"]] {
        let mut scenario = between(boxes);
        scenario.noise.loss = 0.05;
        assert!(how_many(100, &scenario) >= 98, "{boxes:?}");
    }
}

/// A round cannot begin before the relay has been told of its cookie, and has told what it sees.
#[test]
fn a_datagram_lost_at_a_round_costs_no_probe_timeout() {
    let mut scenario = between(["easy", "cgn-block"]);
    scenario.noise.loss = 0.05;
    let took = |seed| run(&scenario, seed).unwrap().call(0).unwrap().direct();
    let late: Vec<_> = (1..=60).filter(|&seed| took(seed).is_none_or(|took| took > 3 * SECOND)).collect();
    assert!(late.len() <= 1, "seeds {late:?}");
}

/// The laboratory's order without any delay: P4's punch is at P2's firewall before P2 has heard of the call.
#[test]
fn who_has_been_shut_out_is_let_in_once_that_is_over() {
    // Without a NAT of its own, the other's first punch in a round must not get farther than with one.
    for other in ["easy", "none"] {
        let mut scenario = between(["ban", other]);
        (scenario.relay_delay, scenario.linger) = (60 * MS, 3 * SECOND);
        let outcome = run(&scenario, 1).unwrap();
        let took = outcome.call(0).unwrap().direct();
        assert!(took.is_some_and(|took| (10 * SECOND..12 * SECOND).contains(&took)), "{other}: {took:?}");
    }
}

/// Each side's ports move on by what others map meanwhile, ten a second.
#[test]
fn two_nats_that_count_meet_although_others_use_them() {
    for boxes in [["sym-seq", "sym-seq-busy"], ["sym-seq-busy", "sym-seq-busy"]] {
        assert!(how_many(40, &between(boxes)) >= 39, "{boxes:?}");
    }
}

/// A round's sockets all go to the port at which the guesser is heard: its guesses stand open there.
#[test]
fn a_guesser_whose_port_depends_on_the_address_is_met_where_it_is_heard() {
    for boxes in [["adm-apdf-x", "apdm-eif-x"], ["apdm-adf-x", "adm-apdf-x"]] {
        assert!(how_many(20, &between(boxes)) >= 18, "{boxes:?}");
    }
}

#[test]
fn a_port_that_depends_on_the_address_is_known_by_a_second_relay_and_else_suspected() {
    for boxes in [["adm-apdf-x", "easy"], ["easy", "adm-apdf-x"]] {
        let took = |relays| {
            let mut scenario = between(boxes);
            scenario.relays = relays;
            run(&scenario, 1).unwrap().call(0).unwrap().direct().unwrap()
        };
        let (one, two) = (took(1), took(2));
        assert!(two < 2500 * MS && one > 2500 * MS, "{boxes:?}: {two:?} with two relays, {one:?} with one");
    }
}

#[test]
fn what_goes_out_where_ports_are_guessed_stays_within_the_named_budget() {
    for boxes in [["sym", "easy"], ["double-sym", "easy"], ["adm-apdf-x", "double"], ["apdm-eif-x", "adm-apdf-x"]] {
        for seed in 1..=10 {
            let outcome = run(&between(boxes), seed).unwrap();
            let own = |kind| matches!(kind, Kind::Probe | Kind::ProbeEcho | Kind::Check);
            let sent = outcome.trace.packets.iter().filter(|packet| own(packet.kind) && !packet.relayed).count() as u64;
            assert!(sent <= PUNCHING_PACKETS, "{boxes:?}, seed {seed}: {sent}");
        }
    }
}

/// Others behind the same NAT have shown which ports it gives: fewer sockets and fewer guesses do.
#[test]
fn a_relay_that_has_seen_many_behind_a_nat_narrows_what_is_guessed() {
    let packets = |others: usize| -> usize {
        let mut scenario = between(["easy", "pf"]);
        for _ in 0..others {
            let mut side = scenario.peers[1].clone();
            side.home_of = Some(1);
            scenario.peers.push(side);
        }
        let sent = |seed| {
            let outcome = run(&scenario, seed).unwrap();
            assert!(outcome.call(0).unwrap().direct().is_some(), "seed {seed}, {others} others");
            let checks = outcome.trace.packets.iter().filter(|packet| packet.kind == Kind::Check && !packet.relayed);
            checks.count()
        };
        (1..=20).map(sent).sum()
    };
    let (alone, among_others) = (packets(0), packets(24));
    assert!(among_others * 5 < alone * 4, "{among_others} packets, without others {alone}");
}
