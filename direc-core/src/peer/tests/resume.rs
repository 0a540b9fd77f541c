//! A relay that offers a connection anew which is not the one that stands.

use quinn_proto::StreamId;

use super::*;
use crate::quic::stream::Received;

/// A peer that has accepted a connection from `client` on channel 7; its other end, and the token of both.
fn accepted(client: u8) -> (Pair, [u8; 16]) {
    let mut pair = Pair::registered(Consent::Any);
    let stream = pair.open();
    pair.say(stream, &offer(client));
    pair.run();
    let mut rng = Rng::new([5; 32]);
    let cids = CidKey::new(&mut rng).unwrap();
    let mut other = Quic::new(endpoint(1, &cids, &mut rng), None);
    let crypto = tls(client).client(identity(2).id(), ALPN_PEER).unwrap();
    let transport = peer_transport(&crate::config::Transport::default(), &Ledger::cubic(pair.now));
    let config = quic::config::client(crypto, transport, &mut rng);
    let handle = other.connect(pair.now, config, "192.0.2.1:1".parse().unwrap()).unwrap();
    pair.relay(7, &mut other);
    assert!(pair.events.iter().any(|event| matches!(event, PeerEvent::Connected { .. })));
    let mut token = [0; 16];
    let session = other.get(handle).unwrap().crypto_session();
    session.export_keying_material(&mut token, b"EXPORTER-direc-resume", &[]).unwrap();
    (pair, token)
}

/// Offers the connection anew on channel 8; gives what the peer says to that.
fn offered_anew(pair: &mut Pair, client: u8, token: [u8; 16]) -> Message {
    let Message::Offer(first) = offer(client) else { panic!("no offer") };
    let stream = pair.open();
    pair.say(stream, &Message::Offer(Offer { introduction: 2, channel: 8, resume: Some(token.into()), ..first }));
    pair.run();
    let connection = pair.liar.quic.get_mut(pair.liar.handle.unwrap()).unwrap();
    match pair.liar.streams[stream].receive(connection) {
        Some(Received::Message(message)) => message,
        _ => panic!("no answer"),
    }
}

fn places(pair: &Pair) -> Vec<(StreamId, u64)> {
    let places = pair.peer.sessions.values().flat_map(Session::attached);
    places.map(|place| (place.introduction.stream_id(), place.channel)).collect()
}

#[test]
fn an_offer_with_a_wrong_token_or_for_another_peers_connection_is_refused_and_changes_nothing() {
    let (mut pair, token) = accepted(9);
    let mut almost = token;
    almost[15] ^= 1;
    for (client, token) in [(9, almost), (9, [0; 16]), (10, token), (2, token)] {
        let (before, said) = (places(&pair), pair.events.len());
        let refused = Message::Refused(Refused { reason: RefuseReason::NoSuchPeer });
        assert!(offered_anew(&mut pair, client, token) == refused, "{client}");
        assert_eq!(places(&pair), before);
        assert!(pair.events[said..].is_empty(), "{:?}", &pair.events[said..]);
    }
}

#[test]
fn an_offer_with_the_right_token_is_accepted_without_asking() {
    let (mut pair, token) = accepted(9);
    assert!(offered_anew(&mut pair, 9, token) == Message::Accept);
    assert!(places(&pair).iter().any(|(_, channel)| *channel == 8));
    assert_eq!(pair.peer.sessions.len(), 1);
}

#[test]
fn a_token_is_for_a_connection_that_stands_and_not_for_one_that_has_ended() {
    let (mut pair, token) = accepted(9);
    let conn = *pair.peer.sessions.keys().next().unwrap();
    pair.peer.connection(conn).unwrap().close(pair.now, VarInt::from_u32(0), bytes::Bytes::new());
    let refused = Message::Refused(Refused { reason: RefuseReason::NoSuchPeer });
    assert!(offered_anew(&mut pair, 9, token) == refused);
}
