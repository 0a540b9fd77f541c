//! Messages cut out of a stream: a length of two bytes, big-endian, then that many bytes.

use crate::wire::message::{DecodeError, Message};

/// A message has at most this many bytes: enough for 64 IDs of standing consent, too few to be a burden.
pub(crate) const MAX_MESSAGE: usize = 4096;

const LENGTH: usize = 2;

/// Bytes of a stream that have not made up a message yet.
#[derive(Default)]
pub(crate) struct FrameBuffer(Vec<u8>);

impl FrameBuffer {
    /// Takes bytes from the stream. Between two calls of [`Self::next`] until it returns `None` the buffer holds less
    /// than one message, so it grows by no more than what the caller reads at once.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next whole message. After an error the stream makes no sense any more.
    pub(crate) fn next(&mut self) -> Option<Result<Message, DecodeError>> {
        let length: [u8; LENGTH] = self.0.get(..LENGTH)?.try_into().ok()?;
        let length = usize::from(u16::from_be_bytes(length));
        if length == 0 || length > MAX_MESSAGE {
            return Some(Err(DecodeError::Length));
        }
        let message = Message::decode(self.0.get(LENGTH..LENGTH + length)?);
        self.0.drain(..LENGTH + length);
        Some(message)
    }
}

/// The message with its length in front.
pub(crate) fn frame(message: &Message) -> Vec<u8> {
    let body = message.encode();
    debug_assert!(body.len() <= MAX_MESSAGE, "messages are built within their limit");
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    [length.to_be_bytes().as_slice(), &body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::Refused;

    fn message() -> Message {
        Message::Refused(Refused { reason: crate::RefuseReason::Limit })
    }

    #[test]
    fn messages_come_out_whole_however_the_stream_was_cut() {
        let stream = [frame(&message()), frame(&Message::Accept)].concat();
        for cut in 1..stream.len() {
            let mut buffer = FrameBuffer::default();
            let mut out = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                buffer.extend(part);
                while let Some(message) = buffer.next() {
                    out.push(message.unwrap());
                }
            }
            assert_eq!(out, [message(), Message::Accept], "cut at {cut}");
        }
    }

    #[test]
    fn a_length_of_zero_or_beyond_the_limit_is_refused_before_its_bytes_come() {
        for length in [0u16, 4097, u16::MAX] {
            let mut buffer = FrameBuffer::default();
            buffer.extend(&length.to_be_bytes());
            assert_eq!(buffer.next(), Some(Err(DecodeError::Length)));
        }
    }
}
