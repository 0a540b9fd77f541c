//! The direct path dies under a connection: it goes on through the relay, and comes back when the path does.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use direc_core::Path;
use direc_sim::{
    Outcome, Scenario,
    app::Work,
    link::LinkConfig,
    run,
    scenario::{Trouble, When},
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A transfer at 10 Mbit/s that takes some 32 s, with something going wrong after 3.
fn transfer(what: Trouble, lasts: Option<Duration>) -> Outcome {
    let mut scenario = Scenario::home_pair(20 * MS, 30 * MS, 25 * MS)
        .work(Work { ping: true, upload: 40_000_000, ..Work::default() })
        .incident(When::At(3 * SECOND), what, lasts);
    for side in &mut scenario.peers {
        (side.up, side.down) = (LinkConfig::rate(10_000_000), LinkConfig::rate(10_000_000));
    }
    let outcome = run(&scenario, 1).unwrap();
    assert_eq!(outcome.faults(), Vec::<String>::new(), "{what:?}");
    outcome
}

fn paths(outcome: &Outcome) -> Vec<(Duration, Path)> {
    let log = outcome.call(0).unwrap().log;
    log.paths.iter().map(|moved| (moved.at.saturating_sub(outcome.start), moved.path)).collect()
}

#[test]
fn a_direct_path_that_dies_is_left_for_the_relay() {
    let outcome = transfer(Trouble::SeverDirect(0, 1), None);
    let done = outcome.call(0).unwrap().done().unwrap();
    let paths = paths(&outcome);
    assert!(!paths.last().unwrap().1.is_direct(), "{paths:?}");
    assert!(done < 50 * SECOND, "{done:?}");
    let stall = paths.last().unwrap().0 - 3 * SECOND;
    assert!(stall < 500 * MS, "{stall:?}");
}

#[test]
fn a_direct_path_that_comes_back_is_used_again() {
    let outcome = transfer(Trouble::SeverDirect(0, 1), Some(15 * SECOND));
    let paths = paths(&outcome);
    assert!(outcome.call(0).unwrap().done().is_some());
    assert!(paths.iter().any(|(at, path)| *at > 3 * SECOND && !path.is_direct()), "{paths:?}");
    assert!(paths.last().unwrap().1.is_direct(), "{paths:?}");
}

#[test]
fn a_nat_that_reboots_does_not_end_the_connection() {
    for side in [0, 1] {
        let outcome = transfer(Trouble::Reboot(side), None);
        let done = outcome.call(0).unwrap().done();
        assert!(done.is_some(), "side {side}: {:?}", outcome.call(0).unwrap().failure());
    }
}
