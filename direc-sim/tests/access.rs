//! A relay's rules change while its peers run.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use direc_core::{RefuseReason, RelayError};
use direc_sim::{
    HostId, Outcome, Scenario,
    app::Work,
    run,
    scenario::{Call, Trouble, When},
    trace::What,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// When the rules change, and for how long.
const AT: Duration = Duration::from_secs(5);
const LASTS: Duration = Duration::from_secs(60);

/// What a peer's host has said since the start that has these words in it, and when.
fn said(outcome: &Outcome, host: HostId, words: &str) -> Vec<Duration> {
    let notes = outcome.trace.notes.iter().filter(|note| note.host == host && note.at >= outcome.start);
    let with =
        notes.filter(|note| matches!(&note.what, What::Event(said) | What::Detail(said) if said.contains(words)));
    with.map(|note| note.at - outcome.start).collect()
}

#[test]
fn a_peer_that_new_rules_turn_away_keeps_its_direct_connection_and_is_let_in_again() {
    let work = Work { ping: true, ..Work::default() };
    let upload = Work { ping: true, upload: 200_000, ..Work::default() };
    let mut scenario =
        Scenario::home_pair(20 * MS, 30 * MS, 25 * MS).incident(When::At(AT), Trouble::TurnAway(1), Some(LASTS));
    let call = |at, work| Call { at, from: 0, to: 1, relay_only: false, work };
    // Before; while it is turned away; and some time after it may come back: its longest pause has passed.
    scenario.calls =
        vec![call(Duration::ZERO, upload), call(AT + 10 * SECOND, work), call(AT + LASTS + 40 * SECOND, work)];
    scenario.limit = AT + LASTS + 100 * SECOND;
    let outcome = run(&scenario, 1).unwrap();
    assert_eq!(outcome.faults(), Vec::<String>::new());

    let host = outcome.peers[1].host;
    let why = RelayError::Refused(RefuseReason::NotListed).to_string();
    let refused = said(&outcome, host, &why);
    assert!(refused.iter().all(|&at| at >= AT && at <= AT + LASTS + SECOND), "{refused:?}");
    assert!(refused[0] < AT + SECOND && refused.len() > 3, "told at once, and tried again: {refused:?}");
    assert!(said(&outcome, host, "registered at the relay").last().unwrap() > &(AT + LASTS));

    let first = outcome.call(0).unwrap();
    assert!(first.direct().is_some() && first.failure().is_none(), "{:?}", first.failure());
    let paths = first.log.paths.iter().filter(|moved| moved.at >= outcome.start + AT);
    assert_eq!(paths.count(), 0, "it has not moved");
    let second = outcome.call(1).unwrap().failure().unwrap();
    assert!(second.contains("no such peer"), "{second}");
    assert!(outcome.call(2).unwrap().done().is_some());
}
