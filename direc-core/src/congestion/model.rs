//! The model of the current path, at work: what may leave now, and when more may.

use std::time::{Duration, Instant};

use super::{
    bbr::{Bbr, Start},
    pacer::Pacer,
};

/// What a path may carry before it has answered: ten packets (RFC 9002, section 7.2).
const FIRST_WINDOW: u64 = 12_000;
/// Twice that where data was flowing on another path until now, and packets of full size have just passed. No more than ten
/// leave at once: the others are paced by what is guessed of the round trip.
pub(super) const WARM_WINDOW: u64 = 24_000;
const FIRST_PACKET: u64 = 1200;
/// A packet that QUIC sends without asking for room acknowledges, or is a probe after a timeout; those are larger.
const LARGEST_ANSWER: u64 = 400;

#[derive(Debug)]
pub(super) struct Model {
    pub(super) bbr: Bbr,
    pacer: Pacer,
    /// Where the pacer's time begins; and what time it is.
    start: Instant,
    now: Instant,
    packet: u64,
    /// QUIC has asked for room since the time was told last: what it sends wants an answer.
    asked: bool,
    /// The pacer has held something back.
    held: bool,
    random: u64,
}

impl Model {
    pub(super) fn new(now: Instant, random: u64) -> Self {
        let mut model = Self {
            bbr: bbr(now, FIRST_WINDOW, FIRST_PACKET, None, random),
            pacer: Pacer::default(),
            start: now,
            now,
            packet: FIRST_PACKET,
            asked: false,
            held: false,
            random,
        };
        model.pace();
        model
    }

    /// Another path, of which nothing is known but perhaps its round trip.
    pub(super) fn begin(&mut self, now: Instant, warm: bool, rtt: Option<Duration>) {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let window = if warm { WARM_WINDOW } else { FIRST_WINDOW };
        self.bbr = bbr(now, window, self.packet, rtt, self.random);
        self.pacer = Pacer::default();
        self.pace();
    }

    pub(super) fn set_packet(&mut self, packet: u16) {
        self.packet = packet.into();
        self.bbr.on_packet_size(self.packet);
    }

    /// Whether packets of so many bytes only acknowledge: they are not in flight (RFC 9002, section 2).
    pub(super) fn is_answer(&self, bytes: u64) -> bool {
        !self.asked && bytes <= LARGEST_ANSWER
    }

    pub(super) fn on_sent(&mut self, now: Instant, bytes: u64, before: u64) {
        self.pacer.on_sent(self.nanos(now), bytes);
        self.bbr.on_sent(now, bytes, before);
    }

    pub(super) fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool) {
        self.bbr.on_end_acks(now, in_flight, app_limited, self.pacer.burst());
        self.pace();
    }

    pub(super) fn on_lost(&mut self, now: Instant, sent: Instant, persistent: bool, bytes: u64) {
        if persistent {
            self.begin(now, false, None);
        } else if bytes == 0 {
            self.bbr.on_marked(now);
        } else {
            self.bbr.on_lost(now, sent, bytes);
        }
        self.pace();
    }

    fn pace(&mut self) {
        self.pacer.set_rate(self.bbr.rate() as u64, self.packet);
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn packets_now(&mut self, now: Instant, in_flight: u64, most: usize) -> usize {
        (self.now, self.asked) = (now, false);
        let packets = self.room(in_flight) / self.packet.max(1);
        usize::try_from(packets).unwrap_or(usize::MAX).clamp(1, most.max(1))
    }

    /// Whether one more packet may leave, at the time that was told last.
    pub(super) fn allows(&mut self, in_flight: u64) -> bool {
        self.asked = true;
        let paced = self.paced() >= self.packet;
        self.held |= !paced;
        paced && self.room(in_flight) >= self.packet
    }

    fn room(&self, in_flight: u64) -> u64 {
        self.bbr.window().saturating_sub(in_flight).min(self.paced())
    }

    fn paced(&self) -> u64 {
        self.pacer.room(self.nanos(self.now))
    }

    /// When the pacer lets more leave, if something waits for that. What waits for the window waits for acknowledgements.
    pub(super) fn due(&self) -> Option<Instant> {
        self.held.then(|| self.start + Duration::from_nanos(self.pacer.due()))
    }

    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let due = self.due().is_some_and(|due| due <= now);
        self.held &= !due;
        due
    }
}

fn bbr(now: Instant, window: u64, packet: u64, rtt: Option<Duration>, random: u64) -> Bbr {
    Bbr::new(now, Start { window, packet, rtt, random })
}
