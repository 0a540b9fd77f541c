//! A connection to another peer.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use direc_core::{
    CloseReason, ConnId, ConnectionStats, DirectFailure, NodeId, Path, PathReason, PathStatus, Role, quic_types::Dir,
};

use crate::{
    PathWatch, RecvStream, SendDatagramError, SendStream,
    hub::{Conn, PeerMachine, Standing},
    node::Guard,
    signal::Signals,
};

/// How long a connection that nobody has a handle to any more, or whose [`Peer`](crate::Peer) is closed, may take to
/// deliver what was finished on it. 10 s: more than what a full send buffer needs on a slow line as a rule, and little
/// enough for a program that ends to wait for somebody who is gone.
pub const DELIVERY_LIMIT: Duration = Duration::from_secs(10);

/// What a connection's handles and streams share. When the last is dropped, the connection delivers and closes.
pub(crate) struct Handle {
    guard: Arc<Guard<PeerMachine>>,
    conn: ConnId,
    peer: NodeId,
    role: Role,
    signals: Arc<Signals>,
    /// From when it was new: what to say of a connection that is not there any more, which does not happen.
    path: Path,
    stats: ConnectionStats,
}

impl Handle {
    pub(crate) fn call<R>(&self, f: impl FnOnce(&mut PeerMachine, ConnId, Instant) -> R) -> R {
        self.guard.call(|machine, now| f(machine, self.conn, now))
    }

    /// The program abandons a stream: [`Connection::finish`] waits for it no longer.
    pub(crate) fn on_reset(&self) {
        self.signals.delivered.tell();
    }

    fn look<R>(&self, f: impl FnOnce(&Conn) -> R) -> Option<R> {
        self.guard.look(|machine| machine.conn(self.conn).map(f))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.call(|machine, conn, now| machine.release(now, conn));
        // Watches of the path outlive the handles.
        self.signals.path.tell();
    }
}

/// How a connection stands, at the moment of asking: see [`Peer::connections`](crate::Peer::connections).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ConnectionStatus {
    /// Its number within this peer; never used twice.
    pub conn: ConnId,
    /// The other peer.
    pub peer: NodeId,
    /// This side's part: P2 or P4.
    pub role: Role,
    /// The path that carries data.
    pub path: Path,
    /// Why it is that one.
    pub chosen: PathReason,
    /// Since when it is.
    pub since: Instant,
    /// All its paths: the relays' first, then the direct ones.
    pub paths: Vec<PathStatus>,
}

/// A connection to another peer: streams, datagrams, and the path they take.
///
/// Clones are handles to the same connection.
///
/// # How it ends
///
/// | | what was finished | the connection closes |
/// |---|---|---|
/// | the last handle, its streams among them, is dropped | is delivered in the background | with code 0 once the other side has acknowledged it, after [`DELIVERY_LIMIT`] at the latest |
/// | [`Connection::finish`] | is waited for | with code 0 |
/// | [`Connection::close`] | may be lost | at once, with a code and a reason |
///
/// *Finished* are streams after [`SendStream::finish`], and those whose [`SendStream`] was dropped. A stream that was
/// reset, or that the other side has stopped, is waited for by nobody. *Delivered* is what the other side's QUIC has
/// acknowledged: its program can still read that after the close. Datagrams may get lost in any case.
///
/// The background is a thread of this process. A program that is about to end waits for it with
/// [`Peer::close`](crate::Peer::close), or with [`Connection::finish`].
#[derive(Clone)]
pub struct Connection(Arc<Handle>);

impl Connection {
    pub(crate) fn new(guard: Arc<Guard<PeerMachine>>, standing: Standing) -> Self {
        let Standing { conn, peer, role, path, signals, stats } = standing;
        Self(Arc::new(Handle { guard, conn, peer, role, signals, path, stats }))
    }

    /// The other peer, whose key is proven.
    pub fn peer(&self) -> NodeId {
        self.0.peer
    }

    /// This side's part: P2 or P4.
    pub fn role(&self) -> Role {
        self.0.role
    }

    /// The path that carries data now, or did last.
    pub fn path(&self) -> Path {
        self.0.look(|entry| entry.path).unwrap_or(self.0.path)
    }

    /// Why it runs on [`Self::path`].
    pub fn chosen(&self) -> PathReason {
        self.0.look(|entry| entry.chosen).unwrap_or(PathReason::Began)
    }

    /// All its paths and what is known of each: the relays' first, then the direct ones; none once it has ended.
    pub fn paths(&self) -> Vec<PathStatus> {
        self.0.guard.look(|machine| machine.paths(self.0.conn))
    }

    /// The connection's figures; the last ones once it has ended.
    pub fn stats(&self) -> ConnectionStats {
        self.0.call(|machine, conn, _| machine.stats(conn)).unwrap_or(self.0.stats)
    }

