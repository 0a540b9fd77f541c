//! What came of a run.

use std::time::Duration;

use direc_core::{Drops, Link, Nature, NodeId, RelayStats, Role};

use crate::{
    app::{Answer, ConnLog},
    nat::NatConfig,
    oracle::{Verdict, at_home, luck_may_do},
    scenario::{Scenario, Trouble, Willing},
    trace::Trace,
    world::{HostId, Stuck},
};

/// What came of one peer.
#[derive(Clone, Debug)]
pub struct PeerOutcome {
    /// Its host.
    pub host: HostId,
    /// Its ID.
    pub id: NodeId,
    /// When the relay first knew it.
    pub registered_at: Option<Duration>,
    /// When its registration first was warm.
    pub warm_at: Option<Duration>,
    /// When the way to a relay became another one, and which; UDP in the beginning.
    pub ways: Vec<(Duration, Link)>,
    /// Its connections, in the order they came up.
    pub connections: Vec<ConnLog>,
    /// What it was behind in the end.
    pub boxes: Vec<NatConfig>,
    /// Datagrams it did not take, by reason.
    pub drops: Drops,
    /// What it knew of its NATs in the end.
    pub nature: Nature,
}

/// What came of a run. All times count from the beginning of the world; the calls' from [`Outcome::start`].
pub struct Outcome {
    /// The seed that gives it again.
    pub seed: u64,
    /// The scenario that gives it again.
    pub scenario: Scenario,
    /// The start of the scenario's time: everybody had registered.
    pub start: Duration,
    /// When the run ended.
    pub end: Duration,
    /// What the run itself found: calls that came to nothing in time, or would not work after all was repaired.
    pub faults: Vec<String>,
    /// A node that was caught spinning.
    pub stuck: Option<Stuck>,
    /// Hosts' names, by number.
    pub names: Vec<String>,
    /// The peers, in the scenario's order.
    pub peers: Vec<PeerOutcome>,
    /// The first relay's figures.
    pub relay: RelayStats,
    /// TLS secrets in the NSS key log format, if bytes were kept.
    pub secrets: String,
    /// Everything that happened.
    pub trace: Trace,
}

/// The best that a call can do, from the three delays (DESIGN.md, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// P2 hears P4 directly: a + b + c with standing consent, a + 3b + c asking.
    pub direct: Duration,
    /// P2 has round-tripped data on the direct path (S13) and moves: 2a + 2c with standing consent, 2a + 2b + 2c asking.
    pub moved: Duration,
    /// P2 hears P4 through the relay: 2a + 2b.
    pub relayed: Duration,
    /// The first echo of application data: a + b + 3c with standing consent. In general P2 hears P4 by whatever path is
    /// first, and then needs the shorter path's round trip.
    pub first_echo: Duration,
}

impl Bounds {
    /// The bounds of a call in a scenario.
    pub fn of(scenario: &Scenario, call: usize) -> Option<Self> {
        let call = scenario.calls.get(call)?;
        let (a, b) = (scenario.to_relay(call.from), scenario.to_relay(call.to));
        let c = scenario.between(call.from, call.to);
        let asked = match scenario.peers.get(call.to)?.willing {
            Willing::Asked(Answer::Accept(after)) => Some(after),
            _ => None,
        };
        let relayed = 2 * a + 2 * b + asked.unwrap_or_default();
        let direct = match asked {
            None => a + b + c,
            Some(after) => a + 3 * b + c + after,
        };
        let moved = match asked {
            None => 2 * a + 2 * c,
            Some(after) => 2 * a + 2 * b + 2 * c + after,
        };
        let way = if call.relay_only { a + b } else { c.min(a + b) };
        let heard = if call.relay_only { relayed } else { direct.min(relayed) };
        let first_echo = heard + 2 * way;
        Some(Self { direct, moved, relayed, first_echo })
    }
}

/// One call as its caller saw it, times counted from the call.
#[derive(Clone, Copy, Debug)]
pub struct CallOutcome<'a> {
    /// Everything about it.
    pub log: &'a ConnLog,
}

impl CallOutcome<'_> {
    fn since(&self, at: Option<Duration>) -> Option<Duration> {
        Some(at?.saturating_sub(self.log.asked_at?))
    }

    /// Until the connection stood: accepted, keys proven. The first packet of P4's that P2 has authenticated.
    pub fn connected(&self) -> Option<Duration> {
        self.since(self.log.connected_at)
    }

    /// Until P2's QUIC had authenticated a packet of P4's that came straight.
    pub fn direct_heard(&self) -> Option<Duration> {
        self.since(self.log.direct_heard_at)
    }

    /// Until the connection first ran on a direct path.
    pub fn direct(&self) -> Option<Duration> {
        self.since(self.log.direct_at())
    }

    /// Until the first echoed byte of application data.
    pub fn first_echo(&self) -> Option<Duration> {
        self.since(self.log.first_echo_at)
    }

    /// Until all the work was done.
    pub fn done(&self) -> Option<Duration> {
        self.since(self.log.done_at)
    }

    /// Why it failed, or ended.
    pub fn failure(&self) -> Option<String> {
        let failed = self.log.failed.as_ref().map(|(_, why)| why.clone());
        failed.or_else(|| self.log.closed.as_ref().map(|(_, why)| why.to_string()))
    }
}

impl Outcome {
    /// SHA-256 over every datagram that was delivered or dropped: when, from where, to where, its bytes.
    pub fn trace_hash(&self) -> [u8; 32] {
        self.trace.hash()
    }

    /// A call, if it was made.
    pub fn call(&self, number: usize) -> Option<CallOutcome<'_>> {
        let caller = self.peers.get(self.scenario.calls.get(number)?.from)?;
        caller.connections.iter().find(|log| log.tag == Some(number)).map(|log| CallOutcome { log })
    }

    /// The connections that a peer accepted, as P4.
    pub fn accepted(&self, peer: usize) -> impl Iterator<Item = &ConnLog> {
        let logs = self.peers.get(peer).map(|peer| peer.connections.iter()).unwrap_or_default();
        logs.filter(|log| log.role == Some(Role::P4))
    }

    /// Everything that must not happen in any run, however bad the network: in words, empty if all is well.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if let Some(stuck) = self.stuck {
            faults.push(stuck.to_string());
        }
        faults.extend(self.faults.iter().cloned());
        for (number, peer) in self.peers.iter().enumerate() {
            for mistake in peer.connections.iter().flat_map(|log| &log.mistakes) {
                faults.push(format!("{}: {mistake}", Scenario::name(number)));
            }
        }
        faults.extend(self.miracles());
        faults
    }

    /// Calls that went direct although the oracle knows that nothing could make them. Who roams or gets another address
    /// is out of its sight, and luck is not held against anybody.
    fn miracles(&self) -> impl Iterator<Item = String> {
        let moves = |peer: usize| {
            let what = self.scenario.incidents.iter().map(|incident| incident.what);
            what.into_iter().any(|what| what == Trouble::Roam(peer))
        };
        let calls = self.scenario.calls.iter().enumerate();
        calls.filter_map(move |(number, call)| {
            self.call(number)?.direct()?;
            let impossible = at_home(&self.scenario, call.from, call.to) == Verdict::Relayed;
            let still = [call.from, call.to].into_iter().all(|peer| !moves(peer));
            let lucky = luck_may_do(&self.scenario.boxes(call.from), &self.scenario.boxes(call.to));
            (impossible && still && !lucky).then(|| format!("call {number} went direct where no direct path can be"))
        })
    }
}
