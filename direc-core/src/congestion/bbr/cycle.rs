//! The states: find out how much there is, and then try for more now and then (draft-ietf-ccwg-bbr, section 4.3).
//!
//! | state | pacing | window | until | then |
//! |---|---|---|---|---|
//! | Startup | 2.77 | 2 | three rounds without a quarter more, or one where all met a queue; or too much loss with one | Drain |
//! | Drain | 0.35 | 2 | no more in flight than the path holds | Down |
//! | Down | 0.9 | 2 | the same, and room for others | Cruise |
//! | Cruise | 1 | 2 | 2 to 3 s, or as many rounds as packets are in flight, at most 62 | Refill |
//! | Refill | 1 | 2 | one round | Up |
//! | Up | 1.25 | 2.25 | a queue of a quarter, no more rate, or too much loss | Down |
//! | ProbeRtt | 1 | 0.5 | 200 ms and a round with half of it in flight | Down |
//!
//! A fall of the rate leads to Down from wherever it is. In Up, a rate that has grown by 15 % in the first round paces by
//! 2.77 as long as it goes on growing so: the path has opened. ProbeRtt comes from any state when no round trip has been near the shortest
//! for 5 s.

use std::time::{Duration, Instant};

use super::{Bbr, HEADROOM, LEAST_PACKETS, samples::Sample};

/// More than this times the rate before is more (the draft: 25 % in three rounds).
const MORE: f64 = 1.25;
const PATIENCE: u8 = 3;
/// Between two tries for more.
const WAIT: Duration = Duration::from_secs(2);
const WAIT_MORE_MS: u64 = 1000;
/// Nor more rounds than this: what Reno needs to grow by as much over 62 packets' worth of path (the draft).
const MOST_ROUNDS: u64 = 62;
/// After a fall, for so long, more is tried as soon as so many rounds have met no queue: it may have been a moment's.
const CALM_ROUNDS: u8 = 4;
const FALL_LASTS: Duration = Duration::from_secs(5);
/// A path that is used for so long without a round trip near its shortest is looked at again.
const RTT_EXPIRES: Duration = Duration::from_secs(5);
const RTT_PROBE: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    Startup {
        rate: f64,
        rounds: u8,
    },
    Drain,
    Down {
        since: Instant,
        rounds: u8,
    },
    Cruise {
        until: Instant,
        calm: u8,
    },
    Refill,
    Up {
        rate: f64,
        rounds: u8,
        opens: bool,
    },
    /// `until`: once little enough is in flight.
    ProbeRtt {
        until: Option<Instant>,
        shortest: Option<Duration>,
        rounds: u8,
    },
}

impl State {
    pub(super) fn startup() -> Self {
        Self::Startup { rate: 0.0, rounds: 0 }
    }

    #[cfg(test)]
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Startup { .. } => "startup",
            Self::Drain => "drain",
            Self::Down { .. } => "down",
            Self::Cruise { .. } => "cruise",
            Self::Refill => "refill",
            Self::Up { .. } => "up",
            Self::ProbeRtt { .. } => "probe-rtt",
        }
    }

    pub(super) fn pacing_gain(self) -> f64 {
        match self {
            Self::Startup { .. } | Self::Up { opens: true, .. } => 2.77,
            Self::Drain => 0.35,
            Self::Down { .. } => 0.9,
            Self::Up { .. } => 1.25,
            Self::Cruise { .. } | Self::Refill | Self::ProbeRtt { .. } => 1.0,
        }
    }

    pub(super) fn window_gain(self) -> f64 {
        match self {
            Self::Up { .. } => 2.25,
            Self::ProbeRtt { .. } => 0.5,
            _ => 2.0,
        }
    }

    pub(super) fn is_probing_rtt(self) -> bool {
        matches!(self, Self::ProbeRtt { .. })
    }
}

impl Bbr {
    /// The state after a batch of acknowledgements.
    pub(super) fn advance(&mut self, now: Instant, sample: &Sample) {
        match self.state {
            State::Startup { rate, rounds } => self.startup(sample, rate, rounds),
            State::Drain if self.in_flight <= self.holds(1.0) => self.go_down(now),
            State::Drain => {}
            State::Down { since, rounds } => self.down(sample, since, rounds),
            State::Cruise { until, calm } => self.cruise(now, sample, until, calm),
            State::Refill => self.refill(sample),
            State::Up { rate, rounds, opens } => self.up(now, sample, rate, rounds, opens),
            State::ProbeRtt { until, shortest, rounds } => self.probe_rtt(now, sample, until, shortest, rounds),
        }
        let expired = self.rtt.since().is_some_and(|since| since + RTT_EXPIRES <= now);
        if expired && self.full && !self.state.is_probing_rtt() {
            self.state = State::ProbeRtt { until: None, shortest: None, rounds: 0 };
        }
    }

