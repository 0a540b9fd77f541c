//! A bulk transfer that moves to another path: the receiver gets data all the while, at the new path's rate soon after.
//!
//! `direc-sim goodput` prints how much it gets.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use direc_sim::{
    Scenario,
    app::{Flow, Pace, Work},
    link::LinkConfig,
    run,
    scenario::{Trouble, When},
};

const MS: Duration = Duration::from_millis(1);
/// When the direct path opens.
const OPENS: Duration = Duration::from_millis(3037);

/// The longest pause of the receiver's in the 600 ms after the move, and the Mbit/s that it gets from 150 ms after it on;
/// from the relay (round trip 100 ms) to a direct path (20 ms) of these rates.
fn moved([relayed, direct]: [u64; 2], sender: usize) -> (Duration, f64) {
    let mut scenario = Scenario::home_pair(25 * MS, 25 * MS, 10 * MS);
    scenario.relay_link = Some(LinkConfig::rate(relayed * 1_000_000));
    scenario.direct_link = Some(LinkConfig::rate(direct * 1_000_000));
    let lasts = OPENS + 2000 * MS;
    let work = Work { flow: Some(Flow { pace: Pace::Full, lasts }), ..Work::default() };
    scenario = scenario.work(if sender == 0 { work } else { Work::default() });
    scenario.peers[1].serve = if sender == 1 { work } else { Work::default() };
    (scenario.limit, scenario.linger) = (lasts, lasts);
    scenario = scenario.incident(When::At(Duration::ZERO), Trouble::SeverDirect(0, 1), Some(OPENS));
    let outcome = run(&scenario, 1).unwrap();
    let [ours, theirs] = [sender, 1 - sender].map(|peer| outcome.peers[peer].connections.first().unwrap());
    // The path that carries the load is not left for an equal one that is at rest.
    assert_eq!(ours.paths.len(), 2, "{:?}", ours.paths);
    let at = ours.direct_at().unwrap();
    let (from, to) = (at + 150 * MS, at + 600 * MS);
    let rate = theirs.deliveries.bytes(from, to) as f64 * 8e-6 / (to - from).as_secs_f64();
    (theirs.deliveries.longest_gap_within(at, to).lasted, rate)
}

#[test]
fn a_bulk_transfer_that_moves_to_a_direct_path_pauses_for_no_more_than_three_round_trips_there() {
    // Of a link's bits, 4 % are headers; the rest of what may be missing is the new path's slow start.
    for rates @ [_, direct] in [[20, 100], [100, 10], [50, 50]] {
        for sender in [0, 1] {
            let (pause, rate) = moved(rates, sender);
            assert!(pause <= 60 * MS, "{rates:?}, sender {sender}: {pause:?}");
            assert!(rate >= direct as f64 * 0.85, "{rates:?}, sender {sender}: {rate:.1} Mbit/s");
        }
    }
}
