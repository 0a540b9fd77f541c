//! A connection as the program above sees it: streams, datagrams, figures.

use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::{ClosedStream, Dir, FinishError, ReadError, SendDatagramError, Side, StreamId, VarInt, WriteError};

use super::{Peer, session::Session};
use crate::{ConnId, NodeId, Path, PathReason, PathStatus, Role, quic::receive::Receiving};

/// One connection to another peer, borrowed for a few calls.
///
/// After the calls, poll the peer's transmits: nothing is sent by itself. What arrived before a connection was closed
/// can be read for some round trips more: until QUIC has drained it (RFC 9000, section 10.2).
pub struct Connection<'a> {
    peer: &'a mut Peer,
    conn: ConnId,
}

/// A connection's figures.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// Smoothed round-trip time on the current path.
    pub rtt: Duration,
    /// Largest QUIC packet on the current path, in bytes.
    pub mtu: u16,
    /// Congestion window in bytes.
    pub cwnd: u64,
    /// QUIC packets sent.
    pub sent_packets: u64,
    /// QUIC packets lost.
    pub lost_packets: u64,
    /// Bytes of QUIC packets sent; one that went both ways counts once.
    pub sent_bytes: u64,
    /// Bytes of QUIC packets received.
    pub received_bytes: u64,
    /// When the current path took over.
    pub path_since: Instant,
}

impl<'a> Connection<'a> {
    pub(super) fn new(peer: &'a mut Peer, conn: ConnId) -> Option<Self> {
        peer.sessions.contains_key(&conn).then_some(Self { peer, conn })
    }

    fn session(&self) -> Option<&Session> {
        self.peer.sessions.get(&self.conn)
    }

    /// The QUIC connection, which is then driven and polled again. `None` while QUIC has not begun.
    fn quic(&mut self) -> Option<&mut quinn_proto::Connection> {
        self.peer.touch(self.conn);
        self.peer.sessions.get_mut(&self.conn)?.connection_mut()
    }

    /// The other peer.
    pub fn peer(&self) -> NodeId {
        self.session().map_or(self.peer.id, |session| session.peer)
    }

    /// This side's part: P2 or P4.
    pub fn role(&self) -> Role {
        self.session().map_or(Role::P2, |session| session.role)
    }

    /// The path that carries data now.
    pub fn path(&self) -> Path {
        self.session().map_or(Path::Relay(self.peer.shared.relay(0)), Session::path)
    }

    /// Whether this side sends on the stream. quinn-proto takes the wrong direction for a bug and panics.
    fn sends(&self, id: StreamId) -> bool {
        id.dir() == Dir::Bi || id.initiator() == self.side()
    }

    /// Whether this side receives on the stream.
    fn receives(&self, id: StreamId) -> bool {
        id.dir() == Dir::Bi || id.initiator() != self.side()
    }

    fn side(&self) -> Side {
        if self.role() == Role::P2 { Side::Client } else { Side::Server }
    }

    /// The QUIC connection, if this side sends on the stream.
    fn sending(&mut self, id: StreamId) -> Option<&mut quinn_proto::Connection> {
        if self.sends(id) { self.quic() } else { None }
    }

    /// The QUIC connection and the receive side of its streams, if this side receives on this one.
    fn receiving(&mut self, id: StreamId) -> Option<(&mut quinn_proto::Connection, &mut Receiving)> {
        if !self.receives(id) {
            return None;
        }
        self.peer.touch(self.conn);
        self.peer.sessions.get_mut(&self.conn)?.streams()
    }

    /// Opens a stream; `None` at the other side's limit, until `StreamEvent::Available`.
    pub fn open(&mut self, dir: Dir) -> Option<StreamId> {
        self.quic()?.streams().open(dir)
    }

    /// Takes the next stream that the other side has opened, after `StreamEvent::Opened`.
    pub fn accept(&mut self, dir: Dir) -> Option<StreamId> {
        self.quic()?.streams().accept(dir)
    }

    /// Hands chunks over without copying them, gives the bytes taken; chunks taken are left empty, one taken in part
    /// begins with its rest.
    ///
    /// # Errors
    /// `Blocked` while the stream's or the connection's window is full, until `StreamEvent::Writable`; `Stopped` when
    /// the other side wants no more; `ClosedStream`.
    pub fn write(&mut self, id: StreamId, chunks: &mut [Bytes]) -> Result<usize, WriteError> {
        let quic = self.sending(id).filter(|quic| !quic.is_closed()).ok_or(WriteError::ClosedStream)?;
        quic.send_stream(id).write_chunks(chunks).map(|written| written.bytes)
    }

