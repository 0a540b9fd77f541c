//! The epoch controller: congestion control that survives a move between paths.
//!
//! `Connection::path_changed` starts a new controller. Packets of the old path, overtaken by the new one's, then count
//! as lost, and their fate would hit a controller that never sent them. So a controller looks only at packets sent in
//! its own epoch, and lets the old ones' bytes, still in flight, ride on top of its window.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use quinn_proto::{
    RttEstimator,
    congestion::{Controller, ControllerFactory, CubicConfig},
};

/// Room for a ping's datagram, which may be as large as any.
const PING: u64 = 2 * 1452;

/// Builds epoch controllers over Cubic (RFC 9438). One per connection, since it carries that one's bytes in flight.
pub(crate) struct EpochConfig {
    ledger: Arc<Ledger>,
    inner: Arc<CubicConfig>,
}

impl EpochConfig {
    pub(crate) fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger, inner: Arc::default() }
    }
}

/// What one epoch leaves to the next; and for the paths, what has been answered.
pub(crate) struct Ledger {
    start: Instant,
    /// When the latest packet left that has been acknowledged, in nanoseconds from the start; 0 before the first.
    acknowledged: AtomicU64,
    /// Bytes sent and not heard of. A side that only acknowledges hears of nothing, hence beside it the largest window
    /// of the epoch: no more was ever in flight.
    in_flight: AtomicU64,
    window: AtomicU64,
    /// What pings and the good-bye may send beyond the window, until something is acknowledged.
    allowance: AtomicU64,
}

impl Ledger {
    pub(crate) fn new(start: Instant) -> Arc<Self> {
        let [acknowledged, in_flight, window, allowance] = [0, 0, 0, 0].map(AtomicU64::new);
        Arc::new(Self { start, acknowledged, in_flight, window, allowance })
    }

    /// When the latest packet left that has been acknowledged.
    pub(crate) fn acknowledged(&self) -> Option<Instant> {
        let nanos = self.acknowledged.load(Ordering::Relaxed);
        (nanos > 0).then(|| self.start + Duration::from_nanos(nanos))
    }

    /// Whether something was unanswered after the last acknowledgement.
    pub(crate) fn is_waiting(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// Lets a ping pass a full window, as QUIC's own probes do (RFC 9002, section 7.5). Where data waits for room,
    /// quinn-proto keeps back acknowledgements too: two sides with full windows would wait for each other.
    pub(crate) fn let_ping_pass(&self) {
        self.allowance.fetch_add(PING, Ordering::Relaxed);
    }

    /// Lets the good-bye pass a full window: nothing else is sent after it (RFC 9000, section 10.2.1), and quinn-proto
    /// 0.11 would hold it back for ever, since it hears no acknowledgements any more (quinn-rs/quinn#2785).
    pub(crate) fn let_close_pass(&self) {
        self.allowance.store(u64::MAX / 4, Ordering::Relaxed);
    }

    fn note(&self, sent: Instant) {
        let nanos = u64::try_from(sent.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX);
        self.acknowledged.fetch_max(nanos, Ordering::Relaxed);
    }
}

impl ControllerFactory for EpochConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let in_flight = self.ledger.in_flight.load(Ordering::Relaxed);
        let epoch = Epoch {
            inner: self.inner.clone().build(now, current_mtu),
            born: now,
            before: in_flight.min(self.ledger.window.load(Ordering::Relaxed)),
            ledger: self.ledger.clone(),
        };
        self.ledger.window.store(epoch.window(), Ordering::Relaxed);
        Box::new(epoch)
    }
}

struct Epoch {
    inner: Box<dyn Controller>,
    /// Packets sent before this are the last epoch's.
    born: Instant,
    /// Bytes of the last epoch that are neither acknowledged nor lost yet.
    before: u64,
    ledger: Arc<Ledger>,
}

impl Epoch {
    fn landed(&mut self, sent: Instant, bytes: u64) -> bool {
        let left = self.ledger.in_flight.load(Ordering::Relaxed).saturating_sub(bytes);
        self.ledger.in_flight.store(left, Ordering::Relaxed);
        let old = sent < self.born;
        if old {
            self.before = self.before.saturating_sub(bytes);
        }
        old
    }
}

