//! Peers found by a name that the relay knows, on real sockets.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use direc_smol::{
    Consent, Named, Peer, PeerName, PeerOptions, Quotas, Rate, RefuseReason, RelayError, RelayUrl, ResolveError,
    Scopes, ephemeral_key,
};
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
fn the_second_relay_is_asked_where_the_first_has_no_word_and_where_they_disagree_neither_counts() {
    run(async {
        let (first, second, one, other) = (relay(), relay(), nobody(), nobody());
        first.set_names([(name("printer"), one), (name("plotter"), one)].into());
        second.set_names([(name("printer"), other), (name("plotter"), one), (name("scanner"), other)].into());
        let settings = options(&first, Consent::Closed).with_relay(second.url(None));
        // At once: the relay that lets this peer in first has not won.
        let client = Peer::bind(settings).await.unwrap();
        let said = client.resolve(&name("printer")).await.unwrap_err();
        let named = vec![Named { relay: first.id(), id: one }, Named { relay: second.id(), id: other }];
        assert_eq!(said, ResolveError::Disagree { named });
        for id in [first.id(), second.id(), one, other] {
            assert!(said.to_string().contains(&id.to_string()), "{said}");
        }
        let scanner = client.resolve(&name("scanner")).await.unwrap();
        assert_eq!(scanner, Named { relay: second.id(), id: other });
        let plotter = client.resolve(&name("plotter")).await.unwrap();
        assert_eq!(plotter, Named { relay: first.id(), id: one }, "they agree");
    });
}

#[test]
fn a_relay_that_is_away_keeps_nobody_from_the_other_ones_word() {
    run(async {
        let (relay, other) = (relay(), nobody());
        relay.set_names([(name("scanner"), other)].into());
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let url = RelayUrl::new("127.0.0.1", silent.local_addr().unwrap().port(), nobody()).unwrap();
        let mut settings = options(&relay, Consent::Closed).with_relay(url);
        settings.timing.relay_deadline = std::time::Duration::from_secs(3600);
        let client = Peer::bind(settings).await.unwrap();
        assert_eq!(client.resolve(&name("scanner")).await.unwrap().id, other);
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
fn a_name_that_a_quota_keeps_back_is_not_called_unknown() {
    run(async {
        let (relay, other) = (relay(), nobody());
        relay.set_names([(name("office"), other)].into());
        let one = Rate { amount: 1, per: std::time::Duration::from_secs(3600) };
        let introductions = Scopes { peer: Some(one), address: None, total: None };
        relay.set_quotas(Quotas { introductions, ..Quotas::default() });
        let client = peer(&relay, Consent::Closed).await;
        assert_eq!(client.resolve(&name("office")).await.unwrap().id, other);
        let error = client.resolve(&name("office")).await.unwrap_err();
        assert_eq!(error, ResolveError::Refused(RefuseReason::PeerQuota));
        assert!(error.to_string().contains("used up"), "{error}");
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
