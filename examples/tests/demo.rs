//! The demo, with few bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;

use common::{DEMO, Folder, run};
use serde_json::Value;

#[test]
fn it_shows_thirteen_steps_a_direct_connection_and_intact_bytes() {
    let folder = Folder::new();
    let ended = run(&folder, DEMO, &["--json", "--bytes", "3M"]);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    let events: Vec<Value> = ended
        .output
        .split(|&b| b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    let named = |name: &str| events.iter().filter(|event| event["event"] == name).collect::<Vec<_>>();

    let steps: BTreeSet<_> = named("step").iter().map(|step| step["step"].as_str().unwrap().to_owned()).collect();
    assert_eq!(steps, (1..=13).map(|n| format!("S{n}")).collect());
    let times: Vec<_> = named("step").iter().map(|step| step["ms"].as_f64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");

    assert!(named("path").iter().any(|event| event["who"] == "client" && event["path"] == "direct"));
    assert!(named("path").iter().any(|event| event["who"] == "server" && event["path"] == "direct"));
    let transfers = named("transfer");
    assert_eq!(transfers.len(), 2);
    assert!(transfers.iter().all(|transfer| transfer["intact"] == true && transfer["bytes"] == 3 << 20));

    let [simulated] = named("simulated")[..] else { panic!("{events:?}") };
    let time = |field: &str| simulated[field].as_f64().unwrap();
    assert_eq!(time("bound_ms"), time("a_ms") + time("b_ms") + time("c_ms"));
    assert!(time("direct_ms") >= time("bound_ms") && time("direct_ms") <= time("allowed_ms"));
    assert_eq!(events.last().unwrap()["ok"], true);
}
