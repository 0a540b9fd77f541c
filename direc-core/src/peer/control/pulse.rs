//! Whether the relay is there: asked when it matters, repeated until it answers.

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

/// Between two pings: one and a half round trips within these bounds. QUIC's own repeats come later each time.
const GAP: RangeInclusive<Duration> = Duration::from_millis(80)..=Duration::from_millis(400);
/// How long pings may stay unanswered.
pub(in crate::peer) const PATIENCE: Duration = Duration::from_secs(5);
/// Pings in a row where something that matters has been said.
const INSIST: u8 = 3;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    Ping,
    Lost,
}

/// The pings under way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pulse {
    asked: Option<Instant>,
    silent_since: Option<Instant>,
    /// Pings that are sent even if it answers.
    insist: u8,
}

impl Pulse {
    /// Whether to ping now; unless that was done just before.
    pub(super) fn ask(&mut self, now: Instant, rtt: Option<Duration>) -> bool {
        let due = self.asked.is_none_or(|asked| asked + gap(rtt) <= now);
        if due {
            self.silent_since.get_or_insert(now);
            self.on_ping(now);
        }
        due
    }

    /// More pings are to follow the next one.
    pub(super) fn insist(&mut self) {
        self.insist = INSIST;
    }

    /// It has answered.
    pub(super) fn on_heard(&mut self) {
        self.silent_since = None;
    }

    /// Since when it has owed an answer.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        self.silent_since
    }

    pub(super) fn poll(&mut self, now: Instant, rtt: Option<Duration>) -> Option<Beat> {
        if self.silent_since.is_some_and(|since| since + PATIENCE <= now) {
            return Some(Beat::Lost);
        }
        self.again(rtt).filter(|at| *at <= now)?;
        self.on_ping(now);
        Some(Beat::Ping)
    }

    /// When [`Self::poll`] has something to say.
    pub(super) fn next(&self, rtt: Option<Duration>) -> Option<Instant> {
        self.silent_since.map(|since| since + PATIENCE).into_iter().chain(self.again(rtt)).min()
    }

    fn again(&self, rtt: Option<Duration>) -> Option<Instant> {
        let asks = self.silent_since.is_some() || self.insist > 0;
        self.asked.filter(|_| asks).map(|asked| asked + gap(rtt))
    }

    fn on_ping(&mut self, now: Instant) {
        self.asked = Some(now);
        self.insist = self.insist.saturating_sub(1);
    }
}

fn gap(rtt: Option<Duration>) -> Duration {
    (rtt.unwrap_or_default() * 3 / 2).clamp(*GAP.start(), *GAP.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks at the start, and hears an answer at `answered`; when it pinged, and when it gave up.
    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn run(answered: u64, insist: bool) -> (Vec<u64>, Option<u64>) {
        let (start, rtt, mut pulse, mut pings) =
            (Instant::now(), Some(Duration::from_millis(80)), Pulse::default(), vec![0]);
        if insist {
            pulse.insist();
        }
        assert!(pulse.ask(start, rtt) && !pulse.ask(start, rtt), "once is enough");
        for ms in 1..20_000 {
            let now = start + Duration::from_millis(ms);
            if ms == answered {
                pulse.on_heard();
            }
            assert!(pulse.next(rtt).is_none_or(|at| at > now - Duration::from_millis(1)), "{ms}");
            match pulse.poll(now, rtt) {
                Some(Beat::Ping) => pings.push(ms),
                Some(Beat::Lost) => return (pings, Some(ms)),
                None => {}
            }
        }
        (pings, None)
    }

    #[test]
    fn a_relay_is_asked_until_it_answers() {
        assert_eq!(run(80, false), (vec![0], None));
        assert_eq!(run(500, false), (vec![0, 120, 240, 360, 480], None));
    }

    #[test]
    fn what_matters_is_followed_by_pings_whatever_is_heard() {
        assert_eq!(run(80, true), (vec![0, 120, 240], None));
    }

    #[test]
    fn a_relay_that_does_not_answer_for_long_is_lost() {
        assert_eq!(run(u64::MAX, false).1, Some(5_000));
    }
}
