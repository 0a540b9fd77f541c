//! How long the NATs between a peer and its relay keep a silent binding: learnt from outside, by late echoes.
//!
//! With a refresh's cookies the peer asks hole-punch ports for a late echo, and sends them nothing until it is due. If it
//! comes, a silence of that length is survived. Longer and longer ones are tried, each of them twice. First the control
//! connection is pinged meanwhile as often as is known to do, so the peer can be reached all the time. Then the whole
//! socket is silent: where one binding serves all flows, the pings have kept it alive.
//!
//! A socket that carries other traffic is seldom silent. Then a pause may be found that is not proven yet: it does for
//! NATs with a binding for each flow, and for the others as long as the other traffic goes on. So the control connection
//! is pinged as soon as the whole socket has been silent for as long as is proven.
//!
//! A late echo that does not come may have been lost. So two ports are asked for the same, and a death counts when it is
//! seen twice in a row, each time with the network working right afterwards.

use std::time::{Duration, Instant};

use crate::{drops::DropReason, wire::datagram::Cookie};

/// Pauses between refreshes that are tried, in seconds. Whoever forgets sooner than the first one is not helped; the last
/// one with its test is shorter than a control connection's idle timeout and an address's life at the relay.
const PAUSES: [u8; 6] = [4, 6, 12, 25, 40, 55];
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(PAUSES[PAUSES.len() - 1] as u64);
/// A silence that is survived must be so much longer than the pause that follows from it, in seconds.
const MARGIN: u8 = 2;
/// A late echo that comes later than this is taken for lost.
const PATIENCE: Duration = Duration::from_secs(3);
/// Refreshes without a test after silences that other traffic broke: twice as many each time, up to 2 to the power of
/// this. Meanwhile the peer can be reached all the time.
const MAX_REST: u32 = 4;
/// Deaths in a row that count.
const DEATHS: u32 = 2;
/// Hole-punch ports that are asked for late echoes: what a relay promises one peer.
pub(super) const TESTED_PORTS: usize = 2;

fn pause_of(rung: usize) -> Duration {
    Duration::from_secs(PAUSES.get(rung).copied().unwrap_or(PAUSES[0]).into())
}

/// One try: the same late echo is asked of some ports.
struct Test {
    cookie: Cookie,
    /// The number of the pause that is tried.
    rung: usize,
    /// When it is due from each port; unknown until the relay has had the cookie there.
    due: [Option<Instant>; TESTED_PORTS],
}

impl Test {
    fn delay(&self) -> Duration {
        pause_of(self.rung) + Duration::from_secs(MARGIN.into())
    }

    /// When it is over, as far as is known.
    fn deadline(&self) -> Option<Instant> {
        self.due.iter().flatten().max().map(|&due| due + PATIENCE)
    }
}

/// How a late echo found the peer: how long it had sent nothing to that port, and nothing at all.
#[derive(Clone, Copy)]
pub(super) struct Silence {
    pub(super) port: Duration,
    pub(super) socket: Duration,
}

/// What is known of the bindings' life.
pub(super) struct BindingLife {
    /// The numbers of the longest pause known to do, and of the shortest known not to.
    good: usize,
    bad: usize,
    /// The longest that has done in the silence of the whole socket, and whether the next try is one.
    sure: usize,
    proving: bool,
    /// Silences in a row that other traffic broke, and the refreshes without a test that are left of those that follow.
    broken: u32,
    rest: u32,
    /// Nothing is left to be found out.
    known: bool,
    deaths: u32,
    /// The last test's late echo did not come. It counts once the network is seen to work.
    missed: bool,
    test: Option<Test>,
    /// The last test's cookie: its other echo may still come.
    last: Option<Cookie>,
}

impl Default for BindingLife {
    fn default() -> Self {
        Self {
            good: 0,
            bad: PAUSES.len(),
            sure: 0,
            proving: false,
            broken: 0,
            rest: 0,
            known: false,
            deaths: 0,
            missed: false,
            test: None,
            last: None,
        }
    }
}

impl BindingLife {
    /// The pause that is known to do.
    pub(super) fn pause(&self) -> Duration {
        pause_of(self.good)
    }

    fn may_do_longer(&self) -> bool {
        self.good + 1 < self.bad
    }

    /// The next pause to be tried: a longer one than is known to do, or the first that is not proven, in full silence.
    fn next_rung(&mut self) -> Option<usize> {
        if self.known {
            return None;
        }
        if self.rest > 0 {
            self.rest -= 1;
            return None;
        }
        let longer = !self.proving && self.may_do_longer();
        Some(if longer { self.good + 1 } else { self.good.min(self.sure + 1) })
    }

    fn know(&mut self) {
        self.known = self.sure >= self.good && !self.may_do_longer();
    }

