//! Messages of uneven parts, each sent at once, to readers that are slow to read them: on paths that lose and reorder, and
//! while the connection moves.
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

fn messages(parts: [u16; 3]) -> Scenario {
    let flow = Some(Flow { pace: Pace::Parts(parts), lasts: 1500 * MS });
    let work = Work { ping: true, flow, ..Work::default() };
    let mut scenario = Scenario::home_pair(10 * MS, 15 * MS, 12 * MS).work(work);
    scenario.peers[1].reads_every = Some(2000 * MS);
    scenario.linger = 3000 * MS;
    scenario
}

fn ends_well(scenario: &Scenario, seed: u64) {
    let outcome = run(scenario, seed).unwrap();
    assert_eq!(outcome.faults(), Vec::<String>::new(), "seed {seed}");
    let sent = outcome.call(0).unwrap().log.uploaded;
    let got: u64 = outcome.accepted(1).map(|log| log.verified).sum();
    assert!(sent > 1_000_000, "seed {seed}: {sent} bytes");
    assert_eq!(sent, got, "seed {seed}");
}

#[test]
fn a_reader_that_reads_every_two_seconds_gets_every_byte() {
    for (seed, parts) in [(1, [1400, 10, 10]), (2, [1200, 300, 20]), (3, [1350, 4, 90])] {
        ends_well(&messages(parts), seed);
    }
}

#[test]
fn so_it_does_where_packets_are_lost_and_overtake_each_other() {
    for seed in 1..4 {
        let mut scenario = messages([1400, 10, 10]);
        scenario.noise = LinkConfig { loss: 0.01, reorder: 0.05, reorder_by: 7 * MS, ..LinkConfig::default() };
        ends_well(&scenario, seed);
    }
}

#[test]
fn so_it_does_while_the_connection_moves() {
    for seed in 1..4 {
        let scenario = messages([1400, 10, 10]);
        let scenario = scenario.incident(When::At(600 * MS), Trouble::SeverDirect(0, 1), Some(400 * MS));
        ends_well(&scenario, seed);
    }
}
