//! Rounds of punching as a part of [`Paths`]: with whom, through what, and what they give back.

use std::{net::SocketAddr, time::Instant};

use super::{Nat, Need, Outgoing, Pair, Paths, Reach, Via, rounds::Act};
use crate::{
    Link, PathPolicy,
    drops::DropReason,
    wire::datagram::{BidFields, Datagram},
};

impl Paths {
    pub(super) fn plan_rounds(&mut self, now: Instant) {
        if self.policy != PathPolicy::RelayOnly {
            self.rounds.plan(now, self.relayed.liveness.rtt());
        }
    }

    /// The next packet of a round of punching from fresh sockets.
    pub(super) fn poll_round(&mut self, now: Instant) -> Option<Outgoing> {
        self.round_due().filter(|at| *at <= now)?;
        let act = self.rounds.poll(now)?;
        let keys = self.keys.as_ref()?;
        Some(match act {
            Act::Bid(bid) => {
                Outgoing { via: Via::Relay, hops: None, datagram: Datagram::Bid(keys.bid(bid)), event: None }
            }
            Act::Punch(pair, hops) => {
                let datagram = Datagram::Check(keys.probe(self.rng.bytes()));
                Outgoing { via: Via::Direct(pair), hops, datagram, event: None }
            }
        })
    }

    /// Goes on with rounds, as far as there is anybody to agree with.
    pub(crate) fn drive_rounds(&mut self, now: Instant) {
        if self.attached && self.keys.is_some() && self.policy != PathPolicy::RelayOnly {
            let keep = self.links_in_use();
            self.rounds.drive(now, &mut self.rng, &keep);
        }
    }

    /// Without a relay there is nobody to agree through.
    pub(super) fn round_due(&self) -> Option<Instant> {
        self.rounds.poll_timeout().filter(|_| self.attached && self.keys.is_some())
    }

    /// The other side's bid in a round. It may only name a host at which the relay has seen it.
    pub(crate) fn on_bid(&mut self, now: Instant, fields: &BidFields, reach: &Reach) -> Result<(), DropReason> {
        let keys = self.keys.as_ref().ok_or(DropReason::BadProbe)?;
        let address = fields.bid.address;
        if !keys.is_bid(fields) || !self.hosts.contains(&address.ip()) || !reach.allows(address) {
            return Err(DropReason::BadProbe);
        }
        if self.policy == PathPolicy::RelayOnly || self.current != Via::Relay {
            return Err(DropReason::NotAccepted);
        }
        let keep = self.links_in_use();
        self.rounds.on_bid(now, fields.bid, &keep);
        Ok(())
    }

    /// The relay's hole-punch port `port`, one of `ports`, sees a round's first socket at this address.
    pub(crate) fn on_seen(&mut self, now: Instant, port: u8, address: SocketAddr, ports: usize, nat: Nat<'_>) {
        self.rounds.on_seen(now, port, address, ports, nat);
    }

    /// What a round needs of the peer, and the sockets that it gets.
    pub(crate) fn take_need(&mut self) -> Option<Need> {
        self.rounds.take_need()
    }

    pub(crate) fn on_sockets(&mut self, links: Vec<Link>) {
        self.rounds.on_sockets(links);
    }

    /// Lets go of sockets of earlier rounds whose paths have died, but for the one that died last: they lead to the same
    /// host, each new round would add one, and each that is tried again costs what one does.
    pub(super) fn let_go(&mut self) {
        let spares = || self.candidates.iter().filter(|candidate| candidate.pair.link != Link::Main);
        let last = spares().filter(|candidate| candidate.is_spent()).max_by_key(|candidate| candidate.since());
        let alive = spares().filter(|candidate| !candidate.is_spent());
        let useful: Vec<Link> = alive.chain(last).map(|candidate| candidate.pair.link).collect();
        self.rounds.keep_only(&useful);
    }

    /// Sockets that no path needs any more.
    pub(crate) fn take_retired(&mut self) -> Vec<Link> {
        let retired = self.rounds.take_retired();
        self.candidates.retain(|candidate| !retired.contains(&candidate.pair.link));
        retired
    }

    /// Whether anything authentic has come by this pair.
    pub(crate) fn has_heard(&self, pair: Pair) -> bool {
        self.candidates.iter().any(|candidate| candidate.pair == pair && !candidate.is_unanswered())
    }

    /// The sockets by which the other side has been heard.
    pub(super) fn links_in_use(&self) -> Vec<Link> {
        let heard = self.candidates.iter().filter(|candidate| !candidate.is_unanswered());
        heard.map(|candidate| candidate.pair.link).filter(|link| *link != Link::Main).collect()
    }
}
