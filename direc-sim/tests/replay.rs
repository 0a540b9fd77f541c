//! One seed gives one run: in one process, in another, and whatever is kept of it.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::process::Command;

use direc_sim::{
    Scenario, app::Work, json::hex, link::LinkConfig, nat::stack, run, run_keeping, scenario::Trouble, scenario::When,
    trace::Keep,
};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// A bit of everything that chance decides.
fn busy() -> Scenario {
    let boxes = [stack("sym").unwrap(), stack("double-eim").unwrap()];
    let mut scenario = Scenario::pair(boxes, 20 * MS, 30 * MS, 40 * MS).asking();
    scenario.noise = LinkConfig { loss: 0.02, duplicate: 0.02, jitter: 3 * MS, corrupt: 0.01, ..LinkConfig::default() };
    scenario
        .work(Work { ping: true, echo: 60_000, upload: 20_000, datagrams: 10, ..Work::default() })
        .incident(When::At(100 * MS), Trouble::PesterRelay(50), None)
        .incident(When::At(120 * MS), Trouble::PesterPeer(1, 50), None)
}

#[test]
fn the_same_seed_gives_every_datagram_again() {
    let hash = |seed| run(&busy(), seed).unwrap().trace_hash();
    assert_eq!(hex(&hash(7)), hex(&hash(7)));
    assert_ne!(hash(7), hash(8));
}

#[test]
fn what_is_kept_makes_no_difference() {
    let keep = |packets, bytes| run_keeping(&busy(), 7, Keep { packets, bytes }).unwrap();
    let (none, all) = (keep(false, false), keep(true, true));
    assert_eq!(hex(&none.trace_hash()), hex(&all.trace_hash()));
    assert!(none.trace.packets.is_empty() && none.secrets.is_empty());
    assert!(!all.trace.frames.is_empty() && all.secrets.contains("CLIENT_TRAFFIC_SECRET_0"));
}

#[test]
fn other_runs_in_between_make_no_difference() {
    let first = run(&busy(), 7).unwrap().trace_hash();
    let handle = std::thread::spawn(|| run(&busy(), 7).unwrap().trace_hash());
    let _ = run(&Scenario::home_pair(MS, MS, MS), 99).unwrap();
    assert_eq!(hex(&first), hex(&handle.join().unwrap()));
    assert_eq!(hex(&first), hex(&run(&busy(), 7).unwrap().trace_hash()));
}

#[test]
fn another_process_prints_the_same() {
    let print = || {
        let args =
            ["--seed", "7", "--a", "sym", "--b", "double", "--loss", "0.03", "--jitter", "2", "--bytes", "50000"];
        let output = Command::new(env!("CARGO_BIN_EXE_direc-sim")).args(args).arg("--json").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let (one, other) = (print(), print());
    assert!(one.contains("\"hash\":\""));
    assert_eq!(one, other);
}
