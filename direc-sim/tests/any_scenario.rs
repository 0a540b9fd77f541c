//! Whatever the network, the people and the troubles: nothing panics, nothing hangs, no byte is out of place, and each
//! call ends in a connection or a reason. What fails here prints the command that gives it again.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use direc_sim::{Outcome, Scenario, json::hex, packet::Kind, run};
use proptest::{prelude::*, test_runner::RngSeed};

/// Probes beyond any reason: everybody may probe everybody, for as long as the run lasts, but not as fast as it can.
fn storms(outcome: &Outcome) -> Vec<String> {
    let probes = outcome.trace.packets.iter().filter(|packet| packet.kind == Kind::Probe).count() as f64;
    let calls = 2.0 * outcome.scenario.calls.len() as f64;
    // Each side of a call: two rounds of punching to eight addresses, then ten checks a minute and some answers to the
    // other side's.
    let allowed = 2.0 * calls * (300.0 + 0.5 * outcome.end.as_secs_f64());
    if probes > allowed { vec![format!("{probes} probes, {allowed} allowed")] } else { Vec::new() }
}

/// What must not happen and did, with the way to see it again.
fn faults(bytes: &[u8], seed: u64) -> Option<String> {
    let replay = format!("direc-sim --seed {seed} --scenario {}", hex(bytes));
    let outcome = std::panic::catch_unwind(|| run(&Scenario::from_bytes(bytes), seed));
    let faults = match outcome {
        Ok(Ok(outcome)) => [outcome.faults(), storms(&outcome)].concat(),
        Ok(Err(error)) => vec![error.to_string()],
        Err(_) => vec!["panicked".to_owned()],
    };
    (!faults.is_empty()).then(|| format!("{replay}\n    {}", faults.join("\n    ")))
}

proptest! {
    // One seed, so that a change of the code and nothing else changes the result; `many_scenarios` has all others.
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(4787),
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_scenario_ends_well_or_says_why_not(bytes in proptest::collection::vec(any::<u8>(), 0..160), seed: u64) {
        let faults = faults(&bytes, seed);
        prop_assert!(faults.is_none(), "{}", faults.unwrap_or_default());
    }
}

/// As many as one has time for: `DIREC_SIM_CASES=10000 DIREC_SIM_SEED=1 cargo test --test any_scenario -- --ignored`.
#[test]
#[ignore = "runs for as long as it is told to"]
fn many_scenarios() {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let (cases, first) = (number("DIREC_SIM_CASES", 1000), number("DIREC_SIM_SEED", 1));
    let mut failed = Vec::new();
    for seed in first..first + cases {
        let mut rng = direc_sim::rng::Rng::new(seed, direc_sim::rng::Purpose::Garbage);
        let mut bytes = vec![0; rng.below(160) as usize];
        rng.fill(&mut bytes);
        failed.extend(faults(&bytes, seed));
    }
    assert!(failed.is_empty(), "{} of {cases}:\n{}", failed.len(), failed.join("\n"));
}
