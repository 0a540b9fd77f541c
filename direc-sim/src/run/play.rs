//! Lets the calls be made and come to something; and in the end, what must come back comes back.

use std::time::Duration;

use direc_core::{ConnectOptions, PathPolicy, Role};

use super::Cast;
use crate::{
    app::{Answer, Command, ConnLog, PeerHost, Work},
    nat::NatConfig,
    scenario::{Call, Trouble, Willing},
};

/// How long after all has been repaired everybody must be back: longer than any pause between two tries.
const BACK: Duration = Duration::from_secs(150);
/// How long a connection that is direct at one end only may take to be so at both, or again.
const BETWEEN: Duration = Duration::from_secs(2);
/// How long a call may take then.
const CALL: Duration = Duration::from_secs(60);
/// How long saying good-bye may take: three of QUIC's probe timeouts, which are long on a bad path.
const FAREWELL: Duration = Duration::from_secs(30);

impl Cast<'_> {
    /// Lets the calls be made, and what goes wrong go wrong, until all has come to something.
    pub(super) fn play(&mut self) {
        let start = self.world.epoch().instant(self.start);
        for (tag, call) in self.scenario.calls.iter().enumerate() {
            let (Some(&(from, _, _)), Some(&(_, _, to))) = (self.peers.get(call.from), self.peers.get(call.to)) else {
                continue;
            };
            let options =
                ConnectOptions::with_policy(if call.relay_only { PathPolicy::RelayOnly } else { PathPolicy::Auto });
            let command = Command::Connect { tag, to, options, work: call.work };
            self.world.with_peer(from, |peer, _| peer.at(start + call.at, command));
        }
        let limit = self.start + self.scenario.limit;
        let mut seen = self.world.trace().notes.len();
        loop {
            let (due, next) = (self.next_incident(), self.world.next_event());
            let end = self.end(limit);
            if due.is_none_or(|due| due > end) && next.is_none_or(|next| next > end) {
                if self.world.stuck().is_none() {
                    self.world.run_until(end);
                }
                break;
            }
            if let Some(due) = due.filter(|&due| next.is_none_or(|next| due < next)) {
                self.world.run_until(due);
                self.incidents();
            } else if !self.world.step() {
                break;
            }
            let notes = self.world.trace().notes.len();
            if notes != seen {
                self.steps(seen);
                seen = notes;
                self.hear_questions();
                self.settle();
            }
        }
        let limit = self.scenario.limit;
        let missing = (0..self.scenario.calls.len())
            .filter_map(|call| self.missing(call).map(|what| format!("call {call} {what} within {limit:?}")));
        let missing: Vec<String> = missing.collect();
        self.faults.extend(missing);
    }

    /// When the run is over, as far as is known: some time after all has come to something and gone wrong.
    fn end(&self, limit: Duration) -> Duration {
        let Some(at) = self.settled_at else { return limit };
        let end = at.max(self.last_incident()) + self.scenario.linger;
        limit.min(if self.is_between_paths() { end + BETWEEN } else { end })
    }

    /// Whether, with nothing that was to go wrong, a call that has gone direct runs through the relay at one of its ends:
    /// still, or again, as two packets lost in a row bring about.
    fn is_between_paths(&self) -> bool {
        let relayed = |log: &ConnLog| !log.over() && !log.path().is_some_and(|path| path.is_direct());
        let between = |(tag, call): (usize, &Call)| {
            let caller = self.log(call.from, tag).filter(|log| log.direct_at().is_some());
            caller.is_some_and(|log| relayed(log) || self.other_end(call).is_some_and(relayed))
        };
        self.scenario.incidents.is_empty() && self.scenario.calls.iter().enumerate().any(between)
    }

    /// Notes when all calls have come to what they come to.
    fn settle(&mut self) {
        if self.settled_at.is_some() {
            return;
        }
        if (0..self.scenario.calls.len()).all(|call| self.missing(call).is_none()) {
            self.settled_at = Some(self.world.now());
        }
    }

    /// What a call has still to come to.
    fn missing(&self, tag: usize) -> Option<&'static str> {
        let call = self.scenario.calls.get(tag)?;
        let Some(log) = self.log(call.from, tag) else {
            return Some("was never made");
        };
        if log.over() {
            None
        } else if log.connected_at.is_none() {
            Some("hangs: neither connected nor failed")
        } else if log.direct_at().is_none() && log.not_direct.is_none() && !call.relay_only {
            Some("runs on the relay, and was not told that it stays there")
        } else if log.done_at.is_none() && log.work.ends() {
            Some("has work to do that does not get done")
        } else {
            None
        }
    }

    /// Heals the network and demands life: calls that can be made are made again and must work.
    pub(super) fn epilogue(&mut self) {
        if self.world.stuck().is_some() {
            return;
        }
        self.heal();
        self.world.run_until(self.world.now() + BACK);
        let again: Vec<usize> = (0..self.scenario.calls.len()).filter(|&call| self.can_work(call)).collect();
        let first = self.scenario.calls.len();
        for &number in &again {
            let call = self.scenario.calls[number];
            let (Some(&(from, _, _)), Some(&(_, _, to))) = (self.peers.get(call.from), self.peers.get(call.to)) else {
                continue;
            };
            let options =
                ConnectOptions::with_policy(if call.relay_only { PathPolicy::RelayOnly } else { PathPolicy::Auto });
            let work = Work { ping: true, ..Work::default() };
            let command = Command::Connect { tag: first + number, to, options, work };
            self.world.with_peer(from, |peer, now| peer.act(now, command));
        }
        self.world.run_until(self.world.now() + CALL);
        for number in again {
            let log = self.scenario.calls.get(number).and_then(|call| self.log(call.from, first + number));
            match log {
                Some(log) if log.first_echo_at.is_some() => {}
                Some(ConnLog { failed: Some((_, why)), .. }) => {
                    self.faults.push(format!("call {number}, after all was repaired, failed: {why}"));
                }
                _ => self.faults.push(format!("call {number}, after all was repaired, hangs")),
            }
        }
    }

    /// Everybody leaves, and nothing may be left of them.
    pub(super) fn farewell(&mut self) {
        if self.world.stuck().is_some() {
            return;
        }
        let hosts: Vec<_> = self.peers.iter().map(|&(host, _, _)| host).collect();
        for &host in &hosts {
            self.world.with_peer(host, |peer, now| peer.act(now, Command::Shutdown));
        }
        self.world.run_until(self.world.now() + FAREWELL);
        let leaks = self.relay_leaks();
        self.faults.extend(leaks);
        let relays: Vec<_> = self.relays.iter().map(|relay| relay.host).collect();
        for &relay in &relays {
            self.world.with_relay(relay, |relay, now| relay.shutdown(now));
        }
        self.world.run_until(self.world.now() + FAREWELL);
        for (number, host) in hosts.into_iter().enumerate() {
            if self.world.peer(host).is_some_and(|peer| !peer.peer.is_drained()) {
                self.faults.push(format!("peer {number} is not gone {FAREWELL:?} after its good-bye"));
            }
        }
        for relay in relays {
            if self.world.with_relay(relay, |relay, _| relay.is_drained()) == Some(false) {
                self.faults.push(format!("{} is not gone {FAREWELL:?} after its good-bye", self.world.name(relay)));
            }
        }
    }

    /// Whether a call must work once all has been repaired.
    fn can_work(&self, number: usize) -> bool {
        let Some(call) = self.scenario.calls.get(number) else { return false };
        let reachable = |peer: usize| {
            let left = self.scenario.incidents.iter().any(|incident| incident.what == Trouble::Shutdown(peer));
            let boxes = self.peers.get(peer).map(|&(host, _, _)| self.boxes_of(peer, host));
            // A firewall that bans may shut the relay out at any time, for a packet that came too late.
            let open = |config: &NatConfig| !config.blocks_udp() && config.unsolicited.ban.is_none();
            !left && boxes.is_some_and(|boxes| boxes.iter().all(open))
        };
        let willing = self.scenario.peers.get(call.to).is_some_and(|side| match side.willing {
            Willing::Everybody | Willing::Asked(Answer::Accept(_)) => true,
            Willing::Nobody | Willing::Asked(Answer::Refuse(_) | Answer::Ignore) => false,
        });
        willing && reachable(call.from) && reachable(call.to)
    }

    fn log(&self, peer: usize, tag: usize) -> Option<&ConnLog> {
        let &(host, _, _) = self.peers.get(peer)?;
        let peer: &PeerHost = self.world.peer(host)?;
        peer.app.connections().values().find(|log| log.tag == Some(tag))
    }

    /// What became of a call at the peer that was called.
    fn other_end(&self, call: &Call) -> Option<&ConnLog> {
        let (&(_, _, from), &(host, _, _)) = (self.peers.get(call.from)?, self.peers.get(call.to)?);
        let mut logs = self.world.peer(host)?.app.connections().values();
        logs.rfind(|log| log.role == Some(Role::P4) && log.peer == Some(from))
    }
}
