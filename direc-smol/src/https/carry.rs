//! A tunnel at work: datagrams from the node's transmits into TLS, and from TLS into the node.

use std::{
    collections::BTreeMap,
    fmt,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use async_io::Timer;
use bytes::BytesMut;
use direc_core::{Arrival, Link, Transmit, TunnelError, TunnelQueue, TunnelReader};

use super::stream::TlsStream;
use crate::node::{Machine, Node};

/// Bytes that one tunnel moves each way before others on its thread have their turn.
const TURN: usize = 256 << 10;
/// Read from TLS at once: what one record holds.
const READ: usize = 16 << 10;
/// Datagrams of one length that the node takes at once: as much as one buffer of a UDP socket holds.
const RUN: usize = 64 << 10;
/// A tunnel by which nothing has come for so long is dead: its peer refreshes its registration at least every minute.
const SILENCE: Duration = Duration::from_secs(90);
/// A tunnel whose other side has taken nothing for so long, though there is something to take, is dead.
const STALL: Duration = Duration::from_secs(20);

/// Bytes that wait for all tunnels of a node together: what some hundreds of slow readers may hold up, and no more.
const MAX_WAITING: usize = 128 << 20;

/// Why a tunnel has ended.
#[derive(Debug)]
pub(crate) enum TunnelEnd {
    /// The other side said good-bye.
    Closed,
    Io(io::Error),
    /// What came is no datagram.
    Nonsense(TunnelError),
    /// Nothing came for [`SILENCE`].
    Silent,
    /// Nothing was taken for [`STALL`].
    Stalled,
}

impl fmt::Display for TunnelEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed by the other side"),
            Self::Io(error) => write!(f, "{error}"),
            Self::Nonsense(error) => write!(f, "{error}"),
            Self::Silent => write!(f, "nothing came for {} s", SILENCE.as_secs()),
            Self::Stalled => write!(f, "the other side took nothing for {} s", STALL.as_secs()),
        }
    }
}

impl From<io::Error> for TunnelEnd {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The node's end of a tunnel: what waits to go in, and who is to be told of it.
pub(crate) struct Line {
    waiting: Mutex<Waiting>,
    /// Bytes that wait for all tunnels.
    total: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Waiting {
    queue: TunnelQueue,
    task: Option<Waker>,
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues datagrams; gives how many were dropped.
    fn push(&self, bytes: &[u8], segment: usize) -> u64 {
        let mut waiting = self.lock();
        if self.total.load(Ordering::Relaxed) >= MAX_WAITING {
            return bytes.len().div_ceil(segment) as u64;
        }
        let before = waiting.queue.len();
        let dropped = waiting.queue.push(bytes, segment);
        self.total.fetch_add(waiting.queue.len() - before, Ordering::Relaxed);
        let task = waiting.task.take();
        drop(waiting);
        if let Some(task) = task {
            task.wake();
        }
        dropped
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let left = self.lock().queue.len();
        self.total.fetch_sub(left, Ordering::Relaxed);
    }
}

/// All tunnels of a node that are up, by number.
#[derive(Default)]
pub(crate) struct Lines {
    by_number: Mutex<BTreeMap<u32, Arc<Line>>>,
    total: Arc<AtomicUsize>,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<Line>>> {
        self.by_number.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, number: u32) -> Arc<Line> {
        let line = Arc::new(Line { waiting: Mutex::default(), total: self.total.clone() });
        self.lock().insert(number, line.clone());
        line
    }

    /// Queues a transmit. Gives how many of its datagrams were dropped: all, if there is no such tunnel.
    pub(crate) fn send(&self, number: u32, transmit: &Transmit, bytes: &[u8]) -> u64 {
        let bytes = &bytes[..transmit.size.min(bytes.len())];
        let segment = transmit.segment_size.unwrap_or(bytes.len()).max(1);
        let line = self.lock().get(&number).cloned();
        match line {
            Some(line) => line.push(bytes, segment),
            None => bytes.len().div_ceil(segment) as u64,
        }
    }
}

/// A tunnel that is up: gone again when dropped, and its node told.
pub(crate) struct Tunnel<'a, M: Machine> {
    node: &'a Node<M>,
    number: u32,
    remote: SocketAddr,
    line: Arc<Line>,
}

impl<'a, M: Machine> Tunnel<'a, M> {
    pub(crate) fn open(node: &'a Node<M>, number: u32, remote: SocketAddr) -> Self {
        let line = node.lines.open(number);
        node.call(|machine, now| machine.tunnel_up(now, number, remote));
        Self { node, number, remote, line }
    }

