//! Three terminals: a relay, a serving peer, a connecting peer.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use common::{PEER, check_summary, relay, run, serve, start};
use serde_json::Value;

use crate::common::Folder;

fn parsed(output: &[u8]) -> Vec<Value> {
    output.split(|&b| b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect()
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

#[test]
fn ping_goes_direct_and_says_so() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let (mut server, id) = serve(&folder, &url, &["--echo", "--allow", "any"]);

    let ended = run(&folder, PEER, &["--relay", &url, "--json", "ping", &id, "--count", "20", "--interval", "20"]);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    let events = parsed(&ended.output);

    let connected = named(&events, "connected")[0];
    assert_eq!(connected["peer"], id.as_str());
    assert!(connected["ms"].as_f64().unwrap() >= 0.0);
    assert_eq!(named(&events, "first_byte").len(), 1);
    let direct = named(&events, "path").into_iter().find(|event| event["path"] == "direct").expect("never went direct");
    assert!(direct["addr"].as_str().unwrap().parse::<std::net::SocketAddr>().is_ok());
    assert!(direct["ms"].is_number());
    let pings = named(&events, "ping");
    assert_eq!(
        pings.iter().map(|ping| ping["seq"].as_u64().unwrap()).collect::<Vec<_>>(),
        (1..=20).collect::<Vec<_>>()
    );
    assert!(pings.iter().all(|ping| ping["rtt_ms"].as_f64().unwrap() > 0.0));
    assert_eq!(pings[19]["path"], "direct");
    assert_eq!(named(&events, "closed").len(), 1);

    let summary = events.last().unwrap();
    check_summary(summary);
    assert_eq!((&summary["sent"], &summary["lost"]), (&20.into(), &0.into()));
    assert_eq!(summary["path"], "direct");
    for field in ["connected_ms", "first_byte_ms", "direct_ms", "rtt_ms", "seconds"] {
        assert!(summary[field].is_number(), "{field} in {summary}");
    }
    assert!(summary["bytes"].is_null());

    let seen = server.until("closed");
    assert_eq!(named(&seen, "connected").len(), 1);
}

#[test]
fn connect_carries_any_bytes_both_ways_and_ends() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let (_server, id) = serve(&folder, &url, &["--echo", "--allow", "any"]);

    let sent: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut client = start(&folder, PEER, &["--relay", &url, "connect", &id]);
    client.write(&sent);
    let ended = client.end();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert!(ended.output == sent, "{} bytes came back of {}", ended.output.len(), sent.len());

    let mut client = start(&folder, PEER, &["--relay", &url, "--json", "connect", &id]);
    client.write(b"hello");
    let ended = client.end();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    let events = parsed(&ended.output);
    assert_eq!(named(&events, "data")[0]["base64"], "aGVsbG8=");
    let summary = events.last().unwrap();
    check_summary(summary);
    assert_eq!(summary["bytes"], 10);
}

#[test]
fn without_echo_the_server_shows_what_comes_and_sends_what_it_is_given() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let mut server = start(&folder, PEER, &["--relay", &url, "--key", "server.key", "serve", "--allow", "any"]);
    let id = String::from_utf8(server.line().unwrap()).unwrap();
    server.write(b"from the server\n");
    server.stdin = None;

    let mut client = start(&folder, PEER, &["--relay", &url, "connect", id.trim()]);
    client.write(b"from the client\n");
    let ended = client.end();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert_eq!(ended.output, b"from the server\n");
    assert_eq!(server.line().unwrap(), b"from the client\n");
}

#[test]
fn bench_measures_up_and_down() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let (_server, id) = serve(&folder, &url, &["--allow", "any"]);
    for (flags, path) in [
        (["--up", "--path", "direct"], "direct"),
        (["--down", "--path", "direct"], "direct"),
        (["--up", "--path", "relay"], "relay"),
        (["--down", "--path", "relay"], "relay"),
    ] {
        let arguments = [&["--relay", &url, "--json", "bench", &id, "--bytes", "2M"][..], &flags].concat();
        let ended = run(&folder, PEER, &arguments);
        assert_eq!(ended.code, Some(0), "{flags:?}: {}", ended.errors);
        let events = parsed(&ended.output);
        assert_eq!(named(&events, "first_byte").len(), 1);
        let summary = events.last().unwrap();
        check_summary(summary);
        assert_eq!(summary["bytes"], 2 << 20, "{flags:?}");
        assert_eq!(summary["path"], path, "{flags:?}");
        assert_eq!(summary["direct_ms"].is_number(), path == "direct", "{flags:?}");
        assert!(summary["seconds"].as_f64().unwrap() > 0.0);
        assert!(summary["longest_stall_ms"].is_number());
        assert!(summary["sent"].is_null() && summary["lost"].is_null());
    }

    // 0.8 s at 2 Mbit/s are 200 kB.
    let arguments =
        ["--relay", &url, "--json", "bench", &id, "--seconds", "0.8", "--rate-mbit", "2", "--path", "direct"];
    let ended = run(&folder, PEER, &arguments);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    let bytes = parsed(&ended.output).last().unwrap()["bytes"].as_u64().unwrap();
    assert!((120_000..=205_000).contains(&bytes), "{bytes}");
}

