//! Some hours out of the week that `direc-sim week` simulates: relays restart, drain and get other keys, NATs reboot,
//! networks are away, machines sleep; and nobody is lost for longer than direc-core's constants say.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use direc_sim::week::{Report, Week};

const HOUR: Duration = Duration::from_secs(3600);

fn run(seed: u64, relays: usize, hours: u32) -> Report {
    let report = Week { seed, relays, lasts: HOUR * hours }.run().unwrap();
    let told: Vec<String> = report.faults.iter().map(|fault| report.tell(fault)).collect();
    assert!(report.ok(), "seed {seed}, {relays} relays:\n{}", told.join("\n"));
    report
}

#[test]
fn nobody_is_lost_for_longer_than_its_backoff_in_a_day() {
    let report = run(1, 1, 24);
    assert!(report.incidents > 30 && report.pings > 500, "{} {}", report.incidents, report.pings);
    assert!(!report.ended.is_empty(), "connections end and are made again");
    assert!(report.made() > report.ended.values().sum(), "{} made, {:?}", report.made(), report.ended);
    assert_eq!(report.made() + report.unmade.values().sum::<u64>(), report.calls);
    for (what, _, longest) in &report.stretches {
        let rare = what.contains("answer");
        assert!(rare || longest.count > 0, "never {what}: the watch is blind");
    }
}

#[test]
fn two_relays_lose_nobody_either() {
    let report = run(2, 2, 8);
    assert!(report.incidents > 8 && report.pings > 100, "{} {}", report.incidents, report.pings);
}

#[test]
fn a_week_gives_the_same_run_each_time() {
    let [one, other] = [7, 7].map(|seed| run(seed, 1, 1));
    assert_eq!((one.hash, one.packets, one.ended, one.unmade), (other.hash, other.packets, other.ended, other.unmade));
}