    /// Ends a stream: no more data will be written. To be called, or [`Self::reset`], for each stream in the end, also for
    /// one that was stopped: it counts as open until then.
    ///
    /// # Errors
    /// `Stopped`, or `ClosedStream`.
    pub fn finish(&mut self, id: StreamId) -> Result<(), FinishError> {
        let quic = self.sending(id).ok_or(FinishError::ClosedStream)?;
        let finished = quic.send_stream(id).finish();
        if let Err(FinishError::Stopped(code)) = finished {
            // As in `quic/stream.rs`. It was neither finished nor reset before.
            let _ = quic.send_stream(id).reset(code);
        }
        finished?;
        if let Some(session) = self.peer.sessions.get_mut(&self.conn) {
            session.on_finish(id);
        }
        Ok(())
    }

    /// Abandons a stream that is being sent.
    ///
    /// # Errors
    /// [`ClosedStream`] if it has ended already.
    pub fn reset(&mut self, id: StreamId, code: VarInt) -> Result<(), ClosedStream> {
        let Some(quic) = self.sending(id) else { return Ok(()) };
        quic.send_stream(id).reset(code)?;
        if let Some(session) = self.peer.sessions.get_mut(&self.conn) {
            session.on_reset(id);
        }
        Ok(())
    }

    /// The next bytes of a stream, at most `max`; `None` at its end.
    ///
    /// # Errors
    /// `Blocked` until `StreamEvent::Readable`; `Reset` if the other side abandoned it.
    pub fn read(&mut self, id: StreamId, max: usize) -> Result<Option<Bytes>, ReadError> {
        match self.receiving(id) {
            Some((quic, receiving)) => receiving.read(quic, id, max),
            None => Ok(None),
        }
    }

    /// Wants no more of a stream that is being received.
    ///
    /// # Errors
    /// [`ClosedStream`] if it has ended already.
    pub fn stop(&mut self, id: StreamId, code: VarInt) -> Result<(), ClosedStream> {
        match self.receiving(id) {
            Some((quic, receiving)) => receiving.stop(quic, id, code),
            None => Ok(()),
        }
    }

    /// Sends an unreliable datagram. Datagrams go before data of streams: while the buffer never gets empty, streams wait.
    ///
    /// # Errors
    /// `Blocked` while the buffer is full, with the data given back; `TooLarge`, `Disabled`, `UnsupportedByPeer`.
    pub fn send_datagram(&mut self, data: Bytes) -> Result<(), SendDatagramError> {
        match self.quic() {
            Some(quic) => quic.datagrams().send(data, false),
            None => Err(SendDatagramError::Disabled),
        }
    }

    /// The next datagram received.
    pub fn recv_datagram(&mut self) -> Option<Bytes> {
        self.quic()?.datagrams().recv()
    }

    /// The largest datagram that fits now, in bytes; `None` where the other side takes none.
    pub fn max_datagram_size(&mut self) -> Option<usize> {
        self.quic()?.datagrams().max_size()
    }

    /// Closes the connection at once; the other side is told `code` and `reason`. What it has not acknowledged may be
    /// lost.
    pub fn close(&mut self, now: Instant, code: VarInt, reason: Bytes) {
        self.peer.advance(now);
        self.peer.close(self.conn, code, reason);
    }

    /// Closes the connection as soon as [`Self::is_delivered`], or at `by` if that is earlier. The other side is told
    /// `code` and `reason`.
    ///
    /// Until then it works as before. A second call changes nothing; [`Self::close`] still closes it at once.
    pub fn close_when_delivered(&mut self, now: Instant, by: Instant, code: VarInt, reason: Bytes) {
        self.peer.advance(now);
        self.peer.close_when_delivered(self.conn, by, code, reason);
    }

    /// Whether the other side's QUIC has acknowledged all streams that were finished, up to their ends. A stream that was
    /// reset, or that the other side has stopped, does not count. What the other program has read does not matter.
    pub fn is_delivered(&self) -> bool {
        self.session().is_none_or(Session::is_delivered)
    }

    /// All paths of this connection and what is known of each: the relay's first, then the direct ones.
    pub fn paths(&self) -> Vec<PathStatus> {
        let Some(session) = self.session() else { return Vec::new() };
        session.paths(self.peer.now)
    }

    /// Why the connection runs on the path it runs on.
    pub fn chosen(&self) -> PathReason {
        self.session().map_or(PathReason::Began, |session| session.chosen().1)
    }

    /// The connection's figures.
    pub fn stats(&self) -> ConnectionStats {
        let session = self.session();
        let stats = session.and_then(Session::connection).map(quinn_proto::Connection::stats).unwrap_or_default();
        ConnectionStats {
            rtt: stats.path.rtt,
            mtu: stats.path.current_mtu,
            cwnd: stats.path.cwnd,
            sent_packets: stats.path.sent_packets,
            lost_packets: stats.path.lost_packets,
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            path_since: session.map_or(self.peer.now, |session| session.chosen().0),
        }
    }
}
