//! What a relay makes of authorities that refuse, or answer as none would: each is named with what it said, and asked again
//! later. A real one, which certifies, is in `tests/acme.py`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use common::run;
use data_encoding::BASE64URL_NOPAD;
use direc_smol::{AcmeOptions, HttpsKey, RelayNews, RelayOptions, RelayServer, Trust, ephemeral_key};
use rcgen::{CertificateParams, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};
use serde_json::{Value, json};

/// Status, headers and body.
type Answer = (u16, String, String);

/// An authority that says to each request, a path and what is sent there, what the script says.
struct Authority {
    folder: tempfile::TempDir,
    base: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Authority {
    fn new(script: impl Fn(&str, &str, &Value) -> Answer + Send + 'static) -> Self {
        let pair = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&pair).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("roots.pem"), certificate.pem()).unwrap();
        let key = PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let (tls, listener) = (Arc::new(tls), TcpListener::bind("127.0.0.1:0").unwrap());
        let base = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (here, log) = (base.clone(), asked.clone());
        thread::spawn(move || {
            for socket in listener.incoming() {
                let mut stream = StreamOwned::new(ServerConnection::new(tls.clone()).unwrap(), socket.unwrap());
                let Some((path, payload)) = request(&mut stream) else { continue };
                log.lock().unwrap().push(path.clone());
                let (status, headers, body) = script(&here, &path, &payload);
                let length = body.len();
                let answer = format!("HTTP/1.1 {status} so\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
                let _ = stream.write_all(answer.as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        Self { folder, base, asked }
    }

    /// Why it does not certify a relay, and when that asks again.
    fn refusal(&self) -> (String, Duration) {
        let path = |name: &str| self.folder.path().join(name);
        let key = HttpsKey::load_or_create(&path("https.pem"), "relay.example").unwrap();
        let mut acme = AcmeOptions::new(vec!["relay.example".into()], path("https.pem"), path("acme"));
        acme.directory = format!("{}/directory", self.base);
        acme.trust = Trust::File(path("roots.pem"));
        let mut options = RelayOptions::new(ephemeral_key().unwrap(), "127.0.0.1:0".parse().unwrap());
        options.https = Some(("127.0.0.1:0".parse().unwrap(), key.clone()));
        options.acme = Some(acme);
        let relay = RelayServer::bind(options).unwrap();
        let mut watch = relay.watch();
        run(async {
            loop {
                if let (_, RelayNews::NotCertified { authority, why, again }) = watch.next().await.unwrap() {
                    assert_eq!(authority, format!("{}/directory", self.base));
                    assert_eq!(relay.https_key().unwrap().pin(), key.pin());
                    return (why, again);
                }
            }
        })
    }

    fn times_asked(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == path).count()
    }
}

/// The path of a request, and what is signed in it.
fn request(stream: &mut impl Read) -> Option<(String, Value)> {
    let (mut text, mut buf) = (String::new(), [0; 4096]);
    let whole = |text: &str| {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        (body.len() >= length.map_or(0, |length| length.parse().unwrap())).then(|| (head.to_owned(), body.to_owned()))
    };
    let (head, body) = loop {
        if let Some(whole) = whole(&text) {
            break whole;
        }
        match stream.read(&mut buf) {
            Ok(count) if count > 0 => text += &String::from_utf8_lossy(&buf[..count]),
            _ => return None,
        }
    };
    let signed: Value = serde_json::from_str(&body).unwrap_or_default();
    let payload = BASE64URL_NOPAD.decode(signed["payload"].as_str().unwrap_or_default().as_bytes()).unwrap();
    Some((head.split(' ').nth(1)?.to_owned(), serde_json::from_slice(&payload).unwrap_or_default()))
}

fn says(status: u16, headers: &str, body: Value) -> Answer {
    (status, format!("Replay-Nonce: n\r\n{headers}"), body.to_string())
}

fn problem(status: u16, headers: &str, kind: &str, detail: &str) -> Answer {
    says(status, headers, json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail}))
}

/// Up to the order as RFC 8555 has it.
fn usual(base: &str, path: &str) -> Answer {
    match path {
        "/directory" => {
            let [nonce, account, order] = ["nonce", "account", "order"].map(|what| format!("{base}/{what}"));
            says(200, "", json!({"newNonce": nonce, "newAccount": account, "newOrder": order}))
        }
        "/nonce" => says(200, "", Value::Null),
        "/account" => says(201, &format!("Location: {base}/account/1\r\n"), json!({"status": "valid"})),
        "/order" | "/order/1" => {
            let [authorization, finalize] = ["authorization", "finalize"].map(|what| format!("{base}/{what}"));
            let order = json!({"status": "pending", "authorizations": [authorization], "finalize": finalize});
            says(201, &format!("Location: {base}/order/1\r\n"), order)
        }
        _ => problem(404, "", "malformed", "no such thing"),
    }
}

/// An authorization of this host that may be had in these ways.
fn authorization(status: &str, host: &str, kinds: &[&str]) -> Answer {
    let challenges: Vec<_> = kinds.iter().map(|kind| json!({"type": kind, "url": "https://localhost/"})).collect();
    let host = json!({"type": "dns", "value": host});
    says(200, "", json!({"status": status, "identifier": host, "challenges": challenges}))
}

#[test]
fn a_number_that_is_rejected_is_followed_by_others_but_not_for_ever() {
    let authority = Authority::new(|base, path, _| match path {
        "/account" => problem(400, "", "badNonce", "not that one"),
        _ => usual(base, path),
    });
    let (why, again) = authority.refusal();
    assert_eq!(why, "it refuses the account, with HTTP status 400: not that one (badNonce)");
    assert_eq!((authority.times_asked("/account"), again), (5, Duration::from_secs(10)));
}

#[test]
fn an_authority_that_has_been_asked_too_often_is_left_in_peace_for_as_long_as_it_says() {
    let authority = Authority::new(|base, path, payload| match path {
        "/order" => {
            assert_eq!(payload["identifiers"], json!([{"type": "dns", "value": "relay.example"}]));
            problem(429, "Retry-After: 7200\r\n", "rateLimited", "too many orders\u{1b}[2J")
        }
        _ => usual(base, path),
    });
    let (why, again) = authority.refusal();
    assert_eq!(why, r"it refuses the order, with HTTP status 429: too many orders\x1b[2J (rateLimited)");
    assert_eq!((authority.times_asked("/order"), again), (1, Duration::from_secs(7200)));
}

#[test]
fn what_a_relay_cannot_do_is_named() {
    let elsewhere = Authority::new(|base, path, _| match path {
        "/directory" => {
            let url = format!("{base}/x");
            let meta = json!({"externalAccountRequired": true});
            says(200, "", json!({"newNonce": url, "newAccount": url, "newOrder": url, "meta": meta}))
        }
        _ => usual(base, path),
    });
    assert!(elsewhere.refusal().0.contains("external account binding"));
    let other_ways = Authority::new(|base, path, _| match path {
        "/authorization" => authorization("pending", "relay.example", &["http-01", "dns-01"]),
        _ => usual(base, path),
    });
    let why = other_ways.refusal().0;
    assert_eq!(
        why,
        "it does not offer tls-alpn-01 for relay.example, which is all that a relay can do, but http-01, dns-01"
    );
}

#[test]
fn what_is_no_authority_and_what_speaks_of_other_hosts_is_not_followed() {
    for (what, words) in [
        ("a page", "what answers there is no ACME authority: its directory: expected value"),
        ("http", "what answers there is no ACME authority: \"http://localhost/x\" is no https:// URL"),
        ("other host", "its authorization: it is for a host that was not asked for"),
        ("no number", "what answers there is no ACME authority: its nonce: there is none"),
    ] {
        let authority = Authority::new(move |base, path, _| match (what, path) {
            ("a page", "/directory") => (200, String::new(), "<html>".into()),
            ("http", "/directory") => {
                let url = "http://localhost/x";
                says(200, "", json!({"newNonce": url, "newAccount": url, "newOrder": url}))
            }
            ("other host", "/authorization") => authorization("pending", "other.example", &["tls-alpn-01"]),
            ("no number", "/nonce") => (200, String::new(), String::new()),
            _ => usual(base, path),
        });
        let (why, again) = authority.refusal();
        assert!(why.contains(words), "{what}: no '{words}' in: {why}");
        assert_eq!(again, Duration::from_secs(10), "{what}");
    }
}

/// A certificate for this host, and a key that is not the relay's.
fn other_key(host: &str) -> String {
    CertificateParams::new(vec![host.to_owned()]).unwrap().self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

#[test]
fn a_certificate_that_does_not_fit_is_neither_shown_nor_kept() {
    for (what, certificate, words) in [
        ("another key", other_key("relay.example"), "the certificate that came cannot be used: "),
        ("no certificate", "hello".to_owned(), "the certificate that came cannot be used: no certificate"),
    ] {
        let authority = Authority::new(move |base, path, _| match path {
            "/authorization" => authorization("valid", "relay.example", &[]),
            "/order/1" => {
                let url = format!("{base}/certificate");
                says(200, "", json!({"status": "valid", "authorizations": [], "finalize": url, "certificate": url}))
            }
            "/certificate" => (200, "Replay-Nonce: n\r\n".into(), certificate.clone()),
            _ => usual(base, path),
        });
        let (why, _) = authority.refusal();
        assert!(why.contains(words), "{what}: no '{words}' in: {why}");
        let kept: Vec<_> =
            fs::read_dir(authority.folder.path().join("acme")).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert!(kept.len() == 1 && kept[0].to_string_lossy().starts_with("account-"), "{what}: {kept:?}");
    }
}
