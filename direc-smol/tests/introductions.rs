//! How two peers come together, or are told why not.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use bytes::Bytes;
use common::*;
use direc_smol::{
    BindError, CloseReason, ConnectError, ConnectOptions, Consent, DirectFailure, Path, PathNews, PathPolicy, Peer,
    PeerNews, PeerOptions, RelayError, RelayNews, RelayOptions, RelayServer, RelayUrl, Role, Step, ephemeral_key,
};
use futures_lite::future;

#[test]
fn two_peers_meet_and_speak_straight_to_each_other() {
    run(async {
        let Pair { client, server, near, far, .. } = pair().await;
        assert_eq!((near.role(), far.role()), (Role::P2, Role::P4));
        let port = server.local_addr().port();
        match near.direct().await {
            Ok(Path::Direct(address)) => assert_eq!(address.port(), port),
            other => panic!("not direct: {other:?}"),
        }
        far.direct().await.unwrap();
        echo(&near, &far, "from P2").await;
        echo(&far, &near, "from P4").await;
        assert_eq!(near.stats().path_since, near.stats().path_since);
        assert!(near.stats().sent_packets > 0);
        assert_ne!(client.id(), server.id());
    });
}

#[test]
fn the_first_bytes_do_not_wait_for_the_direct_path() {
    run(async {
        let Pair { near, far, .. } = pair().await;
        echo(&near, &far, "now").await;
        near.direct().await.unwrap();
        echo(&near, &far, "and still").await;
    });
}

#[test]
fn a_connection_can_be_kept_on_the_relay() {
    run(async {
        let Pair { relay, near, far, .. } = pair_with(ConnectOptions::with_policy(PathPolicy::RelayOnly)).await;
        assert_eq!(near.direct().await, Err(DirectFailure::RelayOnly));
        echo(&near, &far, "roundabout").await;
        assert_eq!(near.path(), Path::Relay(relay.local_addr()));
        assert!(relay.stats().relayed_datagrams > 0);
    });
}

#[test]
fn path_news_come_in_order_from_the_first() {
    run(async {
        let Pair { near, far, .. } = pair().await;
        near.direct().await.unwrap();
        let mut watch = near.watch();
        // On loopback the direct path may win before the handshake ends; then it is the first.
        let mut relayed = 0;
        loop {
            match watch.next().await.unwrap() {
                PathNews::Moved { path: Path::Direct(_), rtt, .. } => break assert!(rtt.is_some()),
                PathNews::Moved { .. } => relayed += 1,
                PathNews::DirectHeard(_) => {}
                news => panic!("{news:?}"),
            }
        }
        assert!(relayed <= 1, "{relayed}");
        far.close(0, b"");
        near.closed().await;
        while watch.next().await.is_some() {}
    });
}

#[test]
fn all_thirteen_steps_are_taken_and_told() {
    run(async {
        let relay = relay();
        let mut p3 = relay.watch();
        let bind = |consent| {
            let options = options(&relay, consent);
            async { Peer::bind(options).await.unwrap() }
        };
        let (client, server) = future::zip(bind(Consent::Closed), bind(Consent::Any)).await;
        let (mut p2, mut p4) = (client.watch(), server.watch());
        server.registered().await.unwrap();
        let (near, far) = connect(&client, &server, ConnectOptions::default()).await;
        near.direct().await.unwrap();
        far.direct().await.unwrap();
        drop((near, far));
        future::zip(client.close(), server.close()).await;
        relay.close().await;

        let mut steps = Vec::new();
        while let Some((_, news)) = p3.next().await {
            if let RelayNews::Step(step) = news {
                steps.push(step.step);
            }
        }
        for watch in [&mut p2, &mut p4] {
            while let Some((_, news)) = watch.next().await {
                if let PeerNews::Step(step) = news {
                    steps.push(step.step);
                }
            }
        }
        let missing: Vec<_> = Step::ALL.into_iter().filter(|step| !steps.contains(step)).collect();
        assert_eq!(missing, []);
    });
}

