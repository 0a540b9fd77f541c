//! Streams and datagrams of one connection: what this side opened is sent and verified, what the other side opened is
//! echoed (bi) or verified (uni).

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use direc_core::{
    Connection,
    quic_types::{Dir, ReadError, SendDatagramError, StreamEvent, StreamId, VarInt, WriteError},
};

use super::{ConnLog, Flow, Pace, Work, pattern};

/// Bytes of a ping.
const PING: u64 = 16;
/// An echoing side holds at most this much that the other side has not taken back yet.
const ECHO_BUFFER: usize = 1 << 20;
/// Bytes read at once.
const READ: usize = 64 << 10;
/// Length of the datagrams that are sent.
const DATAGRAM: usize = 100;

/// How often a flow's next bytes come up.
const TICK: Duration = Duration::from_millis(5);
/// How often the next part of a message comes up.
const PART_TICK: Duration = Duration::from_micros(250);

/// What one stream is for.
#[derive(Debug)]
struct Stream {
    /// Bytes of the pattern still to be sent, by the side that opened it.
    to_send: u64,
    sent: u64,
    /// More comes up until this time, if it is a flow: since when it runs, and what it is.
    flow: Option<(Duration, Flow)>,
    /// Parts of messages that have come up.
    parts: usize,
    /// The bytes to be echoed, by the side that did not.
    echo: VecDeque<Bytes>,
    held: usize,
    /// Whether this side opened it.
    ours: bool,
    dir: Dir,
    read: u64,
    read_done: bool,
    write_done: bool,
}

/// All streams of a connection.
#[derive(Debug, Default)]
pub(super) struct Streams {
    streams: BTreeMap<StreamId, Stream>,
    /// Streams that could not be opened yet.
    waiting: VecDeque<(Dir, u64)>,
    /// Flows that wait for a stream likewise.
    flows: VecDeque<(Duration, Flow)>,
    datagrams_left: u32,
    returning: VecDeque<Bytes>,
    /// Unidirectional streams are read only so often, and next at that time.
    reading: Option<(Duration, Duration)>,
}

impl Streams {
    /// Streams that are read only so often, from now on; at once if `None`.
    pub(super) fn reading(every: Option<Duration>, now: Duration) -> Self {
        Self { reading: every.map(|every| (every, now + every)), ..Self::default() }
    }

    /// Begins to work.
    pub(super) fn start(&mut self, conn: &mut Connection<'_>, log: &mut ConnLog, at: Duration, work: Work) {
        if work.ping {
            self.waiting.push_back((Dir::Bi, PING));
        }
        if work.echo > 0 {
            self.waiting.push_back((Dir::Bi, work.echo));
        }
        if work.upload > 0 {
            self.waiting.push_back((Dir::Uni, work.upload));
        }
        if let Some(flow) = work.flow {
            self.flows.push_back((at, flow));
        }
        self.datagrams_left += work.datagrams;
        self.open(conn, log);
        self.datagrams(conn, log);
    }

    fn open(&mut self, conn: &mut Connection<'_>, log: &mut ConnLog) {
        for _ in 0..self.waiting.len() {
            let Some((dir, to_send)) = self.waiting.pop_front() else { return };
            match conn.open(dir) {
                Some(id) => {
                    self.streams.insert(id, Stream::new(dir, true, to_send));
                    self.pump(conn, log, Duration::MAX, id);
                }
                None => self.waiting.push_back((dir, to_send)),
            }
        }
        while let Some(&flow) = self.flows.front() {
            let Some(id) = conn.open(Dir::Uni) else { return };
            self.flows.pop_front();
            self.streams.insert(id, Stream { flow: Some(flow), ..Stream::new(Dir::Uni, true, 0) });
        }
    }

    /// Sends what has come up of flows. When more will.
    pub(super) fn tick(&mut self, conn: &mut Connection<'_>, log: &mut ConnLog, at: Duration) -> Option<Duration> {
        let mut next = (!self.flows.is_empty()).then_some(at + TICK);
        let flowing: Vec<StreamId> =
            self.streams.iter().filter(|(_, stream)| stream.flow.is_some()).map(|(&id, _)| id).collect();
        for id in flowing {
            let more = self.streams.get_mut(&id).and_then(|stream| stream.flow_on(at));
            next = next.into_iter().chain(more).min();
            self.pump(conn, log, at, id);
        }
        next.into_iter().chain(self.read_late(conn, log, at)).min()
    }

