//! How a stream is written and read, for a while at a time.

use std::time::Duration;

use direc_sim::rng::Rng;

/// Sizes of writes that leave an assembler of stream data with many small chunks between large ones: a message, its
/// header, its trailer and the like.
const PATTERNS: [&[usize]; 5] =
    [&[1410, 10, 10], &[1410, 10, 10, 10], &[1410, 4, 4, 4, 4], &[1200, 300, 20], &[1410, 20]];
/// The longest pause of a writer, and the longest stop of a reader: together less than any patience, more than it takes
/// to fill a window.
const LONGEST_PAUSE: Duration = Duration::from_millis(300);
const LONGEST_STOP: Duration = Duration::from_millis(1000);
/// Blocks and eager reads get up to one part in this many of the whole, so that a transfer sees a dozen manners whatever
/// its size.
const PARTS: u64 = 4;
/// The most writes that are sent one by one in a row. A pattern of three needs 2,048 repeats to be noticed by anybody.
const LONE_WRITES: u64 = 12_000;

/// How a writer writes for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// As fast as it goes, in blocks of this size, so many bytes.
    Blocks { size: usize, bytes: u64 },
    /// Pieces of random sizes from 1 to `most` bytes, each sent by itself.
    Pieces { most: u64, count: u64 },
    /// Pieces of these sizes over and over again, each sent by itself.
    Pattern { sizes: &'static [usize], count: u64 },
    /// Nothing for this long.
    Pause(Duration),
}

impl Writing {
    /// What comes next on a stream of so many bytes.
    pub(crate) fn draw(rng: &mut Rng, total: u64) -> Self {
        match rng.below(8) {
            0..=2 => {
                Self::Blocks { size: 1 << (12 + rng.below(9)), bytes: 1 + rng.below((total / PARTS).max(256 << 10)) }
            }
            3 => Self::Pieces { most: 16, count: 1 + rng.below(LONE_WRITES) },
            4 => Self::Pieces { most: 3000, count: 1 + rng.below(LONE_WRITES) },
            5 | 6 => {
                let sizes = PATTERNS[rng.below(PATTERNS.len() as u64) as usize];
                Self::Pattern { sizes, count: 1 + rng.below(LONE_WRITES) }
            }
            _ => Self::Pause(rng.upto(LONGEST_PAUSE)),
        }
    }
}

/// How a reader reads for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Chunks as they came, but at most of this size, so many bytes.
    Chunks { most: usize, bytes: u64 },
    /// Into a buffer of this size, so many bytes.
    Buffer { size: usize, bytes: u64 },
    /// Nothing for this long.
    Stop(Duration),
}

impl Reading {
    /// What comes next on a stream of so many bytes.
    pub(crate) fn draw(rng: &mut Rng, total: u64) -> Self {
        let much = (total / PARTS).max(256 << 10);
        match rng.below(8) {
            0..=2 => Self::Chunks { most: usize::MAX, bytes: 1 + rng.below(much) },
            3 => Self::Chunks { most: 1 << (10 + rng.below(10)), bytes: 1 + rng.below(much) },
            4 => Self::Chunks { most: 1 + rng.below(2000) as usize, bytes: 1 + rng.below(1 << 20) },
            5 => Self::Buffer { size: 1 << (10 + rng.below(10)), bytes: 1 + rng.below(much) },
            _ => Self::Stop(rng.upto(LONGEST_STOP)),
        }
    }
}
