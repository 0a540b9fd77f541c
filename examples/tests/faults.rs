//! What goes wrong while the programs run: they go on, and say what has happened.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use common::{Folder, PEER, Program, check_summary, relay, relay_with, serve, serve_at, start};
use serde_json::Value;

/// The `HOST:PORT` of a relay's URL.
fn address(url: &str) -> &str {
    url.strip_prefix("direc://").unwrap().split_once('#').unwrap().0
}

/// A client that pings by the first of these relays, with its first answer.
fn pinging(folder: &Folder, urls: &[&str], id: &str) -> Program {
    // It takes the first that is there, and on a busy machine that may be the second.
    for _ in 0..20 {
        let relays = urls.iter().flat_map(|url| ["--relay", url]);
        let rest = ["--json", "--path", "relay", "ping", id, "--count", "100", "--interval", "25"];
        let mut client = start(folder, PEER, &relays.chain(rest).collect::<Vec<_>>());
        let events = client.until("ping");
        assert_eq!(events.last().unwrap()["path"], "relay");
        client.signal("USR1");
        let status = client.until("status").pop().unwrap();
        let paths = status["connections"][0]["paths"].as_array().unwrap();
        if paths.iter().any(|path| path["current"] == true && path["addr"] == address(urls[0])) {
            return client;
        }
    }
    panic!("never by {}", urls[0]);
}

/// Everything to the end, which must have been a good one: all pings were answered.
fn all_answered(mut client: Program) -> Vec<Value> {
    let events = client.until("summary");
    let summary = events.last().unwrap();
    check_summary(summary);
    assert_eq!((&summary["sent"], &summary["lost"]), (&100.into(), &0.into()), "{events:?}");
    let ended = client.end();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    events
}

fn find<'a>(events: &'a [Value], name: &str) -> &'a Value {
    events.iter().find(|event| event["event"] == name).unwrap_or_else(|| panic!("no {name} in {events:?}"))
}

#[test]
fn the_status_is_told_by_both_sides_when_asked() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let (mut server, id) = serve(&folder, &url, &["--allow", "any"]);
    let mut client = start(&folder, PEER, &["--relay", &url, "--json", "ping", &id, "--interval", "20"]);
    while client.until("path").pop().unwrap()["path"] != "direct" {}
    for side in [&mut client, &mut server] {
        side.signal("USR1");
        let status = side.until("status").pop().unwrap();
        let connection = &status["connections"][0];
        assert_eq!((&connection["path"], &connection["why"]), (&"direct".into(), &"direct".into()), "{status}");
        let paths = connection["paths"].as_array().unwrap();
        let current = paths.iter().find(|path| path["current"] == true).unwrap();
        assert!(current["addr"].as_str().unwrap().parse::<std::net::SocketAddr>().is_ok(), "{status}");
        assert_eq!((&current["path"], &current["state"]), (&"direct".into(), &"works".into()), "{status}");
        assert!(current["sent_bytes"].as_u64().unwrap() > 0, "{status}");
        assert!(paths.iter().any(|path| path["addr"] == address(&url)), "{status}");
    }
}

#[test]
fn the_status_is_for_eyes_and_not_among_the_data() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let (_server, id) = serve(&folder, &url, &["--echo", "--allow", "any"]);
    let mut client = start(&folder, PEER, &["--relay", &url, "--status", "0.02", "connect", &id]);
    client.write(b"data");
    for words in ["status: ", " as client", "  * direct 127.0.0.1:", "direct goes before relayed"] {
        client.until_said(words);
    }
    let ended = client.end();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert_eq!(ended.output, b"data");
}

#[test]
fn when_the_first_relay_dies_pings_go_on_by_the_second() {
    let folder = Folder::new();
    let (one, first) = relay_with(&folder, &["--listen", "127.0.0.1:0", "--data-dir", "one"]);
    let (_two, second) = relay_with(&folder, &["--listen", "127.0.0.1:0", "--data-dir", "two"]);
    let (server, id) = serve_at(&folder, &[&first, &second], &["--allow", "any"]);
    let client = pinging(&folder, &[&first, &second], &id);
    drop(one);

    let events = all_answered(client);
    let path = find(&events, "path");
    assert_eq!((&path["addr"], &path["why"]), (&address(&second).into(), &"relay_lost".into()), "{path}");
    server.until_said(&format!("now by relay {}", address(&second)));
}

#[test]
fn a_relay_that_drains_is_left_for_the_second() {
    let folder = Folder::new();
    let flags = ["--listen", "127.0.0.1:0", "--data-dir", "one", "--drain-seconds", "2"];
    let (one, first) = relay_with(&folder, &flags);
    let (_two, second) = relay_with(&folder, &["--listen", "127.0.0.1:0", "--data-dir", "two"]);
    let (server, id) = serve_at(&folder, &[&first, &second], &["--allow", "any"]);
    let client = pinging(&folder, &[&first, &second], &id);
    one.signal("TERM");

    let events = all_answered(client);
    assert_eq!(find(&events, "relay_draining")["relay"], address(&first));
    let path = find(&events, "path");
    assert_eq!((&path["addr"], &path["why"]), (&address(&second).into(), &"relay_lost".into()), "{path}");
    let ended = one.end();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert!(ended.errors.contains("draining"), "{}", ended.errors);
    server.until_said(&format!("relay {} lost", address(&first)));
}

#[test]
fn a_drain_ends_when_everybody_has_left_or_at_the_second_call() {
    let folder = Folder::new();
    for (signal, words) in [("TERM", "told again"), ("INT", "told again"), ("", "everybody has left")] {
        let (mut relay, url) = relay_with(&folder, &["--listen", "127.0.0.1:0", "--drain-seconds", "3600"]);
        let (server, _) = serve(&folder, &url, &["--allow", "any"]);
        relay.signal("TERM");
        assert_eq!(relay.until("draining").pop().unwrap()["within_ms"], 3_600_000.0);
        server.until_said("is going down within 1 h 00 min");
        if signal.is_empty() {
            server.interrupt();
        } else {
            relay.signal(signal);
        }
        let ended = relay.end();
        assert_eq!(ended.code, Some(0), "{}", ended.errors);
        assert!(ended.errors.contains(words), "no '{words}' in {}", ended.errors);
    }
}

#[test]
fn a_relay_that_is_killed_and_started_again_takes_the_pings_up() {
    let folder = Folder::new();
    let (one, url) = relay(&folder);
    let (mut server, id) = serve(&folder, &url, &["--allow", "any"]);
    let client = pinging(&folder, &[&url], &id);
    drop(one);
    let flags = ["--listen", address(&url), "--punch-port", "0", "--punch-port", "0"];
    let (_again, same) = relay_with(&folder, &flags);
    assert_eq!(same, url);

    all_answered(client);
    let told = server.until("relay_back");
    assert_eq!(told.iter().filter(|event| event["event"] == "relay_lost").count(), 1, "{told:?}");
}
