//! A relay that comes back with another key, or elsewhere, while its peers run: by its HTTPS URL they learn who it is now,
//! and by its fingerprint alone they refuse it.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::{fs, net::SocketAddr, path::Path};

use common::{connect, echo, pause, run, short};
use direc_smol::{
    ConnectOptions, Connection, Consent, HttpsKey, HttpsRelay, HttpsUrl, Identity, Peer, PeerNews, PeerOptions,
    RelayError, RelayOptions, RelayServer, Trust, Watch, bootstrap, ephemeral_key,
};

const ANYWHERE: &str = "127.0.0.1:0";

/// A relay, and what its next process takes over.
struct Place {
    relay: RelayServer,
    tls: HttpsKey,
}

fn bind(key: Identity, udp: SocketAddr, https: SocketAddr, tls: &HttpsKey) -> Option<RelayServer> {
    let mut options = RelayOptions::new(key, udp);
    options.https = Some((https, tls.clone()));
    RelayServer::bind(options).ok()
}

impl Place {
    fn open() -> Self {
        let (anywhere, tls) = (ANYWHERE.parse().unwrap(), HttpsKey::self_signed("localhost").unwrap());
        Self { relay: bind(ephemeral_key().unwrap(), anywhere, anywhere, &tls).unwrap(), tls }
    }

    /// Its HTTPS port, as the URL names it.
    fn https(&self) -> HttpsRelay {
        let port = self.relay.https_addr().unwrap().port();
        let url = HttpsUrl { host: "127.0.0.1".into(), port, pin: Some(self.tls.pin()) };
        HttpsRelay::new(url, &Trust::System).unwrap()
    }

    /// Another process with this key takes its place at the HTTPS port; and at its UDP port, if it has not `moved`.
    async fn restart(&mut self, key: Identity, moved: bool) {
        let (udp, https) = (self.relay.local_addr(), self.relay.https_addr().unwrap());
        self.relay.close().await;
        let udp = if moved { ANYWHERE.parse().unwrap() } else { udp };
        // The ports are free once the last connection on them has been forgotten.
        self.relay = loop {
            pause(50).await;
            if let Some(relay) = bind(key.clone(), udp, https, &self.tls) {
                break relay;
            }
        };
    }
}

/// A peer that knows the relay by its HTTPS URL, and keeps what it says in that file.
async fn peer(https: &HttpsRelay, kept: &Path, consent: Consent) -> Peer {
    let url = bootstrap(https, Some(kept)).await.unwrap();
    let mut options = PeerOptions::new(ephemeral_key().unwrap(), url);
    (options.consent, options.timing, options.https) = (consent, short(), vec![Some(https.clone())]);
    let peer = Peer::bind(options).await.unwrap();
    peer.registered().await.unwrap();
    peer
}

async fn until(news: &mut Watch, such: impl Fn(&PeerNews) -> bool) {
    while !such(&news.next().await.unwrap().1) {}
}

/// Two peers with a direct connection, who know the relay by its HTTPS URL.
struct Story {
    place: Place,
    peers: [Peer; 2],
    news: [Watch; 2],
    ends: (Connection, Connection),
    folder: tempfile::TempDir,
}

impl Story {
    async fn begin() -> Self {
        let (place, folder) = (Place::open(), tempfile::tempdir().unwrap());
        // Each program has its own.
        let client = peer(&place.https(), &folder.path().join("client"), Consent::Closed).await;
        let server = peer(&place.https(), &folder.path().join("server"), Consent::Any).await;
        let ends = connect(&client, &server, ConnectOptions::default()).await;
        ends.0.direct().await.unwrap();
        ends.1.direct().await.unwrap();
        let news = [client.watch(), server.watch()];
        Self { place, peers: [client, server], news, ends, folder }
    }

    /// Both peers have found the relay again; the connection that they had has not noticed, they get another one, and the
    /// next start finds the relay too.
    async fn goes_on(mut self) {
        let (url, at) = (self.place.relay.url(None), self.place.relay.local_addr());
        for (peer, news) in self.peers.iter().zip(&mut self.news) {
            until(
                news,
                |news| matches!(news, PeerNews::RelayRenewed { relay, key, .. } if (*relay, *key) == (at, url.key)),
            )
            .await;
            until(news, |news| *news == PeerNews::Registered { relay: at }).await;
            assert_eq!(peer.relay_distances()[0].0, at);
        }
        let (near, far) = &self.ends;
        echo(near, far, "as if nothing were").await;
        assert!(near.path().is_direct() && far.path().is_direct());
        let (near, far) = connect(&self.peers[0], &self.peers[1], ConnectOptions::default()).await;
        echo(&near, &far, "by the relay's new key").await;
        for file in ["client", "server"] {
            let kept = fs::read_to_string(self.folder.path().join(file)).unwrap();
            assert!(kept.ends_with(&format!("\n{url}\n")), "{kept}");
        }
    }
}

#[test]
fn a_running_peer_goes_on_with_the_key_that_its_relay_has_now() {
    run(async {
        let mut story = Story::begin().await;
        story.place.restart(ephemeral_key().unwrap(), false).await;
        story.goes_on().await;
    });
}

#[test]
fn a_running_peer_finds_its_relay_at_another_port() {
    run(async {
        let mut story = Story::begin().await;
        story.place.restart(ephemeral_key().unwrap(), true).await;
        story.goes_on().await;
    });
}

#[test]
fn whom_nobody_vouches_for_is_not_believed_and_the_key_that_was_is_as_soon_as_it_is_back() {
    run(async {
        let (mut place, folder) = (Place::open(), tempfile::tempdir().unwrap());
        let (right, key) = (place.tls.clone(), ephemeral_key().unwrap());
        place.restart(key.clone(), false).await;
        let (https, kept) = (place.https(), folder.path().join("kept"));
        let peer = peer(&https, &kept, Consent::Any).await;
        let before = fs::read_to_string(&kept).unwrap();
        // Somebody else at the same ports.
        place.tls = HttpsKey::self_signed("localhost").unwrap();
        place.restart(ephemeral_key().unwrap(), false).await;
        let error = loop {
            match peer.registered().await {
                Err(error @ RelayError::KeyChanged { .. }) => break error,
                _ => pause(20).await,
            }
        };
        assert!(!error.is_final(), "{error}");
        // Long enough for more than one question.
        pause(4000).await;
        assert!(peer.relay_distances().is_empty());
        assert_eq!(fs::read_to_string(&kept).unwrap(), before);
        place.tls = right;
        place.restart(key, false).await;
        while peer.relay_distances().is_empty() {
            pause(50).await;
        }
    });
}

#[test]
fn a_peer_that_knows_its_relay_by_fingerprint_refuses_another_key_even_with_https_at_hand() {
    run(async {
        for https in [false, true] {
            let mut place = Place::open();
            let mut options = PeerOptions::new(ephemeral_key().unwrap(), place.relay.url(None));
            options.timing = short();
            options.https = vec![https.then(|| place.https())];
            let expected = place.relay.id();
            let peer = Peer::bind(options).await.unwrap();
            peer.registered().await.unwrap();
            let mut news = peer.watch();
            place.restart(ephemeral_key().unwrap(), false).await;
            let refused = RelayError::WrongKey { expected };
            let told = |news: &PeerNews| matches!(news, PeerNews::RelayLost { error, .. } if *error == refused);
            until(&mut news, told).await;
            assert_eq!(peer.registered().await, Err(refused.clone()));
            assert!(refused.is_final());
            let words = refused.to_string();
            assert!(words.contains(&expected.to_string()) && words.contains("the URL is out of date"), "{words}");
        }
    });
}
