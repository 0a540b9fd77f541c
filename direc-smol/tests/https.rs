//! What answers at a relay's HTTPS port and is none, and what comes to a relay's and is no peer: each is told by its name,
//! and nobody else suffers.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use common::run;
use direc_smol::{
    HttpsError, HttpsKey, HttpsLimits, HttpsRelay, HttpsUrl, RelayOptions, RelayServer, RelayUrl, Trust, bootstrap,
    ephemeral_key,
};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, ServerName},
};

/// A certificate for this host, valid in these years, in a file to be believed; and what serves it.
struct Site {
    _folder: tempfile::TempDir,
    roots: PathBuf,
    tls: Arc<ServerConfig>,
}

fn site(host: &str, years: (i32, i32)) -> Site {
    let pair = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    let certificate = params.self_signed(&pair).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    fs::write(&roots, certificate.pem()).unwrap();
    let key = PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    Site { _folder: folder, roots, tls: Arc::new(tls) }
}

fn good_site() -> Site {
    site("localhost", (2020, 4000))
}

/// Answers one connection with these bytes, whatever is asked, and ends it.
fn answers(site: &Site, answer: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = site.tls.clone();
    thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let mut stream = StreamOwned::new(ServerConnection::new(tls).unwrap(), socket);
        let mut asked = [0; 1024];
        if stream.read(&mut asked).is_ok() {
            let _ = stream.write_all(&answer);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    port
}

fn ask(port: u16, trust: &Trust) -> Result<RelayUrl, HttpsError> {
    let url = HttpsUrl { host: "localhost".into(), port, pin: None };
    let relay = HttpsRelay::new(url, trust)?;
    run(async { bootstrap(&relay, None).await })
}

/// What a peer says to that answer.
fn said(answer: impl Into<Vec<u8>>) -> String {
    let site = good_site();
    let port = answers(&site, answer.into());
    ask(port, &Trust::File(site.roots.clone())).expect_err("it is no relay").to_string()
}

fn page(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

#[test]
fn certificates_that_are_not_believed_are_told_apart() {
    for (host, years, own_roots, words) in [
        ("localhost", (2001, 2002), true, "it expired on 2002-01-01 00:00 UTC; this machine's clock says 20"),
        ("localhost", (3000, 4000), true, "it is not valid before 3000-01-01 00:00 UTC; this machine's clock says 20"),
        ("elsewhere.example", (2020, 4000), true, "it is another host's: of elsewhere.example, not of localhost"),
        ("localhost", (2020, 4000), false, "nobody trusted here vouches for it"),
    ] {
        let (there, other) = (site(host, years), good_site());
        let roots = if own_roots { &there.roots } else { &other.roots };
        let error = ask(answers(&there, Vec::new()), &Trust::File(roots.clone())).unwrap_err();
        assert!(matches!(error, HttpsError::Tls(_)), "{error:?}");
        assert!(error.to_string().contains(words), "no '{words}' in: {error}");
    }
}

#[test]
fn a_pin_is_for_one_key_and_needs_neither_name_nor_date() {
    let there = site("elsewhere.example", (2001, 2002));
    let key = HttpsKey::self_signed("localhost").unwrap();
    let url = |port, pin| HttpsUrl { host: "127.0.0.1".into(), port, pin: Some(pin) };
    let relay = HttpsRelay::new(url(answers(&there, Vec::new()), key.pin()), &Trust::System).unwrap();
    let error = run(async { bootstrap(&relay, None).await }).unwrap_err();
    assert!(error.to_string().contains("its key is not the one that the URL's #sha256- names"), "{error}");
}

#[test]
fn a_redirect_is_not_followed_but_shown() {
    let words = said(page("302 Found", "Location: http://login.hotel.example/?x\r\n", "go there"));
    assert!(words.contains(r#"it sends us to "http://login.hotel.example/?x""#), "{words}");
    assert!(words.contains("want you to log in"), "{words}");
}

#[test]
fn a_captive_portals_page_is_no_description() {
    let words = said(page("200 OK", "Content-Type: text/html\r\n", "<html>Welcome! Accept our terms.</html>"));
    assert!(words.contains("does not describe a relay"), "{words}");
    assert!(words.contains("want you to log in"), "{words}");
}

#[test]
fn answers_that_break_off_or_have_no_end_are_told_by_what_they_are() {
    let long = "x".repeat(70_000);
    for (answer, words) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"direc\":1".to_owned(), "ended in the middle of an answer"),
        ("HTTP/1.1 200 OK\r\nContent-Le".to_owned(), "ended in the middle of an answer"),
        (page("200 OK", "", &long), "longer than 65536 bytes"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n".to_owned(), "longer than 65536 bytes"),
        (format!("HTTP/1.1 200 OK\r\nA: {long}\r\n\r\n"), "headers are longer than 8192 bytes"),
        (format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(60)), "more than 48"),
        ("SSH-2.0-OpenSSH_10.0\r\n\r\n".to_owned(), "no HTTP"),
        (page("404 Not Found", "", "no"), "no relay (HTTP status 404)"),
        (page("503 Service Unavailable", "", ""), "no relay (HTTP status 503)"),
        (String::new(), "ended in the middle of an answer"),
    ] {
        let said = said(answer);
        assert!(said.contains(words), "no '{words}' in: {said}");
    }
}

#[test]
fn what_speaks_no_tls_and_where_nobody_is_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        let _ = socket.read(&mut [0; 1024]);
    });
    let site = good_site();
    let trust = Trust::File(site.roots.clone());
    let error = ask(port, &trust).unwrap_err();
    assert!(error.to_string().contains("TLS failed: what answers there does not speak it"), "{error}");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = ask(free, &trust).unwrap_err();
    assert!(matches!(error, HttpsError::Connect { .. }), "{error:?}");
}