    /// Opens a bidirectional stream; waits while the other side's limit is reached.
    ///
    /// The other side hears of it with the first data.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn open_bi(&self) -> Result<(SendStream, RecvStream), CloseReason> {
        let id = self.open(Dir::Bi).await?;
        Ok((SendStream::new(self.0.clone(), id), RecvStream::new(self.0.clone(), id)))
    }

    /// Opens a unidirectional stream; waits while the other side's limit is reached.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn open_uni(&self) -> Result<SendStream, CloseReason> {
        Ok(SendStream::new(self.0.clone(), self.open(Dir::Uni).await?))
    }

    async fn open(&self, dir: Dir) -> Result<direc_core::quic_types::StreamId, CloseReason> {
        let event = &self.0.signals.available[dir as usize];
        event.wait_for(|| self.0.call(|machine, conn, _| machine.open(conn, dir))).await
    }

    /// The next bidirectional stream the other side opened.
    ///
    /// # Errors
    /// The connection has ended, and all streams that came before are accepted.
    pub async fn accept_bi(&self) -> Result<(SendStream, RecvStream), CloseReason> {
        let id = self.accept(Dir::Bi).await?;
        Ok((SendStream::new(self.0.clone(), id), RecvStream::new(self.0.clone(), id)))
    }

    /// The next unidirectional stream the other side opened.
    ///
    /// # Errors
    /// The connection has ended, and all streams that came before are accepted.
    pub async fn accept_uni(&self) -> Result<RecvStream, CloseReason> {
        Ok(RecvStream::new(self.0.clone(), self.accept(Dir::Uni).await?))
    }

    async fn accept(&self, dir: Dir) -> Result<direc_core::quic_types::StreamId, CloseReason> {
        let event = &self.0.signals.opened[dir as usize];
        event.wait_for(|| self.0.call(|machine, conn, _| machine.accept(conn, dir))).await
    }

    /// Sends a datagram, which may get lost. Datagrams go before data of streams: while some always wait to be sent, streams
    /// send nothing.
    ///
    /// # Errors
    /// It does not fit, there is no room now, or the connection has ended.
    pub fn send_datagram(&self, data: Bytes) -> Result<(), SendDatagramError> {
        self.0.call(|machine, conn, _| machine.send_datagram(conn, data))
    }

    /// The next datagram.
    ///
    /// # Errors
    /// The connection has ended, and all datagrams that came before are taken.
    pub async fn recv_datagram(&self) -> Result<Bytes, CloseReason> {
        self.0.signals.datagram.wait_for(|| self.0.call(|machine, conn, _| machine.recv_datagram(conn))).await
    }

    /// The largest datagram that fits now; `None` if datagrams are off or the connection has ended.
    pub fn max_datagram_size(&self) -> Option<usize> {
        self.0.call(|machine, conn, _| machine.max_datagram_size(conn))
    }

    /// The path news in order, from the first one; should those be too many, from the current path on.
    ///
    /// A watch does not keep the connection open.
    pub fn watch(&self) -> PathWatch {
        PathWatch::new(self.0.guard.0.clone(), self.0.conn, self.0.signals.clone())
    }

    /// Waits until the connection is direct, or it is clear why it is not.
    ///
    /// # Errors
    /// The reason why there is no direct path for now; [`DirectFailure::NoRoundTrip`] as well if the connection ended
    /// first.
    pub async fn direct(&self) -> Result<Path, DirectFailure> {
        let outcome = |entry: &Conn| match (entry.path.is_direct(), entry.not_direct, &entry.closed) {
            (true, _, _) => Some(Ok(entry.path)),
            (false, Some(why), _) => Some(Err(why)),
            (false, None, Some(_)) => Some(Err(DirectFailure::NoRoundTrip)),
            (false, None, None) => None,
        };
        self.0.signals.path.wait_for(|| self.0.look(outcome).flatten()).await
    }

    /// Waits until the connection has ended, and says why.
    pub async fn closed(&self) -> CloseReason {
        self.0.signals.closed.wait_for(|| self.0.look(|entry| entry.closed.clone()).flatten()).await
    }

    /// Waits until the other side has acknowledged all streams that are finished, then closes the connection with code 0.
    ///
    /// It waits as long as the connection lives; a program that cannot should bound it, for instance by
    /// [`DELIVERY_LIMIT`]. Streams that are still open for writing are not waited for: their readers get an error, so
    /// finish or drop them first. The connection can be used until it is closed.
    ///
    /// Cancel safe: dropping the future leaves the connection as it is.
    ///
    /// # Errors
    /// The connection ended before all was acknowledged. If it ended afterwards, that is no error.
    pub async fn finish(&self) -> Result<(), CloseReason> {
        self.0.signals.delivered.wait_for(|| self.0.call(|machine, conn, now| machine.finish_all(now, conn))).await
    }

    /// Ends the connection at once; the other side gets code and reason. What it has not acknowledged yet may be lost:
    /// see [`Connection::finish`].
    pub fn close(&self, code: u32, reason: &[u8]) {
        let reason = Bytes::copy_from_slice(reason);
        self.0.call(|machine, conn, now| machine.close(now, conn, code, reason));
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.0.peer).field("role", &self.0.role).finish_non_exhaustive()
    }
}
