//! One stream's bytes between QUIC, which gives them out as they arrive, and the program, which reads them in order.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

/// A smaller chunk is copied next to its neighbour: kept as it is, a few bytes would keep a whole datagram in memory.
const SMALL: usize = 1024;
/// How large copied chunks grow together.
const JOINED: usize = 4096;

/// Bytes of one stream that the program has not read yet.
#[derive(Default)]
pub(super) struct Reassembly {
    /// Bytes in order, ready to be read, and behind them small ones that still grow together.
    ready: VecDeque<Bytes>,
    tail: BytesMut,
    /// The offset behind those: where the first gap begins.
    next: u64,
    /// Chunks behind a gap, by offset. They are disjoint.
    parked: BTreeMap<u64, Chunk>,
    len: usize,
}

/// A chunk behind a gap.
enum Chunk {
    AsReceived(Bytes),
    Joined(BytesMut),
}

impl Chunk {
    fn new(bytes: Bytes) -> Self {
        if bytes.len() < SMALL { Self::Joined(BytesMut::from(&bytes[..])) } else { Self::AsReceived(bytes) }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::AsReceived(bytes) => bytes,
            Self::Joined(bytes) => bytes.freeze(),
        }
    }
}

impl Reassembly {
    /// Bytes held, in order or not.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Chunks held behind gaps.
    pub(super) fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Takes in a chunk. QUIC gives each byte out once, so chunks never overlap.
    pub(super) fn insert(&mut self, offset: u64, bytes: Bytes) {
        debug_assert!(offset >= self.next, "bytes before {offset} were given out twice");
        if bytes.is_empty() || offset < self.next {
            return;
        }
        self.len += bytes.len();
        if offset > self.next {
            return self.park(offset, bytes);
        }
        self.append(bytes);
        while let Some(entry) = self.parked.first_entry()
            && *entry.key() == self.next
        {
            let bytes = entry.remove().into_bytes();
            self.append(bytes);
        }
    }

    fn append(&mut self, bytes: Bytes) {
        self.next += bytes.len() as u64;
        if bytes.len() >= SMALL || self.tail.len() + bytes.len() > JOINED {
            self.close_tail();
        }
        if bytes.len() >= SMALL {
            self.ready.push_back(bytes);
        } else {
            self.tail.extend_from_slice(&bytes);
        }
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.ready.push_back(std::mem::take(&mut self.tail).freeze());
        }
    }

    fn park(&mut self, offset: u64, bytes: Bytes) {
        if let Some((&start, Chunk::Joined(before))) = self.parked.range_mut(..offset).next_back()
            && start + before.len() as u64 == offset
            && before.len() + bytes.len() <= JOINED
        {
            before.extend_from_slice(&bytes);
            return;
        }
        let end = offset + bytes.len() as u64;
        let mut chunk = Chunk::new(bytes);
        if let Chunk::Joined(joined) = &mut chunk
            && let Some(Chunk::Joined(after)) = self.parked.get(&end)
            && joined.len() + after.len() <= JOINED
        {
            joined.extend_from_slice(after);
            self.parked.remove(&end);
        }
        self.parked.insert(offset, chunk);
    }

    /// The next bytes in order, at most `max`.
    pub(super) fn read(&mut self, max: usize) -> Option<Bytes> {
        if self.ready.is_empty() {
            self.close_tail();
        }
        let front = self.ready.front_mut()?;
        let bytes = if front.len() > max { front.split_to(max) } else { self.ready.pop_front()? };
        self.len -= bytes.len();
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream(len: usize) -> Bytes {
        (0..len).map(|at| (at * 7 + (at >> 8) * 13) as u8).collect()
    }

    /// Cuts `0..len` into chunks of these lengths, over and over.
    fn cut(len: usize, lengths: &[usize]) -> Vec<(usize, usize)> {
        let mut chunks = Vec::new();
        let (mut at, mut lengths) = (0, lengths.iter().cycle());
        while at < len {
            let size = lengths.next().unwrap().clamp(&1, &(len - at)).to_owned();
            chunks.push((at, size));
            at += size;
        }
        chunks
    }

    proptest! {
        #[test]
        fn chunks_in_any_order_are_read_in_order(
            lengths in prop::collection::vec(1usize..3000, 1..8),
            order in prop::collection::vec(any::<u16>(), 1..400),
            reads in prop::collection::vec(1usize..5000, 1..8),
        ) {
            let whole = stream(60_000);
            let mut chunks = cut(whole.len(), &lengths);
            for (place, other) in order.iter().enumerate() {
                let (place, other) = (place % chunks.len(), usize::from(*other) % chunks.len());
                chunks.swap(place, other);
            }
            let (mut buffer, mut got, mut inserted) = (Reassembly::default(), Vec::new(), 0);
            let mut reads = reads.iter().cycle();
            for (at, size) in chunks {
                buffer.insert(at as u64, whole.slice(at..at + size));
                inserted += size;
                if let Some(bytes) = buffer.read(*reads.next().unwrap()) {
                    got.extend_from_slice(&bytes);
                }
                prop_assert_eq!(buffer.len(), inserted - got.len());
            }
            while let Some(bytes) = buffer.read(usize::MAX) {
                got.extend_from_slice(&bytes);
            }
            prop_assert_eq!(&got[..], &whole[..]);
            prop_assert_eq!((buffer.len(), buffer.parked()), (0, 0));
        }
    }

    #[test]
    fn a_gap_holds_back_what_is_behind_it_and_nothing_before_it() {
        let whole = stream(3000);
        let mut buffer = Reassembly::default();
        buffer.insert(0, whole.slice(..1000));
        buffer.insert(2000, whole.slice(2000..));
        assert_eq!(buffer.read(usize::MAX), Some(whole.slice(..1000)));
        assert_eq!((buffer.read(usize::MAX), buffer.len(), buffer.parked()), (None, 1000, 1));
        buffer.insert(1000, whole.slice(1000..2000));
        let rest: Vec<u8> = std::iter::from_fn(|| buffer.read(usize::MAX)).flatten().collect();
        assert_eq!(rest, whole[1000..]);
    }

    #[test]
    fn small_chunks_behind_a_gap_grow_together_from_either_end() {
        let whole = stream(20_000);
        for backwards in [false, true] {
            let mut chunks = cut(whole.len() - 10, &[10]);
            if backwards {
                chunks.reverse();
            }
            let mut buffer = Reassembly::default();
            for (at, size) in chunks {
                buffer.insert(at as u64 + 10, whole.slice(at + 10..at + 10 + size));
            }
            assert!(buffer.parked() <= 2 * whole.len() / JOINED, "{} chunks", buffer.parked());
        }
    }

    #[test]
    fn a_small_chunk_does_not_keep_the_datagram_it_came_in() {
        let datagram = Bytes::from(vec![7; 1400]);
        let mut buffer = Reassembly::default();
        buffer.insert(0, datagram.slice(..20));
        buffer.insert(100, datagram.slice(..20));
        assert!(datagram.is_unique());
    }
}