/// As long as a peer waits for a relay's word: both at once, as it is long.
#[test]
fn what_never_answers_and_what_never_ends_its_answer_are_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (site, port) = (good_site(), silent.local_addr().unwrap().port());
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let slow_port = slow.local_addr().unwrap().port();
    let tls = site.tls.clone();
    thread::spawn(move || {
        let (socket, _) = slow.accept().unwrap();
        let mut stream = StreamOwned::new(ServerConnection::new(tls).unwrap(), socket);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n");
        while stream.write_all(b" ").and_then(|()| stream.flush()).is_ok() {
            thread::sleep(Duration::from_millis(100));
        }
    });
    let trust = Trust::File(site.roots.clone());
    thread::scope(|scope| {
        for port in [port, slow_port] {
            let trust = &trust;
            scope.spawn(move || {
                let error = ask(port, trust).unwrap_err();
                assert_eq!(error.to_string(), "no answer by HTTPS within 10 s");
            });
        }
    });
}

// The other side: a relay and what comes to it.

fn relay() -> (RelayServer, SocketAddr, HttpsRelay) {
    relay_with(HttpsLimits::default())
}

fn relay_with(limits: HttpsLimits) -> (RelayServer, SocketAddr, HttpsRelay) {
    let key = HttpsKey::self_signed("localhost").unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut options = RelayOptions::new(ephemeral_key().unwrap(), any);
    let pin = Some(key.pin());
    (options.https, options.https_limits) = (Some((any, key)), limits);
    let relay = RelayServer::bind(options).unwrap();
    let address = relay.https_addr().unwrap();
    let url = HttpsUrl { host: "127.0.0.1".into(), port: address.port(), pin };
    let https = HttpsRelay::new(url, &Trust::System).unwrap();
    (relay, address, https)
}

/// Believes anybody: the tests speak to their own relay.
#[derive(Debug)]
struct Anybody;

mod anybody {
    use rustls::{
        DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        pki_types::{CertificateDer, ServerName, UnixTime},
    };

    impl ServerCertVerifier for super::Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ECDSA_NISTP256_SHA256]
        }
    }
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn open(address: SocketAddr) -> Stream {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.dangerous().set_certificate_verifier(Arc::new(Anybody));
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), TcpStream::connect(address).unwrap())
}

