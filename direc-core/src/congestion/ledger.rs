//! What a connection's epochs have in common: bytes in flight, what has been answered, and the model of the path.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use quinn_proto::RttEstimator;

use super::{Congestion, model::Model};

/// Room for a ping's datagram, which may be as large as any.
const PING: u64 = 2 * 1452;
/// Beyond any window, and so large that quinn-proto does not pace (it stops at 32 bits).
pub(super) const ANY: u64 = 1 << 40;

/// A path's round trip as QUIC has measured it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundTrip {
    pub(crate) smoothed: Duration,
    pub(crate) least: Duration,
}

/// What one epoch leaves to the next; and for the session, what has been answered and when more may leave. The session and
/// quinn-proto's controller, which must be `Send` and `Sync`, share it, always on one thread.
pub(crate) struct Ledger(Mutex<Books>);

pub(super) struct Books {
    /// When the epoch began: packets sent before then are the last one's.
    pub(super) born: Instant,
    /// Bytes of the last epoch that are neither acknowledged nor lost yet.
    pub(super) before: u64,
    /// Whether the data comes from a path on which it was flowing.
    pub(super) warm: bool,
    /// When the latest packet left that has been acknowledged.
    pub(super) acknowledged: Option<Instant>,
    /// Bytes sent and not heard of. A side that only acknowledges hears of nothing, hence beside it the largest window
    /// of the epoch: no more was ever in flight.
    pub(super) in_flight: u64,
    pub(super) window: u64,
    /// Packet sizes of the epoch that the path has been found to carry.
    pub(super) sizes_found: u64,
    /// What pings and the good-bye may send beyond the window, until something is acknowledged.
    pub(super) allowance: u64,
    /// The round trip of the epoch.
    pub(super) round_trip: Option<RoundTrip>,
    /// None where windows follow Cubic.
    pub(super) model: Option<Model>,
}

impl Books {
    pub(super) fn under_way(&self) -> u64 {
        self.in_flight.min(self.window)
    }

    /// Bytes of this epoch in flight.
    pub(super) fn own_in_flight(&self) -> u64 {
        self.in_flight.saturating_sub(self.before)
    }

    /// Takes so many bytes out of those in flight; gives whether they are the last epoch's.
    pub(super) fn landed(&mut self, sent: Instant, bytes: u64) -> bool {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        let old = sent < self.born;
        if old {
            self.before = self.before.saturating_sub(bytes);
        }
        old
    }

    /// A packet has been acknowledged: whether this epoch sent it.
    pub(super) fn on_ack(&mut self, sent: Instant, bytes: u64, rtt: &RttEstimator) -> bool {
        self.acknowledged = self.acknowledged.max(Some(sent));
        let own = !self.landed(sent, bytes);
        if own {
            self.round_trip = Some(RoundTrip { smoothed: rtt.get(), least: rtt.min() });
        }
        own
    }

    /// A batch of acknowledgements has come to its end: bytes of this epoch in flight.
    pub(super) fn on_end_acks(&mut self, in_flight: u64) -> u64 {
        self.in_flight = in_flight;
        self.allowance = 0;
        self.before = self.before.min(in_flight);
        self.own_in_flight()
    }
}

impl Ledger {
    pub(crate) fn new(start: Instant, congestion: Congestion, random: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Books {
            born: start,
            before: 0,
            warm: false,
            acknowledged: None,
            in_flight: 0,
            window: 0,
            sizes_found: 0,
            allowance: 0,
            round_trip: None,
            model: (congestion == Congestion::Bbr).then(|| Model::new(start, random)),
        })))
    }

    /// Whether what leaves follows from a model of the path.
    pub(crate) fn is_modelled(&self) -> bool {
        self.books().model.is_some()
    }

    #[cfg(test)]
    pub(crate) fn cubic(start: Instant) -> Arc<Self> {
        Self::new(start, Congestion::Cubic, 1)
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new epoch begins: the connection is on another path, with this round trip if it is known. `warm`: its data has
    /// flowed until now.
    pub(crate) fn begin(&self, now: Instant, warm: bool, rtt: Option<Duration>) {
        let mut books = self.books();
        books.warm = warm;
        books.before = books.under_way();
        books.born = now;
        books.round_trip = None;
        books.window = 0;
        if let Some(model) = &mut books.model {
            model.begin(now, warm, rtt);
        }
    }

    /// When the latest packet left that has been acknowledged.
    pub(crate) fn acknowledged(&self) -> Option<Instant> {
        self.books().acknowledged
    }

    /// Bytes of this epoch that were unanswered after the last acknowledgement, and what has been sent since.
    pub(crate) fn unanswered(&self) -> u64 {
        self.books().own_in_flight()
    }

    /// How often a larger packet than before has got through, since the last [`Self::forget_sizes`].
    pub(crate) fn sizes_found(&self) -> u64 {
        self.books().sizes_found
    }

    pub(crate) fn note_size(&self) {
        self.books().sizes_found += 1;
    }

    pub(crate) fn forget_sizes(&self) {
        self.books().sizes_found = 0;
    }

    /// Bytes under way, at most.
    pub(crate) fn under_way(&self) -> u64 {
        self.books().under_way()
    }

    /// The path's round trip, once it is known.
    pub(crate) fn round_trip(&self) -> Option<RoundTrip> {
        self.books().round_trip
    }

    /// Lets a ping pass a full window, as QUIC's own probes do (RFC 9002, section 7.5). Where data waits for room,
    /// quinn-proto keeps back acknowledgements too: two sides with full windows would wait for each other.
    pub(crate) fn let_ping_pass(&self) {
        self.books().allowance += PING;
    }

    /// Lets the good-bye pass a full window: nothing else is sent after it (RFC 9000, section 10.2.1), and quinn-proto
    /// 0.11 would hold it back for ever, since it hears no acknowledgements any more (quinn-rs/quinn#2785).
    pub(crate) fn let_close_pass(&self) {
        self.books().allowance = ANY;
    }

    /// How many packets, up to `most`, may leave now. To be asked before QUIC is: its controller is not told the time.
    pub(crate) fn packets_now(&self, now: Instant, most: usize) -> usize {
        let mut books = self.books();
        let in_flight = books.own_in_flight();
        books.model.as_mut().map_or(most, |model| model.packets_now(now, in_flight, most))
    }

    /// When more may leave, where something was held back by its rate.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.books().model.as_ref()?.due()
    }

    /// Whether what was held back by its rate may leave: told once.
    pub(crate) fn take_due(&self, now: Instant) -> bool {
        self.books().model.as_mut().is_some_and(|model| model.take_due(now))
    }
}
