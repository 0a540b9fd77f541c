//! The receive side of a connection's streams: bytes leave quinn-proto as they arrive, before they can pile up there.
//!
//! quinn-proto keeps the chunks of a stream that nobody reads, and ends the connection when more than 1,024 are left
//! after it has merged what it merges. A reader that lags, or one lost packet on a long path, is enough for that, with
//! frames that any sender may send (`docs/quinn-proto.md`). So chunks are taken out in the order of their arrival, and
//! put in order here.
//!
//! Taking a chunk out gives credit for it, of the stream and of the connection. The connection's is withheld here until
//! the program reads, so that all a connection's streams hold at most its window. A stream's cannot be withheld: so its
//! chunks stay in quinn-proto for as long as they are few, or known to be merged.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quinn_proto::{ClosedStream, Connection, Dir, ReadError, StreamId, TransportErrorCode, VarInt};

use super::{reassembly::Reassembly, stream};
use crate::{FoundBy, TransportError, config::Transport};

/// Frames of one stream that may wait in quinn-proto, whatever they are; and frames of all streams that may come in
/// between two looks.
///
/// One more datagram may bring 353 frames: 1,443 bytes at 4 for the smallest frame with data, less the packet's own. A
/// frame that is sent anew in another cut is stored in as many pieces as it fills gaps, and closes all but two of them.
/// So at most 64 + 64 frames of any size, the datagram's, and [`MAX_GAPS_UNSEEN`] gaps make
/// 3 × 128 + 353 + 64 = 801 pieces, and quinn-proto bears 1,024.
const MAX_FRAMES: u64 = 64;
/// Gaps in all streams with which chunks may wait in quinn-proto at all.
const MAX_GAPS_UNSEEN: usize = 64;
/// Full frames of one stream that may wait in quinn-proto: it merges those, unless a quarter of them is lost.
const MAX_FULL_FRAMES: u64 = 4096;
/// The mean size of datagrams, in bytes for each frame, from which on nearly all frames are full. Then more than 1,024
/// chunks hold so much that quinn-proto merges each of them.
const FULL: u64 = 1350;
/// Small chunks that may wait behind gaps; more end the connection.
///
/// Small neighbours are joined, so there are more only where the window is full of small pieces with gaps between them. A
/// path that loses a packet in two has fewer under way. By an estimate, not measured, each of them takes 200 bytes with
/// its place in the set of gaps that quinn-proto keeps: 13 MB for all.
const MAX_PARKED: usize = 65_536;
/// A chunk of this size or more is paid for by the window: as many as fit into it may wait besides.
const PAID: u64 = 1024;
/// Bytes taken out before the connection's credit is corrected. By so much the other side may exceed the window, and by
/// one merged chunk, which is no larger than a stream's window.
const AT_ONCE: usize = 64 << 10;
/// Credit is given when it amounts to this part of the window.
const CREDIT_STEP: u64 = 8;

/// The receive side of all streams of a connection.
pub(crate) struct Receiving {
    streams: BTreeMap<StreamId, Stream>,
    /// Streams that frames have come for since the last look.
    heard: BTreeSet<StreamId>,
    /// Streams whose chunks may not wait in quinn-proto any longer.
    crowded: Vec<StreamId>,
    /// What had been received at the last look.
    seen: Received,
    /// What the other side may have under way or unread here, in bytes.
    window: u64,
    /// The window that quinn-proto was told last.
    told: u64,
    /// Bytes in `streams`.
    held: u64,
    /// Chunks behind gaps in `streams`.
    parked: usize,
    /// Streams that the other side may have open, by [`Dir`].
    max_streams: [u32; 2],
    /// Those of its streams that have ended for QUIC, but not for the program.
    unread_ends: [u32; 2],
}

#[derive(Default)]
struct Stream {
    bytes: Reassembly,
    end: Option<End>,
    /// It counts among the streams with an unread end.
    unread_end: bool,
    /// Frames that have come since quinn-proto had no chunk of it.
    waiting: u64,
    /// What the connection had received then.
    since: Received,
}

/// How a stream has ended for QUIC.
#[derive(Clone, Copy)]
enum End {
    Finished,
    Reset(VarInt),
}

/// What a connection has received.
#[derive(Clone, Copy, Default)]
struct Received {
    frames: u64,
    bytes: u64,
}

impl Received {
    fn by(quic: &Connection) -> Self {
        let stats = quic.stats();
        Self { frames: stats.frame_rx.stream + stats.frame_rx.datagram, bytes: stats.udp_rx.bytes }
    }
}