/// All that the relay answers to these bytes, until it closes.
fn answer(address: SocketAddr, request: &str) -> String {
    let mut stream = open(address);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_relay_answers_what_it_is_asked_for_and_refuses_the_rest() {
    let (relay, address, _) = relay();
    let host = "Host: localhost\r\nConnection: close\r\n";
    let found = answer(address, &format!("GET /.well-known/direc HTTP/1.1\r\n{host}\r\n"));
    assert!(found.starts_with("HTTP/1.1 200 OK\r\n"), "{found}");
    assert!(found.contains(&format!("\"key\":\"{}\"", relay.id())), "{found}");
    let (headers, _) = found.split_at(found.find("\r\n\r\n").unwrap() + 4);
    let head = answer(address, &format!("HEAD /.well-known/direc HTTP/1.1\r\n{host}\r\n"));
    assert_eq!(head, headers, "as GET, and nothing to see");
    let nowhere = answer(address, &format!("HEAD / HTTP/1.1\r\n{host}\r\n"));
    assert!(nowhere.starts_with("HTTP/1.1 404 Not Found\r\n") && nowhere.ends_with("\r\n\r\n"), "{nowhere}");
    let posted = answer(address, &format!("POST /.well-known/direc HTTP/1.1\r\n{host}\r\n"));
    assert!(posted.contains("\r\nAllow: GET, HEAD\r\n"), "{posted}");
    for (request, status) in [
        (format!("GET / HTTP/1.1\r\n{host}\r\n"), "404 Not Found"),
        (format!("POST /direc HTTP/1.1\r\n{host}\r\n"), "405 Method Not Allowed"),
        (format!("GET /direc HTTP/1.1\r\n{host}\r\n"), "426 Upgrade Required"),
        ("GET /direc HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade, close\r\n\r\n".to_owned(), "426 Upgrade"),
        ("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde".to_owned(), "400 Bad Request"),
        ("nonsense\r\n\r\n".to_owned(), "400 Bad Request"),
        (format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(9000)), "431 Request Header"),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(60)), "431 Request Header"),
    ] {
        let found = answer(address, &request);
        assert!(found.starts_with(&format!("HTTP/1.1 {status}")), "{status} expected: {found}");
    }
}

#[test]
fn several_requests_may_come_on_one_connection_but_not_without_end() {
    let (_relay, address, _) = relay();
    let found = answer(address, &"GET /.well-known/direc HTTP/1.1\r\n\r\n".repeat(20));
    assert_eq!(found.matches("HTTP/1.1 200 OK").count(), 8);
}

#[test]
fn a_tunnel_in_which_a_length_makes_no_sense_is_closed() {
    let (relay, address, _) = relay();
    for frame in [&b"\0\0"[..], b"\xff\xff", b"\x05\xdd"] {
        let mut stream = open(address);
        stream.write_all(b"GET /direc HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: direc-tunnel\r\n\r\n").unwrap();
        // The frame may come with the request or behind the answer.
        stream.write_all(b"\0\x03abc").unwrap();
        stream.write_all(frame).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.starts_with(b"HTTP/1.1 101 Switching Protocols\r\n"), "{:?}", answer.escape_ascii());
        assert!(answer.ends_with(b"\r\n\r\n"), "nothing more came, and it was closed");
    }
    assert_eq!(relay.stats().drops.total(), 3, "the datagram before it was no good either");
}

#[test]
fn connections_that_say_nothing_take_their_share_and_no_more() {
    let (relay, address, https) = relay();
    // They finish neither TLS nor a request.
    let silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    let half: Vec<Stream> = (0..20)
        .map(|_| {
            let mut stream = open(address);
            stream.write_all(b"GET /.well-known/direc HTTP/1.1\r\nA: ").unwrap();
            stream
        })
        .collect();
    assert_eq!(run(async { bootstrap(&https, None).await }).unwrap(), relay.url(None), "others are served");
    let more: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    let closed = |mut stream: &TcpStream| {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        matches!(stream.read(&mut [0; 1]), Ok(0)) || stream.take_error().unwrap().is_some()
    };
    assert!(closed(more.last().unwrap()), "all places of this address are taken");
    drop((silent, half, more));
}

#[test]
fn who_never_finishes_tls_or_sends_a_request_byte_by_byte_is_closed_and_counted() {
    let limits = HttpsLimits { request: Duration::from_millis(300), ..HttpsLimits::default() };
    let (relay, address, https) = relay_with(limits);
    // Nothing; the first bytes of a handshake and no more; and a request that gets on, but never done.
    let nothing = TcpStream::connect(address).unwrap();
    let mut begun = TcpStream::connect(address).unwrap();
    begun.write_all(b"\x16\x03\x01\x02\x00").unwrap();
    let mut slow = open(address);
    slow.write_all(b"GET /.well-known/direc HTTP/1.1\r\nA: ").unwrap();
    while slow.write_all(b"x").and_then(|()| slow.flush()).is_ok() {
        thread::sleep(Duration::from_millis(20));
    }
    for mut socket in [nothing, begun] {
        assert!(!matches!(socket.read(&mut [0; 64]), Ok(1..)), "not a word to who says none");
    }
    let stats = relay.https_stats().unwrap();
    assert_eq!((stats.taken, stats.failed, stats.crowded_out), (3, 3, 0), "{stats:?}");
    assert_eq!(run(async { bootstrap(&https, None).await }).unwrap(), relay.url(None), "others are served");
}
