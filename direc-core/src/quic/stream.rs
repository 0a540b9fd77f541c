//! Messages on a bi stream of a control connection.

use quinn_proto::{ClosedStream, Connection, FinishError, ReadError, StreamId, VarInt, WriteError};

use crate::wire::{
    frame::{FrameBuffer, frame},
    message::{DecodeError, Message},
};

/// Bytes read from a stream at once: with [`FrameBuffer`]'s rest the bound of what one stream may hold here.
const READ_AT_ONCE: usize = 4096;
/// Bytes that may wait because the other side does not read: a few messages, then the stream is given up.
const MAX_UNSENT: usize = 64 << 10;

/// Application error code with which a stream is reset whose messages made no sense.
pub(crate) const MALFORMED: u32 = 1;

/// What a stream has brought.
pub(crate) enum Received {
    Message(Message),
    /// The other side has finished, reset or stopped it: the introduction or registration is over.
    Ended,
    /// It makes no sense from here on.
    Bad(DecodeError),
}

/// One bi stream of messages.
pub(crate) struct MessageStream {
    id: StreamId,
    incoming: FrameBuffer,
    unsent: Vec<u8>,
    finishing: bool,
    over: bool,
}

impl MessageStream {
    pub(crate) fn new(id: StreamId) -> Self {
        Self { id, incoming: FrameBuffer::default(), unsent: Vec::new(), finishing: false, over: false }
    }

    pub(crate) fn id(&self) -> StreamId {
        self.id
    }

    /// The next message, or the stream's end, once. `None`: nothing more for now.
    pub(crate) fn receive(&mut self, connection: &mut Connection) -> Option<Received> {
        if self.over {
            return None;
        }
        loop {
            match self.incoming.next() {
                Some(Ok(message)) => return Some(Received::Message(message)),
                Some(Err(error)) => {
                    self.over = true;
                    return Some(Received::Bad(error));
                }
                None => {}
            }
            match read(connection, self.id) {
                Ok(Some(bytes)) => self.incoming.extend(&bytes),
                Err(ReadError::Blocked) => return None,
                Ok(None) | Err(ReadError::Reset(_)) => {
                    self.over = true;
                    return Some(Received::Ended);
                }
            }
        }
    }

    /// Queues a message. One that does not fit any more is dropped with the stream: the other side has not read for
    /// many messages.
    pub(crate) fn send(&mut self, connection: &mut Connection, message: &Message) {
        if self.finishing {
            return;
        }
        self.unsent.extend_from_slice(&frame(message));
        if self.unsent.len() > MAX_UNSENT {
            self.abandon(connection);
            return;
        }
        self.flush(connection);
    }

    /// Goes on writing, after the stream has become writable.
    pub(crate) fn flush(&mut self, connection: &mut Connection) {
        while !self.unsent.is_empty() {
            match connection.send_stream(self.id).write(&self.unsent) {
                Ok(written) => {
                    self.unsent.drain(..written);
                }
                Err(WriteError::Blocked) => return,
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => self.unsent.clear(),
            }
        }
        if self.finishing
            && let Err(FinishError::Stopped(code)) = connection.send_stream(self.id).finish()
        {
            // Who is asked to stop says where it did (RFC 9000, section 3.5), or the stream stays open at the other side,
            // and one less can ever be.
            let _ = connection.send_stream(self.id).reset(code);
        }
    }

    /// No more messages from this side; what is queued still goes.
    pub(crate) fn finish(&mut self, connection: &mut Connection) {
        if !self.finishing {
            self.finishing = true;
            self.flush(connection);
        }
    }

    /// Finishes, and wants no more from the other side either.
    pub(crate) fn close(&mut self, connection: &mut Connection) {
        self.finish(connection);
        self.over = true;
        let _ = stop(connection, self.id, VarInt::from_u32(0));
    }

    fn abandon(&mut self, connection: &mut Connection) {
        self.finishing = true;
        self.over = true;
        self.unsent = Vec::new();
        // Either half may be closed already.
        let _ = connection.send_stream(self.id).reset(VarInt::from_u32(MALFORMED));
        let _ = stop(connection, self.id, VarInt::from_u32(MALFORMED));
    }
}

/// Stops a stream that is being received.
///
/// A reset that has arrived is read instead. quinn-proto frees such a stream in either case; but after a stop it says that
/// another may be opened only once the next packet comes in.
pub(crate) fn stop(connection: &mut Connection, id: StreamId, code: VarInt) -> Result<(), ClosedStream> {
    let mut stream = connection.recv_stream(id);
    match stream.received_reset()? {
        Some(_) => Ok(()),
        None => stream.stop(code),
    }
}

fn read(connection: &mut Connection, id: StreamId) -> Result<Option<bytes::Bytes>, ReadError> {
    let mut stream = connection.recv_stream(id);
    // A stream that is closed already has nothing more to say.
    let Ok(mut chunks) = stream.read(true) else { return Ok(None) };
    let chunk = chunks.next(READ_AT_ONCE);
    // Whether flow-control credit is due is asked again when the connection is polled, which it will be.
    let _ = chunks.finalize();
    chunk.map(|chunk| chunk.map(|chunk| chunk.bytes))
}