impl Receiving {
    pub(crate) fn new(settings: &Transport) -> Self {
        let window = u64::from(settings.window);
        Self {
            streams: BTreeMap::new(),
            heard: BTreeSet::new(),
            crowded: Vec::new(),
            seen: Received::default(),
            window,
            told: window,
            held: 0,
            parked: 0,
            max_streams: [settings.max_bi_streams, settings.max_uni_streams],
            unread_ends: [0; 2],
        }
    }

    /// A frame has come for the stream.
    pub(crate) fn on_readable(&mut self, id: StreamId) {
        let seen = self.seen;
        let new = || Stream { since: seen, ..Stream::default() };
        self.streams.entry(id).or_insert_with(new).waiting += 1;
        self.heard.insert(id);
    }

    /// Whether [`Self::look`] is due before the next datagram.
    pub(crate) fn is_due(&self, quic: &Connection) -> bool {
        let new = Received::by(quic).frames - self.seen.frames;
        new >= MAX_FRAMES || (new > 0 && self.parked > MAX_GAPS_UNSEEN)
    }

    /// Looks at what has come; gives whether there is something to do for [`Self::relieve`].
    pub(crate) fn look(&mut self, quic: &Connection) -> bool {
        let received = Received::by(quic);
        self.seen = received;
        while let Some(id) = self.heard.pop_first() {
            if self.streams.get(&id).is_some_and(|stream| !self.may_wait(stream, received)) {
                self.crowded.push(id);
            }
        }
        !self.crowded.is_empty() || self.credit_due() != self.told
    }

    fn max_parked(&self) -> usize {
        MAX_PARKED + usize::try_from(self.window / PAID).unwrap_or(usize::MAX - MAX_PARKED)
    }

    /// What to end the connection for: more than [`Self::max_parked`] chunks wait behind gaps.
    pub(crate) fn overrun(&self) -> Option<TransportError> {
        let max = self.max_parked();
        (self.parked > max).then(|| TransportError {
            found_by: FoundBy::ThisSide,
            code: TransportErrorCode::INTERNAL_ERROR.into(),
            reason: format!("more than {max} pieces of streams wait behind gaps"),
        })
    }

    /// Takes chunks out of quinn-proto where they might become too many, and gives the credit that is due.
    pub(crate) fn relieve(&mut self, quic: &mut Connection) {
        for id in std::mem::take(&mut self.crowded) {
            while matches!(self.pull(quic, id), Pulled::More) {
                self.give_credit(quic);
            }
        }
        self.give_credit(quic);
    }

    fn may_wait(&self, stream: &Stream, received: Received) -> bool {
        let (frames, bytes) = (received.frames - stream.since.frames, received.bytes - stream.since.bytes);
        let few = stream.waiting < MAX_FRAMES && self.parked <= MAX_GAPS_UNSEEN;
        few || (frames <= MAX_FULL_FRAMES && bytes >= frames * FULL)
    }

    /// The next bytes of a stream, at most `max`; `None` at its end.
    pub(crate) fn read(&mut self, quic: &mut Connection, id: StreamId, max: usize) -> Result<Option<Bytes>, ReadError> {
        loop {
            let stream = self.streams.entry(id).or_default();
            if let Some(bytes) = stream.bytes.read(max) {
                self.held -= bytes.len() as u64;
                return Ok(Some(bytes));
            }
            if let Some(end) = stream.end {
                self.forget(quic, id);
                return match end {
                    End::Finished => Ok(None),
                    End::Reset(code) => Err(ReadError::Reset(code)),
                };
            }
            let held = self.held;
            match self.pull(quic, id) {
                Pulled::More | Pulled::End => {}
                Pulled::All if self.held > held => {}
                Pulled::All => return Err(ReadError::Blocked),
                Pulled::Closed => {
                    self.forget(quic, id);
                    return Ok(None);
                }
            }
        }
    }

    /// Wants no more of a stream: what it has brought is forgotten.
    pub(crate) fn stop(&mut self, quic: &mut Connection, id: StreamId, code: VarInt) -> Result<(), ClosedStream> {
        self.forget(quic, id);
        stream::stop(quic, id, code)
    }

