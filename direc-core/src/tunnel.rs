//! Datagrams in a stream of bytes: each behind its length of two bytes, big-endian. What the tunnel carries where UDP
//! does not pass.
//!
//! The stream keeps order and loses nothing, which datagrams never asked for: what cannot leave at once is dropped as at
//! any full queue, so that neither memory nor delay grows with a reader that is slow.

use std::{collections::VecDeque, fmt};

use bytes::{Buf, BytesMut};

/// The longest datagram that a tunnel takes, in bytes: what a frame of Ethernet could carry as well. The protocol's own
/// are shorter.
pub const MAX_TUNNEL_DATAGRAM: usize = 1500;

/// Bytes that wait for a tunnel at most: some bursts of a driver, and less than a tenth of a second at 100 Mbit/s.
pub const TUNNEL_QUEUE: usize = 1 << 20;

/// The length in front of each datagram.
const LENGTH: usize = 2;
/// Frames are gathered into pieces of about this size, so that each write fills a TLS record (RFC 8446, section 5.1).
const PIECE: usize = 16 << 10;

/// What comes through a tunnel and makes no sense. The stream is of no more use after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TunnelError {
    /// A datagram of no bytes.
    Empty,
    /// A datagram longer than [`MAX_TUNNEL_DATAGRAM`].
    TooLong {
        /// Its length by its own word, in bytes.
        length: usize,
    },
}

impl fmt::Display for TunnelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a datagram of length 0 in the tunnel"),
            Self::TooLong { length } => {
                write!(f, "a datagram of {length} bytes in the tunnel, at most {MAX_TUNNEL_DATAGRAM} are allowed")
            }
        }
    }
}

impl std::error::Error for TunnelError {}

/// Cuts datagrams out of the bytes that come.
#[derive(Default)]
pub struct TunnelReader {
    bytes: BytesMut,
    error: Option<TunnelError>,
}

impl TunnelReader {
    /// Takes bytes of the stream. Between two calls all of [`Self::next_datagram`] is to be taken out, and then less
    /// than one datagram is left.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.error.is_none() {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// The next whole datagram; `None` until more bytes have come.
    ///
    /// # Errors
    /// [`TunnelError`] as soon as a length makes no sense, before its bytes have come; then that again and nothing else.
    pub fn next_datagram(&mut self) -> Result<Option<BytesMut>, TunnelError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let Some(length) = self.bytes.first_chunk::<LENGTH>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes(*length));
        if length == 0 || length > MAX_TUNNEL_DATAGRAM {
            let error = if length == 0 { TunnelError::Empty } else { TunnelError::TooLong { length } };
            self.error = Some(error);
            self.bytes = BytesMut::new();
            return Err(error);
        }
        if self.bytes.len() < LENGTH + length {
            self.bytes.reserve(LENGTH + length - self.bytes.len());
            return Ok(None);
        }
        self.bytes.advance(LENGTH);
        Ok(Some(self.bytes.split_to(length)))
    }
}

impl fmt::Debug for TunnelReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelReader").field("waiting", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// Datagrams on their way into a tunnel: at most [`TUNNEL_QUEUE`] bytes.
#[derive(Default)]
pub struct TunnelQueue {
    pieces: VecDeque<BytesMut>,
    bytes: usize,
}

impl TunnelQueue {
    /// Queues the datagrams of one transmit, `segment` bytes each but the last, which may be shorter. Gives how many
    /// were dropped: those that found no room, and those that no tunnel takes.
    pub fn push(&mut self, datagrams: &[u8], segment: usize) -> u64 {
        let mut dropped = 0;
        for datagram in datagrams.chunks(segment.max(1)) {
            dropped += u64::from(!self.push_one(datagram));
        }
        dropped
    }

    fn push_one(&mut self, datagram: &[u8]) -> bool {
        let size = LENGTH + datagram.len();
        if datagram.len() > MAX_TUNNEL_DATAGRAM || self.bytes + size > TUNNEL_QUEUE {
            return false;
        }
        // Fits: the limit is below 65,536.
        let length = (datagram.len() as u16).to_be_bytes();
        if self.pieces.back().is_none_or(|piece| piece.len() + size > PIECE) {
            self.pieces.push_back(BytesMut::with_capacity(PIECE));
        }
        if let Some(piece) = self.pieces.back_mut() {
            piece.extend_from_slice(&length);
            piece.extend_from_slice(datagram);
            self.bytes += size;
        }
        true
    }

