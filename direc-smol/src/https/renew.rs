//! A relay that is known by its HTTPS URL is asked again who it is and where: at once when it proves another key than it
//! had, and when it has been away for long. Its peers do not ask all at the same moment, and none asks often.

use std::{
    future,
    time::{Duration, Instant},
};

use async_io::Timer;
use futures_lite::future::or;

use super::HttpsRelay;
use crate::{
    hub::{Away, PeerMachine},
    node::Node,
    resolve,
};

/// How long a relay may be away before it is asked whether it has moved: so many tries that fail.
const TRIES: u32 = 6;
/// The peers of a relay that has another key may all learn so at the same moment: they ask within this time.
const SPREAD: Duration = Duration::from_secs(1);
/// Pause after a question, doubled each time up to the last, each then varied by half.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LAST_PAUSE: Duration = Duration::from_secs(300);

/// Asks one relay.
pub(super) struct Renewer<'a> {
    node: &'a Node<PeerMachine>,
    index: usize,
    https: &'a HttpsRelay,
    /// How long the relay may be away.
    long: Duration,
}

impl<'a> Renewer<'a> {
    /// For the relay of that index; `patience` is how long one try to reach it lasts.
    pub(super) fn new(node: &'a Node<PeerMachine>, index: usize, https: &'a HttpsRelay, patience: Duration) -> Self {
        Self { node, index, https, long: patience * TRIES }
    }

    pub(super) async fn run(&self) {
        let mut pace = Pace::new(Instant::now());
        loop {
            self.until(|away| away.is_some()).await;
            pace.begin(Instant::now());
            or(self.ask_on(&mut pace), self.until(|away| away.is_none())).await;
        }
    }

    /// Asks again and again, and never ends.
    async fn ask_on(&self, pace: &mut Pace) {
        let (mut hurried, mut told) = (false, String::new());
        loop {
            let Some(away) = self.away() else { return future::pending().await };
            if away.key_changed && !std::mem::replace(&mut hurried, true) {
                pace.hurry(Instant::now(), chance());
            }
            let due = if hurried { pace.next } else { pace.next.max(away.since + self.long) };
            let due = async {
                Timer::at(due).await;
                true
            };
            let news = async {
                self.until(|away| away.is_none_or(|away| away.key_changed && !hurried)).await;
                false
            };
            if or(due, news).await {
                self.ask(&mut told).await;
                pace.asked(Instant::now(), chance());
            }
        }
    }

    /// Asks once. What comes of it is told if it is something else than the last time.
    async fn ask(&self, told: &mut String) {
        let failure = match self.renew().await {
            Ok(true) => return,
            Ok(false) if self.away().is_some_and(|away| away.key_changed) => {
                "by HTTPS it says that it has the key that it had: somebody stands in between".to_owned()
            }
            Ok(false) => return,
            Err(failure) => failure,
        };
        if *told != failure {
            log::warn!("{}: {failure}; asking again", self.https.url());
            *told = failure;
        }
    }

    /// Whether the relay is another one now.
    async fn renew(&self) -> Result<bool, String> {
        let url = self.https.ask_again().await.map_err(|error| error.to_string())?;
        let bound = self.node.look(|machine| machine.bound);
        let relay = resolve::relay(&url, bound).await.map_err(|error| error.to_string())?;
        let new = self.node.look(|machine| machine.relay(self.index)) != Some(relay);
        let replaced = self.node.call(|machine, now| machine.replace_relay(now, self.index, relay));
        replaced.map_err(|error| error.to_string())?.wake();
        Ok(new)
    }

    fn away(&self) -> Option<Away> {
        self.node.look(|machine| machine.relays.away(self.index))
    }

    async fn until(&self, such: impl Fn(Option<Away>) -> bool) {
        let bell = self.node.look(|machine| machine.signals.relay.clone());
        bell.wait_for(|| such(self.away()).then_some(())).await;
    }
}

/// When questions may be asked.
#[derive(Clone, Copy, Debug)]
struct Pace {
    last: Option<Instant>,
    /// Not before.
    next: Instant,
    pause: Duration,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { last: None, next: now, pause: FIRST_PAUSE }
    }

    /// The relay is away: another matter than the last one, unless that has only just ended.
    fn begin(&mut self, now: Instant) {
        if self.last.is_none_or(|last| last + LAST_PAUSE <= now) {
            self.pause = FIRST_PAUSE;
        }
    }

    /// The relay is there and has another key: now there is something to be learnt.
    fn hurry(&mut self, now: Instant, chance: f64) {
        let earliest = self.last.map_or(now, |last| now.max(last + FIRST_PAUSE));
        (self.next, self.pause) = (earliest + SPREAD.mul_f64(chance), FIRST_PAUSE);
    }

    /// A question has been answered, or not.
    fn asked(&mut self, now: Instant, chance: f64) {
        (self.last, self.next) = (Some(now), now + self.pause.mul_f64(0.5 + chance / 2.0));
        self.pause = (self.pause * 2).min(LAST_PAUSE);
    }
}

/// From 0 to 1; without randomness the middle, since nothing here is secret.
fn chance() -> f64 {
    getrandom::u32().map_or(0.5, |drawn| f64::from(drawn) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many questions are asked in that time, each as soon as it may be; `hurried` for a relay that is back with
    /// another key each time.
    fn questions(within: Duration, chance: f64, hurried: bool) -> u32 {
        let start = Instant::now();
        let (mut pace, mut asked) = (Pace::new(start), 0);
        let mut now = start;
        while now < start + within {
            asked += 1;
            pace.asked(now, chance);
            pace.begin(now);
            if hurried {
                pace.hurry(now, chance);
            }
            now = pace.next;
        }
        asked
    }

    #[test]
    fn a_relay_that_stays_away_is_asked_ever_more_seldom() {
        // 2, 4, 8, … 256 s, then every 300 s; or half of that.
        assert_eq!(questions(Duration::from_secs(3600), 1.0, false), 19);
        assert_eq!(questions(Duration::from_secs(3600), 0.0, false), 31);
    }

    #[test]
    fn a_relay_whose_key_changes_all_the_time_is_asked_every_two_seconds_at_most() {
        assert!(questions(Duration::from_secs(60), 0.0, true) <= 30);
    }

    #[test]
    fn the_first_question_about_another_key_comes_within_a_second_however_long_the_relay_was_away() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        (0..20).for_each(|_| pace.asked(start, 1.0));
        let now = start + Duration::from_secs(10);
        for chance in [0.0, 0.5, 1.0] {
            pace.hurry(now, chance);
            assert_eq!(pace.next, now + SPREAD.mul_f64(chance));
        }
    }
}
