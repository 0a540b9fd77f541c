//! Peers that UDP does not reach, on real sockets: through the relay's HTTPS port, and by UDP again.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod common;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use common::{connect, pause, recv_bulk, run, send_bulk, short};
use direc_smol::{
    ConnectOptions, Consent, HttpsKey, HttpsRelay, HttpsUrl, Peer, PeerNews, PeerOptions, RelayOptions, RelayServer,
    RelayUrl, Trust, Watch, bootstrap, ephemeral_key,
};
use futures_lite::future;

/// A relay that answers HTTPS, with a certificate that only its pin makes believable.
fn relay() -> (RelayServer, HttpsRelay) {
    let key = HttpsKey::self_signed("localhost").unwrap();
    let pin = Some(key.pin());
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut options = RelayOptions::new(ephemeral_key().unwrap(), any);
    options.https = Some((any, key));
    let relay = RelayServer::bind(options).unwrap();
    let url = HttpsUrl { host: "127.0.0.1".into(), port: relay.https_addr().unwrap().port(), pin };
    (relay, HttpsRelay::new(url, &Trust::System).unwrap())
}

/// The only way by UDP from a peer to a relay's QUIC port, open or not.
struct Gate {
    address: SocketAddr,
    open: Arc<AtomicBool>,
}

impl Gate {
    fn new(relay: SocketAddr, open: bool) -> Self {
        let bind = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (outer, inner) = (bind(), bind());
        inner.connect(relay).unwrap();
        let gate = Self { address: outer.local_addr().unwrap(), open: Arc::new(open.into()) };
        // The peer is whoever spoke last: there is one.
        let (open, back) = (gate.open.clone(), (outer.try_clone().unwrap(), inner.try_clone().unwrap()));
        let peer = Arc::new(std::sync::Mutex::new(None));
        let known = peer.clone();
        thread::spawn(move || {
            let mut buf = [0; 65536];
            while let Ok((count, from)) = outer.recv_from(&mut buf) {
                *known.lock().unwrap() = Some(from);
                if open.load(Ordering::Relaxed) {
                    let _ = inner.send(&buf[..count]);
                }
            }
        });
        let open = gate.open.clone();
        thread::spawn(move || {
            let mut buf = [0; 65536];
            while let Ok(count) = back.1.recv(&mut buf) {
                let peer = *peer.lock().unwrap();
                if let Some(peer) = peer.filter(|_| open.load(Ordering::Relaxed)) {
                    let _ = back.0.send_to(&buf[..count], peer);
                }
            }
        });
        gate
    }

    fn set(&self, open: bool) {
        self.open.store(open, Ordering::Relaxed);
    }
}

/// A peer behind a gate, with a tunnel if it needs one.
async fn gated(relay: &RelayServer, https: &HttpsRelay, gate: &Gate, consent: Consent) -> (Peer, Watch) {
    let url = RelayUrl::new("127.0.0.1", gate.address.port(), relay.id()).unwrap();
    let mut options = PeerOptions::new(ephemeral_key().unwrap(), url);
    (options.consent, options.timing) = (consent, short());
    options.https = vec![Some(https.clone())];
    let peer = Peer::bind(options).await.unwrap();
    let news = peer.watch();
    peer.registered().await.unwrap();
    (peer, news)
}

/// The next change of way: whether it is a tunnel.
async fn next_way(news: &mut Watch) -> bool {
    loop {
        if let PeerNews::Way { tunnel, .. } = news.next().await.expect("the peer goes on").1 {
            return tunnel;
        }
    }
}

#[test]
fn a_peer_that_udp_does_not_reach_is_registered_and_found_through_https() {
    run(async {
        let (relay, https) = relay();
        let gate = Gate::new(relay.local_addr(), false);
        let (server, mut news) = gated(&relay, &https, &gate, Consent::Any).await;
        assert!(next_way(&mut news).await);
        let client = common::peer(&relay, Consent::Closed).await;
        let (near, far) = connect(&client, &server, ConnectOptions::default()).await;
        common::echo(&near, &far, "from UDP to TCP and back").await;
    });
}

