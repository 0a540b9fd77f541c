//! The first half: real sockets on this machine.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use direc_core::{Consent, Identity, Step};
use direc_smol::{Connection, Peer, PeerOptions, RelayOptions, RelayServer, RelayUrl, ephemeral_key};
use smol::future::try_zip;

use super::{
    events::DemoEvent,
    story::{CLIENT, RELAY, SERVER, Story},
    transfer,
};
use crate::{clock::ms_between, events::path_text, failure::Failure, out::Out, wait::within};

/// How long one wait of the demo may take: on one machine, everything takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Returns how many of the specification's steps were seen: all of them, or it is an error.
pub(super) async fn run(started: Instant, bytes: u64, out: Out) -> Result<usize, Failure> {
    out.say("PTTH_DIREC on this machine: three parties, each with its own UDP sockets on 127.0.0.1.\n");
    let mut story = Story::begin(started, out);
    let relay = relay(&mut story)?;
    let p4 = peer(SERVER, relay.url(None), Consent::Any, &mut story).await?;
    let p2 = peer(CLIENT, relay.url(None), Consent::Closed, &mut story).await?;

    let called = Instant::now();
    story.tell(called, CLIENT, format!("connect({}…)", p4.id().short()));
    let connecting = async { p2.connect(p4.id()).await.map_err(|e| Failure::new("the client could not connect", e)) };
    let accepting = async { p4.accept().await.ok_or_else(|| Failure::Failed("the server was closed".into())) };
    let (near, far) = in_time("the connection", try_zip(connecting, accepting)).await??;
    connected(&near, called, &story);

    in_time("the direct path", try_zip(direct(CLIENT, &near), direct(SERVER, &far))).await??;
    for (who, conn) in [(CLIENT, &near), (SERVER, &far)] {
        on_path(who, conn, called, &story);
    }
    let seen = story.end().await;
    let missing: Vec<_> = Step::ALL.iter().filter(|step| !seen.contains(step)).map(Step::to_string).collect();
    if !missing.is_empty() {
        return Err(Failure::Failed(format!("steps that were not seen: {}", missing.join(", "))));
    }

    out.say(&format!(
        "\nClient and server are connected, {}. Now {:.1} MB each way:\n",
        path_text(near.path()),
        megabytes(bytes)
    ));
    transfer::both_ways(&near, &far, bytes, out).await?;
    if !near.path().is_direct() || !far.path().is_direct() {
        return Err(Failure::Failed("the connection did not stay direct".into()));
    }
    out.say(&format!("{} bytes went through the relay.", relay.stats().relayed_bytes));
    near.close(0, b"done");
    p2.close().await;
    p4.close().await;
    relay.close().await;
    Ok(seen.len())
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> Result<T, Failure> {
    within(PATIENCE, future)
        .await
        .ok_or_else(|| Failure::Failed(format!("{what}: nothing after {} s", PATIENCE.as_secs())))
}

fn key() -> Result<Identity, Failure> {
    ephemeral_key().map_err(Failure::of)
}

fn relay(story: &mut Story) -> Result<RelayServer, Failure> {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let relay = RelayServer::bind(RelayOptions::new(key()?, listen)).map_err(Failure::of)?;
    story.follow_relay(relay.watch());
    let ports: Vec<_> = relay.punch_addrs().iter().map(|address| address.port().to_string()).collect();
    let (at, ports) = (relay.local_addr(), ports.join(" and "));
    story.tell(Instant::now(), RELAY, format!("listens at {at}, for cookies at ports {ports}"));
    Ok(relay)
}

async fn peer(who: &'static str, url: RelayUrl, consent: Consent, story: &mut Story) -> Result<Peer, Failure> {
    let mut options = PeerOptions::new(key()?, url);
    options.local = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    options.consent = consent;
    let peer = Peer::bind(options).await.map_err(Failure::of)?;
    story.follow_peer(who, peer.watch());
    let (id, at) = (peer.id().short(), peer.local_addr());
    story.tell(Instant::now(), who, format!("peer {id}…, at {at}"));
    let warm = in_time("the registration", peer.warm()).await?;
    warm.map_err(|error| Failure::new(format!("the {who} could not register"), error))?;
    Ok(peer)
}

fn connected(conn: &Connection, called: Instant, story: &Story) {
    let (now, path) = (Instant::now(), conn.path());
    let after_ms = ms_between(called, now);
    story.tell(now, CLIENT, format!("is connected, by {}, {after_ms:.1} ms after connect", path_text(path)));
    let peer = conn.peer().to_string();
    story.event(&DemoEvent::Connected { ms: story.ms(now), peer, path: path.into(), after_ms });
}

async fn direct(who: &str, conn: &Connection) -> Result<(), Failure> {
    conn.direct().await.map(drop).map_err(|why| Failure::new(format!("the {who} found no direct path"), why))
}

/// Tells which path a side uses, and since when.
fn on_path(who: &'static str, conn: &Connection, called: Instant, story: &Story) {
    let (path, since) = (conn.path(), conn.stats().path_since);
    let after_ms = ms_between(called, since);
    story.tell(since, who, format!("from here on {}, {after_ms:.1} ms after connect", path_text(path)));
    let addr = path.address().to_string();
    story.event(&DemoEvent::Path { ms: story.ms(since), who, path: path.into(), addr, after_ms });
}
