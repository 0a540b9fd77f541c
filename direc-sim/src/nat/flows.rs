//! A box's memory of flows: who inside talks to whom outside through which external endpoint, as Linux tracks them.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::Timeouts;

/// How long a flow must last before packets both ways make it a stream with the longer timeout: Linux, 2 s.
const STREAM_AFTER: Duration = Duration::from_secs(2);

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Out,
    In,
}

#[derive(Debug)]
struct Flow {
    outside: SocketAddr,
    /// When its first packet came, and which way that went.
    since: Duration,
    first: Way,
    /// A packet has gone the other way.
    replied: bool,
    /// It is remembered until then.
    until: Duration,
}

/// All flows of a box. A flow is dead when its time has come, and is cleared away when there is need.
#[derive(Debug, Default)]
pub(super) struct Flows {
    /// By internal and remote endpoint.
    flows: BTreeMap<(SocketAddr, SocketAddr), Flow>,
    /// The internal endpoint by external and remote endpoint: what comes in from there is for it.
    inside: BTreeMap<(SocketAddr, SocketAddr), SocketAddr>,
}

impl Flows {
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    pub(super) fn clear(&mut self) {
        self.flows.clear();
        self.inside.clear();
    }

    /// A packet goes along a living flow: its external endpoint, and how long it is remembered now. `refresh` says
    /// whether the packet counts.
    pub(super) fn pass(
        &mut self,
        now: Duration,
        (inside, remote): (SocketAddr, SocketAddr),
        way: Way,
        timeouts: &Timeouts,
        refresh: bool,
    ) -> Option<(SocketAddr, Duration)> {
        let flow = self.flows.get_mut(&(inside, remote)).filter(|flow| flow.until > now)?;
        if refresh {
            // The first answer itself still counts as one of an unreplied flow, as in Linux.
            let stream = flow.replied && now > flow.since + STREAM_AFTER;
            flow.until = now + if stream { timeouts.replied } else { timeouts.unreplied };
        }
        flow.replied |= way != flow.first;
        Some((flow.outside, flow.until))
    }

    /// Who inside has a living flow with this remote endpoint through this external one.
    pub(super) fn owner(&self, now: Duration, outside: SocketAddr, remote: SocketAddr) -> Option<SocketAddr> {
        let inside = *self.inside.get(&(outside, remote))?;
        let flow = self.flows.get(&(inside, remote))?;
        (flow.until > now && flow.outside == outside).then_some(inside)
    }

    /// Remembers a new flow, in place of a dead one if there is one.
    pub(super) fn add(
        &mut self,
        now: Duration,
        (inside, outside, remote): (SocketAddr, SocketAddr, SocketAddr),
        first: Way,
        timeouts: &Timeouts,
    ) -> Duration {
        let until = now + timeouts.unreplied;
        let flow = Flow { outside, since: now, first, replied: false, until };
        if let Some(old) = self.flows.insert((inside, remote), flow)
            && old.outside != outside
            && self.inside.get(&(old.outside, remote)) == Some(&inside)
        {
            self.inside.remove(&(old.outside, remote));
        }
        if let Some(other) = self.inside.insert((outside, remote), inside)
            && other != inside
        {
            // Dead, or the tuple would not have been free.
            self.flows.remove(&(other, remote));
        }
        until
    }

    /// Clears away the dead. Gives when the next of the others may die.
    pub(super) fn sweep(&mut self, now: Duration) -> Option<Duration> {
        self.flows.retain(|_, flow| flow.until > now);
        let flows = &self.flows;
        self.inside.retain(|&(outside, remote), inside| {
            flows.get(&(*inside, remote)).is_some_and(|flow| flow.outside == outside)
        });
        self.flows.values().map(|flow| flow.until).min()
    }
}
