//! Several relays, a relay that goes down in good order, and how connections stand.

#![allow(clippy::unwrap_used)]

mod common;

use std::{net::UdpSocket, time::Duration};

use common::*;
use direc_smol::{
    CloseReason, ConnectOptions, Consent, Path, PathReason, Peer, PeerNews, PeerOptions, RelayError, RelayNews,
    RelayUrl, Role,
};
use futures_lite::future;

/// Nothing answers at this relay, not even ICMP, as long as the socket is there.
fn silent() -> (UdpSocket, RelayUrl) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = RelayUrl::new("127.0.0.1", socket.local_addr().unwrap().port(), nobody()).unwrap();
    (socket, url)
}

#[test]
fn one_relay_that_answers_is_enough() {
    run(async {
        let (relay, (_silent, second)) = (relay(), silent());
        let settings = options(&relay, Consent::Any).with_relay(second);
        let server = Peer::bind(settings).await.unwrap();
        server.registered().await.unwrap();
        server.warm().await.unwrap();
        let client = peer(&relay, Consent::Closed).await;
        let (near, far) = connect(&client, &server, ConnectOptions::default()).await;
        echo(&near, &far, "by the first").await;
    });
}

#[test]
fn a_relay_whose_name_does_not_resolve_is_left_out() {
    run(async {
        let relay = relay();
        let mut settings = options(&relay, Consent::Closed);
        settings.relays.insert(0, RelayUrl::new("nowhere.invalid", 4433, nobody()).unwrap());
        Peer::bind(settings).await.unwrap().registered().await.unwrap();
    });
}

#[test]
fn too_many_relays_and_none_are_refused() {
    run(async {
        let relay = relay();
        let bind = async |count| {
            let mut options = PeerOptions::new(direc_smol::ephemeral_key().unwrap(), relay.url(None));
            options.relays = vec![relay.url(None); count];
            Peer::bind(options).await
        };
        assert!(bind(0).await.is_err());
        assert!(bind(direc_smol::MAX_RELAYS + 1).await.is_err());
        bind(direc_smol::MAX_RELAYS).await.unwrap();
    });
}

#[test]
fn a_relay_drained_at_once_says_good_bye() {
    run(async {
        let relay = relay();
        let mut news = relay.watch();
        let server = peer(&relay, Consent::Any).await;
        relay.drain(Duration::ZERO).await;
        assert!(matches!(server.registered().await, Err(RelayError::Closed { .. })));
        let drained = async {
            while let Some((_, told)) = news.next().await {
                if told == (RelayNews::Draining { within: Duration::ZERO }) {
                    return true;
                }
            }
            false
        };
        assert!(drained.await);
        relay.drain(Duration::from_secs(3600)).await;
        relay.close().await;
    });
}

#[test]
fn closing_a_relay_cuts_its_drain_short() {
    run(async {
        let relay = relay();
        let server = peer(&relay, Consent::Any).await;
        let close = async {
            pause(20).await;
            relay.close().await;
        };
        future::zip(relay.drain(Duration::MAX), close).await;
        let lost = async {
            while server.registered().await.is_ok() {
                pause(10).await;
            }
        };
        lost.await;
    });
}

#[test]
fn standing_connections_are_shown_and_not_kept_open() {
    run(async {
        let Pair { client, server, near, far, .. } = pair().await;
        near.direct().await.unwrap();
        far.direct().await.unwrap();
        let shown = client.connections();
        assert_eq!(shown.len(), 1);
        assert_eq!((shown[0].peer, shown[0].role), (server.id(), Role::P2));
        assert_eq!((shown[0].path, shown[0].chosen), (near.path(), near.chosen()));
        assert!(matches!(shown[0].path, Path::Direct(_)) && shown[0].chosen != PathReason::RelayLost);
        for paths in [&shown[0].paths, &near.paths()] {
            let current: Vec<_> = paths.iter().filter(|status| status.current).map(|status| status.path).collect();
            assert_eq!(current, [near.path()]);
        }
        drop(near);
        assert_eq!(far.closed().await, CloseReason::Application { code: 0, reason: String::new() });
        assert_eq!((client.connections(), server.connections()), (vec![], vec![]));
        assert_eq!(far.paths(), []);
    });
}

#[test]
fn a_relay_that_is_not_there_does_not_keep_a_peer_from_the_next() {
    run(async {
        let (relay, (_silent, first)) = (relay(), silent());
        let mut settings = options(&relay, Consent::Any);
        settings.relays.insert(0, first);
        let server = Peer::bind(settings).await.unwrap();
        server.registered().await.unwrap();
        let client = peer(&relay, Consent::Closed).await;
        let (near, far) = connect(&client, &server, ConnectOptions::default()).await;
        echo(&near, &far, "by the second").await;
    });
}

#[test]
fn relays_of_which_none_is_there_are_named_unreachable() {
    run(async {
        let (relay, (_one, first), (_two, second)) = (relay(), silent(), silent());
        let mut settings = options(&relay, Consent::Any);
        settings.relays = vec![first, second];
        let peer = Peer::bind(settings).await.unwrap();
        for _ in 0..2 {
            assert!(matches!(peer.registered().await, Err(RelayError::Unreachable { .. })));
        }
    });
}

#[test]
fn a_peer_goes_on_at_its_other_relay() {
    run(async {
        let (first, second) = (relay(), relay());
        let bind = async |consent| Peer::bind(options(&first, consent).with_relay(second.url(None))).await.unwrap();
        let (client, server) = (bind(Consent::Closed).await, bind(Consent::Any).await);
        // The client cannot be found, so it is not counted among the registered.
        while [&first, &second].iter().any(|relay| relay.stats().connections < 2 || relay.stats().registered < 1) {
            pause(10).await;
        }
        first.close().await;
        let (near, far) = connect(&client, &server, ConnectOptions::default()).await;
        echo(&near, &far, "by the other").await;
        server.registered().await.unwrap();
    });
}

#[test]
fn peers_of_a_relay_that_drains_are_told() {
    run(async {
        let relay = relay();
        let server = peer(&relay, Consent::Any).await;
        let (mut news, within) = (server.watch(), Duration::from_secs(1));
        let told = async {
            loop {
                if let (_, PeerNews::RelayDraining { relay, within }) = news.next().await.unwrap() {
                    return (relay, within);
                }
            }
        };
        assert_eq!(future::zip(told, relay.drain(within)).await.0, (relay.local_addr(), within));
    });
}

#[test]
fn a_relay_that_everybody_has_left_is_drained() {
    run(async {
        let relay = relay();
        let server = peer(&relay, Consent::Any).await;
        let leave = async {
            pause(20).await;
            server.close().await;
        };
        future::zip(relay.drain(Duration::from_secs(3600)), leave).await;
        assert_eq!(relay.stats().connections, 0);
    });
}
