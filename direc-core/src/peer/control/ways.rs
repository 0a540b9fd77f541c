//! The control connection's two ways to its relay: UDP, and a tunnel where UDP does not pass.
//!
//! Both are raced, with a head start for UDP: two QUIC handshakes, of which the first to be done goes on to register.
//! What has won by the tunnel goes on trying UDP by another handshake, which never registers; when that is done, the
//! control connection moves (RFC 9000, section 9): registration, introductions and channels stay as they are. When UDP
//! falls silent under it, it moves into the tunnel in the same way.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use quinn_proto::{ConnectionError, ConnectionHandle, VarInt};

use super::{Control, ControlEvent, State};
use crate::{Link, RelayError, quic::Handle, rng::Rng, wire::close_code};

/// How long UDP has for itself before a tunnel is asked for, where the round trip is not known.
const HEAD_START: Duration = Duration::from_millis(200);
/// The same where it is, in round trips, and within these bounds. A QUIC handshake takes one.
const HEAD_START_TRIPS: u32 = 2;
const HEAD_STARTS: std::ops::RangeInclusive<Duration> = Duration::from_millis(60)..=Duration::from_millis(400);
/// So long a try of UDP lasts beside the tunnel: a few of QUIC's first packets.
const FEELER: Duration = Duration::from_secs(3);
/// Pause before the next one, doubled each time up to the last, each then varied by half.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// UDP that has not answered for so many pings in a row is in doubt, and so long at least.
const DOUBT_TRIPS: u32 = 4;
const DOUBT: Duration = Duration::from_millis(300);
/// A tunnel that has not answered for so long is to be made anew: TCP itself may wait for minutes.
const TUNNEL_DOUBT: Duration = Duration::from_millis(1500);
/// What is on its way in a tunnel that is not needed any more has so long to arrive.
const LINGER: Duration = Duration::from_secs(2);

/// What carries the control connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum By {
    #[default]
    Udp,
    Tunnel,
}

/// A second connection beside the one that counts: the other way's try.
pub(super) struct Aside {
    pub(super) handle: Handle,
    pub(super) by: By,
    /// UDP's is given up then.
    deadline: Option<Instant>,
}

/// The tunnel to one relay, and which way is taken.
#[derive(Default)]
pub(super) struct Ways {
    /// The relay's index, which is the tunnel's number; `None` where no tunnel can be had.
    number: Option<u32>,
    pub(super) by: By,
    /// What the program was told last.
    told: By,
    wanted: bool,
    up: bool,
    pub(super) aside: Option<Aside>,
    /// By which way each QUIC connection goes, those that are ending among them.
    by_of: BTreeMap<usize, By>,
    /// When UDP's head start is over.
    race_at: Option<Instant>,
    /// UDP lost the last race: it gets no head start in the next one.
    lost_before: bool,
    /// When UDP is tried again, and how often it has been in vain.
    feel_at: Option<Instant>,
    in_vain: u32,
    /// When the tunnel is let go of.
    let_go_at: Option<Instant>,
}

impl Ways {
    fn link(&self, by: By) -> Link {
        match (by, self.number) {
            (By::Tunnel, Some(number)) => Link::Tunnel(number),
            (By::Tunnel, None) | (By::Udp, _) => Link::Main,
        }
    }

    /// When UDP is felt for next, after one more time in vain.
    fn feel_later(&mut self, now: Instant, rng: &mut Rng) {
        let full = FIRST_PAUSE.saturating_mul(1 << self.in_vain.min(16)).min(LAST_PAUSE);
        self.in_vain = self.in_vain.saturating_add(1);
        self.feel_at = Some(now + rng.vary(full));
    }

    /// Deadlines; as far as the connection's state needs none of its own.
    fn next(&self) -> Option<Instant> {
        let aside = self.aside.as_ref().and_then(|aside| aside.deadline);
        [self.race_at, self.feel_at, self.let_go_at, aside].into_iter().flatten().min()
    }
}

impl Control {
    /// Where UDP does not pass, the runtime can have a tunnel of this number: the relay's index.
    pub(in crate::peer) fn allow_tunnel(&mut self, number: u32) {
        self.ways.number = Some(number);
    }

    /// The link by which relayed packets go.
    pub(in crate::peer) fn link(&self) -> Link {
        self.ways.link(self.ways.by)
    }

    /// The link by which this connection's packets go; stateless answers go by UDP.
    pub(super) fn link_of(&self, handle: Option<Handle>) -> Link {
        let by = handle.and_then(|handle| self.ways.by_of.get(&handle.0));
        self.ways.link(by.copied().unwrap_or(By::Udp))
    }

    fn want_tunnel(&mut self, wanted: bool) {
        if self.ways.number.is_some() && self.ways.wanted != wanted {
            self.ways.wanted = wanted;
            self.ways.up &= wanted;
            self.events.push(ControlEvent::Tunnel { wanted });
        }
        self.ways.let_go_at = None;
    }

