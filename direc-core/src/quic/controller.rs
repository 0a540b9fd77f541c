//! The epoch controller: congestion control that survives a move between paths.
//!
//! `Connection::path_changed` starts a new controller. Packets of the old path, overtaken by the new one's, then count
//! as lost, and their fate would hit a controller that never sent them. So a controller looks only at packets sent in
//! its own epoch, and lets the old ones' bytes, still in flight, ride on top of its window.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use quinn_proto::{
    RttEstimator,
    congestion::{Controller, ControllerFactory, CubicConfig},
};

use super::slow_start::{SlowStart, Verdict};

/// What a path may carry before it has answered, where data was flowing on another until now and packets of full size
/// have just passed: twice RFC 9002's ten packets (section 7.2). More than ten at once do not leave: quinn-proto paces
/// the others by its first guess of the round trip.
const WARM_WINDOW: u64 = 24_000;
/// Room for a ping's datagram, which may be as large as any.
const PING: u64 = 2 * 1452;

/// Builds epoch controllers over Cubic (RFC 9438). One per connection, since it carries that one's bytes in flight.
pub(crate) struct EpochConfig {
    ledger: Arc<Ledger>,
    inner: Arc<CubicConfig>,
    warm: Arc<CubicConfig>,
}

impl EpochConfig {
    pub(crate) fn new(ledger: Arc<Ledger>) -> Self {
        let mut warm = CubicConfig::default();
        warm.initial_window(WARM_WINDOW);
        Self { ledger, inner: Arc::default(), warm: Arc::new(warm) }
    }
}

/// What one epoch leaves to the next; and for the paths, what has been answered.
pub(crate) struct Ledger {
    start: Instant,
    /// When the epoch began, in nanoseconds from the start: packets sent before then are the last one's.
    born: AtomicU64,
    /// Bytes of the last epoch that are neither acknowledged nor lost yet.
    before: AtomicU64,
    /// Whether the data comes from a path on which it was flowing.
    warm: AtomicBool,
    /// When the latest packet left that has been acknowledged, in nanoseconds from the start; 0 before the first.
    acknowledged: AtomicU64,
    /// Bytes sent and not heard of. A side that only acknowledges hears of nothing, hence beside it the largest window
    /// of the epoch: no more was ever in flight.
    in_flight: AtomicU64,
    window: AtomicU64,
    /// Packet sizes of the epoch that the path has been found to carry.
    sizes_found: AtomicU64,
    /// What pings and the good-bye may send beyond the window, until something is acknowledged.
    allowance: AtomicU64,
    /// The round trip of the epoch in microseconds, smoothed and at its least; 0 before the first is known.
    smoothed: AtomicU64,
    least: AtomicU64,
}

/// A path's round trip as QUIC has measured it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundTrip {
    pub(crate) smoothed: Duration,
    pub(crate) least: Duration,
}

impl Ledger {
    pub(crate) fn new(start: Instant) -> Arc<Self> {
        let [born, before, acknowledged, in_flight] = [0; 4].map(AtomicU64::new);
        let [window, sizes_found, allowance, smoothed, least] = [0; 5].map(AtomicU64::new);
        let warm = AtomicBool::new(false);
        Arc::new(Self {
            start,
            born,
            before,
            warm,
            acknowledged,
            in_flight,
            window,
            sizes_found,
            allowance,
            smoothed,
            least,
        })
    }

    /// A new epoch begins: the connection is on another path. `warm`: its data has flowed until now.
    pub(crate) fn begin(&self, now: Instant, warm: bool) {
        self.warm.store(warm, Ordering::Relaxed);
        self.before.store(self.under_way(), Ordering::Relaxed);
        self.born.store(self.nanos(now), Ordering::Relaxed);
        self.smoothed.store(0, Ordering::Relaxed);
        self.window.store(0, Ordering::Relaxed);
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }

    /// When the latest packet left that has been acknowledged.
    pub(crate) fn acknowledged(&self) -> Option<Instant> {
        let nanos = self.acknowledged.load(Ordering::Relaxed);
        (nanos > 0).then(|| self.start + Duration::from_nanos(nanos))
    }

    /// Bytes of this epoch that were unanswered after the last acknowledgement, and what has been sent since.
    pub(crate) fn unanswered(&self) -> u64 {
        let before = self.before.load(Ordering::Relaxed);
        self.in_flight.load(Ordering::Relaxed).saturating_sub(before)
    }

    /// How often a larger packet than before has got through, since the last [`Self::forget_sizes`].
    pub(crate) fn sizes_found(&self) -> u64 {
        self.sizes_found.load(Ordering::Relaxed)
    }

    pub(crate) fn note_size(&self) {
        self.sizes_found.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn forget_sizes(&self) {
        self.sizes_found.store(0, Ordering::Relaxed);
    }

    /// Bytes under way, at most.
    pub(crate) fn under_way(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed).min(self.window.load(Ordering::Relaxed))
    }

    /// The path's round trip, once it is known.
    pub(crate) fn round_trip(&self) -> Option<RoundTrip> {
        let [smoothed, least] =
            [&self.smoothed, &self.least].map(|us| Duration::from_micros(us.load(Ordering::Relaxed)));
        (smoothed > Duration::ZERO).then_some(RoundTrip { smoothed, least })
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
        self.acknowledged.fetch_max(self.nanos(sent), Ordering::Relaxed);
    }

