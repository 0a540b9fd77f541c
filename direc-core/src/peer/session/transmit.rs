//! A session's packets on their way out: echoes, probes, then QUIC's, by the relay, straight, or both.

use std::time::Instant;

use bytes::Bytes;
use quinn_proto::EcnCodepoint;

use super::{Session, State, drain};
use crate::{
    Link, Transmit,
    paths::{Outgoing, Pair, Paths, Route, Via},
    peer::shared::Context,
    step::Role,
    wire::datagram::{CHECK_LEN, Datagram, PROBE_LEN, RELAYED_HEADER},
};

/// Datagrams of P4's first flight that are kept for an address learnt a little later.
const MAX_FLIGHT: usize = 4;

/// A copy of packets that went through the relay, to go straight as well.
pub(super) struct Double {
    pair: Pair,
    ecn: Option<EcnCodepoint>,
    segment_size: Option<usize>,
    bytes: Bytes,
}

impl Session {
    /// Writes the next datagrams into `buf`, which is empty.
    pub(in crate::peer) fn poll_transmit(
        &mut self,
        ctx: &mut Context<'_>,
        scratch: &mut Vec<u8>,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        while let Some((via, echo)) = self.echoes.pop_front() {
            if let Some(out) = self.single(via, Datagram::ProbeEcho(echo), buf) {
                return Some(out);
            }
        }
        while !self.is_closing()
            && let Some(out) = self.paths.poll_probe(ctx.now)
        {
            if let Some(event) = out.event {
                self.on_path_event(event, ctx);
            }
            if !self.may_go(&out, ctx) {
                continue;
            }
            let hops = out.hops;
            if let Some(out) = self.single(out.via, out.datagram, buf) {
                return Some(Transmit { hops, ..out });
            }
        }
        if let Some(double) = self.doubles.pop_front() {
            buf.extend_from_slice(&double.bytes);
            self.paths.count(Via::Direct(double.pair), buf.len(), 0);
            let (Pair { link, remote }, ecn) = (double.pair, double.ecn);
            let one = Transmit::one(link, remote, buf.len());
            return Some(Transmit { ecn, segment_size: double.segment_size, ..one });
        }
        self.poll_quic(ctx.now, ctx.shared.transport.max_batch, scratch, buf)
    }

    /// Whether a host that has not answered may be sent one more of ours.
    fn may_go(&self, out: &Outgoing, ctx: &mut Context<'_>) -> bool {
        let (Via::Direct(pair), Datagram::Probe(_) | Datagram::Check(_)) = (out.via, &out.datagram) else {
            return true;
        };
        // A range of ports may hold a relay's that shares the host.
        if ctx.shared.reach.is_relay(pair.remote) {
            return false;
        }
        let bytes = if matches!(out.datagram, Datagram::Probe(_)) { PROBE_LEN } else { CHECK_LEN };
        self.paths.has_heard(pair) || ctx.restraint.allows(ctx.now, pair.remote.ip(), bytes)
    }

    /// One of our own datagrams, by this way. `None` if there is none through a relay.
    fn single(&mut self, via: Via, datagram: Datagram, buf: &mut Vec<u8>) -> Option<Transmit> {
        let Pair { link, remote } = match via {
            Via::Direct(pair) => pair,
            Via::Relay => {
                let channel = self.attachments.current.as_ref()?.channel;
                Datagram::Relayed { channel }.encode(buf);
                Pair::main(self.relay)
            }
        };
        datagram.encode(buf);
        self.paths.count(via, buf.len(), 0);
        Some(Transmit::one(link, remote, buf.len()))
    }

    fn poll_quic(&mut self, now: Instant, max: usize, scratch: &mut Vec<u8>, buf: &mut Vec<u8>) -> Option<Transmit> {
        let established = matches!(self.state, State::Established | State::Closing);
        let watch = established && self.paths.wants_asking(now);
        let before = if watch { self.asking() } else { 0 };
        let max = self.ledger.packets_now(now, max);
        let out = match self.route(now) {
            Route::Hold => None,
            Route::Direct(pair) => {
                let out = self.quic.poll_transmit(now, max, buf)?;
                self.paths.count(Via::Direct(pair), buf.len(), 0);
                let Pair { link, remote } = pair;
                let one = Transmit::one(link, remote, buf.len());
                Some(Transmit { ecn: out.ecn, segment_size: out.segment_size, ..one })
            }
            // One at a time while the handshake's budgets are counted.
            Route::Both if !established => self.poll_relayed(now, 1, scratch, buf, |paths| paths.doubles(true)),
            Route::Both => self.poll_relayed(now, max, scratch, buf, |paths| paths.doubles(false)),
            Route::Relay => self.poll_relayed(now, max, scratch, buf, |_| Vec::new()),
        }?;
        if established {
            self.paths.on_use(now, watch && self.asking() > before);
        }
        Some(out)
    }

