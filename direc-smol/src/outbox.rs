//! The way out: from the machine's transmits to the sockets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use direc_core::{Link, Transmit};

use crate::{https::Lines, node::Machine, socket::Sent, sockets::Sockets};

/// Room for one transmit: 64 datagrams of the largest size over Ethernet. The machine's batch decides, not this.
const ROOM: usize = 64 * 1500;

/// The node's sockets, a buffer, and what met a full socket.
pub(crate) struct Outbox {
    pub(crate) sockets: Sockets,
    buffer: Vec<u8>,
    unsent: Option<Unsent>,
    failures: Arc<AtomicU64>,
    lines: Arc<Lines>,
}

/// A transmit of which the first `offset` bytes in the buffer have gone.
struct Unsent {
    transmit: Transmit,
    offset: usize,
}

impl Outbox {
    pub(crate) fn new(sockets: Sockets, failures: Arc<AtomicU64>, lines: Arc<Lines>) -> Self {
        Self { sockets, buffer: Vec::with_capacity(ROOM), unsent: None, failures, lines }
    }

    /// Takes the machine's next transmit; `false` if there is none.
    pub(crate) fn fill(&mut self, machine: &mut impl Machine, now: Instant) -> bool {
        self.buffer.clear();
        let transmit = machine.poll_transmit(now, &mut self.buffer);
        self.unsent = transmit.map(|transmit| Unsent { transmit, offset: 0 });
        self.unsent.is_some()
    }

    /// Sends what was taken; `false` if the socket is full, or [missing](Self::missing).
    pub(crate) fn flush(&mut self) -> bool {
        let Some(Unsent { transmit, offset }) = &mut self.unsent else { return true };
        if let Link::Tunnel(number) = transmit.link {
            let dropped = self.lines.send(number, transmit, &self.buffer);
            self.failures.fetch_add(dropped, Ordering::Relaxed);
            self.unsent = None;
            return true;
        }
        let sent = match self.sockets.get(transmit.link) {
            Some(socket) => socket.send(transmit, &self.buffer, *offset),
            None if matches!(transmit.link, Link::Spare(_)) => return false,
            None => Sent::Done { failed: 1 },
        };
        let (Sent::Done { failed } | Sent::Full { failed, .. }) = sent;
        if failed > 0 {
            self.failures.fetch_add(failed, Ordering::Relaxed);
        }
        match sent {
            Sent::Done { .. } => self.unsent = None,
            Sent::Full { offset: reached, .. } => *offset = reached,
        }
        self.unsent.is_none()
    }

    /// The spare socket that is to send and is not open yet.
    pub(crate) fn missing(&self) -> Option<Link> {
        let link = self.unsent.as_ref()?.transmit.link;
        (matches!(link, Link::Spare(_)) && self.sockets.get(link).is_none()).then_some(link)
    }

    /// Gives up what was taken, as if it were lost on the way.
    pub(crate) fn lose(&mut self) {
        self.failures.fetch_add(u64::from(self.unsent.take().is_some()), Ordering::Relaxed);
    }

    /// The full socket that is waited for.
    pub(crate) fn full(&self) -> Option<Link> {
        self.unsent.as_ref().map(|unsent| unsent.transmit.link)
    }
}
