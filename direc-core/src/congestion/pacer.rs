//! When packets leave: at the model's rate, in short bursts.
//!
//! quinn-proto paces by its window and its smoothed round trip, which is another rate than the model's, and there is no
//! way to give it one. So the model's controller says "nothing now" (a window of 1 byte) until a burst is due, and "as much
//! as you like" (a window so large that quinn-proto does not pace) when it is; how many packets that are is up to the
//! session, by [`Pacer::room`].

use std::time::Duration;

/// The time between two bursts: less cannot be slept by everybody.
const INTERVAL: Duration = Duration::from_millis(1);
/// The largest burst, for 4 Gbit/s: more at once would overflow receive buffers of 1 MB.
const LARGEST: u64 = 512 << 10;
/// The smallest: at low rates a packet and what belongs to it leave together.
const SMALLEST_PACKETS: u64 = 2;
/// What may leave at once after a pause (RFC 9002, section 7.7, recommends the initial window).
const AFTER_PAUSE_PACKETS: u64 = 10;

/// What may leave when: a virtual schedule, in which each byte takes its time (GCRA).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pacer {
    /// Bytes a second; 0: as fast as it goes.
    rate: u64,
    burst: u64,
    after_pause: u64,
    /// When all that has left will have left, at this rate, in nanoseconds.
    free_at: u64,
}

impl Pacer {
    pub(super) fn set_rate(&mut self, rate: u64, packet: u64) {
        self.rate = rate;
        let burst = u128::from(rate) * INTERVAL.as_nanos() / 1_000_000_000;
        self.burst = u64::try_from(burst).unwrap_or(LARGEST).clamp(SMALLEST_PACKETS * packet, LARGEST);
        self.after_pause = self.burst.max(AFTER_PAUSE_PACKETS * packet);
    }

    /// Bytes that leave together while there is always something to send.
    pub(super) fn burst(&self) -> u64 {
        self.burst
    }

    fn nanos(&self, bytes: u64) -> u64 {
        u64::try_from(u128::from(bytes) * 1_000_000_000 / u128::from(self.rate.max(1))).unwrap_or(u64::MAX)
    }

    /// Bytes that may leave at this time.
    pub(super) fn room(&self, now: u64) -> u64 {
        if self.rate == 0 {
            return u64::MAX;
        }
        let owed = u128::from(self.free_at.saturating_sub(now)) * u128::from(self.rate) / 1_000_000_000;
        self.after_pause.saturating_sub(u64::try_from(owed).unwrap_or(u64::MAX))
    }

    pub(super) fn on_sent(&mut self, now: u64, bytes: u64) {
        if self.rate > 0 {
            self.free_at = self.free_at.max(now).saturating_add(self.nanos(bytes));
        }
    }

    /// When a burst may leave.
    pub(super) fn due(&self) -> u64 {
        self.free_at.saturating_sub(self.nanos(self.after_pause - self.burst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: u64 = 1200;
    const MS: u64 = 1_000_000;

    fn pacer(rate: u64) -> Pacer {
        let mut pacer = Pacer::default();
        pacer.set_rate(rate, PACKET);
        pacer
    }

    #[test]
    fn ten_packets_leave_after_a_pause_and_then_bursts_at_the_rate() {
        // 12 Mbit/s: a burst of two packets takes 1.6 ms.
        let mut pacer = pacer(1_500_000);
        assert_eq!(pacer.room(0), 10 * PACKET);
        pacer.on_sent(0, 10 * PACKET);
        assert_eq!((pacer.room(0), pacer.due()), (0, 1_600_000));
        assert_eq!(pacer.room(pacer.due()), 2 * PACKET);
        let later = 1000 * MS;
        assert_eq!(pacer.room(later), 10 * PACKET, "no more after a longer pause");
    }

    #[test]
    fn over_a_second_no_more_leaves_than_the_rate_and_one_pause_allow() {
        for rate in [10_000, 1_500_000, 12_500_000, 125_000_000] {
            let mut pacer = pacer(rate);
            let (mut now, mut sent) = (0, 0);
            while now < 1000 * MS {
                let room = pacer.room(now) / PACKET * PACKET;
                pacer.on_sent(now, room);
                sent += room;
                now = pacer.due().max(now + 1);
            }
            assert!(sent <= rate + pacer.after_pause && sent + 2 * pacer.after_pause > rate, "{sent} at {rate}");
        }
    }

    #[test]
    fn at_100_mbit_no_burst_is_longer_than_ten_packets() {
        assert!(pacer(12_500_000).after_pause <= 12_500);
    }

    #[test]
    fn without_a_rate_everything_leaves() {
        assert_eq!(Pacer::default().room(0), u64::MAX);
    }
}
