//! `peer netcheck` on one machine: it ends by itself and says what it found, and what it did not.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Folder, PEER, relay, start};
use serde_json::{Value, json};

fn netcheck(folder: &Folder, arguments: &[&str]) -> (Value, Option<i32>) {
    let mut program = start(folder, PEER, &[arguments, &["--json", "netcheck"]].concat());
    let event = program.event().unwrap();
    assert_eq!(program.event(), None, "one object and nothing else");
    (event, program.end().code)
}

#[test]
fn at_a_relay_on_this_machine_everything_is_open() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let (said, code) = netcheck(&folder, &["--relay", &url]);
    assert_eq!(code, Some(0), "{said}");
    let plain = ["event", "udp", "punch", "mapping", "filtering", "clash_prone", "verdict"].map(|field| &said[field]);
    let right = ["netcheck".into(), true.into(), true.into(), "endpoint_independent".into(), "ignores_ports".into()];
    let right: Vec<Value> = right.into_iter().chain([json!(false), json!("everyone")]).collect();
    assert_eq!(plain.to_vec(), right.iter().collect::<Vec<_>>(), "{said}");
    assert!(said["relays"][0]["rtt_ms"].as_f64().unwrap() > 0.0, "{said}");
    assert_eq!(said["addresses"].as_array().unwrap().len(), 1, "{said}");
}

#[test]
fn people_get_lines_and_the_meaning_last() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let ended = start(&folder, PEER, &["--relay", &url, "netcheck"]).end();
    let text = String::from_utf8(ended.output).unwrap();
    assert_eq!(ended.code, Some(0), "{text}{}", ended.errors);
    assert_eq!(text.lines().last(), Some("=> direct to nearly everyone"), "{text}");
    assert!(!folder.path("config/direc/peer.key").exists(), "it leaves no key behind");
}

#[test]
fn a_relay_with_another_key_is_no_blocked_udp() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let other =
        format!("{}#{}", url.split('#').next().unwrap(), "aebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4qa");
    let (said, code) = netcheck(&folder, &["--relay", &other]);
    assert_eq!((code, &said["udp"], &said["verdict"]), (Some(1), &json!(true), &json!("refused")), "{said}");
    assert!(said["relays"][0]["why"].as_str().unwrap().contains("key is not the pinned one"), "{said}");
}

#[test]
fn of_two_relays_one_that_is_away_is_named() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let away = format!("direc://127.0.0.1:9#{}", url.split('#').nth(1).unwrap());
    let (said, code) = netcheck(&folder, &["--relay", &away, "--relay", &url]);
    assert_eq!((code, &said["verdict"]), (Some(0), &json!("everyone")), "{said}");
    let relays = said["relays"].as_array().unwrap();
    assert_eq!(relays.iter().filter(|relay| relay["reached"] == false).count(), 1, "{said}");
}
