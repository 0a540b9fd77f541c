//! One way of a wire: what happens to a packet between its ends.

use std::time::Duration;

use crate::rng::Rng;

/// Properties of one direction of a wire. The default is a perfect wire: no delay, no loss, no limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkConfig {
    /// Time a bit takes to the other end.
    pub delay: Duration,
    /// Each packet takes up to this much longer, so later ones may overtake it.
    pub jitter: Duration,
    /// Probability that a packet is lost.
    pub loss: f64,
    /// Probability that a packet arrives twice.
    pub duplicate: f64,
    /// Probability that a packet is held back by `reorder_by`.
    pub reorder: f64,
    /// How long a packet is held back.
    pub reorder_by: Duration,
    /// Probability that a packet's bytes change on the way, as somebody on the path could do (the UDP checksum catches
    /// accidents).
    pub corrupt: f64,
    /// Bits per second; no limit if `None`.
    pub rate: Option<u64>,
    /// Bytes that may wait for their turn where there is a rate; what does not fit is dropped (drop-tail).
    pub queue: usize,
    /// Largest IP packet, headers included; bigger ones vanish silently.
    pub mtu: usize,
}

impl LinkConfig {
    /// A perfect wire with this delay.
    pub fn delay(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// A wire with this rate in bits per second and a queue of 50 ms.
    pub fn rate(bits_per_second: u64) -> Self {
        let queue = usize::try_from(bits_per_second / 8 / 20).unwrap_or(usize::MAX).max(16 * 1500);
        Self { rate: Some(bits_per_second), queue, ..Self::default() }
    }
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_by: Duration::ZERO,
            corrupt: 0.0,
            rate: None,
            queue: 64 << 10,
            mtu: 1500,
        }
    }
}

/// What a link does to one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives at this time, and perhaps once more.
    Arrives {
        /// When.
        at: Duration,
        /// When its duplicate does, if there is one.
        again: Option<Duration>,
        /// Whether its bytes have been changed.
        corrupt: bool,
    },
    /// Lost by chance.
    Lost,
    /// No room in the queue.
    QueueFull,
    /// Bigger than the MTU.
    TooBig,
}

/// One direction of a wire, at work.
#[derive(Debug)]
pub struct Link {
    /// Its properties; may be changed at any time, packets under way are not affected.
    pub config: LinkConfig,
    /// When the last bit accepted so far will have left.
    free_at: Duration,
    /// What is left to chance, packet by packet: another wire's packets change nothing here.
    rng: Rng,
}

impl Link {
    /// An idle link, and its chance.
    pub fn new(config: LinkConfig, rng: Rng) -> Self {
        Self { config, free_at: Duration::ZERO, rng }
    }

    /// Takes an IP packet of `size` bytes at time `now`.
    pub fn send(&mut self, now: Duration, size: usize) -> Fate {
        let rng = &mut self.rng;
        let LinkConfig { delay, jitter, loss, duplicate, reorder, reorder_by, corrupt, rate, queue, mtu } = self.config;
        if size > mtu {
            return Fate::TooBig;
        }
        let sent = match rate {
            None => now,
            Some(rate) => {
                let start = self.free_at.max(now);
                if bits_in(start - now, rate) / 8 + size as u128 > queue.max(size) as u128 {
                    return Fate::QueueFull;
                }
                self.free_at = start + time_of(size, rate);
                self.free_at
            }
        };
        // A lost packet has used the wire all the same.
        if rng.chance(loss) {
            return Fate::Lost;
        }
        let mut arrival = || {
            let held = if rng.chance(reorder) { reorder_by } else { Duration::ZERO };
            sent + delay + rng.upto(jitter) + held
        };
        let at = arrival();
        let twin = arrival();
        let again = rng.chance(duplicate).then_some(twin);
        Fate::Arrives { at, again, corrupt: rng.chance(corrupt) }
    }
}

fn time_of(bytes: usize, rate: u64) -> Duration {
    let nanos = bytes as u128 * 8 * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn bits_in(time: Duration, rate: u64) -> u128 {
    time.as_nanos() * u128::from(rate) / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    const MS: Duration = Duration::from_millis(1);

    fn rng() -> Rng {
        Rng::new(1, Purpose::Network)
    }

    fn at(fate: Fate) -> Duration {
        match fate {
            Fate::Arrives { at, .. } => at,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_perfect_wire_keeps_order_and_time() {
        let mut link = Link::new(LinkConfig::delay(20 * MS), rng());
        for sent in 0..5 {
            let fate = link.send(sent * MS, 1500);
            assert_eq!(fate, Fate::Arrives { at: (20 + sent) * MS, again: None, corrupt: false });
        }
    }

    #[test]
    fn a_slow_wire_sends_one_packet_after_the_other() {
        // 1,000 bytes at 8 Mbit/s take 1 ms each.
        let mut link = Link::new(LinkConfig { rate: Some(8_000_000), ..LinkConfig::delay(10 * MS) }, rng());
        let arrivals: Vec<_> = (0..3).map(|_| at(link.send(Duration::ZERO, 1000))).collect();
        assert_eq!(arrivals, [11 * MS, 12 * MS, 13 * MS]);
        assert_eq!(at(link.send(50 * MS, 1000)), 61 * MS, "the wire has been idle");
    }

    #[test]
    fn a_full_queue_drops_what_comes_last() {
        let mut link = Link::new(LinkConfig { rate: Some(8_000_000), queue: 2500, ..LinkConfig::default() }, rng());
        let fates: Vec<_> = (0..4).map(|_| link.send(Duration::ZERO, 1000)).collect();
        assert!(matches!(fates[1], Fate::Arrives { .. }));
        assert_eq!(fates[2..], [Fate::QueueFull, Fate::QueueFull]);
        assert!(matches!(link.send(MS, 1000), Fate::Arrives { .. }), "one has left since");
    }

    #[test]
    fn packets_bigger_than_the_mtu_vanish() {
        let mut link = Link::new(LinkConfig { mtu: 1300, ..LinkConfig::default() }, rng());
        assert_eq!(link.send(MS, 1301), Fate::TooBig);
        assert_eq!(at(link.send(MS, 1300)), MS);
    }

    #[test]
    fn loss_duplication_and_reordering_happen_as_often_as_told() {
        let config =
            LinkConfig { loss: 0.2, duplicate: 0.1, reorder: 0.05, reorder_by: 7 * MS, ..LinkConfig::delay(10 * MS) };
        let mut link = Link::new(config, rng());
        let (mut lost, mut twice, mut late) = (0, 0, 0);
        for _ in 0..10_000 {
            match link.send(Duration::ZERO, 100) {
                Fate::Arrives { at, again, .. } => {
                    twice += u32::from(again.is_some());
                    late += u32::from(at == 17 * MS);
                }
                _ => lost += 1,
            }
        }
        assert!((1850..2150).contains(&lost), "{lost}");
        assert!((700..900).contains(&twice), "{twice}");
        assert!((320..480).contains(&late), "{late}");
    }
}
