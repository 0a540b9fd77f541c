//! How connections and peers end: what was finished arrives, whoever drops what.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use common::*;
use direc_smol::{CloseReason, ConnectOptions, Connection, Consent, DELIVERY_LIMIT, PathPolicy, Peer, ReadError};
use futures_lite::future;

/// Megabytes: more than what congestion control sends at once.
const BULK: usize = 2;

fn relayed() -> ConnectOptions {
    ConnectOptions::with_policy(PathPolicy::RelayOnly)
}

/// Answers one request, and lets go of everything.
async fn answer_and_drop(server: &Peer) {
    let connection = server.accept().await.unwrap();
    let (mut send, mut recv) = connection.accept_bi().await.unwrap();
    let request = recv.read_to_end(1024).await.unwrap();
    send.write_chunk(request.into()).await.unwrap();
    send.finish().unwrap();
}

async fn ask(connection: &Connection, text: &'static str) -> Vec<u8> {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_chunk(text.into()).await.unwrap();
    send.finish().unwrap();
    recv.read_to_end(1024).await.unwrap()
}

/// A stream with so much on it, finished; gives its hash.
async fn pour(connection: &Connection, megabytes: usize) -> u64 {
    let mut send = connection.open_uni().await.unwrap();
    let (mut pattern, mut hash) = (Pattern::new(5), std::hash::DefaultHasher::new());
    for _ in 0..megabytes * 16 {
        let chunk = pattern.chunk(8192);
        std::hash::Hasher::write(&mut hash, &chunk);
        send.write_chunk(chunk).await.unwrap();
    }
    send.finish().unwrap();
    std::hash::Hasher::finish(&hash)
}

/// Everything that still comes on a connection's first stream, and the connection's end.
async fn fetch(connection: &Connection) -> (u64, CloseReason) {
    let recv = connection.accept_uni().await.unwrap();
    let (hash, _) = recv_bulk(recv).await;
    (hash, connection.closed().await)
}

fn code_0(reason: &CloseReason) -> bool {
    matches!(reason, CloseReason::Application { code: 0, .. })
}

#[test]
fn an_answer_arrives_although_everything_is_dropped_behind_it() {
    run(async {
        let relay = relay();
        let client = peer(&relay, Consent::Closed).await;
        let server = peer(&relay, Consent::Any).await;
        for round in 0..100 {
            let options = if round % 2 == 0 { relayed() } else { ConnectOptions::default() };
            let hello = async {
                let connection = client.connect_with(server.id(), options).await.unwrap();
                assert_eq!(ask(&connection, "hello").await, b"hello");
                assert!(code_0(&connection.closed().await));
            };
            future::zip(hello, answer_and_drop(&server)).await;
        }
    });
}

#[test]
fn a_dropped_connection_delivers_even_to_who_accepts_it_later() {
    run(async {
        let relay = relay();
        let client = peer(&relay, Consent::Closed).await;
        let server = peer(&relay, Consent::Any).await;
        for options in [relayed(), ConnectOptions::default()] {
            let connection = client.connect_with(server.id(), options).await.unwrap();
            let mut watch = connection.watch();
            let sent = pour(&connection, 1).await;
            drop(connection);
            // It is nobody's any more: neither listed nor watched.
            assert_eq!(client.connections(), []);
            while watch.next().await.is_some() {}
            pause(100).await;
            let connection = server.accept().await.unwrap();
            let (got, reason) = fetch(&connection).await;
            assert_eq!(got, sent);
            assert!(code_0(&reason), "{reason}");
        }
    });
}

#[test]
fn a_stream_dropped_before_it_is_finished_is_delivered_with_its_connection() {
    run(async {
        let Pair { relay: _relay, client: _client, server: _server, near, far } = pair().await;
        let mut send = near.open_uni().await.unwrap();
        send.write_chunk(Bytes::from(vec![7; 1 << 20])).await.unwrap();
        drop((near, send));
        let got = far.accept_uni().await.unwrap().read_to_end(2 << 20).await.unwrap();
        assert_eq!(got.len(), 1 << 20);
    });
}

#[test]
fn a_peer_of_which_nothing_is_left_delivers() {
    run(async {
        for options in [relayed(), ConnectOptions::default()] {
            let Pair { relay: _relay, client, server: _server, near, far } = pair_with(options).await;
            let sent = pour(&near, BULK).await;
            drop((near, client));
            let (got, reason) = fetch(&far).await;
            assert_eq!(got, sent);
            assert!(code_0(&reason), "{reason}");
        }
    });
}