    fn note_round_trip(&self, rtt: &RttEstimator) {
        for (us, time) in [(&self.smoothed, rtt.get()), (&self.least, rtt.min())] {
            us.store(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
}

impl ControllerFactory for EpochConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let warm = self.ledger.warm.load(Ordering::Relaxed);
        let inner = if warm { self.warm.clone() } else { self.inner.clone() }.build(now, current_mtu);
        let epoch = Epoch { inner, slow_start: SlowStart::default(), ledger: self.ledger.clone() };
        self.ledger.window.fetch_max(epoch.window(), Ordering::Relaxed);
        Box::new(epoch)
    }
}

struct Epoch {
    inner: Box<dyn Controller>,
    slow_start: SlowStart,
    ledger: Arc<Ledger>,
}

impl Epoch {
    fn landed(&mut self, sent: Instant, bytes: u64) -> bool {
        let left = self.ledger.in_flight.load(Ordering::Relaxed).saturating_sub(bytes);
        self.ledger.in_flight.store(left, Ordering::Relaxed);
        let old = self.ledger.nanos(sent) < self.ledger.born.load(Ordering::Relaxed);
        if old {
            let before = self.before().saturating_sub(bytes);
            self.ledger.before.store(before, Ordering::Relaxed);
        }
        old
    }

    fn before(&self) -> u64 {
        self.ledger.before.load(Ordering::Relaxed)
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
            self.ledger.note_round_trip(rtt);
            self.slow_start.on_ack(now, sent);
            self.inner.on_ack(now, sent, bytes, app_limited || !self.slow_start.grows(), rtt);
        }
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest: Option<u64>) {
        self.ledger.in_flight.store(in_flight, Ordering::Relaxed);
        self.ledger.allowance.store(0, Ordering::Relaxed);
        self.ledger.before.fetch_min(in_flight, Ordering::Relaxed);
        self.inner.on_end_acks(now, in_flight.saturating_sub(self.before()), app_limited, largest);
        if self.slow_start.on_end_acks(now) == Verdict::Leave {
            self.inner.on_congestion_event(now, now, false, 0);
        }
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost_bytes: u64) {
        if !self.landed(sent, lost_bytes) {
            self.slow_start.on_loss();
            self.inner.on_congestion_event(now, sent, persistent, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.ledger.note_size();
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.inner.window() + self.before() + self.ledger.allowance.load(Ordering::Relaxed)
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        let (inner, slow_start) = (self.inner.clone_box(), self.slow_start.clone());
        Box::new(Self { inner, slow_start, ledger: self.ledger.clone() })
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

    const SECOND: Duration = Duration::from_secs(1);

    /// The next epoch's controller, begun now.
    fn next(factory: &Arc<EpochConfig>, now: Instant, warm: bool) -> Box<dyn Controller> {
        factory.ledger.begin(now, warm);
        factory.clone().build(now, 1200)
    }

    /// The controller that follows one which has lived 1 s and left 10 kB in flight; what builds them; and the start.
    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn moved() -> (Box<dyn Controller>, Arc<EpochConfig>, Instant) {
        let start = Instant::now();
        let factory = Arc::new(EpochConfig::new(Ledger::new(start)));
        factory.clone().build(start, 1200).on_sent(start, 10_000, 40);
        (next(&factory, start + SECOND, false), factory, start)
    }

    #[test]
    fn what_is_in_flight_from_before_does_not_block_the_new_path() {
        let (new, _, _) = moved();
        assert_eq!(new.window(), new.initial_window() + 10_000);
    }

    #[test]
    fn quic_may_forget_what_it_has_measured_and_the_epoch_goes_on() {
        let (_, factory, start) = moved();
        let mut again = factory.build(start + SECOND * 2, 1200);
        assert_eq!(again.window(), again.initial_window() + 10_000);
        again.on_congestion_event(start + SECOND * 3, start, false, 10_000);
        assert_eq!(again.window(), again.initial_window());
        again.on_congestion_event(start + SECOND * 3, start + SECOND, false, 1200);
        assert!(again.window() < again.initial_window(), "what was lost since the move counts");
    }

    #[test]
    fn a_path_that_takes_over_flowing_data_begins_with_twice_the_window() {
        let (cold, factory, start) = moved();
        assert_eq!(next(&factory, start + SECOND * 2, true).initial_window(), 2 * cold.initial_window());
        assert_eq!(next(&factory, start + SECOND * 3, false).initial_window(), cold.initial_window());
    }

    #[test]
    fn a_side_that_has_only_acknowledged_does_not_start_with_a_boundless_window() {
        let (_, _, start) = moved();
        let factory = Arc::new(EpochConfig::new(Ledger::new(start)));
        let mut receiver = factory.clone().build(start, 1200);
        for packet in 0..100_000 {
            receiver.on_sent(start, 40, packet);
        }
        let new = next(&factory, start + SECOND, false);
        assert!(new.window() <= 2 * new.initial_window(), "{}", new.window());
    }

    #[test]
    fn losses_from_before_do_not_shrink_the_new_window() {
        let (mut new, _, start) = moved();
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
        let new = next(&factory, start + SECOND, false);
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
        let (mut new, _, start) = moved();
        let now = start + Duration::from_secs(2);
        new.on_congestion_event(now, now, false, 1200);
        assert!(new.window() < new.initial_window() + 10_000);
    }
}
