//! A model of the path: how fast it delivers, and how long it takes at least (draft-ietf-ccwg-bbr, BBRv3).
//!
//! What is sent follows from the model, and not from single losses: as much in flight as the path holds, at the rate at
//! which it delivers. Now and then more is tried, to see whether there is more; loss beyond what the path loses anyway
//! ends that, and makes room for others.

mod cycle;
mod filter;
mod losses;
mod samples;
mod surplus;

use std::time::{Duration, Instant};

use cycle::State;
use filter::{LeastRtt, MaxOfTwo};
use losses::Losses;
use samples::{Sample, Samples};
use surplus::Surplus;

/// A path whose round trip nobody knows is taken for one of this length, until the first answer.
const FIRST_RTT: Duration = Duration::from_millis(100);
/// Never less than this is in flight: with less, one lost packet stops everything (the draft's `MinPipeCwnd`).
const LEAST_PACKETS: u64 = 4;
/// What is paced stays this much below the rate, so that queues drain in the long run (the draft's `PacingMargin`).
const MARGIN: f64 = 0.99;
/// In flight beside what the path holds: bursts that wait to be sent, at the sender and at the receiver.
const BURSTS_BESIDE: u64 = 3;
/// What is known to be too much is kept away from by this, so that others find room (the draft's `Headroom`).
const HEADROOM: f64 = 0.85;
/// For so long after a fall, the rate may turn out to be lower still.
const FALLING: Duration = Duration::from_secs(1);
/// What is left of a bound when there is too much loss (the draft's `Beta`).
const BETA: f64 = 0.7;

/// The model and what follows from it.
#[derive(Clone, Debug)]
pub(super) struct Bbr {
    packet: u64,
    samples: Samples,
    /// Bytes a second that the path delivers: the most of this cycle and the last one.
    bandwidth: MaxOfTwo,
    /// The most of the last round trips: what it delivers now.
    lately: MaxOfTwo,
    lately_since: Instant,
    rtt: LeastRtt,
    /// The round trip as it is taken to be before the first one.
    guess: Duration,
    losses: Losses,
    surplus: Surplus,
    state: State,
    /// The path has shown once how much it delivers.
    full: bool,
    /// More than this in flight was too much.
    highest: u64,
    /// Bounds until the next probe for more, since there was too much loss, or the rate fell.
    low_rate: Option<f64>,
    low_flight: Option<u64>,
    /// When the rate fell, lately.
    fell_at: Option<Instant>,
    round: Round,
    /// Even the quickest packet of the last round met a queue.
    last_round_queued: bool,
    /// Rounds since more was tried last.
    rounds: u32,
    window: u64,
    in_flight: u64,
    initial: u64,
    random: u64,
}

/// What the current round trip has shown.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    shortest: Option<Duration>,
    delivered: u64,
    /// Too much loss has been answered in this round.
    answered: bool,
}

/// What a path is known to be like before the first packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// Bytes that may be in flight before the path has answered.
    pub(super) window: u64,
    pub(super) packet: u64,
    pub(super) rtt: Option<Duration>,
    /// What is left to chance, in the length of phases, so that connections do not probe together.
    pub(super) random: u64,
}

impl Bbr {
    pub(super) fn new(now: Instant, start: Start) -> Self {
        Self {
            packet: start.packet,
            samples: Samples::new(now),
            bandwidth: MaxOfTwo::default(),
            lately: MaxOfTwo::default(),
            lately_since: now,
            rtt: LeastRtt::new(),
            guess: start.rtt.unwrap_or(FIRST_RTT),
            losses: Losses::default(),
            surplus: Surplus::new(now),
            state: State::startup(),
            full: false,
            highest: u64::MAX,
            low_rate: None,
            low_flight: None,
            fell_at: None,
            round: Round::default(),
            last_round_queued: false,
            rounds: 0,
            window: start.window,
            in_flight: 0,
            initial: start.window,
            random: start.random | 1,
        }
    }

    // What happens.

    pub(super) fn on_sent(&mut self, now: Instant, bytes: u64, before: u64) {
        self.samples.on_sent(now, bytes, before);
        self.in_flight = before + bytes;
    }

    pub(super) fn on_ack(&mut self, sent: Instant, bytes: u64) {
        self.samples.on_ack(sent, bytes);
        self.losses.on_delivered(bytes);
        self.round.delivered += bytes;
    }

