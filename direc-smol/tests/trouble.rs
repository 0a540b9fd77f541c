//! Hostile bytes, parties that vanish, and a node's own end.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::{SocketAddr, UdpSocket};

use common::*;
use direc_smol::{CloseReason, ConnectError, ConnectOptions, Consent, Peer, RelayError, RelayServer};
use futures_lite::future;

/// Datagrams of all kinds: empty, short, long, and with every first byte.
fn throw_garbage(targets: &[SocketAddr], rounds: u64) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut pattern = Pattern::new(77);
    for round in 0..rounds {
        for &target in targets {
            let mut bytes = pattern.chunk(1 + (round as usize * 7) % 180).to_vec();
            bytes[0] = round as u8;
            bytes.truncate((round as usize * 31) % (bytes.len() + 1));
            // A full queue may refuse some.
            let _ = socket.send_to(&bytes, target);
        }
    }
}

#[test]
fn garbage_on_every_port_is_counted_and_disturbs_nobody() {
    run(async {
        let Pair { relay, client, server, near, far } = pair().await;
        near.direct().await.unwrap();
        let mut targets = vec![relay.local_addr()];
        targets.extend_from_slice(relay.punch_addrs());
        for peer in [&client, &server] {
            targets.push(SocketAddr::new([127, 0, 0, 1].into(), peer.local_addr().port()));
        }
        let ((up, _keep), (_keep_too, there)) = stream(&near, &far).await;
        let thrower = std::thread::spawn(move || throw_garbage(&targets, 4000));
        let (sent, came) = future::zip(send_bulk(up, 5, 16), recv_bulk(there)).await;
        assert_eq!(came, (sent, 16 << 20));
        thrower.join().unwrap();
        for drops in [relay.stats().drops.total(), client.drops().total(), server.drops().total()] {
            assert!(drops > 1000, "{drops}");
        }
        let stranger = peer(&relay, Consent::Closed).await;
        let (near, far) = connect(&stranger, &server, ConnectOptions::default()).await;
        echo(&near, &far, "business as usual").await;
    });
}

#[test]
fn a_direct_connection_outlives_the_relay() {
    run(async {
        let Pair { relay, client, server, near, far } = pair().await;
        near.direct().await.unwrap();
        far.direct().await.unwrap();
        relay.close().await;
        let mut news = client.watch();
        drop(relay);
        echo(&near, &far, "without it").await;
        let ((up, _keep), (_keep_too, there)) = stream(&near, &far).await;
        let (sent, came) = future::zip(send_bulk(up, 6, 4), recv_bulk(there)).await;
        assert_eq!(came, (sent, 4 << 20));
        // And it is told of.
        let lost = future::or(async { client.registered().await.err() }, async {
            while news.next().await.is_some() {}
            None
        });
        assert!(lost.await.is_some());
        drop(server);
    });
}

#[test]
fn a_relay_that_comes_back_is_found_again() {
    run(async {
        let first = relay();
        let (address, url) = (first.local_addr(), first.url(None));
        let punch: Vec<u16> = first.punch_addrs().iter().map(SocketAddr::port).collect();
        let identity = direc_smol::ephemeral_key().unwrap();
        drop(url);
        first.close().await;
        let start = || {
            let mut options = direc_smol::RelayOptions::new(identity.clone(), address);
            options.punch_ports.clone_from(&punch);
            RelayServer::bind(options).unwrap()
        };
        let relay = start();
        let server = peer(&relay, Consent::Any).await;
        relay.close().await;
        drop(relay);
        while server.registered().await.is_ok() {
            pause(20).await;
        }
        let relay = start();
        while server.registered().await.is_err() {
            pause(20).await;
        }
        let client = peer(&relay, Consent::Closed).await;
        let (near, far) = connect(&client, &server, ConnectOptions::default()).await;
        echo(&near, &far, "again").await;
    });
}

#[test]
fn closing_a_peer_ends_everything_that_waits() {
    run(async {
        let Pair { client, server, near, far, .. } = pair().await;
        let waits = async {
            let accepts = future::zip(server.accept(), server.offered()).await;
            assert!(accepts.0.is_none() && accepts.1.is_none());
            assert_eq!(far.closed().await, CloseReason::Locally);
            assert_eq!(server.registered().await, Err(RelayError::ShutDown));
            assert!(matches!(server.connect(client.id()).await, Err(ConnectError::Relay(RelayError::ShutDown))));
        };
        let close = async {
            pause(20).await;
            server.close().await;
        };
        future::zip(waits, close).await;
        // The other side is told, not left to time out.
        assert!(matches!(near.closed().await, CloseReason::Application { .. }));
        server.close().await;
    });
}

#[test]
fn a_peer_without_handles_says_good_bye() {
    run(async {
        let relay = relay();
        let mut news = relay.watch();
        let lone = peer(&relay, Consent::Any).await;
        let id = lone.id();
        drop(lone);
        loop {
            if let (_, direc_smol::RelayNews::Left { peer, .. }) = news.next().await.unwrap() {
                break assert_eq!(peer, id);
            }
        }
    });
}

#[test]
fn a_connection_keeps_its_peer_alive() {
    run(async {
        let Pair { client, server, near, far, .. } = pair().await;
        drop((client, server));
        near.direct().await.unwrap();
        echo(&near, &far, "nobody else holds us").await;
    });
}

#[test]
fn nothing_is_left_of_a_peer_that_never_reached_its_relay() {
    run(async {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let url = direc_smol::RelayUrl::new("127.0.0.1", silent.local_addr().unwrap().port(), nobody()).unwrap();
        let peer = Peer::bind(direc_smol::PeerOptions::new(direc_smol::ephemeral_key().unwrap(), url)).await.unwrap();
        let address = peer.local_addr();
        peer.close().await;
        UdpSocket::bind(address).unwrap();
    });
}
