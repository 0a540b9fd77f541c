//! A name leads to whom it led before, or to nobody.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::{collections::BTreeMap, fs};

use common::{Ended, Folder, PEER, Program, run, start, text};
use direc_smol::{NodeId, PeerName, RelayOptions, RelayServer, ephemeral_key};
use serde_json::Value;

/// A relay at which the peer is called `office`, and its URL.
fn relay(id: &str) -> (RelayServer, String) {
    let mut options = RelayOptions::new(ephemeral_key().unwrap(), "127.0.0.1:0".parse().unwrap());
    options.names = office(id);
    let relay = RelayServer::bind(options).unwrap();
    let url = relay.url(None).to_string();
    (relay, url)
}

fn office(id: &str) -> BTreeMap<PeerName, NodeId> {
    BTreeMap::from([("office".parse().unwrap(), id.parse().unwrap())])
}

/// A serving peer with a key of its own, and its ID.
fn serve(folder: &Folder, url: &str, key: &str, flags: &[&str]) -> (Program, String) {
    let mut server = start(folder, PEER, &[&["--relay", url, "--key", key, "--json", "serve"], flags].concat());
    let id = server.until("ready").pop().unwrap()["id"].as_str().unwrap().to_owned();
    (server, id)
}

/// An ID that a peer of this key file will have.
fn id_of(folder: &Folder, key: &str) -> String {
    direc_smol::load_or_create_key(&folder.path(key)).unwrap().id().to_string()
}

fn ping(folder: &Folder, url: &str, peer: &str) -> (Ended, Vec<Value>) {
    let ended = run(folder, PEER, &["--relay", url, "--json", "ping", peer, "--count", "1"]);
    let events = ended.output.split(|&b| b == b'\n').filter(|line| !line.is_empty());
    let events = events.map(|line| serde_json::from_slice(line).unwrap()).collect();
    (ended, events)
}

fn named<'a>(events: &'a [Value], name: &str) -> Option<&'a Value> {
    events.iter().find(|event| event["event"] == name)
}

/// The file, which is where the XDG Base Directory Specification has it.
fn known(folder: &Folder) -> String {
    fs::read_to_string(folder.path("data").join("direc").join("known_names")).unwrap_or_default()
}

#[test]
fn a_name_is_remembered_once_its_peer_has_proven_its_key_and_leads_there_even_when_the_relay_has_lost_it() {
    let folder = Folder::new();
    let (relay, url) = relay(&id_of(&folder, "office.key"));
    let (ended, _) = ping(&folder, &url, "office");
    assert!(ended.errors.contains("no such peer"), "{}", ended.errors);
    assert_eq!(known(&folder), "", "nobody has proven anything");

    let (_server, id) = serve(&folder, &url, "office.key", &["--allow", "any"]);
    let (ended, events) = ping(&folder, &url, "office");
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert_eq!(named(&events, "connected").unwrap()["peer"], id.as_str());
    assert_eq!(named(&events, "name_remembered").unwrap()["id"], id.as_str());
    assert!(ended.errors.contains(&format!("remembered: office is {id} at this relay")), "{}", ended.errors);
    assert_eq!(known(&folder), format!("{} office {id}\n", relay.id()));

    let (ended, events) = ping(&folder, &url, "office");
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert!(named(&events, "name_remembered").is_none() && named(&events, "name_unconfirmed").is_none(), "{events:?}");

    relay.set_names(BTreeMap::new());
    let (ended, events) = ping(&folder, &url, "office");
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert_eq!(named(&events, "connected").unwrap()["peer"], id.as_str());
    assert_eq!(named(&events, "name_unconfirmed").unwrap()["id"], id.as_str());
}

#[test]
fn a_name_that_stands_for_somebody_else_is_refused_until_the_told_command_accepts_it() {
    let folder = Folder::new();
    let (relay, url) = relay(&id_of(&folder, "office.key"));
    let (old, id) = serve(&folder, &url, "office.key", &["--allow", "any"]);
    let (_new, other) = serve(&folder, &url, "other.key", &["--allow", "any"]);
    assert_eq!(ping(&folder, &url, "office").0.code, Some(0));
    let before = known(&folder);
    relay.set_names(office(&other));

    // Whether the one who is remembered is still there or not.
    let refused = || {
        let (ended, events) = ping(&folder, &url, "office");
        assert_eq!(ended.code, Some(1), "{}", ended.errors);
        let changed = named(&events, "name_changed").expect("no event");
        assert_eq!((&changed["remembered"], &changed["told"]), (&id.as_str().into(), &other.as_str().into()));
        assert!(named(&events, "connected").is_none_or(|event| event["peer"] == id.as_str()), "connected to the other");
        assert_eq!(known(&folder), before);
        for words in ["'office' IS SOMEBODY ELSE NOW", &id, &other] {
            assert!(ended.errors.contains(words), "no '{words}' in {}", ended.errors);
        }
        ended.errors
    };
    refused();
    drop(old);
    let said = refused();

    let command = said.lines().find_map(|line| line.trim().strip_prefix("peer forget ")).expect("no command");
    let words: Vec<_> = ["forget"].into_iter().chain(command.split(' ')).collect();
    let ended = run(&folder, PEER, &words);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert!(String::from_utf8(ended.output).unwrap().contains(&format!("forgotten: office was {id}")));
    let (ended, events) = ping(&folder, &url, "office");
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert_eq!(named(&events, "connected").unwrap()["peer"], other.as_str());
}