    /// Reads what was not read at once. When it is time again.
    fn read_late(&mut self, conn: &mut Connection<'_>, log: &mut ConnLog, at: Duration) -> Option<Duration> {
        let (every, due) = self.reading?;
        if due > at {
            return Some(due);
        }
        // Due is what a pump needs to see.
        self.reading = Some((every, at));
        let late: Vec<StreamId> =
            self.streams.iter().filter(|(_, stream)| stream.is_for_later()).map(|(&id, _)| id).collect();
        for id in late {
            self.pump(conn, log, at, id);
        }
        self.reading = Some((every, at + every));
        Some(at + every)
    }

    /// Reacts to what happened on a stream.
    pub(super) fn on_event(&mut self, conn: &mut Connection<'_>, log: &mut ConnLog, at: Duration, event: &StreamEvent) {
        match event {
            StreamEvent::Opened { dir } => {
                while let Some(id) = conn.accept(*dir) {
                    self.streams.insert(id, Stream::new(*dir, false, 0));
                    self.pump(conn, log, at, id);
                }
            }
            StreamEvent::Readable { id } | StreamEvent::Writable { id } => self.pump(conn, log, at, *id),
            StreamEvent::Finished { id } => {
                if let Some(stream) = self.streams.get_mut(id)
                    && stream.ours
                    && stream.dir == Dir::Uni
                {
                    log.uploaded += stream.sent;
                    self.streams.remove(id);
                }
            }
            StreamEvent::Stopped { id, .. } => {
                // The other application never stops a stream.
                log.mistakes.push(format!("{id} was stopped"));
                self.streams.remove(id);
            }
            StreamEvent::Available { .. } => self.open(conn, log),
        }
        let ours = |stream: &Stream| stream.ours;
        if log.done_at.is_none() && self.waiting.is_empty() && self.flows.is_empty() && !self.streams.values().any(ours)
        {
            log.done_at = Some(at);
        }
    }

    /// Moves what can be moved on a stream.
    fn pump(&mut self, conn: &mut Connection<'_>, log: &mut ConnLog, at: Duration, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.is_for_later() && self.reading.is_some_and(|(_, due)| due > at) {
            return;
        }
        if let Err(mistake) = stream.pump(conn, log, at, id) {
            log.mistakes.push(mistake);
            // Gone wrong or gone with the connection: either way there is no more to do.
            let _ = conn.reset(id, VarInt::from_u32(1));
            let _ = conn.stop(id, VarInt::from_u32(1));
            self.streams.remove(&id);
        } else if stream.over() {
            self.streams.remove(&id);
        }
    }

    /// Sends, echoes and counts datagrams.
    pub(super) fn datagrams(&mut self, conn: &mut Connection<'_>, log: &mut ConnLog) {
        while let Some(data) = conn.recv_datagram() {
            let echo = data.first() == Some(&1);
            let body = data.get(1..).unwrap_or_default();
            if body.len() != DATAGRAM - 1 || !pattern::matches(0, body) {
                log.mistakes.push("a datagram has changed".into());
            } else if echo {
                log.datagrams.2 += 1;
            } else {
                log.datagrams.1 += 1;
                self.returning.push_back([&[1], body].concat().into());
            }
        }
        let fits = conn.max_datagram_size().is_some_and(|max| max >= DATAGRAM);
        while fits && (self.datagrams_left > 0 || !self.returning.is_empty()) {
            let ours = self.returning.is_empty();
            let data = match self.returning.front() {
                Some(data) => data.clone(),
                None => [&[0], &pattern::piece(0, DATAGRAM as u64 - 1)[..]].concat().into(),
            };
            match conn.send_datagram(data) {
                Ok(()) if ours => {
                    self.datagrams_left -= 1;
                    log.datagrams.0 += 1;
                }
                Ok(()) => drop(self.returning.pop_front()),
                // Room comes with an event; anything else means that the other side takes none.
                Err(SendDatagramError::Blocked(_)) => break,
                Err(_) => {
                    self.datagrams_left = 0;
                    self.returning.clear();
                }
            }
        }
    }
}

impl Stream {
    fn new(dir: Dir, ours: bool, to_send: u64) -> Self {
        Self {
            to_send,
            sent: 0,
            flow: None,
            parts: 0,
            echo: VecDeque::new(),
            held: 0,
            ours,
            dir,
            read: 0,
            // A uni stream has no way back.
            read_done: ours && dir == Dir::Uni,
            write_done: !ours && dir == Dir::Uni,
        }
    }