    fn startup(&mut self, sample: &Sample, rate: f64, rounds: u8) {
        if !sample.round || sample.app_limited {
            return;
        }
        let now = self.bandwidth.get();
        // A round whose quickest packet has met a queue explains by itself why there was no more.
        let queue = self.last_round_queued;
        if now >= rate * MORE {
            self.state = State::Startup { rate: now, rounds: 0 };
        } else if rounds + 1 < PATIENCE && !queue {
            self.state = State::Startup { rate, rounds: rounds + 1 };
        } else {
            self.full = true;
            self.state = State::Drain;
        }
    }

    /// What was tried was enough, or too much.
    pub(super) fn go_down(&mut self, now: Instant) {
        self.state = State::Down { since: now, rounds: 0 };
        self.rounds = 0;
    }

    fn down(&mut self, sample: &Sample, since: Instant, rounds: u8) {
        let rounds = rounds + u8::from(sample.round);
        self.state = State::Down { since, rounds };
        let roomy = if self.highest == u64::MAX { u64::MAX } else { (self.highest as f64 * HEADROOM) as u64 };
        if rounds >= 1 && self.in_flight <= self.holds(1.0).min(roomy).max(LEAST_PACKETS * self.packet) || rounds >= 4 {
            self.bandwidth.advance();
            let wait = WAIT + Duration::from_millis(self.draw(WAIT_MORE_MS));
            self.state = State::Cruise { until: since + wait, calm: 0 };
        }
    }

    fn cruise(&mut self, now: Instant, sample: &Sample, until: Instant, calm: u8) {
        self.fell_at = self.fell_at.filter(|at| *at + FALL_LASTS > now);
        let queue = self.is_queue(sample.rtt);
        let calm = if queue { 0 } else { calm + u8::from(sample.round && self.fell_at.is_some()) };
        self.state = State::Cruise { until, calm };
        let most = (self.holds(1.0) / self.packet.max(1)).clamp(8, MOST_ROUNDS);
        if now >= until || u64::from(self.rounds) >= most || calm >= CALM_ROUNDS {
            self.forget_low();
            self.state = State::Refill;
        }
    }

    fn refill(&mut self, sample: &Sample) {
        if sample.round {
            self.state = State::Up { rate: self.bandwidth.get(), rounds: 0, opens: false };
        }
    }

    fn up(&mut self, now: Instant, sample: &Sample, rate: f64, rounds: u8, opens: bool) {
        // The bound grows as long as nothing says no, faster and faster.
        if self.highest < u64::MAX {
            self.highest = self.highest.saturating_add((sample.acked / 4) << rounds.min(4));
        }
        if self.in_flight >= self.holds(1.25) && self.is_queue(sample.rtt) && !opens {
            self.go_down(now);
            return;
        }
        if !sample.round {
            return;
        }
        let reached = self.bandwidth.get();
        if reached >= rate * 1.15 {
            self.state = State::Up { rate: reached, rounds: 0, opens: rounds == 0 && !self.is_queue(sample.rtt) };
        } else if rounds + 1 < PATIENCE && !opens {
            self.state = State::Up { rate, rounds: rounds + 1, opens: false };
        } else {
            self.go_down(now);
        }
    }

    fn probe_rtt(
        &mut self,
        now: Instant,
        sample: &Sample,
        until: Option<Instant>,
        shortest: Option<Duration>,
        rounds: u8,
    ) {
        let shortest = shortest.map_or(sample.rtt, |least| least.min(sample.rtt));
        let enough = self.in_flight <= self.holds(0.5).max(LEAST_PACKETS * self.packet);
        let until = until.or_else(|| enough.then_some(now + RTT_PROBE));
        let rounds = rounds.saturating_add(u8::from(sample.round && until.is_some()));
        self.state = State::ProbeRtt { until, shortest: Some(shortest), rounds };
        if until.is_some_and(|until| until <= now) && rounds >= 1 {
            self.rtt.renew(now, shortest);
            self.forget_low();
            self.go_down(now);
        }
    }
}
