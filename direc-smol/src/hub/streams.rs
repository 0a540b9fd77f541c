//! What streams' handles ask of a connection.

use std::{
    collections::VecDeque,
    task::{Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use direc_core::{
    CloseReason, ConnId, Connection, ConnectionStats,
    quic_types::{self, Dir, StreamId, VarInt},
};

use super::{Conn, PeerMachine};
use crate::{ReadError, SendDatagramError, WriteError};

/// What is kept for a stream's sending handle.
#[derive(Default)]
pub(super) struct Sender {
    /// The one task that uses the handle, while it waits.
    pub(super) waker: Option<Waker>,
    /// Everything acknowledged (`None`), or stopped or reset with a code.
    pub(super) outcome: Option<Option<u64>>,
}

/// What is kept for a stream's receiving handle.
#[derive(Default)]
pub(super) struct Receiver {
    /// The one task that uses the handle, while it waits.
    pub(super) waker: Option<Waker>,
    /// What had arrived when the connection ended.
    late: VecDeque<Bytes>,
    late_end: Option<End>,
}

/// How a stream ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Finished,
    Failed(ReadError),
}

impl Receiver {
    pub(super) fn take_over(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        self.late_end = loop {
            match connection.read(id, usize::MAX) {
                Ok(Some(chunk)) => self.late.push_back(chunk),
                Ok(None) => break Some(End::Finished),
                Err(quic_types::ReadError::Reset(code)) => {
                    break Some(End::Failed(ReadError::Reset(code.into_inner())));
                }
                Err(quic_types::ReadError::Blocked) => break None,
            }
        };
    }
}

impl PeerMachine {
    /// The connection, in both its halves, unless it has ended.
    fn live(&mut self, conn: ConnId) -> Result<(&mut Conn, Connection<'_>), CloseReason> {
        let entry = self.conns.get_mut(&conn).ok_or(CloseReason::Locally)?;
        match (&entry.closed, self.core.connection(conn)) {
            (None, Some(connection)) => Ok((entry, connection)),
            (Some(reason), _) => Err(reason.clone()),
            (None, None) => Err(CloseReason::Locally),
        }
    }

    /// `None`: the other side allows no more for now.
    pub(crate) fn open(&mut self, conn: ConnId, dir: Dir) -> Option<Result<StreamId, CloseReason>> {
        let (entry, mut connection) = match self.live(conn) {
            Ok(live) => live,
            Err(reason) => return Some(Err(reason)),
        };
        let id = connection.open(dir)?;
        entry.senders.insert(id, Sender::default());
        if dir == Dir::Bi {
            entry.receivers.insert(id, Receiver::default());
        }
        Some(Ok(id))
    }

    /// `None`: the other side has opened none for now.
    pub(crate) fn accept(&mut self, conn: ConnId, dir: Dir) -> Option<Result<StreamId, CloseReason>> {
        let (id, entry) = match self.live(conn) {
            Ok((entry, mut connection)) => {
                let id = connection.accept(dir)?;
                entry.receivers.insert(id, Receiver::default());
                (id, entry)
            }
            Err(reason) => match self.conns.get_mut(&conn).and_then(|entry| Some((entry.next_late(dir)?, entry))) {
                Some(late) => late,
                None => return Some(Err(reason)),
            },
        };
        if dir == Dir::Bi {
            entry.accepted_bi += 1;
            let outcome = entry.stopped_early.remove(&id).map(Some);
            entry.senders.insert(id, Sender { waker: None, outcome });
        }
        Some(Ok(id))
    }

    /// Hands chunks over; what is taken is cut off their fronts.
    pub(crate) fn write(
        &mut self,
        conn: ConnId,
        id: StreamId,
        chunks: &mut [Bytes],
        waker: &Waker,
    ) -> Poll<Result<usize, WriteError>> {
        let (entry, mut connection) = self.live(conn).map_err(WriteError::Closed)?;
        match connection.write(id, chunks) {
            Ok(count) => Poll::Ready(Ok(count)),
            Err(quic_types::WriteError::Stopped(code)) => Poll::Ready(Err(WriteError::Stopped(code.into_inner()))),
            Err(quic_types::WriteError::ClosedStream) => Poll::Ready(Err(WriteError::Finished)),
            Err(quic_types::WriteError::Blocked) => {
                if let Some(sender) = entry.senders.get_mut(&id) {
                    sender.waker = Some(waker.clone());
                }
                Poll::Pending
            }
        }
    }

    pub(crate) fn finish(&mut self, conn: ConnId, id: StreamId) -> Result<(), WriteError> {
        let (_, mut connection) = self.live(conn).map_err(WriteError::Closed)?;
        connection.finish(id).map_err(|error| match error {
            quic_types::FinishError::Stopped(code) => WriteError::Stopped(code.into_inner()),
            quic_types::FinishError::ClosedStream => WriteError::Finished,
        })
    }

    /// Closes the connection if all that was finished is acknowledged; `None` as long as it is not.
    pub(crate) fn finish_all(&mut self, now: Instant, conn: ConnId) -> Option<Result<(), CloseReason>> {
        match self.live(conn) {
            Ok((_, mut connection)) => connection.is_delivered().then(|| {
                connection.close(now, VarInt::from_u32(0), Bytes::new());
                Ok(())
            }),
            Err(reason) => {
                let delivered = self.conns.get(&conn).is_some_and(|entry| entry.delivered);
                Some(if delivered { Ok(()) } else { Err(reason) })
            }
        }
    }

    pub(crate) fn reset(&mut self, conn: ConnId, id: StreamId, code: u32) {
        let Ok((entry, mut connection)) = self.live(conn) else { return };
        // Once everything has arrived there is nothing left to abandon.
        if connection.reset(id, VarInt::from_u32(code)).is_ok()
            && let Some(sender) = entry.senders.get_mut(&id)
        {
            sender.outcome.get_or_insert(Some(u64::from(code)));
        }
    }

    pub(crate) fn outcome_of(
        &mut self,
        conn: ConnId,
        id: StreamId,
        waker: &Waker,
    ) -> Poll<Result<Option<u64>, CloseReason>> {
        let Some(entry) = self.conns.get_mut(&conn) else { return Poll::Ready(Err(CloseReason::Locally)) };
        let sender = entry.senders.entry(id).or_default();
        match (sender.outcome, &entry.closed) {
            (Some(outcome), _) => Poll::Ready(Ok(outcome)),
            (None, Some(reason)) => Poll::Ready(Err(reason.clone())),
            (None, None) => {
                sender.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    pub(crate) fn drop_sender(&mut self, conn: ConnId, id: StreamId) {
        // One that was finished or reset before needs no end; one that was stopped has it by this.
        let _ = self.finish(conn, id);
        if let Some(entry) = self.conns.get_mut(&conn) {
            entry.senders.remove(&id);
        }
    }

    /// Takes chunks of at most `max` bytes while `take` wants more; gives the end if that has come.
    pub(crate) fn read(
        &mut self,
        conn: ConnId,
        id: StreamId,
        max: usize,
        take: &mut dyn FnMut(Bytes) -> bool,
        waker: &Waker,
    ) -> Option<End> {
        let (entry, mut connection) = match self.live(conn) {
            Ok(live) => live,
            Err(reason) => return self.read_late(conn, id, reason, take),
        };
        loop {
            match connection.read(id, max) {
                Ok(Some(chunk)) => {
                    if !take(chunk) {
                        return None;
                    }
                }
                Ok(None) => return Some(End::Finished),
                Err(quic_types::ReadError::Reset(code)) => {
                    return Some(End::Failed(ReadError::Reset(code.into_inner())));
                }
                Err(quic_types::ReadError::Blocked) => {
                    if let Some(receiver) = entry.receivers.get_mut(&id) {
                        receiver.waker = Some(waker.clone());
                    }
                    return None;
                }
            }
        }
    }

    fn read_late(
        &mut self,
        conn: ConnId,
        id: StreamId,
        reason: CloseReason,
        take: &mut dyn FnMut(Bytes) -> bool,
    ) -> Option<End> {
        let closed = End::Failed(ReadError::Closed(reason));
        let Some(receiver) = self.conns.get_mut(&conn).and_then(|entry| entry.receivers.get_mut(&id)) else {
            return Some(closed);
        };
        while let Some(chunk) = receiver.late.pop_front() {
            if !take(chunk) {
                return None;
            }
        }
        Some(receiver.late_end.clone().unwrap_or(closed))
    }

    pub(crate) fn stop(&mut self, conn: ConnId, id: StreamId, code: u32) {
        if let Ok((_, mut connection)) = self.live(conn) {
            // At its end already: nothing left to want no more of.
            let _ = connection.stop(id, VarInt::from_u32(code));
        }
        if let Some(receiver) = self.conns.get_mut(&conn).and_then(|entry| entry.receivers.get_mut(&id)) {
            *receiver = Receiver::default();
        }
    }

    pub(crate) fn drop_receiver(&mut self, conn: ConnId, id: StreamId) {
        if let Some(entry) = self.conns.get_mut(&conn) {
            entry.receivers.remove(&id);
        }
    }

    pub(crate) fn send_datagram(&mut self, conn: ConnId, data: Bytes) -> Result<(), SendDatagramError> {
        let (_, mut connection) = self.live(conn).map_err(SendDatagramError::Closed)?;
        connection.send_datagram(data).map_err(|error| match error {
            quic_types::SendDatagramError::UnsupportedByPeer | quic_types::SendDatagramError::Disabled => {
                SendDatagramError::Disabled
            }
            quic_types::SendDatagramError::TooLarge => SendDatagramError::TooLarge,
            quic_types::SendDatagramError::Blocked(data) => SendDatagramError::Full(data),
        })
    }

    /// `None`: none for now.
    pub(crate) fn recv_datagram(&mut self, conn: ConnId) -> Option<Result<Bytes, CloseReason>> {
        match self.live(conn) {
            Ok((_, mut connection)) => connection.recv_datagram().map(Ok),
            Err(reason) => {
                let late = self.conns.get_mut(&conn).and_then(|entry| entry.late_datagrams.pop_front());
                Some(late.ok_or(reason))
            }
        }
    }

    pub(crate) fn max_datagram_size(&mut self, conn: ConnId) -> Option<usize> {
        self.live(conn).ok()?.1.max_datagram_size()
    }

    /// The figures, or the last ones of a connection that has ended.
    pub(crate) fn stats(&mut self, conn: ConnId) -> Option<ConnectionStats> {
        match self.live(conn) {
            Ok((_, connection)) => Some(connection.stats()),
            Err(_) => Some(self.conns.get(&conn)?.last_stats),
        }
    }
}

impl Conn {
    fn next_late(&mut self, dir: Dir) -> Option<StreamId> {
        self.late_streams[dir as usize].pop_front()
    }
}
