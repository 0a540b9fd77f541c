//! What a receiver measures while it receives.

use std::time::{Duration, Instant};

/// Counts bytes and the silences between them.
///
/// Time runs from the first bytes to the end, so that the way there does not count; if none ever come, from the
/// start.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    started: Instant,
    first: Option<Instant>,
    last: Instant,
    bytes: u64,
    longest: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Bytes that arrived.
    pub bytes: u64,
    /// From the first of them to the end.
    pub time: Duration,
    /// The longest time without any, the end included.
    pub longest_stall: Duration,
}

impl Meter {
    /// Starts now.
    pub fn new(now: Instant) -> Self {
        Self { started: now, first: None, last: now, bytes: 0, longest: Duration::ZERO }
    }

    /// A read brought `bytes`.
    pub fn got(&mut self, now: Instant, bytes: usize) {
        if self.first.is_none() {
            self.first = Some(now);
        } else {
            self.longest = self.longest.max(now.saturating_duration_since(self.last));
        }
        self.last = now;
        self.bytes += bytes as u64;
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// It is over.
    pub fn end(self, now: Instant) -> Measured {
        Measured {
            bytes: self.bytes,
            time: now.saturating_duration_since(self.first.unwrap_or(self.started)),
            longest_stall: self.longest.max(now.saturating_duration_since(self.last)),
        }
    }
}

impl Measured {
    /// Millions of bits a second.
    pub fn mbit_per_second(&self) -> f64 {
        let seconds = self.time.as_secs_f64();
        if seconds > 0.0 { self.bytes as f64 * 8.0 / 1e6 / seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stalls_count_from_the_first_byte_to_the_end() {
        let at = |start: Instant, ms| start + Duration::from_millis(ms);
        let start = Instant::now();
        let mut meter = Meter::new(start);
        meter.got(at(start, 500), 10);
        meter.got(at(start, 530), 10);
        let measured = meter.end(at(start, 570));
        assert_eq!(measured.bytes, 20);
        assert_eq!(measured.time, Duration::from_millis(70));
        assert_eq!(measured.longest_stall, Duration::from_millis(40));
    }

    #[test]
    fn nothing_at_all_is_one_long_stall() {
        let start = Instant::now();
        let measured = Meter::new(start).end(start + Duration::from_secs(3));
        assert_eq!((measured.bytes, measured.longest_stall), (0, Duration::from_secs(3)));
    }
}
