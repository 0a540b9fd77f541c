//! The model on a path of a few lines: a bottleneck, a queue, chance.

use std::collections::VecDeque;

use super::*;

const MS: Duration = Duration::from_millis(1);
const PACKET: u64 = 1200;

/// A path, and a sender that always has something to send.
struct Path {
    /// Bytes a second; bytes that may wait; the round trip without a queue; one packet of so many is lost, 0: none.
    rate: f64,
    queue: f64,
    rtt: Duration,
    lost: u64,
    bbr: Bbr,
    now: Instant,
    waiting: f64,
    /// When what was sent arrives or is missed, when it left, and whether it was lost.
    under_way: VecDeque<(Instant, Instant, bool)>,
    in_flight: u64,
    credit: f64,
    sent: u64,
    delivered: u64,
    dropped: u64,
    states: Vec<&'static str>,
}

impl Path {
    fn new(mbit: f64, queue_ms: f64, rtt: u32, lost: u64) -> Self {
        #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
        let now = Instant::now();
        let rate = mbit * 125_000.0;
        let bbr = Bbr::new(now, Start { window: 12_000, packet: PACKET, rtt: None, random: 7 });
        Self {
            rate,
            queue: rate * queue_ms / 1000.0,
            rtt: rtt * MS,
            lost,
            bbr,
            now,
            waiting: 0.0,
            under_way: VecDeque::new(),
            in_flight: 0,
            credit: 0.0,
            sent: 0,
            delivered: 0,
            dropped: 0,
            states: Vec::new(),
        }
    }

    fn send(&mut self) {
        self.credit = (self.credit + self.bbr.rate() / 1000.0).min(12_000.0_f64.max(self.bbr.rate() / 500.0));
        while self.credit >= PACKET as f64 && self.in_flight + PACKET <= self.bbr.window() {
            self.credit -= PACKET as f64;
            self.bbr.on_sent(self.now, PACKET, self.in_flight);
            self.in_flight += PACKET;
            self.sent += 1;
            let full = self.waiting + PACKET as f64 > self.queue;
            self.dropped += u64::from(full);
            let lost = full || (self.lost > 0 && self.sent.wrapping_mul(2_654_435_761).is_multiple_of(self.lost));
            if !full {
                self.waiting += PACKET as f64;
            }
            let delay = Duration::from_secs_f64(self.waiting / self.rate) + self.rtt;
            self.under_way.push_back((self.now + if lost { delay * 5 / 4 } else { delay }, self.now, lost));
        }
    }

    /// One millisecond.
    fn tick(&mut self) {
        self.now += MS;
        self.waiting = (self.waiting - self.rate / 1000.0).max(0.0);
        let due = |(at, ..): &&(Instant, Instant, bool)| *at <= self.now;
        let (arrived, left): (Vec<_>, Vec<_>) = self.under_way.iter().partition(due);
        self.under_way = left.into();
        for &(_, sent, _) in arrived.iter().filter(|(.., lost)| !lost) {
            self.in_flight -= PACKET;
            self.delivered += PACKET;
            self.bbr.on_ack(sent, PACKET);
        }
        self.bbr.on_end_acks(self.now, self.in_flight, false, 2 * PACKET);
        for &(_, sent, _) in arrived.iter().filter(|(.., lost)| *lost) {
            self.in_flight -= PACKET;
            self.bbr.on_lost(self.now, sent, PACKET);
        }
        self.send();
        let state = self.bbr.state.name();
        if self.states.last() != Some(&state) {
            self.states.push(state);
        }
    }

    /// Mbit/s that arrive in this time.
    fn run(&mut self, ms: u32) -> f64 {
        let before = self.delivered;
        (0..ms).for_each(|_| self.tick());
        (self.delivered - before) as f64 / f64::from(ms) / 125.0
    }

    /// How long a packet that leaves now waits in the queue.
    fn wait(&self) -> Duration {
        Duration::from_secs_f64(self.waiting / self.rate)
    }
}

