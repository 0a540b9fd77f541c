//! A relay and peers on loopback, and waits that cannot hang.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::{future::Future, hash::Hasher, time::Duration};

use bytes::Bytes;
use direc_smol::{
    ConnectOptions, Connection, Consent, NodeId, Peer, PeerOptions, PeerTiming, RecvStream, RelayOptions, RelayServer,
    SendStream, ephemeral_key,
};
use futures_lite::future;

/// Far longer than anything here takes: whoever waits this long waits for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a story on a plain executor: neither tokio's nor smol's.
pub fn run<T>(story: impl Future<Output = T>) -> T {
    future::block_on(patiently(story))
}

/// The story, or a panic if it hangs.
pub async fn patiently<T>(story: impl Future<Output = T>) -> T {
    future::or(async { Some(story.await) }, async {
        async_io::Timer::after(PATIENCE).await;
        None
    })
    .await
    .expect("the story hangs")
}

pub async fn pause(millis: u64) {
    async_io::Timer::after(Duration::from_millis(millis)).await;
}

pub fn relay() -> RelayServer {
    RelayServer::bind(RelayOptions::new(ephemeral_key().unwrap(), "127.0.0.1:0".parse().unwrap())).unwrap()
}

pub fn options(relay: &RelayServer, consent: Consent) -> PeerOptions {
    let mut options = PeerOptions::new(ephemeral_key().unwrap(), relay.url(None));
    options.consent = consent;
    options.timing = short();
    options
}

/// Waits that fit loopback, so that a failure shows soon.
pub fn short() -> PeerTiming {
    PeerTiming {
        relay_deadline: Duration::from_secs(1),
        answer_deadline: Duration::from_secs(5),
        handshake_deadline: Duration::from_secs(5),
        cookie_deadline: Duration::from_secs(2),
        punch_deadline: Duration::from_secs(2),
        ..PeerTiming::default()
    }
}

/// A peer that is registered.
pub async fn peer(relay: &RelayServer, consent: Consent) -> Peer {
    let peer = Peer::bind(options(relay, consent)).await.unwrap();
    peer.registered().await.unwrap();
    peer
}

/// A relay, two peers, and a connection from the first to the second, seen from both.
pub struct Pair {
    pub relay: RelayServer,
    pub client: Peer,
    pub server: Peer,
    pub near: Connection,
    pub far: Connection,
}

pub async fn pair() -> Pair {
    pair_with(ConnectOptions::default()).await
}

pub async fn pair_with(options: ConnectOptions) -> Pair {
    let relay = relay();
    let client = peer(&relay, Consent::Closed).await;
    let server = peer(&relay, Consent::Any).await;
    let (near, far) = connect(&client, &server, options).await;
    Pair { relay, client, server, near, far }
}

pub async fn connect(client: &Peer, server: &Peer, options: ConnectOptions) -> (Connection, Connection) {
    let connect = async { client.connect_with(server.id(), options).await.unwrap() };
    let accept = async { server.accept().await.unwrap() };
    let (near, far) = future::zip(connect, accept).await;
    assert_eq!((near.peer(), far.peer()), (server.id(), client.id()));
    (near, far)
}

/// A bidirectional stream, seen from both sides: near's halves, far's halves.
pub async fn stream(near: &Connection, far: &Connection) -> ((SendStream, RecvStream), (SendStream, RecvStream)) {
    let mut ours = near.open_bi().await.unwrap();
    ours.0.write_chunk(Bytes::from_static(b"?")).await.unwrap();
    let mut theirs = far.accept_bi().await.unwrap();
    assert_eq!(theirs.1.read_chunk(1).await.unwrap().unwrap(), "?");
    (ours, theirs)
}

/// Says something on a new stream and hears it back.
pub async fn echo(near: &Connection, far: &Connection, text: &'static str) {
    let ((mut send, mut recv), (mut back, mut there)) = stream(near, far).await;
    send.write_chunk(Bytes::from_static(text.as_bytes())).await.unwrap();
    send.finish().unwrap();
    let heard = there.read_to_end(1 << 20).await.unwrap();
    back.write_chunk(heard.into()).await.unwrap();
    back.finish().unwrap();
    assert_eq!(recv.read_to_end(1 << 20).await.unwrap(), text.as_bytes());
}

/// Bytes that do not repeat soon, the same for the same seed.
pub struct Pattern(u64);

impl Pattern {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn chunk(&mut self, words: usize) -> Bytes {
        let mut bytes = Vec::with_capacity(words * 8);
        for _ in 0..words {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            bytes.extend_from_slice(&self.0.to_le_bytes());
        }
        bytes.into()
    }
}

/// Sends `megabytes` of pattern and gives their hash.
pub async fn send_bulk(mut send: SendStream, seed: u64, megabytes: usize) -> u64 {
    let (mut pattern, mut hash) = (Pattern::new(seed), std::hash::DefaultHasher::new());
    for _ in 0..megabytes * 16 {
        let chunk = pattern.chunk(8192);
        hash.write(&chunk);
        send.write_chunk(chunk).await.unwrap();
    }
    send.finish().unwrap();
    assert_eq!(send.stopped().await, Ok(None));
    hash.finish()
}

/// Reads to the end and gives the hash and the number of bytes.
pub async fn recv_bulk(mut recv: RecvStream) -> (u64, usize) {
    let (mut hash, mut count) = (std::hash::DefaultHasher::new(), 0);
    while let Some(chunk) = recv.read_chunk(1 << 20).await.unwrap() {
        hash.write(&chunk);
        count += chunk.len();
    }
    (hash.finish(), count)
}

/// An ID that belongs to nobody.
pub fn nobody() -> NodeId {
    ephemeral_key().unwrap().id()
}
