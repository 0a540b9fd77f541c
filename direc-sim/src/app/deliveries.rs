//! When the receiving application got how much: what stalls and goodput are measured by.

use std::time::Duration;

/// Deliveries nearer to each other than this are kept as one.
const GRAIN: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Delivery {
    first: Duration,
    last: Duration,
    bytes: u64,
}

/// Bytes delivered to an application over time, gaps between them to the nanosecond.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deliveries(Vec<Delivery>);

/// A time in which nothing was delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// When it began.
    pub at: Duration,
    /// How long it was.
    pub lasted: Duration,
}

impl Deliveries {
    pub(super) fn note(&mut self, at: Duration, bytes: u64) {
        match self.0.last_mut() {
            Some(last) if at < last.first + GRAIN => {
                last.last = at;
                last.bytes += bytes;
            }
            _ => self.0.push(Delivery { first: at, last: at, bytes }),
        }
    }

    /// The longest time without a delivery that reaches into this window. It may have begun before; it is cut at the
    /// window's end, after which nobody looks.
    pub fn longest_gap(&self, from: Duration, to: Duration) -> Gap {
        self.gaps(from, to).max_by_key(|gap| gap.lasted).unwrap_or_default()
    }

    /// The longest time without a delivery within this window, cut at both its ends.
    pub fn longest_gap_within(&self, from: Duration, to: Duration) -> Gap {
        let cut = |gap: Gap| {
            let at = gap.at.max(from);
            Gap { at, lasted: (gap.at + gap.lasted).saturating_sub(at) }
        };
        self.gaps(from, to).map(cut).max_by_key(|gap| gap.lasted).unwrap_or_default()
    }

    /// Bytes delivered in this window, its end not included.
    pub fn bytes(&self, from: Duration, to: Duration) -> u64 {
        let inside = self.0.iter().filter(|delivery| delivery.first >= from && delivery.first < to);
        inside.map(|delivery| delivery.bytes).sum()
    }

    /// When the first byte came, and the last.
    pub fn span(&self) -> Option<(Duration, Duration)> {
        Some((self.0.first()?.first, self.0.last()?.last))
    }

    fn gaps(&self, from: Duration, to: Duration) -> impl Iterator<Item = Gap> {
        let begins = std::iter::once(Duration::ZERO).chain(self.0.iter().map(|delivery| delivery.last));
        let ends = self.0.iter().map(|delivery| delivery.first).chain([to]);
        let gaps = begins.zip(ends).map(move |(begin, end)| (begin, end.min(to)));
        gaps.filter(move |&(begin, end)| end > from && begin < end)
            .map(|(at, end)| Gap { at, lasted: end.saturating_sub(at) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(times: &[u32]) -> Deliveries {
        let mut deliveries = Deliveries::default();
        times.iter().for_each(|&time| deliveries.note(time * MS, 10));
        deliveries
    }

    #[test]
    fn the_longest_gap_may_begin_before_the_window_and_is_cut_at_its_end() {
        let deliveries = at(&[10, 20, 70, 80, 90]);
        assert_eq!(deliveries.longest_gap(30 * MS, 100 * MS), Gap { at: 20 * MS, lasted: 50 * MS });
        assert_eq!(deliveries.longest_gap_within(30 * MS, 100 * MS), Gap { at: 30 * MS, lasted: 40 * MS });
        assert_eq!(deliveries.longest_gap(75 * MS, 85 * MS), Gap { at: 70 * MS, lasted: 10 * MS });
        assert_eq!(deliveries.longest_gap(75 * MS, 500 * MS), Gap { at: 90 * MS, lasted: 410 * MS });
    }

    #[test]
    fn where_nothing_ever_came_the_gap_is_all_there_is() {
        assert_eq!(at(&[]).longest_gap_within(30 * MS, 100 * MS), Gap { at: 30 * MS, lasted: 70 * MS });
    }

    #[test]
    fn bytes_count_where_they_came() {
        let deliveries = at(&[10, 20, 70, 80, 90]);
        assert_eq!(deliveries.bytes(20 * MS, 80 * MS), 20);
        assert_eq!(deliveries.span(), Some((10 * MS, 90 * MS)));
    }
}