    /// A QUIC handshake over UDP has begun.
    pub(super) fn start_race(&mut self, now: Instant) {
        self.ways.by = By::Udp;
        (self.ways.feel_at, self.ways.let_go_at) = (None, None);
        if self.ways.number.is_some() {
            let known = |rtt: Duration| (rtt * HEAD_START_TRIPS).clamp(*HEAD_STARTS.start(), *HEAD_STARTS.end());
            let head_start = if self.ways.lost_before { Duration::ZERO } else { self.rtt.map_or(HEAD_START, known) };
            self.ways.race_at = Some(now + head_start);
        }
    }

    /// UDP's head start is over, or the tunnel has come up after it.
    fn race(&mut self, now: Instant) {
        self.ways.race_at = None;
        self.want_tunnel(true);
        let patience = self.patience();
        let State::Connecting { deadline, .. } = &mut self.state else { return };
        if !self.ways.up || self.ways.aside.is_some() {
            return;
        }
        // It has come late, by no fault of its own.
        *deadline = (*deadline).max(now + patience);
        self.ways.aside = self.open(now, By::Tunnel).map(|handle| Aside { handle, by: By::Tunnel, deadline: None });
    }

    /// A QUIC connection has begun that goes by this way.
    pub(super) fn on_opened(&mut self, handle: Handle, by: By) {
        let quic = &self.quic;
        self.ways.by_of.retain(|&known, _| quic.get(ConnectionHandle(known)).is_some());
        self.ways.by_of.insert(handle.0, by);
    }

    /// The runtime has the tunnel that was wanted.
    pub(in crate::peer) fn tunnel_up(&mut self, now: Instant) {
        if self.ways.number.is_none() || !self.ways.wanted {
            return;
        }
        self.ways.up = true;
        match &self.state {
            State::Connecting { .. } if self.ways.race_at.is_none() => self.race(now),
            State::Registering { .. } | State::Registered { .. } if self.ways.by == By::Tunnel => {
                self.switch(now, By::Tunnel)
            }
            State::Registered { .. } => self.doubt_way(now),
            State::Connecting { .. } | State::Registering { .. } | State::Waiting { .. } | State::Over => {}
        }
    }

    /// It has broken. The runtime makes another one as long as it is wanted.
    pub(in crate::peer) fn tunnel_lost(&mut self, now: Instant) {
        self.ways.up = false;
        if self.ways.aside.as_ref().is_some_and(|aside| aside.by == By::Tunnel) {
            self.drop_aside(now);
        }
        if self.ways.by == By::Tunnel {
            self.feel_soon(now);
        }
    }

    /// UDP may pass by now: another network, or a cookie that has arrived.
    pub(in crate::peer) fn feel_soon(&mut self, now: Instant) {
        if self.ways.by == By::Tunnel && self.ways.aside.is_none() {
            (self.ways.feel_at, self.ways.in_vain) = (Some(now), 0);
        }
    }

    /// What time has made due.
    pub(super) fn drive_ways(&mut self, now: Instant) {
        if self.ways.race_at.is_some_and(|at| at <= now) {
            self.race(now);
        }
        if self.ways.let_go_at.is_some_and(|at| at <= now) {
            self.want_tunnel(false);
        }
        if self.ways.aside.as_ref().and_then(|aside| aside.deadline).is_some_and(|at| at <= now) {
            self.drop_aside(now);
        }
        if self.ways.feel_at.is_some_and(|at| at <= now) {
            self.ways.feel_at = None;
            if self.ways.by == By::Tunnel && self.is_registered() && self.ways.aside.is_none() {
                let deadline = Some(now + FEELER);
                self.ways.aside = self.open(now, By::Udp).map(|handle| Aside { handle, by: By::Udp, deadline });
            }
        }
        self.doubt_way(now);
    }

    /// Looks after a way that does not answer.
    fn doubt_way(&mut self, now: Instant) {
        let Some(since) = self.doubted_at() else {
            // It answers after all.
            if self.is_registered() && self.ways.by == By::Udp && self.ways.let_go_at.is_none() {
                self.want_tunnel(false);
            }
            return;
        };
        if since > now {
            return;
        }
        match self.ways.by {
            By::Udp if self.ways.up => self.switch(now, By::Tunnel),
            By::Udp => self.want_tunnel(true),
            By::Tunnel if self.ways.up => {
                self.want_tunnel(false);
                self.want_tunnel(true);
                self.feel_soon(now);
            }
            By::Tunnel => {}
        }
    }