    /// Moves some [`AT_ONCE`] bytes of a stream from quinn-proto to here.
    fn pull(&mut self, quic: &mut Connection, id: StreamId) -> Pulled {
        if self.streams.get(&id).is_some_and(|stream| stream.end.is_some()) {
            return Pulled::Closed;
        }
        let remote = id.initiator() != quic.side();
        if remote {
            // quinn-proto allows another stream for each that ends. A program that reads none must not be sent ever more
            // of them, so they count until their end is read.
            self.allow_streams(quic, id.dir(), 1);
        }
        let stream = self.streams.entry(id).or_default();
        let (held, parked) = (stream.bytes.len(), stream.bytes.parked());
        let pulled = stream.pull(quic, id);
        self.held = self.held + stream.bytes.len() as u64 - held as u64;
        self.parked = self.parked + stream.bytes.parked() - parked;
        if remote {
            stream.unread_end = stream.end.is_some();
            self.unread_ends[id.dir() as usize] += u32::from(stream.unread_end);
            self.allow_streams(quic, id.dir(), 0);
        }
        pulled
    }

    /// Lets the other side have as many streams open as it may, less those that the program has not read to their ends.
    fn allow_streams(&self, quic: &mut Connection, dir: Dir, less: u32) {
        let taken = self.unread_ends[dir as usize] + less;
        let count = self.max_streams[dir as usize].saturating_sub(taken);
        quic.set_max_concurrent_streams(dir, VarInt::from_u32(count));
    }

    /// The program has done with the stream.
    fn forget(&mut self, quic: &mut Connection, id: StreamId) {
        let Some(stream) = self.streams.remove(&id) else { return };
        self.held -= stream.bytes.len() as u64;
        self.parked -= stream.bytes.parked();
        if stream.unread_end {
            self.unread_ends[id.dir() as usize] -= 1;
            self.allow_streams(quic, id.dir(), 0);
        }
    }

    /// The window that quinn-proto is to be told: what is held here takes room of it. More is told in steps.
    fn credit_due(&self) -> u64 {
        let due = self.window.saturating_sub(self.held);
        let worth_telling = due < self.told || due - self.told >= self.window / CREDIT_STEP;
        if worth_telling { due } else { self.told }
    }

    fn give_credit(&mut self, quic: &mut Connection) {
        let due = self.credit_due();
        if due != self.told {
            self.told = due;
            // It began as 32 bits, and has not grown.
            quic.set_receive_window(VarInt::from_u32(u32::try_from(due).unwrap_or(u32::MAX)));
        }
    }
}

/// What came of taking bytes out of quinn-proto.
enum Pulled {
    /// There may be more.
    More,
    /// All that was there.
    All,
    /// The stream's end was among it.
    End,
    /// The stream had ended before.
    Closed,
}

impl Stream {
    fn pull(&mut self, quic: &mut Connection, id: StreamId) -> Pulled {
        let mut stream = quic.recv_stream(id);
        // In the order of their arrival: what is behind a gap leaves quinn-proto as well.
        let Ok(mut chunks) = stream.read(false) else { return Pulled::Closed };
        let mut room = AT_ONCE;
        let pulled = loop {
            if room == 0 {
                break Pulled::More;
            }
            // Whole: a merged chunk that is taken in part counts as a whole until its last byte is, and sets off the next
            // merge too early.
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => {
                    room = room.saturating_sub(chunk.bytes.len());
                    self.bytes.insert(chunk.offset, chunk.bytes);
                }
                Ok(None) => {
                    self.end = Some(End::Finished);
                    break Pulled::End;
                }
                Err(ReadError::Reset(code)) => {
                    self.end = Some(End::Reset(code));
                    break Pulled::End;
                }
                Err(ReadError::Blocked) => break Pulled::All,
            }
        };
        // Whether credit is due is asked again when the connection is polled, which it will be.
        let _ = chunks.finalize();
        if matches!(pulled, Pulled::All) {
            (self.waiting, self.since) = (0, Received::by(quic));
        }
        pulled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_pieces_behind_gaps_than_are_allowed_end_the_connection() {
        let mut receiving = Receiving::new(&Transport::default());
        let stream = receiving.streams.entry(StreamId::new(quinn_proto::Side::Client, Dir::Uni, 0)).or_default();
        let max = MAX_PARKED + (16 << 10);
        for piece in 1..=max as u64 {
            stream.bytes.insert(2 * piece, Bytes::from_static(b"x"));
        }
        receiving.parked = stream.bytes.parked();
        assert_eq!((receiving.parked, receiving.overrun()), (max, None));
        receiving.parked += 1;
        assert_eq!(
            receiving.overrun().unwrap().to_string(),
            "QUIC internal error (more than 81920 pieces of streams wait behind gaps)"
        );
    }
}
