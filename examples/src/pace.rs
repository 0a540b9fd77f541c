//! A sender held to a rate: small pieces often, so that the network sees a stream and not bursts.

use std::time::{Duration, Instant};

/// How often a paced sender sends.
const TICK: Duration = Duration::from_millis(5);

/// What a sender that was held up may catch up at once: more would be a burst that no real source of this rate makes.
const CATCH_UP: Duration = Duration::from_millis(50);

/// A token bucket; tokens are bytes.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: f64,
    tokens: f64,
    filled: Instant,
    due: Instant,
}

impl Pace {
    /// Pacing at `bits_per_second`, which must be more than 0.
    pub fn new(bits_per_second: u64, now: Instant) -> Self {
        Self { bytes_per_second: bits_per_second.max(1) as f64 / 8.0, tokens: 0.0, filled: now, due: now }
    }

    /// How many bytes may go now (0: none yet; come back at the second value), at most `most`.
    pub fn take(&mut self, now: Instant, most: usize) -> (usize, Instant) {
        if now < self.due {
            return (0, self.due);
        }
        let passed = now.saturating_duration_since(self.filled);
        self.filled = self.filled.max(now);
        let bucket = (self.bytes_per_second * CATCH_UP.as_secs_f64()).max(1.0);
        self.tokens = (self.tokens + self.bytes_per_second * passed.as_secs_f64()).min(bucket);
        let take = (self.tokens as usize).min(most);
        self.tokens -= take as f64;
        if take < most {
            // Empty: a rate of less than a byte a tick still sends its byte when it is due.
            self.due = now + TICK.max(Duration::from_secs_f64((1.0 - self.tokens).max(0.0) / self.bytes_per_second));
        }
        (take, self.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent_in(bits_per_second: u64, length: Duration) -> usize {
        let start = Instant::now();
        let mut pace = Pace::new(bits_per_second, start);
        let (mut now, mut sent) = (start, 0);
        while now < start + length {
            let (bytes, next) = pace.take(now, usize::MAX);
            sent += bytes;
            now = next;
        }
        sent
    }

    #[test]
    fn it_keeps_the_rate() {
        let sent = sent_in(8_000_000, Duration::from_secs(2));
        assert!((1_980_000..=2_000_000).contains(&sent), "{sent}");
    }

    #[test]
    fn an_eager_sender_sends_once_a_tick() {
        let start = Instant::now();
        let mut pace = Pace::new(8_000_000, start);
        let takes = (0..100_000).map(|n| pace.take(start + n * Duration::from_micros(10), 65_536).0);
        let takes: Vec<_> = takes.filter(|&size| size > 0).collect();
        assert!((190..=201).contains(&takes.len()), "{}", takes.len());
        assert!((980_000..=1_000_000).contains(&takes.iter().sum::<usize>()));
    }

    #[test]
    fn a_trickle_gets_through() {
        let sent = sent_in(16, Duration::from_secs(10));
        assert!((18..=20).contains(&sent), "{sent}");
    }

    #[test]
    fn a_long_wait_makes_no_burst() {
        let start = Instant::now();
        let mut pace = Pace::new(8_000_000, start);
        assert_eq!(pace.take(start + Duration::from_secs(60), usize::MAX).0, 50_000);
    }
}
