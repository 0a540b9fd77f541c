//! Which pairs of NATs go direct, against an oracle that knows RFC 4787 and nothing of the protocol.
//!
//! What the protocol can do is said in one place: [`must`].
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use direc_sim::{
    Outcome, Scenario,
    nat::stack,
    oracle::{Verdict, at_home, luck_may_do, verdict},
    run,
    scenario::boxes_from_bytes,
};
use proptest::{prelude::*, test_runner::RngSeed};

const MS: Duration = Duration::from_millis(1);
const NAMES: [&str; 30] = [
    "none",
    "fw",
    "easy",
    "eim-eif",
    "eim-adf-x",
    "eim-apdf-x",
    "double",
    "double-eim",
    "strict",
    "apdm-eif-x",
    "apdm-adf-x",
    "adm-eif",
    "adm-adf-x",
    "adm-apdf",
    "sym",
    "double-sym",
    "clash",
    "ban",
    "hairpin",
    "nat64",
    "sym+fw6",
    "sym+nat64+v6",
    "short-timeout",
    "sym-seq",
    "sym-seq-busy",
    "cgn-block",
    "parity",
    "pf",
    "overload",
    "eim-apdf-x+arbitrary",
];

/// Whether a pair of this kind must go direct, or must not; `None` where it may, and where measures of their own say how
/// often.
fn must(verdict: Verdict) -> Option<bool> {
    match verdict {
        Verdict::Direct => Some(true),
        Verdict::Relayed => Some(false),
        Verdict::Clash | Verdict::Predict | Verdict::Guess => None,
    }
}

/// Runs two peers that share a home or a carrier, and holds it against the oracle.
fn together(what: &str, scenario: &Scenario) {
    let verdict = at_home(scenario, 0, 1);
    let outcome = run(scenario, 1).unwrap();
    assert_eq!(outcome.faults(), Vec::<String>::new(), "{what}");
    let call = outcome.call(0).unwrap();
    assert!(call.first_echo().is_some(), "{what} works, relayed or not");
    if let Some(expected) = must(verdict) {
        assert_eq!(call.log.path().unwrap().is_direct(), expected, "{what}: {verdict:?}");
    }
}

fn pair(one: &str, other: &str, change: fn(Scenario) -> Scenario) -> Outcome {
    let boxes = [stack(one).unwrap(), stack(other).unwrap()];
    let scenario = change(Scenario::pair(boxes, 20 * MS, 30 * MS, 25 * MS));
    let outcome = run(&scenario, 1).unwrap();
    assert_eq!(outcome.faults(), Vec::<String>::new(), "{one} × {other}");
    outcome
}