#[test]
fn a_peer_that_is_asked_accepts() {
    run(async {
        let relay = relay();
        let (client, server) = (peer(&relay, Consent::Closed).await, peer(&relay, Consent::Ask).await);
        let asked = async {
            let offer = server.offered().await.unwrap();
            assert_eq!(offer.peer(), client.id());
            offer.accept();
            server.accept().await.unwrap()
        };
        let (near, far) = future::zip(client.connect(server.id()), asked).await;
        let near = near.unwrap();
        near.direct().await.unwrap();
        echo(&near, &far, "welcome").await;
    });
}

#[test]
fn a_peer_that_is_asked_refuses() {
    run(async {
        let relay = relay();
        let mut news = relay.watch();
        let (client, server) = (peer(&relay, Consent::Closed).await, peer(&relay, Consent::Ask).await);
        for by_word in [true, false] {
            let asked = async {
                let offer = server.offered().await.unwrap();
                if by_word { offer.refuse() } else { drop(offer) }
            };
            let (near, ()) = future::zip(client.connect(server.id()), asked).await;
            assert_eq!(near.unwrap_err(), ConnectError::Refused);
        }
        loop {
            if let (_, RelayNews::Refused { client: who, server: whom, .. }) = news.next().await.unwrap() {
                break assert_eq!((who, whom), (client.id(), server.id()));
            }
        }
    });
}

#[test]
fn a_peer_takes_whom_it_lists_and_nobody_else() {
    run(async {
        let relay = relay();
        let (friend, stranger) = (peer(&relay, Consent::Closed).await, peer(&relay, Consent::Closed).await);
        let server = peer(&relay, Consent::Listed { ids: vec![friend.id()], ask_others: false }).await;
        assert_eq!(stranger.connect(server.id()).await.unwrap_err(), ConnectError::Refused);
        let (near, far) = connect(&friend, &server, ConnectOptions::default()).await;
        echo(&near, &far, "friend").await;
    });
}

#[test]
fn nobody_answers_for_a_peer_that_is_not_there() {
    run(async {
        let relay = relay();
        let client = peer(&relay, Consent::Closed).await;
        assert_eq!(client.connect(nobody()).await.unwrap_err(), ConnectError::NoSuchPeer);
        assert!(client.connect(client.id()).await.is_err());
    });
}

#[test]
fn an_offer_that_nobody_answers_ends_in_time() {
    run(async {
        let relay = relay();
        let mut settings = options(&relay, Consent::Closed);
        settings.timing.answer_deadline = Duration::from_millis(300);
        let client = Peer::bind(settings).await.unwrap();
        let server = peer(&relay, Consent::Ask).await;
        let error = client.connect(server.id()).await.unwrap_err();
        assert!(matches!(error, ConnectError::NoAnswer { .. }), "{error}");
    });
}

#[test]
fn a_relay_that_is_not_there_is_named_unreachable() {
    run(async {
        // Bound and silent: nothing answers here, not even ICMP.
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let url = RelayUrl::new("127.0.0.1", silent.local_addr().unwrap().port(), nobody()).unwrap();
        let mut options = PeerOptions::new(ephemeral_key().unwrap(), url);
        options.timing.relay_deadline = Duration::from_millis(300);
        let peer = Peer::bind(options).await.unwrap();
        let (registered, connected) = future::zip(peer.registered(), peer.connect(nobody())).await;
        assert!(matches!(registered, Err(RelayError::Unreachable { .. })), "{registered:?}");
        assert!(matches!(connected, Err(ConnectError::Relay(RelayError::Unreachable { .. }))), "{connected:?}");
    });
}

