//! A certificate that will not do is told on both sides: the relay's operator hears of it at the start, the peer's person
//! with the host, the dates and the clock that they were held against.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::{fs, path::Path, time::SystemTime};

use common::{Folder, PEER, RELAY, run, start, text};

const NOBODY: &str = "aebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4qa";

/// A certificate for this host in a file, its key behind it: valid from so many days after today until so many.
fn certificate(path: &Path, host: &str, days: (i64, i64)) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
    let day = |days: i64| time::OffsetDateTime::from(SystemTime::now()) + time::Duration::days(days);
    (params.not_before, params.not_after) = (day(days.0), day(days.1));
    fs::write(path, params.self_signed(&key).unwrap().pem() + &key.serialize_pem()).unwrap();
}

/// A relay with that certificate, and a peer that believes who made it: what each of them says.
fn said(folder: &Folder, certificate: &Path) -> (String, String) {
    let flags = ["--listen", "127.0.0.1:0", "--https", "0", "--public", "localhost", "--json"];
    let files = ["--tls-cert", text(certificate), "--tls-key", text(certificate)];
    let mut relay = start(folder, RELAY, &[&flags[..], &files].concat());
    let url = relay.until("ready").pop().unwrap()["https"].as_str().unwrap().to_owned();
    let ended = run(folder, PEER, &["--relay", &url, "--relay-ca", text(certificate), "ping", NOBODY, "--count", "1"]);
    assert_eq!(ended.code, Some(1), "{}", ended.errors);
    relay.interrupt();
    (relay.end().errors, ended.errors)
}

#[test]
fn a_certificate_that_is_out_of_date_or_another_hosts_is_told_to_the_operator_and_to_the_person_at_the_peer() {
    let folder = Folder::new();
    let file = folder.path("tls.pem");
    // Either the certificate is wrong by a year, or one of the two clocks.
    for (host, days, words) in [
        ("localhost", (-730, -365), "it expired on "),
        ("localhost", (365, 730), "it is not valid before "),
        ("elsewhere.example", (-1, 1), "it is another host's: of elsewhere.example, not of localhost"),
    ] {
        certificate(&file, host, days);
        let (relay, peer) = said(&folder, &file);
        let warned = format!("peers will not believe the certificate in {}: {words}", text(&file));
        assert!(relay.contains(&warned), "no '{warned}' in: {relay}");
        assert!(peer.contains("relay localhost:"), "{peer}");
        let told = format!("the relay's certificate is not believed: {words}");
        assert!(peer.contains(&told), "no '{told}' in: {peer}");
        for said in [&relay, &peer].iter().filter(|_| host == "localhost") {
            assert!(said.contains(" UTC; this machine's clock says ") && said.contains(", is that right?"), "{said}");
        }
    }
}

#[test]
fn a_good_certificate_is_not_spoken_of_and_a_pinned_one_has_no_date_to_be_wrong() {
    let folder = Folder::new();
    let file = folder.path("tls.pem");
    certificate(&file, "localhost", (-1, 1));
    let (relay, peer) = said(&folder, &file);
    assert!(!relay.contains("certificate"), "{relay}");
    assert!(peer.contains("no such peer"), "{peer}");

    let mut relay = start(&folder, RELAY, &["--listen", "127.0.0.1:0", "--https", "0", "--json"]);
    let url = relay.until("ready").pop().unwrap()["https"].as_str().unwrap().to_owned();
    let ended = run(&folder, PEER, &["--relay", &url, "ping", NOBODY]);
    assert!(ended.errors.contains("no such peer"), "{}", ended.errors);
    relay.interrupt();
    let errors = relay.end().errors;
    assert!(!errors.contains("certificate"), "{errors}");
}
