//! Watches over the network that a peer's socket is on: when it has changed, and when the socket must be a new one.

mod interfaces;
mod nap;
mod notices;
mod waking;

use std::{
    net::SocketAddr,
    task::Context,
    time::{Duration, Instant, SystemTime},
};

use interfaces::Picture;
use nap::Naps;
use notices::Notices;
use waking::Waking;

/// How long after a notice to look: changes come in bursts, and a person must not notice.
const SETTLE: Duration = Duration::from_millis(20);
/// How long to wait at most where notices go on coming that mean nothing here: routes of a router, say.
const SETTLE_LONG: Duration = Duration::from_millis(320);
/// After so long without a look, notices are taken seriously again; and a driver that never sleeps asks for them so
/// often.
const CALM: Duration = Duration::from_secs(1);
/// How long a socket must have failed at everything before it is given up.
const BROKEN_FOR: Duration = Duration::from_secs(1);

/// How the machine's network is looked at.
type Eyes = Box<dyn FnMut() -> Picture + Send>;

/// The addresses of a network that a test paints.
#[cfg(test)]
pub(crate) type Painted = std::sync::Arc<std::sync::Mutex<Vec<std::net::IpAddr>>>;

/// The watch over one peer's network.
pub(crate) struct Network {
    eyes: Eyes,
    notices: Notices,
    naps: Naps,
    waking: Waking,
    seen: Picture,
    looked_at: Instant,
    asked_at: Instant,
    /// A notice has come: look then.
    look_at: Option<Instant>,
    /// How long after the next notice to look.
    settle: Duration,
    /// All relays are on this very machine.
    at_home: bool,
    /// The address that the socket is bound to has gone.
    address_gone: bool,
    broken_since: Option<Instant>,
    /// The network has changed since the socket was bound: a new one might do better.
    may_rebind: bool,
}

/// What the watch has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The network has changed, or may have.
    Changed,
    /// The socket has to be replaced: by one on all addresses, if its own has gone.
    Rebind { address_gone: bool },
}

impl Network {
    /// A watch on the ways to these relays.
    pub(crate) fn new(relays: Vec<SocketAddr>) -> Self {
        let at_home = relays.iter().all(|relay| relay.ip().is_loopback());
        let now = Instant::now();
        Self::with(Notices::new(now), at_home, Box::new(move || Picture::take(&relays)), now)
    }

    fn with(notices: Notices, at_home: bool, mut eyes: Eyes, now: Instant) -> Self {
        Self {
            seen: eyes(),
            eyes,
            notices,
            naps: Naps::new(now, SystemTime::now()),
            waking: Waking::new(),
            looked_at: now,
            asked_at: now,
            look_at: None,
            settle: SETTLE,
            at_home,
            address_gone: false,
            broken_since: None,
            may_rebind: false,
        }
    }

    /// A watch over a network that a test paints, and that is looked at all the time.
    #[cfg(test)]
    pub(crate) fn painted(painted: &Painted) -> Self {
        let (painted, now) = (painted.clone(), Instant::now());
        let eyes = move || {
            let addresses = painted.lock().map(|painted| painted.clone()).unwrap_or_default();
            let interfaces = addresses.into_iter().map(|ip| ("eth0".to_owned(), ip)).collect();
            Picture { interfaces, sources: Vec::new() }
        };
        Self::with(Notices::every(Duration::from_millis(5), now), false, Box::new(eyes), now)
    }

    /// Where machines on this one's own networks reach a socket that is bound so. Relays on this machine introduce no
    /// others, and loopback needs no candidates.
    pub(crate) fn local(&self, bound: SocketAddr) -> Vec<SocketAddr> {
        if self.at_home { Vec::new() } else { self.seen.reach(bound) }
    }

    /// When [`Self::look`] wants to be called next.
    pub(crate) fn due(&self) -> Option<Instant> {
        let broken = self.broken_since.filter(|_| self.may_rebind).map(|since| since + BROKEN_FOR);
        [self.look_at, self.notices.due(), broken].into_iter().flatten().min()
    }

    /// Asks for notices; whether one has come, or the machine may have woken up. The next one wakes the task.
    pub(crate) fn ask(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        self.asked_at = now;
        let noticed = self.notices.poll(cx, now);
        if noticed {
            self.on_notice(now);
        }
        noticed | self.waking.poll(cx)
    }

    fn on_notice(&mut self, now: Instant) {
        if now.saturating_duration_since(self.looked_at) >= CALM {
            self.settle = SETTLE;
        }
        // The first notice of a burst counts: a change must not be put off by the next.
        self.look_at.get_or_insert(now + self.settle);
    }

    /// The driver sleeps now, until then.
    pub(crate) fn sleep(&mut self, until: Option<Instant>) {
        self.naps.sleep(until);
    }

    /// To be called whenever the driver is awake, with the socket's address and whether all it sends fails.
    pub(crate) fn look(
        &mut self,
        cx: &mut Context<'_>,
        (now, wall): (Instant, SystemTime),
        bound: SocketAddr,
        broken: bool,
    ) -> Option<Finding> {
        let nap = self.naps.is_over(now, wall);
        let busy = now.saturating_duration_since(self.asked_at) >= CALM;
        if busy || self.notices.due().is_some_and(|due| due <= now) {
            self.ask(cx, now);
        }
        let looking = nap || self.look_at.is_some_and(|at| at <= now);
        let changed = looking && self.look_again(now, bound) || nap;
        self.may_rebind |= changed;
        self.broken_since = if broken { self.broken_since.or(Some(now)) } else { None };
        let broken = self.broken_since.is_some_and(|since| now.saturating_duration_since(since) >= BROKEN_FOR);
        if (broken && self.may_rebind) || (looking && self.address_gone) {
            (self.may_rebind, self.broken_since) = (false, None);
            return Some(Finding::Rebind { address_gone: self.address_gone });
        }
        changed.then_some(Finding::Changed)
    }

    /// Whether the picture has changed.
    fn look_again(&mut self, now: Instant, bound: SocketAddr) -> bool {
        (self.look_at, self.looked_at) = (None, now);
        let picture = (self.eyes)();
        // An address that never was on an interface may be usable nonetheless, as all of 127.0.0.0/8 is.
        self.address_gone |= self.seen.has(bound.ip()) && !picture.has(bound.ip());
        let changed = picture != self.seen;
        self.settle = if changed { SETTLE } else { (self.settle * 2).min(SETTLE_LONG) };
        self.seen = picture;
        changed
    }

    /// The socket has been replaced; or it could not be, and that is to be tried again soon.
    pub(crate) fn on_rebound(&mut self, now: Instant, done: bool) {
        if done {
            self.address_gone = false;
        } else {
            self.look_at = Some(now + BROKEN_FOR);
        }
    }
}

#[cfg(test)]
mod tests;
