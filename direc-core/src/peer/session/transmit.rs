//! A session's packets on their way out: echoes, probes, then QUIC's, by the relay, straight, or both.

use std::{net::SocketAddr, time::Instant};

use bytes::Bytes;
use quinn_proto::EcnCodepoint;

use super::{Session, State};
use crate::{
    Link, Transmit,
    paths::Route,
    peer::shared::Context,
    wire::datagram::{Datagram, RELAYED_HEADER},
};

/// A copy of packets that went through the relay, to go straight as well.
pub(super) struct Double {
    remote: SocketAddr,
    ecn: Option<EcnCodepoint>,
    segment_size: Option<usize>,
    bytes: Bytes,
}

fn single(remote: SocketAddr, buf: &[u8]) -> Transmit {
    Transmit { link: Link::MAIN, remote, ecn: None, size: buf.len(), segment_size: None }
}

impl Session {
    /// Writes the next datagrams into `buf`, which is empty.
    pub(in crate::peer) fn poll_transmit(
        &mut self,
        ctx: &mut Context<'_>,
        scratch: &mut Vec<u8>,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        if let Some((remote, echo)) = self.echoes.pop_front() {
            Datagram::ProbeEcho(echo).encode(buf);
            return Some(single(remote, buf));
        }
        if !self.is_closing()
            && let Some((remote, probe, event)) = self.paths.poll_probe(ctx.now)
        {
            probe.encode(buf);
            if let Some(event) = event {
                self.on_path_event(event, ctx);
            }
            return Some(single(remote, buf));
        }
        if let Some(double) = self.doubles.pop_front() {
            buf.extend_from_slice(&double.bytes);
            let (link, remote, ecn) = (Link::MAIN, double.remote, double.ecn);
            return Some(Transmit { link, remote, ecn, size: buf.len(), segment_size: double.segment_size });
        }
        self.poll_quic(ctx.now, ctx.shared.transport.max_batch, scratch, buf)
    }

    fn poll_quic(&mut self, now: Instant, max: usize, scratch: &mut Vec<u8>, buf: &mut Vec<u8>) -> Option<Transmit> {
        let established = matches!(self.state, State::Established | State::Closing);
        match self.paths.route(!established) {
            Route::Direct(remote) if established => {
                let out = self.quic.poll_transmit(now, max, buf)?;
                let segment_size = out.segment_size;
                self.paths.on_use(now);
                Some(Transmit { link: Link::MAIN, remote, ecn: out.ecn, size: buf.len(), segment_size })
            }
            // P4 knows P2's first packets by the relay's channel only, so the handshake stays on it too.
            Route::Direct(remote) => self.poll_relayed(now, 1, scratch, buf, |_| vec![remote]),
            Route::Both => self.poll_relayed(now, 1, scratch, buf, |paths| paths.doubles(!established)),
            Route::Relay => self.poll_relayed(now, max, scratch, buf, |_| Vec::new()),
        }
    }

    /// Puts the relay's header in front of each packet, and keeps copies to go straight.
    fn poll_relayed(
        &mut self,
        now: Instant,
        max: usize,
        scratch: &mut Vec<u8>,
        buf: &mut Vec<u8>,
        doubles: impl FnOnce(&mut crate::paths::Paths) -> Vec<SocketAddr>,
    ) -> Option<Transmit> {
        scratch.clear();
        let out = self.quic.poll_transmit(now, max, scratch)?;
        let segment = out.segment_size.unwrap_or(scratch.len()).max(1);
        for packet in scratch.chunks(segment) {
            Datagram::Relayed { channel: self.channel }.encode(buf);
            buf.extend_from_slice(packet);
        }
        let remotes = doubles(&mut self.paths);
        if !remotes.is_empty() {
            let bytes = Bytes::copy_from_slice(scratch);
            self.doubles.extend(remotes.into_iter().map(|remote| Double {
                remote,
                ecn: out.ecn,
                segment_size: out.segment_size,
                bytes: bytes.clone(),
            }));
        }
        Some(Transmit {
            link: Link::MAIN,
            remote: self.relay,
            ecn: out.ecn,
            size: buf.len(),
            segment_size: out.segment_size.map(|size| size + RELAYED_HEADER),
        })
    }

    pub(in crate::peer) fn is_queued(&self) -> bool {
        self.quic.is_queued() || !self.echoes.is_empty() || !self.doubles.is_empty()
    }
}
