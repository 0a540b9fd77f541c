//! Whether a path works, by evidence.
//!
//! Two things are evidence: an authentic packet that came in on the path, and an answer to what went out on it, which
//! is a check's echo or QUIC's acknowledgement. While both sides' data flows there is enough of both, and nothing is
//! sent for it. Data that goes unanswered makes a path doubtful, and then failing. Who only receives has nothing to be
//! answered, so a stream that breaks off is asked after once. A path at rest is asked seldom and doubted slowly: a
//! radio's pause of some seconds without data is no reason to leave it.

use std::time::{Duration, Instant};

use super::floor::Floor;

/// Data unanswered for this long, or one and a half round trips if that is longer, makes a path doubtful …
const DOUBT: Duration = Duration::from_millis(120);
/// … and for this long, or three round trips, failing: the data leaves as soon as another path answers.
const PATIENCE: Duration = Duration::from_millis(250);
/// A round trip that was measured while packets lay about somewhere must not make for endless patience.
const LONGEST_DOUBT: Duration = Duration::from_millis(1500);
/// Pause between the checks of a doubtful path: half a round trip, within these bounds; after so many unanswered ones
/// it is longer.
const DOUBT_GAP: std::ops::RangeInclusive<Duration> = Duration::from_millis(40)..=Duration::from_millis(200);
const LONGER: [(u32, Duration); 2] = [(8, Duration::from_millis(250)), (40, Duration::from_secs(1))];
/// Packets that come in this close after one another are a stream, once there have been so many.
const STREAM_GAP: Duration = Duration::from_millis(100);
const STREAM: u32 = 5;
/// Pause between checks once a path at rest has left one unanswered, and how long they may stay so.
const REST_AGAIN: Duration = Duration::from_secs(2);
const REST_PATIENCE: Duration = Duration::from_secs(16);

/// The signs of life of one path that has worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Liveness {
    rtt: Duration,
    floor: Floor,
    /// The last answer: proof that packets pass both ways.
    answered: Instant,
    /// The last authentic packet that came in, and how many came close after one another.
    heard: Instant,
    streak: u32,
    /// Since when data has been unanswered.
    asked: Option<Instant>,
    /// The last check sent, how many have been since the last answer, and when the first of those was.
    checked: Instant,
    unanswered: u32,
    unanswered_since: Instant,
}

impl Liveness {
    /// A path whose round trip has just been proven.
    pub(super) fn new(now: Instant, rtt: Duration) -> Self {
        let (answered, heard, checked, unanswered_since) = (now, now, now, now);
        let floor = Floor::new(now, rtt);
        Self { rtt, floor, answered, heard, streak: 0, asked: None, checked, unanswered: 0, unanswered_since }
    }

    pub(super) fn rtt(&self) -> Duration {
        self.rtt
    }

    /// The round trip without queues, by which paths compare.
    pub(super) fn floor(&self) -> Duration {
        self.floor.get()
    }

    /// An authentic packet came in. It says nothing of the way out.
    pub(super) fn on_heard(&mut self, now: Instant) {
        let close = now.saturating_duration_since(self.heard) < STREAM_GAP;
        self.streak = if close { self.streak.saturating_add(1) } else { 0 };
        self.heard = now;
    }

    /// Whether a stream of packets comes in.
    pub(super) fn hears_stream(&self, now: Instant) -> bool {
        self.streak >= STREAM && now.saturating_duration_since(self.heard) < STREAM_GAP
    }

    /// Data that wants an answer went out.
    pub(super) fn on_asked(&mut self, now: Instant) {
        if self.asked.is_none() {
            self.asked = Some(now);
            // What was doubted while at rest is not held against it now.
            self.unanswered = 0;
        }
    }

    /// How long data has been unanswered, if any is.
    pub(super) fn waited(&self, now: Instant) -> Option<Duration> {
        self.asked.map(|asked| now.saturating_duration_since(asked))
    }

    /// Whether data is unanswered.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Data came back, answered on the path after this time. `waiting`: more of it is unanswered.
    pub(super) fn on_acknowledged(&mut self, now: Instant, rtt: Duration, waiting: bool) {
        self.rtt = rtt;
        self.floor.add(now, rtt);
        (self.answered, self.heard, self.unanswered) = (now, now, 0);
        self.asked = waiting.then_some(now);
    }

