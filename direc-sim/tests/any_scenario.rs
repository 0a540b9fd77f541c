//! Whatever the network, the people and the troubles: nothing panics, nothing hangs, no byte is out of place, and each
//! call ends in a connection or a reason. What fails here prints the command that gives it again.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use direc_sim::scenario::{complaint, replay};
use proptest::{prelude::*, test_runner::RngSeed};

/// What must not happen and did, with the way to see it again.
fn faults(bytes: &[u8], seed: u64) -> Option<String> {
    let complaint = std::panic::catch_unwind(|| complaint(bytes, seed));
    complaint.unwrap_or_else(|_| Some(format!("{}\n    panicked", replay(bytes, seed))))
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
    fn every_scenario_ends_well_or_says_why_not(bytes in proptest::collection::vec(any::<u8>(), 0..240), seed: u64) {
        let faults = faults(&bytes, seed);
        prop_assert!(faults.is_none(), "{}", faults.unwrap_or_default());
    }
}

/// What failed once must not again: each `.scenario` file has the seed and the bytes, and says what it was.
#[test]
fn what_failed_once_does_not_fail_again() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut failed = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (seed, digits) = line.split_once(' ').unwrap();
            let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
            let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(digit).collect();
            failed.extend(faults(&bytes, seed.parse().unwrap()).map(|why| format!("{}: {why}", path.display())));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
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
        let mut bytes = vec![0; rng.below(240) as usize];
        rng.fill(&mut bytes);
        failed.extend(faults(&bytes, seed));
    }
    assert!(failed.is_empty(), "{} of {cases}:\n{}", failed.len(), failed.join("\n"));
}
