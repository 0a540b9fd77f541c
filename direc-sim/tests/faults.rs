//! One story for each fault: an upload goes on after it, and nobody waits longer than the limit says.
//!
//! `direc-sim faults` does the same with hundreds of seeds, and prints how long the stalls are.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use direc_sim::faults::{Fault, Trial};

/// Both sides upload, with and without loss, in a few worlds.
fn stays_within_its_limit(fault: Fault) {
    let mut late = Vec::new();
    for loss in [0.0, 0.01] {
        for seed in 1..=3 {
            for sender in [0, 1] {
                let verdict = Trial { fault, loss, sender, seed }.run().unwrap();
                assert_eq!(verdict.mistakes(), Vec::<String>::new(), "loss {loss}, seed {seed}, sender {sender}");
                if !verdict.ok(fault) {
                    late.push(format!("loss {loss}, seed {seed}, sender {sender}: {:?}", verdict.stall.lasted));
                }
            }
        }
    }
    assert!(late.is_empty(), "{}, at most {:?}:\n{}", fault.what(), fault.limit(), late.join("\n"));
}

#[test]
fn a_direct_path_that_is_blocked_both_ways_is_left() {
    stays_within_its_limit(Fault::Blocked);
}

#[test]
fn a_direct_path_that_is_blocked_towards_the_receiver_is_left() {
    stays_within_its_limit(Fault::BlockedForth);
}

#[test]
fn a_direct_path_that_is_blocked_towards_the_sender_is_left() {
    stays_within_its_limit(Fault::BlockedBack);
}

#[test]
fn a_public_address_that_changes_silently_is_noticed() {
    stays_within_its_limit(Fault::Readdressed);
}

#[test]
fn a_flushed_nat_before_a_filter_by_address_is_noticed() {
    stays_within_its_limit(Fault::FlushedAdf);
}

#[test]
fn a_flushed_nat_before_no_filter_is_noticed() {
    stays_within_its_limit(Fault::FlushedEif);
}

#[test]
fn a_side_that_roams_goes_on_once_it_has_arrived() {
    stays_within_its_limit(Fault::Roam);
}

#[test]
fn two_sides_that_roam_at_once_find_each_other() {
    stays_within_its_limit(Fault::BothRoam);
}

#[test]
fn a_direct_connection_does_not_feel_its_relay_die() {
    stays_within_its_limit(Fault::RelayKilled);
}

#[test]
fn a_relayed_connection_goes_on_once_its_relay_is_back() {
    stays_within_its_limit(Fault::RelayRestarted);
}

#[test]
fn a_relayed_connection_moves_to_the_second_relay() {
    stays_within_its_limit(Fault::SecondRelay);
}

#[test]
fn a_direct_path_that_opens_again_is_used() {
    stays_within_its_limit(Fault::Unblocked);
}

#[test]
fn a_host_that_slept_a_minute_goes_on() {
    stays_within_its_limit(Fault::Suspended);
}

#[test]
fn a_trial_gives_the_same_run_each_time() {
    for fault in [Fault::BothRoam, Fault::RelayRestarted, Fault::Suspended] {
        let trial = Trial { fault, loss: 0.01, sender: 1, seed: 9 };
        let [one, other] = [trial, trial].map(|trial| trial.run().unwrap());
        assert_eq!(one.outcome.trace_hash(), other.outcome.trace_hash(), "{}", fault.name());
        assert_eq!(one.stall, other.stall);
    }
}
