//! Peers found by a name that the relay knows, on real sockets.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use direc_smol::{Consent, Named, Peer, PeerName, PeerOptions, RelayError, RelayUrl, ResolveError, ephemeral_key};
use futures_lite::future;

fn name(text: &str) -> PeerName {
    text.parse().unwrap()
}

#[test]
fn a_name_leads_to_who_is_called_so_and_another_to_nobody() {
    run(async {
        let relay = relay();
        let server = peer(&relay, Consent::Any).await;
        relay.set_names([(name("office-server"), server.id())].into());
        // Not registered yet: the question waits for that.
        let client = Peer::bind(options(&relay, Consent::Closed)).await.unwrap();
        let named = client.resolve(&name("office-server")).await.unwrap();
        assert_eq!(named, Named { relay: relay.id(), id: server.id() });
        assert_eq!(client.resolve(&name("office")).await, Err(ResolveError::Unknown));
        client.connect(named.id).await.unwrap();
    });
}

#[test]
fn the_first_relays_word_counts_and_the_second_one_is_asked_where_it_has_none() {
    run(async {
        let (first, second, other) = (relay(), relay(), nobody());
        let server = peer(&first, Consent::Any).await;
        first.set_names([(name("printer"), server.id())].into());
        second.set_names([(name("printer"), other), (name("scanner"), other)].into());
        let settings = options(&first, Consent::Closed).with_relay(second.url(None));
        let client = Peer::bind(settings).await.unwrap();
        while client.relay_distances().len() < 2 {
            pause(1).await;
        }
        let scanner = client.resolve(&name("scanner")).await.unwrap();
        assert_eq!(scanner, Named { relay: second.id(), id: other });
        let printer = client.resolve(&name("printer")).await.unwrap();
        assert_eq!(printer.id, server.id());
    });
}

#[test]
fn who_asks_for_the_same_name_at_once_all_hear_and_one_that_gives_up_takes_it_from_nobody() {
    run(async {
        let (relay, other) = (relay(), nobody());
        relay.set_names([(name("office"), other)].into());
        let client = Peer::bind(options(&relay, Consent::Closed)).await.unwrap();
        let office = name("office");
        let mut given_up = Box::pin(client.resolve(&office));
        assert!(future::poll_once(&mut given_up).await.is_none(), "the peer is not registered yet");
        let both = future::zip(client.resolve(&office), client.resolve(&office));
        let giving_up = async move {
            pause(1).await;
            drop(given_up);
        };
        let ((first, second), ()) = future::zip(both, giving_up).await;
        assert_eq!((first.unwrap().id, second.unwrap().id), (other, other));
    });
}

#[test]
fn without_a_relay_there_is_nobody_to_ask() {
    run(async {
        let relay = relay();
        let url = RelayUrl::new("127.0.0.1", relay.local_addr().port(), nobody()).unwrap();
        let client = Peer::bind(PeerOptions::new(ephemeral_key().unwrap(), url)).await.unwrap();
        let error = client.resolve(&name("printer")).await.unwrap_err();
        assert!(matches!(error, ResolveError::Relay(RelayError::WrongKey { .. })), "{error}");
    });
}
