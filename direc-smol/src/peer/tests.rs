use std::{sync::Mutex, time::Duration};

use futures_lite::future;

use super::*;
use crate::{PeerNews, RelayOptions, RelayServer, ephemeral_key, network::Painted};

/// A peer on a network that the test paints.
async fn peer(relay: &RelayServer, consent: Consent, painted: &Painted) -> Peer {
    let mut options = PeerOptions::new(ephemeral_key().unwrap(), relay.url(None));
    options.consent = consent;
    options.local = Some("127.0.0.1:0".parse().unwrap());
    let peer = Peer::bind_under(options, |_| Network::painted(painted)).await.unwrap();
    peer.registered().await.unwrap();
    peer
}

fn painted(addresses: &[&str]) -> Painted {
    let painted: Painted = Arc::new(Mutex::default());
    paint(&painted, addresses);
    painted
}

fn paint(painted: &Painted, addresses: &[&str]) {
    *painted.lock().unwrap() = addresses.iter().map(|text| text.parse().unwrap()).collect();
}

fn relay() -> RelayServer {
    RelayServer::bind(RelayOptions::new(ephemeral_key().unwrap(), "127.0.0.1:0".parse().unwrap())).unwrap()
}

/// What comes of the story, or a panic if it hangs.
fn run<T>(story: impl Future<Output = T>) -> T {
    let patience = async {
        async_io::Timer::after(Duration::from_secs(30)).await;
        panic!("the story hangs")
    };
    future::block_on(future::or(story, patience))
}

/// The next change of the network that the peer tells of: the socket's address, and how it is reached.
async fn change(news: &mut Watch) -> (SocketAddr, Vec<SocketAddr>) {
    loop {
        if let (_, PeerNews::NetworkChanged { bound, local }) = news.next().await.unwrap() {
            return (bound, local);
        }
    }
}

#[test]
fn a_changed_network_is_told_exactly_once() {
    run(async {
        let (relay, painted) = (relay(), painted(&["127.0.0.1", "192.0.2.1"]));
        let peer = peer(&relay, Consent::Closed, &painted).await;
        let (mut news, bound) = (peer.watch(), peer.local_addr());
        for addresses in [&["127.0.0.1"][..], &["127.0.0.1", "192.0.2.9"]] {
            paint(&painted, addresses);
            // The socket serves loopback alone.
            assert_eq!(change(&mut news).await, (bound, vec![]));
        }
        // Looked at many times meanwhile.
        async_io::Timer::after(Duration::from_millis(200)).await;
        peer.close().await;
        while let Some((_, told)) = news.next().await {
            assert!(!matches!(told, PeerNews::NetworkChanged { .. }), "{told:?}");
        }
    });
}

#[test]
fn a_connection_lives_on_when_its_socket_is_replaced() {
    run(async {
        let (relay, painted) = (relay(), painted(&["127.0.0.1"]));
        let other = self::painted(&["127.0.0.1"]);
        let (client, server) =
            (peer(&relay, Consent::Closed, &painted).await, peer(&relay, Consent::Any, &other).await);
        let (near, far) = future::zip(client.connect(server.id()), server.accept()).await;
        let (near, far) = (near.unwrap(), far.unwrap());
        near.direct().await.unwrap();
        far.direct().await.unwrap();
        let (mut send, _keep) = near.open_bi().await.unwrap();
        send.write_chunk("before".into()).await.unwrap();
        let (_keep_too, mut recv) = far.accept_bi().await.unwrap();
        assert_eq!(recv.read_chunk(99).await.unwrap().unwrap(), "before");

        let (mut news, old) = (client.watch(), client.local_addr());
        paint(&painted, &["192.0.2.1"]);
        let (bound, local) = change(&mut news).await;
        assert!(bound.ip().is_unspecified(), "its own address has gone");
        assert_eq!(bound.port(), old.port());
        assert_eq!(local, [SocketAddr::new([192, 0, 2, 1].into(), old.port())]);
        assert_eq!(client.local_addr(), bound);

        send.write_chunk("after".into()).await.unwrap();
        send.finish().unwrap();
        assert_eq!(recv.read_to_end(99).await.unwrap(), b"after");
        client.registered().await.unwrap();
    });
}

#[test]
fn a_socket_whose_port_is_taken_meanwhile_gets_another() {
    run(async {
        let (relay, painted) = (relay(), painted(&["127.0.0.1"]));
        let client = peer(&relay, Consent::Closed, &painted).await;
        let (mut news, old) = (client.watch(), client.local_addr());
        // On another address the port is free, and then it is not on all.
        let Ok(_taken) = std::net::UdpSocket::bind(SocketAddr::new([127, 0, 0, 2].into(), old.port())) else { return };
        paint(&painted, &["192.0.2.1"]);
        let (bound, _) = change(&mut news).await;
        assert_ne!(bound.port(), old.port());
        assert_eq!(client.local_addr(), bound);
    });
}
