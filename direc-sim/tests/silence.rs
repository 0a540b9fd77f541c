//! Somebody stops answering, at each step: the others learn of it, in time and by a reason, and nobody else is harmed.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use direc_core::{Role, Step};
use direc_sim::{
    Outcome, Scenario,
    app::Work,
    run,
    scenario::{Call, Side, Trouble, When},
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// P2 calls P4; P5 and P6 mind their own business, from half a second later on.
fn four() -> Scenario {
    let mut scenario = Scenario::home_pair(20 * MS, 30 * MS, 25 * MS).asking();
    let boxes = scenario.peers[0].boxes.clone();
    scenario.peers.extend([Side::new(boxes.clone(), 10 * MS), Side::new(boxes, 15 * MS)]);
    let work = Work { ping: true, echo: 5000, ..Work::default() };
    let at = 500 * MS;
    scenario.calls.push(Call { at, from: 2, to: 3, relay_only: false, work });
    scenario.calls[0].work = work;
    // Longer than the longest deadline, the idle timeout of 120 s.
    scenario.limit = 200 * SECOND;
    scenario
}

fn with(what: Trouble, role: Role, step: Step, lasts: Option<Duration>) -> Outcome {
    let scenario = four().incident(When::Step(role, step), what, lasts);
    let outcome = run(&scenario, 1).unwrap();
    assert_eq!(outcome.faults(), Vec::<String>::new(), "{what:?} at {step} of {role}");
    outcome
}

/// Who takes which step in an introduction that asks.
fn steps() -> impl Iterator<Item = (Role, Step)> {
    Step::ALL.into_iter().flat_map(|step| [Role::P2, Role::P3, Role::P4].map(|role| (role, step)))
}

#[test]
fn a_peer_goes_silent_for_good_at_each_step() {
    for (role, step) in steps() {
        for silent in [0, 1] {
            let outcome = with(Trouble::SilencePeer(silent), role, step, None);
            let call = outcome.call(0).unwrap();
            let what = format!("peer {silent} silent at {step} of {role}");
            // A step that is never taken silences nobody.
            if call.done().is_none() {
                assert!(call.failure().is_some(), "{what}");
                let over = call.log.failed.as_ref().map(|(at, _)| *at);
                let over = over.or(call.log.closed.as_ref().map(|(at, _)| *at)).unwrap();
                assert!(over - outcome.start <= 130 * SECOND, "{what}: only after {:?}", over - outcome.start);
            }
            let other = outcome.call(1).unwrap();
            assert!(other.done().unwrap() < SECOND, "{what}: the others take {:?}", other.done());
        }
    }
}

#[test]
fn a_peer_goes_silent_for_two_seconds_at_each_step_and_all_is_well_in_the_end() {
    for (role, step) in steps() {
        for silent in [0, 1] {
            let outcome = with(Trouble::SilencePeer(silent), role, step, Some(2 * SECOND));
            let call = outcome.call(0).unwrap();
            let what = format!("peer {silent} silent at {step} of {role}");
            assert!(call.done().is_some(), "{what}: {:?}", call.failure());
        }
    }
}

#[test]
fn the_relay_goes_silent_for_good_at_each_step() {
    for (role, step) in steps() {
        let outcome = with(Trouble::SilenceRelay, role, step, None);
        let call = outcome.call(0).unwrap();
        assert!(call.done().is_some() || call.failure().is_some(), "{step} of {role}");
    }
}

#[test]
fn a_direct_connection_outlives_its_relay() {
    let mut scenario = four().incident(When::At(SECOND), Trouble::SilenceRelay, None);
    scenario.calls.truncate(1);
    // More work after the relay has gone: at 10 Mbit/s it takes some seconds.
    scenario.calls[0].work = Work { ping: true, upload: 5_000_000, ..Work::default() };
    scenario.peers[0].up = direc_sim::link::LinkConfig::rate(10_000_000);
    let outcome = run(&scenario, 1).unwrap();
    assert_eq!(outcome.faults(), Vec::<String>::new());
    let done = outcome.call(0).unwrap().done().unwrap();
    assert!(done > 4 * SECOND && done < 6 * SECOND, "{done:?}");
}

#[test]
fn a_peer_whose_relay_comes_back_registers_again() {
    let mut scenario = four().incident(When::At(Duration::ZERO), Trouble::SilenceRelay, Some(60 * SECOND));
    scenario.calls.truncate(1);
    scenario.calls[0].at = 150 * SECOND;
    let outcome = run(&scenario, 1).unwrap();
    assert_eq!(outcome.faults(), Vec::<String>::new());
    let call = outcome.call(0).unwrap();
    assert!(call.done().is_some(), "{:?}", call.failure());
}

#[test]
fn peers_of_a_relay_that_was_killed_register_at_the_next_one() {
    let mut scenario = four().incident(When::At(SECOND), Trouble::KillRelay(0), Some(2 * SECOND));
    scenario.calls.truncate(1);
    scenario.calls[0].at = 100 * SECOND;
    let outcome = run(&scenario, 1).unwrap();
    assert_eq!(outcome.faults(), Vec::<String>::new());
    assert!(outcome.call(0).unwrap().done().is_some(), "{:?}", outcome.call(0).unwrap().failure());
}

#[test]
fn a_second_relay_changes_nothing_while_the_first_one_lives() {
    let mut scenario = four();
    scenario.relays = 2;
    scenario.farewell = true;
    let outcome = run(&scenario, 1).unwrap();
    assert_eq!(outcome.faults(), Vec::<String>::new());
    assert!(outcome.call(0).unwrap().done().is_some() && outcome.call(1).unwrap().done().is_some());
}
