//! One connection, as its handles see it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use direc_core::{
    CloseReason, ConnId, Connection, ConnectionStats, DirectFailure, NodeId, Path, PathReason, PeerEvent, Role,
    quic_types::{Dir, StreamEvent, StreamId},
};

use super::streams::{Receiver, Sender};
use crate::{
    connection::ConnectionStatus,
    news::PathNews,
    signal::{Signals, Wakes},
};

/// Path news kept for watches that come late or are slow. A connection that moves more often than that is told of by
/// where it is now.
const PATH_LOG: usize = 64;

/// One connection that stands, or has ended and still has handles.
pub(crate) struct Conn {
    pub(crate) peer: NodeId,
    pub(crate) role: Role,
    pub(crate) path: Path,
    /// Why it runs on that path.
    pub(crate) chosen: PathReason,
    pub(crate) signals: Arc<Signals>,
    pub(crate) closed: Option<CloseReason>,
    /// When it ended, the other side had acknowledged all that was finished.
    pub(super) delivered: bool,
    /// Why there is no direct path, while punching is given up.
    pub(crate) not_direct: Option<DirectFailure>,
    /// The figures when it ended; until then, those when it began.
    pub(crate) last_stats: ConnectionStats,
    /// Path news, the first of them number `log_start`.
    log: VecDeque<PathNews>,
    log_start: u64,
    moved_at: Instant,
    pub(super) senders: BTreeMap<StreamId, Sender>,
    pub(super) receivers: BTreeMap<StreamId, Receiver>,
    /// How many of the other side's bidirectional streams were accepted.
    pub(super) accepted_bi: u64,
    /// Codes of streams that the other side opened and stopped before they were accepted: no more than it may open.
    pub(super) stopped_early: BTreeMap<StreamId, u64>,
    /// What had arrived and nobody had taken when the connection ended, streams by [`Dir`].
    pub(super) late_streams: [VecDeque<StreamId>; 2],
    pub(super) late_datagrams: VecDeque<Bytes>,
}

/// How far a watch has got.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PathCursor(u64);

impl Conn {
    pub(super) fn new(now: Instant, connection: &Connection<'_>, path: Path) -> Self {
        let chosen = connection.chosen();
        Self {
            peer: connection.peer(),
            role: connection.role(),
            path,
            chosen,
            signals: Arc::default(),
            closed: None,
            delivered: false,
            not_direct: None,
            last_stats: connection.stats(),
            // A direct path is told of by an event of its own, which follows at once.
            log: Some(path)
                .filter(|path| !path.is_direct())
                .map(|path| PathNews::Moved { path, rtt: None, why: chosen, at: now })
                .into_iter()
                .collect(),
            log_start: 0,
            moved_at: now,
            senders: BTreeMap::new(),
            receivers: BTreeMap::new(),
            accepted_bi: 0,
            stopped_early: BTreeMap::new(),
            late_streams: Default::default(),
            late_datagrams: VecDeque::new(),
        }
    }

    /// How it stands, but for the paths, which the core knows.
    pub(super) fn status(&self, conn: ConnId) -> ConnectionStatus {
        let Self { peer, role, path, chosen, moved_at: since, .. } = *self;
        ConnectionStatus { conn, peer, role, path, chosen, since, paths: Vec::new() }
    }

    pub(super) fn on_event(&mut self, now: Instant, event: PeerEvent, wakes: &mut Wakes) {
        match event {
            PeerEvent::Path { path, rtt, why, .. } => {
                (self.path, self.chosen, self.moved_at) = (path, why, now);
                if path.is_direct() {
                    self.not_direct = None;
                }
                self.on_path(PathNews::Moved { path, rtt, why, at: now }, wakes);
            }
            PeerEvent::NotDirect { why, .. } => {
                self.not_direct = Some(why);
                self.on_path(PathNews::NotDirect(why), wakes);
            }
            PeerEvent::DirectHeard { address, .. } => self.on_path(PathNews::DirectHeard(address), wakes),
            PeerEvent::DatagramReceived { .. } => wakes.ring(&self.signals.datagram),
            _ => {}
        }
    }

    fn on_path(&mut self, news: PathNews, wakes: &mut Wakes) {
        if self.log.len() == PATH_LOG {
            self.log.pop_front();
            self.log_start += 1;
        }
        self.log.push_back(news);
        wakes.ring(&self.signals.path);
    }

    /// The next path news after `cursor`.
    pub(crate) fn next_path_news(&self, cursor: &mut PathCursor) -> Option<PathNews> {
        let end = self.log_start + self.log.len() as u64;
        if cursor.0 < self.log_start {
            cursor.0 = end;
            return Some(PathNews::Moved { path: self.path, rtt: None, why: self.chosen, at: self.moved_at });
        }
        let news = self.log.get(usize::try_from(cursor.0 - self.log_start).ok()?)?;
        cursor.0 += 1;
        Some(*news)
    }

    pub(super) fn on_stream(&mut self, event: StreamEvent, wakes: &mut Wakes) {
        match event {
            StreamEvent::Opened { dir } => wakes.ring(&self.signals.opened[dir as usize]),
            StreamEvent::Available { dir } => wakes.ring(&self.signals.available[dir as usize]),
            StreamEvent::Readable { id } => {
                wakes.add(self.receivers.get_mut(&id).and_then(|receiver| receiver.waker.take()));
            }
            StreamEvent::Writable { id } => {
                wakes.add(self.senders.get_mut(&id).and_then(|sender| sender.waker.take()));
            }
            StreamEvent::Finished { id } => self.on_outcome(id, None, wakes),
            StreamEvent::Stopped { id, error_code } => self.on_outcome(id, Some(error_code.into_inner()), wakes),
        }
    }

    /// The other side has everything, or wants no more.
    fn on_outcome(&mut self, id: StreamId, stopped: Option<u64>, wakes: &mut Wakes) {
        if let Some(sender) = self.senders.get_mut(&id) {
            sender.outcome.get_or_insert(stopped);
            wakes.add(sender.waker.take());
        } else if let Some(code) = stopped
            && self.is_to_be_accepted(id)
        {
            self.stopped_early.insert(id, code);
        }
    }

    fn is_to_be_accepted(&self, id: StreamId) -> bool {
        let ours = id.initiator().is_client() == (self.role == Role::P2);
        id.dir() == Dir::Bi && !ours && id.index() >= self.accepted_bi
    }

    /// The connection has ended. What the other side sent before it closed can still be read.
    pub(super) fn on_closed(&mut self, reason: CloseReason, connection: Option<Connection<'_>>, wakes: &mut Wakes) {
        if let Some(mut connection) = connection {
            self.last_stats = connection.stats();
            self.delivered = connection.is_delivered();
            if reason != CloseReason::Locally {
                self.take_over(&mut connection);
            }
        }
        self.closed = Some(reason);
        wakes.add(self.senders.values_mut().filter_map(|sender| sender.waker.take()));
        wakes.add(self.receivers.values_mut().filter_map(|receiver| receiver.waker.take()));
        self.signals.ring_all(wakes);
    }

    /// Saves what has arrived from a connection that is about to go: no more than its windows allow.
    fn take_over(&mut self, connection: &mut Connection<'_>) {
        for dir in [Dir::Bi, Dir::Uni] {
            while let Some(id) = connection.accept(dir) {
                self.receivers.insert(id, Receiver::default());
                self.late_streams[dir as usize].push_back(id);
            }
        }
        for (&id, receiver) in &mut self.receivers {
            receiver.take_over(connection, id);
        }
        self.late_datagrams.extend(std::iter::from_fn(|| connection.recv_datagram()));
    }
}