    /// Where the next packet goes. A good-bye may go through the relay whatever the policy.
    fn route(&self, now: Instant) -> Route {
        let established = matches!(self.state, State::Established | State::Closing);
        match self.paths.route(now, !established) {
            Route::Hold if self.is_closing() && self.attachments.current.is_some() => Route::Relay,
            Route::Both if established && self.paths.direct().is_none() && !self.may_copy(now) => Route::Relay,
            _ if self.drain.held_until(now).is_some() && !self.is_closing() => Route::Hold,
            route => route,
        }
    }

    /// Whether a copy that goes straight does no harm. One of data would overtake all that is under way through the
    /// relay; and one of an acknowledgement would be there before its time, whereby the other side, which sends,
    /// mismeasures its path and sends more than that holds.
    fn may_copy(&self, now: Instant) -> bool {
        drain::is_little(&self.ledger) && !self.paths.hears_relayed_stream(now)
    }

    /// Frames sent so far that want an acknowledgement (RFC 9000, section 13.2.1), without the PING in each probe of the
    /// packet size (RFC 8899, section 3): that one may be lost, and says nothing of the path.
    fn asking(&self) -> u64 {
        self.connection().map_or(0, |connection| {
            let stats = connection.stats();
            let tx = stats.frame_tx;
            let pings = tx.ping.saturating_sub(stats.path.sent_plpmtud_probes);
            tx.stream + tx.datagram + pings + tx.crypto + tx.reset_stream + tx.stop_sending + tx.max_data
        })
    }

    /// Puts the relay's header in front of each packet, and keeps copies to go straight.
    fn poll_relayed(
        &mut self,
        now: Instant,
        max: usize,
        scratch: &mut Vec<u8>,
        buf: &mut Vec<u8>,
        doubles: impl FnOnce(&mut Paths) -> Vec<Pair>,
    ) -> Option<Transmit> {
        let channel = self.attachments.current.as_ref()?.channel;
        scratch.clear();
        let out = self.quic.poll_transmit(now, max, scratch)?;
        let segment = out.segment_size.unwrap_or(scratch.len()).max(1);
        for packet in scratch.chunks(segment) {
            Datagram::Relayed { channel }.encode(buf);
            buf.extend_from_slice(packet);
        }
        self.paths.count(Via::Relay, buf.len(), 0);
        let pairs = doubles(&mut self.paths);
        let keep = self.role == Role::P4 && !self.is_established() && self.flight.len() < MAX_FLIGHT;
        if keep || !pairs.is_empty() {
            let (ecn, segment_size, bytes) = (out.ecn, out.segment_size, Bytes::copy_from_slice(scratch));
            self.doubles.extend(pairs.into_iter().map(|pair| Double { pair, ecn, segment_size, bytes: bytes.clone() }));
            if keep {
                self.flight.push(bytes);
            }
        }
        let segment_size = out.segment_size.map(|size| size + RELAYED_HEADER);
        Some(Transmit { ecn: out.ecn, segment_size, ..Transmit::one(Link::Main, self.relay, buf.len()) })
    }

    /// S10 at an address that P4 has only learnt from P2's probe: its first flight goes there too, so that P2 need not
    /// wait for the copy through the relay.
    pub(super) fn repeat_flight(&mut self, pair: Pair) {
        let flight = self.flight.iter().take(if self.is_established() { 0 } else { MAX_FLIGHT });
        let doubles = flight.map(|bytes| Double { pair, ecn: None, segment_size: None, bytes: bytes.clone() });
        self.doubles.extend(doubles);
    }

    /// Whether something was held back by its rate, and waits for its time.
    pub(in crate::peer) fn is_paced(&self) -> bool {
        self.ledger.due().is_some()
    }

    pub(in crate::peer) fn is_queued(&self, now: Instant) -> bool {
        let held = self.route(now) == Route::Hold;
        (self.quic.is_queued() && !held) || !self.echoes.is_empty() || !self.doubles.is_empty()
    }
}
