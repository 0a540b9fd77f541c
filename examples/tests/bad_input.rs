//! What is wrong is said, soon, and with the right exit code.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::{fs, net::UdpSocket};

use common::{DEMO, Ended, Folder, PEER, RELAY, check_summary, relay, relay_with, run, serve, text};
use serde_json::Value;

/// An ID that parses and that nobody has (nobody knows its secret, at least).
const NOBODY: &str = "aebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4qa";

fn last_lines(ended: &Ended) -> (Value, Value) {
    let lines: Vec<Value> = ended
        .output
        .split(|&b| b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    let [.., error, summary] = lines.as_slice() else { panic!("{lines:?}; {}", ended.errors) };
    (error.clone(), summary.clone())
}

/// A client that must fail with these words: in the event, and on standard error.
fn client_fails(folder: &Folder, arguments: &[&str], words: &str) {
    let ended = run(folder, PEER, &[&["--json"], arguments].concat());
    assert_eq!(ended.code, Some(1), "{arguments:?}: {}", ended.errors);
    let (error, summary) = last_lines(&ended);
    assert_eq!(error["event"], "error");
    assert!(error["what"].as_str().unwrap().contains(words), "no '{words}' in {error}");
    assert!(ended.errors.contains(words), "{}", ended.errors);
    check_summary(&summary);
}

#[test]
fn help_and_version() {
    let folder = Folder::new();
    for (program, words) in [(DEMO, "--bytes"), (RELAY, "--punch-port"), (PEER, "bench PEER")] {
        let ended = run(&folder, program, &["--help"]);
        assert_eq!(ended.code, Some(0));
        assert!(String::from_utf8(ended.output).unwrap().contains(words));
        assert!(ended.errors.is_empty());
        let ended = run(&folder, program, &["-V"]);
        assert_eq!(ended.code, Some(0));
        assert!(String::from_utf8(ended.output).unwrap().contains(env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn a_senseless_command_line_is_exit_code_2() {
    let folder = Folder::new();
    let url = format!("direc://127.0.0.1:4433#{NOBODY}");
    let relay = ["--relay", url.as_str()];
    let five = ["1", "2", "3", "4", "5"].map(|n| format!("--relay=direc://host{n}:4433#{NOBODY}"));
    let cases: &[(&str, &[&str], &str)] = &[
        (PEER, &[], "command is missing"),
        (PEER, &["serve"], "--relay URL is missing"),
        (PEER, &["--relay", "http://example.org", "serve"], "--relay 'http://example.org'"),
        (PEER, &["--relay", "direc://host:4433", "serve"], "--relay 'direc://host:4433'"),
        (PEER, &["--relay", "direc://host:99999#aa", "serve"], "--relay"),
        (PEER, &[relay[0], relay[1], relay[0], relay[1], "serve"], "127.0.0.1:4433 is named twice"),
        (PEER, &[&five.each_ref().map(String::as_str)[..], &["serve"]].concat(), "host5:4433#"),
        (PEER, &[&five.each_ref().map(String::as_str)[..], &["serve"]].concat(), "one too many, 4 at most"),
        (PEER, &[relay[0], relay[1], "--status", "0", "serve"], "--status"),
        (PEER, &[relay[0], relay[1], "--status", "often", "serve"], "--status 'often'"),
        (PEER, &["dance"], "'dance' is none of"),
        (PEER, &[relay[0], relay[1], "ping"], "needs the other peer's ID"),
        (PEER, &[relay[0], relay[1], "ping", "A.b"], "PEER 'A.b': no ID, and not a name"),
        (PEER, &[relay[0], relay[1], "connect", &"a".repeat(64)], "1 to 63 characters expected, 64 found"),
        (PEER, &[relay[0], relay[1], "forget"], "forget needs a name"),
        (PEER, &[relay[0], relay[1], "forget", NOBODY], "it could be taken for an ID"),
        (PEER, &["forget", "office"], "--relay URL is missing"),
        (PEER, &["names", "office"], "one word too many"),
        (PEER, &[relay[0], relay[1], "ping", NOBODY, "more"], "one word too many"),
        (PEER, &[relay[0], relay[1], "ping", NOBODY, "--bytes", "5"], "--bytes does not belong to ping"),
        (PEER, &[relay[0], relay[1], "ping", NOBODY, "--count", "0"], "--count"),
        (PEER, &[relay[0], relay[1], "bench", NOBODY, "--up", "--down"], "not both"),
        (PEER, &[relay[0], relay[1], "bench", NOBODY, "--bytes", "1", "--seconds", "1"], "not both"),
        (PEER, &[relay[0], relay[1], "bench", NOBODY, "--path", "scenic"], "--path 'scenic'"),
        (PEER, &[relay[0], relay[1], "serve", "--allow", "Everyone"], "--allow 'Everyone'"),
        (RELAY, &["--listen", "here"], "--listen 'here'"),
        (RELAY, &["--punch-port", "1"], "two to seven"),
        (RELAY, &["--punch-port", "1000", "--punch-port", "1000"], "named twice"),
        (RELAY, &["--drain-seconds", "long"], "--drain-seconds 'long'"),
        (RELAY, &["--drain-seconds=-1"], "--drain-seconds '-1': drain_seconds: 0 to 86400 seconds, not -1"),
        (RELAY, &["--nonsense"], "--nonsense"),
        (DEMO, &["--bytes", "many"], "--bytes 'many'"),
    ];
    for (program, arguments, words) in cases {
        let ended = run(&folder, program, arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.errors);
        assert!(ended.errors.contains(words), "no '{words}' in: {}", ended.errors);
        assert!(ended.output.is_empty());
        let ended = run(&folder, program, &[arguments, &["--json"][..]].concat());
        let event: Value = serde_json::from_slice(&ended.output).unwrap();
        assert_eq!(event["event"], "error");
    }
}

#[test]
fn a_host_that_is_none() {
    let folder = Folder::new();
    let ended = run(&folder, RELAY, &["--listen", "127.0.0.1:0", "--public", "not a host"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.errors.contains("--public 'not a host'"), "{}", ended.errors);
    client_fails(
        &folder,
        &["--relay", &format!("direc://no-such-host.invalid:4433#{NOBODY}"), "ping", NOBODY],
        "no-such-host",
    );
}

#[test]
fn the_relay_is_not_there_or_is_another() {
    let folder = Folder::new();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("direc://{}#{NOBODY}", silent.local_addr().unwrap());
    client_fails(&folder, &["--relay", &url, "ping", NOBODY], "unreachable");

    let (_relay, url) = relay(&folder);
    let (address, _) = url.split_once('#').unwrap();
    client_fails(&folder, &["--relay", &format!("{address}#{NOBODY}"), "ping", NOBODY], "not the pinned one");
}

#[test]
fn the_other_side_is_not_there_or_says_no() {
    let folder = Folder::new();
    let (mut relay, url) = relay(&folder);
    client_fails(&folder, &["--relay", &url, "ping", NOBODY], "no such peer");

    // Only this stranger is let in, who is not us.
    let (server, id) = serve(&folder, &url, &["--allow", NOBODY]);
    client_fails(&folder, &["--relay", &url, "ping", &id], "refused");
    drop(server);

    // Standard input is no terminal, so nobody can be asked.
    let (server, id) = serve(&folder, &url, &[]);
    client_fails(&folder, &["--relay", &url, "ping", &id], "refused");
    assert!(server.errors().contains("nobody to ask"), "{}", server.errors());
    assert!(relay.runs());
    assert!(relay.errors().contains("refused"), "{}", relay.errors());
}

#[test]
fn a_port_in_use_is_named() {
    let folder = Folder::new();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let ended = run(&folder, RELAY, &["--listen", &address.to_string(), "--punch-port", "0", "--punch-port", "0"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.errors.contains(&address.port().to_string()), "{}", ended.errors);
    assert!(ended.output.is_empty());
}

#[cfg(unix)]
#[test]
fn key_files_are_private_kept_and_checked() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let (server, id) = serve(&folder, &url, &["--yes"]);
    drop(server);
    let key = folder.path("server.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(folder.path("data/direc/relay.key")).unwrap().permissions().mode() & 0o777, 0o600);
    let (server, again) = serve(&folder, &url, &["--yes"]);
    assert_eq!(id, again);
    drop(server);

    let arguments = |key| ["--relay", url.as_str(), "--key", key, "ping", NOBODY];
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    client_fails(&folder, &arguments(text(&key)), "chmod 600");
    fs::write(folder.path("nonsense.key"), "this is no key").unwrap();
    fs::set_permissions(folder.path("nonsense.key"), fs::Permissions::from_mode(0o644)).unwrap();
    client_fails(&folder, &arguments("nonsense.key"), "nonsense.key is not a key file");
    let ended = run(&folder, PEER, &arguments("/etc/passwd"));
    assert!(ended.errors.contains("/etc/passwd is not a key file"), "{}", ended.errors);
    assert!(!ended.errors.contains("chmod"), "{}", ended.errors);
    fs::create_dir(folder.path("folder.key")).unwrap();
    client_fails(&folder, &arguments("folder.key"), "folder.key");
    client_fails(&folder, &arguments("nonsense.key/below/it.key"), "nonsense.key");
}

#[test]
fn a_mistyped_folder_is_named_and_not_made() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let arguments = ["--relay", url.as_str(), "--key", "mistyped/client.key", "ping", NOBODY];
    client_fails(&folder, &arguments, "the folder mistyped does not exist");
    assert!(!folder.path("mistyped").exists());
    let ended = run(&folder, RELAY, &["--listen", "127.0.0.1:0", "--data-dir", "mistyped/relay"]);
    assert_eq!(ended.code, Some(1), "{}", ended.errors);
    assert!(ended.errors.contains("there is no folder mistyped"), "{}", ended.errors);
    assert!(!folder.path("mistyped").exists());

    // A data folder may be new; it is said that it is.
    let (relay, _) = relay_with(&folder, &["--listen", "127.0.0.1:0", "--data-dir", "relay"]);
    relay.until_said("made the folder relay");
    drop(relay);
    let (relay, _) = relay_with(&folder, &["--listen", "127.0.0.1:0", "--data-dir", "relay"]);
    assert!(!relay.errors().contains("made the folder"), "{}", relay.errors());
}
