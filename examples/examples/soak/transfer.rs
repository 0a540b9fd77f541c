//! A transfer: streams with a flow each way, and what both ends say of them.
//!
//! The client opens each stream with a header that tells both flows. Each side sends its flow and its hash. The server
//! then sends the hash of what it received, which the client compares, and the client closes the connection with code 0
//! when all is well.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use direc_examples::{
    clock::{ms, ms_between, seconds},
    events::{Event, path_text, silent_ms},
    failure::Failure,
    out::Out,
    wait::within,
};
use direc_sim::rng::{Purpose, Rng};
use direc_smol::{CloseReason, ConnectOptions, Connection, PathNews, Peer, RecvStream, SendStream};
use serde::Serialize;
use smol::{
    Timer,
    future::{or, try_zip},
    io::AsyncReadExt,
};

use crate::{
    flow::{Flow, Hash, Mark, Reader, Writer},
    options::Wanted,
};

/// The most streams of a transfer.
const MOST_STREAMS: u64 = 6;
/// A header: both flows' seeds and lengths.
const HEADER: usize = 32;
/// How often a stuck transfer is looked for.
const LOOK: Duration = Duration::from_millis(500);
/// Streams break a moment before the connection has told why.
const JUST_NOW: Duration = Duration::from_millis(100);
/// How long the close may take.
const GOOD_BYE: Duration = Duration::from_secs(2);
/// Close codes.
const DONE: u32 = 0;
const FAILED: u32 = 1;

/// A stream's two flows, and how far each has come at this end.
#[derive(Debug)]
struct Lane {
    up: Flow,
    down: Flow,
    sent: Mark,
    received: Mark,
}

impl Lane {
    fn new(up: Flow, down: Flow) -> Self {
        Self { up, down, sent: Mark::default(), received: Mark::default() }
    }

    fn header(&self) -> Bytes {
        let words = [self.up.seed, self.up.bytes, self.down.seed, self.down.bytes];
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    async fn read_header(recv: &mut RecvStream) -> Result<Self, Failure> {
        let mut header = [0; HEADER];
        recv.read_exact(&mut header).await.map_err(|e| Failure::new("no header", e))?;
        let mut words = header.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_le_bytes));
        let mut flow = || Flow { seed: words.next().unwrap_or(0), bytes: words.next().unwrap_or(0) };
        Ok(Self::new(flow(), flow()))
    }
}

/// The streams that a seed stands for: `bytes` each way in all.
fn lanes(seed: u64, bytes: u64) -> Vec<Arc<Lane>> {
    let mut rng = Rng::new(seed, Purpose::Network);
    let count = 1 + rng.below(MOST_STREAMS.min(bytes));
    let (mut up, mut down) = (bytes, bytes);
    let part = |rng: &mut Rng, left: &mut u64, last| {
        let bytes = if last { *left } else { rng.below(*left) };
        *left -= bytes;
        Flow { seed: rng.below(u64::MAX), bytes }
    };
    (1..=count)
        .map(|number| {
            let last = number == count;
            Arc::new(Lane::new(part(&mut rng, &mut up, last), part(&mut rng, &mut down, last)))
        })
        .collect()
}

/// What the client prints at the end.
#[derive(Serialize)]
struct Summary {
    event: &'static str,
    /// `null`: everything arrived, and all hashes agreed.
    why: Option<String>,
    seed: u64,
    seconds: f64,
    /// Both ways together, as far as this end knows.
    bytes: u64,
    /// Of each stream: bytes handed over and to be handed over, bytes read and to be read.
    streams: Vec<[u64; 4]>,
}

/// Makes the transfer that is asked for.
pub(crate) async fn run(peer: &Peer, wanted: &Wanted, out: Out) -> Result<(), Failure> {
    let started = Instant::now();
    let lanes = lanes(wanted.seed, wanted.bytes);
    let result = connect(peer, wanted, &lanes, out).await;
    let bytes = lanes.iter().map(|lane| lane.sent.get() + lane.received.get()).sum();
    let streams = lanes.iter().map(|lane| [lane.sent.get(), lane.up.bytes, lane.received.get(), lane.down.bytes]);
    out.event(&Summary {
        event: "summary",
        why: result.as_ref().err().map(ToString::to_string),
        seed: wanted.seed,
        seconds: seconds(started.elapsed()),
        bytes,
        streams: streams.collect(),
    });
    result.map_err(|_| Failure::Told)
}

