//! `relay --check-config`: it says what a start would, and starts nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::{fs, net::UdpSocket};

use common::{Ended, Folder, RELAY, relay, run, start, text};
use serde_json::Value;

const NOBODY: &str = "aebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4qa";

/// What is said of these settings, with all data in the folder.
fn check(folder: &Folder, toml: &str, flags: &[&str]) -> Ended {
    let file = folder.path("relay.toml");
    fs::write(&file, toml).unwrap();
    run(folder, RELAY, &[&["--check-config", "--config", text(&file)], flags].concat())
}

#[test]
fn good_settings_are_called_good_and_nothing_is_bound_or_made() {
    let folder = Folder::new();
    // Its ports are another program's: that is the business of a start.
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let toml = format!(
        "listen = '{}'\npunch_ports = [0, 0]\nknock_port = 0\ndata_dir = 'data-of-the-relay'\n[https]\nlisten = 0",
        taken.local_addr().unwrap()
    );
    let ended = check(&folder, &toml, &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert!(String::from_utf8(ended.output).unwrap().starts_with("the settings are good"), "{}", ended.errors);
    for file in ["relay.key", "relay-https.pem"] {
        assert!(ended.errors.contains(&format!("{file} is made at the first start")), "{}", ended.errors);
    }
    assert!(!folder.path("data-of-the-relay").exists(), "no folder either");

    let ended = check(&folder, &toml, &["--json"]);
    let event: Value = serde_json::from_slice(&ended.output).unwrap();
    assert_eq!((&event["event"], &event["warnings"]), (&"config_checked".into(), &Value::Array(vec![])));
}

#[test]
fn settings_that_a_relay_runs_with_are_good_beside_it() {
    let folder = Folder::new();
    let (_relay, _) = relay(&folder);
    let ended = check(&folder, "", &["--listen", "127.0.0.1:0"]);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert!(!ended.errors.contains("is made"), "its key is there: {}", ended.errors);
}

#[test]
fn everything_that_is_wrong_is_said_at_once_with_its_place() {
    let folder = Folder::new();
    let toml = "listen = '127.0.0.1:4433'\npublic = 'not a host'\n[https]\nlisten = 0\n\
                certificate = 'gone.pem'\nkey = 'gone.pem'\n[admin]\nlisten = '0.0.0.0:9090'";
    let ended = check(&folder, toml, &[]);
    assert_eq!(ended.code, Some(2), "{}", ended.errors);
    assert!(ended.output.is_empty());
    for words in ["--public 'not a host'", "admin.allow_remote", "cannot read gone.pem: there is no such file"] {
        assert!(ended.errors.contains(words), "no '{words}' in: {}", ended.errors);
    }
    let ended = check(&folder, "knock_port = 4433", &[]);
    assert!(ended.code == Some(2) && ended.errors.contains("4433 is named twice"), "{}", ended.errors);
    let ended = check(&folder, "lisen = 1", &[]);
    assert!(ended.code == Some(2) && ended.errors.contains("line 1: lisen: unknown field"), "{}", ended.errors);
    let ended = run(&folder, RELAY, &["--check-config", "--config", "gone.toml"]);
    assert!(
        ended.code == Some(1) && ended.errors.contains("cannot read the settings in gone.toml"),
        "{}",
        ended.errors
    );
}

/// What the check says of a data folder must be what a start says.
#[test]
#[cfg(unix)]
fn a_data_folder_that_cannot_be_made_is_found_before_the_start() {
    let folder = Folder::new();
    let toml = "listen = '127.0.0.1:0'\npunch_ports = [0, 0]\nknock_port = 0\ndata_dir = 'no/such/place'";
    let (checked, started) = (check(&folder, toml, &[]), run(&folder, RELAY, &["--config", "relay.toml"]));
    assert_eq!((checked.code, started.code), (Some(1), Some(1)), "{}", checked.errors);
    for ended in [&checked, &started] {
        assert!(ended.errors.contains("there is no folder no/such; correct the path"), "{}", ended.errors);
    }
}

#[test]
#[cfg(unix)]
fn a_key_or_a_certificate_that_cannot_be_used_is_named_and_left_as_it_is() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let key = folder.path("relay.key");
    fs::write(&key, "this is no key").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let ended = check(&folder, "data_dir = '.'", &[]);
    assert!(ended.code == Some(1) && ended.errors.contains("relay.key is not a key file"), "{}", ended.errors);
    assert_eq!(fs::read_to_string(&key).unwrap(), "this is no key");

    let one = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.path("certificate.pem"), one.cert.pem()).unwrap();
    fs::write(folder.path("other.pem"), other.signing_key.serialize_pem()).unwrap();
    let flags = ["--https", "0", "--tls-cert", "certificate.pem", "--tls-key", "other.pem"];
    let ended = check(&folder, "", &flags);
    assert_eq!(ended.code, Some(1), "{}", ended.errors);
    for words in ["certificate.pem with the key in other.pem", "is it this certificate's key"] {
        assert!(ended.errors.contains(words), "no '{words}' in: {}", ended.errors);
    }
}

#[test]
fn a_list_that_lets_nobody_in_is_warned_of_by_the_check_and_by_the_start() {
    let folder = Folder::new();
    let warning = "the list is empty: the relay lets nobody in";
    let toml = "listen = '127.0.0.1:0'\n[access]\nmode = 'listed'\n";
    let ended = check(&folder, toml, &["--json"]);
    let event: Value = serde_json::from_slice(&ended.output).unwrap();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert!(event["warnings"][0].as_str().unwrap().contains(warning), "{event}");
    let file = folder.path("relay.toml");
    let mut relay = start(&folder, RELAY, &["--config", text(&file), "--json"]);
    relay.until("ready");
    relay.until_said(warning);
    drop(relay);
    let ended = check(&folder, &format!("{toml}peers = {{ '{NOBODY}' = 'all' }}"), &[]);
    assert!(ended.code == Some(0) && !ended.errors.contains(warning), "{}", ended.errors);
}