    /// A batch of acknowledgements has come to its end.
    pub(super) fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, burst: u64) {
        self.in_flight = in_flight;
        let sample = self.samples.on_end_acks(now, self.rtt.get());
        if app_limited {
            self.samples.on_app_limited(in_flight);
        }
        let Some(sample) = sample else { return };
        self.learn(now, &sample);
        if sample.round {
            self.end_round();
        }
        self.advance(now, &sample);
        self.check_fall(now, &sample);
        self.set_window(&sample, burst);
    }

    /// Bytes are lost, the last of which left at `sent`.
    pub(super) fn on_lost(&mut self, now: Instant, sent: Instant, bytes: u64) {
        let in_flight = self.samples.in_flight_at(sent).unwrap_or(self.in_flight);
        self.in_flight = self.in_flight.saturating_sub(bytes);
        self.losses.on_lost(bytes);
        self.check_losses(now, in_flight);
    }

    /// The network has marked packets as having met a queue (RFC 3168).
    pub(super) fn on_marked(&mut self, now: Instant) {
        self.losses.on_marked();
        self.check_losses(now, self.in_flight);
    }

    pub(super) fn on_packet_size(&mut self, packet: u64) {
        self.packet = packet;
    }

    // What follows.

    /// Bytes that may be in flight.
    pub(super) fn window(&self) -> u64 {
        self.window
    }

    /// Bytes a second at which packets leave.
    pub(super) fn rate(&self) -> f64 {
        let modelled = self.bandwidth() * self.state.pacing_gain() * MARGIN;
        if self.full {
            return modelled;
        }
        // What a program that has sent little has shown of the path is no bound.
        let rtt = self.rtt.get().unwrap_or(self.guess).as_secs_f64().max(1e-4);
        modelled.max(self.initial as f64 / rtt * self.state.pacing_gain())
    }

    /// Bytes a second that the path delivers, as far as is known; 0 before the first answers.
    pub(super) fn bandwidth(&self) -> f64 {
        let most = self.bandwidth.get();
        self.low_rate.map_or(most, |low| low.min(most))
    }

    /// What the path holds, times `gain`.
    fn holds(&self, gain: f64) -> u64 {
        match (self.rtt.get(), self.bandwidth()) {
            (Some(rtt), bandwidth) if bandwidth > 0.0 => (bandwidth * rtt.as_secs_f64() * gain) as u64,
            _ => (self.initial as f64 * gain) as u64,
        }
    }

    // The model.

    fn learn(&mut self, now: Instant, sample: &Sample) {
        self.rtt.update(now, sample.rtt);
        self.round.shortest = Some(self.round.shortest.map_or(sample.rtt, |least| least.min(sample.rtt)));
        if self.lately_since + self.rtt.get().unwrap_or(self.guess) <= now {
            self.lately.advance();
            self.lately_since = now;
        }
        if let Some(rate) = sample.rate {
            if sample.app_limited {
                self.lately = MaxOfTwo::default();
            } else {
                self.lately.update(rate);
            }
            if !sample.app_limited || rate > self.bandwidth.get() {
                self.bandwidth.update(rate);
            }
        }
        self.surplus.update(now, sample, self.bandwidth.get(), self.window);
    }

    fn end_round(&mut self) {
        let queue = self.round.shortest.is_none_or(|rtt| self.is_queue(rtt));
        self.losses.end_round(queue);
        self.last_round_queued = queue;
        self.round = Round::default();
        self.rounds = self.rounds.saturating_add(1);
    }

    /// Whether a packet with this round trip has met a queue.
    fn is_queue(&self, rtt: Duration) -> bool {
        self.rtt.get().is_some_and(|least| rtt > least + (least / 8).max(Duration::from_millis(2)))
    }

    /// The path delivers much less than it did, and a queue grows: what was known of its rate is of no use any more.
    fn check_fall(&mut self, now: Instant, sample: &Sample) {
        let Some(least) = self.rtt.get() else { return };
        let lately = self.lately.get();
        // What was measured as it fell is a mixture of before and after.
        let falling = self.fell_at.is_some_and(|at| now < at + FALLING);
        let fell = lately > 0.0 && lately < self.bandwidth() * if falling { 0.9 } else { 0.5 };
        let long = sample.rtt > least + (least / 2).max(Duration::from_millis(5));
        if self.full && fell && long && !sample.app_limited && !self.state.is_probing_rtt() {
            self.bandwidth.restart(lately);
            self.low_rate = None;
            self.low_flight = Some(self.holds(1.0).max(LEAST_PACKETS * self.packet));
            self.fell_at = self.fell_at.filter(|_| falling).or(Some(now));
            self.go_down(now);
        }
    }

    fn set_window(&mut self, sample: &Sample, burst: u64) {
        let target = self.holds(self.state.window_gain()) + self.surplus.get() + BURSTS_BESIDE * burst;
        if self.full {
            self.window = (self.window + sample.acked).min(target);
        } else if self.window < target || self.samples.delivered() < self.initial {
            self.window += sample.acked;
        }
        self.window = self.window.min(self.bound()).max(LEAST_PACKETS * self.packet);
    }

    /// What is known to be too much.
    fn bound(&self) -> u64 {
        let highest = match self.state {
            State::Down { .. } | State::Cruise { .. } if self.highest < u64::MAX => {
                (self.highest as f64 * HEADROOM) as u64
            }
            State::ProbeRtt { .. } => self.highest.min(self.holds(0.5)),
            _ => self.highest,
        };
        highest.min(self.low_flight.unwrap_or(u64::MAX))
    }

    // Loss.

    /// Answers too much loss, once a round. `in_flight`: when the packet left that was lost.
    fn check_losses(&mut self, now: Instant, in_flight: u64) {
        if self.round.answered || !self.losses.is_too_much(self.packet) {
            return;
        }
        match self.state {
            State::Startup { .. } if self.round.shortest.is_some_and(|rtt| self.is_queue(rtt)) => {
                self.highest = self.holds(1.0).max(self.round.delivered);
                self.full = true;
                self.state = State::Drain;
            }
            State::Startup { .. } => return,
            State::Up { .. } | State::Refill => {
                self.highest = in_flight.max((self.holds(1.0).min(self.window) as f64 * BETA) as u64);
                self.go_down(now);
            }
            _ => {
                let rate = self.low_rate.unwrap_or(self.bandwidth.get());
                self.low_rate = Some(self.lately.get().max(rate * BETA));
                let flight = self.low_flight.unwrap_or(self.window);
                self.low_flight = Some(self.round.delivered.max((flight as f64 * BETA) as u64));
            }
        }
        self.round.answered = true;
    }

    /// More is tried: what was low no longer bounds it.
    fn forget_low(&mut self) {
        (self.low_rate, self.low_flight) = (None, None);
    }

    /// A number below `bound`, by chance (xorshift64*).
    fn draw(&mut self, bound: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound.max(1)
    }
}

#[cfg(test)]
mod tests;
