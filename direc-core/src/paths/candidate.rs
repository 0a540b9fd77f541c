//! One address at which the other peer may be reached, and what is known of it.

use std::time::{Duration, Instant};

use super::{Pair, liveness::Liveness, record::Record};
use crate::wire::datagram::Nonce;

/// Pauses between the probes to an address that has not answered, in milliseconds: dense while both sides' first
/// punches cross, then doubling. With the probes' length the bound of what an address can be made to receive.
const PUNCH_GAPS: [u64; 9] = [25, 50, 100, 200, 400, 800, 1600, 3200, 3200];
/// So many probes are one schedule; an address that is heard from gets a second one.
pub(super) const PUNCHES: usize = PUNCH_GAPS.len();
/// Pause after a schedule that led to nothing before the next one, if it is for another path's death.
const SCHEDULE_AGAIN: Duration = Duration::from_secs(10);
/// Pause between the probes to an address that once worked, while the connection is used: it may work again any moment,
/// and the data is to be back on it within two seconds.
const RETURN_GAP: Duration = Duration::from_millis(800);
/// At rest the pause doubles up to this.
const RETURN_REST: Duration = Duration::from_secs(30);
/// Between two probes that hearing the other side brings about.
const HEARD_GAP: Duration = Duration::from_millis(200);
/// QUIC datagrams doubled to an address that has not been heard from: the server's first flight (S10).
const UNHEARD_BUDGET: u32 = 8;
/// QUIC datagrams doubled to an address that has been heard from, until its round trip is proven.
const HEARD_BUDGET: u32 = 256;
/// A path that dies again and again has to live this much longer each time before it is trusted, up to the second: so
/// that it brings more than its deaths cost.
const HOLD_STEP: Duration = Duration::from_millis(750);
const LONGEST_HOLD: Duration = Duration::from_secs(3);
/// Pause between the checks of a path that is on trial, or that may be needed any moment.
const HOLD_GAP: Duration = Duration::from_millis(150);
/// A path that has lived this long is forgiven its earlier deaths.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);
/// Pause between the checks of a path that works and is not used: its round trip should be known, no more.
const SPARE_GAP: Duration = Duration::from_secs(60);

/// How far an address has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Probes go out; nothing has come.
    Punching { sent: usize },
    /// The other side's probe came from there: their packets reach us.
    Heard { sent: usize },
    /// A probe of ours has come back: packets of full size pass both ways. Trusted from `trusted` on.
    Proven { liveness: Liveness, trusted: Instant },
    /// It was proven once and died. `alive`: a check has come back since, and a probe of full size is to follow.
    Lost { tries: u32, alive: bool },
    /// All probes are spent.
    Silent { heard: bool },
}

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of full size: what it passes is fit for QUIC. The `first` one ever is a step of the specification's.
    Probe { first: bool },
    /// Without the padding.
    Check,
}

/// How a path is looked after.
#[derive(Clone, Copy, Debug)]
pub(super) struct Care {
    /// Whether it carries the connection's data, and whether the path that does is in trouble.
    pub(super) current: bool,
    pub(super) trouble: bool,
    /// Whether the connection carries data at all.
    pub(super) in_use: bool,
    /// Pause between keep-alives.
    pub(super) rest: Duration,
}

#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) pair: Pair,
    /// When it was first heard of.
    learnt: Instant,
    state: State,
    since: Instant,
    next: Option<Instant>,
    last_sent: Option<Instant>,
    pub(super) record: Record,
    doubled: u32,
    deaths: u32,
}

impl Candidate {
    pub(super) fn new(now: Instant, pair: Pair) -> Self {
        Self {
            pair,
            learnt: now,
            state: State::Punching { sent: 0 },
            since: now,
            next: Some(now),
            last_sent: None,
            record: Record::default(),
            doubled: 0,
            deaths: 0,
        }
    }