    /// When the way in use has been silent for so long that something is to be done about it.
    fn doubted_at(&self) -> Option<Instant> {
        let since = self.pulse.silent_since().filter(|_| self.ways.number.is_some() && self.is_registered())?;
        let doubt = match self.ways.by {
            By::Udp => (self.rtt.unwrap_or_default() * DOUBT_TRIPS).max(DOUBT),
            By::Tunnel => TUNNEL_DOUBT,
        };
        Some(since + doubt)
    }

    pub(super) fn next_way(&self) -> Option<Instant> {
        // Done once for each silence: what is wanted already is waited for without a deadline.
        let idle = match self.ways.by {
            By::Udp => self.ways.wanted && !self.ways.up,
            By::Tunnel => !self.ways.up,
        };
        let doubt = self.doubted_at().filter(|_| !idle);
        self.ways.next().into_iter().chain(doubt).min()
    }

    /// The other way's try is done first.
    pub(super) fn on_aside_connected(&mut self, now: Instant) {
        let Some(aside) = self.ways.aside.take() else { return };
        match (&self.state, aside.by) {
            (State::Connecting { handle, deadline }, By::Tunnel) => {
                // UDP's try goes on: it may only have been late.
                let (handle, deadline) = (*handle, *deadline);
                self.ways.aside = Some(Aside { handle, by: By::Udp, deadline: Some(now + FEELER) });
                self.ways.by = By::Tunnel;
                (self.ways.lost_before, self.ways.in_vain) = (true, 0);
                self.state = State::Connecting { handle: aside.handle, deadline };
                self.on_connected(now, aside.handle);
            }
            (State::Registering { .. } | State::Registered { .. }, By::Udp) if self.ways.by == By::Tunnel => {
                self.close(now, aside.handle);
                self.switch(now, By::Udp);
            }
            _ => self.close(now, aside.handle),
        }
    }

    /// The other way's try has come to nothing.
    pub(super) fn on_aside_lost(&mut self, now: Instant, reason: Option<&ConnectionError>) {
        self.ways.aside = None;
        let told = |error: &RelayError| error.is_final() || matches!(error, RelayError::KeyChanged { .. });
        let error = reason.map(|reason| self.relay_error(reason)).filter(told);
        if let (State::Connecting { .. }, Some(error)) = (&self.state, error) {
            // By UDP the answer would be the same, or none.
            return self.lose(now, error);
        }
        if self.ways.by == By::Tunnel {
            self.ways.feel_later(now, &mut self.rng);
        }
    }

    /// UDP has won the race: there is no need for a tunnel.
    pub(super) fn on_connected_by(&mut self, now: Instant) {
        if self.ways.by == By::Udp {
            self.ways.race_at = None;
            self.ways.lost_before = false;
            if let Some(aside) = self.ways.aside.take() {
                self.close(now, aside.handle);
            }
            self.want_tunnel(false);
        }
    }

    pub(super) fn drop_aside(&mut self, now: Instant) {
        if let Some(aside) = self.ways.aside.take() {
            self.close(now, aside.handle);
            self.on_aside_lost(now, None);
        }
    }

    /// Another relay: what was learnt of the ways to the last one does not count.
    pub(super) fn forget_ways(&mut self) {
        (self.ways.lost_before, self.ways.in_vain) = (false, 0);
    }

    /// The connection is lost, by whichever way: the next one begins with a race.
    pub(super) fn end_ways(&mut self, now: Instant, for_good: bool) {
        if let Some(aside) = self.ways.aside.take() {
            self.close(now, aside.handle);
        }
        (self.ways.race_at, self.ways.feel_at) = (None, None);
        if for_good {
            self.want_tunnel(false);
        }
    }

    /// Moves the control connection, to the other way or to a new tunnel.
    fn switch(&mut self, now: Instant, by: By) {
        self.ways.by = by;
        if let Some(handle) = self.current() {
            self.ways.by_of.insert(handle.0, by);
        }
        match by {
            By::Udp => {
                self.ways.let_go_at = Some(now + LINGER);
                (self.ways.feel_at, self.ways.lost_before) = (None, false);
            }
            By::Tunnel => {
                self.ways.lost_before = true;
                if self.ways.aside.is_none() && self.ways.feel_at.is_none() {
                    self.ways.in_vain = 0;
                    self.ways.feel_later(now, &mut self.rng);
                }
            }
        }
        self.renew_path(now);
        self.tell_way();
    }

    /// Tells the program which way is taken, if that is news.
    pub(super) fn tell_way(&mut self) {
        if self.is_registered() && self.ways.told != self.ways.by {
            self.ways.told = self.ways.by;
            self.events.push(ControlEvent::Way(self.link()));
        }
    }

    fn close(&mut self, now: Instant, handle: Handle) {
        if let Some(connection) = self.quic.get_mut(handle).filter(|connection| !connection.is_closed()) {
            connection.close(now, VarInt::from_u32(close_code::GOODBYE), bytes::Bytes::new());
        }
    }
}