    /// Carries datagrams until the tunnel ends. `early` are bytes that have come already.
    pub(crate) async fn carry(&self, stream: &mut TlsStream, early: &[u8]) -> TunnelEnd {
        let mut reader = TunnelReader::default();
        reader.extend(early);
        if let Err(end) = self.hand_over(&mut reader) {
            return end;
        }
        let mut buf = vec![0; READ];
        let now = Instant::now();
        let mut watch = Watch { heard: now, taken: now, timer: Timer::after(STALL) };
        poll_fn(|cx| self.poll(cx, stream, &mut reader, &mut buf, &mut watch)).await
    }

    fn poll(
        &self,
        cx: &mut Context<'_>,
        stream: &mut TlsStream,
        reader: &mut TunnelReader,
        buf: &mut [u8],
        watch: &mut Watch,
    ) -> Poll<TunnelEnd> {
        let result = self.poll_out(cx, stream, watch).and_then(|more| {
            let read = self.poll_in(cx, stream, reader, buf, watch)?;
            // What came may have brought about an answer, which had better leave with the next record.
            Ok(more | read)
        });
        match result {
            Err(end) => return Poll::Ready(end),
            Ok(true) => cx.waker().wake_by_ref(),
            Ok(false) => {}
        }
        watch.poll(cx, self.line.lock().queue.is_empty())
    }

    /// Queue to TLS to socket. Gives whether there is more that could be done at once.
    fn poll_out(&self, cx: &mut Context<'_>, stream: &mut TlsStream, watch: &mut Watch) -> Result<bool, TunnelEnd> {
        let mut moved = 0;
        while moved < TURN {
            let mut waiting = self.line.lock();
            // In this order: what is queued from now on wakes this task.
            waiting.task = Some(cx.waker().clone());
            let mut taken = 0;
            while !waiting.queue.is_empty() {
                let count = stream.buffer(waiting.queue.front())?;
                if count == 0 {
                    break;
                }
                waiting.queue.consume(count);
                taken += count;
            }
            drop(waiting);
            self.line.total.fetch_sub(taken, Ordering::Relaxed);
            match stream.poll_flush(cx) {
                Poll::Ready(result) => result?,
                // The socket is full: its having room wakes this task, and what is queued meanwhile does not.
                Poll::Pending => {
                    self.line.lock().task = None;
                    return Ok(false);
                }
            }
            watch.taken = Instant::now();
            if taken == 0 {
                return Ok(false);
            }
            moved += taken;
        }
        Ok(true)
    }