#[test]
fn closing_a_peer_delivers_first_also_what_dropped_handles_have_left() {
    run(async {
        let relay = relay();
        let client = peer(&relay, Consent::Closed).await;
        let server = peer(&relay, Consent::Any).await;
        let (dropped, there) = connect(&client, &server, relayed()).await;
        let (held, here) = connect(&client, &server, ConnectOptions::default()).await;
        let sent = pour(&dropped, BULK).await;
        drop(dropped);
        assert_eq!(pour(&held, BULK).await, sent);
        let (delivered, fetched) = future::zip(client.close(), future::zip(fetch(&there), fetch(&here))).await;
        assert!(delivered);
        assert_eq!([fetched.0.0, fetched.1.0], [sent; 2]);
        assert_eq!(held.closed().await, CloseReason::Locally);
    });
}

#[test]
fn both_sides_may_let_go_at_once() {
    run(async {
        for _ in 0..10 {
            let Pair { relay: _relay, client: _client, server: _server, near, far } = pair().await;
            // Each side has read what the other sent, but does not know that its own has been.
            let (sent, other) = future::zip(pour(&near, 1), pour(&far, 1)).await;
            let (to_far, to_near) = future::zip(far.accept_uni(), near.accept_uni()).await;
            drop((near, far));
            let ((got, _), (back, _)) = future::zip(recv_bulk(to_far.unwrap()), recv_bulk(to_near.unwrap())).await;
            assert_eq!((got, back), (sent, other));
        }
    });
}

#[test]
fn finish_waits_for_what_is_finished_and_says_whether_it_arrived() {
    run(async {
        let Pair { relay: _relay, client: _client, server: _server, near, far } = pair().await;
        let sent = pour(&near, BULK).await;
        let mut open = near.open_uni().await.unwrap();
        open.write_chunk(Bytes::from_static(b"half of it")).await.unwrap();
        // Given up at once: nothing has changed.
        assert_eq!(future::poll_once(near.finish()).await, None);
        pause(20).await;
        let ((), fetched) = future::zip(async { near.finish().await.unwrap() }, fetch(&far)).await;
        assert_eq!(fetched.0, sent);
        assert_eq!(fetched.1, CloseReason::Application { code: 0, reason: String::new() });
        assert_eq!(near.closed().await, CloseReason::Locally);
        assert_eq!(near.finish().await, Ok(()), "it is said as often as it is asked");
        // What was not finished does not look as if it were.
        let mut unfinished = far.accept_uni().await.unwrap();
        assert_eq!(unfinished.read_chunk(100).await.unwrap().unwrap(), "half of it");
        assert!(matches!(unfinished.read_chunk(100).await, Err(ReadError::Closed(_))));
    });
}

#[test]
fn finish_fails_with_the_connection() {
    run(async {
        let Pair { relay, client: _client, server, near, far } = pair_with(relayed()).await;
        // From here on nothing gets through.
        relay.close().await;
        let mut send = near.open_uni().await.unwrap();
        send.write_chunk(Bytes::from_static(b"to nobody")).await.unwrap();
        send.finish().unwrap();
        assert_eq!(future::poll_once(near.finish()).await, None);
        let close = async {
            pause(20).await;
            near.close(3, b"enough");
        };
        let (finished, ()) = future::zip(near.finish(), close).await;
        assert_eq!(finished, Err(CloseReason::Locally));
        drop((far, server));
    });
}

#[test]
fn finish_does_not_wait_for_what_is_reset() {
    run(async {
        let Pair { relay, client: _client, server: _server, near, far: _far } = pair_with(relayed()).await;
        relay.close().await;
        let mut send = near.open_uni().await.unwrap();
        send.write_chunk(Bytes::from_static(b"to nobody")).await.unwrap();
        send.finish().unwrap();
        let reset = async {
            pause(20).await;
            send.reset(1);
        };
        let (finished, ()) = future::zip(near.finish(), reset).await;
        assert_eq!(finished, Ok(()));
    });
}

#[test]
fn with_nobody_there_closing_ends_in_time_and_says_that_it_did_not_deliver() {
    run(async {
        let Pair { relay, client, server: _server, near, far: _far } = pair_with(relayed()).await;
        relay.close().await;
        let mut send = near.open_uni().await.unwrap();
        send.write_chunk(Bytes::from_static(b"to nobody")).await.unwrap();
        drop((send, near));
        let before = Instant::now();
        // Whoever gives up waiting ends nothing.
        assert_eq!(future::poll_once(client.close()).await, None);
        assert!(!client.close().await, "nothing was acknowledged");
        assert!(before.elapsed() >= DELIVERY_LIMIT - Duration::from_secs(1));
        assert!(client.accept().await.is_none());
    });
}

#[test]
fn a_peer_that_has_nothing_to_deliver_is_closed_at_once() {
    run(async {
        let Pair { relay: _relay, client, server, near, far } = pair().await;
        echo(&near, &far, "something").await;
        // A stream that nobody has finished holds nobody, and neither does a reader that does not read.
        let mut open = near.open_uni().await.unwrap();
        open.write_chunk(Bytes::from_static(b"unfinished")).await.unwrap();
        let before = Instant::now();
        assert!(client.close().await);
        assert!(server.close().await);
        assert!(before.elapsed() < DELIVERY_LIMIT);
        drop(open);
    });
}