    /// Whether it may be read only so often.
    fn is_for_later(&self) -> bool {
        !self.ours && self.dir == Dir::Uni
    }

    /// Whether both directions are through. Our own uni streams are over when acknowledged.
    fn over(&self) -> bool {
        self.read_done && self.write_done && !(self.ours && self.dir == Dir::Uni)
    }

    /// Lets a flow's bytes come up. When more will.
    fn flow_on(&mut self, at: Duration) -> Option<Duration> {
        let (since, flow) = self.flow?;
        let end = since + flow.lasts;
        match flow.pace {
            Pace::Full if at < end => self.to_send = u64::MAX,
            // What could not be sent by then is not sent any more.
            Pace::Full => self.to_send = self.sent,
            Pace::Rate(rate) => {
                let nanos = (at.min(end) - since).as_nanos();
                self.to_send = u64::try_from(nanos * u128::from(rate) / 8_000_000_000).unwrap_or(u64::MAX);
            }
            Pace::Parts(lens) if self.sent == self.to_send => {
                self.to_send += u64::from(lens[self.parts % lens.len()]);
                self.parts += 1;
            }
            Pace::Parts(_) => {}
        }
        if at >= end {
            self.flow = None;
            return None;
        }
        Some(match flow.pace {
            Pace::Full => end,
            Pace::Rate(_) => end.min(at + TICK),
            Pace::Parts(_) => end.min(at + PART_TICK),
        })
    }

    fn pump(&mut self, conn: &mut Connection<'_>, log: &mut ConnLog, at: Duration, id: StreamId) -> Result<(), String> {
        loop {
            let before = (self.sent, self.read, self.read_done, self.write_done);
            self.write(conn, log, id)?;
            self.receive(conn, log, at, id)?;
            if before == (self.sent, self.read, self.read_done, self.write_done) {
                return Ok(());
            }
        }
    }

    fn write(&mut self, conn: &mut Connection<'_>, log: &mut ConnLog, id: StreamId) -> Result<(), String> {
        while !self.write_done {
            let next = if self.ours {
                (self.sent < self.to_send).then(|| pattern::piece(self.sent, self.to_send - self.sent))
            } else {
                self.echo.pop_front()
            };
            let Some(next) = next else {
                let all = if self.ours { self.sent == self.to_send && self.flow.is_none() } else { self.read_done };
                if all {
                    conn.finish(id).map_err(|e| format!("{id}: {e}"))?;
                    self.write_done = true;
                }
                return Ok(());
            };
            let mut chunks = [next];
            let written = match conn.write(id, &mut chunks) {
                Ok(written) => written,
                Err(WriteError::Blocked) => 0,
                Err(e) => return Err(format!("writing {id}: {e}")),
            };
            self.sent += written as u64;
            let [rest] = chunks;
            if !self.ours {
                self.held -= written;
                log.served += written as u64;
                if !rest.is_empty() {
                    self.echo.push_front(rest);
                }
            }
            if written == 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    fn receive(
        &mut self,
        conn: &mut Connection<'_>,
        log: &mut ConnLog,
        at: Duration,
        id: StreamId,
    ) -> Result<(), String> {
        while !self.read_done && self.held < ECHO_BUFFER {
            match conn.read(id, READ) {
                Ok(Some(data)) => {
                    if !pattern::matches(self.read, &data) {
                        return Err(format!("{id}: wrong bytes after {}", self.read));
                    }
                    self.read += data.len() as u64;
                    if self.ours {
                        log.first_echo_at.get_or_insert(at);
                        log.echoed += data.len() as u64;
                    } else if self.dir == Dir::Bi {
                        self.held += data.len();
                        self.echo.push_back(data);
                    } else {
                        log.verified += data.len() as u64;
                        log.deliveries.note(at, data.len() as u64);
                    }
                }
                Ok(None) => {
                    self.read_done = true;
                    if self.ours && self.read != self.to_send {
                        return Err(format!("{id}: {} of {} came back", self.read, self.to_send));
                    }
                }
                Err(ReadError::Blocked) => return Ok(()),
                Err(e) => return Err(format!("reading {id}: {e}")),
            }
        }
        Ok(())
    }
}
