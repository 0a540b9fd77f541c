//! `peer ping`: round trips through the connection.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use direc_smol::{RecvStream, SendStream};
use smol::{
    Timer,
    future::or,
    io::{AsyncReadExt, AsyncWriteExt},
};

use super::client::Session;
use crate::{
    clock::{ms, seconds},
    events::{Event, path_text},
    failure::Failure,
    meter::Meter,
    protocol::{PING_LEN, Request},
};

/// After so long without any answer that is said, and again after each such time.
const SILENCE: Duration = Duration::from_secs(5);
/// How long the last answers may take: a stream loses nothing, but a path can die.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Tally {
    sent: u64,
    open: HashMap<u64, Instant>,
    trips: Vec<Duration>,
    /// When an answer came last.
    heard: Option<Instant>,
}

/// Counts even when it is broken off by Ctrl-C: the figures go into the summary when it is dropped.
struct Count<'a> {
    session: &'a Session,
    started: Instant,
    tally: Mutex<Tally>,
    meter: Mutex<Meter>,
}

impl Count<'_> {
    fn with<T>(&self, f: impl FnOnce(&mut Tally) -> T) -> T {
        f(&mut self.tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn answered(&self, seq: u64) {
        let now = Instant::now();
        let Some((trip, first)) = self.with(|tally| {
            let trip = now.saturating_duration_since(tally.open.remove(&seq)?);
            tally.trips.push(trip);
            tally.heard = Some(now);
            Some((trip, tally.trips.len() == 1))
        }) else {
            return;
        };
        self.meter.lock().unwrap_or_else(std::sync::PoisonError::into_inner).got(now, PING_LEN);
        let (session, path) = (self.session, self.session.conn.path());
        if first {
            session.first_byte();
        }
        session.out.event(&Event::Ping { seq, path: path.into(), rtt_ms: ms(trip) });
        session.out.say(&format!("seq {seq:<4} {:<28} {:>9.3} ms", path_text(path), ms(trip)));
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        let (sent, mut trips) = self.with(|tally| (tally.sent, std::mem::take(&mut tally.trips)));
        let meter = *self.meter.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let lost = sent - trips.len() as u64;
        {
            let summary = &mut self.session.seen.lock().summary;
            (summary.sent, summary.lost) = (Some(sent), Some(lost));
            summary.seconds = Some(seconds(self.started.elapsed()));
            summary.longest_stall_ms = (!trips.is_empty()).then(|| ms(meter.end(Instant::now()).longest_stall));
        }
        trips.sort_unstable();
        let (Some(&least), Some(&most)) = (trips.first(), trips.last()) else {
            return self.session.out.say(&format!("{sent} sent, none answered"));
        };
        let (least, median, most) = (ms(least), ms(trips[trips.len() / 2]), ms(most));
        self.session.out.say(&format!(
            "{sent} sent, {lost} lost; round trip least {least:.3}, median {median:.3}, most {most:.3} ms"
        ));
    }
}

pub(super) async fn run(session: &Session, count: Option<u64>, interval: Duration) -> Result<(), Failure> {
    let (mut send, mut recv) = session.conn.open_bi().await.map_err(Failure::of)?;
    let now = Instant::now();
    let tally = Count { session, started: now, tally: Mutex::default(), meter: Mutex::new(Meter::new(now)) };
    let work = or(ask(&tally, &mut send, count, interval), listen(&tally, &mut recv, count));
    or(work, tell_of_silence(&tally, SILENCE.max(interval * 2))).await?;
    match tally.with(|tally| tally.trips.is_empty()) {
        true => Err(Failure::Failed("none of the pings was answered".into())),
        false => Ok(()),
    }
}

async fn ask(tally: &Count<'_>, send: &mut SendStream, count: Option<u64>, interval: Duration) -> Result<(), Failure> {
    send.write_all(&Request::Ping.to_bytes()).await.map_err(Failure::of)?;
    let mut due = Instant::now();
    for seq in 1..=count.unwrap_or(u64::MAX) {
        Timer::at(due).await;
        // The clock starts before the stream takes the bytes, so that time spent waiting for it counts.
        let now = Instant::now();
        tally.with(|tally| {
            tally.sent += 1;
            tally.open.insert(seq, now);
        });
        let mut message = [0; PING_LEN];
        message[..8].copy_from_slice(&seq.to_be_bytes());
        send.write_all(&message).await.map_err(Failure::of)?;
        // After a stall the pings go on at their pace, rather than all that were missed at once.
        due = now.max(due + interval);
    }
    Timer::after(LAST_ANSWERS).await;
    Ok(())
}

/// Says so while nothing comes back. Never done.
async fn tell_of_silence(tally: &Count<'_>, after: Duration) -> Result<(), Failure> {
    let mut due = tally.started + after;
    loop {
        Timer::at(due).await;
        let heard = tally.with(|tally| tally.heard).unwrap_or(tally.started);
        let silent = Instant::now().saturating_duration_since(heard);
        due = if silent >= after {
            tally.session.out.note(&format!("no answer for {} s", silent.as_secs()));
            Instant::now() + after
        } else {
            heard + after
        };
    }
}

async fn listen(tally: &Count<'_>, recv: &mut RecvStream, count: Option<u64>) -> Result<(), Failure> {
    let mut answers = 0;
    while Some(answers) != count {
        let mut message = [0; PING_LEN];
        recv.read_exact(&mut message).await.map_err(Failure::of)?;
        let seq = message[..8].iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        tally.answered(seq);
        answers += 1;
    }
    Ok(())
}