    /// Nothing is unanswered any more, whichever path it took. What is in doubt stays so until the path itself answers.
    pub(super) fn on_nothing_asked(&mut self, now: Instant) {
        if !self.is_doubtful(now) {
            self.asked = None;
        }
    }

    /// A check of ours came back.
    pub(super) fn on_echo(&mut self, now: Instant, rtt: Duration) {
        // One sample among many, as in RFC 6298.
        self.rtt = (self.rtt * 7 + rtt) / 8;
        self.floor.add(now, rtt);
        (self.answered, self.heard, self.unanswered) = (now, now, 0);
        // The path has answered. Data that is still missing will be sent again, and asks anew.
        self.asked = None;
    }

    /// There is reason to believe that it does not work: it is doubtful from now on, unless it was already.
    pub(super) fn doubt(&mut self, now: Instant) {
        let since = now.checked_sub(self.doubt_after()).unwrap_or(now);
        self.asked = Some(self.asked.map_or(since, |asked| asked.min(since)));
    }

    /// Time passed that nobody lived through, or the network is another: what was unanswered proves nothing.
    pub(super) fn forgive(&mut self, now: Instant) {
        // The last answer stays what it was: proof of nothing later.
        *self = Self { answered: self.answered, ..Self::new(now, self.rtt) };
    }

    fn doubt_after(&self) -> Duration {
        (self.rtt * 3 / 2).clamp(DOUBT, LONGEST_DOUBT)
    }

    fn patience(&self) -> Duration {
        (self.rtt * 3).clamp(PATIENCE, LONGEST_DOUBT * 2)
    }

    pub(super) fn is_doubtful(&self, now: Instant) -> bool {
        self.asked.is_some_and(|asked| asked + self.doubt_after() <= now)
    }

    /// Since when it has failed to answer, once that is too long.
    pub(super) fn failing_since(&self, now: Instant) -> Option<Instant> {
        self.failing_at().filter(|(_, at)| *at <= now).map(|(since, _)| since)
    }

    /// Since when it has left us without an answer, and when that counts as failing.
    fn failing_at(&self) -> Option<(Instant, Instant)> {
        let data = self.asked.map(|asked| (asked, asked + self.patience()));
        let rest = (self.unanswered > 0).then(|| (self.unanswered_since, self.unanswered_since + REST_PATIENCE));
        data.or(rest)
    }

    /// When it fails to answer on trial, where nothing but checks is sent.
    pub(super) fn trial_fails_at(&self) -> Option<Instant> {
        (self.unanswered > 0).then(|| self.unanswered_since + self.patience())
    }

    /// Whether an answer has come after `since`.
    pub(super) fn has_answered(&self, since: Instant) -> bool {
        self.answered >= since
    }

    /// How long nothing has come in.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard)
    }

    /// How long nothing has passed on it, either way, before the last check.
    pub(super) fn rested(&self) -> Duration {
        self.checked.saturating_duration_since(self.heard)
    }

    /// When a stream that came in has broken off for longer than the round trip explains.
    fn lull_at(&self) -> Option<Instant> {
        (self.streak >= STREAM && self.asked.is_none()).then(|| self.heard + self.doubt_after())
    }

    /// A check goes out; gives whether it is the first since things looked wrong.
    pub(super) fn on_check_sent(&mut self, now: Instant) -> bool {
        let lull = self.lull_at().is_some_and(|at| at <= now);
        if lull {
            (self.asked, self.streak, self.unanswered) = (Some(now), 0, 0);
        }
        let first = self.unanswered == 0;
        if first {
            self.unanswered_since = now;
        }
        (self.checked, self.unanswered) = (now, self.unanswered.saturating_add(1));
        lull || (first && self.is_doubtful(now))
    }

    /// When the next check is to be sent. `rest`: the pause at rest, counted from the last sign of life.
    pub(super) fn next_check(&self, rest: Option<Duration>) -> Option<Instant> {
        if let Some(asked) = self.asked {
            let doubtful = asked + self.doubt_after();
            return Some(if self.checked < doubtful {
                doubtful
            } else {
                self.checked + doubt_gap(self.rtt, self.unanswered)
            });
        }
        if self.unanswered > 0 {
            return Some(self.checked + REST_AGAIN);
        }
        let rest = rest.map(|rest| self.heard.max(self.checked) + rest);
        self.lull_at().into_iter().chain(rest).min()
    }

    /// When its state changes by time alone.
    pub(super) fn next_change(&self, now: Instant) -> Option<Instant> {
        let doubtful = self.asked.map(|asked| asked + self.doubt_after()).filter(|at| *at > now);
        let failing = self.failing_at().map(|(_, at)| at).filter(|at| *at > now);
        doubtful.into_iter().chain(failing).min()
    }
}