#[test]
fn a_relay_with_another_key_is_not_trusted() {
    run(async {
        let relay = relay();
        let mut url = relay.url(None);
        url.key = nobody();
        let mut options = PeerOptions::new(ephemeral_key().unwrap(), url);
        options.timing = short();
        let peer = Peer::bind(options).await.unwrap();
        for _ in 0..2 {
            assert!(matches!(peer.registered().await, Err(RelayError::WrongKey { .. })));
        }
        assert!(matches!(peer.connect(nobody()).await, Err(ConnectError::Relay(RelayError::WrongKey { .. }))));
    });
}

#[test]
fn the_same_key_registered_twice_displaces_the_first() {
    run(async {
        let relay = relay();
        let settings = options(&relay, Consent::Any);
        let first = Peer::bind(settings.clone()).await.unwrap();
        first.registered().await.unwrap();
        let second = Peer::bind(settings).await.unwrap();
        second.registered().await.unwrap();
        let mut lost = first.registered().await;
        while lost.is_ok() {
            pause(10).await;
            lost = first.registered().await;
        }
        assert_eq!(lost, Err(RelayError::Replaced));
        let client = peer(&relay, Consent::Closed).await;
        let (near, far) = connect(&client, &second, ConnectOptions::default()).await;
        echo(&near, &far, "the second").await;
    });
}

#[test]
fn a_port_in_use_is_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let text = RelayServer::bind(RelayOptions::new(ephemeral_key().unwrap(), address)).unwrap_err().to_string();
    assert!(text.contains(&address.port().to_string()) && text.contains("127.0.0.1"), "{text}");
    assert!(text.contains("uses it already"), "{text}");

    let mut punch = RelayOptions::new(ephemeral_key().unwrap(), "127.0.0.1:0".parse().unwrap());
    punch.punch_ports = vec![0, address.port()];
    assert!(matches!(RelayServer::bind(punch), Err(BindError::Socket { address: at, .. }) if at == address));

    run(async {
        let relay = relay();
        let mut settings = options(&relay, Consent::Closed);
        settings.local = Some(address);
        assert!(matches!(Peer::bind(settings).await, Err(BindError::Socket { address: at, .. }) if at == address));
    });
}

#[test]
fn a_host_without_address_is_named() {
    run(async {
        let url = RelayUrl::new("no-such-host.invalid", 1, nobody()).unwrap();
        let error = Peer::bind(PeerOptions::new(ephemeral_key().unwrap(), url)).await.unwrap_err();
        assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
    });
}

#[test]
fn a_name_resolves() {
    run(async {
        let relay = relay();
        let mut settings = options(&relay, Consent::Closed);
        settings.relays = vec![relay.url(Some("localhost"))];
        settings.local = Some("127.0.0.1:0".parse().unwrap());
        Peer::bind(settings).await.unwrap().registered().await.unwrap();
    });
}

#[test]
fn ipv6_works_alike() {
    run(async {
        let listen = "[::1]:0".parse().unwrap();
        let Ok(relay) = RelayServer::bind(RelayOptions::new(ephemeral_key().unwrap(), listen)) else {
            // No IPv6 here.
            return;
        };
        let (client, server) = (peer(&relay, Consent::Closed).await, peer(&relay, Consent::Any).await);
        let (near, far) = connect(&client, &server, ConnectOptions::default()).await;
        assert!(near.direct().await.unwrap().address().is_ipv6());
        echo(&near, &far, "six").await;
    });
}

#[test]
fn a_relay_on_all_addresses_serves_both_families() {
    run(async {
        for listen in ["0.0.0.0:0", "[::]:0"] {
            let listen: SocketAddr = listen.parse().unwrap();
            let Ok(relay) = RelayServer::bind(RelayOptions::new(ephemeral_key().unwrap(), listen)) else {
                // No IPv6 here.
                continue;
            };
            let host = if listen.is_ipv4() { "127.0.0.1" } else { "::1" };
            assert_eq!(relay.url(None).host, host);
            assert_eq!(relay.url(Some("[2001:db8::1]")).host, "2001:db8::1");
            let mut settings = options(&relay, Consent::Any);
            settings.relays = vec![relay.url(Some("127.0.0.1"))];
            let server = Peer::bind(settings.clone()).await.unwrap();
            server.registered().await.unwrap();
            settings.identity = ephemeral_key().unwrap();
            let client = Peer::bind(settings).await.unwrap();
            let (near, far) = connect(&client, &server, ConnectOptions::default()).await;
            near.direct().await.unwrap();
            echo(&near, &far, "four").await;
        }
    });
}

