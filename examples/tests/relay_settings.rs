//! A relay's settings: from a file, the environment and flags, and read again while it runs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::{fs, path::Path};

use common::{Folder, PEER, RELAY, run, start, text};

const NOBODY: &str = "aebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4qa";

/// A fresh certificate for localhost, and its key behind it.
fn make_certificate(path: &Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(path, made.cert.pem() + &made.signing_key.serialize_pem()).unwrap();
}

#[test]
fn a_file_says_what_flags_would_and_flags_say_it_better() {
    let folder = Folder::new();
    let file = folder.path("relay.toml");
    fs::write(&file, "listen = '127.0.0.1:0'\npublic = 'from.the.file'\ndata_dir = 'data'").unwrap();
    let flags = ["--config", text(&file), "--json", "--public", "from.a.flag"];
    let url = |flags: &[&str]| start(&folder, RELAY, flags).until("ready").pop().unwrap()["url"].to_string();
    assert!(url(&flags[..3]).contains("direc://from.the.file:"));
    assert!(url(&flags).contains("direc://from.a.flag:"));
    assert!(folder.path("data").join("relay.key").exists());
}

#[test]
fn a_file_that_is_wrong_ends_the_relay_at_the_start_and_says_where() {
    let folder = Folder::new();
    let file = folder.path("relay.toml");
    let ended = |toml: &str| {
        fs::write(&file, toml).unwrap();
        run(&folder, RELAY, &["--config", text(&file)])
    };
    let unknown = ended("listen = '127.0.0.1:0'\n\n[https]\nport = 443\n");
    assert_eq!(unknown.code, Some(2));
    let words = format!("{}, line 4: https.port: unknown field `port`, expected one of `listen`", text(&file));
    assert!(unknown.errors.contains(&words), "{}", unknown.errors);
    let alone = ended("[https]\nlisten = 443\nkey = 'k.pem'\n");
    assert!(alone.errors.contains("https.certificate"), "{}", alone.errors);
    let gone = run(&folder, RELAY, &["--config", "gone.toml"]);
    assert!(gone.errors.contains("`relay --sample-config` prints such a file"), "{}", gone.errors);
    assert!(
        gone.errors.contains("relay: cannot read the settings in gone.toml: there is no such file or folder"),
        "{}",
        gone.errors
    );
}

#[test]
fn the_sample_that_is_printed_is_a_file_that_works() {
    let folder = Folder::new();
    let sample = run(&folder, RELAY, &["--sample-config"]);
    let file = folder.path("relay.toml");
    fs::write(&file, &sample.output).unwrap();
    start(&folder, RELAY, &["--config", text(&file), "--json", "--listen", "127.0.0.1:0"]).until("ready");
}

#[test]
#[cfg(unix)]
fn hangup_brings_new_certificates_and_a_broken_one_leaves_what_there_was() {
    let folder = Folder::new();
    let (served, first, second) = (folder.path("tls.pem"), folder.path("first.pem"), folder.path("second.pem"));
    make_certificate(&first);
    make_certificate(&second);
    fs::copy(&first, &served).unwrap();
    let file = folder.path("relay.toml");
    let tables =
        format!("listen = '127.0.0.1:0'\npublic = 'localhost'\n[https]\nlisten = 0\ncertificate = {served:?}\n");
    fs::write(&file, format!("{tables}key = {served:?}\n")).unwrap();
    let mut relay = start(&folder, RELAY, &["--config", text(&file), "--json"]);
    let https = relay.until("ready").pop().unwrap()["https"].as_str().unwrap().to_owned();
    let answers = |ca: &Path| {
        let ended = run(&folder, PEER, &["--relay", &https, "--relay-ca", text(ca), "ping", NOBODY]);
        // Past HTTPS and QUIC, the relay says that it knows no such peer. What an earlier start kept must not help.
        let _ = fs::remove_dir_all(folder.path("config").join("direc").join("relays"));
        ended.errors.contains("no such peer")
    };
    assert!(answers(&first) && !answers(&second));

    fs::copy(&second, &served).unwrap();
    relay.signal("HUP");
    relay.until_said("reloaded");
    assert!(answers(&second) && !answers(&first));

    fs::write(&served, "-----BEGIN CERTIFICATE-----").unwrap();
    relay.signal("HUP");
    relay.until_said("HTTPS goes on with the certificate that it has");
    assert!(answers(&second));

    fs::write(&file, format!("{tables}key = {served:?}\nport = 1")).unwrap();
    relay.signal("HUP");
    relay.until_said("not reloaded, the settings stay as they are");
    relay.until_said("https.port: unknown field");
    assert!(relay.runs());

    fs::copy(&first, &served).unwrap();
    fs::write(&file, format!("{tables}key = {served:?}\nmax_connections = 1")).unwrap();
    relay.signal("HUP");
    relay.until_said("take effect at the next start: https.max_connections");
    assert!(answers(&first));
}

#[test]
fn a_log_for_programs_is_an_object_a_line() {
    let folder = Folder::new();
    let flags = ["--listen", "127.0.0.1:0", "--json", "--log-format", "json"];
    let mut relay = start(&folder, RELAY, &flags);
    relay.until("ready");
    relay.until_said("listening at");
    let taken = relay.errors();
    for line in taken.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(line["time"].is_string() && line["level"] == "info" && line["message"].is_string(), "{line}");
    }
}