    /// The bytes to write next; empty when there are none.
    pub fn front(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    /// So many bytes of [`Self::front`] have been written; more than it has count as all of it.
    pub fn consume(&mut self, written: usize) {
        let Some(piece) = self.pieces.front_mut() else { return };
        let written = written.min(piece.len());
        piece.advance(written);
        self.bytes -= written;
        if piece.is_empty() {
            self.pieces.pop_front();
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Bytes that wait, lengths included.
    pub fn len(&self) -> usize {
        self.bytes
    }
}

impl fmt::Debug for TunnelQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelQueue").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(reader: &mut TunnelReader) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| reader.next_datagram().unwrap()).map(|datagram| datagram.to_vec()).collect()
    }

    fn take_all(queue: &mut TunnelQueue) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !queue.is_empty() {
            bytes.extend_from_slice(queue.front());
            queue.consume(usize::MAX);
        }
        bytes
    }

    #[test]
    fn a_frame_is_a_length_of_two_bytes_and_the_datagram() {
        let mut queue = TunnelQueue::default();
        assert_eq!(queue.push(b"abcde", 3), 0);
        assert_eq!(queue.len(), 9);
        assert_eq!(take_all(&mut queue), b"\x00\x03abc\x00\x02de");
    }

    proptest! {
        #[test]
        fn datagrams_come_out_whole_and_in_order_however_the_stream_is_cut(
            datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=MAX_TUNNEL_DATAGRAM), 1..40),
            cuts in prop::collection::vec(1_usize..5000, 1..20),
        ) {
            let mut queue = TunnelQueue::default();
            for datagram in &datagrams {
                prop_assert_eq!(queue.push(datagram, datagram.len()), 0);
            }
            let (mut reader, mut out) = (TunnelReader::default(), Vec::new());
            for cut in cuts.iter().cycle() {
                let part = queue.front()[..queue.front().len().min(*cut)].to_vec();
                queue.consume(part.len());
                reader.extend(&part);
                out.extend(all(&mut reader));
                if queue.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(out, datagrams);
            prop_assert_eq!(queue.len(), 0);
        }
    }

    #[test]
    fn a_length_that_makes_no_sense_ends_the_stream_before_its_bytes_come() {
        for (length, error) in [
            (0, TunnelError::Empty),
            (1501, TunnelError::TooLong { length: 1501 }),
            (u16::MAX, TunnelError::TooLong { length: 65_535 }),
        ] {
            let mut reader = TunnelReader::default();
            reader.extend(b"\x00\x01a");
            reader.extend(&length.to_be_bytes());
            assert_eq!(reader.next_datagram().unwrap().unwrap(), &b"a"[..]);
            assert_eq!(reader.next_datagram(), Err(error));
            reader.extend(b"\x00\x01b");
            assert_eq!(reader.next_datagram(), Err(error), "and it stays that way");
        }
    }

    #[test]
    fn a_slow_reader_costs_a_queue_and_no_more_and_later_datagrams_pass_once_it_has_read() {
        let (mut queue, datagram) = (TunnelQueue::default(), [7; 1400]);
        let fit = TUNNEL_QUEUE / (LENGTH + datagram.len());
        let burst = datagram.repeat(fit + 10);
        assert_eq!(queue.push(&burst, datagram.len()), 10);
        assert!(queue.len() <= TUNNEL_QUEUE);
        queue.consume(usize::MAX);
        assert_eq!(queue.push(&datagram, datagram.len()), 0);
    }

    #[test]
    fn what_no_tunnel_takes_is_dropped_alone() {
        let mut queue = TunnelQueue::default();
        assert_eq!(queue.push(&[1; MAX_TUNNEL_DATAGRAM + 1], MAX_TUNNEL_DATAGRAM + 1), 1);
        assert!(queue.is_empty());
    }
}