#[test]
fn two_connections_between_the_same_peers_stand_side_by_side() {
    run(async {
        let relay = relay();
        let (client, server) = (peer(&relay, Consent::Closed).await, peer(&relay, Consent::Any).await);
        let both = future::zip(client.connect(server.id()), client.connect(server.id()));
        let accepted = async { (server.accept().await.unwrap(), server.accept().await.unwrap()) };
        let ((one, two), (first, second)) = future::zip(both, accepted).await;
        let (one, two) = (one.unwrap(), two.unwrap());
        for connection in [&one, &two, &first, &second] {
            connection.direct().await.unwrap();
        }
        one.close(7, b"only this one");
        let gone = CloseReason::Application { code: 7, reason: "only this one".into() };
        // Which of the two accepted it is, nobody says: the one that ends.
        let survivor = future::or(
            async {
                assert_eq!(first.closed().await, gone);
                &second
            },
            async {
                assert_eq!(second.closed().await, gone);
                &first
            },
        )
        .await;
        echo(&two, survivor, "still here").await;
    });
}

#[test]
fn both_may_call_each_other_at_once() {
    run(async {
        let relay = relay();
        let (one, two) = (peer(&relay, Consent::Any).await, peer(&relay, Consent::Any).await);
        let calls = future::zip(one.connect(two.id()), two.connect(one.id()));
        let accepts = future::zip(one.accept(), two.accept());
        let ((there, back), (from_two, from_one)) = future::zip(calls, accepts).await;
        let (there, back) = (there.unwrap(), back.unwrap());
        echo(&there, &from_one.unwrap(), "there").await;
        echo(&back, &from_two.unwrap(), "back").await;
        there.direct().await.unwrap();
        back.direct().await.unwrap();
    });
}

#[test]
fn a_connect_that_is_dropped_is_abandoned() {
    run(async {
        let relay = relay();
        let (client, server) = (peer(&relay, Consent::Closed).await, peer(&relay, Consent::Ask).await);
        let gave_up = future::or(async { Some(client.connect(server.id()).await) }, async {
            // The offer arrives, and before it is answered P2 has gone.
            let offer = server.offered().await.unwrap();
            drop(offer);
            None
        });
        assert!(gave_up.await.is_none_or(|outcome| outcome.is_err()));
        let answered = async {
            server.offered().await.unwrap().accept();
            server.accept().await.unwrap()
        };
        let (near, far) = future::zip(client.connect(server.id()), answered).await;
        echo(&near.unwrap(), &far, "second try").await;
    });
}

#[test]
fn a_connection_whose_handles_are_gone_is_closed() {
    run(async {
        let Pair { near, far, client, .. } = pair().await;
        let mut stream = near.open_uni().await.unwrap();
        stream.write_chunk(Bytes::from_static(b"x")).await.unwrap();
        let twin = near.clone();
        drop(near);
        let mut theirs = far.accept_uni().await.unwrap();
        assert_eq!(theirs.read_chunk(9).await.unwrap().unwrap(), "x");
        drop(twin);
        // The stream alone keeps it.
        stream.write_chunk(Bytes::from_static(b"y")).await.unwrap();
        assert_eq!(theirs.read_chunk(9).await.unwrap().unwrap(), "y");
        drop(stream);
        assert_eq!(far.closed().await, CloseReason::Application { code: 0, reason: String::new() });
        drop(client);
    });
}