    pub(super) fn learnt(&self) -> Instant {
        self.learnt
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Since when it has been in its state.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    fn enter(&mut self, now: Instant, state: State) {
        if std::mem::discriminant(&state) != std::mem::discriminant(&self.state) {
            self.since = now;
        }
        self.state = state;
    }

    pub(super) fn is_heard(&self) -> bool {
        matches!(self.state, State::Heard { .. })
    }

    /// Whether all that could be tried was, so that another address may have its place.
    pub(super) fn is_spent(&self) -> bool {
        matches!(self.state, State::Silent { .. } | State::Lost { .. })
    }

    /// Whether nothing at all has come from there.
    pub(super) fn is_unanswered(&self) -> bool {
        self.is_spent() || matches!(self.state, State::Punching { .. })
    }

    pub(super) fn liveness(&self) -> Option<&Liveness> {
        match &self.state {
            State::Proven { liveness, .. } => Some(liveness),
            State::Punching { .. } | State::Heard { .. } | State::Lost { .. } | State::Silent { .. } => None,
        }
    }

    pub(super) fn liveness_mut(&mut self) -> Option<&mut Liveness> {
        match &mut self.state {
            State::Proven { liveness, .. } => Some(liveness),
            State::Punching { .. } | State::Heard { .. } | State::Lost { .. } | State::Silent { .. } => None,
        }
    }

    /// Whether data may be moved here.
    pub(super) fn is_trusted(&self, now: Instant) -> bool {
        matches!(&self.state, State::Proven { liveness, trusted } if *trusted <= now && !liveness.is_doubtful(now))
    }

    /// Whether it is on trial: it answers, but has died lately.
    fn is_on_trial(&self, now: Instant) -> bool {
        matches!(self.state, State::Proven { trusted, .. } if trusted > now)
    }

    /// When something is due: a probe, or a change by time alone.
    pub(super) fn next(&self, now: Instant, care: Care) -> Option<Instant> {
        match &self.state {
            State::Proven { liveness, trusted } => {
                let check = self.next_check(now, liveness, care);
                let mut changes = [check, liveness.next_change(now), None, None];
                if *trusted > now {
                    (changes[2], changes[3]) = (Some(*trusted), liveness.trial_fails_at());
                }
                changes.into_iter().flatten().min()
            }
            State::Punching { .. } | State::Heard { .. } | State::Lost { .. } | State::Silent { .. } => self.next,
        }
    }

    fn next_check(&self, now: Instant, liveness: &Liveness, care: Care) -> Option<Instant> {
        let spare = care.in_use.then_some(SPARE_GAP);
        let rest = if self.is_on_trial(now) || (care.trouble && !care.current) {
            Some(HOLD_GAP)
        } else if care.current {
            Some(care.rest)
        } else {
            spare
        };
        liveness.next_check(rest)
    }

    /// The other side says that it is here, or the network is another: try from the beginning, unless it works.
    pub(super) fn restart(&mut self, now: Instant) {
        if !matches!(self.state, State::Proven { .. }) {
            self.enter(now, State::Punching { sent: 0 });
            self.next = Some(now);
        }
    }

    /// Another path has died, perhaps for a reason that makes this one work. What is being tried is tried on, and what has
    /// been tried in vain gets a new schedule, but not each time that a path comes and goes.
    pub(super) fn on_other_died(&mut self, now: Instant) {
        match self.state {
            State::Lost { .. } => self.hurry(now),
            State::Silent { .. } if self.last_sent.is_none_or(|sent| sent + SCHEDULE_AGAIN <= now) => self.restart(now),
            State::Silent { .. } | State::Punching { .. } | State::Heard { .. } | State::Proven { .. } => {}
        }
    }

    /// Nothing that happened before counts any more: another network.
    pub(super) fn forgive(&mut self, now: Instant) {
        self.deaths = 0;
        self.restart(now);
        if let State::Proven { liveness, trusted } = &mut self.state {
            *trusted = (*trusted).min(now);
            liveness.forgive(now);
        }
    }

    /// Another try is due at once, if it is being tried at all.
    pub(super) fn hurry(&mut self, now: Instant) {
        if let State::Lost { tries, .. } = &mut self.state {
            *tries = 0;
            self.next = Some(self.last_sent.map_or(now, |sent| now.max(sent + HEARD_GAP)));
        }
    }

    /// An authentic probe came from there: our own, sent now, will pass what theirs has opened. Only the first one heard
    /// brings a new schedule, or two peers whose echoes are lost would set each other off for ever.
    pub(super) fn on_heard(&mut self, now: Instant) {
        match &mut self.state {
            State::Punching { .. } | State::Silent { heard: false } => {
                self.enter(now, State::Heard { sent: 0 });
                self.next = Some(now);
            }
            State::Lost { .. } => self.hurry(now),
            State::Proven { liveness, .. } => liveness.on_heard(now),
            State::Heard { .. } | State::Silent { heard: true } => {}
        }
    }

    /// An authentic echo came from there: its round trip, if it answers a probe of ours.
    pub(super) fn on_echo(&mut self, now: Instant, nonce: Nonce) -> Option<Duration> {
        let (sent, full) = self.record.on_echo(nonce)?;
        let rtt = now.saturating_duration_since(sent);
        match &mut self.state {
            State::Proven { liveness, trusted } => {
                liveness.on_echo(now, rtt);
                if now.saturating_duration_since(*trusted) > FORGIVEN_AFTER {
                    self.deaths = 0;
                }
            }
            State::Lost { alive, .. } if !full => {
                *alive = true;
                self.next = Some(now);
            }
            State::Punching { .. } | State::Heard { .. } | State::Lost { .. } | State::Silent { .. } => {
                let trusted = now + self.hold();
                self.enter(now, State::Proven { liveness: Liveness::new(now, rtt), trusted });
            }
        }
        Some(rtt)
    }

    /// How long it has to answer before it is trusted: nothing the first time, longer each time it dies.
    fn hold(&self) -> Duration {
        (HOLD_STEP * self.deaths.saturating_sub(1)).min(LONGEST_HOLD)
    }

    /// A path that works no more is left, and tried again for as long as the connection lives.
    pub(super) fn lose(&mut self, now: Instant) {
        if let State::Proven { trusted, .. } = self.state {
            // What dies on trial or at rest has cost nothing.
            self.deaths += u32::from(trusted <= now);
            self.enter(now, State::Lost { tries: 0, alive: false });
            self.next = Some(now);
            self.record.forget_open();
        }
    }

    /// Loses a path that is not in use, if it fails; such a loss is no death.
    pub(super) fn lose_spare(&mut self, now: Instant) {
        let trial = self.is_on_trial(now);
        let fails = |liveness: &Liveness| {
            let on_trial = trial && liveness.trial_fails_at().is_some_and(|at| at <= now);
            on_trial || liveness.failing_since(now).is_some()
        };
        if self.liveness().is_some_and(fails) {
            let deaths = self.deaths;
            self.lose(now);
            self.deaths = deaths;
        }
    }

    /// What is to be sent now; a nonce is then given to [`Self::on_sent`].
    pub(super) fn on_due(&mut self, now: Instant, care: Care) -> Option<Kind> {
        if let State::Proven { liveness, .. } = &self.state {
            self.next_check(now, liveness, care).filter(|at| *at <= now)?;
            // Data that does not pass may do so for its size: a doubtful path is asked in full size.
            return Some(if liveness.is_doubtful(now) { Kind::Probe { first: false } } else { Kind::Check });
        }
        self.next.filter(|next| *next <= now)?;
        let first = self.last_sent.is_none();
        match &mut self.state {
            State::Punching { sent } | State::Heard { sent } => {
                let gap = PUNCH_GAPS.get(*sent).copied();
                *sent += 1;
                self.next = gap.map(|ms| now + Duration::from_millis(ms));
                if gap.is_none() {
                    let heard = self.is_heard();
                    self.enter(now, State::Silent { heard });
                    return None;
                }
                Some(Kind::Probe { first })
            }
            State::Lost { tries, alive } => {
                let gap = if care.in_use { RETURN_GAP } else { (RETURN_GAP * (1 << (*tries).min(6))).min(RETURN_REST) };
                *tries = tries.saturating_add(1);
                self.next = Some(now + gap);
                Some(if std::mem::take(alive) { Kind::Probe { first } } else { Kind::Check })
            }
            State::Silent { .. } | State::Proven { .. } => {
                self.next = None;
                None
            }
        }
    }

    /// It is sent; gives whether it is the first since a path that works looked as if it did not.
    pub(super) fn on_sent(&mut self, now: Instant, nonce: Nonce, kind: Kind) -> bool {
        self.last_sent = Some(now);
        self.record.on_sent(now, nonce, matches!(kind, Kind::Probe { .. }));
        self.liveness_mut().is_some_and(|liveness| liveness.on_check_sent(now))
    }

    /// Whether one more QUIC datagram may be doubled to here.
    pub(super) fn spend(&mut self) -> bool {
        let budget = match self.state {
            State::Punching { .. } => UNHEARD_BUDGET,
            State::Heard { .. } => HEARD_BUDGET,
            State::Proven { .. } | State::Lost { .. } | State::Silent { .. } => 0,
        };
        let allowed = self.doubled < budget;
        self.doubled += u32::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests;
