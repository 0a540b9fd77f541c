//! An HTTPS URL is all that a peer is told, and what is wrong with one is said.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::{fs, net::TcpListener};

use common::{Ended, Folder, PEER, Program, RELAY, run, serve, start, text};

const NOBODY: &str = "aebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4qa";

/// A relay that answers HTTPS, with these flags besides, and its two URLs.
fn relay(folder: &Folder, flags: &[&str]) -> (Program, String, String) {
    let flags = [&["--listen", "127.0.0.1:0", "--https", "0", "--json"], flags].concat();
    let mut relay = start(folder, RELAY, &flags);
    let ready = relay.until("ready").pop().unwrap();
    let word = |name: &str| ready[name].as_str().unwrap().to_owned();
    let (url, https) = (word("url"), word("https"));
    (relay, url, https)
}

fn ping(folder: &Folder, flags: &[&str], id: &str) -> Ended {
    run(folder, PEER, &[flags, &["--json", "ping", id, "--count", "1"]].concat())
}

#[test]
fn a_pinned_https_url_is_all_that_two_peers_need() {
    let folder = Folder::new();
    let (_relay, _, https) = relay(&folder, &[]);
    assert!(https.starts_with("https://127.0.0.1:") && https.contains("#sha256-"), "{https}");
    let (_server, id) = serve(&folder, &https, &["--allow", "any"]);
    let ended = ping(&folder, &["--relay", &https], &id);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    // The same without its scheme, and with the slash that browsers put there.
    let bare = https.strip_prefix("https://").unwrap().replace('#', "/#");
    let ended = ping(&folder, &["--relay", &bare], &id);
    assert_eq!(ended.code, Some(0), "{bare}: {}", ended.errors);
}

#[test]
fn a_start_without_https_goes_by_what_was_kept_and_says_so() {
    let folder = Folder::new();
    let data = folder.path("relay");
    let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let flags = ["--listen", "127.0.0.1:0", "--data-dir", text(&data), "--json"];
    let mut relay = start(&folder, RELAY, &[&flags[..], &["--https", &at]].concat());
    let ready = relay.until("ready").pop().unwrap();
    let (url, https) = (ready["url"].as_str().unwrap().to_owned(), ready["https"].as_str().unwrap().to_owned());
    let ended = ping(&folder, &["--relay", &https], NOBODY);
    assert!(ended.errors.contains("no such peer"), "{}", ended.errors);
    drop(relay);

    // The next process has the same UDP port, and answers no HTTPS.
    let port = url.rsplit_once('#').unwrap().0.rsplit_once(':').unwrap().1;
    let listen = format!("127.0.0.1:{port}");
    let flags = ["--listen", &listen, "--data-dir", text(&data), "--punch-port", "0", "--punch-port", "0", "--json"];
    let mut relay = start(&folder, RELAY, &flags);
    relay.until("ready");
    let ended = ping(&folder, &["--relay", &https], NOBODY);
    assert!(ended.errors.contains("no such peer"), "{}", ended.errors);

    // Without what was kept there is nothing to go by.
    fs::remove_dir_all(folder.path("config").join("direc").join("relays")).unwrap();
    let ended = ping(&folder, &["--relay", &https], NOBODY);
    assert!(ended.errors.contains("no HTTPS connection to 127.0.0.1:"), "{}", ended.errors);
}

#[test]
fn certificates_may_come_from_files_and_be_believed_by_one() {
    let folder = Folder::new();
    let made = folder.path("relay").join("relay-https.pem");
    // A relay makes the certificate; the next one is given it.
    let (first, _, _) = relay(&folder, &["--data-dir", text(&folder.path("relay")), "--public", "localhost"]);
    drop(first);
    let (_relay, _, https) =
        relay(&folder, &["--tls-cert", text(&made), "--tls-key", text(&made), "--public", "localhost"]);
    assert!(https.starts_with("https://localhost:") && !https.contains('#'), "{https}");
    let ended = ping(&folder, &["--relay", &https, "--relay-ca", text(&made)], NOBODY);
    assert!(ended.errors.contains("no such peer"), "{}", ended.errors);
    let ended = ping(&folder, &["--relay", &https], NOBODY);
    assert_eq!(ended.code, Some(1));
    let words = ["nobody trusted here vouches for it", "this machine trusts no certificate authority"];
    assert!(words.iter().any(|words| ended.errors.contains(words)), "{}", ended.errors);
}

#[test]
fn one_relay_that_does_not_answer_is_left_out_and_named() {
    let folder = Folder::new();
    let (_relay, url, https) = relay(&folder, &[]);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let pin = https.split_once('#').unwrap().1;
    let gone = format!("https://127.0.0.1:{free}#{pin}");
    let ended = ping(&folder, &["--relay", &gone, "--relay", &url], NOBODY);
    assert!(ended.errors.contains(&format!("relay 127.0.0.1:{free}: no HTTPS connection")), "{}", ended.errors);
    assert!(ended.errors.contains("going on without that relay"), "{}", ended.errors);
    assert!(ended.errors.contains("no such peer"), "{}", ended.errors);
}

#[test]
fn what_is_wrong_with_the_flags_is_named() {
    let folder = Folder::new();
    let file = folder.path("no.pem");
    fs::write(&file, "nothing").unwrap();
    let pinned = "https://h#sha256-AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let cases: &[(&str, &[&str], i32, &str)] = &[
        (PEER, &["--relay", "https://h/x", "serve"], 2, "--relay 'https://h/x': not an HTTPS URL of a relay"),
        (PEER, &["--relay", "https://h#abc", "serve"], 2, "after the # there must be sha256-"),
        (PEER, &["--relay", "https://h", "--relay", "https://h:443", "serve"], 2, "h:443 is named twice"),
        (PEER, &["--relay", pinned, "--relay-ca", "f", "serve"], 2, "--relay-ca is for https:// URLs without a pin"),
        (PEER, &["--relay", "https://h", "--relay-ca", text(&file), "serve"], 1, "no certificate in PEM"),
        (RELAY, &["--https", "here"], 2, "--https 'here': https.listen: a TCP port"),
        (RELAY, &["--https", "443", "--tls-cert", "f"], 2, "--tls-cert needs --tls-key"),
        (RELAY, &["--https", "443", "--tls-key", "f"], 2, "--tls-key needs --tls-cert"),
        (RELAY, &["--tls-cert", "f", "--tls-key", "f"], 2, "belong to --https"),
        (
            RELAY,
            &["--listen", "127.0.0.1:0", "--https", "0", "--tls-cert", text(&file), "--tls-key", text(&file)],
            1,
            "no certificate in PEM",
        ),
    ];
    for (program, flags, code, words) in cases {
        let ended = run(&folder, program, flags);
        assert_eq!(ended.code, Some(*code), "{flags:?}: {}", ended.errors);
        assert!(ended.errors.contains(words), "no '{words}' in {}", ended.errors);
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ended = run(&folder, RELAY, &["--listen", "127.0.0.1:0", "--https", &port]);
    assert!(ended.errors.contains("cannot listen for HTTPS on TCP port"), "{}", ended.errors);
    assert!(ended.errors.contains("another program uses it already"), "{}", ended.errors);
}

#[test]
fn the_urls_stand_on_lines_of_their_own() {
    let folder = Folder::new();
    let mut relay = start(&folder, RELAY, &["--listen", "127.0.0.1:0", "--https", "0"]);
    let mut line = || String::from_utf8(relay.line().unwrap()).unwrap();
    assert!(line().starts_with("direc://127.0.0.1:"));
    assert!(line().starts_with("https://127.0.0.1:"));
}
