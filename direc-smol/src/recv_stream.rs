//! The receiving end of a stream.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use direc_core::quic_types::StreamId;
use futures_io::AsyncRead;

use crate::{ReadError, ReadToEndError, connection::Handle, hub::End};

/// Bytes taken out of the connection at once, so that not every packet's worth costs a lock. They count as read for
/// flow control, so this much is also how far the other side may run ahead of the reader.
const READ_AHEAD: usize = 256 << 10;
/// Chunks taken out at once, likewise: small ones cost more than their bytes.
const CHUNKS_AHEAD: usize = 256;

/// The receiving end of a stream.
///
/// Dropped before the end, it stops the stream with code 0. What arrived before the other side closed the connection
/// can still be read afterwards.
pub struct RecvStream {
    handle: Arc<Handle>,
    id: StreamId,
    ahead: VecDeque<Bytes>,
    end: Option<End>,
}

impl RecvStream {
    pub(crate) fn new(handle: Arc<Handle>, id: StreamId) -> Self {
        Self { handle, id, ahead: VecDeque::new(), end: None }
    }

    /// The stream's number.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// The next chunk in order, at most `max` bytes, as it came, without a copy. `None` at the stream's end.
    ///
    /// # Errors
    /// Reading ended before the stream's end.
    pub async fn read_chunk(&mut self, max: usize) -> Result<Option<Bytes>, ReadError> {
        poll_fn(|cx| self.poll_chunk(cx, max)).await
    }

    /// Everything up to the stream's end, at most `limit` bytes.
    ///
    /// # Errors
    /// There is more, or reading ended before the stream's end. What was read is lost.
    pub async fn read_to_end(&mut self, limit: usize) -> Result<Vec<u8>, ReadToEndError> {
        let mut all = Vec::new();
        while let Some(chunk) = self.read_chunk(usize::MAX).await.map_err(ReadToEndError::Read)? {
            if chunk.len() > limit - all.len() {
                return Err(ReadToEndError::TooLong { limit });
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }

    /// Wants no more: the other side gets the code.
    pub fn stop(&mut self, code: u32) {
        self.ahead.clear();
        if self.end.is_none() {
            self.end = Some(End::Failed(ReadError::Stopped));
            self.handle.call(|machine, conn, _| machine.stop(conn, self.id, code));
        }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Bytes>, ReadError>> {
        if max == 0 {
            return Poll::Ready(Ok(Some(Bytes::new())));
        }
        if let Err(end) = ready!(self.poll_ahead(cx)) {
            return Poll::Ready(match end {
                End::Finished => Ok(None),
                End::Failed(error) => Err(error),
            });
        }
        let chunk = match self.ahead.front_mut() {
            Some(front) if front.len() > max => Some(front.split_to(max)),
            _ => self.ahead.pop_front(),
        };
        Poll::Ready(Ok(chunk))
    }

    /// Ready when there is something ahead, or the end.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        if self.ahead.is_empty() && self.end.is_none() {
            self.fetch(cx);
        }
        match &self.end {
            _ if !self.ahead.is_empty() => Poll::Ready(Ok(())),
            Some(end) => Poll::Ready(Err(end.clone())),
            None => Poll::Pending,
        }
    }

    fn fetch(&mut self, cx: &mut Context<'_>) {
        let Self { handle, id, ahead, end } = self;
        let mut room = READ_AHEAD;
        let mut take = |chunk: Bytes| {
            room = room.saturating_sub(chunk.len());
            ahead.push_back(chunk);
            room > 0 && ahead.len() < CHUNKS_AHEAD
        };
        *end = handle.call(|machine, conn, _| machine.read(conn, *id, READ_AHEAD, &mut take, cx.waker()));
    }
}

impl fmt::Debug for RecvStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvStream").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        self.stop(0);
        self.handle.call(|machine, conn, _| machine.drop_receiver(conn, self.id));
    }
}

impl AsyncRead for RecvStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match ready!(self.poll_ahead(cx)) {
            Ok(()) => {}
            Err(End::Finished) => return Poll::Ready(Ok(0)),
            Err(End::Failed(error)) => return Poll::Ready(Err(error.into())),
        }
        let mut filled = 0;
        while filled < buf.len()
            && let Some(front) = self.ahead.front_mut()
        {
            let count = front.len().min(buf.len() - filled);
            front.copy_to_slice(&mut buf[filled..filled + count]);
            filled += count;
            if front.is_empty() {
                self.ahead.pop_front();
            }
        }
        Poll::Ready(Ok(filled))
    }
}
