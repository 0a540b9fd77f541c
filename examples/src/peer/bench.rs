//! `peer bench`: bulk data one way, measured where it arrives.

use std::time::Instant;

use smol::{future::or, io::AsyncWriteExt};

use super::client::Session;
use crate::{
    bench::{receive, send},
    clock::{ms, seconds},
    events::path_text,
    failure::Failure,
    meter::{Measured, Meter},
    progress::Progress,
    protocol::{Load, Request, read_report},
};

pub(super) async fn run(session: &Session, load: Load, down: bool) -> Result<(), Failure> {
    session.probe().await?;
    let measured = if down { fetch(session, load).await? } else { push(session, load).await? };
    note(session, &measured);
    let (megabytes, rate) = (measured.bytes as f64 / 1e6, measured.mbit_per_second());
    session.out.say(&format!(
        "{} {megabytes:.3} MB in {:.3} s: {rate:.2} Mbit/s, {:.2} MB/s, longest stall {:.1} ms, by {}",
        if down { "down" } else { "up" },
        measured.time.as_secs_f64(),
        rate / 8.0,
        ms(measured.longest_stall),
        path_text(session.conn.path()),
    ));
    match load.bytes {
        Some(bytes) if bytes != measured.bytes => {
            Err(Failure::Failed(format!("{} of {bytes} bytes arrived", measured.bytes)))
        }
        _ => Ok(()),
    }
}

/// Into the summary, where it stays even if the rest fails.
fn note(session: &Session, measured: &Measured) {
    let summary = &mut session.seen.lock().summary;
    summary.bytes = Some(measured.bytes);
    summary.seconds = Some(seconds(measured.time));
    summary.longest_stall_ms = Some(ms(measured.longest_stall));
}

async fn push(session: &Session, load: Load) -> Result<Measured, Failure> {
    let (mut stream, mut answer) = session.conn.open_bi().await.map_err(Failure::of)?;
    stream.write_all(&Request::BenchUp.to_bytes()).await.map_err(Failure::of)?;
    {
        let mut bar = bar(session, load, "up");
        send(&mut stream, load, |bytes| bar.iter_mut().for_each(|bar| bar.at(bytes))).await.map_err(Failure::of)?;
    }
    stream.finish().map_err(Failure::of)?;
    read_report(&mut answer).await.map_err(|e| Failure::new("no report came back", e))
}

async fn fetch(session: &Session, load: Load) -> Result<Measured, Failure> {
    let (mut ask, mut stream) = session.conn.open_bi().await.map_err(Failure::of)?;
    ask.write_all(&Request::BenchDown(load).to_bytes()).await.map_err(Failure::of)?;
    ask.finish().map_err(Failure::of)?;
    let mut meter = Meter::new(Instant::now());
    let mut bar = bar(session, load, "down");
    let result = or(receive(&mut stream, &mut meter, |bytes| bar.iter_mut().for_each(|bar| bar.at(bytes))), async {
        Err(direc_smol::ReadError::Closed(session.conn.closed().await))
    })
    .await;
    let measured = meter.end(Instant::now());
    if let Err(error) = result {
        note(session, &measured);
        return Err(Failure::of(error));
    }
    Ok(measured)
}

/// A bar for what the load ends at.
fn bar(session: &Session, load: Load, label: &'static str) -> Option<Progress> {
    let timed = || load.time.map(|time| Progress::timed(session.out, label, time));
    load.bytes.map(|bytes| Progress::new(session.out, label, bytes)).or_else(timed)
}
