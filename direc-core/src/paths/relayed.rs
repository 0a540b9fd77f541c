//! The path through the relay: always there while a relay introduces us, asked only when the answer matters.

use std::time::{Duration, Instant};

use super::PathEvent;
use super::{
    liveness::{Liveness, doubt_gap},
    record::Record,
};
use crate::wire::datagram::Nonce;

/// The round trip before the first answer.
const FIRST_GUESS: Duration = Duration::from_millis(100);
/// So many checks unanswered, and the relay itself is to be looked after.
const SILENT: u32 = 2;

#[derive(Debug)]
pub(super) struct Relayed {
    pub(super) liveness: Liveness,
    pub(super) record: Record,
    since: Instant,
    checked: Option<Instant>,
    unanswered: u32,
    answered: bool,
}

impl Relayed {
    pub(super) fn new(now: Instant) -> Self {
        let liveness = Liveness::new(now, FIRST_GUESS);
        Self { liveness, record: Record::default(), since: now, checked: None, unanswered: 0, answered: false }
    }

    /// Another relay, or the same one anew.
    pub(super) fn renew(&mut self, now: Instant) {
        let record = std::mem::take(&mut self.record);
        *self = Self { record, ..Self::new(now) };
    }

    /// Whether its round trip is known.
    pub(super) fn has_answered(&self) -> bool {
        self.answered
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// When the next check is due. `wanted`: the direct path is in trouble; `current`: the data goes this way.
    pub(super) fn next_check(&self, now: Instant, wanted: bool, current: bool) -> Option<Instant> {
        let again = || self.checked.map_or(now, |at| at + doubt_gap(self.liveness.rtt(), self.unanswered));
        if wanted {
            return Some(again());
        }
        if current { self.liveness.next_check(None) } else { None }
    }

    /// A check goes out: what that says of the relay, if anything.
    pub(super) fn on_check_sent(&mut self, now: Instant, nonce: Nonce) -> Option<PathEvent> {
        self.record.on_sent(now, nonce, false);
        self.checked = Some(now);
        self.unanswered = self.unanswered.saturating_add(1);
        let first = self.liveness.on_check_sent(now);
        let silent = (self.unanswered > SILENT).then_some(PathEvent::RelaySilent);
        silent.or(first.then_some(PathEvent::Doubted))
    }

    /// Whether so many checks are unanswered that the relay is in question.
    pub(super) fn is_silent(&self) -> bool {
        self.unanswered > SILENT
    }

    pub(super) fn on_echo(&mut self, now: Instant, nonce: Nonce) -> Option<Duration> {
        let (sent, _) = self.record.on_echo(nonce)?;
        let rtt = now.saturating_duration_since(sent);
        self.liveness.on_echo(now, rtt);
        self.on_answer();
        Some(rtt)
    }

    /// It is there.
    pub(super) fn on_answer(&mut self) {
        (self.unanswered, self.answered) = (0, true);
    }
}