impl Controller for Epoch {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.ledger.in_flight.fetch_add(bytes, Ordering::Relaxed);
        self.ledger.window.fetch_max(self.window(), Ordering::Relaxed);
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.ledger.note(sent);
        if !self.landed(sent, bytes) {
            self.inner.on_ack(now, sent, bytes, app_limited, rtt);
        }
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest: Option<u64>) {
        self.ledger.in_flight.store(in_flight, Ordering::Relaxed);
        self.ledger.allowance.store(0, Ordering::Relaxed);
        self.before = self.before.min(in_flight);
        self.inner.on_end_acks(now, in_flight.saturating_sub(self.before), app_limited, largest);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost_bytes: u64) {
        if !self.landed(sent, lost_bytes) {
            self.inner.on_congestion_event(now, sent, persistent, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.inner.window() + self.before + self.ledger.allowance.load(Ordering::Relaxed)
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            inner: self.inner.clone_box(),
            born: self.born,
            before: self.before,
            ledger: self.ledger.clone(),
        })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A controller that has lived 1 s with 50 kB in flight, and the next epoch's.
    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn moved() -> (Box<dyn Controller>, Box<dyn Controller>, Instant) {
        let start = Instant::now();
        let factory = Arc::new(EpochConfig::new(Ledger::new(start)));
        let mut old = factory.clone().build(start, 1200);
        old.on_sent(start, 10_000, 40);
        let moved = start + Duration::from_secs(1);
        (old, factory.build(moved, 1200), start)
    }

    #[test]
    fn what_is_in_flight_from_before_does_not_block_the_new_path() {
        let (old, new, _) = moved();
        assert_eq!(new.window(), new.initial_window() + 10_000);
        assert_eq!(old.window(), old.initial_window());
    }

    #[test]
    fn a_side_that_has_only_acknowledged_does_not_start_with_a_boundless_window() {
        let (_, _, start) = moved();
        let factory = Arc::new(EpochConfig::new(Ledger::new(start)));
        let mut receiver = factory.clone().build(start, 1200);
        for packet in 0..100_000 {
            receiver.on_sent(start, 40, packet);
        }
        let new = factory.build(start + Duration::from_secs(1), 1200);
        assert!(new.window() <= 2 * new.initial_window(), "{}", new.window());
    }

    #[test]
    fn losses_from_before_do_not_shrink_the_new_window() {
        let (_, mut new, start) = moved();
        new.on_congestion_event(start + Duration::from_secs(2), start, false, 10_000);
        assert_eq!(new.window(), new.initial_window());
    }

    #[test]
    fn a_window_that_shrank_below_what_is_in_flight_does_not_block_the_next_path() {
        let (_, _, start) = moved();
        let factory = Arc::new(EpochConfig::new(Ledger::new(start)));
        let mut old = factory.clone().build(start, 1200);
        let in_flight = old.window() - 1200;
        old.on_sent(start, in_flight, 10);
        let soon = start + Duration::from_millis(100);
        old.on_congestion_event(soon, soon, false, 1200);
        old.on_sent(soon, 1200, 11);
        assert!(old.window() < in_flight);
        let new = factory.build(start + Duration::from_secs(1), 1200);
        assert!(new.window() > in_flight, "{in_flight} in flight, {} allowed", new.window());
    }

    #[test]
    fn a_ping_passes_a_full_window_until_something_is_acknowledged() {
        let (_, _, start) = moved();
        let ledger = Ledger::new(start);
        let factory = Arc::new(EpochConfig::new(ledger.clone()));
        let mut epoch = factory.build(start, 1200);
        let full = epoch.window();
        ledger.let_ping_pass();
        assert!(epoch.window() >= full + 1452);
        epoch.on_end_acks(start, 0, false, Some(1));
        assert_eq!(epoch.window(), full);
    }

    #[test]
    fn losses_of_the_new_path_do() {
        let (_, mut new, start) = moved();
        let now = start + Duration::from_secs(2);
        new.on_congestion_event(now, now, false, 1200);
        assert!(new.window() < new.initial_window() + 10_000);
    }
}
