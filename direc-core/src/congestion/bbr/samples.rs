//! The delivery rate, measured packet by packet (draft-ietf-ccwg-bbr, section 4.1.2).
//!
//! QUIC tells of an acknowledged packet when it was sent, and not its number. So what the sampler knew as packets left is
//! kept by the time at which they did.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Bursts that are remembered: 1 Gbit/s for 400 ms in bursts of 32 packets is about 1,000, and 100 Mbit/s in bursts of a
/// packet for 400 ms is 3,500. Of one that is forgotten too early the acknowledgement gives no sample.
const MAX_BURSTS: usize = 4096;

/// Packets that left at one time, and what was known then.
#[derive(Clone, Copy, Debug)]
struct Burst {
    at: Instant,
    /// Bytes delivered until then, and when the last of them were.
    delivered: u64,
    delivered_at: Instant,
    /// When the packet left whose delivery is the latest that was known then.
    first_sent_at: Instant,
    /// The program had nothing more to send: the path may carry more.
    app_limited: bool,
    /// Bytes in flight with this burst.
    in_flight: u64,
}

/// What a batch of acknowledgements says of the path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Bytes a second, where enough time has passed to measure it.
    pub(super) rate: Option<f64>,
    /// The shortest round trip among the packets.
    pub(super) rtt: Duration,
    /// Bytes acknowledged with this batch.
    pub(super) acked: u64,
    /// A round trip has passed since the last round began: a packet that was sent in it has arrived.
    pub(super) round: bool,
    pub(super) app_limited: bool,
}

/// The batch of acknowledgements that is being taken in.
#[derive(Clone, Copy, Debug)]
struct Batch {
    latest: Instant,
    acked: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Samples {
    bursts: VecDeque<Burst>,
    delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    /// What leaves until more than so many bytes have been delivered follows a time in which the program had nothing to send.
    app_limited_until: Option<u64>,
    /// A round ends when a packet arrives that was sent after so many bytes had been delivered.
    round_ends: u64,
    batch: Option<Batch>,
}

impl Samples {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            bursts: VecDeque::new(),
            delivered: 0,
            delivered_at: now,
            first_sent_at: now,
            app_limited_until: None,
            round_ends: 0,
            batch: None,
        }
    }

    /// Bytes delivered so far.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Packets leave; `before`: bytes in flight without them.
    pub(super) fn on_sent(&mut self, now: Instant, bytes: u64, before: u64) {
        if before == 0 {
            (self.first_sent_at, self.delivered_at) = (now, now);
        }
        if let Some(last) = self.bursts.back_mut().filter(|last| last.at == now) {
            last.in_flight += bytes;
            return;
        }
        if self.bursts.len() == MAX_BURSTS {
            self.bursts.pop_front();
        }
        self.bursts.push_back(Burst {
            at: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            app_limited: self.app_limited_until.is_some(),
            in_flight: before + bytes,
        });
    }

    /// A packet that left at `sent` has been acknowledged.
    pub(super) fn on_ack(&mut self, sent: Instant, bytes: u64) {
        self.delivered += bytes;
        self.app_limited_until = self.app_limited_until.filter(|&until| self.delivered <= until);
        let batch = self.batch.get_or_insert(Batch { latest: sent, acked: 0 });
        batch.latest = batch.latest.max(sent);
        batch.acked += bytes;
    }

    /// The batch of acknowledgements has come to its end. `least`: the path's round trip, so far; a rate that was measured
    /// over less is one of acknowledgements that came together.
    pub(super) fn on_end_acks(&mut self, now: Instant, least: Option<Duration>) -> Option<Sample> {
        let Batch { latest, acked } = self.batch.take()?;
        self.delivered_at = now;
        let burst = self.find(latest)?;
        self.first_sent_at = burst.at;
        let round = burst.delivered >= self.round_ends;
        if round {
            self.round_ends = self.delivered;
        }
        self.forget_before(burst.first_sent_at);
        let rtt = now.saturating_duration_since(latest);
        let sending = burst.at.saturating_duration_since(burst.first_sent_at);
        let arriving = now.saturating_duration_since(burst.delivered_at);
        let interval = sending.max(arriving);
        let delivered = (self.delivered - burst.delivered) as f64;
        let enough = interval >= least.unwrap_or(rtt).min(rtt) && !interval.is_zero();
        let rate = enough.then(|| delivered / interval.as_secs_f64());
        Some(Sample { rate, rtt, acked, round, app_limited: burst.app_limited })
    }

    /// Bytes in flight when what left at `sent` did, if that is remembered.
    pub(super) fn in_flight_at(&self, sent: Instant) -> Option<u64> {
        self.find(sent).map(|burst| burst.in_flight)
    }

    /// Nothing waits to be sent, with so many bytes in flight.
    pub(super) fn on_app_limited(&mut self, in_flight: u64) {
        self.app_limited_until = Some(self.delivered + in_flight);
    }

    fn find(&self, sent: Instant) -> Option<Burst> {
        let after = self.bursts.partition_point(|burst| burst.at <= sent);
        self.bursts.get(after.checked_sub(1)?).copied().filter(|burst| burst.at == sent)
    }

    /// Bursts from before the packet whose delivery began the interval that has just been measured are all answered, or
    /// long lost.
    fn forget_before(&mut self, at: Instant) {
        while self.bursts.front().is_some_and(|burst| burst.at < at) {
            self.bursts.pop_front();
        }
    }
}