#[test]
fn the_states_follow_one_another() {
    let mut path = Path::new(20.0, 200.0, 40, 0);
    path.run(8000);
    let cycle = ["down", "cruise", "refill", "up"];
    let expected = ["startup", "drain"].into_iter().chain(cycle.into_iter().cycle());
    let seen = path.states.len();
    assert!(seen > 8, "{:?}", path.states);
    assert_eq!(path.states, expected.take(seen).collect::<Vec<_>>());
}

#[test]
fn a_path_is_filled_and_its_queue_stays_short() {
    for (mbit, rtt) in [(2.0, 40), (20.0, 5), (100.0, 40), (50.0, 200)] {
        let mut path = Path::new(mbit, 1000.0, rtt, 0);
        path.run(3000);
        let mut waits = Vec::new();
        let mut arrived = 0.0;
        for _ in 0..100 {
            arrived += path.run(50) / 100.0;
            waits.push(path.wait());
        }
        waits.sort_unstable();
        assert!(arrived > mbit * 0.95, "{arrived} of {mbit} Mbit/s at {rtt} ms");
        assert!(waits[50] < (rtt * MS / 4).max(12 * MS), "{:?} of queue at {mbit} Mbit/s, {rtt} ms", waits[50]);
        assert_eq!(path.dropped, 0);
    }
}

#[test]
fn single_losses_do_not_slow_it_down() {
    for one_of in [1000, 100, 50, 25] {
        let mut path = Path::new(50.0, 100.0, 40, one_of);
        path.run(2000);
        let arrived = path.run(8000);
        let most = 50.0 * (1.0 - 1.0 / one_of as f64);
        assert!(arrived > most * 0.93, "{arrived} of {most} Mbit/s where one of {one_of} is lost");
    }
}

#[test]
fn a_short_queue_loses_little_of_what_is_sent() {
    let mut path = Path::new(50.0, 20.0, 40, 0);
    path.run(10_000);
    assert!(path.dropped * 50 < path.sent, "{} of {}", path.dropped, path.sent);
}

#[test]
fn a_rate_that_falls_to_a_tenth_is_followed_and_found_again() {
    let mut path = Path::new(50.0, 1000.0, 40, 0);
    path.run(4000);
    let before = path.bbr.window();
    path.rate = 5.0 * 125_000.0;
    path.run(300);
    // What was measured since is a mixture still: the queue holds what left before.
    assert!(path.bbr.window() < before / 4, "{} of {before}", path.bbr.window());
    path.run(700);
    assert!(path.bbr.bandwidth() < 7.0 * 125_000.0, "{}", path.bbr.bandwidth() / 125_000.0);
    path.rate = 50.0 * 125_000.0;
    path.run(1000);
    let arrived = path.run(500);
    assert!(arrived > 40.0, "{arrived} Mbit/s a second after the rate is back: {:?}", path.bbr.state);
}

#[test]
fn a_longer_way_is_learnt_within_seconds() {
    let mut path = Path::new(20.0, 200.0, 20, 0);
    path.run(3000);
    path.rtt = 60 * MS;
    path.run(7000);
    assert!(path.bbr.rtt.get().is_some_and(|rtt| rtt >= 60 * MS), "{:?}", path.bbr.rtt);
    let arrived = path.run(3000);
    assert!(arrived > 18.5, "{arrived} Mbit/s");
}

#[test]
fn a_program_that_sends_little_does_not_teach_that_the_path_is_slow() {
    let mut path = Path::new(50.0, 100.0, 40, 0);
    for _ in 0..200 {
        let now = path.now;
        path.bbr.on_sent(now, 100, 0);
        path.now += 40 * MS;
        path.bbr.on_ack(now, 100);
        path.bbr.on_end_acks(path.now, 0, true, 2 * PACKET);
    }
    assert!(!path.bbr.full);
    assert!(path.bbr.rate() >= 12_000.0 / 0.04, "ten packets a round trip, at least: {}", path.bbr.rate());
    path.run(1000);
    assert!(path.run(1000) > 45.0);
}