#[test]
fn bench_says_how_far_it_is_to_people_and_not_to_programs() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let (_server, id) = serve(&folder, &url, &["--allow", "any"]);
    let bench = |flags: &[&str]| run(&folder, PEER, &[&["--relay", &url, "bench", &id], flags].concat());
    let ended = bench(&["--bytes", "2M"]);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert_eq!(ended.errors.matches(" MB/s").count(), 4, "a line each quarter: {}", ended.errors);
    for flags in [&["--bytes", "2M", "--json"][..], &["--seconds", "0.3", "--json"], &["--seconds", "0.3"]] {
        let ended = bench(flags);
        assert_eq!(ended.code, Some(0), "{flags:?}: {}", ended.errors);
        // The result's own line has another form.
        assert!(!ended.errors.contains(" %  "), "{flags:?}: {}", ended.errors);
    }
}

/// A bar is for terminals: `script` is one.
#[cfg(target_os = "linux")]
#[test]
fn bench_for_a_time_draws_a_bar_on_a_terminal() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let (_server, id) = serve(&folder, &url, &["--allow", "any"]);
    let command = format!("{PEER} --relay '{url}' bench {id} --seconds 0.6 --down");
    let ended = run(&folder, "script", &["-qec", &command, "/dev/null"]);
    let seen = String::from_utf8_lossy(&ended.output).into_owned();
    assert_eq!(ended.code, Some(0), "{seen}");
    assert!(seen.contains("\rdown") && seen.contains("━"), "{seen}");
    let shares = seen.split(" %  ").filter_map(|before| before.rsplit(' ').next()?.parse::<u32>().ok());
    let shares: Vec<u32> = shares.collect();
    assert!(shares.len() > 1 && shares.is_sorted() && shares.iter().all(|&share| share <= 100), "{seen}");
}

#[test]
fn the_same_key_may_connect_and_serve() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let (_server, id) = serve(&folder, &url, &["--allow", "any"]);
    let (_other, other) = {
        let mut other = start(&folder, PEER, &["--relay", &url, "--key", "other.key", "--json", "serve", "--yes"]);
        let ready = other.until("ready").pop().unwrap();
        let id = ready["id"].as_str().unwrap().to_owned();
        (other, id)
    };
    // Two commands at once with the key of the first server.
    let mut first = start(
        &folder,
        PEER,
        &["--relay", &url, "--key", "server.key", "--json", "ping", &other, "--interval", "50", "--count", "10"],
    );
    let mut second = start(
        &folder,
        PEER,
        &["--relay", &url, "--key", "server.key", "--json", "ping", &other, "--interval", "50", "--count", "10"],
    );
    for client in [&mut first, &mut second] {
        let summary = client.until("summary").pop().unwrap();
        assert_eq!(summary["lost"], 0);
    }
    // The server is still there.
    let ended = run(&folder, PEER, &["--relay", &url, "--json", "ping", &id, "--count", "1"]);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_everything_politely() {
    let folder = Folder::new();
    let (relay, url) = relay(&folder);
    let (mut server, id) = serve(&folder, &url, &["--allow", "any"]);
    let mut client = start(&folder, PEER, &["--relay", &url, "--json", "ping", &id, "--interval", "20"]);
    client.until("ping");
    client.interrupt();
    let events = client.until("summary");
    check_summary(events.last().unwrap());
    assert_eq!(client.end().code, Some(0));
    // The server hears of it at once, rather than by a timeout.
    let closed = server.until("closed").pop().unwrap();
    assert!(closed["reason"].as_str().unwrap().contains("done"), "{closed}");
    server.interrupt();
    let ended = server.end();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    relay.interrupt();
    let ended = relay.end();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    for word in ["registered", "left"] {
        assert!(ended.errors.contains(word), "no '{word}' in {}", ended.errors);
    }
}