async fn connect(peer: &Peer, wanted: &Wanted, lanes: &[Arc<Lane>], out: Out) -> Result<(), Failure> {
    let started = Instant::now();
    let conn = peer.connect_with(wanted.server, ConnectOptions::with_policy(wanted.path)).await.map_err(Failure::of)?;
    let after = ms_between(started, Instant::now());
    out.event(&Event::Connected { peer: conn.peer().to_string(), path: conn.path().into(), ms: Some(after) });
    let paths = smol::spawn({
        let conn = conn.clone();
        async move { tell_paths(&conn, started, out).await }
    });
    let streams = lanes.iter().map(|lane| smol::spawn(open(conn.clone(), lane.clone()))).collect::<Vec<_>>();
    let result = or(all(streams), stuck(lanes, wanted.patience)).await;
    let result = match result {
        Ok(()) => Ok(()),
        // A broken stream is explained by the connection's end.
        Err(failure) => Err(match within(JUST_NOW, conn.closed()).await {
            Some(reason) => Failure::Failed(format!("{failure}; the connection: {reason}")),
            None => failure,
        }),
    };
    let reason = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
    conn.close(if result.is_ok() { DONE } else { FAILED }, reason.as_bytes());
    within(GOOD_BYE, paths).await;
    result
}

/// Tells every move of the connection.
async fn tell_paths(conn: &Connection, started: Instant, out: Out) {
    let mut watch = conn.watch();
    while let Some(news) = watch.next().await {
        if let PathNews::Moved { path, rtt, why, at } = news {
            out.event(&Event::Path {
                path: path.into(),
                addr: path.address().to_string(),
                rtt_ms: rtt.map(ms),
                ms: ms_between(started, at),
                why: why.into(),
                silent_ms: silent_ms(why),
            });
            out.note(&format!("now {}", path_text(path)));
        }
    }
}

async fn all(streams: Vec<impl Future<Output = Result<(), Failure>>>) -> Result<(), Failure> {
    for stream in streams {
        stream.await?;
    }
    Ok(())
}

/// Ends when no byte has moved for that long.
async fn stuck(lanes: &[Arc<Lane>], patience: Duration) -> Result<(), Failure> {
    let (mut since, mut before) = (Instant::now(), 0);
    while since.elapsed() < patience {
        Timer::after(LOOK).await;
        let moved = lanes.iter().map(|lane| lane.sent.get() + lane.received.get()).sum();
        if moved != before {
            (since, before) = (Instant::now(), moved);
        }
    }
    Err(Failure::Failed(format!("stuck: no byte has moved for {} s", patience.as_secs())))
}

/// The client's side of a stream.
async fn open(conn: Connection, lane: Arc<Lane>) -> Result<(), Failure> {
    let (mut send, mut recv) = conn.open_bi().await.map_err(Failure::of)?;
    let name = send.id().index();
    let work = async {
        send.write_chunk(lane.header()).await.map_err(Failure::of)?;
        let up = async {
            let hash = Writer::send(lane.up, &mut send, &lane.sent).await?;
            send.finish().map_err(Failure::of)?;
            Ok(hash)
        };
        let (sent, _) = try_zip(up, Reader::receive(lane.down, &mut recv, &lane.received)).await?;
        let mut received = Hash::default();
        recv.read_exact(&mut received).await.map_err(|e| Failure::new("the server's hash did not arrive", e))?;
        let rest = recv.read_to_end(0).await.map_err(Failure::of)?;
        if received == sent && rest.is_empty() {
            Ok(())
        } else {
            Err(Failure::Failed("the server received something else than was sent".into()))
        }
    };
    work.await.map_err(|failure: Failure| Failure::new(format!("at the client, stream {name}"), failure))
}

/// The server's side of a transfer.
pub(crate) async fn answer(conn: &Connection) -> Result<(), Failure> {
    let streams = async {
        let mut streams = Vec::new();
        while let Ok((send, recv)) = conn.accept_bi().await {
            streams.push(smol::spawn(answer_stream(conn.clone(), send, recv)));
        }
        streams
    };
    let streams = streams.await;
    match conn.closed().await {
        CloseReason::Application { code, .. } if code == u64::from(DONE) => all(streams).await,
        reason => {
            // What this side found wrong says more.
            all(streams).await?;
            Err(Failure::of(reason))
        }
    }
}

async fn answer_stream(conn: Connection, mut send: SendStream, mut recv: RecvStream) -> Result<(), Failure> {
    let name = send.id().index();
    let work = async {
        let lane = Lane::read_header(&mut recv).await?;
        let up = Reader::receive(lane.up, &mut recv, &lane.received);
        let (received, _) = try_zip(up, Writer::send(lane.down, &mut send, &lane.sent)).await?;
        recv.read_to_end(0).await.map_err(Failure::of)?;
        send.write_chunk(Bytes::copy_from_slice(&received)).await.map_err(Failure::of)?;
        send.finish().map_err(Failure::of)
    };
    let result = work.await.map_err(|failure| Failure::new(format!("at the server, stream {name}"), failure));
    if let Err(failure) = &result {
        // The client learns why; if the connection has ended already, this changes nothing.
        conn.close(FAILED, failure.to_string().as_bytes());
    }
    result
}
