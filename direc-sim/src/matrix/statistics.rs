//! What a sample says of the whole: rates and medians with their intervals, at 95 % confidence.
//!
//! Nothing but the four operations and square roots, which IEEE 754 rounds the same way everywhere: a page made from
//! these figures is the same to the byte on every machine.

use std::time::Duration;

/// The normal distribution's 97.5 % quantile.
const Z: f64 = 1.959_963_984_540_054;
/// What may lie outside of an interval, on each side.
const TAIL: f64 = 0.025;

/// A value and the interval that holds the true one, at 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub struct Estimate<T> {
    /// The sample's.
    pub value: T,
    /// The interval's lower end.
    pub low: T,
    /// Its upper end.
    pub high: T,
}

/// How often something happens that happened `hits` times out of `trials`: the Wilson score interval, from 0 to 1.
/// Nothing is known without trials.
pub fn rate(hits: u64, trials: u64) -> Estimate<f64> {
    if trials == 0 {
        return Estimate { value: 0.0, low: 0.0, high: 1.0 };
    }
    let (n, value) = (trials as f64, hits as f64 / trials as f64);
    let squared = Z * Z;
    let scale = 1.0 + squared / n;
    let centre = (value + squared / (2.0 * n)) / scale;
    let reach = Z * (value * (1.0 - value) / n + squared / (4.0 * n * n)).sqrt() / scale;
    // Rounding must not leave the sample's own rate outside.
    Estimate { value, low: (centre - reach).clamp(0.0, value), high: (centre + reach).clamp(value, 1.0) }
}

/// The median of a sorted sample, and between which of its members the true one lies, whatever the distribution: the
/// sign test's interval. `None` if the sample is empty. A small sample (below six) gives its ends, at less confidence.
pub fn median(sorted: &[Duration]) -> Option<Estimate<Duration>> {
    let (first, last) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
    let outside = below_the_interval(sorted.len());
    Some(Estimate {
        value: (sorted[first] + sorted[last]) / 2,
        low: sorted[outside],
        high: sorted[sorted.len() - 1 - outside],
    })
}

/// How many of `n` members to leave out at each end: the most that a binomial variable of n and ½ stays at or below with
/// a probability of no more than `TAIL`.
fn below_the_interval(n: usize) -> usize {
    // Probabilities relative to the middle's, outwards until they no longer matter: 2^-n is no floating-point number.
    let mut relative = vec![1.0];
    for k in (1..=n / 2).rev() {
        let next = relative[relative.len() - 1] * k as f64 / (n - k + 1) as f64;
        if next < 1e-18 {
            break;
        }
        relative.push(next);
    }
    // An even n has its middle once, all others twice.
    let total = 2.0 * relative.iter().sum::<f64>() - if n.is_multiple_of(2) { 1.0 } else { 0.0 };
    let (least, mut tail) = (n / 2 + 1 - relative.len(), 0.0);
    let inside = relative.iter().rev().take_while(|&probability| {
        tail += probability;
        tail <= TAIL * total
    });
    (least + inside.count()).saturating_sub(1)
}

/// The nearest-rank percentile of a sorted sample; `None` if it is empty.
pub fn percentile<T: Copy>(sorted: &[T], per_cent: usize) -> Option<T> {
    let rank = (sorted.len() * per_cent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: Estimate<f64>, low: f64, high: f64) {
        assert!((found.low - low).abs() < 5e-5 && (found.high - high).abs() < 5e-5, "{found:?}");
    }

    #[test]
    fn wilson_intervals_are_those_of_the_textbooks() {
        // Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
        close(rate(81, 263), 0.2553, 0.3662);
        close(rate(15, 148), 0.0624, 0.1605);
        close(rate(0, 20), 0.0, 0.1611);
        close(rate(1, 29), 0.0061, 0.1718);
        close(rate(20, 20), 1.0 - 0.1611, 1.0);
        assert_eq!(rate(0, 0), Estimate { value: 0.0, low: 0.0, high: 1.0 });
    }

    #[test]
    fn medians_lie_between_the_members_that_the_sign_test_names() {
        // Ranks from tables of the binomial distribution at two-sided 95 %: the k-th from each end.
        for (n, rank) in [(6, 1), (9, 2), (10, 2), (15, 4), (20, 6), (25, 8), (50, 18), (100, 40)] {
            assert_eq!(below_the_interval(n) + 1, rank, "n = {n}");
        }
        let sample: Vec<Duration> = (1..=20).map(Duration::from_millis).collect();
        let ms = |tenths: u64| Duration::from_micros(tenths * 100);
        assert_eq!(median(&sample), Some(Estimate { value: ms(105), low: ms(60), high: ms(150) }));
    }

    #[test]
    fn samples_of_any_size_have_a_median_within_its_interval() {
        assert_eq!(median(&[]), None);
        for n in (1..200).chain([1_000, 5_000, 100_001]) {
            let sample: Vec<Duration> = (0..n).map(Duration::from_micros).collect();
            let found = median(&sample).unwrap();
            assert!(found.low <= found.value && found.value <= found.high, "n = {n}: {found:?}");
        }
        // The normal approximation, n/2 ± 1.96·√n/2, holds well for large ones.
        let outside = below_the_interval(100_000) as f64;
        assert!((outside - (50_000.0 - Z * 100_000_f64.sqrt() / 2.0)).abs() < 2.0, "{outside}");
    }

    #[test]
    fn percentiles_are_members() {
        let sample: Vec<u64> = (1..=200).collect();
        assert_eq!([50, 95, 100].map(|p| percentile(&sample, p)), [Some(100), Some(190), Some(200)]);
        assert_eq!(percentile(&[7], 95), Some(7));
        assert_eq!(percentile::<u64>(&[], 95), None);
    }
}
