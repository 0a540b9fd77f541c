//! The sending end of a stream.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use direc_core::{CloseReason, quic_types::StreamId};
use futures_io::AsyncWrite;

use crate::{WriteError, connection::Handle};

/// Bytes that one `poll_write` copies: enough that locks and wake-ups do not count, little enough that a blocked
/// stream wastes little.
const COPY_AT_ONCE: usize = 64 << 10;

/// The sending end of a stream.
///
/// Dropped before it is finished, it finishes: what was written still arrives. Bytes handed over wait in the connection's
/// buffer until they are sent; [`SendStream::stopped`] waits until they have arrived. What becomes of them when the
/// connection ends: see [`Connection`](crate::Connection).
pub struct SendStream {
    handle: Arc<Handle>,
    id: StreamId,
}

impl SendStream {
    pub(crate) fn new(handle: Arc<Handle>, id: StreamId) -> Self {
        Self { handle, id }
    }

    /// The stream's number.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Hands over a whole chunk without copying it; waits while there is no room.
    ///
    /// # Errors
    /// The stream takes no more.
    pub async fn write_chunk(&mut self, chunk: Bytes) -> Result<(), WriteError> {
        self.write_chunks(&mut [chunk]).await
    }

    /// Hands over all chunks without copying them; waits while there is no room.
    ///
    /// What is taken is cut off the chunks' fronts, so that after dropping the future they hold what is left.
    ///
    /// # Errors
    /// The stream takes no more.
    pub async fn write_chunks(&mut self, chunks: &mut [Bytes]) -> Result<(), WriteError> {
        let mut first = 0;
        loop {
            first += chunks[first..].iter().take_while(|chunk| chunk.is_empty()).count();
            if first == chunks.len() {
                return Ok(());
            }
            poll_fn(|cx| self.poll_write_chunks(cx, &mut chunks[first..])).await?;
        }
    }

    fn poll_write_chunks(&mut self, cx: &mut Context<'_>, chunks: &mut [Bytes]) -> Poll<Result<usize, WriteError>> {
        self.handle.call(|machine, conn, _| machine.write(conn, self.id, chunks, cx.waker()))
    }

    /// Says that nothing more comes. What was written still arrives.
    ///
    /// # Errors
    /// The stream was finished, reset or stopped before.
    pub fn finish(&mut self) -> Result<(), WriteError> {
        self.handle.call(|machine, conn, _| machine.finish(conn, self.id))
    }

    /// Abandons the stream: what has not arrived yet need not arrive. The other side gets the code.
    pub fn reset(&mut self, code: u32) {
        self.handle.call(|machine, conn, _| machine.reset(conn, self.id, code));
        self.handle.on_reset();
    }

    /// Waits until the other side has acknowledged everything up to the end (`None`), or wants no more of the stream
    /// (its code). After a reset: at once, with the reset's code.
    ///
    /// # Errors
    /// The connection ended first.
    pub async fn stopped(&mut self) -> Result<Option<u64>, CloseReason> {
        poll_fn(|cx| self.handle.call(|machine, conn, _| machine.outcome_of(conn, self.id, cx.waker()))).await
    }
}

impl fmt::Debug for SendStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendStream").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        self.handle.call(|machine, conn, _| machine.drop_sender(conn, self.id));
    }
}

impl AsyncWrite for SendStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let chunk = Bytes::copy_from_slice(&buf[..buf.len().min(COPY_AT_ONCE)]);
        Poll::Ready(Ok(ready!(self.poll_write_chunks(cx, &mut [chunk]))?))
    }

    /// Nothing to do: the driver sends what was written as soon as the network allows.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Finishes the stream, without waiting for the other side.
    fn poll_close(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.finish() {
            Ok(()) | Err(WriteError::Finished) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}