fn all_pairs(change: fn(Scenario) -> Scenario) {
    let mut wrong = Vec::new();
    for one in NAMES {
        for other in NAMES {
            let outcome = pair(one, other, change);
            let call = outcome.call(0).unwrap();
            assert!(call.first_echo().is_some(), "{one} × {other} works, relayed or not");
            let boxes = [one, other].map(|name| stack(name).unwrap());
            let verdict = verdict(&boxes[0], &boxes[1]);
            let Some(expected) = must(verdict).filter(|&direct| direct || !luck_may_do(&boxes[0], &boxes[1])) else {
                continue;
            };
            let ends = [call.log.path().unwrap(), outcome.accepted(1).next().unwrap().path().unwrap()];
            if ends.iter().any(|path| path.is_direct() != expected) {
                wrong.push(format!("{one} × {other}: {verdict:?}, ended with {ends:?}"));
            }
            if !expected && call.log.not_direct.is_none() {
                wrong.push(format!("{one} × {other}: not told that it stays on the relay"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} pairs:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn pairs_go_direct_exactly_where_their_nats_let_them() {
    all_pairs(|scenario| scenario);
}

/// Any boxes against any: the oracle and the run must not contradict each other.
fn composed(bytes: [&[u8]; 2]) -> Result<(), String> {
    let boxes = bytes.map(boxes_from_bytes);
    let verdict = verdict(&boxes[0], &boxes[1]);
    let scenario = Scenario::pair(boxes.clone(), 20 * MS, 30 * MS, 25 * MS);
    let outcome = run(&scenario, 1).map_err(|error| error.to_string())?;
    let faults = outcome.faults();
    let direct = outcome.call(0).and_then(|call| call.log.path()).is_some_and(|path| path.is_direct());
    match must(verdict) {
        _ if !faults.is_empty() => Err(format!("{faults:?}")),
        Some(false) if luck_may_do(&boxes[0], &boxes[1]) => Ok(()),
        Some(expected) if direct != expected => Err(format!("{verdict:?}, but direct: {direct}: {boxes:#?}")),
        _ => Ok(()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(5780),
        ..ProptestConfig::default()
    })]

    #[test]
    fn composed_boxes_go_direct_exactly_where_the_oracle_says(
        one in proptest::collection::vec(any::<u8>(), 0..45),
        other in proptest::collection::vec(any::<u8>(), 0..45),
    ) {
        let result = composed([&one, &other]);
        prop_assert!(result.is_ok(), "{one:?} × {other:?}: {}", result.unwrap_err());
    }
}

#[test]
fn asking_makes_no_difference() {
    all_pairs(Scenario::asking);
}

#[test]
fn endpoint_independent_mapping_on_both_sides_goes_direct_within_the_bound() {
    for one in ["none", "fw", "easy", "eim-eif", "eim-apdf-x", "double-eim"] {
        for other in ["none", "fw", "easy", "eim-adf", "double"] {
            let outcome = pair(one, other, |scenario| scenario);
            let heard = outcome.call(0).unwrap().direct_heard().unwrap();
            assert!(heard <= 76 * MS, "{one} × {other}: {heard:?}");
        }
    }
}

#[test]
fn the_order_of_punches_avoids_the_inbound_first_clash() {
    // Where the triangle inequality holds, each side's own packet leaves its NAT before the other's comes.
    for (one, other) in [("clash", "easy"), ("easy", "clash"), ("clash", "clash")] {
        for change in [|scenario| scenario, Scenario::asking] {
            let outcome = pair(one, other, change);
            assert!(outcome.call(0).unwrap().direct().is_some(), "{one} × {other}");
        }
    }
}

#[test]
fn where_udp_is_blocked_the_reason_says_so() {
    let outcome = pair("udp-blocked", "easy", |scenario| scenario);
    let why = outcome.call(0).unwrap().failure().unwrap();
    assert!(why.contains("relay unreachable"), "{why}");
    let outcome = pair("easy", "udp-blocked", |scenario| scenario);
    let why = outcome.call(0).unwrap().failure().unwrap();
    assert!(why.contains("no such peer"), "{why}");
}

#[test]
fn two_peers_in_one_home_meet_inside_or_where_their_nat_turns_packets_back() {
    for home in ["none", "easy", "double", "sym", "nat64"] {
        for change in ["", "+isolate", "+isolate+hairpin", "+isolate+hairpin-internal", "+clash+isolate+hairpin"] {
            let name = if home == "none" { home.to_owned() } else { format!("{home}{change}") };
            let mut scenario = Scenario::pair([stack(&name).unwrap(), Vec::new()], 20 * MS, 20 * MS, 20 * MS);
            scenario.peers[1].home_of = Some(0);
            together(&name, &scenario);
        }
    }
}

#[test]
fn two_homes_of_one_carrier_meet_where_it_turns_packets_back() {
    for carrier in
        ["easy", "eim-apdf-x+hairpin", "eim-apdf-x+hairpin-internal", "sym+hairpin", "eim-eif+hairpin+isolate"]
    {
        for (one, other) in
            [("easy", "easy"), ("eim-eif", "eim-eif-x"), ("sym", "eim-adf"), ("easy", "none"), ("none", "sym")]
        {
            let first = if one == "none" { carrier.to_owned() } else { format!("{one}/{carrier}") };
            let boxes = [stack(&first).unwrap(), stack(other).unwrap()];
            let mut scenario = Scenario::pair(boxes, 20 * MS, 20 * MS, 20 * MS);
            scenario.peers[1].carrier_of = Some(0);
            together(&format!("{one} and {other} behind {carrier}"), &scenario);
        }
    }
}

#[test]
fn ipv6_behind_firewalls_goes_direct() {
    let mut scenario = Scenario::home_pair(20 * MS, 20 * MS, 20 * MS);
    scenario.v6 = true;
    let outcome = run(&scenario, 1).unwrap();
    assert_eq!(outcome.faults(), Vec::<String>::new());
    assert!(outcome.call(0).unwrap().log.path().unwrap().address().is_ipv6());
    assert!(outcome.call(0).unwrap().direct().is_some());
}
