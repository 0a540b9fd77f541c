//! Offers that a program thinks about: side by side, each with its own answer, and gone with who made them.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use direc_smol::{ConnectError, ConnectOptions, Consent, NodeId, Offer, Peer, PeerNews, Watch};
use futures_lite::future;

/// The next `N` offers, in the order in which these clients are given.
async fn offers<const N: usize>(server: &Peer, from: [NodeId; N]) -> [Offer; N] {
    let mut offers = Vec::new();
    for _ in 0..N {
        offers.push(server.offered().await.unwrap());
    }
    from.map(|id| offers.swap_remove(offers.iter().position(|offer| offer.peer() == id).unwrap()))
}

/// Waits until this peer is told that the other one is being asked.
async fn asking(watch: &mut Watch, whom: NodeId) {
    while watch.next().await.unwrap().1 != (PeerNews::Asking { peer: whom }) {}
}

#[test]
fn offers_wait_side_by_side_and_each_has_its_own_answer() {
    run(async {
        let relay = relay();
        let server = peer(&relay, Consent::Ask).await;
        let (friend, stranger) = (peer(&relay, Consent::Closed).await, peer(&relay, Consent::Closed).await);
        let answers = async {
            let [first, second] = offers(&server, [stranger.id(), friend.id()]).await;
            // Neither waits for the other, whichever came first.
            second.accept();
            let far = server.accept().await.unwrap();
            first.refuse();
            far
        };
        let calls = future::zip(stranger.connect(server.id()), friend.connect(server.id()));
        let ((refused, near), far) = future::zip(calls, answers).await;
        assert_eq!(refused.unwrap_err(), ConnectError::Refused);
        assert_eq!(far.peer(), friend.id());
        echo(&near.unwrap(), &far, "in").await;
    });
}

#[test]
fn an_offer_is_withdrawn_when_the_client_gives_up_and_another_one_stays() {
    run(async {
        let relay = relay();
        let server = peer(&relay, Consent::Ask).await;
        let (patient, hasty) = (peer(&relay, Consent::Closed).await, peer(&relay, Consent::Closed).await);
        let call = async { patient.connect(server.id()).await.unwrap() };
        let answer = async {
            let hasty_call = hasty.connect(server.id());
            let both = offers(&server, [patient.id(), hasty.id()]);
            // Dropping the call gives it up.
            let [stays, goes] =
                future::or(async { Err(hasty_call.await.map(drop)) }, async { Ok(both.await) }).await.unwrap();
            goes.withdrawn().await;
            goes.withdrawn().await;
            // Too late, and of no consequence.
            goes.accept();
            assert!(future::poll_once(stays.withdrawn()).await.is_none(), "it still waits for its answer");
            stays.accept();
            server.accept().await.unwrap()
        };
        let (near, far) = future::zip(call, answer).await;
        assert_eq!(far.peer(), patient.id());
        echo(&near, &far, "the patient one").await;
    });
}

#[test]
fn an_offer_is_withdrawn_when_its_time_is_over_and_when_the_peer_is_closed() {
    run(async {
        let relay = relay();
        let client = peer(&relay, Consent::Closed).await;
        let mut settings = options(&relay, Consent::Ask);
        settings.timing.answer_deadline = std::time::Duration::from_millis(300);
        let server = Peer::bind(settings).await.unwrap();
        server.registered().await.unwrap();
        let in_vain = async {
            server.offered().await.unwrap().withdrawn().await;
        };
        let (call, ()) = future::zip(client.connect(server.id()), in_vain).await;
        assert!(call.is_err());

        let server = peer(&relay, Consent::Ask).await;
        let closed = async {
            let offer = server.offered().await.unwrap();
            future::zip(offer.withdrawn(), server.close()).await;
        };
        let (call, _) = future::zip(client.connect(server.id()), closed).await;
        assert!(call.is_err());
    });
}

#[test]
fn who_calls_is_told_that_the_other_side_is_being_asked() {
    run(async {
        let relay = relay();
        let client = peer(&relay, Consent::Closed).await;
        let mut news = client.watch();
        let server = peer(&relay, Consent::Ask).await;
        let answer = async {
            asking(&mut news, server.id()).await;
            server.offered().await.unwrap().accept();
            server.accept().await.unwrap()
        };
        let (near, far) = future::zip(client.connect(server.id()), answer).await;
        echo(&near.unwrap(), &far, "asked").await;

        // One that lets everybody in has nobody to ask.
        let open = peer(&relay, Consent::Any).await;
        let mut news = client.watch();
        connect(&client, &open, ConnectOptions::default()).await;
        client.close().await;
        while let Some((_, told)) = news.next().await {
            assert!(!matches!(told, PeerNews::Asking { .. }), "{told:?}");
        }
    });
}
