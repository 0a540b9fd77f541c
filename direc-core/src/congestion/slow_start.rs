//! The end of slow start before it costs anything, by delay, after HyStart++ (RFC 9406).
//!
//! Cubic alone doubles its window until a queue overflows, and then has as much to send again as the queue and the path
//! hold; the receiving application gets nothing until it has. So the window stops growing once packets take longer than
//! the path does: a queue is building up. If they still do a round trip later, slow start is over; if they do not, it
//! was chance, and it goes on.

use std::time::{Duration, Instant};

/// A round trip that is longer than the path's by an eighth, within these bounds, has met a queue (RFC 9406, section
/// 4.2).
const LONGER: std::ops::RangeInclusive<Duration> = Duration::from_millis(4)..=Duration::from_millis(16);
/// Packets acknowledged at once that make a sample: the quickest of fewer may have waited for its acknowledgement
/// (RFC 9406 wants as many a round).
const SAMPLE: u32 = 8;
/// So many samples after one another are no accident.
const LATE: u32 = 2;

/// What a batch of acknowledgements calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The window may grow as it does.
    Grow,
    /// A queue may be building up: it stays as it is for now.
    Stay,
    /// A queue has built up: slow start is over.
    Leave,
}

#[derive(Clone, Debug, Default)]
pub(super) struct SlowStart {
    over: bool,
    /// The path's round trip: the shortest there has been.
    least: Option<Duration>,
    /// Of the batch under way: packets, the shortest round trip, and when the last one of them was sent.
    packets: u32,
    shortest: Option<Duration>,
    last_sent: Option<Instant>,
    /// Late batches after one another.
    late: u32,
    /// Since when the window has stayed as it is.
    staying: Option<Instant>,
}

impl SlowStart {
    /// A packet has been acknowledged.
    pub(super) fn on_ack(&mut self, now: Instant, sent: Instant) {
        let took = now.saturating_duration_since(sent);
        self.packets = self.packets.saturating_add(1);
        self.shortest = Some(self.shortest.map_or(took, |shortest| shortest.min(took)));
        self.last_sent = self.last_sent.max(Some(sent));
    }

    /// Whether acknowledgements may make the window grow.
    pub(super) fn grows(&self) -> bool {
        self.over || self.staying.is_none()
    }

    /// A packet was lost: from here on it is Cubic's.
    pub(super) fn on_loss(&mut self) {
        self.over = true;
    }

    /// The batch has come to its end.
    pub(super) fn on_end_acks(&mut self, now: Instant) -> Verdict {
        let packets = std::mem::take(&mut self.packets);
        let (Some(shortest), Some(sent)) = (self.shortest.take(), self.last_sent.take()) else { return self.verdict() };
        let least = self.least.map_or(shortest, |least| least.min(shortest));
        self.least = Some(least);
        if self.over || packets < SAMPLE {
            return self.verdict();
        }
        if shortest <= least + (least / 8).clamp(*LONGER.start(), *LONGER.end()) {
            (self.late, self.staying) = (0, None);
            return Verdict::Grow;
        }
        self.late = self.late.saturating_add(1);
        if self.late < LATE {
            return self.verdict();
        }
        let since = *self.staying.get_or_insert(now);
        if sent < since {
            return Verdict::Stay;
        }
        self.over = true;
        Verdict::Leave
    }

    fn verdict(&self) -> Verdict {
        if self.grows() { Verdict::Grow } else { Verdict::Stay }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Batches of ten packets, one each millisecond, whose round trips are these; and what each called for.
    fn verdicts(round_trips: impl IntoIterator<Item = u32>) -> Vec<Verdict> {
        #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
        let start = Instant::now() + 1000 * MS;
        let mut slow_start = SlowStart::default();
        let batch = |(at, round_trip): (u32, u32)| {
            let now = start + at * MS;
            (0..10).for_each(|_| slow_start.on_ack(now, now - round_trip * MS));
            slow_start.on_end_acks(now)
        };
        (0..).zip(round_trips).map(batch).collect()
    }

    #[test]
    fn a_queue_that_builds_up_ends_slow_start_a_round_trip_after_it_is_noticed() {
        let verdicts = verdicts((0..100).map(|at| 20 + at / 4));
        let stays = verdicts.iter().position(|verdict| *verdict == Verdict::Stay).unwrap();
        let leaves = verdicts.iter().position(|verdict| *verdict == Verdict::Leave).unwrap();
        assert!((20..24).contains(&stays), "{stays}");
        assert!((stays + 24..stays + 40).contains(&leaves), "{stays}, {leaves}");
        assert!(verdicts[leaves + 1..].iter().all(|verdict| *verdict == Verdict::Grow), "Cubic grows as it does");
    }

    #[test]
    fn one_late_batch_is_no_queue() {
        assert!(verdicts((0..200).map(|at| if at % 10 == 9 { 60 } else { 20 })).iter().all(|v| *v == Verdict::Grow));
    }

    #[test]
    fn delay_that_goes_away_again_lets_slow_start_go_on() {
        let verdicts = verdicts((0..100).map(|at| if (30..45).contains(&at) { 30 } else { 20 }));
        assert_eq!(verdicts[35], Verdict::Stay);
        assert_eq!(verdicts.last(), Some(&Verdict::Grow));
        assert!(!verdicts.contains(&Verdict::Leave));
    }

    #[test]
    fn a_handful_of_packets_says_nothing() {
        #[allow(clippy::disallowed_methods)] // as above
        let start = Instant::now();
        let mut slow_start = SlowStart::default();
        for at in 0..100 {
            let now = start + at * 20 * MS;
            slow_start.on_ack(now + at * MS, now);
            assert_eq!(slow_start.on_end_acks(now + at * MS), Verdict::Grow);
        }
    }
}