    /// A refresh begins, with this cookie.
    pub(super) fn on_refresh(&mut self, now: Instant, cookie: Cookie) {
        if let Some(test) = self.test.take() {
            // One that this refresh has cut short says nothing.
            self.missed |= test.deadline().is_some_and(|deadline| deadline <= now);
            self.last = Some(test.cookie);
        }
        self.test = self.next_rung().map(|rung| Test { cookie, rung, due: [None; TESTED_PORTS] });
    }

    /// After how many seconds that cookie is to ask for late echoes, 0 for none.
    pub(super) fn asks(&self) -> u8 {
        let pause = self.test.as_ref().and_then(|test| PAUSES.get(test.rung));
        pause.map_or(0, |pause| pause + MARGIN)
    }

    /// How long after its beginning a refresh is followed by the next one, as far as is known then.
    pub(super) fn until_next(&self) -> Duration {
        self.test.as_ref().map_or(self.pause(), |test| test.delay() + PATIENCE)
    }

    /// When the control connection is to be pinged, if nothing is sent until then: `flow` is when something was sent on it
    /// last, `socket` when anything was. Asked again at that time.
    pub(super) fn ping_at(&self, flow: Instant, socket: Instant) -> Option<Instant> {
        let finding = self.test.as_ref().filter(|test| test.rung > self.good);
        let flow = finding.map(|_| flow + self.pause());
        let socket = (self.good > self.sure).then(|| socket + pause_of(self.sure));
        [flow, socket].into_iter().flatten().min()
    }

    /// Whether a ping now would break a silence that may still prove a pause. `socket` is when anything was sent last.
    pub(super) fn is_proving(&self, socket: Instant) -> bool {
        let test = self.test.as_ref().filter(|test| test.rung <= self.good);
        test.is_some_and(|test| {
            let due = test.due.iter().flatten().min();
            due.is_none_or(|&due| socket + pause_of(test.rung) <= due)
        })
    }

    /// The relay has had the cookie at a port; gives when the next refresh is to be, if that changes.
    pub(super) fn on_observed(&mut self, now: Instant, cookie: &Cookie, port: u8) -> Option<Instant> {
        let test = self.test.as_mut().filter(|test| test.cookie == *cookie)?;
        let delay = test.delay();
        if let Some(due) = test.due.get_mut(usize::from(port)) {
            due.get_or_insert(now + delay);
        }
        let deadline = test.deadline();
        if !std::mem::take(&mut self.missed) {
            return deadline;
        }
        self.deaths += 1;
        if self.deaths < DEATHS {
            return deadline;
        }
        self.on_died();
        Some(now + self.pause())
    }

    /// The pause that was tried is too long.
    fn on_died(&mut self) {
        let Some(test) = self.test.take() else { return };
        (self.last, self.deaths) = (Some(test.cookie), 0);
        self.bad = test.rung;
        self.good = self.good.min(test.rung.saturating_sub(1));
        self.sure = self.sure.min(self.good);
        self.know();
    }

    /// A late echo has come, with the token that makes it the relay's: it is time for the next refresh if that ends the
    /// test.
    pub(super) fn on_late_echo(&mut self, cookie: &Cookie, silence: Silence) -> Result<bool, DropReason> {
        let Some(test) = self.test.take_if(|test| test.cookie == *cookie) else {
            return if self.last == Some(*cookie) { Ok(false) } else { Err(DropReason::UnknownCookie) };
        };
        self.last = Some(test.cookie);
        let finding = test.rung > self.good;
        let silent = if finding { silence.port } else { silence.socket };
        if silent < pause_of(test.rung) {
            // Something was sent meanwhile, for another reason.
            self.on_broken(finding);
        } else {
            (self.good, self.sure) = if finding { (test.rung, self.sure) } else { (self.good, test.rung) };
            self.proving = self.sure < self.good;
            (self.broken, self.deaths, self.missed) = (0, 0, false);
        }
        self.know();
        Ok(true)
    }

    /// The silence was none. The same is tried again: after other tries, or else after a while.
    fn on_broken(&mut self, finding: bool) {
        if finding {
            return;
        }
        self.proving = false;
        if !self.may_do_longer() {
            self.broken = (self.broken + 1).min(MAX_REST);
            self.rest = 1 << self.broken;
        }
    }

    /// No cookie gets through, so nothing can be learnt now. Gives the pause that is known to do, if one is.
    pub(super) fn on_unanswered(&mut self) -> Option<Duration> {
        self.missed = false;
        self.last = self.test.take().map(|test| test.cookie).or(self.last);
        (self.good > 0 || self.known).then(|| self.pause())
    }

    /// The relay hears this peer from another address: another NAT, if it is not a test that has cost the last one.
    pub(super) fn on_address_changed(&mut self) {
        if self.known {
            self.forget();
        }
    }

    /// Another network, other NATs.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests;