#[test]
fn nobody_has_that_name() {
    let folder = Folder::new();
    let (_relay, url) = relay(&id_of(&folder, "office.key"));
    let (ended, events) = ping(&folder, &url, "attic");
    assert_eq!(ended.code, Some(1));
    let words = "'attic': the relay knows nobody of that name";
    assert!(ended.errors.contains(words), "{}", ended.errors);
    assert_eq!(named(&events, "error").unwrap()["what"], words);
    assert_eq!(known(&folder), "");

    let ended = run(&folder, PEER, &["--relay", &url, "forget", "attic"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.errors.contains("'attic' is not remembered at this relay"), "{}", ended.errors);
}

#[test]
fn a_broken_file_is_named_with_its_line_and_stops_names_alone() {
    let folder = Folder::new();
    let (_relay, url) = relay(&id_of(&folder, "office.key"));
    let (_server, id) = serve(&folder, &url, "office.key", &["--allow", "any"]);
    fs::create_dir_all(folder.path("data").join("direc")).unwrap();
    fs::write(folder.path("data").join("direc").join("known_names"), "# mine\nthis is no entry\n").unwrap();
    for arguments in [&["ping", "office"][..], &["forget", "office"], &["names"]] {
        let ended = run(&folder, PEER, &[&["--relay", &url], arguments].concat());
        assert_eq!(ended.code, Some(1), "{arguments:?}");
        let words = "known_names, line 2: expected RELAY-ID NAME PEER-ID, found 4 words";
        assert!(ended.errors.contains(words), "{arguments:?}: {}", ended.errors);
    }
    assert_eq!(ping(&folder, &url, &id).0.code, Some(0));
    assert_eq!(known(&folder), "# mine\nthis is no entry\n");
}

#[test]
fn one_name_stands_for_two_peers_at_two_relays() {
    let folder = Folder::new();
    let (first, first_url) = relay(&id_of(&folder, "one.key"));
    let (second, second_url) = relay(&id_of(&folder, "two.key"));
    let (_one, one) = serve(&folder, &first_url, "one.key", &["--allow", "any"]);
    let (_two, two) = serve(&folder, &second_url, "two.key", &["--allow", "any"]);
    for (url, id) in [(&first_url, &one), (&second_url, &two), (&first_url, &one)] {
        let (ended, events) = ping(&folder, url, "office");
        assert_eq!(ended.code, Some(0), "{}", ended.errors);
        assert_eq!(named(&events, "connected").unwrap()["peer"], id.as_str());
    }
    let list = |arguments: &[&str]| {
        let ended = run(&folder, PEER, arguments);
        assert_eq!(ended.code, Some(0), "{}", ended.errors);
        String::from_utf8(ended.output).unwrap()
    };
    let lines = [(&one, first.id()), (&two, second.id())].map(|(id, at)| format!("office {id} at relay {at}\n"));
    let all = list(&["names"]);
    assert!(lines.iter().all(|line| all.contains(line)) && all.lines().count() == 2, "{all}");
    assert_eq!(list(&["names", "--relay", &second_url]), lines[1]);

    list(&["forget", "office", "--relay", &first_url]);
    assert_eq!(list(&["names"]), lines[1]);
}

#[test]
fn two_relays_that_name_two_peers_lead_to_neither_and_to_the_remembered_one_no_more() {
    let folder = Folder::new();
    let (first, first_url) = relay(&id_of(&folder, "one.key"));
    let (second, second_url) = relay(&id_of(&folder, "two.key"));
    let (_one, one) = serve(&folder, &first_url, "one.key", &["--allow", "any"]);
    let (_two, two) = serve(&folder, &second_url, "two.key", &["--allow", "any"]);
    let both =
        || run(&folder, PEER, &["--relay", &first_url, "--relay", &second_url, "ping", "office", "--count", "1"]);
    let refused = || {
        let ended = both();
        assert_eq!(ended.code, Some(1), "{}", ended.errors);
        for (relay, id) in [(first.id(), &one), (second.id(), &two)] {
            assert!(ended.errors.contains(&format!("relay {relay} says {id}")), "{}", ended.errors);
        }
        assert!(ended.errors.contains("'office': the relays disagree"), "{}", ended.errors);
    };
    refused();
    assert_eq!(known(&folder), "", "neither is remembered");
    // One of them is remembered now, and the other relay has a word for nobody.
    assert_eq!(ping(&folder, &first_url, "office").0.code, Some(0));
    refused();
    // Who has met both by that name, each at its relay, gets the preferred relay's.
    assert_eq!(ping(&folder, &second_url, "office").0.code, Some(0));
    let ended = both();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
}

#[test]
fn who_is_remembered_by_a_name_may_be_let_in_by_it() {
    let folder = Folder::new();
    let (_relay, url) = relay(&id_of(&folder, "office.key"));
    let allow = ["--relay", &url, "--key", "mine.key", "--json", "serve", "--allow", "office"];
    let ended = run(&folder, PEER, &allow);
    assert_eq!(ended.code, Some(1));
    assert!(ended.errors.contains("--allow 'office': not remembered at this relay"), "{}", ended.errors);

    let (office, _) = serve(&folder, &url, "office.key", &["--allow", "any"]);
    assert_eq!(ping(&folder, &url, "office").0.code, Some(0));
    drop(office);
    let (_mine, mine) = serve(&folder, &url, "mine.key", &["--allow", "office"]);
    let key = folder.path("office.key");
    let ended = run(&folder, PEER, &["--relay", &url, "--key", text(&key), "ping", &mine, "--count", "1"]);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    let (ended, _) = ping(&folder, &url, &mine);
    assert!(ended.errors.contains("refused"), "{}", ended.errors);
}
