//! Bytes that can be verified at any offset without keeping them.

use bytes::Bytes;

/// A prime, so that a piece lost, doubled or swapped shifts the pattern unless it is this very length.
const PERIOD: usize = 65_521;
/// Largest piece given at once.
const PIECE: usize = 64 << 10;

thread_local! {
    static PATTERN: Bytes = (0..PERIOD + PIECE)
        .map(|i| {
            let x = (i % PERIOD) as u64;
            // Fibonacci hashing: neighbours look nothing alike.
            (x.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
        })
        .collect();
}

/// Up to `most` bytes of the pattern from this offset on, without copying.
pub(super) fn piece(offset: u64, most: u64) -> Bytes {
    let start = (offset % PERIOD as u64) as usize;
    let len = usize::try_from(most).unwrap_or(PIECE).min(PIECE);
    PATTERN.with(|pattern| pattern.slice(start..start + len))
}

/// Whether these bytes are the pattern at this offset.
pub(super) fn matches(mut offset: u64, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let expected = piece(offset, bytes.len() as u64);
        let (head, tail) = bytes.split_at(expected.len());
        if head != expected {
            return false;
        }
        offset += head.len() as u64;
        bytes = tail;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_match_where_they_belong_and_nowhere_else() {
        let long: Vec<u8> = (0..5).flat_map(|i| piece(i * PIECE as u64, PIECE as u64)).collect();
        assert!(matches(0, &long));
        assert!(matches(70_000, &long[70_000..]));
        assert!(!matches(70_001, &long[70_000..]));
        let mut swapped = long.clone();
        swapped.swap(1000, 1001);
        assert!(!matches(0, &swapped));
    }
}