#[test]
fn bulk_passes_between_a_peer_by_udp_and_one_in_a_tunnel_and_between_two_in_tunnels() {
    run(async {
        let (relay, https) = relay();
        let options = ConnectOptions::with_policy(direc_smol::PathPolicy::RelayOnly);
        for gates in [[true, false], [false, false]] {
            let gates = gates.map(|open| Gate::new(relay.local_addr(), open));
            let (client, _) = gated(&relay, &https, &gates[0], Consent::Closed).await;
            let (server, _) = gated(&relay, &https, &gates[1], Consent::Any).await;
            let (near, far) = connect(&client, &server, options).await;
            let sending = async { send_bulk(near.open_uni().await.unwrap(), 7, 24).await };
            let receiving = async { recv_bulk(far.accept_uni().await.unwrap()).await };
            let (sent, received) = future::zip(sending, receiving).await;
            assert_eq!(received, (sent, 24 << 20));
        }
    });
}

#[test]
fn a_connection_lives_while_its_peer_goes_into_a_tunnel_and_out_again() {
    run(async {
        let (relay, https) = relay();
        let gate = Gate::new(relay.local_addr(), true);
        let (server, mut news) = gated(&relay, &https, &gate, Consent::Any).await;
        let client = common::peer(&relay, Consent::Closed).await;
        let options = ConnectOptions::with_policy(direc_smol::PathPolicy::RelayOnly);
        let (near, far) = connect(&client, &server, options).await;
        common::echo(&near, &far, "by UDP").await;
        gate.set(false);
        // What is said now asks for an answer, which does not come.
        let (in_tunnel, ()) = future::zip(next_way(&mut news), common::echo(&near, &far, "through a tunnel")).await;
        assert!(in_tunnel);
        gate.set(true);
        assert!(!next_way(&mut news).await);
        common::echo(&near, &far, "by UDP again").await;
    });
}

#[test]
fn a_tunnel_that_cannot_be_had_is_told_of_and_the_relay_counts_as_unreachable() {
    run(async {
        let (relay, https) = relay();
        let wrong = HttpsUrl { pin: Some(HttpsKey::self_signed("localhost").unwrap().pin()), ..https.url().clone() };
        let https = HttpsRelay::new(wrong, &Trust::System).unwrap();
        let gate = Gate::new(relay.local_addr(), false);
        let url = RelayUrl::new("127.0.0.1", gate.address.port(), relay.id()).unwrap();
        let mut options = PeerOptions::new(ephemeral_key().unwrap(), url);
        options.timing = short();
        options.https = vec![Some(https)];
        let peer = Peer::bind(options).await.unwrap();
        let mut news = peer.watch();
        let why = loop {
            if let PeerNews::TunnelFailed { why, .. } = news.next().await.unwrap().1 {
                break why;
            }
        };
        assert!(why.contains("not the one that the URL's #sha256- names"), "{why}");
        peer.registered().await.unwrap_err();
    });
}

/// What a peer says of a tunnel in which this comes.
fn said_of_a_tunnel_with(frame: &'static [u8]) -> String {
    let pair = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&pair).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, certificate.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
    let tls = tls.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let tls = rustls::ServerConnection::new(Arc::new(tls)).unwrap();
        let mut stream = rustls::StreamOwned::new(tls, socket);
        assert!(stream.read(&mut [0; 1024]).is_ok_and(|count| count > 0));
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: direc-tunnel\r\n\r\n";
        let _ = stream.write_all(answer).and_then(|()| stream.write_all(frame));
        let _ = stream.read(&mut [0; 1024]);
    });
    let https = HttpsUrl { host: "localhost".into(), port, pin: None };
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = RelayUrl::new("127.0.0.1", silent.local_addr().unwrap().port(), common::nobody()).unwrap();
    let mut options = PeerOptions::new(ephemeral_key().unwrap(), url);
    options.https = vec![Some(HttpsRelay::new(https, &Trust::File(roots)).unwrap())];
    run(async {
        let peer = Peer::bind(options).await.unwrap();
        let mut news = peer.watch();
        loop {
            if let PeerNews::TunnelFailed { why, .. } = news.next().await.unwrap().1 {
                return why;
            }
        }
    })
}

#[test]
fn a_tunnel_in_which_a_length_makes_no_sense_is_told_of_by_that_length() {
    assert_eq!(said_of_a_tunnel_with(b"\0\0"), "a datagram of length 0 in the tunnel");
    let words = "a datagram of 65535 bytes in the tunnel, at most 1500 are allowed";
    assert_eq!(said_of_a_tunnel_with(b"\xff\xff"), words);
}

