//! Peers stay within reach at the least cost: refreshes come as often as the NATs in front of them need, and no more.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use direc_sim::{
    Outcome, Scenario,
    app::Work,
    nat::{Timeouts, stack},
    packet::Kind,
    run,
    scenario::Call,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// P4 is behind these boxes; P2, which is behind none, calls it at these times, and they leave nothing behind.
fn called(boxes: &str, at: impl IntoIterator<Item = Duration>) -> Scenario {
    let mut scenario = Scenario::pair([Vec::new(), stack(boxes).unwrap()], 20 * MS, 30 * MS, 25 * MS);
    let work = Work { ping: true, ..Work::default() };
    scenario.calls = at.into_iter().map(|at| Call { at, from: 0, to: 1, relay_only: true, work }).collect();
    scenario.limit = 600 * SECOND;
    scenario
}

fn good(scenario: &Scenario) -> Outcome {
    let outcome = run(scenario, 1).unwrap();
    assert_eq!(outcome.faults(), Vec::<String>::new());
    outcome
}

/// When P4 sent its refreshes: cookies that come less than a second apart are one.
fn refreshes(outcome: &Outcome) -> Vec<Duration> {
    let own = outcome.trace.packets.iter().filter(|packet| packet.from == outcome.peers[1].host);
    let mut at: Vec<Duration> = own.filter(|packet| packet.kind == Kind::Cookie).map(|packet| packet.at).collect();
    at.dedup_by(|later, earlier| *later < *earlier + SECOND);
    at
}

/// A run of one peer that is left alone for so long.
fn alone(boxes: &str, for_: Duration) -> Vec<Duration> {
    let mut scenario = called(boxes, []);
    (scenario.linger, scenario.limit) = (for_, 2 * for_);
    refreshes(&good(&scenario))
}

#[test]
fn behind_a_nat_that_forgets_soon_a_peer_is_reached_at_once_whenever_it_is_called() {
    for boxes in ["short-timeout", "easy/short-timeout"] {
        // Each time in a run of its own: a call keeps the binding.
        for at in (0..20).map(|n| n * 7 * SECOND + 300 * MS * n) {
            let outcome = good(&called(boxes, [at]));
            let connected = outcome.call(0).unwrap().connected();
            assert!(connected.is_some_and(|after| after < SECOND), "{boxes}, {at:?}: {connected:?}");
        }
    }
}

#[test]
fn behind_a_nat_that_keeps_bindings_a_peer_refreshes_once_a_minute_in_the_end() {
    for boxes in ["easy", "none", "double", "sym", "eim-eif-x"] {
        let at = alone(boxes, 900 * SECOND);
        let late = at.iter().filter(|at| **at > 330 * SECOND).count();
        assert!((8..=12).contains(&late), "{boxes}: {late} refreshes in 570 s, {at:?}");
    }
}

#[test]
fn behind_a_nat_that_forgets_soon_a_peer_refreshes_just_often_enough() {
    let mut scenario = called("easy", []);
    scenario.peers[1].boxes[0].timeouts = Timeouts { unreplied: 10 * SECOND, replied: 10 * SECOND };
    (scenario.linger, scenario.limit) = (900 * SECOND, 1800 * SECOND);
    let at = refreshes(&good(&scenario));
    let late: Vec<_> = at.windows(2).filter(|pair| pair[0] > 120 * SECOND).map(|pair| pair[1] - pair[0]).collect();
    assert!(late.len() > 50 && late.iter().all(|pause| *pause > 5 * SECOND && *pause < 9 * SECOND), "{late:?}");
}

#[test]
fn late_echoes_are_few_and_end() {
    let mut scenario = called("easy", []);
    (scenario.linger, scenario.limit) = (900 * SECOND, 1800 * SECOND);
    let outcome = good(&scenario);
    let echoes: Vec<_> = (outcome.trace.packets.iter()).filter(|packet| packet.kind == Kind::LateEcho).collect();
    // Two peers, two ports, five lengths, each tried twice.
    assert!(echoes.len() <= 2 * 2 * 5 * 2, "{}", echoes.len());
    assert!(echoes.iter().all(|echo| echo.at < 330 * SECOND));
}

#[test]
fn a_box_that_keeps_one_short_lived_binding_for_all_flows_is_found_out() {
    let mut scenario = called("eim-eif", [Duration::ZERO]);
    scenario.peers[1].boxes[0].timeouts = Timeouts { unreplied: 10 * SECOND, replied: 10 * SECOND };
    for extra in 0..12 {
        scenario.calls[0].at = 90 * SECOND + extra * 700 * MS;
        let outcome = good(&scenario);
        let connected = outcome.call(0).unwrap().connected();
        assert!(connected.is_some_and(|after| after < SECOND), "{extra}: {connected:?}");
    }
}
