//! Bulk data each way, hashed where it leaves and where it arrives.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use data_encoding::HEXLOWER;
use direc_smol::{Connection, RecvStream, SendStream};
use ring::{
    digest::{Context, SHA256},
    rand::{SecureRandom, SystemRandom},
};
use smol::{
    Task,
    channel::{Sender, bounded},
    future::try_zip,
    io::AsyncWriteExt,
};

use super::{
    events::DemoEvent,
    story::{CLIENT, SERVER},
};
use crate::{
    bench::BLOCK,
    clock::seconds,
    failure::Failure,
    meter::{Measured, Meter},
    out::Out,
    progress::Progress,
    wait::within,
};

/// Blocks on their way to the hashing thread.
const QUEUE: usize = 64;
/// For either direction: slower than this on one machine is a failure, too.
const PATIENCE: Duration = Duration::from_secs(45);

/// To the server, then to the client, on one stream.
pub(super) async fn both_ways(near: &Connection, far: &Connection, bytes: u64, out: Out) -> Result<(), Failure> {
    let (mut to_far, mut from_far) = near.open_bi().await.map_err(Failure::of)?;
    // The other side hears of a stream with its first byte.
    to_far.write_all(b"?").await.map_err(Failure::of)?;
    let (mut to_near, mut from_near) = far.accept_bi().await.map_err(Failure::of)?;
    from_near.read_chunk(1).await.map_err(Failure::of)?;
    one_way([CLIENT, SERVER], &mut to_far, &mut from_near, bytes, out).await?;
    one_way([SERVER, CLIENT], &mut to_near, &mut from_far, bytes, out).await
}

async fn one_way(
    [from, to]: [&'static str; 2],
    send: &mut SendStream,
    recv: &mut RecvStream,
    bytes: u64,
    out: Out,
) -> Result<(), Failure> {
    let label = if to == SERVER { "to server" } else { "to client" };
    let source = Source::new(bytes)?;
    let both = try_zip(push(send, source.clone()), fetch(recv, bytes, label, out));
    let Some(both) = within(PATIENCE, both).await else {
        return Err(Failure::Failed(format!("{label}: not through after {} s", PATIENCE.as_secs())));
    };
    let ((), (measured, arrived)) = both?;
    // Afterwards, so that only one side's hashing competes with the transfer.
    let sent = smol::unblock(move || sha256(source)).await;
    let intact = measured.bytes == bytes && sent == arrived;
    out.event(&DemoEvent::Transfer {
        from,
        to,
        bytes: measured.bytes,
        seconds: seconds(measured.time),
        mbit_per_second: (measured.mbit_per_second() * 10.0).round() / 10.0,
        sha256: arrived.clone(),
        intact,
    });
    if !intact {
        return Err(Failure::Failed(format!("{label}: what arrived is not what was sent ({arrived}, not {sent})")));
    }
    let (rate, time) = (measured.mbit_per_second(), measured.time.as_secs_f64());
    out.say(&format!("{label}  {time:.2} s, {:.1} MB/s ({rate:.0} Mbit/s), SHA-256 {arrived}: intact", rate / 8.0));
    Ok(())
}

/// Data that is nowhere the same: noise, and in every block its place.
#[derive(Clone)]
struct Source {
    noise: Bytes,
    made: u64,
    total: u64,
}

impl Source {
    fn new(total: u64) -> Result<Self, Failure> {
        let mut noise = vec![0; BLOCK];
        SystemRandom::new().fill(&mut noise).map_err(|_| Failure::Failed("the system gave no randomness".into()))?;
        Ok(Self { noise: noise.into(), made: 0, total })
    }
}

impl Iterator for Source {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let size = BLOCK.min(usize::try_from(self.total - self.made).unwrap_or(BLOCK));
        let mut block = BytesMut::from(&self.noise[..size]);
        for (byte, place) in block.iter_mut().zip(self.made.to_be_bytes()) {
            *byte ^= place;
        }
        self.made += size as u64;
        (size > 0).then(|| block.freeze())
    }
}

/// Sends all of it.
async fn push(stream: &mut SendStream, source: Source) -> Result<(), Failure> {
    for block in source {
        stream.write_chunk(block).await.map_err(Failure::of)?;
    }
    stream.finish().map_err(Failure::of)
}

/// Receives to the end. What was measured, and the hash.
async fn fetch(
    stream: &mut RecvStream,
    bytes: u64,
    label: &'static str,
    out: Out,
) -> Result<(Measured, String), Failure> {
    let (hasher, hash) = hashing();
    let mut meter = Meter::new(Instant::now());
    let mut bar = Progress::new(out, label, bytes);
    while let Some(chunk) = stream.read_chunk(BLOCK).await.map_err(Failure::of)? {
        meter.got(Instant::now(), chunk.len());
        bar.at(meter.bytes());
        feed(&hasher, chunk).await?;
    }
    let measured = meter.end(Instant::now());
    drop((bar, hasher));
    Ok((measured, hash.await))
}

/// Hashes on a thread of its own, so that the transfer is what is timed.
fn hashing() -> (Sender<Bytes>, Task<String>) {
    let (sender, receiver) = bounded(QUEUE);
    (sender, smol::unblock(move || sha256(std::iter::from_fn(|| receiver.recv_blocking().ok()))))
}

fn sha256(blocks: impl Iterator<Item = Bytes>) -> String {
    let mut context = Context::new(&SHA256);
    blocks.for_each(|block| context.update(&block));
    HEXLOWER.encode(context.finish().as_ref())
}

async fn feed(hasher: &Sender<Bytes>, block: Bytes) -> Result<(), Failure> {
    hasher.send(block).await.map_err(|_| Failure::Failed("the hashing thread is gone".into()))
}