#[test]
fn an_https_url_is_all_that_a_peer_needs_and_what_it_led_to_is_kept() {
    run(async {
        let (relay, https) = relay();
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("state").join("relay");
        let url = bootstrap(&https, Some(&kept)).await.unwrap();
        assert_eq!(url, relay.url(None));
        relay.close().await;
        pause(50).await;
        assert_eq!(bootstrap(&https, Some(&kept)).await.unwrap(), url, "HTTPS is away");
        bootstrap(&https, None).await.unwrap_err();
        // Another URL's is not taken.
        let other = HttpsUrl { pin: None, ..https.url().clone() };
        let roots = folder.path().join("roots.pem");
        HttpsKey::load_or_create(&roots, "localhost").unwrap();
        let other = HttpsRelay::new(other, &Trust::File(roots)).unwrap();
        bootstrap(&other, Some(&kept)).await.unwrap_err();
        std::fs::write(&kept, "nonsense").unwrap();
        bootstrap(&https, Some(&kept)).await.unwrap_err();
    });
}

#[test]
fn a_relay_whose_key_is_another_now_is_asked_for_the_new_one() {
    run(async {
        let key = HttpsKey::self_signed("localhost").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("relay");
        let start = |port: u16| {
            let mut options = RelayOptions::new(ephemeral_key().unwrap(), "127.0.0.1:0".parse().unwrap());
            options.https = Some((([127, 0, 0, 1], port).into(), key.clone()));
            RelayServer::bind(options).unwrap()
        };
        let first = start(0);
        let port = first.https_addr().unwrap().port();
        let url = HttpsUrl { host: "127.0.0.1".into(), port, pin: Some(key.pin()) };
        let https = HttpsRelay::new(url, &Trust::System).unwrap();
        assert_eq!(bootstrap(&https, Some(&kept)).await.unwrap(), first.url(None));
        first.close().await;
        let second = loop {
            // The port is free once the last connection on it has been forgotten.
            pause(50).await;
            if let Ok(second) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| start(port))) {
                break second;
            }
        };
        assert_eq!(bootstrap(&https, Some(&kept)).await.unwrap(), second.url(None));
    });
}

/// A proxy for one connection after the other, which answers so before it connects, or does not. Gives what it was asked.
fn proxy(answer: &'static str) -> (SocketAddr, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (said, heard) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let (mut near, mut head) = (socket.unwrap(), Vec::new());
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                near.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let target = head.split(' ').nth(1).unwrap().to_owned();
            said.send(head).unwrap();
            near.write_all(answer.as_bytes()).unwrap();
            let Ok(mut far) = TcpStream::connect(target) else { continue };
            let (mut back, mut there) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut near, &mut far));
            thread::spawn(move || std::io::copy(&mut there, &mut back));
        }
    });
    (address, heard)
}

#[test]
fn a_proxy_on_the_way_carries_the_bootstrap_and_the_tunnel() {
    run(async {
        let (relay, https) = relay();
        let (address, heard) = proxy("HTTP/1.1 200 Connection established\r\nVia: proxy\r\n\r\n");
        let https = https.with_proxy(Some(format!("http://me:secret@{address}").parse().unwrap()));
        assert_eq!(bootstrap(&https, None).await.unwrap(), relay.url(None));
        let head = heard.recv().unwrap();
        let port = relay.https_addr().unwrap().port();
        assert!(head.starts_with(&format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\n")), "{head}");
        assert!(head.contains("Proxy-Authorization: Basic bWU6c2VjcmV0\r\n"), "{head}");
        let gate = Gate::new(relay.local_addr(), false);
        let (_server, mut news) = gated(&relay, &https, &gate, Consent::Any).await;
        assert!(next_way(&mut news).await);
    });
}

#[test]
fn a_proxy_that_refuses_is_told_of_by_what_it_wants() {
    run(async {
        let (_relay, https) = relay();
        for (answer, words) in [
            ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "asks for a name and a password"),
            (
                "HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nForbidden",
                "refuses the connection (HTTP status 403)",
            ),
        ] {
            let (address, _heard) = proxy(answer);
            let https = https.clone().with_proxy(Some(address.to_string().parse().unwrap()));
            let error = bootstrap(&https, None).await.unwrap_err().to_string();
            assert!(error.contains(&format!("the proxy {address} ")) && error.contains(words), "{error}");
        }
    });
}

#[test]
fn closing_a_peer_in_a_tunnel_takes_no_longer_than_it_may() {
    run(async {
        let (relay, https) = relay();
        let gate = Gate::new(relay.local_addr(), false);
        let (peer, _) = gated(&relay, &https, &gate, Consent::Any).await;
        assert_eq!(relay.stats().registered, 1);
        peer.close().await;
        for _ in 0..100 {
            if relay.stats().registered == 0 {
                return;
            }
            async_io::Timer::after(Duration::from_millis(50)).await;
        }
        panic!("the relay has not heard the good-bye");
    });
}
