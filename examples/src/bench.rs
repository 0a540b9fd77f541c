//! The two ends of a bulk transfer: one sends a [`Load`], the other measures.

use std::time::Instant;

use bytes::Bytes;
use direc_smol::{ReadError, RecvStream, SendStream, WriteError};
use smol::{Timer, future::or};

use crate::{
    meter::{Measured, Meter},
    pace::Pace,
    protocol::Load,
};

/// How much goes into a stream, and is read from it, at once.
pub const BLOCK: usize = 64 << 10;

/// Sends until the load's bytes are sent or its time is over. Tells `progress` how much it has been so far.
///
/// # Errors
/// If the stream breaks.
pub async fn send(stream: &mut SendStream, load: Load, progress: impl FnMut(u64)) -> Result<(), WriteError> {
    let Some(time) = load.time else { return send_all(stream, load, None, progress).await };
    // Looked at between blocks, too: a stream that never makes its writer wait gives the timer no turn.
    let end = Instant::now() + time;
    or(send_all(stream, load, Some(end), progress), async {
        Timer::at(end).await;
        Ok(())
    })
    .await
}

async fn send_all(
    stream: &mut SendStream,
    load: Load,
    end: Option<Instant>,
    mut progress: impl FnMut(u64),
) -> Result<(), WriteError> {
    let block = Bytes::from(vec![0; BLOCK]);
    let mut pace = load.bits_per_second.map(|rate| Pace::new(rate, Instant::now()));
    let mut sent = 0;
    while load.bytes.is_none_or(|bytes| sent < bytes) && end.is_none_or(|end| Instant::now() < end) {
        let left = load.bytes.map_or(u64::MAX, |bytes| bytes - sent);
        let most = BLOCK.min(usize::try_from(left).unwrap_or(BLOCK));
        let size = match &mut pace {
            None => most,
            Some(pace) => match pace.take(Instant::now(), most) {
                (0, next) => {
                    Timer::at(next).await;
                    continue;
                }
                (size, _) => size,
            },
        };
        stream.write_chunk(block.slice(..size)).await?;
        sent += size as u64;
        progress(sent);
    }
    Ok(())
}

/// Reads to the stream's end. Tells `progress` how much it has been so far.
///
/// # Errors
/// If the stream breaks; what was measured until then is in the meter.
pub async fn receive(
    stream: &mut RecvStream,
    meter: &mut Meter,
    mut progress: impl FnMut(u64),
) -> Result<(), ReadError> {
    while let Some(chunk) = stream.read_chunk(BLOCK).await? {
        meter.got(Instant::now(), chunk.len());
        progress(meter.bytes());
    }
    Ok(())
}

/// Reads to the stream's end and measures.
///
/// # Errors
/// If the stream breaks.
pub async fn measure(stream: &mut RecvStream) -> Result<Measured, ReadError> {
    let mut meter = Meter::new(Instant::now());
    receive(stream, &mut meter, |_| ()).await?;
    Ok(meter.end(Instant::now()))
}