/// Pause before the next check of a path in trouble that has left so many unanswered.
pub(super) fn doubt_gap(rtt: Duration, unanswered: u32) -> Duration {
    let longer = LONGER.iter().rev().find(|(many, _)| unanswered >= *many).map(|&(_, gap)| gap);
    longer.unwrap_or_else(|| (rtt / 2).clamp(*DOUBT_GAP.start(), *DOUBT_GAP.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(60);
    const REST: Option<Duration> = Some(Duration::from_secs(25));

    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn start() -> Instant {
        Instant::now()
    }

    /// A path that is silent from `from` until `until`, used as `used` says; when it was found failing, and the checks.
    fn found_failing(from: u64, until: u64, used: impl Fn(u64) -> bool) -> (Option<u64>, usize) {
        let start = start();
        let mut liveness = Liveness::new(start, RTT);
        let (mut answers, mut checks) = (std::collections::BTreeMap::new(), 0);
        for ms in 0..120_000 {
            let now = start + Duration::from_millis(ms);
            match answers.remove(&ms) {
                Some(true) => liveness.on_echo(now, RTT),
                Some(false) => liveness.on_acknowledged(now, RTT, false),
                None => {}
            }
            if liveness.failing_since(now).is_some() {
                return (Some(ms), checks);
            }
            let passes = !(from..until).contains(&ms);
            if used(ms) {
                liveness.on_asked(now);
                answers.extend(passes.then_some((ms + 60, false)));
            }
            if liveness.next_check(REST).is_some_and(|at| at <= now) {
                liveness.on_check_sent(now);
                checks += 1;
                answers.extend(passes.then_some((ms + 60, true)));
            }
        }
        (None, checks)
    }

    #[test]
    fn a_path_in_use_that_dies_is_found_failing_after_a_quarter_of_a_second() {
        let (dead, _) = found_failing(10_000, u64::MAX, |ms| ms % 10 == 0);
        assert!((10_200..=10_350).contains(&dead.unwrap()), "{dead:?}");
    }

    #[test]
    fn a_path_whose_data_is_acknowledged_needs_no_checks() {
        assert_eq!(found_failing(u64::MAX, u64::MAX, |ms| ms % 10 == 0), (None, 0));
    }

    #[test]
    fn a_radios_pause_of_ten_seconds_without_data_is_no_reason_to_leave() {
        for from in (5_000..60_000).step_by(500) {
            assert_eq!(found_failing(from, from + 10_000, |_| false).0, None, "{from}");
        }
    }

    #[test]
    fn a_path_at_rest_that_dies_is_found_failing_in_the_end() {
        let (dead, _) = found_failing(5_000, u64::MAX, |_| false);
        assert!(dead.unwrap() < 45_000, "{dead:?}");
    }

    #[test]
    fn a_path_that_died_at_rest_is_found_failing_quickly_once_it_is_used() {
        let (dead, _) = found_failing(5_000, u64::MAX, |ms| ms > 12_000 && ms % 10 == 0);
        assert!(dead.unwrap() < 12_300, "{dead:?}");
    }

    #[test]
    fn a_stream_that_breaks_off_is_asked_after_once() {
        let start = start();
        let (mut liveness, mut checks) = (Liveness::new(start, RTT), Vec::new());
        let mut echo = None;
        for ms in 0..20_000 {
            let now = start + Duration::from_millis(ms);
            if (ms < 5_000 && ms % 20 == 0) || (ms > 10_000 && ms % 1_000 == 0) {
                liveness.on_heard(now);
            }
            if echo == Some(ms) {
                liveness.on_echo(now, RTT);
                liveness.on_acknowledged(now, RTT, false);
            }
            if liveness.next_check(REST).is_some_and(|at| at <= now) {
                assert!(liveness.on_check_sent(now));
                checks.push(ms);
                echo = Some(ms + 60);
            }
        }
        assert_eq!(checks, [4_980 + 120], "and what comes now and then is no stream");
    }

    #[test]
    fn a_path_at_rest_is_asked_once_in_its_pause() {
        let (_, checks) = found_failing(u64::MAX, u64::MAX, |_| false);
        assert_eq!(checks, 4);
    }
}
