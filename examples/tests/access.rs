//! Who may use a relay, by its settings: read again while it runs, and refused with a reason.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::{fs, path::PathBuf};

use common::{Ended, Folder, PEER, Program, RELAY, run, start, text};

/// A relay with these tables in its settings: the program, its URL and the file.
fn relay(folder: &Folder, tables: &str) -> (Program, String, PathBuf) {
    let file = folder.path("relay.toml");
    write(&file, tables);
    let mut relay = start(folder, RELAY, &["--config", text(&file), "--json"]);
    let url = relay.until("ready").pop().unwrap()["url"].as_str().unwrap().to_owned();
    (relay, url, file)
}

fn write(file: &std::path::Path, tables: &str) {
    fs::write(file, format!("listen = '127.0.0.1:0'\n{tables}")).unwrap();
}

/// The ID of the peer that has this key file.
fn id_of(folder: &Folder, key: &str) -> String {
    direc_smol::load_or_create_key(&folder.path(key)).unwrap().id().to_string()
}

/// A new token's file, and its hash.
fn token(folder: &Folder, name: &str) -> (PathBuf, String) {
    let printed = String::from_utf8(run(folder, RELAY, &["token"]).output).unwrap();
    let (token, hash) = printed.trim().split_once('\n').unwrap();
    let file = folder.path(name);
    fs::write(&file, token).unwrap();
    (file, hash.to_owned())
}

fn ping(folder: &Folder, url: &str, flags: &[&str], peer: &str) -> Ended {
    run(folder, PEER, &[&["--relay", url], flags, &["ping", peer, "--count", "1"]].concat())
}

#[test]
fn a_listed_peer_serves_whoever_has_a_token_finds_it_by_name_and_others_hear_why_not() {
    let folder = Folder::new();
    let ((good, hash), (wrong, _)) = (token(&folder, "good"), token(&folder, "wrong"));
    let office = id_of(&folder, "office.key");
    let tables = format!(
        "names.office = '{office}'\naccess = {{ mode = 'listed', peers = {{ office = 'register' }}, tokens = {{ '{hash}' \
         = 'connect' }} }}\n"
    );
    let (_relay, url, _) = relay(&folder, &tables);
    let mut server =
        start(&folder, PEER, &["--relay", &url, "--key", "office.key", "--json", "serve", "--echo", "--allow", "any"]);
    server.until("ready");

    let by_name = ping(&folder, &url, &["--token-file", text(&good)], "office");
    assert_eq!(by_name.code, Some(0), "{}", by_name.errors);
    let unknown = ping(&folder, &url, &["--token-file", text(&wrong)], "office");
    assert!(unknown.code != Some(0) && unknown.errors.contains("token"), "{}", unknown.errors);
    let secret = fs::read_to_string(&wrong).unwrap();
    assert!(!unknown.errors.contains(&secret), "a token is not repeated");
    let without = ping(&folder, &url, &[], &office);
    assert!(without.code != Some(0) && without.errors.contains("token"), "{}", without.errors);
}

#[test]
#[cfg(unix)]
fn hangup_shuts_out_who_is_not_listed_any_more_and_lets_in_who_is_listed_now() {
    let folder = Folder::new();
    let office = id_of(&folder, "office.key");
    let (relay, url, file) = relay(&folder, "");
    let mut server =
        start(&folder, PEER, &["--relay", &url, "--key", "office.key", "--json", "serve", "--allow", "any"]);
    server.until("ready");
    write(&file, "access.mode = 'listed'\n");
    relay.signal("HUP");
    relay.until_said("turned away");
    let refused = ping(&folder, &url, &[], &office);
    assert!(refused.errors.contains("list"), "{}", refused.errors);
    write(&file, "access.mode = 'open'\n");
    relay.signal("HUP");
    // The one that was shut out comes back by itself.
    server.until("relay_back");
}

#[test]
fn who_asks_for_more_introductions_than_the_quota_hears_so() {
    let folder = Folder::new();
    let (_relay, url, _) = relay(&folder, "quotas.introductions_per_peer = '1/day'\n");
    let flags = ["--key", "client.key"];
    let nobody = id_of(&folder, "nobody.key");
    let first = ping(&folder, &url, &flags, &nobody);
    assert!(first.errors.contains("no such peer"), "{}", first.errors);
    let second = ping(&folder, &url, &flags, &nobody);
    assert!(second.errors.contains("used up"), "{}", second.errors);
}

#[test]
fn who_sends_more_through_the_relay_than_its_quota_hears_which_one_it_is() {
    let folder = Folder::new();
    let (_relay, url, _) = relay(&folder, "quotas.relayed_rate_per_peer = '100k/second'\n");
    let mut server =
        start(&folder, PEER, &["--relay", &url, "--key", "server.key", "--json", "serve", "--allow", "any"]);
    let id = server.until("ready").pop().unwrap()["id"].as_str().unwrap().to_owned();
    let flags = ["--relay", &url, "--json", "bench", &id, "--path", "relay", "--up"];
    let mut bench = start(&folder, PEER, &flags);
    let told = bench.until("over_quota").pop().unwrap();
    bench.until_said("drops packets beyond 100.0 kB/s: its quota for one peer (");
    assert_eq!((&told["quota"], &told["bytes"]), (&"peer-quota".into(), &100_000.into()));
}
