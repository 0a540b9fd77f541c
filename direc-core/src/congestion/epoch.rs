//! The epoch controller: congestion control that survives a move between paths.
//!
//! `Connection::path_changed` starts a new controller. Packets of the old path, overtaken by the new one's, then count
//! as lost, and their fate would hit a controller that never sent them. So a controller looks only at packets sent in
//! its own epoch, and lets the old ones' bytes, still in flight, ride on top of its window.

use std::{any::Any, sync::Arc, time::Instant};

use quinn_proto::{
    RttEstimator,
    congestion::{Controller, ControllerFactory, CubicConfig},
};

use super::{
    ledger::{ANY, Ledger},
    model::WARM_WINDOW,
    slow_start::{SlowStart, Verdict},
};

/// Builds epoch controllers. One per connection, since it carries that one's bytes in flight.
pub(crate) struct EpochConfig {
    ledger: Arc<Ledger>,
    cubic: Arc<CubicConfig>,
    warm: Arc<CubicConfig>,
}

impl EpochConfig {
    pub(crate) fn new(ledger: Arc<Ledger>) -> Self {
        let mut warm = CubicConfig::default();
        warm.initial_window(WARM_WINDOW);
        Self { ledger, cubic: Arc::default(), warm: Arc::new(warm) }
    }
}

impl ControllerFactory for EpochConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let books = &mut *self.ledger.books();
        if let Some(model) = &mut books.model {
            model.set_packet(current_mtu);
            books.window = books.window.max(model.bbr.window() + books.before);
            return Box::new(Modelled { ledger: self.ledger.clone() });
        }
        let cubic = if books.warm { self.warm.clone() } else { self.cubic.clone() }.build(now, current_mtu);
        books.window = books.window.max(cubic.window() + books.before);
        Box::new(Windowed { cubic, slow_start: SlowStart::default(), ledger: self.ledger.clone() })
    }
}

/// Windows after Cubic (RFC 9438).
struct Windowed {
    cubic: Box<dyn Controller>,
    slow_start: SlowStart,
    ledger: Arc<Ledger>,
}

impl Controller for Windowed {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        let window = self.window();
        let mut books = self.ledger.books();
        books.in_flight += bytes;
        books.window = books.window.max(window);
        drop(books);
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        if self.ledger.books().on_ack(sent, bytes, rtt) {
            self.slow_start.on_ack(now, sent);
            self.cubic.on_ack(now, sent, bytes, app_limited || !self.slow_start.grows(), rtt);
        }
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest: Option<u64>) {
        let own = self.ledger.books().on_end_acks(in_flight);
        self.cubic.on_end_acks(now, own, app_limited, largest);
        if self.slow_start.on_end_acks(now) == Verdict::Leave {
            self.cubic.on_congestion_event(now, now, false, 0);
        }
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost_bytes: u64) {
        if !self.ledger.books().landed(sent, lost_bytes) {
            self.slow_start.on_loss();
            self.cubic.on_congestion_event(now, sent, persistent, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.ledger.note_size();
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        let books = self.ledger.books();
        self.cubic.window() + books.before + books.allowance
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        let (cubic, slow_start) = (self.cubic.clone_box(), self.slow_start.clone());
        Box::new(Self { cubic, slow_start, ledger: self.ledger.clone() })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// What leaves follows from the model of the path, which is in the ledger.
struct Modelled {
    ledger: Arc<Ledger>,
}

impl Controller for Modelled {
    fn on_sent(&mut self, now: Instant, bytes: u64, _: u64) {
        let books = &mut *self.ledger.books();
        let before = books.own_in_flight();
        let Some(model) = books.model.as_mut().filter(|model| !model.is_answer(bytes)) else { return };
        books.in_flight += bytes;
        if !model.allows(before) {
            books.allowance = books.allowance.saturating_sub(bytes);
        }
        model.on_sent(now, bytes, before);
    }

    fn on_ack(&mut self, _: Instant, sent: Instant, bytes: u64, _: bool, rtt: &RttEstimator) {
        let books = &mut *self.ledger.books();
        if books.on_ack(sent, bytes, rtt)
            && let Some(model) = &mut books.model
        {
            model.bbr.on_ack(sent, bytes);
        }
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, _: Option<u64>) {
        let books = &mut *self.ledger.books();
        let own = books.on_end_acks(in_flight);
        if let Some(model) = &mut books.model {
            model.on_end_acks(now, own, app_limited);
            books.window = books.window.max(model.bbr.window() + books.before);
        }
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost_bytes: u64) {
        let books = &mut *self.ledger.books();
        if !books.landed(sent, lost_bytes)
            && let Some(model) = &mut books.model
        {
            model.on_lost(now, sent, persistent, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.ledger.note_size();
        if let Some(model) = &mut self.ledger.books().model {
            model.set_packet(new_mtu);
        }
    }

    /// All or nothing: see [`super::pacer`].
    fn window(&self) -> u64 {
        let books = &mut *self.ledger.books();
        let (own, excused) = (books.own_in_flight(), books.allowance > 0);
        let allowed = books.model.as_mut().is_none_or(|model| model.allows(own));
        if allowed || excused { ANY } else { 1 }
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { ledger: self.ledger.clone() })
    }

    fn initial_window(&self) -> u64 {
        self.ledger.books().model.as_ref().map_or(0, |model| model.bbr.window())
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The next epoch's controller, begun now.
    fn next(factory: &Arc<EpochConfig>, now: Instant, warm: bool) -> Box<dyn Controller> {
        factory.ledger.begin(now, warm, None);
        factory.clone().build(now, 1200)
    }

    /// The controller that follows one which has lived 1 s and left 10 kB in flight; what builds them; and the start.
    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn moved() -> (Box<dyn Controller>, Arc<EpochConfig>, Instant) {
        let start = Instant::now();
        let factory = Arc::new(EpochConfig::new(Ledger::cubic(start)));
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
        let factory = Arc::new(EpochConfig::new(Ledger::cubic(start)));
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
        let factory = Arc::new(EpochConfig::new(Ledger::cubic(start)));
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
        let ledger = Ledger::cubic(start);
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
