//! The measures of time: how near introductions come to the least that three delays allow (DESIGN.md, section 3).
//!
//! Both sides are behind endpoint-independent mapping with address- and port-dependent filtering, warm, no loss.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use direc_sim::{Bounds, CallOutcome, Outcome, Scenario, run};

/// One-way delays a, b, c in ms: symmetric, lopsided, and at the edge of the triangle inequality.
const DELAYS: [[u64; 3]; 9] = [
    [20, 20, 20],
    [40, 40, 40],
    [5, 5, 2],
    [10, 60, 70],
    [60, 10, 50],
    [80, 80, 5],
    [1, 99, 100],
    [100, 1, 99],
    [3, 150, 148],
];
const MS: Duration = Duration::from_millis(1);

fn each(change: fn(Scenario) -> Scenario, check: impl Fn(&CallOutcome<'_>, Bounds, &Outcome, [u64; 3])) {
    for delays in DELAYS {
        let [a, b, c] = delays.map(Duration::from_millis);
        let scenario = change(Scenario::home_pair(a, b, c));
        let outcome = run(&scenario, 1).unwrap();
        assert_eq!(outcome.faults(), Vec::<String>::new(), "{delays:?}");
        check(&outcome.call(0).unwrap(), Bounds::of(&scenario, 0).unwrap(), &outcome, delays);
    }
}

fn within(what: &str, measured: Option<Duration>, limit: Duration, delays: [u64; 3]) {
    let measured = measured.unwrap_or_else(|| panic!("{what} never, {delays:?}"));
    assert!(measured <= limit, "{what} after {measured:?}, limit {limit:?}, {delays:?}");
}

/// One twentieth and a millisecond are allowed on top.
fn near(bound: Duration) -> Duration {
    bound.mul_f64(1.05) + MS
}

#[test]
fn with_standing_consent_direct_after_a_b_c() {
    each(
        |scenario| scenario,
        |call, bounds, _, delays| {
            within("direct", call.direct_heard(), near(bounds.direct), delays);
            within("connected", call.connected(), bounds.relayed + MS, delays);
            within("data on the direct path", call.direct(), near(bounds.moved), delays);
        },
    );
}

#[test]
fn with_standing_consent_the_first_echo_after_a_b_3c() {
    each(
        |scenario| scenario,
        |call, bounds, _, delays| within("first echo", call.first_echo(), near(bounds.first_echo), delays),
    );
}

#[test]
fn asking_direct_after_a_3b_c_and_connected_after_2a_2b() {
    each(Scenario::asking, |call, bounds, _, delays| {
        within("direct", call.direct_heard(), near(bounds.direct), delays);
        within("connected", call.connected(), bounds.relayed + MS, delays);
        within("data on the direct path", call.direct(), near(bounds.moved), delays);
    });
}

#[test]
fn relayed_after_2a_2b_asking_or_not() {
    for change in [Scenario::relay_only, |scenario: Scenario| scenario.asking().relay_only()] {
        each(change, |call, bounds, outcome, delays| {
            within("connected", call.connected(), bounds.relayed + MS, delays);
            within("first echo", call.first_echo(), bounds.first_echo + MS, delays);
            assert_eq!(call.direct_heard(), None, "nobody punches");
            assert!(outcome.accepted(1).all(|log| log.direct_heard_at.is_none()));
        });
    }
}

#[test]
fn no_address_is_given_away_before_consent() {
    // P4's person thinks for a second: until then P2 must not be told, or it would punch.
    let mut scenario = Scenario::home_pair(20 * MS, 20 * MS, 20 * MS).asking();
    let answer = direc_sim::app::Answer::Accept(Duration::from_secs(1));
    scenario.peers[1].willing = direc_sim::scenario::Willing::Asked(answer);
    let outcome = run(&scenario, 1).unwrap();
    assert_eq!(outcome.faults(), Vec::<String>::new());
    let (p2, p4) = (outcome.peers[0].host, outcome.peers[1].host);
    let consent = outcome.start + Duration::from_secs(1);
    let early = outcome.trace.packets.iter().filter(|packet| packet.at >= outcome.start && packet.at < consent);
    let home = [p2, p4];
    let relay: std::net::IpAddr = "198.18.0.10".parse().unwrap();
    assert!(early.clone().count() > 0);
    for packet in early.filter(|packet| home.contains(&packet.from)) {
        assert_eq!(packet.dst.ip(), relay, "{packet:?}");
    }
}