    /// Socket to TLS to node. Gives whether there is more that could be done at once.
    fn poll_in(
        &self,
        cx: &mut Context<'_>,
        stream: &mut TlsStream,
        reader: &mut TunnelReader,
        buf: &mut [u8],
        watch: &mut Watch,
    ) -> Result<bool, TunnelEnd> {
        let (mut moved, mut gathered) = (0, 0);
        let mut end = None;
        while moved < TURN {
            let count = match stream.poll_read(cx, buf) {
                Poll::Ready(Ok(count)) if count > 0 => count,
                Poll::Ready(Err(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                    end = Some(error.into());
                    break;
                }
                Poll::Ready(_) => {
                    end = Some(TunnelEnd::Closed);
                    break;
                }
                Poll::Pending => break,
            };
            watch.heard = Instant::now();
            reader.extend(&buf[..count]);
            (moved, gathered) = (moved + count, gathered + count);
            // Some records together are one call into the node.
            if gathered >= RUN {
                self.hand_over(reader)?;
                gathered = 0;
            }
        }
        // Also what came right before the end: it may say why.
        self.hand_over(reader)?;
        end.map_or(Ok(moved >= TURN), Err)
    }

    /// Gives whole datagrams to the node: as many of one length as there are in one buffer.
    fn hand_over(&self, reader: &mut TunnelReader) -> Result<(), TunnelEnd> {
        let mut runs: Vec<(usize, BytesMut)> = Vec::new();
        let mut open = false;
        let end = loop {
            let datagram = match reader.next_datagram() {
                Ok(Some(datagram)) => datagram,
                Ok(None) => break Ok(()),
                Err(error) => break Err(TunnelEnd::Nonsense(error)),
            };
            match runs.last_mut() {
                Some((stride, run)) if open && datagram.len() <= *stride && run.len() + *stride <= RUN => {
                    run.extend_from_slice(&datagram);
                    // Only the last of a run may be shorter.
                    open = datagram.len() == *stride;
                }
                _ => {
                    let mut run = BytesMut::with_capacity(datagram.len());
                    run.extend_from_slice(&datagram);
                    runs.push((datagram.len(), run));
                    open = true;
                }
            }
        };
        let (link, remote) = (Link::Tunnel(self.number), self.remote);
        if !runs.is_empty() {
            self.node.call(|machine, now| {
                for (stride, data) in runs {
                    machine.handle_datagram(now, Arrival { link, remote, ecn: None, stride }, data);
                }
            });
        }
        end
    }
}

impl<M: Machine> Drop for Tunnel<'_, M> {
    fn drop(&mut self) {
        let mut lines = self.node.lines.lock();
        // Another one may have come in its place.
        let own = lines.get(&self.number).is_some_and(|line| Arc::ptr_eq(line, &self.line));
        if own {
            lines.remove(&self.number);
        }
        drop(lines);
        if own {
            self.node.call(|machine, now| machine.tunnel_lost(now, self.number));
        }
    }
}

/// Whether the other side is still there.
struct Watch {
    /// When something came last.
    heard: Instant,
    /// When nothing was left waiting for the socket last.
    taken: Instant,
    timer: Timer,
}

impl Watch {
    fn poll(&mut self, cx: &mut Context<'_>, idle: bool) -> Poll<TunnelEnd> {
        let now = Instant::now();
        if idle {
            self.taken = now;
        }
        loop {
            if self.heard + SILENCE <= now {
                return Poll::Ready(TunnelEnd::Silent);
            }
            if self.taken + STALL <= now {
                return Poll::Ready(TunnelEnd::Stalled);
            }
            if Pin::new(&mut self.timer).poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer.set_at((self.taken + STALL).min(self.heard + SILENCE).max(now + Duration::from_millis(100)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use direc_core::TUNNEL_QUEUE;

    fn transmit(size: usize) -> Transmit {
        Transmit { segment_size: Some(1200), ..Transmit::one(Link::Tunnel(1), "192.0.2.1:1".parse().unwrap(), size) }
    }

    #[test]
    fn slow_readers_hold_up_a_bounded_number_of_bytes_each_and_together() {
        let (lines, bytes) = (Lines::default(), vec![0; 40 * 1200]);
        assert_eq!(lines.send(1, &transmit(bytes.len()), &bytes), 40, "there is no tunnel yet");
        let tunnels = MAX_WAITING / TUNNEL_QUEUE + 10;
        let open: Vec<_> = (0..tunnels as u32).map(|number| lines.open(number)).collect();
        for number in 0..tunnels as u32 {
            while lines.send(number, &transmit(bytes.len()), &bytes) == 0 {}
        }
        let total = || lines.total.load(Ordering::Relaxed);
        assert!(open.iter().all(|line| line.lock().queue.len() <= TUNNEL_QUEUE));
        assert!(total() >= MAX_WAITING && total() < MAX_WAITING + TUNNEL_QUEUE, "{}", total());
        lines.lock().clear();
        drop(open);
        assert_eq!(total(), 0);
    }
}
